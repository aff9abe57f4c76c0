//! One CSV field as a typed cell. Reasons name the type and never the value: they end up in status and logs.

use jiff::{Timestamp, civil, tz::TimeZone};

use crate::{
    api::dataset::{Field, FieldKind},
    store::merge::Cell,
};

/// PostgreSQL indexes nothing longer, and no person reads it.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// Types a field. An empty one is missing.
///
/// # Errors
/// Why the value does not fit, in words.
pub fn parse(raw: &[u8], field: &Field, zone: &TimeZone) -> Result<Cell, &'static str> {
    if raw.is_empty() {
        return Ok(Cell::Missing);
    }
    if raw.len() > TEXT_BYTES_MAX {
        return Err("longer than 1 MiB");
    }
    let text = std::str::from_utf8(raw).map_err(|_| "not UTF-8")?;
    if text.contains('\0') {
        return Err("holds a NUL");
    }
    if field.kind == FieldKind::String {
        return Ok(Cell::Text(text.to_owned()));
    }
    let text = text.trim();
    match field.kind {
        FieldKind::String => Err("not a text"),
        FieldKind::Integer => text.parse().map(Cell::Integer).map_err(|_| "not an Integer"),
        FieldKind::Double => match text.parse::<f64>() {
            Ok(x) if x.is_finite() => Ok(Cell::Double(x)),
            _ => Err("not a Double"),
        },
        FieldKind::Boolean => match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "1" => Ok(Cell::Boolean(true)),
            "false" | "f" | "0" => Ok(Cell::Boolean(false)),
            _ => Err("not a Boolean"),
        },
        FieldKind::Decimal => decimal(text, field.precision.unwrap_or(18), field.scale.unwrap_or(0)),
        FieldKind::Date => text.parse::<civil::Date>().map(Cell::Date).map_err(|_| "not a Date"),
        FieldKind::Timestamp => timestamp(text, zone).map(Cell::Timestamp),
    }
}

fn decimal(text: &str, precision: u8, scale: u8) -> Result<Cell, &'static str> {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number =
        !(whole.is_empty() && part.is_empty()) && whole.bytes().chain(part.bytes()).all(|b| b.is_ascii_digit());
    if !is_number {
        return Err("not a Decimal");
    }
    let part = part.trim_end_matches('0');
    if part.len() > usize::from(scale) {
        return Err("a Decimal with more digits behind the point than its scale");
    }
    let whole = whole.trim_start_matches('0');
    if whole.len() + usize::from(scale) > usize::from(precision) {
        return Err("a Decimal with more digits than its precision");
    }
    let scaled: i64 =
        format!("0{whole}{part:0<width$}", width = usize::from(scale)).parse().map_err(|_| "not a Decimal")?;
    Ok(Cell::Decimal(if is_negative { -scaled } else { scaled }))
}

/// With an offset, or else in the source's zone.
fn timestamp(text: &str, zone: &TimeZone) -> Result<Timestamp, &'static str> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let civil = text.parse::<civil::DateTime>().map_err(|_| "not a Timestamp")?;
    if !text.contains(':') {
        return Err("a Date, not a Timestamp");
    }
    zone.to_timestamp(civil).map_err(|_| "a Timestamp out of range")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(kind: FieldKind, scale: u8) -> Field {
        Field {
            name: "f".into(),
            kind,
            precision: (kind == FieldKind::Decimal).then_some(6),
            scale: (kind == FieldKind::Decimal).then_some(scale),
            required: false,
        }
    }

    fn cell(kind: FieldKind, text: &str) -> Result<Cell, &'static str> {
        parse(text.as_bytes(), &field(kind, 2), &TimeZone::get("Europe/Rome").unwrap())
    }

    #[test]
    fn decimals_are_exact_or_refused() {
        assert_eq!(cell(FieldKind::Decimal, "-12.5"), Ok(Cell::Decimal(-1250)));
        assert_eq!(cell(FieldKind::Decimal, "0.10"), Ok(Cell::Decimal(10)));
        for bad in ["1.234", "12345.00", ".", "1e3", "1,5", "--1"] {
            assert!(cell(FieldKind::Decimal, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn timestamps_without_offset_are_in_the_sources_zone() {
        let at = |text: &str| match cell(FieldKind::Timestamp, text) {
            Ok(Cell::Timestamp(at)) => at.to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(at("2026-07-01 09:00:00"), "2026-07-01T07:00:00Z");
        assert_eq!(at("2026-07-01T09:00:00+09:00"), "2026-07-01T00:00:00Z");
        assert!(cell(FieldKind::Timestamp, "2026-07-01").is_err());
    }

    #[test]
    fn booleans_and_blanks() {
        for (text, is) in [("t", true), ("FALSE", false), ("1", true), ("0", false)] {
            assert_eq!(cell(FieldKind::Boolean, text), Ok(Cell::Boolean(is)));
        }
        assert_eq!(cell(FieldKind::Boolean, ""), Ok(Cell::Missing));
        assert!(cell(FieldKind::Boolean, "yes").is_err());
        assert_eq!(cell(FieldKind::String, " "), Ok(Cell::Text(" ".into())));
    }

    #[test]
    fn what_no_database_can_hold_is_refused() {
        let string = field(FieldKind::String, 0);
        assert!(parse(b"a\0b", &string, &TimeZone::UTC).is_err());
        assert!(parse(&[0xff, 0xfe], &string, &TimeZone::UTC).is_err());
        assert!(cell(FieldKind::Double, "NaN").is_err());
    }
}
