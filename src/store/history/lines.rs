//! The lines of the history: outcomes of messages, and what happened to them after.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Due, Part, Reached, What};
use crate::{
    rule::Dialect,
    store::{Bind, Result, Row, Sql, Store, instant},
};

/// Rows of the ledger that are looked at for one page of a whole part.
const PAGE_ROWS: i64 = 5_000;

/// A line: what became of a message, or what happened to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub namespace: String,
    pub dataset: String,
    pub campaign: String,
    pub run: String,
    pub step: String,
    pub channel: String,
    pub topic: Option<String>,
    pub shard: i64,
    pub seq: i64,
    pub item: String,
    pub profile: Option<String>,
    pub planned_at: Option<Timestamp>,
    /// `Sent`, or `Bounced`.
    pub what: String,
    /// Of an event: what tells it from the others of its message.
    pub event: Option<String>,
    pub at: Timestamp,
    pub reason: Option<String>,
    /// Of a click.
    pub url: Option<String>,
    /// No person did it.
    pub is_machine: bool,
}

const MESSAGE: &str = "r.namespace, v.dataset, r.campaign, r.name, c.step, c.channel, v.topic, r.planned_us, \
    l.shard, l.seq, l.item, l.profile";
const JOINED: &str = "JOIN run r ON r.no = l.run_no JOIN revision v ON v.hash = r.revision \
    JOIN run_channel c ON c.run_no = l.run_no AND c.step_no = l.step_no \
    WHERE x.run_day = $1 AND x.run_no = $2 AND x.step_no = $3 AND x.shard = $4";
const SAME: &str =
    "l.run_day = x.run_day AND l.run_no = x.run_no AND l.step_no = x.step_no AND l.shard = x.shard AND l.seq = x.seq";

impl Store {
    /// The lines of a group, and how far they go. What is past its retention is no longer there, and is not told.
    pub async fn history_lines(&self, due: &Due) -> Result<(Vec<Line>, Reached)> {
        match &due.what {
            What::Outcomes(seqs) => {
                let (filter, bind) = self.among(seqs);
                Ok((self.outcome_lines(due.part, filter, vec![bind]).await?, Reached::End))
            }
            What::Events(which) => {
                let seqs: BTreeSet<i64> = which.iter().map(|(seq, _)| *seq).collect();
                let (filter, bind) = self.among(&seqs.into_iter().collect::<Vec<_>>());
                let wanted: BTreeSet<(i64, &str)> = which.iter().map(|(seq, id)| (*seq, id.as_str())).collect();
                let mut lines = self.event_lines(due.part, filter, vec![bind]).await?;
                lines.retain(|line| wanted.contains(&(line.seq, line.event.as_deref().unwrap_or_default())));
                Ok((lines, Reached::End))
            }
            What::OfPart { outcome, next_seq } => {
                let (range, reached) = self.page(due.part, *next_seq).await?;
                let (filter, more) = match outcome {
                    Some(outcome) => ("x.seq BETWEEN $5 AND $6 AND x.outcome = $7", Some(outcome.into())),
                    None => ("x.seq BETWEEN $5 AND $6", None),
                };
                let binds = range.into_iter().map(Bind::from).chain(more).collect();
                Ok((self.outcome_lines(due.part, filter, binds).await?, reached))
            }
            What::All { next_seq } => {
                let (range, reached) = self.page(due.part, *next_seq).await?;
                let binds = || range.into_iter().map(Bind::from).collect::<Vec<_>>();
                let filter = "x.seq BETWEEN $5 AND $6";
                let mut lines = self.outcome_lines(due.part, filter, binds()).await?;
                lines.extend(self.event_lines(due.part, filter, binds()).await?);
                Ok((lines, reached))
            }
        }
    }

    /// The next rows of a part, and what follows them.
    async fn page(&self, part: Part, next_seq: i64) -> Result<([i64; 2], Reached)> {
        let sql = "SELECT max(seq) FROM ledger WHERE run_day = $1 AND run_no = $2 AND step_no = $3 AND shard = $4";
        let row = self.fetch_one(Sql::composed(sql.to_owned(), part.keyed([]))).await?;
        let last = row.map(|row| row.get::<Option<i64>>(0)).transpose()?.flatten().unwrap_or(-1);
        let end = next_seq + PAGE_ROWS - 1;
        Ok(([next_seq, end], if end >= last { Reached::End } else { Reached::Seq(end + 1) }))
    }

    fn among(&self, seqs: &[i64]) -> (&'static str, Bind) {
        match self.dialect() {
            Dialect::Sqlite => {
                ("x.seq IN (SELECT value FROM json_each($5))", serde_json::json!(seqs).to_string().into())
            }
            Dialect::Postgres => ("x.seq = ANY ($5)", Bind::Ints(seqs.to_vec())),
        }
    }

    async fn outcome_lines(&self, part: Part, filter: &str, binds: Vec<Bind>) -> Result<Vec<Line>> {
        let sql = format!(
            "SELECT {MESSAGE}, x.outcome, x.at_us, x.reason FROM outcome x JOIN ledger l ON {SAME} {JOINED} AND {filter} \
             ORDER BY x.seq"
        );
        let rows = self.fetch(Sql::composed(sql, part.keyed(binds))).await?;
        rows.iter().map(|row| line(row, None)).collect()
    }

    async fn event_lines(&self, part: Part, filter: &str, binds: Vec<Bind>) -> Result<Vec<Line>> {
        let sql = format!(
            "SELECT {MESSAGE}, x.type, x.at_us, x.reason, x.id, x.url, x.machine FROM message_event x \
             JOIN ledger l ON {SAME} {JOINED} AND {filter} ORDER BY x.seq, x.at_us, x.id"
        );
        let rows = self.fetch(Sql::composed(sql, part.keyed(binds))).await?;
        rows.iter().map(|row| line(row, Some((row.get(15)?, row.get(16)?, row.get::<i64>(17)? == 1)))).collect()
    }
}

fn line(row: &Row, event: Option<(String, Option<String>, bool)>) -> Result<Line> {
    let (event, url, is_machine) = event.map_or((None, None, false), |(id, url, machine)| (Some(id), url, machine));
    Ok(Line {
        namespace: row.get(0)?,
        dataset: row.get(1)?,
        campaign: row.get(2)?,
        run: row.get(3)?,
        step: row.get(4)?,
        channel: row.get(5)?,
        topic: row.get(6)?,
        planned_at: row.get::<Option<i64>>(7)?.map(instant),
        shard: row.get(8)?,
        seq: row.get(9)?,
        item: row.get(10)?,
        profile: row.get(11)?,
        what: row.get(12)?,
        at: instant(row.get(13)?),
        reason: row.get(14)?,
        event,
        url,
        is_machine,
    })
}
