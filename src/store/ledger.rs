//! The ledger: who gets what, and what became of it.
//!
//! A message is one row of a channel step's set. It enters the ledger when the run is planned, by one
//! `INSERT … SELECT`; workers claim ranges of `seq`, one row per batch; an attempt is committed before its bytes
//! go out, and its outcome is appended afterwards. *In doubt* is an attempt without an outcome.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sea_query::{Alias, Expr, ExprTrait, SelectStatement};

use super::{Bind, Result, Row, Sql, Store, Tx, campaign::Run, entity as tables, micros};
use crate::{
    api::{campaign_run::Totals, dataset::Entity},
    rule::Dialect,
};

/// How a recipient's part in a channel step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Sent,
    Failed,
    Excluded,
    Expired,
    Cancelled,
    InDoubt,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "Sent",
            Self::Failed => "Failed",
            Self::Excluded => "Excluded",
            Self::Expired => "Expired",
            Self::Cancelled => "Cancelled",
            Self::InDoubt => "InDoubt",
        }
    }

    /// Whether the person may have got the message, so that `once` must hold.
    fn may_have_arrived(self) -> bool {
        matches!(self, Self::Sent | Self::InDoubt)
    }
}

/// Counted in `tally` beside the outcomes.
pub(super) const ENTERED: &str = "Entered";

/// Whose consent a batch needs.
#[derive(Clone, Copy, Debug)]
pub struct Topic<'a> {
    pub namespace: &'a str,
    pub dataset: &'a str,
    pub topic: &'a str,
    pub channel: &'a str,
}

/// A claimed range of one step's shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub run_day: i64,
    pub run_no: i64,
    pub step_no: i64,
    pub shard: i64,
    pub first_seq: i64,
    pub last_seq: i64,
    pub worker: String,
    pub fence: i64,
}

impl Batch {
    pub(super) fn key(&self) -> Vec<Bind> {
        vec![self.run_day.into(), self.run_no.into(), self.step_no.into(), self.shard.into()]
    }

    /// The messages of the batch that have no outcome: `seq`, `item`, `profile`, how many `attempts` were made, whether
    /// the newest consent is `granted`, and the key of the item under its own names.
    pub fn waiting(&self, entity: &Entity, topic: Topic<'_>, dialect: Dialect) -> SelectStatement {
        let column = |name: &str| Expr::col((Alias::new("l"), Alias::new(name)));
        let custom = |template: &str, parts: Vec<Expr>| match dialect {
            Dialect::Sqlite => Expr::cust_with_exprs(template.to_owned(), parts),
            Dialect::Postgres => Expr::cust_with_exprs(template.replace('?', "$"), parts),
        };
        let same = |alias: &str| {
            let keys = ["run_day", "run_no", "step_no", "shard", "seq"].map(|k| format!("{alias}.{k} = l.{k}"));
            keys.join(" AND ")
        };
        let mut select = sea_query::Query::select();
        for name in ["seq", "item", "profile"] {
            select.column((Alias::new("l"), Alias::new(name)));
        }
        let attempts = format!("(SELECT max(a.attempt) FROM attempt a WHERE {})", same("a"));
        let granted = "(SELECT c.granted FROM consent c WHERE c.namespace = ? AND c.dataset = ? AND c.topic = ? AND c.channel = ? \
                       AND c.profile = l.profile ORDER BY c.at_us DESC, c.granted ASC LIMIT 1)";
        let of = [topic.namespace, topic.dataset, topic.topic, topic.channel].map(|text| Expr::val(text.to_owned()));
        select
            .expr_as(Expr::cust(attempts), Alias::new("attempts"))
            .expr_as(custom(granted, of.into()), Alias::new("granted"));
        for (index, name) in entity.key.iter().enumerate() {
            select.expr_as(Expr::cust(tables::key_part(dialect, entity, index, "l.item")), Alias::new(&**name));
        }
        select.from_as(Alias::new("ledger"), Alias::new("l"));
        let key =
            [("run_day", self.run_day), ("run_no", self.run_no), ("step_no", self.step_no), ("shard", self.shard)];
        for (name, value) in key {
            select.and_where(column(name).eq(value));
        }
        select.and_where(column("seq").gte(self.first_seq)).and_where(column("seq").lte(self.last_seq));
        for table in ["outcome", "deferred"] {
            select.and_where(Expr::cust(format!("NOT EXISTS (SELECT 1 FROM {table} x WHERE {})", same("x"))));
        }
        select
    }

    pub(super) fn keyed(&self, more: impl IntoIterator<Item = Bind>) -> Vec<Bind> {
        self.key().into_iter().chain(more).collect()
    }
}

/// What became of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub seq: i64,
    pub item: String,
    pub outcome: Outcome,
    pub reason: Option<String>,
    pub detail: Option<String>,
}

/// A message whose next attempt comes later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deferral {
    pub seq: i64,
    pub attempts: i64,
    pub due: Timestamp,
    pub reason: String,
}

/// The counts of one channel step and the reasons behind them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub totals: Totals,
    pub reasons: BTreeMap<String, i64>,
}

pub(super) const OF_STEP: &str = "run_day = $1 AND run_no = $2 AND step_no = $3 AND shard = $4";

impl Tx {
    /// Whether the batch is still this worker's, its run may send, and nothing stops it. Holds the batch's row.
    pub async fn may_send(&mut self, batch: &Batch) -> Result<bool> {
        let hold =
            format!("UPDATE batch SET fence = fence WHERE {OF_STEP} AND first_seq = $5 AND worker = $6 AND fence = $7");
        let binds = batch.keyed([batch.first_seq.into(), (&batch.worker).into(), batch.fence.into()]);
        if self.execute(Sql::composed(hold, binds)).await? == 0 {
            return Ok(false);
        }
        let sql = format!(
            "SELECT 1 FROM run r JOIN run_channel rc ON rc.run_no = r.no WHERE r.no = $1 AND rc.step_no = $2 AND {OPEN}"
        );
        let binds = vec![batch.run_no.into(), batch.step_no.into()];
        Ok(self.fetch_one(Sql::composed(sql, binds)).await?.is_some())
    }

    /// Commits attempts; their bytes may go out once the transaction is committed. Pairs are (seq, number of the attempt).
    pub async fn put_attempts(&mut self, batch: &Batch, attempts: &[(i64, i64)], now: Timestamp) -> Result<()> {
        let sql = "INSERT INTO attempt (run_day, run_no, step_no, shard, seq, attempt, at_us, worker) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let rows = attempts.iter().map(|(seq, attempt)| {
            batch.keyed([(*seq).into(), (*attempt).into(), micros(now).into(), (&batch.worker).into()])
        });
        self.execute_each(sql, rows.collect()).await
    }

    /// Appends outcomes and counts them; what cannot have arrived gives its `once` back.
    pub async fn put_outcomes(&mut self, batch: &Batch, outcomes: &[Recorded], now: Timestamp) -> Result<()> {
        let sql = "INSERT INTO outcome (run_day, run_no, step_no, shard, seq, outcome, reason, detail, at_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        let rows = outcomes.iter().map(|o| {
            let (reason, detail) = (o.reason.clone(), o.detail.clone());
            batch.keyed([o.seq.into(), o.outcome.as_str().into(), reason.into(), detail.into(), micros(now).into()])
        });
        self.execute_each(sql, rows.collect()).await?;
        let mut counts = BTreeMap::<(Outcome, &str), i64>::new();
        for o in outcomes {
            *counts.entry((o.outcome, o.reason.as_deref().unwrap_or(""))).or_default() += 1;
        }
        let rows = counts
            .into_iter()
            .map(|((outcome, reason), n)| batch.keyed([outcome.as_str().into(), reason.into(), n.into()]));
        self.execute_each(TALLY, rows.collect()).await?;
        let free = "DELETE FROM once_fence WHERE run_no = $1 AND item = $2 AND step = \
                    (SELECT step FROM run_channel WHERE run_no = $1 AND step_no = $3) \
                    AND (namespace, campaign) = (SELECT namespace, campaign FROM run WHERE no = $1)";
        let rows = outcomes
            .iter()
            .filter(|o| !o.outcome.may_have_arrived())
            .map(|o| vec![batch.run_no.into(), (&o.item).into(), batch.step_no.into()]);
        self.execute_each(free, rows.collect()).await
    }

    /// Puts messages aside until they are due; the attempt behind them is known to have failed.
    pub async fn put_deferrals(&mut self, batch: &Batch, deferrals: &[Deferral]) -> Result<()> {
        let sql = "INSERT INTO deferred (run_day, run_no, step_no, shard, seq, attempts, due_us, reason) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let rows = deferrals
            .iter()
            .map(|d| batch.keyed([d.seq.into(), d.attempts.into(), micros(d.due).into(), (&d.reason).into()]));
        self.execute_each(sql, rows.collect()).await?;
        let known = format!("UPDATE attempt SET result = $6 WHERE {OF_STEP} AND seq = $5 AND result IS NULL");
        let rows = deferrals.iter().map(|d| batch.keyed([d.seq.into(), (&d.reason).into()]));
        self.execute_each(&known, rows.collect()).await
    }

    /// Messages of the batch with an attempt that has no result: their fate is unknown. Pairs are (seq, item).
    pub async fn unknown_fates(&mut self, batch: &Batch) -> Result<Vec<(i64, String)>> {
        let sql = "SELECT l.seq, l.item FROM ledger l WHERE l.run_day = $1 AND l.run_no = $2 AND l.step_no = $3 AND l.shard = $4 \
                   AND l.seq BETWEEN $5 AND $6 \
                   AND EXISTS (SELECT 1 FROM attempt a WHERE a.run_day = l.run_day AND a.run_no = l.run_no AND a.step_no = l.step_no AND a.shard = l.shard AND a.seq = l.seq AND a.result IS NULL) \
                   AND NOT EXISTS (SELECT 1 FROM outcome o WHERE o.run_day = l.run_day AND o.run_no = l.run_no AND o.step_no = l.step_no AND o.shard = l.shard AND o.seq = l.seq) \
                   AND NOT EXISTS (SELECT 1 FROM deferred d WHERE d.run_day = l.run_day AND d.run_no = l.run_no AND d.step_no = l.step_no AND d.shard = l.shard AND d.seq = l.seq)";
        let binds = batch.keyed([batch.first_seq.into(), batch.last_seq.into()]);
        let rows = self.fetch(Sql::composed(sql.to_owned(), binds)).await?;
        rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
    }

    /// Gives a batch back unfinished: whoever may go on takes it over.
    pub async fn release_batch(&mut self, batch: &Batch) -> Result<()> {
        let sql =
            format!("UPDATE batch SET worker = '' WHERE {OF_STEP} AND first_seq = $5 AND worker = $6 AND fence = $7");
        let binds = batch.keyed([batch.first_seq.into(), (&batch.worker).into(), batch.fence.into()]);
        self.execute(Sql::composed(sql, binds)).await?;
        Ok(())
    }

    /// The batch is finished: each of its messages has an outcome or waits among the deferred.
    pub async fn close_batch(&mut self, batch: &Batch) -> Result<bool> {
        let sql = format!("DELETE FROM batch WHERE {OF_STEP} AND first_seq = $5 AND worker = $6 AND fence = $7");
        let binds = batch.keyed([batch.first_seq.into(), (&batch.worker).into(), batch.fence.into()]);
        Ok(self.execute(Sql::composed(sql, binds)).await? == 1)
    }
}

/// Run `r` and channel step `rc` may make attempts now.
pub(super) const OPEN: &str = "r.state = 'Sending' \
    AND NOT EXISTS (SELECT 1 FROM campaign c WHERE c.namespace = r.namespace AND c.name = r.campaign AND (c.suspended = 1 OR c.held = 1)) \
    AND NOT EXISTS (SELECT 1 FROM stop s WHERE s.scope = 'All' OR (s.scope = 'Namespace' AND s.namespace = r.namespace) \
        OR (s.scope = 'Campaign' AND s.namespace = r.namespace AND s.name = r.campaign) \
        OR (s.scope = 'Channel' AND s.namespace = r.namespace AND s.name = rc.channel))";

const TALLY: &str = "INSERT INTO tally (run_day, run_no, step_no, shard, outcome, reason, n) VALUES ($1, $2, $3, $4, $5, $6, $7) \
    ON CONFLICT (run_day, run_no, step_no, shard, outcome, reason) DO UPDATE SET n = tally.n + excluded.n";

impl Store {
    /// Whether every message of the run has had its first attempt or an outcome: only a tail of retries may be left.
    pub async fn has_first_attempts_left(&self, run: &Run) -> Result<bool> {
        let sql = "SELECT 1 FROM claim_cursor WHERE run_day = $1 AND run_no = $2 AND next_seq < planned \
                   UNION ALL SELECT 1 FROM batch WHERE run_day = $1 AND run_no = $2 LIMIT 1";
        Ok(self.fetch_one(Sql::new(sql).bind(run.run_day).bind(run.no)).await?.is_some())
    }

    /// Whether anything of the run is claimed or can be claimed, now or later.
    pub async fn is_unfinished(&self, run: &Run) -> Result<bool> {
        let sql = "SELECT 1 FROM claim_cursor WHERE run_day = $1 AND run_no = $2 AND next_seq < planned \
                   UNION ALL SELECT 1 FROM batch WHERE run_day = $1 AND run_no = $2 \
                   UNION ALL SELECT 1 FROM deferred WHERE run_day = $1 AND run_no = $2 LIMIT 1";
        Ok(self.fetch_one(Sql::new(sql).bind(run.run_day).bind(run.no)).await?.is_some())
    }

    /// Ends a cancelled run, once no worker holds a part of it: what waits becomes `Cancelled`. False if a worker still does.
    pub async fn cancel_waiting(&self, run: &Run, reason: &str, message: &str, now: Timestamp) -> Result<bool> {
        let mut tx = self.begin().await?;
        let key = || vec![Bind::from(run.run_day), run.no.into()];
        let held = "SELECT 1 FROM batch WHERE run_day = $1 AND run_no = $2 LIMIT 1";
        if tx.fetch_one(Sql::composed(held.to_owned(), key())).await?.is_some() {
            return Ok(false);
        }
        for (text, at) in [
            (CANCEL, true),
            (TALLY_CANCELLED, false),
            (FREE_CANCELLED, false),
            ("DELETE FROM deferred WHERE run_day = $1 AND run_no = $2", false),
        ] {
            let more = at.then(|| Bind::from(micros(now)));
            tx.execute(Sql::composed(text.to_owned(), key().into_iter().chain(more).collect())).await?;
        }
        let cursors = "UPDATE claim_cursor SET next_seq = planned WHERE run_day = $1 AND run_no = $2";
        tx.execute(Sql::composed(cursors.to_owned(), key())).await?;
        let moved = tx
            .move_run(run.no, super::campaign::State::Cancelling, super::campaign::State::Done, reason, message, now)
            .await?;
        tx.commit().await?;
        Ok(moved)
    }

    /// The counts of each channel step of a run, by step number.
    pub async fn counts(&self, run: &Run) -> Result<Vec<(String, Counts)>> {
        let steps = self
            .fetch(Sql::new("SELECT step_no, step FROM run_channel WHERE run_no = $1 ORDER BY step_no").bind(run.no))
            .await?;
        let sql = "SELECT step_no, outcome, reason, CAST(sum(n) AS BIGINT) FROM tally WHERE run_day = $1 AND run_no = $2 GROUP BY step_no, outcome, reason";
        let tallies = self.fetch(Sql::new(sql).bind(run.run_day).bind(run.no)).await?;
        let mut by_step = BTreeMap::<i64, Counts>::new();
        for row in &tallies {
            by_step.entry(row.get(0)?).or_default().add(row)?;
        }
        steps.iter().map(|row| Ok((row.get(1)?, by_step.remove(&row.get(0)?).unwrap_or_default().closed()))).collect()
    }

    /// The counts of all runs that a campaign's name ever had.
    pub async fn campaign_totals(&self, namespace: &str, campaign: &str) -> Result<Totals> {
        let sql = "SELECT t.step_no, t.outcome, t.reason, CAST(sum(t.n) AS BIGINT) FROM tally t JOIN run r ON r.no = t.run_no \
                   WHERE r.namespace = $1 AND r.campaign = $2 GROUP BY t.step_no, t.outcome, t.reason";
        let mut counts = Counts::default();
        for row in self.fetch(Sql::new(sql).bind(namespace).bind(campaign)).await? {
            counts.add(&row)?;
        }
        Ok(counts.closed().totals)
    }
}

const CANCEL: &str = "INSERT INTO outcome (run_day, run_no, step_no, shard, seq, outcome, reason, at_us) \
    SELECT l.run_day, l.run_no, l.step_no, l.shard, l.seq, 'Cancelled', 'Cancelled', CAST($3 AS BIGINT) FROM ledger l \
    WHERE l.run_day = $1 AND l.run_no = $2 AND NOT EXISTS (SELECT 1 FROM outcome o WHERE o.run_day = l.run_day \
      AND o.run_no = l.run_no AND o.step_no = l.step_no AND o.shard = l.shard AND o.seq = l.seq)";

const TALLY_CANCELLED: &str = "INSERT INTO tally (run_day, run_no, step_no, shard, outcome, reason, n) \
    SELECT run_day, run_no, step_no, shard, 'Cancelled', 'Cancelled', count(*) FROM outcome \
    WHERE run_day = $1 AND run_no = $2 AND outcome = 'Cancelled' GROUP BY run_day, run_no, step_no, shard";

const FREE_CANCELLED: &str = "DELETE FROM once_fence WHERE run_no = $2 AND EXISTS (SELECT 1 FROM ledger l \
    JOIN run_channel rc ON rc.run_no = l.run_no AND rc.step_no = l.step_no \
    JOIN outcome o ON o.run_day = l.run_day AND o.run_no = l.run_no AND o.step_no = l.step_no AND o.shard = l.shard AND o.seq = l.seq \
    WHERE l.run_day = $1 AND l.run_no = $2 AND l.item = once_fence.item AND rc.step = once_fence.step AND o.outcome = 'Cancelled')";

impl Counts {
    fn add(&mut self, row: &Row) -> Result<()> {
        let (outcome, reason, n): (String, String, i64) = (row.get(1)?, row.get(2)?, row.get(3)?);
        let totals = &mut self.totals;
        let count = match outcome.as_str() {
            ENTERED => &mut totals.entered,
            "Sent" => &mut totals.sent,
            "Failed" => &mut totals.failed,
            "Excluded" => &mut totals.excluded,
            "Expired" => &mut totals.expired,
            "Cancelled" => &mut totals.cancelled,
            _ => &mut totals.in_doubt,
        };
        *count += n;
        if !reason.is_empty() {
            *self.reasons.entry(reason).or_default() += n;
        }
        Ok(())
    }

    /// What entered and has no outcome yet waits.
    fn closed(mut self) -> Self {
        let t = &mut self.totals;
        t.waiting = t.entered - t.sent - t.failed - t.excluded - t.expired - t.cancelled - t.in_doubt;
        self
    }
}
