//! What is known of one row or one person: what became of it in a run, and what holds it back in the next one.

use jiff::Timestamp;

use super::{Bind, Result, Row, Sql, Store, campaign::Run, instant, micros};

/// One message of a run, as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    pub step: String,
    /// The key of the row that it is about.
    pub item: String,
    /// Of its person's devices, from 1; 0 where there is one address.
    pub address: i64,
    /// None while it waits.
    pub outcome: Option<String>,
    pub reason: Option<String>,
    /// Of the outcome; of a message that waits, of its last attempt.
    pub at: Option<Timestamp>,
    pub attempts: i64,
    /// When a message that was put aside is due.
    pub due: Option<Timestamp>,
}

/// That a row was taken before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub run_no: i64,
    /// None if it is not known any more.
    pub run: Option<String>,
    pub at: Timestamp,
}

/// Whose messages are asked for.
#[derive(Clone, Copy, Debug)]
pub enum Whose<'a> {
    Item(&'a str),
    Profile(&'a str),
}

const FATES: &str = "SELECT rc.step, l.item, coalesce(o.outcome, ''), coalesce(o.reason, d.reason, l.reason), o.at_us, d.due_us, \
    (SELECT max(a.attempt) FROM attempt a WHERE a.run_day = l.run_day AND a.run_no = l.run_no AND a.step_no = l.step_no \
       AND a.shard = l.shard AND l.seq BETWEEN a.first_seq AND a.last_seq), \
    (SELECT max(a.at_us) FROM attempt a WHERE a.run_day = l.run_day AND a.run_no = l.run_no AND a.step_no = l.step_no \
       AND a.shard = l.shard AND l.seq BETWEEN a.first_seq AND a.last_seq), l.address \
    FROM ledger l JOIN run_channel rc ON rc.run_no = l.run_no AND rc.step_no = l.step_no \
    LEFT JOIN outcome o ON o.run_day = l.run_day AND o.run_no = l.run_no AND o.step_no = l.step_no AND o.shard = l.shard AND o.seq = l.seq \
    LEFT JOIN deferred d ON d.run_day = l.run_day AND d.run_no = l.run_no AND d.step_no = l.step_no AND d.shard = l.shard AND d.seq = l.seq \
    WHERE l.run_day = $1 AND l.run_no = $2";

impl Store {
    /// What became of somebody's messages in a run, by step and row; at most `limit`.
    pub async fn fates(&self, run: &Run, whose: Whose<'_>, limit: i64) -> Result<Vec<Fate>> {
        let (column, of) = match whose {
            Whose::Item(item) => ("item", item),
            Whose::Profile(profile) => ("profile", profile),
        };
        let sql = format!("{FATES} AND l.{column} = $3 ORDER BY l.step_no, l.item, l.address LIMIT $4");
        let binds: Vec<Bind> = vec![run.run_day.into(), run.no.into(), of.into(), limit.into()];
        self.fetch(Sql::composed(sql, binds)).await?.iter().map(fate).collect()
    }

    /// Who `once` holds back: the run that sent to the row since then. `of` is the namespace, the campaign and the step.
    pub async fn fenced(&self, of: [&str; 3], item: &str, since: Timestamp) -> Result<Option<Taken>> {
        let sql = "SELECT f.run_no, r.name, f.at_us FROM once_fence f LEFT JOIN run r ON r.no = f.run_no \
                   WHERE f.namespace = $1 AND f.campaign = $2 AND f.step = $3 AND f.item = $4 AND f.at_us >= $5";
        let sql = Sql::new(sql).bind(of[0]).bind(of[1]).bind(of[2]).bind(item).bind(micros(since));
        self.fetch_one(sql).await?.as_ref().map(taken).transpose()
    }

    /// Which run took a row at an `incremental` step last.
    pub async fn last_taken(&self, of: [&str; 3], item: &str) -> Result<Option<Taken>> {
        let sql = "SELECT i.run_no, r.name, i.at_us FROM incremental i LEFT JOIN run r ON r.no = i.run_no \
                   WHERE i.namespace = $1 AND i.campaign = $2 AND i.step = $3 AND i.item = $4 ORDER BY i.at_us DESC LIMIT 1";
        let sql = Sql::new(sql).bind(of[0]).bind(of[1]).bind(of[2]).bind(item);
        self.fetch_one(sql).await?.as_ref().map(taken).transpose()
    }
}

fn fate(row: &Row) -> Result<Fate> {
    let outcome: String = row.get(2)?;
    let (ended, last): (Option<i64>, Option<i64>) = (row.get(4)?, row.get(7)?);
    Ok(Fate {
        step: row.get(0)?,
        item: row.get(1)?,
        address: row.get(8)?,
        outcome: (!outcome.is_empty()).then_some(outcome),
        reason: row.get(3)?,
        at: ended.or(last).map(instant),
        due: row.get::<Option<i64>>(5)?.map(instant),
        attempts: row.get::<Option<i64>>(6)?.unwrap_or(0),
    })
}

fn taken(row: &Row) -> Result<Taken> {
    Ok(Taken { run_no: row.get(0)?, run: row.get(1)?, at: instant(row.get(2)?) })
}
