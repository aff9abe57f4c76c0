//! The ledger: who gets what, and what became of it.
//!
//! A message is one row of a channel step's set. It enters the ledger when the run is planned, by one
//! `INSERT … SELECT`; workers claim ranges of `seq`, one row per range; attempts are committed in groups before their
//! bytes go out, one row per group, and outcomes are appended in groups afterwards. *In doubt* is an attempt that has
//! neither an outcome nor a known failure.

use jiff::Timestamp;
use sea_query::{Alias, Expr, ExprTrait, SelectStatement};

use super::{Bind, Result, Row, Sql, Tx, entity as tables, instant, micros, tally};
use crate::{api::dataset::Entity, rule::Dialect};

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
    pub(super) fn may_have_arrived(self) -> bool {
        matches!(self, Self::Sent | Self::InDoubt)
    }
}

/// Whose consent a group needs.
#[derive(Clone, Copy, Debug)]
pub struct Topic<'a> {
    pub namespace: &'a str,
    pub dataset: &'a str,
    pub topic: &'a str,
    pub channel: &'a str,
}

/// One shard of one channel step of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Part {
    pub run_day: i64,
    pub run_no: i64,
    pub step_no: i64,
    pub shard: i64,
}

impl Part {
    /// The first four columns of a row.
    pub(super) fn read(row: &Row) -> Result<Self> {
        Ok(Self { run_day: row.get(0)?, run_no: row.get(1)?, step_no: row.get(2)?, shard: row.get(3)? })
    }

    pub(super) fn keyed(&self, more: impl IntoIterator<Item = Bind>) -> Vec<Bind> {
        let key = [self.run_day, self.run_no, self.step_no, self.shard];
        key.into_iter().map(Bind::from).chain(more).collect()
    }
}

/// A claimed range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub part: Part,
    pub first_seq: i64,
    pub last_seq: i64,
    pub worker: String,
    pub fence: i64,
}

impl Batch {
    /// The batch's row while it is still this worker's.
    pub(super) fn held(&self) -> Vec<Bind> {
        self.part.keyed([self.first_seq.into(), (&self.worker).into(), self.fence.into()])
    }
}

/// Whether a worker may go on with what it claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Open,
    /// Stopped, suspended, cancelled: nothing new may be attempted.
    Held,
    /// Another worker has taken it over.
    Lost,
}

/// Under which of its two kinds of claim a worker attempted a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Batch,
    Lease,
}

/// Which messages of a part a group attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group {
    /// First attempts, this seq to that one.
    First(i64, i64),
    /// First attempts that may have been made before over a channel that never doubts: what has an outcome is left out.
    Again(i64, i64),
    /// What this worker leases among the deferred.
    Deferred(Vec<i64>),
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

/// An attempt of one message that was attempted before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Further {
    pub seq: i64,
    pub attempt: i64,
    /// What was said, as far as it is kept.
    pub kept: Option<String>,
}

/// A message whose next attempt comes later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deferral {
    pub seq: i64,
    /// How many attempts were made, the last of them known to have failed.
    pub attempts: i64,
    pub due: Timestamp,
    pub reason: String,
}

/// The reason of an outcome in doubt, and of a message that is sent again because it was.
pub const IN_DOUBT: &str = "InDoubt";

/// The reason of an attempt that was not made after all.
pub const NOT_TRIED: &str = "NotTried";

/// The column of a set of messages that says for which of a person's devices each is: the text of its row's key. No field
/// has such a name.
pub const DEVICE: &str = "device key";

/// The reason of a message that waits for the slot that its domain's rate has for it.
pub const DOMAIN_RATE: &str = "DomainRate";

pub(super) const OF_PART: &str = "run_day = $1 AND run_no = $2 AND step_no = $3 AND shard = $4";

/// Run `r` and channel step `rc` may make attempts now.
pub(super) const OPEN: &str = "r.state = 'Sending' \
    AND NOT EXISTS (SELECT 1 FROM campaign c WHERE c.namespace = r.namespace AND c.name = r.campaign AND (c.suspended = 1 OR c.held = 1)) \
    AND NOT EXISTS (SELECT 1 FROM stop s WHERE s.scope IN ('All', 'Regressed') OR (s.scope = 'Namespace' AND s.namespace = r.namespace) \
        OR (s.scope = 'Campaign' AND s.namespace = r.namespace AND s.name = r.campaign) \
        OR (s.scope = 'Channel' AND s.namespace = r.namespace AND s.name = rc.channel))";

/// The fence `f` of a channel step of a run.
const FENCED: &str = "f.run_no = $1 AND f.step = (SELECT rc.step FROM run_channel rc WHERE rc.run_no = $1 AND rc.step_no = $3) \
    AND (f.namespace, f.campaign) = (SELECT r.namespace, r.campaign FROM run r WHERE r.no = $1)";
/// The rows `l` of a fenced item that has several devices. What a run before sent to others of them is not known here: a
/// successor gives nothing back.
const OF_ITEM: &str =
    "l.run_day = $2 AND l.run_no = $1 AND l.step_no = $3 AND l.shard = $4 AND l.item = f.item AND l.address > 0";

const APPEND_OUTCOME: &str =
    "INSERT INTO outcome (run_day, run_no, step_no, shard, seq, outcome, reason, detail, at_us)";

pub(super) fn same(alias: &str) -> String {
    ["run_day", "run_no", "step_no", "shard", "seq"].map(|k| format!("{alias}.{k} = l.{k}")).join(" AND ")
}

/// The messages of a group that have no outcome: `seq`, `item`, `profile`, the [`DEVICE`], how many `attempts` were made, whether the
/// newest consent is `granted` and that to be `tracked` (asked only where a topic is given), the `slot` reserved for it, and the key of the item under its own names.
pub fn waiting(
    part: Part,
    group: &Group,
    worker: &str,
    entity: &Entity,
    (topic, tracking): (Option<Topic<'_>>, Option<Topic<'_>>),
    dialect: Dialect,
) -> SelectStatement {
    let column = |name: &str| Expr::col((Alias::new("l"), Alias::new(name)));
    let mut select = sea_query::Query::select();
    for name in ["seq", "item", "profile"] {
        select.column((Alias::new("l"), Alias::new(name)));
    }
    select.expr_as(column("device"), Alias::new(DEVICE));
    let attempts = match group {
        Group::Deferred(_) => "d.attempts",
        Group::First(..) => "CAST(0 AS BIGINT)",
        Group::Again(..) => {
            "(SELECT max(a.attempt) FROM attempt a WHERE a.run_day = l.run_day AND a.run_no = l.run_no \
             AND a.step_no = l.step_no AND a.shard = l.shard AND l.seq BETWEEN a.first_seq AND a.last_seq)"
        }
    };
    let slot = match group {
        Group::Deferred(_) => format!("CASE WHEN d.reason = '{DOMAIN_RATE}' THEN d.due_us END"),
        _ => "CAST(NULL AS BIGINT)".to_owned(),
    };
    select
        .expr_as(Expr::cust(attempts), Alias::new("attempts"))
        .expr_as(granted(topic, dialect), Alias::new("granted"))
        .expr_as(granted(tracking, dialect), Alias::new("tracked"))
        .expr_as(Expr::cust(slot), Alias::new("slot"));
    for (index, name) in entity.key.iter().enumerate() {
        select.expr_as(Expr::cust(tables::key_part(dialect, entity, index, "l.item")), Alias::new(&**name));
    }
    select.from_as(Alias::new("ledger"), Alias::new("l"));
    let key = [("run_day", part.run_day), ("run_no", part.run_no), ("step_no", part.step_no), ("shard", part.shard)];
    for (name, value) in key {
        select.and_where(column(name).eq(value));
    }
    match group {
        Group::First(first, last) => {
            select.and_where(column("seq").between(*first, *last));
        }
        Group::Again(first, last) => {
            select.and_where(column("seq").between(*first, *last));
            for table in ["outcome", "deferred"] {
                select.and_where(Expr::cust(format!("NOT EXISTS (SELECT 1 FROM {table} x WHERE {})", same("x"))));
            }
        }
        Group::Deferred(seqs) => {
            select.join_as(
                sea_query::JoinType::InnerJoin,
                Alias::new("deferred"),
                Alias::new("d"),
                Expr::cust(same("d")),
            );
            select.and_where(column("seq").is_in(seqs.iter().copied()));
            select.and_where(Expr::col((Alias::new("d"), Alias::new("worker"))).eq(worker));
        }
    }
    select
}

/// Whether the newest consent of the person `l.profile` is one: 1 or 0, NULL where there is none or nobody asks.
pub fn granted(topic: Option<Topic<'_>>, dialect: Dialect) -> Expr {
    let Some(topic) = topic else { return Expr::cust("CAST(NULL AS BIGINT)") };
    let of = [topic.namespace, topic.dataset, topic.topic, topic.channel].map(|text| Expr::val(text.to_owned()));
    let text = "(SELECT CAST(CASE c.state WHEN 'Granted' THEN 1 ELSE 0 END AS BIGINT) FROM consent c WHERE c.namespace = ? AND c.dataset = ? \
                AND c.topic IN (?, '*') AND c.channel IN (?, '*') AND c.profile = l.profile ORDER BY c.at_us DESC, c.state DESC LIMIT 1)";
    match dialect {
        Dialect::Sqlite => Expr::cust_with_exprs(text.to_owned(), of),
        Dialect::Postgres => Expr::cust_with_exprs(text.replace('?', "$"), of),
    }
}

impl Tx {
    /// Whether the batch is still this worker's, its run may send, and nothing stops it. Nobody takes the batch over
    /// before this transaction ends.
    pub async fn standing(&mut self, batch: &Batch) -> Result<Standing> {
        // Shared, so that a commit of attempts and one of outcomes do not wait for each other.
        let share = self.row_lock("FOR SHARE OF b");
        let sql = format!(
            "SELECT CAST(CASE WHEN {OPEN} THEN 1 ELSE 0 END AS BIGINT) FROM batch b JOIN run r ON r.no = b.run_no \
             JOIN run_channel rc ON rc.run_no = b.run_no AND rc.step_no = b.step_no \
             WHERE b.run_day = $1 AND b.run_no = $2 AND b.step_no = $3 AND b.shard = $4 AND b.first_seq = $5 \
             AND b.worker = $6 AND b.fence = $7{share}"
        );
        Ok(match self.fetch_one(Sql::composed(sql, batch.held())).await? {
            None => Standing::Lost,
            Some(row) if row.get::<i64>(0)? == 1 => Standing::Open,
            Some(_) => Standing::Held,
        })
    }

    /// Whether a channel step may make attempts now.
    pub async fn is_open(&mut self, part: Part) -> Result<bool> {
        let sql = format!(
            "SELECT 1 FROM run r JOIN run_channel rc ON rc.run_no = r.no WHERE r.no = $1 AND rc.step_no = $2 AND {OPEN}"
        );
        Ok(self.fetch_one(Sql::composed(sql, vec![part.run_no.into(), part.step_no.into()])).await?.is_some())
    }

    /// Commits first attempts, one row for all, with what is kept of their words; their bytes may go out once the
    /// transaction is committed.
    ///
    /// # Errors
    /// When they were attempted already: the key is the fence.
    pub async fn put_attempts(
        &mut self,
        part: Part,
        range: (i64, i64),
        kept: Option<String>,
        worker: &str,
        now: Timestamp,
    ) -> Result<()> {
        self.put_attempt(part, range, (1, kept), worker, now).await
    }

    /// Commits one attempt each.
    pub async fn put_further_attempts(
        &mut self,
        part: Part,
        attempts: &[Further],
        worker: &str,
        now: Timestamp,
    ) -> Result<()> {
        for Further { seq, attempt, kept } in attempts {
            self.put_attempt(part, (*seq, *seq), (*attempt, kept.clone()), worker, now).await?;
        }
        Ok(())
    }

    async fn put_attempt(
        &mut self,
        part: Part,
        (first, last): (i64, i64),
        (attempt, kept): (i64, Option<String>),
        worker: &str,
        now: Timestamp,
    ) -> Result<()> {
        let sql = "INSERT INTO attempt (run_day, run_no, step_no, shard, first_seq, attempt, last_seq, at_us, worker, said) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let binds =
            part.keyed([first.into(), attempt.into(), last.into(), micros(now).into(), worker.into(), kept.into()]);
        self.execute(Sql::composed(sql.to_owned(), binds)).await?;
        Ok(())
    }

    /// Appends outcomes and counts them; what cannot have arrived gives its `once` back.
    pub async fn put_outcomes(&mut self, part: Part, outcomes: &[Recorded], now: Timestamp) -> Result<()> {
        if outcomes.is_empty() {
            return Ok(());
        }
        match self.dialect() {
            Dialect::Sqlite => {
                let sql = format!("{APPEND_OUTCOME} VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)");
                let rows = outcomes.iter().map(|o| {
                    let outcome = o.outcome.as_str().into();
                    let (reason, detail) = (o.reason.clone().into(), o.detail.clone().into());
                    part.keyed([o.seq.into(), outcome, reason, detail, micros(now).into()])
                });
                self.execute_each(&sql, rows.collect()).await?;
            }
            Dialect::Postgres => {
                // One round trip; COPY takes several, and waits for delayed acknowledgements between them.
                let sql = format!(
                    "{APPEND_OUTCOME} SELECT $1, $2, $3, $4, u.seq, u.outcome, u.reason, u.detail, $5 \
                     FROM unnest($6, $7, $8, $9) AS u (seq, outcome, reason, detail)"
                );
                let texts = |text: fn(&Recorded) -> Option<String>| Bind::Texts(outcomes.iter().map(text).collect());
                let columns = [
                    micros(now).into(),
                    Bind::Ints(outcomes.iter().map(|o| o.seq).collect()),
                    texts(|o| Some(o.outcome.as_str().to_owned())),
                    texts(|o| o.reason.clone()),
                    texts(|o| o.detail.clone()),
                ];
                self.execute(Sql::composed(sql, part.keyed(columns))).await?;
            }
        }
        let counts = tally::of(outcomes);
        self.put_tally(part, &counts).await?;
        self.note_outcomes(part, outcomes, now).await?;
        let lost: Vec<&str> =
            outcomes.iter().filter(|o| !o.outcome.may_have_arrived()).map(|o| o.item.as_str()).collect();
        self.free_once(part, &lost).await
    }

    /// Gives back the `once` of items that cannot have arrived: not at this device, and at none of the others.
    async fn free_once(&mut self, part: Part, items: &[&str]) -> Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        let key = || vec![part.run_no.into(), part.run_day.into(), part.step_no.into(), part.shard.into()];
        if self.dialect() == Dialect::Postgres {
            // Two that end an item's last devices at once would each see the other's still under way: one waits. In the
            // order of items, so that they wait for nothing else.
            let hold = format!(
                "SELECT f.item FROM once_fence f WHERE {FENCED} AND f.item = ANY($5) AND EXISTS (SELECT 1 FROM ledger l \
                 WHERE {OF_ITEM}) ORDER BY f.item FOR UPDATE OF f"
            );
            let texts = Bind::Texts(items.iter().map(|item| Some((*item).to_owned())).collect());
            self.fetch(Sql::composed(hold, key().into_iter().chain([texts]).collect())).await?;
        }
        let free = format!(
            "DELETE FROM once_fence AS f WHERE {FENCED} AND f.item = $5 AND NOT EXISTS (SELECT 1 FROM ledger l LEFT JOIN outcome o ON {} \
             WHERE {OF_ITEM} AND (coalesce(o.outcome, 'Sent') IN ('Sent', 'InDoubt') \
               OR EXISTS (SELECT 1 FROM run r WHERE r.no = $1 AND r.predecessor IS NOT NULL)))",
            same("o")
        );
        let rows = items.iter().map(|item| key().into_iter().chain([(*item).into()]).collect());
        self.execute_each(&free, rows.collect()).await
    }

    /// Takes deferred messages off the list, because they have an outcome now. False if one of them is leased to
    /// another worker: then nothing of this transaction may stand.
    pub async fn end_deferred(&mut self, part: Part, seqs: &[i64], worker: &str) -> Result<bool> {
        let sql = format!("DELETE FROM deferred WHERE {OF_PART} AND seq = $5 AND worker = $6");
        for seq in seqs {
            if self.execute(Sql::composed(sql.clone(), part.keyed([(*seq).into(), worker.into()]))).await? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Puts messages aside until they are due; the attempt behind them is known to have failed, or is in doubt and made
    /// again (reason `InDoubt`), which is counted as `Resent`.
    pub async fn put_deferrals(&mut self, part: Part, deferrals: &[Deferral], now: Timestamp) -> Result<()> {
        let failed = "INSERT INTO failure (run_day, run_no, step_no, shard, seq, attempt, reason, at_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let rows = deferrals
            .iter()
            .map(|d| part.keyed([d.seq.into(), d.attempts.into(), (&d.reason).into(), micros(now).into()]));
        self.execute_each(failed, rows.collect()).await?;
        let again = "INSERT INTO deferred (run_day, run_no, step_no, shard, seq, attempts, due_us, reason) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
                     ON CONFLICT (run_day, run_no, step_no, shard, seq) DO UPDATE SET attempts = excluded.attempts, \
                     due_us = excluded.due_us, reason = excluded.reason, worker = NULL";
        let rows = deferrals
            .iter()
            .map(|d| part.keyed([d.seq.into(), d.attempts.into(), micros(d.due).into(), (&d.reason).into()]));
        self.execute_each(again, rows.collect()).await?;
        let resent = deferrals.iter().filter(|d| d.reason == IN_DOUBT).count();
        if resent > 0 {
            self.put_tally(part, &[(tally::RESENT, "", i64::try_from(resent).unwrap_or(i64::MAX))]).await?;
        }
        Ok(())
    }

    pub async fn has_outcome(&mut self, part: Part, seq: i64) -> Result<bool> {
        let sql = format!("SELECT 1 FROM outcome WHERE {OF_PART} AND seq = $5");
        Ok(self.fetch_one(Sql::composed(sql, part.keyed([seq.into()]))).await?.is_some())
    }

    pub async fn has_failed(&mut self, part: Part, seq: i64, attempt: i64) -> Result<bool> {
        let sql = format!("SELECT 1 FROM failure WHERE {OF_PART} AND seq = $5 AND attempt = $6");
        Ok(self.fetch_one(Sql::composed(sql, part.keyed([seq.into(), attempt.into()]))).await?.is_some())
    }

    /// When this worker committed these first attempts and what is kept of them, if it did and only the answer was lost.
    pub async fn attempted(
        &mut self,
        part: Part,
        range: (i64, i64),
        worker: &str,
    ) -> Result<Option<(Timestamp, Option<String>)>> {
        let sql = format!(
            "SELECT at_us, said FROM attempt WHERE {OF_PART} AND first_seq = $5 AND last_seq = $6 AND attempt = 1 AND worker = $7"
        );
        let binds = part.keyed([range.0.into(), range.1.into(), worker.into()]);
        let row = self.fetch_one(Sql::composed(sql, binds)).await?;
        row.map(|row| Ok((instant(row.get(0)?), row.get(1)?))).transpose()
    }

    /// Messages of a range with an attempt that has neither an outcome nor a known failure. Triples are (seq, item,
    /// number of the attempt). What is deferred belongs to whoever leases it there, not to the range's owner: `of` says
    /// whose part is asked for.
    pub async fn unknown_fates(&mut self, part: Part, range: (i64, i64), of: Whose) -> Result<Vec<(i64, String, i64)>> {
        let elsewhere = match of {
            Whose::Batch => format!("AND NOT EXISTS (SELECT 1 FROM deferred d WHERE {})", same("d")),
            Whose::Lease => String::new(),
        };
        let sql = format!(
            "SELECT l.seq, l.item, max(a.attempt) FROM attempt a JOIN ledger l ON l.run_day = a.run_day AND l.run_no = a.run_no \
                     AND l.step_no = a.step_no AND l.shard = a.shard AND l.seq BETWEEN a.first_seq AND a.last_seq \
                   WHERE a.run_day = $1 AND a.run_no = $2 AND a.step_no = $3 AND a.shard = $4 AND a.first_seq <= $6 AND a.last_seq >= $5 \
                     AND l.seq BETWEEN $5 AND $6 \
                     AND NOT EXISTS (SELECT 1 FROM outcome o WHERE o.run_day = l.run_day AND o.run_no = l.run_no AND o.step_no = l.step_no AND o.shard = l.shard AND o.seq = l.seq) \
                     AND NOT EXISTS (SELECT 1 FROM failure f WHERE f.run_day = l.run_day AND f.run_no = l.run_no AND f.step_no = l.step_no AND f.shard = l.shard AND f.seq = l.seq AND f.attempt = a.attempt) {elsewhere} \
                   GROUP BY l.seq, l.item ORDER BY l.seq"
        );
        let rows = self.fetch(Sql::composed(sql, part.keyed([range.0.into(), range.1.into()]))).await?;
        rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).collect()
    }
}
