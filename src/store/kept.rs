//! What is kept of one message: the attempt behind it and what was said.

use jiff::Timestamp;

use super::{Bind, Result, Sql, Store, campaign::Run, instant};

/// An attempt of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub step: String,
    pub step_no: i64,
    pub shard: i64,
    pub seq: i64,
    pub profile: Option<String>,
    pub attempt: i64,
    /// Of its person's devices, from 1; 0 where there is one address.
    pub address: i64,
    pub at: Timestamp,
    /// As its step records it, for all messages of its group.
    pub said: Option<String>,
}

const ATTEMPTS: &str = "SELECT rc.step, l.step_no, l.shard, l.seq, l.profile, a.attempt, a.at_us, a.said, l.address FROM ledger l \
    JOIN run_channel rc ON rc.run_no = l.run_no AND rc.step_no = l.step_no \
    JOIN attempt a ON a.run_day = l.run_day AND a.run_no = l.run_no AND a.step_no = l.step_no AND a.shard = l.shard \
      AND l.seq BETWEEN a.first_seq AND a.last_seq \
    WHERE l.run_day = $1 AND l.run_no = $2 AND a.run_day = $1 AND a.run_no = $2 AND l.item = $3";

impl Store {
    /// The attempts of the messages about an item of a run, by step and number.
    pub async fn kept(&self, run: &Run, item: &str) -> Result<Vec<Kept>> {
        let sql = format!("{ATTEMPTS} ORDER BY l.step_no, l.address, a.attempt");
        let binds: Vec<Bind> = vec![run.run_day.into(), run.no.into(), item.into()];
        let rows = self.fetch(Sql::composed(sql, binds)).await?;
        rows.iter()
            .map(|row| {
                Ok(Kept {
                    step: row.get(0)?,
                    step_no: row.get(1)?,
                    shard: row.get(2)?,
                    seq: row.get(3)?,
                    profile: row.get(4)?,
                    attempt: row.get(5)?,
                    at: instant(row.get(6)?),
                    said: row.get(7)?,
                    address: row.get(8)?,
                })
            })
            .collect()
    }
}
