//! Schedules: days that some months lack, hours that daylight saving skips, starts that are past.

use jiff::{SignedDuration, Timestamp};

use super::{Look, Spot};
use crate::{
    api::campaign::{Schedule, Start},
    run::schedule::Timetable,
    source::{Key, Kind, declared::Spec},
};

/// Of a common year.
const DAYS: [i8; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
/// More starts in one day than this, and it is an inbox that is watched, not a campaign.
const STARTS_A_DAY_MAX: usize = 24;
/// How far ahead the change to daylight saving is looked for.
const AHEAD_HOURS: i64 = 366 * 24;

pub(super) fn look(look: &mut Look<'_>) {
    for (key, spec) in look.specs(Kind::Campaign) {
        let Spec::Campaign(spec) = spec else { continue };
        let Some(schedule) = &spec.schedule else { continue };
        campaign(look, key, schedule);
    }
    for (key, spec) in look.specs(Kind::Audience) {
        let Spec::Audience(spec) = spec else { continue };
        if let Some(refresh) = &spec.refresh
            && Timetable::cron(&refresh.cron, &refresh.time_zone).is_ok()
        {
            cron(look, key, "spec.refresh.cron", (&refresh.cron, &refresh.time_zone));
        }
    }
}

fn campaign(look: &mut Look<'_>, key: &Key, schedule: &Schedule) {
    let now = look.now;
    let past = |at: Timestamp| at < now;
    match &schedule.start {
        Start::Cron(text) => {
            let Ok(table) = Timetable::of(schedule) else { return };
            let zone = schedule.time_zone.as_deref().unwrap_or("UTC");
            cron(look, key, "spec.schedule.cron", (text, zone));
            let day = now.checked_add(SignedDuration::from_hours(24)).unwrap_or(Timestamp::MAX);
            let starts = table.starts(now, day).take(STARTS_A_DAY_MAX + 1).count();
            if starts > STARTS_A_DAY_MAX {
                let message = "this starts more often than once an hour";
                look.warn("frequent-starts", Spot::at(key, "spec.schedule.cron"), message, None);
            }
        }
        Start::At(at) if past(at.0) => {
            let message = format!("this was {} ago, and the campaign does not start any more", days(now, at.0));
            look.warn("past-start", Spot::at(key, "spec.schedule.at"), message, None);
        }
        Start::At(_) => {}
        Start::Immediate(immediate) => match &immediate.not_after {
            None => {
                let message = "at live delivery this is refused, so that a restored cluster sends nothing old";
                let hint = "say until when it may start: `immediate: {notAfter: …}`".to_owned();
                look.warn("immediate-without-end", Spot::at(key, "spec.schedule.immediate"), message, Some(hint));
            }
            Some(end) if past(end.0) => {
                let message = format!("this was {} ago, and the campaign does not start any more", days(now, end.0));
                look.warn("past-start", Spot::at(key, "spec.schedule.immediate.notAfter"), message, None);
            }
            Some(_) => {}
        },
    }
}

fn days(now: Timestamp, then: Timestamp) -> String {
    match now.duration_since(then).as_hours() {
        hours @ ..48 => format!("{} hours", hours.max(1)),
        hours => format!("{} days", hours / 24),
    }
}

fn cron(look: &mut Look<'_>, key: &Key, path: &str, (text, zone): (&str, &str)) {
    let Some(fields) = Fields::of(text) else { return };
    if let Some(last) = fields.last_safe_day() {
        match fields.missing_months(last) {
            Missing::LeapDay => {
                let message = "February 29 comes once in four years";
                look.warn("leap-day", Spot::at(key, path), message, None);
            }
            Missing::Some(months) => {
                let message = format!("this does not come in {months}");
                let hint = format!("`L` is the last day of every month: \"{}\"", fields.with_day("L"));
                look.warn("skips-short-months", Spot::at(key, path), message, Some(hint));
            }
            Missing::None => {}
        }
    }
    if fields.day != "*" && fields.day != "?" && fields.weekday != "*" && fields.weekday != "?" {
        let message = "this comes on such a day of the month and on such a day of the week, not only where both meet";
        look.warn("day-of-month-or-week", Spot::at(key, path), message, None);
    }
    let is_at_hours = fields.before.last().is_some_and(|hour| !hour.contains(['*', '/']));
    let year = look.now.checked_add(SignedDuration::from_hours(AHEAD_HOURS)).unwrap_or(look.now);
    let table = Timetable::cron(text, zone).ok().filter(|_| is_at_hours);
    if let Some(time) = table.and_then(|table| table.skipped(look.now, year).next()) {
        let message = format!("daylight saving skips this time on {}, and the start comes just after it", time.date());
        look.warn("skipped-hour", Spot::at(key, path), message, None);
    }
}

/// The fields of a cron expression, as they are written.
struct Fields<'c> {
    before: Vec<&'c str>,
    day: &'c str,
    month: &'c str,
    weekday: &'c str,
}

enum Missing {
    None,
    LeapDay,
    Some(String),
}

impl<'c> Fields<'c> {
    fn of(text: &'c str) -> Option<Self> {
        let parts: Vec<&str> = text.split_whitespace().collect();
        let (before, [day, month, weekday]) = parts.split_last_chunk::<3>()?;
        (2..=3).contains(&before.len()).then_some(Self { before: before.to_vec(), day, month, weekday })
    }

    fn with_day(&self, day: &str) -> String {
        self.before.iter().copied().chain([day, self.month, self.weekday]).collect::<Vec<_>>().join(" ")
    }

    /// The earliest of the days of the month, where only those decide and none is early enough for every month.
    fn last_safe_day(&self) -> Option<i8> {
        let is_any = |field: &str| matches!(field, "*" | "?");
        if !is_any(self.weekday) {
            return None;
        }
        let days = numbers(self.day, 1, 31, &[])?;
        days.into_iter().min().filter(|day| *day > 28)
    }

    /// The months that the schedule asks for and that lack the day.
    fn missing_months(&self, day: i8) -> Missing {
        const NAMES: [&str; 12] = [
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ];
        let short: Vec<String> = NAMES.iter().map(|name| name[..3].to_ascii_uppercase()).collect();
        let short: Vec<&str> = short.iter().map(String::as_str).collect();
        let months = numbers(self.month, 1, 12, &short).unwrap_or_default();
        let lacking = |month: &i8| usize::try_from(*month - 1).ok().and_then(|m| DAYS.get(m)).is_some_and(|d| *d < day);
        let missing: Vec<i8> = months.iter().copied().filter(lacking).collect();
        if missing.is_empty() {
            return Missing::None;
        }
        // February 30 never comes, and that is an error.
        if months == [2] && day == 29 {
            return Missing::LeapDay;
        }
        let name = |month: &i8| usize::try_from(*month - 1).ok().and_then(|m| NAMES.get(m)).copied();
        Missing::Some(missing.iter().filter_map(name).collect::<Vec<_>>().join(", "))
    }
}

/// The numbers of a field such as `1,15-20,*/10`; none where it is of a form that says more, such as `L`.
fn numbers(field: &str, min: i8, max: i8, names: &[&str]) -> Option<Vec<i8>> {
    let number = |text: &str| {
        let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
        named.and_then(|index| i8::try_from(index).ok()).map(|index| index + min).or_else(|| text.parse().ok())
    };
    let mut found = vec![];
    for part in field.split(',') {
        let (range, step) = part.split_once('/').map_or((part, Some(1)), |(range, step)| (range, step.parse().ok()));
        let (first, last) = match range.split_once('-') {
            _ if matches!(range, "*" | "?") => (min, max),
            Some((first, last)) => (number(first)?, number(last)?),
            None if part.contains('/') => (number(range)?, max),
            None => (number(range)?, number(range)?),
        };
        found.extend((first..=last).step_by(step.filter(|step| *step > 0)?));
    }
    found.sort_unstable();
    found.dedup();
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_field() {
        assert_eq!(numbers("1,15-17,*/10", 1, 31, &[]).unwrap(), [1, 11, 15, 16, 17, 21, 31]);
        assert_eq!(numbers("JAN,mar", 1, 12, &["JAN", "FEB", "MAR"]).unwrap(), [1, 3]);
        assert_eq!(numbers("L", 1, 31, &[]), None);
        assert_eq!(numbers("15W", 1, 31, &[]), None);
        assert_eq!(numbers("1/0", 1, 31, &[]), None);
    }
}
