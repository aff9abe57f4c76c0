//! What waits for one relay, and how many connections work on it.
//!
//! Connections are opened as messages need them, never more than declared, and each takes from one queue. How many are
//! used follows the relay: `421`, or `451` that is not about one recipient, halves them, once for all that was begun
//! before; every [`GROW_AFTER`] messages taken bring one back. What is about a recipient is his domain's alone, see
//! [`domains`](super::domains). A connection that cannot be opened while there are others is not
//! missed: there is one less until messages are taken again. Where it was the only one, all that wait are told so.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustls::ClientConfig;
use tokio::{
    sync::{Notify, OnceCell, Semaphore, mpsc::UnboundedSender},
    time::{Instant, timeout_at},
};

use super::{
    super::detail,
    Settings,
    domains::{Begun, Domains},
    line,
};
use crate::send::channel::{Delivery, Done, Mail, Permission, Refusal};

/// Relays close idle connections after a minute or more; leaving first spares the next message a vain attempt.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Messages that wait, for each connection: the next is there when one is done, and few are held back when all stops.
const QUEUE_PER_CONNECTION: usize = 8;
/// A relay that had enough is asked for more slowly than it was asked for less.
pub(super) const GROW_AFTER: usize = 16;

/// A message on its way. What becomes of it is told once, even if the task that carries it breaks.
pub(super) struct Job {
    pub message: Mail,
    pub permission: Permission,
    /// The end of its content may have gone out.
    pub at_stake: bool,
    /// A connection was lost under it before.
    pub is_second: bool,
    /// How often the relay had been spared when the message was taken from the queue.
    since: u32,
    /// How its domain stood then.
    begun: Begun,
    tag: u64,
    done: Option<UnboundedSender<Done>>,
}

impl Job {
    pub fn new(tag: u64, (message, permission): (Mail, Permission), done: UnboundedSender<Done>) -> Self {
        Self {
            message,
            permission,
            at_stake: false,
            is_second: false,
            since: 0,
            begun: Begun::default(),
            tag,
            done: Some(done),
        }
    }

    /// From what of its text names people.
    pub fn addresses(&self) -> [&str; 2] {
        [&self.message.to, &self.message.from]
    }

    fn domain(&self) -> &str {
        self.message.to.rsplit_once('@').map_or("", |(_, domain)| domain)
    }

    fn tell(&mut self, delivery: Delivery) {
        if let Some(done) = self.done.take() {
            // Nobody may be left to hear of it.
            let _ = done.send(Done { tag: self.tag, delivery });
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.done.is_some() {
            let detail = detail("the channel broke");
            let later = Delivery::Later { reason: Refusal::ConnectFailed, detail: detail.clone(), after: None };
            self.tell(if self.at_stake { Delivery::InDoubt { detail } } else { later });
        }
    }
}

pub(super) struct Relay {
    pub settings: Settings,
    /// Reading the system's roots takes milliseconds: once, and only where TLS is spoken.
    pub tls: OnceCell<Arc<ClientConfig>>,
    state: Mutex<State>,
    room: Semaphore,
    work: Notify,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    domains: Domains,
    /// Taken from the queue and not ended.
    under_way: usize,
    /// Connections, from before they are opened until after they are closed.
    open: usize,
    /// Of them those that wait for a message, and those that go because they are too many.
    waiting: usize,
    leaving: usize,
    /// How many may be open now.
    allowed: usize,
    /// Messages taken since `allowed` last changed.
    taken: usize,
    /// How often `allowed` was halved.
    spared: u32,
    is_closed: bool,
}

impl State {
    fn is_crowded(&self) -> bool {
        self.open - self.leaving > self.allowed
    }
}

impl Relay {
    pub fn new(settings: Settings) -> Arc<Self> {
        let connections = settings.connections.max(1);
        let state = State { allowed: connections, ..State::default() };
        let room = Semaphore::new(connections * QUEUE_PER_CONNECTION);
        Arc::new(Self { settings, tls: OnceCell::new(), state: Mutex::new(state), room, work: Notify::new() })
    }

    pub async fn submit(self: &Arc<Self>, job: Job) {
        if let Ok(place) = self.room.acquire().await {
            place.forget();
        }
        let mut state = self.state();
        state.queue.push_back(job);
        self.open_more(&mut state);
        let somebody_waits = state.waiting > 0;
        drop(state);
        if somebody_waits {
            // The one that was used last, so that those not needed grow old.
            self.work.notify_last();
        }
    }

    /// No more will be submitted: who has nothing to do leaves.
    pub fn close(&self) {
        self.state().is_closed = true;
        self.work.notify_waiters();
    }

    /// Opens connections for what has none. Those that carry nothing come for it themselves.
    fn open_more(self: &Arc<Self>, state: &mut State) {
        while state.open < state.allowed && state.queue.len() + state.under_way > state.open {
            state.open += 1;
            tokio::spawn(line::work(Seat { relay: self.clone(), is_leaving: false }));
        }
    }

    /// The first message whose domain takes one more now.
    fn pop(&self, state: &mut State) -> Option<Job> {
        let domains = &state.domains;
        let has_room = |job: &Job| domains.is_empty() || domains.has_room(job.domain());
        let index = state.queue.iter().position(has_room)?;
        self.pop_at(state, index)
    }

    fn pop_at(&self, state: &mut State, index: usize) -> Option<Job> {
        let mut job = state.queue.remove(index)?;
        self.room.add_permits(1);
        state.under_way += 1;
        job.since = state.spared;
        job.begun = state.domains.begin(job.domain());
        Some(job)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place among those that may be open.
pub(super) struct Seat {
    pub relay: Arc<Relay>,
    is_leaving: bool,
}

impl Seat {
    /// The next message. None: there was none for long, or this connection is one too many.
    pub async fn wait(&mut self) -> Option<Job> {
        let until = Instant::now() + IDLE_MAX;
        loop {
            let woken = {
                let mut state = self.relay.state();
                if state.is_crowded() {
                    state.leaving += 1;
                    self.is_leaving = true;
                    if !state.queue.is_empty() {
                        // It may have been woken for a message that one of those that stay has to take.
                        self.relay.work.notify_last();
                    }
                    return None;
                }
                if let Some(job) = self.relay.pop(&mut state) {
                    return Some(job);
                }
                if state.is_closed {
                    return None;
                }
                state.waiting += 1;
                // Made under the lock: whoever changes something afterwards wakes it.
                self.relay.work.notified()
            };
            let is_late = timeout_at(until, woken).await.is_err();
            self.relay.state().waiting -= 1;
            if is_late {
                return None;
            }
        }
    }

    /// A message to send right behind another, if there are more than the connections that wait will come for.
    pub fn take(&self) -> Option<Job> {
        let mut state = self.relay.state();
        if state.queue.len() <= state.waiting || state.is_crowded() {
            return None;
        }
        self.relay.pop(&mut state)
    }

    /// The messages that end with a connection that could not be opened: none as long as there are others.
    pub fn take_to_fail(&self) -> Vec<Job> {
        let mut state = self.relay.state();
        if state.open > 1 {
            state.allowed = state.allowed.min(state.open - 1);
            state.taken = 0;
            return vec![];
        }
        std::iter::from_fn(|| self.relay.pop_at(&mut state, 0)).collect()
    }

    /// Told last, so that who hears of it and submits another finds this connection free.
    pub fn end(&self, mut job: Job, delivery: Delivery) {
        let mut state = self.relay.state();
        state.under_way -= 1;
        let is_sent = matches!(delivery, Delivery::Sent { .. });
        let has_room = state.domains.end(job.domain(), job.begun, is_sent, self.relay.settings.connections);
        if state.allowed < self.relay.settings.connections && is_sent {
            state.taken += 1;
            if state.taken >= GROW_AFTER {
                state.taken = 0;
                state.allowed += 1;
                self.relay.open_more(&mut state);
            }
        }
        let somebody_may_take = has_room && state.waiting > 0 && !state.queue.is_empty();
        drop(state);
        if somebody_may_take {
            // Its domain may have room for the next one.
            self.relay.work.notify_last();
        }
        job.tell(delivery);
    }

    /// The relay was asked for too much, by something that was begun when it had been spared so often.
    pub fn spare(&self, since: u32) {
        let mut state = self.relay.state();
        if state.spared == since {
            state.spared += 1;
            state.taken = 0;
            state.allowed = (state.allowed.min(state.open) / 2).max(1);
            tracing::debug!(host = self.relay.settings.host, connections = state.allowed, "the relay asks for less");
            drop(state);
            self.relay.work.notify_waiters();
        }
    }

    pub fn spare_for(&self, job: &Job) {
        self.spare(job.since);
    }

    /// Where the message goes is asked for too much.
    pub fn spare_domain_of(&self, job: &Job) {
        let connections = self.relay.settings.connections;
        if !self.relay.state().domains.spare(job.domain(), job.begun, connections) {
            self.spare_for(job);
        }
    }

    /// How often the relay has been spared.
    pub fn spared(&self) -> u32 {
        self.relay.state().spared
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.relay.state();
        state.open -= 1;
        state.leaving -= usize::from(self.is_leaving);
        self.relay.open_more(&mut state);
    }
}
