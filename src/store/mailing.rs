//! Files of letters in the making: one for each direct mail step of a run.
//!
//! Rows are collected as messages are attempted elsewhere: decided, written, and committed with their attempts. When no
//! message of the step waits any more the mailing is *sealed*: who withdrew or was suppressed meanwhile is left out, and
//! from then on what is collected is the file, whoever writes it, and however often. Before the manifest that makes the
//! file whole the mailing is *announced*, as only from then on somebody may print it. Its outcomes are committed last.

use jiff::Timestamp;
use sea_query::{Alias, Expr, SelectStatement};

use super::{
    Bind, Result, Row, Sql, Store, Tx, entity as tables, instant,
    ledger::{OPEN, Outcome, Part, Topic, granted, same},
    micros,
};
use crate::{api::dataset::Entity, rule::Dialect};

/// A mailing that is not made yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailing {
    pub run_day: i64,
    pub run_no: i64,
    pub step_no: i64,
    /// Who writes it; empty if nobody does.
    pub worker: String,
    pub fence: i64,
    /// Since when nobody is added.
    pub sealed: Option<Timestamp>,
    /// The place of its files, without what their names end in; known once they were begun.
    pub file: Option<String>,
    /// Whether its manifest may be there.
    pub is_announced: bool,
    /// The run was cancelled meanwhile.
    pub is_cancelled: bool,
    /// How often it could not be written, and why the last time.
    pub tries: i64,
    pub problem: Option<String>,
    pub expires: Timestamp,
    /// The namespace and the name of its channel.
    pub channel: (String, String),
}

impl Mailing {
    fn key(&self) -> Vec<Bind> {
        vec![self.run_day.into(), self.run_no.into(), self.step_no.into()]
    }

    fn keyed(&self, more: impl IntoIterator<Item = Bind>) -> Vec<Bind> {
        self.key().into_iter().chain(more).collect()
    }

    fn held(&self, more: impl IntoIterator<Item = Bind>) -> Vec<Bind> {
        self.keyed([(&self.worker).into(), self.fence.into()].into_iter().chain(more))
    }

    /// Any part of it.
    pub fn part(&self) -> Part {
        Part { run_day: self.run_day, run_no: self.run_no, step_no: self.step_no, shard: 0 }
    }

    /// Its rows as the file has them: a JSON array of texts each.
    pub fn rows(&self) -> Sql {
        let sql = format!("SELECT cells FROM mailing_row WHERE {OF_MAILING} ORDER BY shard, seq");
        Sql::composed(sql, self.key())
    }
}

/// The people of a mailing, to be asked once more: `seq`, `shard`, `profile`, the consent that is `granted`, and the key of the item
/// under its own names.
pub fn collected(mailing: &Mailing, entity: &Entity, topic: Option<Topic<'_>>, dialect: Dialect) -> SelectStatement {
    let mut select = sea_query::Query::select();
    for name in ["seq", "shard", "profile"] {
        select.column((Alias::new("l"), Alias::new(name)));
    }
    select.expr_as(granted(topic, dialect), Alias::new("granted"));
    for (index, name) in entity.key.iter().enumerate() {
        select.expr_as(Expr::cust(tables::key_part(dialect, entity, index, "l.item")), Alias::new(&**name));
    }
    select.from_as(Alias::new("ledger"), Alias::new("l"));
    // Its own numbers, and nothing that an author wrote.
    let (day, run, step) = (mailing.run_day, mailing.run_no, mailing.step_no);
    select.and_where(Expr::cust(format!("l.run_day = {day} AND l.run_no = {run} AND l.step_no = {step}")));
    select.and_where(Expr::cust(format!("EXISTS (SELECT 1 FROM mailing_row x WHERE {})", same("x"))));
    select
}

/// What became of a mailing's rows.
#[derive(Clone, Debug)]
pub struct Ended<'a> {
    pub outcome: Outcome,
    pub reason: Option<&'a str>,
    /// The file's name, or why there is none.
    pub detail: &'a str,
}

const OF_MAILING: &str = "run_day = $1 AND run_no = $2 AND step_no = $3";
const HELD: &str = "run_day = $1 AND run_no = $2 AND step_no = $3 AND worker = $4 AND fence = $5 AND made_us IS NULL";

/// No message of mailing `m` is still to be decided.
const COLLECTED: &str = "NOT EXISTS (SELECT 1 FROM claim_cursor c WHERE c.run_day = m.run_day AND c.run_no = m.run_no AND c.step_no = m.step_no AND c.next_seq < c.planned) \
    AND NOT EXISTS (SELECT 1 FROM batch b WHERE b.run_day = m.run_day AND b.run_no = m.run_no AND b.step_no = m.step_no) \
    AND NOT EXISTS (SELECT 1 FROM deferred d WHERE d.run_day = m.run_day AND d.run_no = m.run_no AND d.step_no = m.step_no)";

/// Mailings of a run that are not made.
const UNMADE: &str = "SELECT 1 FROM mailing WHERE run_day = $1 AND run_no = $2 AND made_us IS NULL";

/// The run `r` and the step `rc` of mailing `m`.
const OF_RUN: &str =
    "JOIN run r ON r.no = m.run_no JOIN run_channel rc ON rc.run_no = m.run_no AND rc.step_no = m.step_no";

impl Store {
    /// The mailings that can be worked on now: those that are collected and may be sealed, those that are sealed, and of
    /// cancelled runs those that were sealed before.
    pub async fn mailings_due(&self, now: Timestamp) -> Result<Vec<Mailing>> {
        let sql = format!(
            "SELECT m.run_day, m.run_no, m.step_no, m.worker, m.fence, m.sealed_us, m.file, m.announced_us, \
               CAST(CASE WHEN r.state = 'Cancelling' THEN 1 ELSE 0 END AS BIGINT), m.tries, m.problem, rc.expires_us, r.namespace, rc.channel \
             FROM mailing m {OF_RUN} \
             WHERE m.made_us IS NULL AND m.due_us <= $1 AND (({OPEN} AND (m.sealed_us IS NOT NULL OR ({COLLECTED}))) \
               OR (r.state = 'Cancelling' AND m.sealed_us IS NOT NULL)) ORDER BY m.run_no, m.step_no"
        );
        self.fetch(Sql::composed(sql, vec![micros(now).into()])).await?.iter().map(mailing).collect()
    }

    /// Why a file of letters of a run is not written yet, if it was tried: the step, and the last problem.
    pub async fn mailing_problem(&self, run_no: i64) -> Result<Option<(String, String)>> {
        let sql = "SELECT rc.step, m.problem FROM mailing m JOIN run_channel rc ON rc.run_no = m.run_no AND rc.step_no = m.step_no \
                   WHERE m.run_no = $1 AND m.made_us IS NULL AND m.problem IS NOT NULL ORDER BY m.step_no LIMIT 1";
        let row = self.fetch_one(Sql::new(sql).bind(run_no)).await?;
        row.map(|row| Ok((row.get(0)?, row.get(1)?))).transpose()
    }
}

fn mailing(row: &Row) -> Result<Mailing> {
    Ok(Mailing {
        run_day: row.get(0)?,
        run_no: row.get(1)?,
        step_no: row.get(2)?,
        worker: row.get(3)?,
        fence: row.get(4)?,
        sealed: row.get::<Option<i64>>(5)?.map(instant),
        file: row.get(6)?,
        is_announced: row.get::<Option<i64>>(7)?.is_some(),
        is_cancelled: row.get::<i64>(8)? == 1,
        tries: row.get(9)?,
        problem: row.get(10)?,
        expires: instant(row.get(11)?),
        channel: (row.get(12)?, row.get(13)?),
    })
}

impl Tx {
    /// Adds rows (seq, cells) to the mailing of a step, in the transaction that commits their attempts.
    pub async fn collect(&mut self, part: Part, rows: &[(i64, String)]) -> Result<()> {
        let open = "INSERT INTO mailing (run_day, run_no, step_no) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        self.execute(Sql::new(open).bind(part.run_day).bind(part.run_no).bind(part.step_no)).await?;
        // An attempt that was taken back, as its commit was not known to have come through, is made again.
        let add = "INSERT INTO mailing_row (run_day, run_no, step_no, shard, seq, cells) VALUES ($1, $2, $3, $4, $5, $6) \
                   ON CONFLICT (run_day, run_no, step_no, shard, seq) DO UPDATE SET cells = excluded.cells";
        let rows = rows.iter().map(|(seq, cells)| part.keyed([(*seq).into(), cells.into()]));
        self.execute_each(add, rows.collect()).await
    }

    /// Takes a mailing that nobody writes, or whose writer is dead; none if somebody else did.
    pub async fn take_mailing(&mut self, mailing: &Mailing, worker: &str) -> Result<Option<Mailing>> {
        let sql = format!("UPDATE mailing SET worker = $6, fence = fence + 1 WHERE {HELD}");
        let taken = self.execute(Sql::composed(sql, mailing.held([worker.into()]))).await? == 1;
        Ok(taken.then(|| Mailing { worker: worker.to_owned(), fence: mailing.fence + 1, ..mailing.clone() }))
    }

    /// Whether a mailing may be sealed now. Until the transaction ends its run is neither cancelled nor stopped.
    pub async fn may_seal(&mut self, mailing: &Mailing) -> Result<bool> {
        let lock = self.row_lock("FOR SHARE OF r");
        let sql = format!(
            "SELECT 1 FROM mailing m {OF_RUN} WHERE m.run_day = $1 AND m.run_no = $2 AND m.step_no = $3 AND m.worker = $4 \
             AND m.fence = $5 AND m.made_us IS NULL AND m.sealed_us IS NULL AND {OPEN} AND {COLLECTED}{lock}"
        );
        Ok(self.fetch_one(Sql::composed(sql, mailing.held([]))).await?.is_some())
    }

    /// Leaves out who has an outcome already, such as a person who was erased, and whom `refusals` (`seq`, `shard` and why
    /// not, or null) name; these are `Excluded`. How many are left.
    pub async fn leave_out(&mut self, mailing: &Mailing, refusals: &SelectStatement, now: Timestamp) -> Result<i64> {
        let dialect = self.dialect();
        let ended = format!(
            "DELETE FROM mailing_row AS l WHERE l.run_day = $1 AND l.run_no = $2 AND l.step_no = $3 \
             AND EXISTS (SELECT 1 FROM outcome o WHERE {})",
            same("o")
        );
        self.execute(Sql::composed(ended.clone(), mailing.key())).await?;
        let refuse = Sql::around(
            "INSERT INTO outcome (run_day, run_no, step_no, shard, seq, outcome, reason, at_us) WITH s AS (",
            refusals,
            ") SELECT CAST(@1 AS BIGINT), CAST(@2 AS BIGINT), CAST(@3 AS BIGINT), s.shard, s.seq, 'Excluded', s.refusal, CAST(@4 AS BIGINT) \
             FROM s WHERE s.refusal IS NOT NULL",
            mailing.keyed([micros(now).into()]),
            dialect,
        )?;
        if self.execute(refuse).await? > 0 {
            let tally = format!(
                "INSERT INTO tally (run_day, run_no, step_no, shard, outcome, reason, n) \
                 SELECT l.run_day, l.run_no, l.step_no, l.shard, o.outcome, o.reason, count(*) FROM mailing_row l JOIN outcome o ON {} \
                 WHERE l.run_day = $1 AND l.run_no = $2 AND l.step_no = $3 \
                 GROUP BY l.run_day, l.run_no, l.step_no, l.shard, o.outcome, o.reason {ADDED}",
                same("o")
            );
            self.execute(Sql::composed(tally, mailing.key())).await?;
            let free = format!("{FREE} AND EXISTS (SELECT 1 FROM outcome o WHERE {}))", same("o"));
            self.execute(Sql::composed(free, mailing.key())).await?;
            self.execute(Sql::composed(ended, mailing.key())).await?;
            let of = (mailing.run_no, Some(mailing.step_no));
            self.note_outcomes_of_run(of, Outcome::Excluded.as_str(), now).await?;
        }
        self.count_mailing(mailing).await
    }

    /// From now on nobody is added or left out. False if the mailing is lost.
    pub async fn seal(&mut self, mailing: &Mailing, now: Timestamp) -> Result<bool> {
        let sql = format!("UPDATE mailing SET sealed_us = $6 WHERE {HELD} AND sealed_us IS NULL");
        Ok(self.execute(Sql::composed(sql, mailing.held([micros(now).into()]))).await? == 1)
    }

    /// How many rows a mailing has.
    pub async fn count_mailing(&mut self, mailing: &Mailing) -> Result<i64> {
        let sql = format!("SELECT count(*) FROM mailing_row WHERE {OF_MAILING}");
        self.fetch_one(Sql::composed(sql, mailing.key())).await?.map_or(Ok(0), |row| row.get(0))
    }

    /// The place of a mailing's files, before they are begun. False if it is lost, or another mailing has the place.
    pub async fn place_mailing(&mut self, mailing: &Mailing, file: &str) -> Result<bool> {
        let sql = format!(
            "UPDATE mailing SET file = $6 WHERE {HELD} AND sealed_us IS NOT NULL AND NOT EXISTS (SELECT 1 FROM mailing o \
             WHERE o.file = $6 AND (o.run_no <> $2 OR o.step_no <> $3))"
        );
        Ok(self.execute(Sql::composed(sql, mailing.held([file.into()]))).await? == 1)
    }

    /// Its files are there, and its manifest is about to be. False if the mailing is lost or the run may not go on.
    pub async fn announce_mailing(&mut self, mailing: &Mailing, now: Timestamp) -> Result<bool> {
        let sql = format!(
            "UPDATE mailing SET announced_us = $6 WHERE {HELD} AND EXISTS (SELECT 1 FROM run r JOIN run_channel rc ON rc.run_no = r.no \
             WHERE r.no = $2 AND rc.step_no = $3 AND {OPEN})"
        );
        Ok(self.execute(Sql::composed(sql, mailing.held([micros(now).into()]))).await? == 1)
    }

    /// Gives a mailing back to whoever looks after `due`: it could not be written.
    pub async fn leave_mailing(&mut self, mailing: &Mailing, due: Timestamp, problem: &str) -> Result<()> {
        let sql = format!("UPDATE mailing SET worker = '', tries = tries + 1, due_us = $6, problem = $7 WHERE {HELD}");
        self.execute(Sql::composed(sql, mailing.held([micros(due).into(), problem.into()]))).await?;
        Ok(())
    }

    /// Gives a mailing back to whoever looks next.
    pub async fn release_mailing(&mut self, mailing: &Mailing) -> Result<()> {
        let sql = format!("UPDATE mailing SET worker = '' WHERE {HELD}");
        self.execute(Sql::composed(sql, mailing.held([]))).await?;
        Ok(())
    }

    /// Ends a mailing: each of its rows gets its outcome. False if the mailing is lost.
    pub async fn end_mailing(&mut self, mailing: &Mailing, ended: &Ended<'_>, now: Timestamp) -> Result<bool> {
        let rows = self.count_mailing(mailing).await?;
        let made = format!("UPDATE mailing SET made_us = $6, row_count = $7, problem = NULL WHERE {HELD}");
        if self.execute(Sql::composed(made, mailing.held([micros(now).into(), rows.into()]))).await? == 0 {
            return Ok(false);
        }
        let outcome: Bind = ended.outcome.as_str().into();
        let reason: Bind = ended.reason.map(str::to_owned).into();
        let without = format!(
            "FROM mailing_row l WHERE l.run_day = $1 AND l.run_no = $2 AND l.step_no = $3 \
             AND NOT EXISTS (SELECT 1 FROM outcome o WHERE {})",
            same("o")
        );
        let tally = format!(
            "INSERT INTO tally (run_day, run_no, step_no, shard, outcome, reason, n) \
             SELECT l.run_day, l.run_no, l.step_no, l.shard, CAST($4 AS TEXT), coalesce(CAST($5 AS TEXT), ''), count(*) {without} \
             GROUP BY l.run_day, l.run_no, l.step_no, l.shard {ADDED}"
        );
        self.execute(Sql::composed(tally, mailing.keyed([outcome.clone(), reason.clone()]))).await?;
        let append = format!(
            "INSERT INTO outcome (run_day, run_no, step_no, shard, seq, outcome, reason, detail, at_us) \
             SELECT l.run_day, l.run_no, l.step_no, l.shard, l.seq, CAST($4 AS TEXT), CAST($5 AS TEXT), CAST($6 AS TEXT), CAST($7 AS BIGINT) {without}"
        );
        let more = [outcome, reason, ended.detail.into(), micros(now).into()];
        self.execute(Sql::composed(append, mailing.keyed(more))).await?;
        if !ended.outcome.may_have_arrived() {
            self.execute(Sql::composed(format!("{FREE})"), mailing.key())).await?;
        }
        let clear = format!("DELETE FROM mailing_row WHERE {OF_MAILING}");
        self.execute(Sql::composed(clear, mailing.key())).await?;
        self.note_outcomes_of_run((mailing.run_no, Some(mailing.step_no)), ended.outcome.as_str(), now).await?;
        Ok(true)
    }

    /// A sealed mailing of a cancelled run whose file never came about: its rows wait again, and are cancelled as others.
    pub async fn unseal(&mut self, mailing: &Mailing) -> Result<()> {
        let sql = format!("UPDATE mailing SET sealed_us = NULL, file = NULL, worker = '' WHERE {HELD}");
        self.execute(Sql::composed(sql, mailing.held([]))).await?;
        Ok(())
    }

    /// Whether a file of the run is being written, of which only its writer can say whether it is there.
    pub(super) async fn has_sealed_mailing(&mut self, run_day: i64, run_no: i64) -> Result<bool> {
        let sql = Sql::composed(format!("{UNMADE} AND sealed_us IS NOT NULL"), vec![run_day.into(), run_no.into()]);
        Ok(self.fetch_one(sql).await?.is_some())
    }

    /// Nothing is written of what was collected for a run.
    pub(super) async fn drop_mailings(&mut self, run_no: i64) -> Result<()> {
        self.execute(Sql::new("DELETE FROM mailing_row WHERE run_no = $1").bind(run_no)).await?;
        self.execute(Sql::new("DELETE FROM mailing WHERE run_no = $1 AND made_us IS NULL").bind(run_no)).await?;
        Ok(())
    }
}

const ADDED: &str =
    "ON CONFLICT (run_day, run_no, step_no, shard, outcome, reason) DO UPDATE SET n = tally.n + excluded.n";

/// Gives back what `once` took for a mailing's rows; a bracket is to be closed.
const FREE: &str = "DELETE FROM once_fence WHERE run_no = $2 AND step = (SELECT step FROM run_channel WHERE run_no = $2 AND step_no = $3) \
    AND (namespace, campaign) = (SELECT namespace, campaign FROM run WHERE no = $2) \
    AND item IN (SELECT l.item FROM ledger l JOIN mailing_row m ON m.run_day = l.run_day AND m.run_no = l.run_no AND m.step_no = l.step_no \
      AND m.shard = l.shard AND m.seq = l.seq WHERE l.run_day = $1 AND l.run_no = $2 AND l.step_no = $3";
