//! Filters beside minijinja's own: `date`, `time` and `datetime`.
//!
//! ```jinja
//! {{ rental.due | date }}                                        2026-03-12
//! {{ rental.due | date("%d.%m.%Y") }}                            12.03.2026
//! {{ booking.departure | datetime("%e %B, %H:%M", tz="Europe/Rome") }}
//! ```
//! A Timestamp is shown in UTC unless a zone is named; a Date has none. A missing value stays missing.

use jiff::{
    Timestamp, Zoned,
    civil::{Date, DateTime},
    fmt::strtime,
    tz::TimeZone,
};
use minijinja::{Environment, Error, ErrorKind, Value, value::Kwargs};

/// What was wrong, in words that hold no value: they may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Fault(&'static str);

const FORMAT: Fault = Fault("it is not a format for this date");
const ZONE: Fault = Fault("there is no such time zone");
const NO_MOMENT: Fault = Fault("it is neither a Date nor a Timestamp");

/// The filters by name, with the format each has by default.
const MOMENTS: [(&str, &str); 3] = [("date", "%Y-%m-%d"), ("time", "%H:%M"), ("datetime", "%Y-%m-%d %H:%M")];

pub(super) fn add(environment: &mut Environment<'_>) {
    for (name, default) in MOMENTS {
        environment.add_filter(name, move |value: &Value, format: Option<&str>, zone: Option<&str>, named: Kwargs| {
            let format = format.or(named.get("format")?).unwrap_or(default);
            let zone = zone.or(named.get("tz")?);
            named.assert_all_used()?;
            moment(value, format, zone)
                .map_err(|fault| Error::new(ErrorKind::InvalidOperation, fault.0).with_source(fault))
        });
    }
}

pub(super) fn is_moment(filter: &str) -> bool {
    MOMENTS.iter().any(|(name, _)| *name == filter)
}

/// What is wrong with a format that is known beforehand.
pub(super) fn format_problem(format: &str) -> Option<String> {
    strtime::format(format, &Zoned::new(Timestamp::UNIX_EPOCH, TimeZone::UTC)).err().map(|error| {
        // A format is the author's text, so jiff's words about it may be shown.
        format!("`{format}` is not a date format: {error}")
    })
}

pub(super) fn zone_problem(zone: &str) -> Option<String> {
    TimeZone::get(zone).is_err().then(|| format!("there is no time zone `{zone}`"))
}

fn moment(value: &Value, format: &str, zone: Option<&str>) -> Result<Value, Fault> {
    if value.is_undefined() || value.is_none() {
        return Ok(Value::UNDEFINED);
    }
    let text = value.as_str().ok_or(NO_MOMENT)?;
    let zone = zone.map_or(Ok(TimeZone::UTC), TimeZone::get).map_err(|_| ZONE)?;
    let written = if let Ok(at) = text.parse::<Timestamp>() {
        strtime::format(format, &at.to_zoned(zone))
    } else if text.contains([':']) {
        strtime::format(format, text.parse::<DateTime>().map_err(|_| NO_MOMENT)?)
    } else {
        strtime::format(format, text.parse::<Date>().map_err(|_| NO_MOMENT)?)
    };
    written.map(Value::from).map_err(|_| FORMAT)
}
