//! One lane per channel: claim, attempt, render, hand over; the recorder does the rest.
//!
//! ```text
//! feeder ── groups of attempts, committed ──> sender ── messages ──> provider ── deliveries ──> recorder
//!    ^                                                                                             │
//!    └────────────────── the window: attempts without an outcome, never more than its size ────────┘
//! ```

use std::{
    collections::BTreeSet,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
};

use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc};

use super::{
    channel::{Delivery, Done},
    dispatch::{Dispatcher, LOOK},
    job::{Job, Ready},
    pace::Slots,
    record::{self, Flights, Held, Hold, InFlight, Recorder},
};
use crate::store::{
    self, Store,
    claims::Claim,
    ledger::{Batch, Further, Group, Part, Standing, Whose},
};

/// Of one claim: a row of the store for so many messages.
const RANGE_MAX: i64 = 2_000;
/// An outbox is never in doubt: its window is as large as a commit is worth.
const OUTBOX_WINDOW: usize = 2_000;
/// The window is filled in so many groups, so that one is delivered while the next is being committed.
const GROUPS: usize = 4;
/// Groups that are committed and not yet rendered.
const AHEAD: usize = 2;

pub(super) struct Lane {
    pub dispatcher: Arc<Dispatcher>,
    pub channel: (String, String),
}

/// A group whose attempts are committed.
struct Attempted {
    held: Arc<Held>,
    ready: Vec<Ready>,
    /// When the attempts were committed.
    at: Timestamp,
    slots: Option<Slots>,
}

enum Fed {
    All,
    /// Stopped, lost or not possible now: the lane ends, and another look begins it again.
    Part,
}

impl Lane {
    /// Works until there is nothing to claim and every delivery is recorded.
    pub async fn run(self) {
        let store = self.dispatcher.store.clone();
        let (groups, attempted) = mpsc::channel(AHEAD);
        let (tell, done) = mpsc::unbounded_channel();
        let flights = Flights::default();
        let window = Arc::new(Semaphore::new(0));
        let group = Arc::new(AtomicUsize::new(1));
        let recorder = Recorder {
            store: store.clone(),
            watch: self.dispatcher.watch.clone(),
            health: self.dispatcher.health.clone(),
            channel: self.channel.clone(),
            window: window.clone(),
            group: group.clone(),
            flights: flights.clone(),
            done,
        };
        let recording = tokio::spawn(recorder.run());
        let sending = tokio::spawn(send(attempted, flights, tell));
        let mut feeder = Feeder { lane: &self, store, window, window_size: 0, group, groups };
        if let Err(error) = feeder.feed().await {
            tracing::warn!(channel = self.channel.1, %error, "the lane waits");
            tokio::time::sleep(LOOK).await;
        }
        drop(feeder);
        for task in [sending, recording] {
            if let Err(error) = task.await {
                tracing::error!(channel = self.channel.1, %error, "a lane broke");
            }
        }
    }
}

struct Feeder<'a> {
    lane: &'a Lane,
    store: Store,
    window: Arc<Semaphore>,
    window_size: usize,
    group: Arc<AtomicUsize>,
    groups: mpsc::Sender<Attempted>,
}

impl Feeder<'_> {
    async fn feed(&mut self) -> store::Result<()> {
        let dispatcher = &self.lane.dispatcher;
        let of = (self.lane.channel.0.as_str(), self.lane.channel.1.as_str());
        while !dispatcher.lease.is_halted() && !self.is_resting() {
            let group = i64::try_from(self.group(None)).unwrap_or(1);
            let now = dispatcher.clock.now();
            let Some(claim) =
                self.store.claim(of, (&dispatcher.worker, dispatcher.beat()), (group, RANGE_MAX), now).await?
            else {
                return Ok(());
            };
            let job = match dispatcher.job(claim.part()).await {
                Ok(job) => job,
                Err(error) => {
                    // Nobody was tried: it waits until the secret is there.
                    self.give_back(&claim).await?;
                    return Err(error);
                }
            };
            self.resize(&job).await;
            let fed = match claim {
                Claim::Range(batch) => self.feed_range(job, batch).await?,
                Claim::Due(part, seqs) => self.feed_due(job, part, seqs).await?,
            };
            if matches!(fed, Fed::Part) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn is_resting(&self) -> bool {
        self.lane.dispatcher.health.is_resting(&self.lane.channel)
    }

    /// How many messages to attempt at once.
    fn group(&self, job: Option<&Job>) -> usize {
        let chunk = job.and_then(|job| job.limits.chunk()).and_then(|n| usize::try_from(n).ok());
        (self.window_size / GROUPS).min(chunk.unwrap_or(usize::MAX)).max(1)
    }

    /// What a crash can leave in doubt is bounded by the channel's own settings.
    async fn resize(&mut self, job: &Job) {
        let size = if job.provider.may_doubt() { job.attempts_max() } else { OUTBOX_WINDOW };
        while self.window_size > size {
            if let Ok(permit) = self.window.acquire().await {
                permit.forget();
            }
            self.window_size -= 1;
        }
        self.window.add_permits(size - self.window_size);
        self.window_size = size;
        self.group.store(self.group(None), Ordering::Relaxed);
    }

    async fn give_back(&self, claim: &Claim) -> store::Result<()> {
        let dispatcher = &self.lane.dispatcher;
        match claim {
            Claim::Range(batch) => {
                let mut tx = self.store.begin().await?;
                tx.leave(batch, batch.first_seq).await?;
                tx.commit().await
            }
            Claim::Due(part, seqs) => {
                self.store.give_back_untried(*part, seqs, &dispatcher.worker, dispatcher.clock.now()).await
            }
        }
    }

    async fn feed_range(&mut self, job: Arc<Job>, batch: Batch) -> store::Result<Fed> {
        let size = batch.last_seq - batch.first_seq + 1;
        let held = Arc::new(Held { job, claim: Hold::Range(batch.clone()), left: AtomicI64::new(size) });
        let mut next = batch.first_seq;
        let fed = self.feed_groups(&held, &batch, &mut next).await;
        if !matches!(fed, Ok(Standing::Open | Standing::Lost)) {
            self.leave(&held, &batch, next).await;
        }
        Ok(if fed? == Standing::Open { Fed::All } else { Fed::Part })
    }

    /// Attempts a batch group by group; `next` is the first that was not attempted.
    async fn feed_groups(&mut self, held: &Arc<Held>, batch: &Batch, next: &mut i64) -> store::Result<Standing> {
        // Somebody had it before and may have attempted a part of it.
        let attempted = if batch.fence > 1 { self.store.last_attempted(batch).await? } else { None };
        if let Some(last) = attempted
            && held.job.provider.may_doubt()
        {
            let mut tx = self.store.begin().await?;
            record::doubt(
                &mut tx,
                batch.part,
                ((batch.first_seq, last), Whose::Batch),
                held.job.resends,
                held.job.clock.now(),
            )
            .await?;
            tx.commit().await?;
            *next = last + 1;
            held.ended(&self.store, usize::try_from(*next - batch.first_seq).unwrap_or(0)).await;
        } else if let Some(last) = attempted
            && held.job.sheet.is_some()
        {
            // What was attempted is collected: one commit did both.
            *next = last + 1;
            held.ended(&self.store, usize::try_from(*next - batch.first_seq).unwrap_or(0)).await;
        }
        while *next <= batch.last_seq {
            // A channel that never doubts makes it again: the same file, under the same name.
            let again = attempted.filter(|last| *next <= *last);
            let end = again
                .unwrap_or(batch.last_seq)
                .min(*next + i64::try_from(self.group(Some(&held.job))).unwrap_or(1) - 1);
            let group = if again.is_some() { Group::Again(*next, end) } else { Group::First(*next, end) };
            match self.group_of(held, batch, group).await? {
                Standing::Open => *next = end + 1,
                other => return Ok(other),
            }
        }
        Ok(Standing::Open)
    }

    /// Leaves what was not attempted to whoever claims next; asked until the store has taken it.
    async fn leave(&self, held: &Held, batch: &Batch, next: i64) {
        let left = async || {
            let mut tx = self.store.begin().await?;
            let behind = tx.withdraw(batch, next, held.job.clock.now()).await?;
            tx.leave(batch, behind).await?;
            tx.commit().await?;
            Ok::<_, store::Error>(behind)
        };
        let behind = loop {
            match left().await {
                Ok(behind) => break behind,
                Err(error) => tracing::warn!(%error, "a batch is not given back; trying again"),
            }
            tokio::time::sleep(LOOK).await;
        };
        if behind > batch.first_seq {
            held.ended(&self.store, usize::try_from(batch.last_seq - next + 1).unwrap_or(0)).await;
        }
    }

    /// Commits the attempts of a group and passes its messages on.
    async fn group_of(&mut self, held: &Arc<Held>, batch: &Batch, group: Group) -> store::Result<Standing> {
        let (first, last) = match &group {
            Group::First(first, last) | Group::Again(first, last) => (*first, *last),
            Group::Deferred(_) => return Err(store::Error::Internal("a batch holds no deferred messages".to_owned())),
        };
        let count = usize::try_from(last - first + 1).unwrap_or(0);
        self.take(count).await;
        if self.is_resting() {
            self.window.add_permits(count);
            return Ok(Standing::Held);
        }
        let mut is_again = false;
        let (ready, at) = loop {
            match self.attempt(held, batch, &group, is_again).await {
                Ok(Ok(made)) => break made,
                Ok(Err(standing)) => {
                    self.window.add_permits(count);
                    return Ok(standing);
                }
                // The commit may have come through and only its answer be lost; the next try looks.
                Err(error) if error.is_passing() && held.job.lease.is_held() => {
                    tracing::warn!(%error, "attempts are not committed; trying again");
                    is_again = true;
                    tokio::time::sleep(LOOK).await;
                }
                Err(error) => {
                    self.window.add_permits(count);
                    return Err(error);
                }
            }
        };
        self.window.add_permits(count - ready.len());
        held.job.tell_collected(&*self.lane.dispatcher.watch);
        // The others have their outcome, or wait among the deferred.
        held.ended(&self.store, count - ready.len()).await;
        self.pass_on(held, ready, at).await;
        Ok(Standing::Open)
    }

    async fn attempt(
        &self,
        held: &Held,
        batch: &Batch,
        group: &Group,
        is_again: bool,
    ) -> store::Result<Result<(Vec<Ready>, Timestamp), Standing>> {
        let (job, worker) = (&held.job, &self.lane.dispatcher.worker);
        let mut tx = self.store.begin().await?;
        match tx.standing(batch).await? {
            Standing::Open => {}
            other => return Ok(Err(other)),
        }
        let now = job.clock.now();
        let Group::First(first, last) = group else {
            let (ready, ended) = job.decide(&mut tx, batch.part, group, worker, now).await?;
            let ready = job.put_aside(&mut tx, batch.part, ready, now).await?;
            tx.put_further_attempts(batch.part, &further(job, &ready)?, worker, now).await?;
            tx.put_outcomes(batch.part, &ended, now).await?;
            tx.commit().await?;
            return Ok(Ok((ready, now)));
        };
        if is_again && let Some((at, kept)) = tx.attempted(batch.part, (*first, *last), worker).await? {
            let (ready, _) = job.decide(&mut tx, batch.part, &Group::Again(*first, *last), worker, now).await?;
            // They are to be made as they are committed: under that number, with the words that are kept.
            let ready = ready.into_iter().map(|message| message.as_committed(kept.as_deref())).collect();
            return Ok(Ok((job.handed_over(ready), at)));
        }
        let (ready, mut ended) = job.decide(&mut tx, batch.part, group, worker, now).await?;
        let ready = job.put_aside(&mut tx, batch.part, ready, now).await?;
        ended.extend(job.collect(&mut tx, batch.part, &ready, now).await?);
        tx.put_outcomes(batch.part, &ended, now).await?;
        tx.put_attempts(batch.part, (*first, *last), job.keep(ready.iter())?, worker, now).await?;
        tx.commit().await?;
        Ok(Ok((job.handed_over(ready), now)))
    }

    async fn feed_due(&mut self, job: Arc<Job>, part: Part, seqs: Vec<i64>) -> store::Result<Fed> {
        let worker = self.lane.dispatcher.worker.clone();
        let count = seqs.len();
        self.take(count).await;
        let (ready, at) = match self.attempt_due(&job, part, &seqs, &worker).await {
            Ok(Some(made)) => made,
            other => {
                self.window.add_permits(count);
                while let Err(error) = self.store.give_back_untried(part, &seqs, &worker, job.clock.now()).await {
                    tracing::warn!(%error, "deferred messages are not given back; trying again");
                    tokio::time::sleep(LOOK).await;
                }
                return other.map(|_| Fed::Part);
            }
        };
        self.window.add_permits(count - ready.len());
        job.tell_collected(&*self.lane.dispatcher.watch);
        let held = Arc::new(Held { job, claim: Hold::Due(part, worker), left: AtomicI64::new(0) });
        self.pass_on(&held, ready, at).await;
        Ok(Fed::All)
    }

    /// None: not now.
    async fn attempt_due(
        &self,
        job: &Job,
        part: Part,
        seqs: &[i64],
        worker: &str,
    ) -> store::Result<Option<(Vec<Ready>, Timestamp)>> {
        let mut tx = self.store.begin().await?;
        if self.is_resting() || !tx.is_open(part).await? {
            return Ok(None);
        }
        let now = job.clock.now();
        let (ready, ended) = job.decide(&mut tx, part, &Group::Deferred(seqs.to_vec()), worker, now).await?;
        let ready = job.put_aside(&mut tx, part, ready, now).await?;
        let faults = job.collect(&mut tx, part, &ready, now).await?;
        let mut over: BTreeSet<i64> = ended.iter().chain(&faults).map(|record| record.seq).collect();
        if job.sheet.is_some() {
            over.extend(ready.iter().map(|message| message.seq));
        }
        tx.put_outcomes(part, &ended, now).await?;
        tx.put_outcomes(part, &faults, now).await?;
        tx.end_deferred(part, &over.into_iter().collect::<Vec<_>>(), worker).await?;
        tx.put_further_attempts(part, &further(job, &ready)?, worker, now).await?;
        tx.commit().await?;
        Ok(Some((job.handed_over(ready), now)))
    }

    /// Waits until so many more attempts may be under way. The recorder gives the permits back.
    async fn take(&self, count: usize) {
        if let Ok(permits) = self.window.acquire_many(u32::try_from(count).unwrap_or(u32::MAX)).await {
            permits.forget();
        }
    }

    async fn pass_on(&self, held: &Arc<Held>, ready: Vec<Ready>, at: Timestamp) {
        if ready.is_empty() {
            return;
        }
        let slots = self.reserve(&held.job, ready.len()).await;
        if self.groups.send(Attempted { held: held.clone(), ready, at, slots }).await.is_err() {
            tracing::error!("the sender is gone; what was attempted will be in doubt");
        }
    }

    /// Slots for so many messages under every rate that holds; asked until the store answers.
    async fn reserve(&self, job: &Job, count: usize) -> Option<Slots> {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let mut all: Option<Slots> = None;
        for (name, slot_us) in &job.limits.paces {
            let start_us = loop {
                match self.reserve_one(job, name, count, *slot_us).await {
                    Ok(start_us) => break start_us,
                    Err(error) => {
                        tracing::warn!(%error, "no slots; trying again");
                        tokio::time::sleep(LOOK).await;
                    }
                }
            };
            let slots = Slots { start_us, slot_us: *slot_us };
            all = Some(all.map_or(slots, |other| other.and(slots)));
        }
        all
    }

    async fn reserve_one(&self, job: &Job, name: &str, count: i64, slot_us: i64) -> store::Result<i64> {
        let mut tx = self.store.begin().await?;
        let now_us = job.clock.now().as_microsecond();
        let start_us = tx.reserve(&job.run.namespace, name, count, slot_us, now_us).await?;
        tx.commit().await?;
        Ok(start_us)
    }
}

/// The attempts of messages that were attempted before, each with what is kept of it.
fn further(job: &Job, ready: &[Ready]) -> store::Result<Vec<Further>> {
    let one = |message: &Ready| {
        let kept = job.keep(std::iter::once(message))?;
        Ok(Further { seq: message.seq, attempt: message.attempt, kept })
    };
    ready.iter().map(one).collect()
}

/// Renders what may go and hands it over. It waits while the provider's queue is full.
async fn send(mut groups: mpsc::Receiver<Attempted>, flights: Flights, tell: mpsc::UnboundedSender<Done>) {
    let mut tag = 0;
    while let Some(Attempted { held, ready, at, slots }) = groups.recv().await {
        for (index, message) in ready.into_iter().enumerate() {
            tag += 1;
            held.job.wait_for(slots.map(|s| s.of(index)).max(message.slot)).await;
            let room = held.job.wait_for_room().await;
            let envelope = held.job.envelope(held.part().shard, &message, at);
            let (envelope, fault) = match envelope {
                Ok(envelope) => (Some(envelope), None),
                Err(fault) => (None, Some(fault)),
            };
            let Ready { seq, item, attempt, said, .. } = message;
            let flight = InFlight { held: held.clone(), seq, item, to: said.to, attempt, fault, _room: room };
            flights.lock().unwrap_or_else(PoisonError::into_inner).insert(tag, flight);
            match envelope {
                Some(envelope) => held.job.provider.submit(tag, envelope, &tell).await,
                _ => {
                    let _ = tell.send(Done { tag, delivery: Delivery::Unsent });
                }
            }
        }
    }
}
