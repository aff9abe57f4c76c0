//! A process that may be slow, be stopped, die, and lose calls of the store or their answers.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use campanile::store::{Error, Result, faults::Faults};
use tokio::time::{Instant, sleep, sleep_until};

/// Chances out of a thousand, per call.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub lost_call: u64,
    pub lost_commit: u64,
    pub lost_answer: u64,
    pub death: u64,
    pub stop: u64,
    pub stop_ms_max: u64,
}

impl Weather {
    pub const CALM: Self = Self { lost_call: 0, lost_commit: 0, lost_answer: 0, death: 0, stop: 0, stop_ms_max: 0 };
}

/// splitmix64: the same seed gives the same schedule on every machine.
#[derive(Debug)]
pub struct Dice(AtomicU64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub fn next(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `n - 1`.
    pub fn below(&self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub fn chance(&self, of_thousand: u64) -> bool {
        self.below(1_000) < of_thousand
    }
}

pub struct Process {
    pub dice: Dice,
    weather: Weather,
    is_dead: AtomicBool,
    stopped_until: Mutex<Option<Instant>>,
}

impl Process {
    pub fn new(seed: u64, weather: Weather) -> Self {
        Self { dice: Dice::new(seed), weather, is_dead: AtomicBool::new(false), stopped_until: Mutex::new(None) }
    }

    pub fn kill(&self) {
        self.is_dead.store(true, Ordering::SeqCst);
    }

    pub fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::SeqCst)
    }

    /// Goes on only while the process runs: a dead one never does.
    pub async fn breathe(&self) {
        let weather = self.weather;
        if self.dice.chance(weather.death) {
            self.kill();
        }
        if self.dice.chance(weather.stop) {
            let time = Duration::from_millis(self.dice.below(weather.stop_ms_max));
            *self.stopped_until.lock().unwrap() = Some(Instant::now() + time);
        }
        loop {
            if self.is_dead() {
                std::future::pending::<()>().await;
            }
            let until = *self.stopped_until.lock().unwrap();
            match until.filter(|until| *until > Instant::now()) {
                Some(until) => sleep_until(until).await,
                None => return,
            }
        }
    }

    fn lost() -> Error {
        Error::Unavailable(sqlx::Error::PoolTimedOut)
    }
}

#[async_trait]
impl Faults for Process {
    async fn call(&self) -> Result<()> {
        self.breathe().await;
        sleep(Duration::from_micros(100 + self.dice.below(2_000))).await;
        self.breathe().await;
        if self.dice.chance(self.weather.lost_call) { Err(Self::lost()) } else { Ok(()) }
    }

    fn is_commit_lost(&self) -> bool {
        self.is_dead() || self.dice.chance(self.weather.lost_commit)
    }

    async fn answer(&self) -> Result<()> {
        self.breathe().await;
        sleep(Duration::from_micros(100 + self.dice.below(2_000))).await;
        if self.dice.chance(self.weather.lost_answer) { Err(Self::lost()) } else { Ok(()) }
    }
}

/// The test's own eye on the store: nothing happens to its calls.
pub struct Observer;

#[async_trait]
impl Faults for Observer {
    async fn call(&self) -> Result<()> {
        // Connections go back to the pool in tasks of their own.
        tokio::task::yield_now().await;
        Ok(())
    }

    fn is_commit_lost(&self) -> bool {
        false
    }

    async fn answer(&self) -> Result<()> {
        Ok(())
    }
}
