//! Durations as authors write them: `500ms`, `30s`, `15m`, `12h`, `90d`.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A length of time in whole milliseconds; one day is 24 hours, whatever the calendar says.
///
/// ```
/// use campanile::api::duration::Duration;
/// let lease: Duration = "90d".parse().unwrap();
/// assert_eq!(lease.as_millis(), 90 * 24 * 3_600_000);
/// assert_eq!(lease.to_string(), "90d");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration {
    ms: i64,
}

/// Longer is surely a typing error, and would overflow dates beyond the year 9999.
const MAX_DAYS: i64 = 36_500;
const UNITS: [(&str, i64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl Duration {
    pub const fn from_secs(s: i64) -> Self {
        Self { ms: s * 1_000 }
    }

    pub const fn from_hours(h: i64) -> Self {
        Self::from_secs(h * 3_600)
    }

    pub const fn as_millis(self) -> i64 {
        self.ms
    }

    /// The same length for waiting on a monotonic clock.
    pub fn as_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.ms.unsigned_abs())
    }

    /// The same length for moving a [`jiff::Timestamp`].
    pub fn as_signed(self) -> jiff::SignedDuration {
        jiff::SignedDuration::from_millis(self.ms)
    }
}

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a duration: write a whole number and ms, s, m, h or d, such as 12h");
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let ms = number.parse::<i64>().ok().and_then(|n| n.checked_mul(*unit_ms)).ok_or_else(wrong)?;
        if ms > MAX_DAYS * 86_400_000 {
            return Err(format!("`{text}` is longer than {MAX_DAYS}d"));
        }
        Ok(Self { ms })
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, unit_ms) =
            UNITS.iter().rev().find(|(_, unit_ms)| self.ms != 0 && self.ms % unit_ms == 0).unwrap_or(&UNITS[1]);
        write!(f, "{}{name}", self.ms / unit_ms)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": 16, "pattern": "^[0-9]+(ms|s|m|h|d)$"})
    }
}

#[cfg(test)]
mod tests {
    use super::Duration;

    #[test]
    fn reads_what_it_writes() {
        for text in ["0s", "500ms", "90s", "15m", "12h", "90d"] {
            assert_eq!(text.parse::<Duration>().unwrap().to_string(), text);
        }
        assert_eq!("120m".parse::<Duration>().unwrap().to_string(), "2h");
    }

    #[test]
    fn refuses_with_the_form_it_wants() {
        for text in ["", "12", "h", "-1h", "1.5h", "1w", "99999999999999999999d"] {
            let said = text.parse::<Duration>().unwrap_err();
            assert!(said.contains("such as 12h"), "{said}");
        }
        assert!("36501d".parse::<Duration>().unwrap_err().contains("longer than"));
    }
}
