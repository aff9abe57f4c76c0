//! Counts of outcomes, kept with them in one transaction, so that a status costs no scan.

use std::collections::BTreeMap;

use super::{
    Result, Row, Sql, Store, Tx,
    campaign::Run,
    ledger::{Part, Recorded},
};
use crate::api::campaign_run::Totals;

/// Counted beside the outcomes.
pub(super) const ENTERED: &str = "Entered";

/// Messages that were sent again though they may have arrived; no outcome, and beside all the others.
pub(super) const RESENT: &str = "Resent";

/// The counts of one channel step and the reasons behind them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub totals: Totals,
    pub reasons: BTreeMap<String, i64>,
    /// Attempts made again though the one before may have arrived (`onDoubt: Resend`).
    pub resent: i64,
}

/// How many there are of each outcome and reason.
pub(super) fn of(outcomes: &[Recorded]) -> Vec<(&'static str, &str, i64)> {
    let mut counts = BTreeMap::<(&'static str, &str), i64>::new();
    for o in outcomes {
        *counts.entry((o.outcome.as_str(), o.reason.as_deref().unwrap_or(""))).or_default() += 1;
    }
    counts.into_iter().map(|((outcome, reason), n)| (outcome, reason, n)).collect()
}

const ADD: &str = "INSERT INTO tally (run_day, run_no, step_no, shard, outcome, reason, n) VALUES ($1, $2, $3, $4, $5, $6, $7) \
    ON CONFLICT (run_day, run_no, step_no, shard, outcome, reason) DO UPDATE SET n = tally.n + excluded.n";

impl Tx {
    pub(super) async fn put_tally(&mut self, part: Part, counts: &[(&'static str, &str, i64)]) -> Result<()> {
        let rows =
            counts.iter().map(|(outcome, reason, n)| part.keyed([(*outcome).into(), (*reason).into(), (*n).into()]));
        self.execute_each(ADD, rows.collect()).await
    }
}

impl Store {
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

impl Counts {
    fn add(&mut self, row: &Row) -> Result<()> {
        let (outcome, reason, n): (String, String, i64) = (row.get(1)?, row.get(2)?, row.get(3)?);
        let totals = &mut self.totals;
        let count = match outcome.as_str() {
            ENTERED => &mut totals.entered,
            RESENT => &mut self.resent,
            "Sent" => &mut totals.sent,
            "Failed" => &mut totals.failed,
            "Excluded" => &mut totals.excluded,
            "Expired" => &mut totals.expired,
            "Cancelled" => &mut totals.cancelled,
            "Delivered" => &mut totals.delivered,
            "Bounced" => &mut totals.bounced,
            "Complained" => &mut totals.complained,
            "Opened" => &mut totals.opened,
            "Clicked" => &mut totals.clicked,
            _ => &mut totals.in_doubt,
        };
        *count += n;
        if !reason.is_empty() {
            *self.reasons.entry(reason).or_default() += n;
            self.reasons.retain(|_, n| *n != 0);
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
