//! What a worker may still do: its lease, and whether somebody has told it to stop.

use std::{
    collections::HashSet,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// The time for which nobody takes over what a worker holds.
///
/// A watcher counts from the moment it sees a beat, which is later than the moment the beat was begun; so who ends at
/// two thirds of the lease after the beginning of its last successful beat has ended before anyone takes over.
#[derive(Debug)]
pub struct Lease {
    begun: Instant,
    length: Duration,
    /// Milliseconds after `begun`, on this machine's monotonic clock.
    until_ms: AtomicU64,
    is_alone: bool,
    is_halted: AtomicBool,
    /// Channel steps (run, step) that were stopped, suspended or cancelled when last looked at.
    closed: RwLock<HashSet<(i64, i64)>>,
}

impl Lease {
    /// A lease that is held once the first beat is in the store. Who is alone on its store needs none.
    pub fn new(length: Duration, is_alone: bool) -> Self {
        Self {
            begun: Instant::now(),
            length,
            until_ms: AtomicU64::new(0),
            is_alone,
            is_halted: AtomicBool::new(false),
            closed: RwLock::default(),
        }
    }

    /// Whether no other worker shares the store: then every other one is dead.
    pub fn is_alone(&self) -> bool {
        self.is_alone
    }

    pub fn length(&self) -> Duration {
        self.length
    }

    /// A beat that was begun then is in the store.
    pub fn extend(&self, beat_begun: Instant) {
        let end = beat_begun.duration_since(self.begun) + self.length * 2 / 3;
        self.until_ms.fetch_max(u64::try_from(end.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    pub fn is_held(&self) -> bool {
        let passed = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.is_alone || passed < self.until_ms.load(Ordering::SeqCst)
    }

    /// From here on nothing new is attempted: the process ends.
    pub fn halt(&self) {
        self.is_halted.store(true, Ordering::SeqCst);
    }

    /// What may not go on, as the store says now. A claim asks the store itself; this is for messages on their way.
    pub fn close(&self, closed: HashSet<(i64, i64)>) {
        *self.closed.write().unwrap_or_else(PoisonError::into_inner) = closed;
    }

    pub fn is_open(&self, run_no: i64, step_no: i64) -> bool {
        !self.closed.read().unwrap_or_else(PoisonError::into_inner).contains(&(run_no, step_no))
    }

    pub fn is_halted(&self) -> bool {
        self.is_halted.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_before_its_watchers_think_so() {
        let lease = Lease::new(Duration::from_millis(300), false);
        assert!(!lease.is_held(), "nothing is held before the first beat");
        let beat = Instant::now();
        lease.extend(beat);
        assert!(lease.is_held());
        while lease.is_held() {
            assert!(beat.elapsed() < Duration::from_millis(300));
            std::thread::yield_now();
        }
        assert!(Lease::new(Duration::ZERO, true).is_held());
    }
}
