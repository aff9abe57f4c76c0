//! What is past its retention goes by itself; nothing is left to vacuum by hand.
//!
//! The ledger's large tables are partitioned by the day of the run on PostgreSQL: a day whose runs are all past their
//! retention is dropped whole. SQLite, and a day that Datasets with different retentions share, lose the rows of a run.
//! What must outlive a message stays: the run's row and counts, `once`, consent, and how far each shard was claimed.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::{
    Bind, Result, Sql, Store, Tx,
    entity::{Place, quoted},
    instant, micros,
};
use crate::{api::dataset::Retention, rule::Dialect};

/// The tables that are partitioned by `run_day`, and the column that counts their rows.
const BY_DAY: [(&str, &str); 5] =
    [("ledger", "seq"), ("attempt", "first_seq"), ("failure", "seq"), ("outcome", "seq"), ("message_event", "seq")];
/// The runs of one day end at different times; so long they wait for each other to go as one.
const COMPANY: SignedDuration = SignedDuration::from_hours(24);
/// Rows that one transaction deletes, so that SQLite's one writer is free again soon.
const ROWS_AT_ONCE: i64 = 20_000;
/// Days, and work tables, of one look.
const AT_ONCE: i64 = 64;
/// Whoever sends goes first: a day that cannot be locked at once is dropped at a later look.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '200ms'";
/// The work table of step `s` serves no run that goes on where another was left.
const UNREAD: &str = "NOT EXISTS (SELECT 1 FROM run_step o JOIN run u ON u.no = o.run_no \
    WHERE o.work_table = s.work_table AND u.state <> 'Done')";
/// A day that could not be dropped is tried again after this.
const AGAIN: SignedDuration = SignedDuration::from_mins(1);

/// What a look did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    /// Runs whose messages went.
    pub runs: i64,
    /// The runs (by name) that lost work tables.
    pub without_tables: BTreeSet<String>,
    pub rejects: i64,
    /// When something is next past its retention.
    pub next: Option<Timestamp>,
}

/// What became of a day's partitions.
enum Day {
    /// They are gone, with the messages of so many runs.
    Dropped(i64),
    /// Somebody works on them now.
    Busy,
    /// Other runs of the day are still kept.
    Shared,
}

impl Store {
    /// Lets go what a Dataset keeps no longer.
    pub async fn retire(&self, place: Place<'_>, retention: &Retention, now: Timestamp) -> Result<Retired> {
        let mut retired = Retired::default();
        let before = |kept: SignedDuration| now.checked_sub(kept).unwrap_or(Timestamp::MIN);
        let next_messages = self.retire_messages(place, retention, now, &mut retired).await?;
        self.drop_work_tables(place, before(retention.work_tables.as_signed()), &mut retired).await?;
        let rejects = "DELETE FROM reject WHERE namespace = $1 AND dataset = $2 AND at_us <= $3";
        let cutoff = micros(before(retention.rejects.as_signed()));
        let old = "SELECT 1 FROM reject WHERE namespace = $1 AND dataset = $2 AND at_us <= $3 LIMIT 1";
        if self.fetch_one(of(old, place).bind(cutoff)).await?.is_some() {
            retired.rejects = i64::try_from(self.execute(of(rejects, place).bind(cutoff)).await?).unwrap_or(i64::MAX);
        }
        let tables = format!(
            "SELECT min(r.completed_us) FROM run r JOIN run_step s ON s.run_no = r.no \
             WHERE r.namespace = $1 AND r.dataset = $2 AND s.work_table IS NOT NULL AND {UNREAD}"
        );
        let rejects = "SELECT min(at_us) FROM reject WHERE namespace = $1 AND dataset = $2";
        let next_tables = self.oldest(&tables, place, retention.work_tables.as_signed()).await?;
        let next_rejects = self.oldest(rejects, place, retention.rejects.as_signed()).await?;
        retired.next = [next_messages, next_tables, next_rejects].into_iter().flatten().min();
        Ok(retired)
    }

    /// When the oldest of something is past its retention.
    async fn oldest(&self, sql: &str, place: Place<'_>, kept: SignedDuration) -> Result<Option<Timestamp>> {
        let row = self.fetch_one(of(sql, place)).await?;
        let oldest = row.map(|row| row.get::<Option<i64>>(0)).transpose()?.flatten();
        Ok(oldest.map(|us| instant(us).checked_add(kept).unwrap_or(Timestamp::MAX)))
    }

    async fn retire_messages(
        &self,
        place: Place<'_>,
        retention: &Retention,
        now: Timestamp,
        retired: &mut Retired,
    ) -> Result<Option<Timestamp>> {
        let kept = retention.messages.as_signed();
        let cutoff = now.checked_sub(kept).unwrap_or(Timestamp::MIN);
        let days = "SELECT run_day, min(completed_us) FROM run WHERE namespace = $1 AND dataset = $2 AND state = 'Done' \
                    AND retired_us IS NULL AND completed_us <= $3 GROUP BY run_day ORDER BY run_day LIMIT $4";
        let mut waits: Option<Timestamp> = None;
        for row in self.fetch(of(days, place).bind(micros(cutoff)).bind(AT_ONCE)).await? {
            let (day, oldest) = (row.get::<i64>(0)?, instant(row.get(1)?));
            if self.dialect() == Dialect::Postgres {
                let alone = oldest.checked_add(kept + COMPANY).unwrap_or(Timestamp::MAX);
                let wait = match self.drop_day(place, day, cutoff, now).await? {
                    Day::Dropped(runs) => {
                        retired.runs += runs;
                        continue;
                    }
                    Day::Busy => now.checked_add(AGAIN).unwrap_or(Timestamp::MAX),
                    Day::Shared => alone,
                };
                if wait > now {
                    waits = Some(waits.map_or(wait, |w| w.min(wait)));
                    continue;
                }
            }
            retired.runs += self.delete_runs(place, day, cutoff, now).await?;
        }
        let next = "SELECT min(completed_us) FROM run WHERE namespace = $1 AND dataset = $2 AND state = 'Done' \
                    AND retired_us IS NULL AND completed_us > $3";
        let row = self.fetch_one(of(next, place).bind(micros(cutoff))).await?;
        let next = row.map(|row| row.get::<Option<i64>>(0)).transpose()?.flatten();
        let next = next.map(|us| instant(us).checked_add(kept).unwrap_or(Timestamp::MAX));
        Ok([waits, next].into_iter().flatten().min())
    }

    /// Drops a day's partitions if all its runs are past their retention.
    async fn drop_day(&self, place: Place<'_>, day: i64, cutoff: Timestamp, now: Timestamp) -> Result<Day> {
        match self.try_drop_day(place, day, cutoff, now).await {
            Err(error) if error.is_lock_timeout() => Ok(Day::Busy),
            other => other,
        }
    }

    async fn try_drop_day(&self, place: Place<'_>, day: i64, cutoff: Timestamp, now: Timestamp) -> Result<Day> {
        let mut tx = self.begin().await?;
        tx.execute(Sql::new(LOCK_TIMEOUT)).await?;
        // A run that begins enters its row first and then sees to its day: it waits here, and makes the day anew.
        tx.execute(Sql::new("LOCK TABLE run IN SHARE MODE")).await?;
        let other = "SELECT 1 FROM run WHERE run_day = $4 AND retired_us IS NULL AND NOT \
                     (namespace = $1 AND dataset = $2 AND state = 'Done' AND completed_us <= $3) LIMIT 1";
        if tx.fetch_one(of(other, place).bind(micros(cutoff)).bind(day)).await?.is_some() {
            return Ok(Day::Shared);
        }
        for (table, _) in BY_DAY {
            let drop = format!("DROP TABLE IF EXISTS {}", partition(table, day));
            tx.execute(Sql::composed(drop, vec![])).await?;
        }
        let mark = "UPDATE run SET retired_us = $2 WHERE run_day = $1 AND retired_us IS NULL";
        let runs = tx.execute(Sql::new(mark).bind(day).bind(micros(now))).await?;
        tx.commit().await?;
        Ok(Day::Dropped(i64::try_from(runs).unwrap_or(i64::MAX)))
    }

    /// Deletes the messages of a Dataset's runs of a day.
    async fn delete_runs(&self, place: Place<'_>, day: i64, cutoff: Timestamp, now: Timestamp) -> Result<i64> {
        let due = "SELECT no FROM run WHERE namespace = $1 AND dataset = $2 AND state = 'Done' AND retired_us IS NULL \
                   AND completed_us <= $3 AND run_day = $4 ORDER BY no";
        let mut runs = 0;
        for row in self.fetch(of(due, place).bind(micros(cutoff)).bind(day)).await? {
            let no: i64 = row.get(0)?;
            let parts = "SELECT step_no, shard, max(seq) FROM ledger WHERE run_day = $1 AND run_no = $2 GROUP BY step_no, shard";
            for part in self.fetch(Sql::new(parts).bind(day).bind(no)).await? {
                let key = [day, no, part.get(0)?, part.get(1)?];
                self.delete_part(key, part.get(2)?).await?;
            }
            // Last, so that a crash on the way begins again here.
            let mark = "UPDATE run SET retired_us = $2 WHERE no = $1";
            self.execute(Sql::new(mark).bind(no).bind(micros(now))).await?;
            runs += 1;
        }
        Ok(runs)
    }

    async fn delete_part(&self, key: [i64; 4], last_seq: i64) -> Result<()> {
        // From the end, and the ledger last of all: its highest row says what is still to be deleted.
        let mut end = last_seq + 1;
        while end > 0 {
            let begin = (end - ROWS_AT_ONCE).max(0);
            let mut tx = self.begin().await?;
            for (table, seq) in BY_DAY {
                let sql = format!(
                    "DELETE FROM {table} WHERE run_day = $1 AND run_no = $2 AND step_no = $3 AND shard = $4 AND {seq} >= $5 AND {seq} < $6"
                );
                let binds = key.into_iter().chain([begin, end]).map(Bind::from).collect();
                tx.execute(Sql::composed(sql, binds)).await?;
            }
            tx.commit().await?;
            end = begin;
        }
        Ok(())
    }

    async fn drop_work_tables(&self, place: Place<'_>, cutoff: Timestamp, retired: &mut Retired) -> Result<()> {
        let old = format!(
            "SELECT r.no, r.name, s.name, s.work_table FROM run r JOIN run_step s ON s.run_no = r.no \
             WHERE r.namespace = $1 AND r.dataset = $2 AND s.work_table IS NOT NULL AND r.completed_us <= $3 AND {UNREAD} \
             ORDER BY r.no, s.position LIMIT $4"
        );
        for row in self.fetch(of(&old, place).bind(micros(cutoff)).bind(AT_ONCE)).await? {
            let (no, run): (i64, String) = (row.get(0)?, row.get(1)?);
            let (step, table): (String, String) = (row.get(2)?, row.get(3)?);
            let mut tx = self.begin().await?;
            tx.execute(Sql::composed(format!("DROP TABLE IF EXISTS {}", quoted(&table)), vec![])).await?;
            let gone = "UPDATE run_step SET work_table = NULL WHERE run_no = $1 AND name = $2";
            tx.execute(Sql::new(gone).bind(no).bind(step)).await?;
            tx.commit().await?;
            retired.without_tables.insert(run);
        }
        Ok(())
    }
}

impl Tx {
    /// Makes the partitions of a day, if they are not there. Called once the run's row is entered.
    pub(super) async fn open_day(&mut self, day: i64) -> Result<()> {
        if self.dialect() == Dialect::Sqlite {
            return Ok(());
        }
        let known = "SELECT 1 FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
                     WHERE i.inhparent = 'ledger'::regclass AND c.relname = $1";
        let known = || Sql::new(known).bind(format!("ledger_{day}"));
        if self.fetch_one(known()).await?.is_some() {
            return Ok(());
        }
        // Two runs of a new day: the later one finds it made. Who sends is not held up, as it would be by PARTITION OF.
        self.execute(Sql::new("LOCK TABLE ledger IN SHARE UPDATE EXCLUSIVE MODE")).await?;
        if self.fetch_one(known()).await?.is_some() {
            return Ok(());
        }
        for (table, _) in BY_DAY {
            let part = partition(table, day);
            let like = format!("CREATE TABLE {part} (LIKE {table} INCLUDING ALL)");
            self.execute(Sql::composed(like, vec![])).await?;
            let attach = format!("ALTER TABLE {table} ATTACH PARTITION {part} FOR VALUES IN ({day})");
            self.execute(Sql::composed(attach, vec![])).await?;
        }
        Ok(())
    }
}

fn partition(table: &str, day: i64) -> String {
    quoted(&format!("{table}_{day}"))
}

fn of(sql: &str, place: Place<'_>) -> Sql {
    Sql::composed(sql.to_owned(), vec![place.namespace.into(), place.dataset.into()])
}
