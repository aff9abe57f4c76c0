//! A limit on a set: a count, or a percent of it.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// So many rows, or so many of a million.
///
/// ```
/// use campanile::api::step::Share;
/// assert_eq!("12.5%".parse(), Ok(Share::Millionths(125_000)));
/// assert_eq!(Share::Rows(500).to_string(), "500");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    Rows(u32),
    Millionths(u32),
}

/// Of a percent: more digits behind its point are no limit that anyone means.
const DIGITS_MAX: usize = 4;

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a limit: write a whole number, or a percent such as 10% or 0.5%");
        let number = text.strip_suffix('%').ok_or_else(wrong)?;
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let is_digits = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        if !is_digits(whole) || !is_digits(part) || whole.len() > 3 || part.len() > DIGITS_MAX {
            return Err(wrong());
        }
        let millionths: u32 = format!("{whole}{part:0<DIGITS_MAX$}").parse().map_err(|_| wrong())?;
        if millionths > 1_000_000 {
            Err(format!("`{text}` is more than all"))
        } else {
            Ok(Self::Millionths(millionths))
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(rows) => write!(f, "{rows}"),
            Self::Millionths(n) if n % 10_000 == 0 => write!(f, "{}%", n / 10_000),
            Self::Millionths(n) => {
                let digits = format!("{:04}", n % 10_000);
                write!(f, "{}.{}%", n / 10_000, digits.trim_end_matches('0'))
            }
        }
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Rows(rows) => serializer.serialize_u32(*rows),
            Self::Millionths(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Rows(u32),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Rows(rows) => Ok(Self::Rows(rows)),
            Written::Text(text) => text.parse().map_err(D::Error::custom),
        }
    }
}

impl JsonSchema for Share {
    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": true,
            "minimum": 0,
            "maximum": 4_294_967_295_u32,
            "maxLength": 9,
            "pattern": r"^(100(\.0{1,4})?|[0-9]{1,2}(\.[0-9]{1,4})?)%$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Share;

    #[test]
    fn reads_what_it_writes() {
        for text in ["0%", "10%", "0.5%", "33.3333%", "100%"] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), text);
        }
        for text in ["", "%", "10", "101%", "-1%", "1.23456%", "1e2%", ".5%"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }

    #[test]
    fn json_has_numbers_and_percents() {
        let read: Vec<Share> = serde_json::from_str(r#"[5, "5%"]"#).unwrap();
        assert_eq!(read, [Share::Rows(5), Share::Millionths(50_000)]);
        assert_eq!(serde_json::to_string(&read).unwrap(), r#"[5,"5%"]"#);
    }
}
