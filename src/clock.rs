//! Time is an input: everything that asks what time it is asks a [`Clock`], which tests and `--now` set.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// A clock that runs at the pace of the machine's monotonic one, from a given instant.
///
/// A jump of the machine's wall clock does not move it while the process lives, so no deadline is met twice.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base: Timestamp,
    since: Instant,
}

impl Clock {
    /// The machine's time.
    #[allow(clippy::disallowed_methods, reason = "the one place that asks the machine")]
    pub fn system() -> Self {
        Self::starting_at(Timestamp::now())
    }

    /// A clock that shows `now` now.
    pub fn starting_at(now: Timestamp) -> Self {
        Self { base: now, since: Instant::now() }
    }

    pub fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.since.elapsed()).unwrap_or(SignedDuration::MAX);
        self.base.checked_add(passed).unwrap_or(Timestamp::MAX)
    }
}
