//! One field of text as a typed value. Reasons name the type and never the value: they end up in status and logs.

use jiff::{Timestamp, civil, tz::TimeZone};

use crate::{
    api::dataset::{Field, FieldKind},
    store::rows::Value,
};

/// PostgreSQL indexes nothing longer, and no person reads it.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// Types a field of text. An empty one is missing.
///
/// # Errors
/// Why the value does not fit, in words.
pub fn parse<'a>(raw: &'a [u8], field: &Field, zone: &TimeZone) -> Result<Value<'a>, &'static str> {
    if raw.is_empty() {
        return Ok(Value::Missing);
    }
    if field.kind == FieldKind::String {
        return text(raw).map(Value::Text);
    }
    let raw = raw.trim_ascii();
    match field.kind {
        FieldKind::String => Err("not a text"),
        FieldKind::Integer => integer(raw).map(Value::Integer).ok_or("not an Integer"),
        FieldKind::Double => match number(raw) {
            Some(x) if x.is_finite() => Ok(Value::Double(x)),
            _ => Err("not a Double"),
        },
        FieldKind::Boolean => match raw {
            [b't' | b'T' | b'1'] => Ok(Value::Boolean(true)),
            [b'f' | b'F' | b'0'] => Ok(Value::Boolean(false)),
            _ if raw.eq_ignore_ascii_case(b"true") => Ok(Value::Boolean(true)),
            _ if raw.eq_ignore_ascii_case(b"false") => Ok(Value::Boolean(false)),
            _ => Err("not a Boolean"),
        },
        FieldKind::Decimal => decimal(raw, field.precision.unwrap_or(18), field.scale.unwrap_or(0)),
        FieldKind::Date => date(raw).map(Value::Date).ok_or("not a Date"),
        FieldKind::Timestamp => timestamp(raw, zone).map(Value::Timestamp),
    }
}

/// A text that both databases can hold.
///
/// # Errors
/// Why it is none, in words.
pub fn text(raw: &[u8]) -> Result<&str, &'static str> {
    if raw.len() > TEXT_BYTES_MAX {
        return Err("longer than 1 MiB");
    }
    let text = std::str::from_utf8(raw).map_err(|_| "not UTF-8")?;
    if memchr::memchr(0, raw).is_some() {
        return Err("holds a NUL");
    }
    Ok(text)
}

fn integer(raw: &[u8]) -> Option<i64> {
    let digits = raw.strip_prefix(b"-").unwrap_or(raw);
    // 18 digits cannot overflow; whatever is longer or has another form is left to the standard library.
    if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
        return std::str::from_utf8(raw).ok()?.parse().ok();
    }
    let n = digits.iter().fold(0, |n, digit| n * 10 + i64::from(digit - b'0'));
    Some(if digits.len() < raw.len() { -n } else { n })
}

fn number(raw: &[u8]) -> Option<f64> {
    std::str::from_utf8(raw).ok()?.parse().ok()
}

/// A decimal as text, to the field's scale.
///
/// # Errors
/// Why it is none, in words.
pub fn decimal(raw: &[u8], precision: u8, scale: u8) -> Result<Value<'static>, &'static str> {
    let (is_negative, rest) = match raw.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, raw),
    };
    let (mut n, mut digits, mut behind, mut is_behind) = (0_i64, 0_u8, 0_u8, false);
    let mut zeros = 0_u8;
    if !rest.iter().any(u8::is_ascii_digit) {
        return Err("not a Decimal");
    }
    for byte in rest {
        match byte {
            b'.' if !is_behind => is_behind = true,
            // Zeros at the end behind the point say nothing, however many they are.
            b'0' if is_behind => zeros = zeros.saturating_add(1),
            b'0'..=b'9' => {
                for _ in 0..zeros {
                    push_digit(&mut n, &mut digits, 0)?;
                    behind = behind.saturating_add(1);
                }
                zeros = 0;
                push_digit(&mut n, &mut digits, byte - b'0')?;
                behind = behind.saturating_add(u8::from(is_behind));
            }
            _ => return Err("not a Decimal"),
        }
    }
    let Some(missing) = scale.checked_sub(behind) else {
        return Err("a Decimal with more digits behind the point than its scale");
    };
    let too_long = "a Decimal with more digits than its precision";
    let scaled = n.checked_mul(10_i64.pow(u32::from(missing))).ok_or(too_long)?;
    if scaled >= 10_i64.pow(u32::from(precision.min(18))) {
        return Err(too_long);
    }
    Ok(Value::Decimal(if is_negative { -scaled } else { scaled }))
}

fn push_digit(n: &mut i64, digits: &mut u8, digit: u8) -> Result<(), &'static str> {
    if *n > 0 || digit > 0 {
        *digits += 1;
    }
    if *digits > 18 {
        return Err("a Decimal with more digits than its precision");
    }
    *n = *n * 10 + i64::from(digit);
    Ok(())
}

/// `2026-03-31`, and what else ISO 8601 allows.
pub fn date(raw: &[u8]) -> Option<civil::Date> {
    if let [a, b, c, d, b'-', e, f, b'-', g, h] = raw {
        let digit = |byte: &u8| byte.is_ascii_digit().then(|| i16::from(byte - b'0'));
        let year = digit(a)? * 1_000 + digit(b)? * 100 + digit(c)? * 10 + digit(d)?;
        let (month, day) = (digit(e)? * 10 + digit(f)?, digit(g)? * 10 + digit(h)?);
        return civil::Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok();
    }
    std::str::from_utf8(raw).ok()?.parse().ok()
}

/// With an offset, or else in the source's zone.
///
/// # Errors
/// Why it is none, in words.
pub fn timestamp(raw: &[u8], zone: &TimeZone) -> Result<Timestamp, &'static str> {
    let text = std::str::from_utf8(raw).map_err(|_| "not a Timestamp")?;
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
            reveal: false,
        }
    }

    fn cell(kind: FieldKind, text: &str) -> Result<Value<'_>, &'static str> {
        parse(text.as_bytes(), &field(kind, 2), &TimeZone::get("Europe/Rome").unwrap())
    }

    #[test]
    fn decimals_are_exact_or_refused() {
        assert_eq!(cell(FieldKind::Decimal, "-12.5"), Ok(Value::Decimal(-1250)));
        assert_eq!(cell(FieldKind::Decimal, "0.10"), Ok(Value::Decimal(10)));
        assert_eq!(cell(FieldKind::Decimal, "0001.5000"), Ok(Value::Decimal(150)));
        assert_eq!(cell(FieldKind::Decimal, ".5"), Ok(Value::Decimal(50)));
        for bad in ["1.234", "1.2.3", "-", "12345", "99999999999999999999", "12345.00", ".", "1e3", "1,5", "--1"] {
            assert!(cell(FieldKind::Decimal, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn timestamps_without_offset_are_in_the_sources_zone() {
        let at = |text: &str| match cell(FieldKind::Timestamp, text) {
            Ok(Value::Timestamp(at)) => at.to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(at("2026-07-01 09:00:00"), "2026-07-01T07:00:00Z");
        assert_eq!(at("2026-07-01T09:00:00+09:00"), "2026-07-01T00:00:00Z");
        assert!(cell(FieldKind::Timestamp, "2026-07-01").is_err());
    }

    #[test]
    fn booleans_and_blanks() {
        for (text, is) in [("t", true), ("FALSE", false), ("1", true), ("0", false)] {
            assert_eq!(cell(FieldKind::Boolean, text), Ok(Value::Boolean(is)));
        }
        assert_eq!(cell(FieldKind::Boolean, ""), Ok(Value::Missing));
        assert!(cell(FieldKind::Boolean, "yes").is_err());
        assert_eq!(cell(FieldKind::String, " "), Ok(Value::Text(" ")));
    }

    #[test]
    fn what_no_database_can_hold_is_refused() {
        let string = field(FieldKind::String, 0);
        assert!(parse(b"a\0b", &string, &TimeZone::UTC).is_err());
        assert!(parse(&[0xff, 0xfe], &string, &TimeZone::UTC).is_err());
        assert!(cell(FieldKind::Double, "NaN").is_err());
    }
}
