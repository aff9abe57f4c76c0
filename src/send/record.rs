//! The recorder: outcomes are appended in groups, and only then may as many further attempts be made.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc::UnboundedReceiver};

use super::{
    channel::{Delivery, Done, Refusal},
    dispatch::Watch,
    health::{self, ChannelName, Health},
    job::Job,
};
use crate::{
    api::{medium::Medium, policy::SuppressionScope},
    feedback::{
        mail::{Class, Status},
        stop::{Stopped, withdraw_sender},
    },
    store::{
        self, Store, Tx,
        keyed::Keyed,
        ledger::{Batch, Deferral, IN_DOUBT, NOT_TRIED, Outcome, Part, Recorded, Standing, Whose},
        suppression::{Cause, Suppressed, WHOLE_STORE},
    },
};

/// The first retry comes after this, each further one after twice the time.
const RETRY_FIRST: SignedDuration = SignedDuration::from_secs(30);
const RETRY_MAX: SignedDuration = SignedDuration::from_hours(1);
/// A store that does not take outcomes is asked again until it does: they are the only trace of what was sent.
const RECORD_RETRY: Duration = Duration::from_millis(500);
/// Outcomes of one commit, at most.
const GROUP_MAX: usize = 1_000;
/// A commit waits for company, so that its cost is shared: at most so often, and not longer than until a group of
/// attempts can be made in the place of those that it ends.
const GATHER: Duration = Duration::from_millis(5);
const GATHERS_MAX: usize = 4;

/// What a worker holds in the store, until all of it has an outcome or waits again.
pub struct Held {
    pub job: Arc<Job>,
    pub claim: Hold,
    /// Messages without an outcome; who brings it to zero closes the batch.
    pub left: AtomicI64,
}

#[derive(Clone, Debug)]
pub enum Hold {
    Range(Batch),
    Due(Part, String),
}

impl Held {
    pub fn part(&self) -> Part {
        match &self.claim {
            Hold::Range(batch) => batch.part,
            Hold::Due(part, _) => *part,
        }
    }

    /// So many of its messages ended or were given back. Who ends the last one closes the batch.
    pub async fn ended(&self, store: &Store, count: usize) {
        let count = i64::try_from(count).unwrap_or(0);
        let Hold::Range(batch) = &self.claim else { return };
        if self.left.fetch_sub(count, Ordering::SeqCst) > count {
            return;
        }
        while let Err(error) = close(store, batch).await {
            tracing::warn!(%error, "a batch is not closed; trying again");
            tokio::time::sleep(RECORD_RETRY).await;
        }
    }
}

async fn close(store: &Store, batch: &Batch) -> store::Result<()> {
    let mut tx = store.begin().await?;
    tx.close_batch(batch).await?;
    tx.commit().await
}

/// A message between its attempt and its outcome.
pub struct InFlight {
    pub held: Arc<Held>,
    pub seq: i64,
    pub item: String,
    /// Where it goes.
    pub to: String,
    pub attempt: i64,
    /// Why it could not be rendered, and was never handed to the provider.
    pub fault: Option<String>,
    /// Its place in memory, where it is long.
    pub _room: Option<OwnedSemaphorePermit>,
}

/// The messages under way, by tag.
pub type Flights = Arc<Mutex<HashMap<u64, InFlight>>>;

pub struct Recorder {
    pub store: Store,
    pub watch: Arc<dyn Watch>,
    pub health: Arc<Health>,
    pub channel: ChannelName,
    pub window: Arc<Semaphore>,
    /// How many attempts are made at once.
    pub group: Arc<AtomicUsize>,
    pub flights: Flights,
    pub done: UnboundedReceiver<Done>,
}

/// The outcomes of one hold in one group.
struct Section {
    held: Arc<Held>,
    outcomes: Vec<Recorded>,
    deferrals: Vec<Deferral>,
    /// Addresses at which nothing arrives any more, as their server says, and how it says it.
    dead: Vec<(String, Cause)>,
    /// Addresses whose owners want nothing more of the sender, as the provider knows from them, and when it said so.
    opted_out: Vec<(String, Timestamp)>,
}

impl Section {
    fn of(held: Arc<Held>) -> Self {
        Self { held, outcomes: vec![], deferrals: vec![], dead: vec![], opted_out: vec![] }
    }

    fn recorded(&self) -> usize {
        self.outcomes.len() + self.deferrals.len()
    }
}

impl Recorder {
    /// Records until the feeder and every delivery are done.
    pub async fn run(mut self) {
        let mut done = vec![];
        while self.done.recv_many(&mut done, GROUP_MAX).await > 0 {
            self.gather(&mut done).await;
            self.health.note(&self.channel, done.iter().map(|d| &d.delivery));
            let sections = self.sort(&mut done);
            self.record(sections).await;
        }
    }

    /// Waits for more that ends soon, as long as something is under way.
    async fn gather(&mut self, done: &mut Vec<Done>) {
        let enough = self.group.load(Ordering::Relaxed).clamp(1, GROUP_MAX);
        for _ in 0..GATHERS_MAX {
            if done.len() >= enough || done.len() >= self.under_way() {
                return;
            }
            tokio::time::sleep(GATHER).await;
            while done.len() < GROUP_MAX
                && let Ok(more) = self.done.try_recv()
            {
                done.push(more);
            }
        }
    }

    fn under_way(&self) -> usize {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn sort(&self, done: &mut Vec<Done>) -> Vec<Section> {
        let mut sections: Vec<Section> = vec![];
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        for Done { tag, delivery } in done.drain(..) {
            let Some(flight) = flights.remove(&tag) else { continue };
            let known = sections.iter().position(|s| Arc::ptr_eq(&s.held, &flight.held));
            let index = known.unwrap_or_else(|| {
                sections.push(Section::of(flight.held.clone()));
                sections.len() - 1
            });
            if let Some(cause) = death(flight.held.job.medium(), &delivery) {
                sections[index].dead.push((flight.to.clone(), cause));
            }
            let now = flight.held.job.clock.now();
            if matches!(delivery, Delivery::Refused { reason: Refusal::OptedOut, .. }) {
                sections[index].opted_out.push((flight.to.clone(), now));
            }
            match judge(flight, delivery, now) {
                Ok(outcome) => sections[index].outcomes.push(outcome),
                Err(deferral) => sections[index].deferrals.push(deferral),
            }
        }
        sections
    }

    /// Appends outcomes. They are kept until the store takes them, or the process dies and they are in doubt.
    async fn record(&self, sections: Vec<Section>) {
        let mut is_again = false;
        while let Err(error) = self.try_record(&sections, is_again).await {
            tracing::warn!(%error, "the store does not take outcomes; trying again");
            is_again = true;
            tokio::time::sleep(RECORD_RETRY).await;
        }
        for section in &sections {
            let count = section.recorded();
            self.window.add_permits(count);
            section.held.ended(&self.store, count).await;
            let run = &section.held.job.run;
            self.watch.progressed(&run.namespace, &run.name);
        }
    }

    async fn try_record(&self, sections: &[Section], is_again: bool) -> store::Result<()> {
        let has_dead = sections.iter().any(|section| !section.dead.is_empty());
        let addresses = if has_dead { Some(self.store.address_key().await?) } else { None };
        // Before the outcomes: who is told of one may count on the other.
        for section in sections {
            self.withdraw(section).await?;
        }
        let mut tx = self.store.begin().await?;
        for section in sections {
            if is_again && self.is_recorded(&mut tx, section).await? {
                // The first try was committed and only its answer was lost.
                return Ok(());
            }
            self.put(&mut tx, section).await?;
            if let Some(addresses) = &addresses {
                suppress(&mut tx, section, addresses).await?;
            }
        }
        tx.commit().await
    }

    /// As by a `STOP` that came here: it did come, only to the provider.
    async fn withdraw(&self, section: &Section) -> store::Result<()> {
        let job = &section.held.job;
        let spec = job.letter.pinned.0.channels.get(&self.channel.1);
        let source = spec.map_or("provider", |spec| spec.way().word());
        for (address, at) in &section.opted_out {
            let (namespace, channel, medium) = (&*self.channel.0, &*self.channel.1, job.letter.sending()?.medium);
            let said = Stopped { namespace, channel, medium, address, source, text: None, at: *at };
            withdraw_sender(&self.store, &said, *at).await?;
        }
        Ok(())
    }

    async fn is_recorded(&self, tx: &mut Tx, section: &Section) -> store::Result<bool> {
        let part = section.held.part();
        if let Some(first) = section.outcomes.first() {
            return tx.has_outcome(part, first.seq).await;
        }
        match section.deferrals.first() {
            Some(first) => tx.has_failed(part, first.seq, first.attempts).await,
            None => Ok(false),
        }
    }

    async fn put(&self, tx: &mut Tx, section: &Section) -> store::Result<()> {
        let (held, part) = (&section.held, section.held.part());
        let now = held.job.clock.now();
        match &held.claim {
            Hold::Range(batch) => {
                if tx.standing(batch).await? == Standing::Lost {
                    // Another worker took the batch over: it has made these messages `InDoubt`, and that stands.
                    tracing::warn!(run = held.job.run.name, shard = part.shard, "a batch was taken over");
                    return Ok(());
                }
            }
            Hold::Due(part, worker) => {
                let leased: Vec<i64> = tx.leased(*part, worker).await?.into_iter().map(|(seq, _)| seq).collect();
                let is_leased = |seq: i64| leased.binary_search(&seq).is_ok();
                let all = section.outcomes.iter().map(|o| o.seq).chain(section.deferrals.iter().map(|d| d.seq));
                if !all.clone().all(is_leased) {
                    tracing::warn!(run = held.job.run.name, shard = part.shard, "deferred messages were taken over");
                    return Ok(());
                }
                let ended: Vec<i64> = section.outcomes.iter().map(|o| o.seq).collect();
                tx.end_deferred(*part, &ended, worker).await?;
            }
        }
        tx.put_outcomes(part, &section.outcomes, now).await?;
        if held.job.provider.is_told_by_receipt() {
            let of = (self.channel.0.as_str(), self.channel.1.as_str());
            tx.put_receipts(of, &receipts(section), now).await?;
        }
        tx.put_deferrals(part, &section.deferrals, now).await
    }
}

/// Each receipt of what was sent, and the message's reference. Several of one message stand with a blank between.
fn receipts(section: &Section) -> Vec<(String, String)> {
    let (part, letter) = (section.held.part(), &section.held.job.letter);
    let sent = section.outcomes.iter().filter(|outcome| outcome.outcome == Outcome::Sent);
    let of = |outcome: &Recorded| {
        let reference = letter.reference((part.shard, outcome.seq));
        let ids: Vec<String> = outcome.detail.iter().flat_map(|detail| detail.split(' ')).map(str::to_owned).collect();
        ids.into_iter().filter(|id| !id.is_empty()).map(move |id| (id, reference.clone()))
    };
    sent.flat_map(of).collect()
}

/// How a provider says that the address is none, or is one no longer: of mail it is a hard bounce, only sooner.
fn death(medium: Medium, delivery: &Delivery) -> Option<Cause> {
    match delivery {
        Delivery::Refused { reason: Refusal::Unregistered, .. } => Some(Cause::Unregistered),
        Delivery::Refused { reason: Refusal::RecipientRefused | Refusal::DataRefused, detail }
            if medium == Medium::Email =>
        {
            Class::of(Status::find(detail), detail).is_hard().then_some(Cause::HardBounce)
        }
        _ => None,
    }
}

async fn suppress(tx: &mut Tx, section: &Section, addresses: &Keyed) -> store::Result<()> {
    let job = &section.held.job;
    let namespace = match job.letter.pinned.0.suppression().scope {
        SuppressionScope::Store => WHOLE_STORE.to_owned(),
        SuppressionScope::Namespace => job.run.namespace.clone(),
    };
    let suppressed = |(address, cause): &(String, Cause)| Suppressed {
        namespace: namespace.clone(),
        medium: job.medium().word().to_owned(),
        hash: addresses.of_address(address),
        cause: *cause,
        since: job.clock.now(),
        until: None,
    };
    tx.suppress(&section.dead.iter().map(suppressed).collect::<Vec<_>>()).await
}

fn judge(flight: InFlight, delivery: Delivery, now: Timestamp) -> Result<Recorded, Deferral> {
    let InFlight { held, seq, item, attempt, fault, .. } = flight;
    let expires = held.job.expires;
    let record = |outcome, reason: Option<&str>, detail: String| {
        let detail = (!detail.is_empty()).then_some(detail);
        Ok(Recorded { seq, item, outcome, reason: reason.map(str::to_owned), detail })
    };
    if let Some(fault) = fault {
        return record(Outcome::Excluded, Some("RenderError"), fault);
    }
    match delivery {
        Delivery::Sent { receipt } => record(Outcome::Sent, None, receipt),
        Delivery::Refused { reason, detail } => record(Outcome::Failed, Some(reason.as_str()), detail),
        Delivery::InDoubt { .. } if held.job.resends && now <= expires => {
            Err(Deferral { seq, attempts: attempt, due: now, reason: IN_DOUBT.to_owned() })
        }
        Delivery::InDoubt { detail } => record(Outcome::InDoubt, Some(IN_DOUBT), detail),
        Delivery::Unsent if now > expires => record(Outcome::Expired, Some("Expired"), String::new()),
        Delivery::Unsent => Err(Deferral { seq, attempts: attempt, due: now, reason: NOT_TRIED.to_owned() }),
        Delivery::Later { reason, detail, after } => {
            let doublings = u32::try_from(attempt - 1).unwrap_or(0).min(16);
            let wait = RETRY_FIRST.saturating_mul(2_i32.saturating_pow(doublings)).min(RETRY_MAX);
            // Who was not reached because nobody was is next when the channel answers again.
            let wait = if health::is_the_providers(reason) { SignedDuration::ZERO } else { wait };
            // The provider's word, where it has one.
            let due = now.checked_add(after.unwrap_or(wait)).unwrap_or(Timestamp::MAX);
            if due > expires {
                return record(Outcome::Failed, Some(reason.as_str()), detail);
            }
            Err(Deferral { seq, attempts: attempt, due, reason: reason.as_str().to_owned() })
        }
    }
}

/// Deals with what a worker attempted that is gone, and nobody knows the fate of.
pub async fn doubt(
    tx: &mut Tx,
    part: Part,
    (range, of): ((i64, i64), Whose),
    resends: bool,
    now: Timestamp,
) -> store::Result<()> {
    let unknown = tx.unknown_fates(part, range, of).await?;
    if resends {
        let again: Vec<(i64, i64)> = unknown.into_iter().map(|(seq, _, attempt)| (seq, attempt)).collect();
        return tx.put_resends(part, &again, now).await;
    }
    let in_doubt = |(seq, item, _)| Recorded {
        seq,
        item,
        outcome: Outcome::InDoubt,
        reason: Some(IN_DOUBT.to_owned()),
        detail: Some("the worker stopped".to_owned()),
    };
    let records: Vec<Recorded> = unknown.into_iter().map(in_doubt).collect();
    tx.put_outcomes(part, &records, now).await
}
