//! How fast: a channel's rate, its domains' rates, its daily quota, a step's throttle.
//!
//! ```yaml
//! rate: {perSecond: 500, perDay: 200000, domains: [{match: [gmail.com], perSecond: 20}]}   # Channel
//! throttle: {perSecond: 100}                                                              # step
//! ```
//!
//! All of them hold over all workers together. A worker reserves as many slots as it has messages ready, and each
//! message goes in its own slot.

use jiff::Timestamp;

use crate::api::{ChannelSpec, channel::DomainRate};

/// Slots are reserved for so much time at once: a worker that dies loses no more of the rate.
const CHUNK_US: i64 = 100_000;
/// A message whose slot is later than this is put aside, so that a slow domain does not hold the others up.
pub const AHEAD_US: i64 = 100_000;
const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;

/// The limits of one channel step, as its run pinned them.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Names of what is paced, and the length of a slot in microseconds.
    pub paces: Vec<(String, i64)>,
    pub per_day: Option<i64>,
    domains: Vec<DomainRate>,
    channel: String,
}

impl Limits {
    pub fn new(channel: &str, spec: &ChannelSpec, step: (&str, &str), throttle: Option<u32>) -> Self {
        let rate = spec.rate.as_ref();
        let mut paces = vec![];
        if let Some(per_second) = rate.and_then(|r| r.per_second) {
            paces.push((format!("channel {channel}"), slot_us(per_second)));
        }
        if let Some(per_second) = throttle {
            paces.push((format!("step {}/{}", step.0, step.1), slot_us(per_second)));
        }
        let domains = rate.map(|r| r.domains.clone()).unwrap_or_default();
        Self { paces, per_day: rate.and_then(|r| r.per_day).map(i64::from), domains, channel: channel.to_owned() }
    }

    /// How many messages to reserve slots for at once; none where nothing is paced.
    pub fn chunk(&self) -> Option<i64> {
        self.paces.iter().map(|(_, slot_us)| (CHUNK_US / slot_us).max(1)).min()
    }

    /// The pace of the domain that an address belongs to.
    pub fn domain(&self, address: &str) -> Option<(String, i64)> {
        let domain = address.rsplit('@').next()?.to_ascii_lowercase();
        let index = self.domains.iter().position(|d| d.matches.iter().any(|m| m.eq_ignore_ascii_case(&domain)))?;
        let rate = self.domains.get(index)?;
        let first = rate.matches.first().map(|m| m.as_str()).unwrap_or_default();
        Some((format!("domain {}/{first}", self.channel), slot_us(rate.per_second)))
    }
}

/// When the messages of a group may go: the first at `start_us`, each further one a slot later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    pub start_us: i64,
    pub slot_us: i64,
}

impl Slots {
    /// Of two paces the later and the slower.
    pub fn and(self, other: Self) -> Self {
        Self { start_us: self.start_us.max(other.start_us), slot_us: self.slot_us.max(other.slot_us) }
    }

    pub fn of(self, index: usize) -> Timestamp {
        let us = self.start_us + i64::try_from(index).unwrap_or(0) * self.slot_us;
        Timestamp::from_microsecond(us).unwrap_or(Timestamp::MAX)
    }
}

fn slot_us(per_second: u32) -> i64 {
    (SECOND_US / i64::from(per_second.max(1))).max(1)
}

/// The day of a quota (UTC, days since the epoch).
pub fn day(now: Timestamp) -> i64 {
    now.as_microsecond().div_euclid(DAY_US)
}

/// When the next day's quota begins.
pub fn next_day(now: Timestamp) -> Timestamp {
    Timestamp::from_microsecond((day(now) + 1) * DAY_US).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_follow_each_other() {
        let slots = Slots { start_us: 1_000, slot_us: 200 }.and(Slots { start_us: 5_000, slot_us: 100 });
        assert_eq!(slots.of(3).as_microsecond(), 5_600);
        assert_eq!([10, 5_000, 3].map(slot_us), [100_000, 200, 333_333]);
    }

    #[test]
    fn a_quota_is_a_day_of_utc() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(day(at("2026-05-01T23:59:59Z")) + 1, day(at("2026-05-02T00:00:00Z")));
        assert_eq!(next_day(at("2026-05-01T10:00:00Z")), at("2026-05-02T00:00:00Z"));
    }
}
