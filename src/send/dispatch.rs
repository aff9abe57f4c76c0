//! The dispatcher: one lane per channel that has work, each claiming batch after batch.
//!
//! A worker is a process; it raises a beat in the store. Whose beat has stood still for [`LEASE`] on the watcher's own
//! monotonic clock is dead, and its batches are taken over: no wall clocks are compared.

mod hearing;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::{Notify, OnceCell, Semaphore},
    time::Instant,
};

use super::{
    enclosure::{self, ATTACHED_BYTES_MAX, Enclosures},
    health::Health,
    job::{Job, Parts, ROOM_KIB},
    lane::Lane,
    lease::Lease,
    letter::{Letter, Occasion},
    mailing::{Places, Press, Sheet},
    mime::dkim::Signer,
    providers::{Providers, Secret},
    record,
};
use crate::{
    api::ChannelSpec,
    clock::Clock,
    feedback::texts::Texts,
    plan::{Bundle, Plan},
    store::{
        self, Sql, Store,
        campaign::Run,
        ledger::{Batch, Part, Whose},
    },
};

/// How long a beat must stand still before its worker counts as dead.
pub const LEASE: Duration = Duration::from_secs(15);
/// Beats in the time of a lease, so that a slow one is no death.
const BEATS: u32 = 5;
/// A process that is told to end waits as long for the messages under way; Kubernetes gives it 30 s.
const FINISH: Duration = Duration::from_secs(20);
/// Looked at as often for what other processes changed: a stop, a start, a worker that died.
pub(super) const LOOK: Duration = Duration::from_millis(500);

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
    pub lease: Arc<Lease>,
    pub health: Arc<Health>,
    pub wake: Notify,
    /// Where this process writes files of letters; without it others do.
    places: Option<Arc<dyn Places>>,
    lanes: Mutex<BTreeSet<(String, String)>>,
    /// The files that are being written, by run and step.
    presses: Mutex<BTreeSet<(i64, i64)>>,
    pinned: Mutex<HashMap<String, Arc<(Bundle, Plan)>>>,
    /// Of long messages under way, in KiB.
    room: Arc<Semaphore>,
    /// The store's own, read once.
    secret: OnceCell<Vec<u8>>,
    /// Where what message centres tell goes, if there are any.
    texts: OnceCell<Texts>,
    beats: Mutex<BTreeMap<String, (i64, Instant)>>,
    /// This worker's last beat that the store has taken.
    beaten: AtomicI64,
}

impl Dispatcher {
    pub fn new(
        store: Store,
        clock: Clock,
        providers: Providers,
        secrets: Arc<dyn Secrets>,
        watch: Arc<dyn Watch>,
        lease: Lease,
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
            lease: Arc::new(lease),
            health: Arc::default(),
            wake: Notify::new(),
            places: None,
            lanes: Mutex::default(),
            presses: Mutex::default(),
            pinned: Mutex::default(),
            room: Arc::new(Semaphore::new(ROOM_KIB)),
            secret: OnceCell::new(),
            texts: OnceCell::new(),
            beats: Mutex::default(),
            beaten: AtomicI64::new(0),
        }
    }

    /// Files of letters are written, too.
    #[must_use]
    pub fn with_places(self, places: Arc<dyn Places>) -> Self {
        Self { places: Some(places), ..self }
    }

    /// Works until the process ends.
    pub async fn run(self: Arc<Self>) {
        let beating = self.clone();
        tokio::spawn(async move { beating.keep_beating().await });
        tokio::spawn(self.clone().keep_hearing());
        loop {
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "the dispatcher waits for the store");
            }
            let _ = tokio::time::timeout(LOOK, self.wake.notified()).await;
        }
    }

    /// Whether nothing is being sent and nothing can be sent now.
    pub async fn is_idle(&self) -> store::Result<bool> {
        if self.is_working() || (self.places.is_some() && !self.store.mailings_due(self.clock.now()).await?.is_empty())
        {
            return Ok(false);
        }
        let (batches, leases) = self.store.abandoned(|_, _| false).await?;
        let can_proceed = |channel: &(String, String)| !self.health.is_resting(channel);
        let channels = self.store.channels_with_work(self.clock.now()).await?;
        Ok(batches.is_empty() && leases.is_empty() && !channels.iter().any(can_proceed))
    }

    /// Begins nothing new, waits until what is under way is recorded, and takes itself off the list of workers.
    pub async fn finish(&self) -> store::Result<()> {
        self.lease.halt();
        let begun = Instant::now();
        while self.is_working() && begun.elapsed() < FINISH {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.store.forget_worker(&self.worker).await
    }

    fn is_working(&self) -> bool {
        self.lanes.lock().is_ok_and(|lanes| !lanes.is_empty()) || self.presses.lock().is_ok_and(|own| !own.is_empty())
    }

    /// The last beat that the store has taken.
    pub(super) fn beat(&self) -> i64 {
        self.beaten.load(Ordering::SeqCst)
    }

    async fn keep_beating(&self) {
        while !self.lease.is_halted() {
            let begun = Instant::now();
            match self.store.beat(&self.worker).await {
                Ok(beat) if beat <= self.beat() => self.end_regressed().await,
                Ok(beat) => {
                    self.beaten.store(beat, Ordering::SeqCst);
                    self.lease.extend(begun);
                }
                Err(error) => tracing::warn!(%error, "no beat"),
            }
            tokio::time::sleep(self.lease.length() / BEATS).await;
        }
    }

    /// The store was replaced under this process by an older one: nothing that it says now may be trusted.
    async fn end_regressed(&self) {
        self.lease.halt();
        tracing::error!("StoreRegressed: the store went back in time; nothing is sent until `campanile store recover`");
        while let Err(error) = self.store.hold_regressed(&[], self.clock.now()).await {
            tracing::warn!(%error, "the store is not held; trying again");
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn look(self: &Arc<Self>) -> store::Result<()> {
        self.lease.close(self.store.closed_steps().await?.into_iter().collect());
        let alive = self.alive().await?;
        // A claim whose answer was lost is this worker's own, and no lane of it knows: only a look begins lanes.
        let lanes = self.lanes.lock().map(|lanes| lanes.clone()).unwrap_or_default();
        let is_held = |worker: &str, channel: &(String, String)| {
            if worker == self.worker { lanes.contains(channel) } else { alive.iter().any(|id| id == worker) }
        };
        let (batches, leases) = self.store.abandoned(is_held).await?;
        for batch in batches {
            self.take_over(&batch).await?;
        }
        for (part, worker) in leases {
            self.take_over_deferred(part, &worker).await?;
        }
        if !self.lease.is_held() || self.lease.is_halted() {
            return Ok(());
        }
        self.look_at_mailings(&alive).await?;
        for channel in self.store.channels_with_work(self.clock.now()).await? {
            if self.health.is_resting(&channel) {
                continue;
            }
            let is_new = self.lanes.lock().is_ok_and(|mut lanes| lanes.insert(channel.clone()));
            if is_new {
                let dispatcher = self.clone();
                tokio::spawn(async move {
                    Lane { dispatcher: dispatcher.clone(), channel: channel.clone() }.run().await;
                    if let Ok(mut lanes) = dispatcher.lanes.lock() {
                        lanes.remove(&channel);
                    }
                    dispatcher.wake.notify_one();
                });
            }
        }
        Ok(())
    }

    /// Writes the files of letters that nobody else writes.
    async fn look_at_mailings(self: &Arc<Self>, alive: &[String]) -> store::Result<()> {
        let Some(places) = &self.places else { return Ok(()) };
        for mailing in self.store.mailings_due(self.clock.now()).await? {
            let is_held = mailing.worker != self.worker && alive.contains(&mailing.worker);
            let of = (mailing.run_no, mailing.step_no);
            if is_held || !self.presses.lock().is_ok_and(|mut own| own.insert(of)) {
                continue;
            }
            let (dispatcher, places) = (self.clone(), places.clone());
            tokio::spawn(async move {
                Press { dispatcher: dispatcher.clone(), places, mailing }.run().await;
                if let Ok(mut own) = dispatcher.presses.lock() {
                    own.remove(&of);
                }
                dispatcher.wake.notify_one();
            });
        }
        Ok(())
    }

    /// The other workers whose beat moved lately, by this process' own clock.
    async fn alive(&self) -> store::Result<Vec<String>> {
        let mut alive = vec![];
        if self.lease.is_alone() {
            return Ok(alive);
        }
        let found = self.store.beats().await?;
        let Ok(mut beats) = self.beats.lock() else { return Ok(alive) };
        for (worker, beat) in found {
            let seen = beats.entry(worker.clone()).or_insert((beat, Instant::now()));
            if seen.0 != beat {
                *seen = (beat, Instant::now());
            }
            if seen.1.elapsed() < self.lease.length() {
                alive.push(worker);
            }
        }
        Ok(alive)
    }

    /// A dead worker's batch: unknown fates are in doubt, the rest is left to whoever claims next.
    async fn take_over(&self, dead: &Batch) -> store::Result<()> {
        let (run, may_doubt, resends) = self.settling(dead.part).await?;
        let last = self.store.last_attempted(dead).await?;
        let mut tx = self.store.begin().await?;
        let Some(batch) = tx.take_over(dead, &self.worker).await? else { return Ok(()) };
        let mut next = batch.first_seq;
        if let Some(last) = last
            && may_doubt
        {
            record::doubt(&mut tx, batch.part, ((batch.first_seq, last), Whose::Batch), resends, self.clock.now())
                .await?;
            next = last + 1;
        }
        if next > batch.last_seq {
            tx.close_batch(&batch).await?;
        } else {
            tx.move_on(&batch, next).await?;
        }
        tx.commit().await?;
        tracing::info!(run = run.name, shard = batch.part.shard, first = batch.first_seq, "took over a batch");
        self.watch.progressed(&run.namespace, &run.name);
        Ok(())
    }

    async fn take_over_deferred(&self, part: Part, dead: &str) -> store::Result<()> {
        let (run, may_doubt, resends) = self.settling(part).await?;
        let mut tx = self.store.begin().await?;
        let leased = tx.leased(part, dead).await?;
        let mut back = vec![];
        for (seq, _) in leased {
            let doubt = if may_doubt { tx.unknown_fates(part, (seq, seq), Whose::Lease).await? } else { vec![] };
            if doubt.is_empty() {
                back.push(seq);
                continue;
            }
            record::doubt(&mut tx, part, ((seq, seq), Whose::Lease), resends, self.clock.now()).await?;
            if !resends {
                tx.end_deferred(part, &[seq], dead).await?;
            }
        }
        tx.give_back(part, &back, dead).await?;
        tx.commit().await?;
        self.watch.progressed(&run.namespace, &run.name);
        Ok(())
    }

    /// The job of a claimed part.
    ///
    /// # Errors
    /// [`store::Error::Refused`] while the channel's secret is missing.
    pub(super) async fn job(&self, part: Part) -> store::Result<Arc<Job>> {
        let lost = |what: &str| store::Error::Internal(format!("{what} of run {} is gone", part.run_no));
        let (run, pinned, channel) = self.channel_of(part).await?;
        let spec = pinned.0.channels.get(&channel).ok_or_else(|| lost("a channel"))?;
        let secret = match spec.way().secret() {
            Some(reference) => self.secrets.secret(&run.namespace, &reference.name).await,
            None => None,
        };
        if spec.is_heard() {
            self.hear().await?;
        }
        let provider = self.providers.provider(&run.namespace, &channel, spec, secret.as_ref());
        let provider = provider.map_err(|m| store::Error::Refused(format!("channel {channel}: {m}")))?;
        let signer = self.signer(&run.namespace, &channel, spec).await?;
        let secret = self.secret.get_or_try_init(|| self.store.secret()).await?;
        let expires = self.expires(part).await?;
        let occasion = Occasion { expires: Some(expires), ..Occasion::of(&run) };
        let letter = Letter::new(&occasion, pinned.clone(), part.step_no, signer, secret)?;
        let sheet = if self.providers.makes_files() { Sheet::of(&letter) } else { None };
        let job = Parts {
            run,
            letter,
            expires,
            sheet,
            provider,
            gate: self.providers.gate().clone(),
            clock: self.clock,
            lease: self.lease.clone(),
            room: self.room.clone(),
        };
        Ok(Arc::new(Job::new(job)?))
    }

    /// What signs a channel's messages. What goes to a folder is signed if it can be.
    async fn signer(&self, namespace: &str, channel: &str, spec: &ChannelSpec) -> store::Result<Option<Signer>> {
        match signer(self.secrets.as_ref(), namespace, spec).await {
            Err(_) if !self.providers.gate().is_open() => Ok(None),
            signer => signer.map_err(|m| store::Error::Refused(format!("channel {channel}: {m}"))),
        }
    }

    pub(super) async fn channel_of(&self, part: Part) -> store::Result<(Run, Arc<(Bundle, Plan)>, String)> {
        let lost = |what: &str| store::Error::Internal(format!("{what} of run {} is gone", part.run_no));
        let run = self.store.run_by_no(part.run_no).await?.ok_or_else(|| lost("the row"))?;
        let pinned = self.pinned(&run).await?;
        let found = pinned.1.message_numbered(part.step_no);
        let channel = found.map(|(_, message)| message.channel.clone()).ok_or_else(|| lost("a step"))?;
        Ok((run, pinned, channel))
    }

    /// Whose part it is, whether an attempt of it can have an unknown fate, and whether it is then made again.
    async fn settling(&self, part: Part) -> store::Result<(Run, bool, bool)> {
        let (run, pinned, channel) = self.channel_of(part).await?;
        let may_doubt = pinned.0.channels.get(&channel).is_some_and(|spec| self.providers.may_doubt(spec));
        let resends = pinned.1.messages().any(|(no, _, message)| no == part.step_no && message.resends);
        Ok((run, may_doubt, resends))
    }

    async fn expires(&self, part: Part) -> store::Result<Timestamp> {
        let sql = "SELECT expires_us FROM run_channel WHERE run_no = $1 AND step_no = $2";
        let row = self.store.fetch_one(Sql::new(sql).bind(part.run_no).bind(part.step_no)).await?;
        Ok(row.map(|row| row.get(0)).transpose()?.map_or(Timestamp::MAX, store::instant))
    }

    /// The revision that a run pinned, compiled once per process.
    async fn pinned(&self, run: &Run) -> store::Result<Arc<(Bundle, Plan)>> {
        if let Some(found) = self.pinned.lock().ok().and_then(|p| p.get(&run.revision).cloned()) {
            return Ok(found);
        }
        let mut pinned = load_pinned(&self.store, run).await?;
        if let Ok(known) = self.pinned.lock() {
            // Revisions attach much the same.
            let enclosures = known.values().flat_map(|known| &known.0.enclosures);
            pinned.0.enclosures = enclosures.map(|(sha256, body)| (sha256.clone(), body.clone())).collect();
        }
        let attached = pinned.0.attached();
        pinned.0.enclosures.retain(|sha256, _| attached.contains(sha256));
        enclosure::fetch(&self.store, &mut pinned.0).await?;
        let pinned = Arc::new(pinned);
        if let Ok(mut known) = self.pinned.lock() {
            let bodies: Enclosures = known.values().flat_map(|known| known.0.enclosures.clone()).collect();
            // Few revisions are in flight at once; the cache is emptied rather than aged.
            if known.len() >= 64 || bodies.values().map(|body| body.len()).sum::<usize>() > ATTACHED_BYTES_MAX {
                known.clear();
            }
            known.insert(run.revision.clone(), pinned.clone());
        }
        Ok(pinned)
    }
}

/// What signs a channel's messages, if it declares DKIM.
///
/// # Errors
/// A sentence: the Secret is missing, or its key is none.
pub async fn signer(secrets: &dyn Secrets, namespace: &str, spec: &ChannelSpec) -> Result<Option<Signer>, String> {
    let Some(dkim) = spec.email.as_ref().and_then(|email| email.dkim.as_ref()) else { return Ok(None) };
    let secret = secrets.secret(namespace, &dkim.secret_ref.name).await;
    match secret.as_ref().and_then(|secret| secret.get("key")) {
        Some(key) => Signer::new(&dkim.domain, &dkim.selector, key).map(Some).map_err(|problem| problem.to_string()),
        None => Err(format!("there is no Secret `{}` with a key `key`", &*dkim.secret_ref.name)),
    }
}

/// The bundle and the plan of a run's pinned revision.
pub async fn load_pinned(store: &Store, run: &Run) -> store::Result<(Bundle, Plan)> {
    let text = store.revision(&run.revision).await?;
    let text = text.ok_or_else(|| store::Error::Internal(format!("revision {} is gone", run.revision)))?;
    let mut bundle: Bundle = serde_json::from_str(&text).map_err(|e| store::Error::Internal(e.to_string()))?;
    if bundle.name != run.campaign {
        // Its campaign was renamed while it ran, and all that is kept under the name it pinned has gone over to the other.
        bundle.campaign.formerly.push(run.campaign.as_str().into());
    }
    let plan = bundle.compile(store.dialect());
    let plan =
        plan.map_err(|found| store::Error::Internal(found.first().map(ToString::to_string).unwrap_or_default()))?;
    Ok((bundle, plan))
}
