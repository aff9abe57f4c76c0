//! The planning of a run: work tables for its steps, and the ledger rows of its channel steps.

use jiff::Timestamp;
use sea_query::{Alias, SelectStatement};

use super::{Bind, Result, Sql, Tx, campaign::Run, entity as tables, micros, tally::ENTERED};
use crate::{
    api::dataset::Entity,
    rule::{Dialect, FieldType},
};

/// A channel step of a run that is being planned.
pub struct ChannelStep<'a> {
    pub run: &'a Run,
    pub step_no: i64,
    pub step: &'a str,
    pub channel: &'a str,
    pub expires: Timestamp,
    /// `once`: nobody who got this step since then gets it again. Absent: every run may send again.
    pub once_since: Option<Timestamp>,
    pub shards: i64,
}

/// A column of a work table.
pub struct Column<'a> {
    pub name: &'a str,
    /// Absent for a key field, which has the type it has in its entity.
    pub ty: Option<FieldType>,
}

impl Tx {
    /// Enters every row of `source` into the ledger. `source` selects `item`, `profile`, `reason` (an exclusion known
    /// already, or null) and `place` (the order of dispatch).
    pub async fn plan_channel(
        &mut self,
        step: &ChannelStep<'_>,
        source: &SelectStatement,
        now: Timestamp,
    ) -> Result<()> {
        let (run, dialect) = (step.run, self.dialect());
        let add = "INSERT INTO run_channel (run_no, step_no, step, channel, run_day, expires_us) VALUES ($1, $2, $3, $4, $5, $6)";
        let add = Sql::new(add)
            .bind(run.no)
            .bind(step.step_no)
            .bind(step.step)
            .bind(step.channel)
            .bind(run.run_day)
            .bind(micros(step.expires));
        self.execute(add).await?;
        // A fence of the far future is met by no row: without `once` nothing is excluded by it.
        let since = step.once_since.map_or(i64::MAX, micros);
        let insert = Sql::around(
            "INSERT INTO ledger (run_day, run_no, step_no, shard, seq, item, address, profile, reason) WITH s AS (",
            source,
            &ledger_rows(dialect),
            vec![
                run.run_day.into(),
                run.no.into(),
                step.step_no.into(),
                (&run.namespace).into(),
                (&run.campaign).into(),
                step.step.into(),
                since.into(),
                step.shards.into(),
            ],
            dialect,
        )?;
        self.execute(insert).await?;
        let key = || vec![run.run_day.into(), run.no.into(), step.step_no.into()];
        let keyed = |more: Bind| key().into_iter().chain([more]).collect::<Vec<Bind>>();
        self.execute(Sql::composed(EXCLUDE.to_owned(), keyed(micros(now).into()))).await?;
        self.execute(Sql::composed(TALLY_PLANNED.to_owned(), keyed(ENTERED.into()))).await?;
        self.execute(Sql::composed(CURSORS.to_owned(), key())).await?;
        if step.once_since.is_some() {
            let binds = [run.namespace.as_str(), run.campaign.as_str(), step.step].map(Bind::from);
            let binds = key().into_iter().chain(binds).chain([micros(now).into()]).collect();
            self.execute(Sql::composed(FENCE.to_owned(), binds)).await?;
        }
        Ok(())
    }

    /// Makes a work table with a set's rows; how many there are.
    pub async fn fill_work_table(
        &mut self,
        table: &str,
        entity: &Entity,
        columns: &[Column<'_>],
        select: &SelectStatement,
    ) -> Result<i64> {
        let dialect = self.dialect();
        let mut create = sea_query::Table::create();
        create.table(Alias::new(table));
        for column in columns {
            create.col(match column.ty {
                None => tables::key_column(entity, column.name, dialect),
                Some(ty) => tables::value_column(column.name, ty, dialect),
            });
        }
        self.execute(Sql::define(&create, dialect)).await?;
        let names: Vec<String> = columns.iter().map(|c| tables::quoted(c.name)).collect();
        let before = format!("INSERT INTO {} ({}) ", tables::quoted(table), names.join(", "));
        let count = self.execute(Sql::around(&before, select, "", vec![], dialect)?).await?;
        if columns.iter().any(|column| column.ty.is_some()) {
            // Sending looks its values up by the key, batch by batch.
            let key: Vec<String> = entity.key.iter().map(|name| tables::quoted(name)).collect();
            let index = tables::quoted(&tables::identifier(&format!("{table}_key")));
            let sql = format!("CREATE UNIQUE INDEX {index} ON {} ({})", tables::quoted(table), key.join(", "));
            self.execute(Sql::composed(sql, vec![])).await?;
        }
        if dialect == Dialect::Postgres {
            // Nobody else sees the table yet, so autovacuum cannot tell the planner how many rows it has.
            self.execute(Sql::composed(format!("ANALYZE {}", tables::quoted(table)), vec![])).await?;
        }
        Ok(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// How many rows a SELECT gives.
    pub async fn count(&mut self, select: &SelectStatement) -> Result<i64> {
        let dialect = self.dialect();
        let sql = Sql::around("SELECT count(*) FROM (", select, ") q", vec![], dialect)?;
        self.fetch_one(sql).await?.map_or(Ok(0), |row| row.get(0))
    }

    /// All SELECTs of this transaction see one moment, however long it takes.
    pub async fn freeze(&mut self) -> Result<()> {
        if self.dialect() == Dialect::Postgres {
            self.execute(Sql::new("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")).await?;
        }
        Ok(())
    }
}

/// The rest of the planning statement, behind the source's own SELECT.
fn ledger_rows(dialect: Dialect) -> String {
    // The same person has the same shard in every run. SQLite has one writer and so one shard.
    let shard = match dialect {
        Dialect::Sqlite => "0 * @8",
        Dialect::Postgres => "('x' || substr(md5(coalesce(s.profile, s.item)), 1, 7))::bit(28)::int % @8",
    };
    format!(
        ") SELECT @1, @2, @3, q.shard, \
           row_number() OVER (PARTITION BY q.shard ORDER BY CASE WHEN q.reason IS NULL THEN 0 ELSE 1 END, q.place) - 1, \
           q.item, 0, q.profile, q.reason \
         FROM (SELECT s.item, s.profile, s.place, {shard} AS shard, \
                 CASE WHEN s.reason IS NOT NULL THEN s.reason WHEN f.item IS NOT NULL THEN 'AlreadySent' END AS reason \
               FROM s LEFT JOIN once_fence f ON f.namespace = @4 AND f.campaign = @5 AND f.step = @6 \
                 AND f.item = s.item AND f.at_us >= @7) q"
    )
}

const EXCLUDE: &str = "INSERT INTO outcome (run_day, run_no, step_no, shard, seq, outcome, reason, at_us) \
    SELECT run_day, run_no, step_no, shard, seq, 'Excluded', reason, CAST($4 AS BIGINT) FROM ledger \
    WHERE run_day = $1 AND run_no = $2 AND step_no = $3 AND reason IS NOT NULL";

const TALLY_PLANNED: &str = "INSERT INTO tally (run_day, run_no, step_no, shard, outcome, reason, n) \
    SELECT run_day, run_no, step_no, shard, CAST($4 AS TEXT), '', count(*) FROM ledger \
    WHERE run_day = $1 AND run_no = $2 AND step_no = $3 GROUP BY run_day, run_no, step_no, shard \
    UNION ALL SELECT run_day, run_no, step_no, shard, 'Excluded', reason, count(*) FROM ledger \
    WHERE run_day = $1 AND run_no = $2 AND step_no = $3 AND reason IS NOT NULL GROUP BY run_day, run_no, step_no, shard, reason";

/// What is excluded stands behind the others, so the cursor ends before it.
const CURSORS: &str = "INSERT INTO claim_cursor (run_day, run_no, step_no, shard, planned, next_seq) \
    SELECT run_day, run_no, step_no, shard, count(*), 0 FROM ledger \
    WHERE run_day = $1 AND run_no = $2 AND step_no = $3 AND reason IS NULL GROUP BY run_day, run_no, step_no, shard";

const FENCE: &str = "INSERT INTO once_fence (namespace, campaign, step, item, run_no, at_us) \
    SELECT CAST($4 AS TEXT), CAST($5 AS TEXT), CAST($6 AS TEXT), item, run_no, CAST($7 AS BIGINT) FROM ledger \
    WHERE run_day = $1 AND run_no = $2 AND step_no = $3 AND reason IS NULL \
    ON CONFLICT (namespace, campaign, step, item) DO UPDATE SET run_no = excluded.run_no, at_us = excluded.at_us";
