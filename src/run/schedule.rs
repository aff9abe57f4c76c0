//! When a campaign starts: `at`, `immediate`, `cron` in a time zone, or by hand.
//!
//! Daylight saving follows cron's own rule: a start in the skipped hour happens once, just after it; one in the
//! repeated hour happens once. An edit never fires for the past: what lies before the first look is not due.

use croner::{
    Cron,
    parser::{CronParser, Seconds},
};
use jiff::{
    SignedDuration, Timestamp,
    civil::DateTime,
    tz::{AmbiguousOffset, Offset, TimeZone},
};

use crate::api::{
    campaign::{Overlap, Schedule, Start},
    duration::Duration,
};

/// Starts looked through in one go; more were missed than anyone reads about, and are counted in further looks.
const STARTS_MAX: usize = 1_000;

/// A schedule that is well-formed.
#[derive(Clone, Debug)]
pub struct Timetable {
    start: Timed,
    zone: TimeZone,
    pub starting_deadline: jiff::SignedDuration,
}

#[derive(Clone, Debug)]
enum Timed {
    Cron(Box<Cron>, String),
    At(Timestamp),
    Immediate(Option<Timestamp>),
}

/// Why a schedule cannot be read, and in which of its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misdated {
    /// The rule that says so.
    pub id: &'static str,
    /// Such as `cron`.
    pub field: &'static str,
    pub message: String,
}

impl Misdated {
    fn cron(id: &'static str, message: String) -> Self {
        Self { id, field: "cron", message }
    }
}

/// What a look at the schedule found, between the last look and now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Starts that are due and in time, oldest first.
    pub due: Vec<Timestamp>,
    /// Starts whose deadline has passed.
    pub missed: Vec<Timestamp>,
    pub next: Option<Timestamp>,
}

/// What daylight saving does to a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daylight {
    /// Its own time, which this is, does not exist on that day: it comes just after.
    Skipped(DateTime),
    /// Its time comes twice on that day: it comes the first time only.
    Repeated,
}

impl Timetable {
    /// Reads a schedule.
    ///
    /// # Errors
    /// The field that is wrong, and why.
    pub fn of(schedule: &Schedule) -> Result<Self, Misdated> {
        let name = schedule.time_zone.as_deref().unwrap_or("UTC");
        let unknown = |_| Misdated {
            id: "unknown-time-zone",
            field: "timeZone",
            message: format!("`{name}` is not a time zone"),
        };
        let zone = TimeZone::get(name).map_err(unknown)?;
        let start = match &schedule.start {
            Start::At(at) => Timed::At(at.0),
            Start::Immediate(immediate) => Timed::Immediate(immediate.not_after.as_ref().map(|t| t.0)),
            Start::Cron(text) => {
                let parser = CronParser::builder().seconds(Seconds::Optional).build();
                let wrong = |why| Misdated::cron("invalid-cron", format!("`{text}` is not a cron expression: {why}"));
                let cron = parser.parse(text).map_err(wrong)?;
                let never = |_| Misdated::cron("never-fires", format!("`{text}` never comes"));
                let probe = Timestamp::UNIX_EPOCH.to_zoned(zone.clone());
                cron.find_next_occurrence(&probe, true).map_err(never)?;
                Timed::Cron(Box::new(cron), text.clone())
            }
        };
        Ok(Self { start, zone, starting_deadline: schedule.starting_deadline.as_signed() })
    }

    /// Times that come again and again, such as those at which an audience is refreshed. None is ever too late.
    ///
    /// # Errors
    /// The field that is wrong, and why.
    pub fn cron(cron: &str, zone: &str) -> Result<Self, Misdated> {
        Self::of(&Schedule {
            start: Start::Cron(cron.to_owned()),
            time_zone: Some(zone.to_owned()),
            starting_deadline: Duration::from_secs(i64::from(u32::MAX)),
            overlap: Overlap::Forbid,
        })
    }

    /// The schedule in words, for a status.
    pub fn words(&self) -> String {
        match &self.start {
            Timed::Cron(_, text) => format!("{text} {}", self.zone.iana_name().unwrap_or("UTC")),
            Timed::At(at) => format!("at {at}"),
            Timed::Immediate(_) => "immediate".to_owned(),
        }
    }

    /// An instant in the schedule's zone, for a person.
    pub fn in_zone(&self, at: Timestamp) -> String {
        at.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M %Z").to_string()
    }

    /// Whether the campaign starts once and never again, whatever becomes of its object.
    pub fn is_once(&self) -> bool {
        !matches!(self.start, Timed::Cron(..))
    }

    /// The name of the run of a campaign that starts at `at`. It comes from the nominal time, so two controllers that both
    /// believe they lead start one run.
    pub fn run_name(&self, campaign: &str, at: Timestamp) -> String {
        match self.start {
            Timed::Immediate(_) => format!("{campaign}-immediate"),
            _ => format!("{campaign}-{}", at.strftime("%Y%m%d%H%M%S")),
        }
    }

    /// Until when an `immediate` may still start; required at live delivery.
    pub fn not_after(&self) -> Option<Option<Timestamp>> {
        match self.start {
            Timed::Immediate(not_after) => Some(not_after),
            _ => None,
        }
    }

    /// What became due after `looked`, up to `now`. `first_seen` says that nothing was known before `looked`.
    pub fn look(&self, looked: Timestamp, now: Timestamp, has_run: bool) -> Look {
        match &self.start {
            Timed::Immediate(not_after) if has_run || not_after.is_some_and(|end| now > end) => Look::default(),
            Timed::Immediate(_) => Look { due: vec![now], ..Look::default() },
            Timed::At(_) if has_run => Look::default(),
            Timed::At(at) if *at > now => Look { next: Some(*at), ..Look::default() },
            // Already past when it was first seen: it is missed, not made up.
            Timed::At(at) if *at <= looked => Look::default(),
            Timed::At(at) => self.sort([*at].into_iter(), now),
            Timed::Cron(cron, _) => {
                let mut from = looked.to_zoned(self.zone.clone());
                let mut starts = vec![];
                let next = loop {
                    let Ok(next) = cron.find_next_occurrence(&from, false) else { break None };
                    if next.timestamp() > now || starts.len() >= STARTS_MAX {
                        break Some(next.timestamp());
                    }
                    starts.push(next.timestamp());
                    from = next;
                };
                Look { next, ..self.sort(starts.into_iter(), now) }
            }
        }
    }

    /// The times at which it comes after `after` and until `until`; none of an `immediate`, which has no time of its own.
    pub fn starts(&self, after: Timestamp, until: Timestamp) -> impl Iterator<Item = Timestamp> + '_ {
        let mut from = after.to_zoned(self.zone.clone());
        std::iter::from_fn(move || {
            let at = match &self.start {
                Timed::Cron(cron, _) => {
                    from = cron.find_next_occurrence(&from, false).ok()?;
                    from.timestamp()
                }
                Timed::At(at) if *at > from.timestamp() => {
                    from = at.to_zoned(self.zone.clone());
                    *at
                }
                _ => return None,
            };
            (at <= until).then_some(at)
        })
    }

    /// What daylight saving has to do with a start at `at`.
    pub fn daylight(&self, at: Timestamp) -> Option<Daylight> {
        if self.is_once() {
            return None;
        }
        let moment = SignedDuration::from_nanos(1);
        let (before, after) = (self.zone.to_offset(at.checked_sub(moment).ok()?), self.zone.to_offset(at));
        let time = after.to_datetime(at);
        if after <= before {
            let is_repeated = matches!(self.zone.to_ambiguous_timestamp(time).offset(), AmbiguousOffset::Fold { .. });
            return is_repeated.then_some(Daylight::Repeated);
        }
        // Where no time is skipped, the schedule shows which times it asks for.
        let even = Self { zone: TimeZone::UTC, ..self.clone() };
        let skipped = before.to_datetime(at);
        let [from, to] = [skipped, time].map(|time| time.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp()));
        let (from, to) = (from.ok()?.checked_sub(moment).ok()?, to.ok()?);
        // What asks for the first time after the gap, too, comes then anyway.
        let first = even.starts(from, to).next().filter(|first| *first < to)?;
        Some(Daylight::Skipped(Offset::UTC.to_datetime(first)))
    }

    /// The days in which its own time is skipped, after `after` and until `until`.
    pub fn skipped(&self, after: Timestamp, until: Timestamp) -> impl Iterator<Item = DateTime> + '_ {
        let changes = self.zone.following(after).map(|change| change.timestamp());
        changes.take_while(move |at| *at <= until).filter_map(|at| match self.daylight(at) {
            Some(Daylight::Skipped(time)) => Some(time),
            _ => None,
        })
    }

    /// The zone that its times are in.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    fn sort(&self, starts: impl Iterator<Item = Timestamp>, now: Timestamp) -> Look {
        let in_time = |at: &Timestamp| now.duration_since(*at) <= self.starting_deadline;
        let (due, missed) = starts.partition(in_time);
        Look { due, missed, next: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::campaign::Immediate;

    fn table(start: Start, zone: &str) -> Timetable {
        let deadline = "1h".parse().unwrap();
        Timetable::of(&Schedule {
            start,
            time_zone: Some(zone.into()),
            starting_deadline: deadline,
            overlap: Overlap::Forbid,
        })
        .unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn starts(cron: &str, from: &str, to: &str) -> Vec<String> {
        let table = table(Start::Cron(cron.into()), "Europe/Rome");
        let (mut looked, end, mut found) = (at(from), at(to), vec![]);
        while let Some(next) = table.look(looked, looked, false).next.filter(|n| *n <= end) {
            found.push(next.to_string());
            looked = next;
        }
        found
    }

    #[test]
    fn the_skipped_hour_starts_once_just_after_it() {
        assert_eq!(
            starts("30 2 * * *", "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z"),
            ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
        );
    }

    #[test]
    fn the_repeated_hour_starts_once() {
        assert_eq!(
            starts("30 2 * * *", "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z"),
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
    }

    #[test]
    fn it_is_told_what_daylight_saving_does() {
        let rome = |cron: &str| table(Start::Cron(cron.into()), "Europe/Rome");
        let skipped = "2026-03-29T01:00:00Z";
        let told = |cron: &str, time: &str| rome(cron).daylight(at(time));
        assert_eq!(told("30 2 * * *", skipped), Some(Daylight::Skipped("2026-03-29T02:30:00".parse().unwrap())));
        assert_eq!(told("0 3 * * *", skipped), None);
        assert_eq!(told("30 2 * * *", "2026-03-30T00:30:00Z"), None);
        assert_eq!(told("30 2 * * *", "2026-10-25T00:30:00Z"), Some(Daylight::Repeated));
        let days: Vec<String> = rome("30 2 * * *")
            .skipped(at("2026-01-01T00:00:00Z"), at("2028-01-01T00:00:00Z"))
            .map(|time| time.to_string())
            .collect();
        assert_eq!(days, ["2026-03-29T02:30:00", "2027-03-28T02:30:00"]);
        assert_eq!(rome("30 2 29 3 *").skipped(at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z")).count(), 1);
        assert_eq!(rome("0 9 * * *").skipped(at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z")).count(), 0);
    }

    #[test]
    fn a_start_past_its_deadline_is_missed() {
        let table = table(Start::Cron("0 9 * * *".into()), "UTC");
        let look = table.look(at("2026-01-01T10:00:00Z"), at("2026-01-04T09:30:00Z"), false);
        assert_eq!(look.due, [at("2026-01-04T09:00:00Z")]);
        assert_eq!(look.missed, [at("2026-01-02T09:00:00Z"), at("2026-01-03T09:00:00Z")]);
        assert_eq!(look.next, Some(at("2026-01-05T09:00:00Z")));
    }

    #[test]
    fn once_means_once() {
        let now = at("2026-01-01T10:00:00Z");
        let immediate = table(Start::Immediate(Immediate { not_after: None }), "UTC");
        assert_eq!((immediate.look(now, now, false).due.len(), immediate.look(now, now, true).due.len()), (1, 0));
        let past =
            table(Start::At(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at("2026-01-01T09:59:00Z"))), "UTC");
        assert_eq!(past.look(now, now, false), Look::default());
    }

    #[test]
    fn what_never_comes_is_refused() {
        let schedule = |cron: &str, zone: &str| Schedule {
            start: Start::Cron(cron.into()),
            time_zone: Some(zone.into()),
            starting_deadline: "1h".parse().unwrap(),
            overlap: Overlap::Forbid,
        };
        let refused = |cron, zone| Timetable::of(&schedule(cron, zone)).unwrap_err();
        assert_eq!(refused("0 0 31 2 *", "UTC"), Misdated::cron("never-fires", "`0 0 31 2 *` never comes".to_owned()));
        assert_eq!(refused("0 9 * * *", "Europe/Roma").field, "timeZone");
        assert_eq!(refused("every day", "UTC").id, "invalid-cron");
    }
}
