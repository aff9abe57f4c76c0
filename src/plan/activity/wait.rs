//! `wait`: the run goes on with the set later.
//!
//! ```yaml
//! wait: {for: 2d}
//! wait: {until: 2026-12-01T08:00:00Z}
//! wait: {timeOfDay: {at: "09:00", timeZone: Europe/Rome}}
//! ```
//!
//! Other branches of the run are not held up. Rows that the entity has lost meanwhile are counted.

use jiff::{Timestamp, civil::Time, tz::TimeZone};
use sea_query::UnionType;

use super::{Compiled, Ground, Output, Place, Selects, keys_of};
use crate::{
    api::{duration::Duration, step},
    plan::Finding,
    rule::Query,
};

pub struct Wait {
    pub input: String,
    entity: String,
    until: Until,
}

enum Until {
    After(Duration),
    At(Timestamp),
    TimeOfDay(Time, TimeZone),
}

pub fn compile(step: &step::Wait, place: &Place<'_>) -> Result<(Compiled, Vec<Output>), Vec<Finding>> {
    let (input, entity) = place.input()?;
    let until = match step {
        step::Wait::For(time) => Until::After(*time),
        step::Wait::Until(at) => Until::At(at.0),
        step::Wait::TimeOfDay(time) => {
            let zone = TimeZone::get(&time.time_zone).map_err(|_| {
                let message = format!("`{}` is not a time zone", time.time_zone);
                let finding = place.finding("wait", "timeOfDay.timeZone", message);
                vec![finding.hint("use an IANA name such as Europe/Rome")]
            })?;
            let at = Time::strptime("%H:%M", &time.at).map_err(|_| {
                let message = format!("`{}` is not a time of day", time.at);
                vec![place.finding("wait", "timeOfDay.at", message).hint("write hours and minutes, as in 09:00")]
            })?;
            Until::TimeOfDay(at, zone)
        }
    };
    let output = Output::of(place.step, &entity.name);
    Ok((Compiled::Wait(Wait { input: input.to_owned(), entity: entity.name.clone(), until }), vec![output]))
}

impl Wait {
    /// When a set that is there since `from` goes on.
    pub fn due(&self, from: Timestamp) -> Timestamp {
        match &self.until {
            Until::After(time) => from.checked_add(time.as_signed()).unwrap_or(Timestamp::MAX),
            Until::At(at) => *at,
            Until::TimeOfDay(time, zone) => next(*time, zone, from),
        }
    }

    pub fn selects(&self, ground: &Ground<'_>) -> Selects {
        let Some(entity) = ground.schema.entity(&self.entity) else { return Selects::default() };
        let there = Query::over_set(ground.schema, entity, ground.dialect, (ground.input)(&self.input)).keys();
        let waited = keys_of(entity, (ground.input)(&self.input));
        let lost = waited.clone().union(UnionType::Except, keys_of(entity, there.clone())).to_owned();
        Selects { outputs: vec![there], left: Some(lost) }
    }
}

/// The first instant at or after `from` at which clocks in the zone show `time`; one that the spring skips is just after it.
fn next(time: Time, zone: &TimeZone, from: Timestamp) -> Timestamp {
    let mut day = from.to_zoned(zone.clone()).date();
    // Tomorrow at the latest; a day that a zone skipped as a whole costs one more.
    for _ in 0..3 {
        let at = day.to_datetime(time).to_zoned(zone.clone()).map(|zoned| zoned.timestamp());
        if let Some(at) = at.ok().filter(|at| *at >= from) {
            return at;
        }
        let Ok(tomorrow) = day.tomorrow() else { break };
        day = tomorrow;
    }
    from
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{golden, said},
        *,
    };

    #[test]
    fn becomes_sql() {
        insta::assert_snapshot!("wait", golden("customer", "- {name: it, unused: true, wait: {for: 2d}}"));
    }

    #[test]
    fn says_what_is_wrong() {
        let wrong = "- {name: it, unused: true, wait: {timeOfDay: {at: \"09:00\", timeZone: Europe/Roma}}}";
        insta::assert_snapshot!("wait_wrong", said("customer", wrong));
    }

    #[test]
    fn a_time_of_day_comes_next_in_its_zone() {
        let rome = TimeZone::get("Europe/Rome").unwrap();
        let nine = Time::constant(9, 0, 0, 0);
        for (from, wanted) in [
            ("2026-05-01T06:59:59Z", "2026-05-01T07:00:00Z"),
            ("2026-05-01T07:00:00Z", "2026-05-01T07:00:00Z"),
            ("2026-05-01T07:00:01Z", "2026-05-02T07:00:00Z"),
            ("2026-10-24T12:00:00Z", "2026-10-25T08:00:00Z"),
        ] {
            assert_eq!(next(nine, &rome, from.parse().unwrap()).to_string(), wanted, "{from}");
        }
        // 02:30 is skipped on the last Sunday of March.
        let skipped = next(Time::constant(2, 30, 0, 0), &rome, "2026-03-28T23:30:00Z".parse().unwrap());
        assert_eq!(skipped.to_string(), "2026-03-29T01:30:00Z");
    }
}
