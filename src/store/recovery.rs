//! A store that went back in time: a dump restored over it does not know what was sent since.
//!
//! Each run's [`HighWater`] is mirrored outside the store, in the CampaignRun's status or in a file of the folder home.
//! A store that is behind a mirror claims nothing ([`Scope::Regressed`](super::home::Scope)) until a person calls
//! `campanile store recover`: what may have left since then becomes `InDoubt`, and is never sent again by itself.

use jiff::Timestamp;

use super::{
    Bind, Error, Result, Sql, Store, Tx,
    campaign::Run,
    home::Scope,
    instant, micros,
    tally::{ENTERED, RESENT},
};
use crate::api::campaign_run::HighWater;

/// How far a run had come, as its mirror says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub namespace: String,
    pub run: String,
    pub campaign: String,
    pub scheduled: Timestamp,
    pub water: HighWater,
}

/// What a recovery did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Runs that had come further than the store knows.
    pub runs: usize,
    /// Of these, runs of which the store knows no recipients: they are ended and never start again.
    pub unknown: usize,
    pub in_doubt: i64,
}

/// Why a run ended of which the store no longer knows whom it reached.
const REGRESSED: &str = "StoreRegressed";

fn high_waters(of: &str) -> String {
    format!(
        "SELECT r.namespace, r.name, coalesce(c.claimed, 0) + coalesce(v.claimed, 0), coalesce(t.settled, 0) + coalesce(v.settled, 0) \
         FROM run r \
         LEFT JOIN (SELECT run_no, CAST(sum(next_seq) AS BIGINT) AS claimed FROM claim_cursor GROUP BY run_no) c ON c.run_no = r.no \
         LEFT JOIN (SELECT run_no, CAST(sum(n) AS BIGINT) AS settled FROM tally \
                    WHERE outcome NOT IN ('{ENTERED}', '{RESENT}', 'InDoubt') GROUP BY run_no) t ON t.run_no = r.no \
         LEFT JOIN recovery v ON v.run_no = r.no {of}"
    )
}

const ALL_WITHOUT_OUTCOME: &str = "FROM ledger l WHERE l.run_no = $1 AND NOT EXISTS (SELECT 1 FROM outcome o WHERE o.run_day = l.run_day \
    AND o.run_no = l.run_no AND o.step_no = l.step_no AND o.shard = l.shard AND o.seq = l.seq)";

impl Store {
    /// How far a run has come. It never falls while the store lives: neither a resolved doubt nor a recovery lowers it.
    pub async fn high_water(&self, run: &Run) -> Result<HighWater> {
        let sql = "SELECT coalesce((SELECT CAST(sum(next_seq) AS BIGINT) FROM claim_cursor WHERE run_day = $1 AND run_no = $2), 0) \
                     + coalesce((SELECT claimed FROM recovery WHERE run_no = $2), 0), \
                   coalesce((SELECT CAST(sum(n) AS BIGINT) FROM tally WHERE run_day = $1 AND run_no = $2 \
                     AND outcome NOT IN ('Entered', 'Resent', 'InDoubt')), 0) \
                     + coalesce((SELECT settled FROM recovery WHERE run_no = $2), 0)";
        let row = self.fetch_one(Sql::new(sql).bind(run.run_day).bind(run.no)).await?;
        row.map_or(Ok(HighWater::default()), |row| Ok(HighWater { claimed: row.get(0)?, settled: row.get(1)? }))
    }

    /// The marks that this store is behind.
    pub async fn behind(&self, marks: Vec<Mark>) -> Result<Vec<Mark>> {
        if marks.is_empty() {
            return Ok(marks);
        }
        if let [mark] = marks.as_slice() {
            let water = match self.run(&mark.namespace, &mark.run).await? {
                Some(run) => Some(self.high_water(&run).await?),
                None => None,
            };
            let is_behind = water.is_none_or(|water| water.is_behind(&mark.water));
            return Ok(if is_behind { marks } else { vec![] });
        }
        let mut known = std::collections::HashMap::new();
        for row in self.fetch(Sql::composed(high_waters(""), vec![])).await? {
            let water = HighWater { claimed: row.get(2)?, settled: row.get(3)? };
            known.insert((row.get::<String>(0)?, row.get::<String>(1)?), water);
        }
        let is_behind = |mark: &Mark| {
            known.get(&(mark.namespace.clone(), mark.run.clone())).is_none_or(|water| water.is_behind(&mark.water))
        };
        Ok(marks.into_iter().filter(is_behind).collect())
    }

    /// Holds every worker of this store until `store recover`.
    pub async fn hold_regressed(&self, marks: &[Mark], now: Timestamp) -> Result<()> {
        let runs: Vec<&str> = marks.iter().map(|mark| mark.run.as_str()).take(3).collect();
        let of = if runs.is_empty() { String::new() } else { format!(" ({})", runs.join(", ")) };
        let reason = format!("StoreRegressed: the store went back in time{of}; call `campanile store recover`");
        self.stop(&Scope::Regressed, &reason, now).await
    }

    /// Makes what may have left since the store's own time `InDoubt`, and lets the store go on.
    pub async fn recover(&self, behind: &[Mark], now: Timestamp) -> Result<Recovered> {
        let mut recovered = Recovered { runs: behind.len(), ..Recovered::default() };
        for mark in behind {
            let mut tx = self.begin().await?;
            let no = tx.run_to_recover(mark, now).await?;
            let doubted = tx.doubt_all(no, now).await?;
            recovered.in_doubt += doubted;
            let is_planned = "SELECT 1 FROM run_channel WHERE run_no = $1 LIMIT 1";
            if tx.fetch_one(Sql::new(is_planned).bind(no)).await?.is_none() {
                recovered.unknown += 1;
                let message = "it ran after the backup from which the store was restored; whom it reached is not known";
                let end = "UPDATE run SET state = 'Done', reason = $2, message = $3, completed_us = $4 WHERE no = $1 AND state <> 'Done'";
                tx.execute(Sql::new(end).bind(no).bind(REGRESSED).bind(message).bind(micros(now))).await?;
            }
            tx.reach(no, mark, now).await?;
            tx.commit().await?;
        }
        self.start(&Scope::Regressed).await?;
        Ok(recovered)
    }
}

impl Tx {
    /// The run's number; a run that the store does not know is entered as ended, so that its name never starts again.
    async fn run_to_recover(&mut self, mark: &Mark, now: Timestamp) -> Result<i64> {
        let insert = "INSERT INTO run (namespace, name, campaign, mode, origin, scheduled_us, run_day, revision, state, reason, message, created_us) \
                      VALUES ($1, $2, $3, 'Live', 'Schedule', $4, $5, '', 'Pending', '', '', $6) ON CONFLICT (namespace, name) DO NOTHING";
        let insert = Sql::new(insert)
            .bind(&mark.namespace)
            .bind(&mark.run)
            .bind(&mark.campaign)
            .bind(micros(mark.scheduled))
            .bind(mark.scheduled.as_second().div_euclid(86_400))
            .bind(micros(now));
        self.execute(insert).await?;
        let sql = Sql::new("SELECT no FROM run WHERE namespace = $1 AND name = $2").bind(&mark.namespace);
        let row = self.fetch_one(sql.bind(&mark.run)).await?;
        row.ok_or_else(|| Error::Internal("a run vanished".to_owned()))?.get(0)
    }

    /// Every message of a run that has no outcome becomes `InDoubt`; how many these were.
    async fn doubt_all(&mut self, run_no: i64, now: Timestamp) -> Result<i64> {
        let tally = format!(
            "INSERT INTO tally (run_day, run_no, step_no, shard, outcome, reason, n) \
             SELECT l.run_day, l.run_no, l.step_no, l.shard, 'InDoubt', 'InDoubt', count(*) {ALL_WITHOUT_OUTCOME} \
             GROUP BY l.run_day, l.run_no, l.step_no, l.shard \
             ON CONFLICT (run_day, run_no, step_no, shard, outcome, reason) DO UPDATE SET n = tally.n + excluded.n"
        );
        self.execute(Sql::composed(tally, vec![run_no.into()])).await?;
        let doubt = format!(
            "INSERT INTO outcome (run_day, run_no, step_no, shard, seq, outcome, reason, detail, at_us) \
             SELECT l.run_day, l.run_no, l.step_no, l.shard, l.seq, 'InDoubt', 'InDoubt', CAST($2 AS TEXT), CAST($3 AS BIGINT) {ALL_WITHOUT_OUTCOME}"
        );
        let binds: Vec<Bind> = vec![run_no.into(), "the store went back in time".into(), micros(now).into()];
        let count = self.execute(Sql::composed(doubt, binds)).await?;
        self.note_outcomes_of_run((run_no, None), "InDoubt", now).await?;
        for rest in [
            "DELETE FROM deferred WHERE run_no = $1",
            "DELETE FROM batch WHERE run_no = $1",
            "UPDATE claim_cursor SET next_seq = planned WHERE run_no = $1",
        ] {
            self.execute(Sql::new(rest).bind(run_no)).await?;
        }
        self.drop_mailings(run_no).await?;
        Ok(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// From now on the run counts as having come as far as its mirror says.
    async fn reach(&mut self, run_no: i64, mark: &Mark, now: Timestamp) -> Result<()> {
        let row = self.fetch_one(Sql::composed(high_waters("WHERE r.no = $1"), vec![run_no.into()])).await?;
        let row = row.ok_or_else(|| Error::Internal("a run vanished".to_owned()))?;
        let missing = |of: i64, mirrored: i64| (mirrored - of).max(0);
        let claimed = missing(row.get(2)?, mark.water.claimed);
        let settled = missing(row.get(3)?, mark.water.settled);
        let sql = "INSERT INTO recovery (run_no, claimed, settled, at_us) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (run_no) DO UPDATE SET claimed = recovery.claimed + excluded.claimed, \
                   settled = recovery.settled + excluded.settled, at_us = excluded.at_us";
        self.execute(Sql::new(sql).bind(run_no).bind(claimed).bind(settled).bind(micros(now))).await?;
        Ok(())
    }
}

/// A mark as one line of JSON, and back.
impl Mark {
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "namespace": self.namespace, "run": self.run, "campaign": self.campaign,
            "scheduledUs": micros(self.scheduled), "highWater": self.water,
        })
    }

    pub fn of_json(value: &serde_json::Value) -> Option<Self> {
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        Some(Self {
            namespace: text("namespace")?,
            run: text("run")?,
            campaign: text("campaign")?,
            scheduled: instant(value["scheduledUs"].as_i64()?),
            water: serde_json::from_value(value["highWater"].clone()).ok()?,
        })
    }
}
