//! The dispatcher: one lane per channel that has work, each claiming batch after batch.
//!
//! A worker is a process; it raises a beat in the store. Whose beat has stood still for [`LEASE`] on the watcher's own
//! monotonic clock is dead, and its batches are taken over: no wall clocks are compared.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::{
    batch::{self, Job},
    providers::{Providers, Secret},
};
use crate::{
    clock::Clock,
    plan::{Bundle, Plan},
    store::{
        self, Sql, Store,
        campaign::{Run, State},
        ledger::Batch,
    },
};

/// How long a beat must stand still before its worker counts as dead.
pub const LEASE: Duration = Duration::from_secs(15);
const BEAT: Duration = Duration::from_secs(3);
/// Looked at as often for what other processes changed: a stop, a start, a worker that died.
const LOOK: Duration = Duration::from_millis(500);
/// Attempts under way at once are at most `connections × depth`; what is in doubt after a crash is never more.
pub const DEPTH: usize = 4;
/// An outbox is never in doubt: its batches are as large as a commit is worth.
const OUTBOX_BATCH: i64 = 500;

/// Reads the Secret that a channel names.
#[async_trait::async_trait]
pub trait Secrets: Send + Sync {
    async fn secret(&self, namespace: &str, name: &str) -> Option<Secret>;
}

/// What happened that others want to know.
pub trait Watch: Send + Sync {
    /// Messages of this run got outcomes.
    fn progressed(&self, namespace: &str, run: &str);
}

pub struct Dispatcher {
    pub store: Store,
    pub clock: Clock,
    pub providers: Providers,
    pub secrets: Arc<dyn Secrets>,
    pub watch: Arc<dyn Watch>,
    pub worker: String,
    /// Other workers may share the store; if not, every other one is dead.
    pub is_alone: bool,
    pub wake: Notify,
    lanes: Mutex<BTreeSet<(String, String)>>,
    pinned: Mutex<HashMap<String, Arc<(Bundle, Plan)>>>,
    beats: Mutex<BTreeMap<String, (i64, Instant)>>,
}

impl Dispatcher {
    pub fn new(
        store: Store,
        clock: Clock,
        providers: Providers,
        secrets: Arc<dyn Secrets>,
        watch: Arc<dyn Watch>,
        is_alone: bool,
    ) -> Self {
        // Unique among processes that live: the id of one that died may come again, and then its batches are its own.
        let worker = format!("{}-{}", std::process::id(), clock.now().as_microsecond());
        Self {
            store,
            clock,
            providers,
            secrets,
            watch,
            worker,
            is_alone,
            wake: Notify::new(),
            lanes: Mutex::default(),
            pinned: Mutex::default(),
            beats: Mutex::default(),
        }
    }

    /// Works until the process ends.
    pub async fn run(self: Arc<Self>) {
        let beating = self.clone();
        tokio::spawn(async move { beating.beat().await });
        loop {
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "the dispatcher waits for the store");
            }
            let _ = tokio::time::timeout(LOOK, self.wake.notified()).await;
        }
    }

    /// Whether nothing is being sent and nothing can be sent now.
    pub async fn is_idle(&self) -> store::Result<bool> {
        if self.lanes.lock().is_ok_and(|lanes| !lanes.is_empty()) {
            return Ok(false);
        }
        Ok(self.store.channels_with_work(self.clock.now()).await?.is_empty()
            && self.store.abandoned(&[]).await?.is_empty())
    }

    async fn beat(&self) {
        loop {
            if let Err(error) = self.store.beat(&self.worker).await {
                tracing::warn!(%error, "no beat");
            }
            tokio::time::sleep(BEAT).await;
        }
    }

    async fn look(self: &Arc<Self>) -> store::Result<()> {
        let alive = self.alive().await?;
        for batch in self.store.abandoned(&alive).await? {
            self.take_over(&batch).await?;
        }
        for channel in self.store.channels_with_work(self.clock.now()).await? {
            let is_new = self.lanes.lock().is_ok_and(|mut lanes| lanes.insert(channel.clone()));
            if is_new {
                let lane = self.clone();
                tokio::spawn(async move { lane.lane(channel).await });
            }
        }
        Ok(())
    }

    /// The workers whose beat moved lately, by this process' own clock.
    async fn alive(&self) -> store::Result<Vec<String>> {
        let mut alive = vec![self.worker.clone()];
        if self.is_alone {
            return Ok(alive);
        }
        let found = self.store.beats().await?;
        let Ok(mut beats) = self.beats.lock() else { return Ok(alive) };
        for (worker, beat) in found {
            let seen = beats.entry(worker.clone()).or_insert((beat, Instant::now()));
            if seen.0 != beat {
                *seen = (beat, Instant::now());
            }
            if seen.1.elapsed() < LEASE {
                alive.push(worker);
            }
        }
        Ok(alive)
    }

    async fn take_over(&self, dead: &Batch) -> store::Result<()> {
        let Some(batch) = self.store.take_over(dead, &self.worker).await? else { return Ok(()) };
        tracing::info!(run = batch.run_no, first = batch.first_seq, "took over a batch");
        let Some(run) = self.store.run_by_no(batch.run_no).await? else { return Ok(()) };
        if run.state == State::Cancelling {
            return self.settle(&batch, &run).await;
        }
        self.send(&batch, true).await?;
        Ok(())
    }

    /// A dead worker's part of a cancelled run: unknown fates are in doubt, the rest is left to the cancellation.
    async fn settle(&self, batch: &Batch, run: &Run) -> store::Result<()> {
        let pinned = self.pinned(run).await?;
        let may_doubt = self.providers.gate().is_open()
            && pinned.1.emails().any(|(no, _, email)| {
                no == batch.step_no && pinned.0.channels.get(&email.channel).is_some_and(|c| c.email.is_some())
            });
        let mut tx = self.store.begin().await?;
        if may_doubt {
            let unknown = tx.unknown_fates(batch).await?;
            let records: Vec<_> =
                unknown.into_iter().map(|(seq, item)| batch::in_doubt(seq, item, "the worker stopped")).collect();
            tx.put_outcomes(batch, &records, self.clock.now()).await?;
        }
        tx.close_batch(batch).await?;
        tx.commit().await?;
        self.watch.progressed(&run.namespace, &run.name);
        Ok(())
    }

    async fn lane(self: Arc<Self>, channel: (String, String)) {
        loop {
            match self.next_batch(&channel).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(channel = channel.1, %error, "the lane waits");
                    tokio::time::sleep(LOOK).await;
                    break;
                }
            }
        }
        if let Ok(mut lanes) = self.lanes.lock() {
            lanes.remove(&channel);
        }
        self.wake.notify_one();
    }

    async fn next_batch(&self, channel: &(String, String)) -> store::Result<bool> {
        let of = (channel.0.as_str(), channel.1.as_str());
        let size = if self.providers.gate().is_open() { self.batch_size(of).await? } else { OUTBOX_BATCH };
        match self.store.claim(of, &self.worker, size, self.clock.now()).await? {
            Some(batch) => self.send(&batch, false).await,
            None => Ok(false),
        }
    }

    /// So many that no more can be in doubt than `connections × depth`.
    async fn batch_size(&self, of: (&str, &str)) -> store::Result<i64> {
        let sql = "SELECT r.no FROM run r JOIN run_channel rc ON rc.run_no = r.no WHERE r.state = 'Sending' AND r.namespace = $1 AND rc.channel = $2 ORDER BY r.no LIMIT 1";
        let Some(row) = self.store.fetch_one(Sql::new(sql).bind(of.0).bind(of.1)).await? else { return Ok(1) };
        let Some(run) = self.store.run_by_no(row.get(0)?).await? else { return Ok(1) };
        let pinned = self.pinned(&run).await?;
        let spec = pinned.0.channels.get(of.1);
        let bounded = spec.filter(|s| s.email.is_some()).map(|s| usize::from(s.connections) * DEPTH);
        Ok(bounded.map_or(OUTBOX_BATCH, |n| i64::try_from(n).unwrap_or(OUTBOX_BATCH)))
    }

    async fn send(&self, batch: &Batch, is_taken_over: bool) -> store::Result<bool> {
        let lost = |what: &str| store::Error::Internal(format!("{what} of run {} is gone", batch.run_no));
        let run = self.store.run_by_no(batch.run_no).await?.ok_or_else(|| lost("the row"))?;
        let pinned = self.pinned(&run).await?;
        let (bundle, plan) = (&pinned.0, &pinned.1);
        let (_, step, email) = plan.emails().find(|(no, _, _)| *no == batch.step_no).ok_or_else(|| lost("a step"))?;
        let spec = bundle.channels.get(&email.channel).ok_or_else(|| lost("a channel"))?;
        let secret = match spec.email.as_ref().and_then(|e| e.smtp.secret_ref.as_ref()) {
            Some(reference) => self.secrets.secret(&run.namespace, &reference.name).await,
            None => None,
        };
        let provider = match self.providers.provider(&run.namespace, &email.channel, spec, secret.as_ref()) {
            Ok(provider) => provider,
            Err(message) => {
                // Nobody was tried: the batch waits until the secret is there.
                let mut tx = self.store.begin().await?;
                tx.release_batch(batch).await?;
                tx.commit().await?;
                return Err(store::Error::Refused(format!("channel {}: {message}", email.channel)));
            }
        };
        let job = Job {
            store: &self.store,
            clock: &self.clock,
            gate: self.providers.gate(),
            run: &run,
            bundle,
            plan,
            step,
            email,
            expires: self.expires(batch).await?,
            provider,
        };
        let went = job.run(batch, is_taken_over).await?;
        self.watch.progressed(&run.namespace, &run.name);
        Ok(went)
    }

    async fn expires(&self, batch: &Batch) -> store::Result<Timestamp> {
        let sql = "SELECT expires_us FROM run_channel WHERE run_no = $1 AND step_no = $2";
        let row = self.store.fetch_one(Sql::new(sql).bind(batch.run_no).bind(batch.step_no)).await?;
        Ok(row.map(|row| row.get(0)).transpose()?.map_or(Timestamp::MAX, store::instant))
    }

    /// The revision that a run pinned, compiled once per process.
    async fn pinned(&self, run: &Run) -> store::Result<Arc<(Bundle, Plan)>> {
        if let Some(found) = self.pinned.lock().ok().and_then(|p| p.get(&run.revision).cloned()) {
            return Ok(found);
        }
        let pinned = Arc::new(load_pinned(&self.store, run).await?);
        if let Ok(mut known) = self.pinned.lock() {
            // Few revisions are in flight at once; the cache is emptied rather than aged.
            if known.len() >= 64 {
                known.clear();
            }
            known.insert(run.revision.clone(), pinned.clone());
        }
        Ok(pinned)
    }
}

/// The bundle and the plan of a run's pinned revision.
pub async fn load_pinned(store: &Store, run: &Run) -> store::Result<(Bundle, Plan)> {
    let text = store.revision(&run.revision).await?;
    let text = text.ok_or_else(|| store::Error::Internal(format!("revision {} is gone", run.revision)))?;
    let bundle: Bundle = serde_json::from_str(&text).map_err(|e| store::Error::Internal(e.to_string()))?;
    let plan = bundle.compile(store.dialect());
    let plan =
        plan.map_err(|found| store::Error::Internal(found.first().map(ToString::to_string).unwrap_or_default()))?;
    Ok((bundle, plan))
}
