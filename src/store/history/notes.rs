//! The notes: what is to be told, entered by whoever records it.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use jiff::Timestamp;

use super::{Due, Part, What};
use crate::store::{Bind, Error, Result, Row, Sql, Tx, event::Event, instant, ledger::Recorded, micros};

/// For each export of the run's dataset. Runs that reach nobody are no history.
const NOTE: &str = "INSERT INTO history_due (namespace, dataset, export, run_day, run_no, step_no, shard, id, kind, which, at_us) \
    SELECT h.namespace, h.dataset, h.name, CAST($1 AS BIGINT), CAST($2 AS BIGINT), CAST($3 AS BIGINT), CAST($4 AS BIGINT), \
      CAST($5 AS TEXT), CAST($6 AS TEXT), CAST($7 AS TEXT), CAST($8 AS BIGINT) \
    FROM run r JOIN revision v ON v.hash = r.revision \
    JOIN history_export h ON h.namespace = r.namespace AND h.dataset = v.dataset WHERE r.no = $2 AND r.mode = 'Live'";

const NOTE_RUN: &str = "INSERT INTO history_due (namespace, dataset, export, run_day, run_no, step_no, shard, id, kind, outcome, at_us) \
    SELECT h.namespace, h.dataset, h.name, p.run_day, p.run_no, p.step_no, p.shard, CAST($2 AS TEXT), 'Outcomes', \
      CAST($3 AS TEXT), CAST($4 AS BIGINT) \
    FROM (SELECT DISTINCT run_day, run_no, step_no, shard FROM tally \
      WHERE run_no = $1 AND outcome = $3 AND step_no = coalesce(CAST($5 AS BIGINT), step_no)) p \
    JOIN run r ON r.no = p.run_no JOIN revision v ON v.hash = r.revision \
    JOIN history_export h ON h.namespace = r.namespace AND h.dataset = v.dataset WHERE r.mode = 'Live'";

/// Another for each note, whichever process makes it: a note that was told may be taken away while another of the same
/// messages is made.
fn fresh_id() -> String {
    static PROCESS: OnceLock<u64> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // Seeded by the operating system, and different in each process.
    let process = PROCESS.get_or_init(|| RandomState::new().build_hasher().finish());
    format!("{process:016x}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn note(part: Part, kind: &str, which: &serde_json::Value, now: Timestamp) -> Vec<Bind> {
    part.keyed([fresh_id().into(), kind.into(), which.to_string().into(), micros(now).into()])
}

impl Tx {
    /// These outcomes are to be told.
    pub(in crate::store) async fn note_outcomes(
        &mut self,
        part: Part,
        outcomes: &[Recorded],
        now: Timestamp,
    ) -> Result<()> {
        let which: Vec<i64> = outcomes.iter().map(|outcome| outcome.seq).collect();
        self.execute(Sql::composed(NOTE.to_owned(), note(part, "Outcomes", &serde_json::json!(which), now))).await?;
        Ok(())
    }

    /// All outcomes of a kind that a run has, or one step of it, are to be told. Called once they are counted.
    pub(in crate::store) async fn note_outcomes_of_run(
        &mut self,
        (run_no, step_no): (i64, Option<i64>),
        outcome: &str,
        now: Timestamp,
    ) -> Result<()> {
        let binds: Vec<Bind> =
            vec![run_no.into(), fresh_id().into(), outcome.into(), micros(now).into(), step_no.into()];
        self.execute(Sql::composed(NOTE_RUN.to_owned(), binds)).await?;
        Ok(())
    }

    /// These events are to be told.
    ///
    /// # Errors
    /// Of the store.
    pub async fn note_events<'e>(&mut self, events: impl Iterator<Item = &'e Event>, now: Timestamp) -> Result<()> {
        // Events come for many parts at once, and most stores tell nobody of them.
        if self.fetch_one(Sql::new("SELECT 1 FROM history_export LIMIT 1")).await?.is_none() {
            return Ok(());
        }
        let mut by_part = BTreeMap::<Part, Vec<(i64, &str)>>::new();
        for event in events {
            by_part.entry(event.message.part).or_default().push((event.message.seq, &event.id));
        }
        let notes = by_part.iter().map(|(part, which)| note(*part, "Events", &serde_json::json!(which), now));
        self.execute_each(NOTE, notes.collect()).await
    }
}

/// A note as it stands in the store.
pub(super) fn due(row: &Row) -> Result<Due> {
    let (kind, which, outcome): (String, Option<String>, Option<String>) = (row.get(5)?, row.get(6)?, row.get(7)?);
    let next_seq = row.get(8)?;
    let unread = |e: serde_json::Error| Error::Internal(format!("a note of the history cannot be read: {e}"));
    let what = match (kind.as_str(), which) {
        ("Outcomes", Some(which)) => What::Outcomes(serde_json::from_str(&which).map_err(unread)?),
        ("Events", Some(which)) => What::Events(serde_json::from_str(&which).map_err(unread)?),
        ("Outcomes", None) => What::OfPart { outcome, next_seq },
        _ => What::All { next_seq },
    };
    Ok(Due { part: Part::read(row)?, id: row.get(4)?, what, since: instant(row.get(9)?) })
}
