//! The history that is told to others: what is still to be told, and the lines of it.
//!
//! Whoever records outcomes or events notes in the same transaction that they are to be told, once for each group and each
//! declared export; who tells them takes the note away behind that. So nothing is left out whatever dies or comes late,
//! and no clock decides what is new. A note that was told and not taken away is told again, under the same ids.

mod lines;
mod notes;

use jiff::Timestamp;

pub use self::lines::Line;
use super::{Bind, Result, Sql, Store, entity::Place, instant, ledger::Part, micros};
use crate::rule::Dialect;

/// One group that is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pub part: Part,
    id: String,
    what: What,
    pub since: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Outcomes(Vec<i64>),
    Events(Vec<(i64, String)>),
    /// All outcomes, or all of one kind, of the part, from a row of the ledger on.
    OfPart {
        outcome: Option<String>,
        next_seq: i64,
    },
    /// Those, and the events.
    All {
        next_seq: i64,
    },
}

impl Due {
    /// The rest of it, from a row of the ledger on.
    #[must_use]
    pub fn from(mut self, seq: i64) -> Self {
        if let What::OfPart { next_seq, .. } | What::All { next_seq } = &mut self.what {
            *next_seq = seq;
        }
        self
    }
}

/// How far a group was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    End,
    /// The next row of the ledger.
    Seq(i64),
}

/// How an export stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub namespace: String,
    pub dataset: String,
    pub name: String,
    /// Lines, those told again among them.
    pub told: i64,
    pub told_at: Option<Timestamp>,
    pub problem: Option<String>,
    /// Since when the oldest of what is not told yet stands there.
    pub waits_since: Option<Timestamp>,
}

/// One export of a dataset.
#[derive(Clone, Copy, Debug)]
pub struct Export<'a> {
    pub place: Place<'a>,
    pub name: &'a str,
}

impl Export<'_> {
    fn keyed(&self, more: impl IntoIterator<Item = Bind>) -> Vec<Bind> {
        [self.place.namespace, self.place.dataset, self.name].into_iter().map(Bind::from).chain(more).collect()
    }
}

const OF_EXPORT: &str = "namespace = $1 AND dataset = $2 AND export = $3";

impl Store {
    /// The environment that the store belongs to.
    pub async fn environment(&self) -> Result<String> {
        let row = self.fetch_one(Sql::new("SELECT environment FROM home WHERE id = 1")).await?;
        row.map_or_else(|| Ok(String::new()), |row| row.get(0))
    }

    /// Remembers which exports a dataset declares; what those that it no longer does had still to tell is forgotten.
    pub async fn declare_exports(&self, place: Place<'_>, names: &[&str]) -> Result<()> {
        let of = || vec![Bind::from(place.namespace), place.dataset.into()];
        let known = "SELECT name FROM history_export WHERE namespace = $1 AND dataset = $2";
        let known = self.fetch(Sql::composed(known.to_owned(), of())).await?;
        let known: Vec<String> = known.iter().map(|row| row.get(0)).collect::<Result<_>>()?;
        let is_same = known.len() == names.len() && known.iter().all(|name| names.contains(&name.as_str()));
        if is_same {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        for gone in known.iter().filter(|name| !names.contains(&name.as_str())) {
            let keyed = || of().into_iter().chain([gone.into()]).collect();
            tx.execute(Sql::composed(format!("DELETE FROM history_due WHERE {OF_EXPORT}"), keyed())).await?;
            let sql = "DELETE FROM history_export WHERE namespace = $1 AND dataset = $2 AND name = $3";
            tx.execute(Sql::composed(sql.to_owned(), keyed())).await?;
        }
        let this = match self.dialect() {
            Dialect::Sqlite => "NULL",
            Dialect::Postgres => "CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT)",
        };
        for new in names.iter().filter(|name| !known.iter().any(|known| known == *name)) {
            let sql = format!(
                "INSERT INTO history_export (namespace, dataset, name, declared_by) VALUES ($1, $2, $3, {this}) ON CONFLICT DO NOTHING"
            );
            tx.execute(Sql::composed(sql, of().into_iter().chain([Bind::from(*new)]).collect())).await?;
        }
        tx.commit().await
    }

    /// Notes all that was recorded before an export was declared, once whoever may have recorded without a note is done.
    /// Whether that is so.
    pub async fn begin_export(&self, export: Export<'_>, now: Timestamp) -> Result<bool> {
        let mut tx = self.begin().await?;
        let is_over = match self.dialect() {
            Dialect::Sqlite => "1 = 1",
            Dialect::Postgres => "declared_by < CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS TEXT) AS BIGINT)",
        };
        let sql = format!(
            "SELECT begun, CAST(CASE WHEN {is_over} THEN 1 ELSE 0 END AS BIGINT) FROM history_export \
             WHERE namespace = $1 AND dataset = $2 AND name = $3"
        );
        let Some(row) = tx.fetch_one(Sql::composed(sql, export.keyed([]))).await? else { return Ok(false) };
        if row.get::<i64>(0)? == 1 {
            return Ok(true);
        }
        if row.get::<i64>(1)? == 0 {
            return Ok(false);
        }
        let all = "INSERT INTO history_due (namespace, dataset, export, run_day, run_no, step_no, shard, id, kind, at_us) \
            SELECT $1, $2, $3, p.run_day, p.run_no, p.step_no, p.shard, 'before', 'All', CAST($4 AS BIGINT) FROM \
            (SELECT DISTINCT t.run_day, t.run_no, t.step_no, t.shard FROM tally t JOIN run r ON r.no = t.run_no \
             JOIN revision v ON v.hash = r.revision WHERE r.namespace = $1 AND v.dataset = $2 AND r.mode = 'Live' \
             AND r.retired_us IS NULL) p WHERE true ON CONFLICT DO NOTHING";
        tx.execute(Sql::composed(all.to_owned(), export.keyed([micros(now).into()]))).await?;
        // Which is all of those parts: what was noted of them one by one need not be told once more.
        let said = format!(
            "DELETE FROM history_due WHERE {OF_EXPORT} AND kind <> 'All' AND EXISTS (SELECT 1 FROM history_due b \
             WHERE b.run_day = history_due.run_day AND b.run_no = history_due.run_no AND b.step_no = history_due.step_no \
             AND b.shard = history_due.shard AND b.export = history_due.export AND b.id = 'before' \
             AND b.namespace = history_due.namespace AND b.dataset = history_due.dataset)"
        );
        tx.execute(Sql::composed(said, export.keyed([]))).await?;
        let begun = "UPDATE history_export SET begun = 1 WHERE namespace = $1 AND dataset = $2 AND name = $3";
        tx.execute(Sql::composed(begun.to_owned(), export.keyed([]))).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// What is to be told, the oldest first; at most `limit` groups.
    pub async fn history_due(&self, export: Export<'_>, limit: i64) -> Result<Vec<Due>> {
        let sql = format!(
            "SELECT run_day, run_no, step_no, shard, id, kind, which, outcome, next_seq, at_us FROM history_due \
             WHERE {OF_EXPORT} ORDER BY at_us, id LIMIT $4"
        );
        let rows = self.fetch(Sql::composed(sql, export.keyed([limit.into()]))).await?;
        rows.iter().map(notes::due).collect()
    }

    /// Notes that groups were told so far, with so many lines.
    pub async fn note_told(
        &self,
        export: Export<'_>,
        told: &[(Due, Reached)],
        lines: usize,
        now: Timestamp,
    ) -> Result<()> {
        let mut tx = self.begin().await?;
        let of = "run_day = $1 AND run_no = $2 AND step_no = $3 AND shard = $4 AND export = $5 AND id = $6";
        let key = |due: &Due, more: Option<i64>| {
            let more = more.map(Bind::from);
            due.part.keyed([Bind::from(export.name), (&due.id).into()].into_iter().chain(more))
        };
        let whole = told.iter().filter(|(_, reached)| *reached == Reached::End).map(|(due, _)| key(due, None));
        tx.execute_each(&format!("DELETE FROM history_due WHERE {of}"), whole.collect()).await?;
        let parts = told.iter().filter_map(|(due, reached)| match reached {
            Reached::Seq(seq) => Some(key(due, Some(*seq))),
            Reached::End => None,
        });
        tx.execute_each(&format!("UPDATE history_due SET next_seq = $7 WHERE {of}"), parts.collect()).await?;
        let count = "UPDATE history_export SET told = told + $4, told_us = $5, problem = NULL \
                     WHERE namespace = $1 AND dataset = $2 AND name = $3";
        let lines = i64::try_from(lines).unwrap_or(i64::MAX);
        tx.execute(Sql::composed(count.to_owned(), export.keyed([lines.into(), micros(now).into()]))).await?;
        tx.commit().await
    }

    /// Notes why an export does not go on; whether that is new.
    pub async fn note_untold(&self, export: Export<'_>, problem: &str) -> Result<bool> {
        let sql = "UPDATE history_export SET problem = $4 WHERE namespace = $1 AND dataset = $2 AND name = $3 \
                   AND (problem IS NULL OR problem <> $4)";
        Ok(self.execute(Sql::composed(sql.to_owned(), export.keyed([problem.into()]))).await? > 0)
    }

    /// How the exports of a dataset stand, or all of them, by name.
    pub async fn exports(&self, place: Option<Place<'_>>) -> Result<Vec<Standing>> {
        let (filter, binds) = match place {
            Some(place) => {
                ("WHERE h.namespace = $1 AND h.dataset = $2", vec![place.namespace.into(), place.dataset.into()])
            }
            None => ("", vec![]),
        };
        let sql = format!(
            "SELECT h.namespace, h.dataset, h.name, h.told, h.told_us, h.problem, (SELECT min(d.at_us) FROM history_due d \
             WHERE d.namespace = h.namespace AND d.dataset = h.dataset AND d.export = h.name) \
             FROM history_export h {filter} ORDER BY h.namespace, h.dataset, h.name"
        );
        let rows = self.fetch(Sql::composed(sql, binds)).await?;
        rows.iter()
            .map(|row| {
                Ok(Standing {
                    namespace: row.get(0)?,
                    dataset: row.get(1)?,
                    name: row.get(2)?,
                    told: row.get(3)?,
                    told_at: row.get::<Option<i64>>(4)?.map(instant),
                    problem: row.get(5)?,
                    waits_since: row.get::<Option<i64>>(6)?.map(instant),
                })
            })
            .collect()
    }
}
