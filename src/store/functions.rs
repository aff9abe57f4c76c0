//! What rules and lots ask that SQLite lacks: patterns, parts of instants in a time zone, arithmetic that faults, MD5.
//!
//! The functions are registered on every connection; PostgreSQL has its own. This is the one place with `unsafe`.
#![allow(unsafe_code)]

use std::{
    cell::RefCell,
    ffi::{CStr, c_char, c_int},
};

use libsqlite3_sys as ffi;
use md5::{Digest, Md5};
use regex::Regex;
use sqlx::SqliteConnection;

/// With what the message of a fault begins; see [`super::Error::is_fault`].
pub(super) const FAULT: &str = "campanile: a fault in a rule";
/// Patterns of one connection's thread; a rule has a few.
const PATTERNS_MAX: usize = 64;
const PATTERN_MEMORY_MAX: usize = 4 << 20;

/// A value as SQLite hands it over.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value<'v> {
    Missing,
    Integer(i64),
    Real(f64),
    Text(&'v str),
}

#[derive(Debug, PartialEq)]
enum Answer {
    Missing,
    Integer(i64),
    Real(f64),
    Text(String),
    Fault,
}

type Function = fn(&[Value<'_>]) -> Answer;

/// Names, as the lowering of rules writes them.
const FUNCTIONS: [(&CStr, c_int, Function); 10] = [
    (c"campanile_add", 2, |args| operate("add", args)),
    (c"campanile_subtract", 2, |args| operate("subtract", args)),
    (c"campanile_multiply", 2, |args| operate("multiply", args)),
    (c"campanile_divide", 2, |args| operate("divide", args)),
    (c"campanile_remainder", 2, |args| operate("remainder", args)),
    (c"campanile_faults", 3, faults),
    (c"campanile_matches", 2, matches),
    (c"campanile_part", 3, part),
    (c"campanile_keyed", 2, keyed),
    // As PostgreSQL calls its own: both databases draw the same rows at random.
    (c"md5", 1, md5_of),
];

/// Registers the functions on a connection.
pub(super) async fn register(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let mut handle = connection.lock_handle().await?;
    let database = handle.as_raw_handle().as_ptr();
    for (index, (name, arguments, _)) in FUNCTIONS.iter().enumerate() {
        let flags = ffi::SQLITE_UTF8 | ffi::SQLITE_DETERMINISTIC | ffi::SQLITE_INNOCUOUS;
        // SAFETY: the handle is locked and open; the name is a C string; the user data is a number, not a pointer to
        // anything; `call` is a function of this module and lives as long as the process.
        let code = unsafe {
            ffi::sqlite3_create_function_v2(
                database,
                name.as_ptr(),
                *arguments,
                flags,
                std::ptr::without_provenance_mut(index),
                Some(call),
                None,
                None,
                None,
            )
        };
        if code != ffi::SQLITE_OK {
            return Err(sqlx::Error::Configuration(format!("SQLite refused a function ({code})").into()));
        }
    }
    Ok(())
}

/// SQLite's way in: reads the arguments, calls the function, writes the answer.
extern "C" fn call(context: *mut ffi::sqlite3_context, count: c_int, arguments: *mut *mut ffi::sqlite3_value) {
    // SAFETY: SQLite hands over a context and `count` values that are valid during this call. Texts are UTF-8 as the
    // function is registered for it, and are read before the call ends. A Rust panic would abort, and none of the
    // functions panics.
    unsafe {
        let index = ffi::sqlite3_user_data(context).addr();
        let Some((_, _, function)) = FUNCTIONS.get(index) else { return };
        let mut values = [Value::Missing; 3];
        let count = usize::try_from(count).unwrap_or(0).min(values.len());
        for (at, value) in values.iter_mut().enumerate().take(count) {
            *value = read(*arguments.add(at));
        }
        match function(&values[..count]) {
            Answer::Missing => ffi::sqlite3_result_null(context),
            Answer::Integer(n) => ffi::sqlite3_result_int64(context, n),
            Answer::Real(d) => ffi::sqlite3_result_double(context, d),
            Answer::Text(text) => ffi::sqlite3_result_text(
                context,
                text.as_ptr().cast::<c_char>(),
                c_int::try_from(text.len()).unwrap_or(0),
                ffi::SQLITE_TRANSIENT(),
            ),
            Answer::Fault => ffi::sqlite3_result_error(
                context,
                FAULT.as_ptr().cast::<c_char>(),
                c_int::try_from(FAULT.len()).unwrap_or(0),
            ),
        }
    }
}

/// # Safety
/// `value` must be one of the arguments of the call under way.
unsafe fn read<'v>(value: *mut ffi::sqlite3_value) -> Value<'v> {
    // SAFETY: as above; `sqlite3_value_text` comes before `sqlite3_value_bytes`, as SQLite asks.
    unsafe {
        match ffi::sqlite3_value_type(value) {
            ffi::SQLITE_INTEGER => Value::Integer(ffi::sqlite3_value_int64(value)),
            ffi::SQLITE_FLOAT => Value::Real(ffi::sqlite3_value_double(value)),
            ffi::SQLITE_TEXT => {
                let text = ffi::sqlite3_value_text(value);
                let length = usize::try_from(ffi::sqlite3_value_bytes(value)).unwrap_or(0);
                if text.is_null() {
                    return Value::Missing;
                }
                let bytes = std::slice::from_raw_parts(text, length);
                std::str::from_utf8(bytes).map_or(Value::Missing, Value::Text)
            }
            _ => Value::Missing,
        }
    }
}

/// Arithmetic as PostgreSQL does it: out of range is a fault, so is a division by zero.
fn operate(name: &str, args: &[Value<'_>]) -> Answer {
    match args {
        [Value::Integer(a), Value::Integer(b)] => {
            let exact = match name {
                "add" => a.checked_add(*b),
                "subtract" => a.checked_sub(*b),
                "multiply" => a.checked_mul(*b),
                "divide" => a.checked_div(*b),
                // The least integer by -1 leaves nothing, though its quotient is out of range.
                _ if *b == -1 => Some(0),
                _ => a.checked_rem(*b),
            };
            exact.map_or(Answer::Fault, Answer::Integer)
        }
        [a, b] => {
            let (Some(a), Some(b)) = (number(*a), number(*b)) else { return Answer::Missing };
            let result = match name {
                "add" => a + b,
                "subtract" => a - b,
                "multiply" => a * b,
                _ if b == 0.0 => return Answer::Fault,
                _ => a / b,
            };
            let is_lost = result == 0.0 && a != 0.0 && (name == "multiply" && b != 0.0 || name == "divide");
            if !result.is_finite() || is_lost { Answer::Fault } else { Answer::Real(result) }
        }
        _ => Answer::Missing,
    }
}

fn number(value: Value<'_>) -> Option<f64> {
    match value {
        Value::Integer(n) => Some(n as f64),
        Value::Real(d) => Some(d),
        _ => None,
    }
}

/// Whether an operation would fault.
fn faults(args: &[Value<'_>]) -> Answer {
    match args {
        [Value::Text(name), a, b] => Answer::Integer(i64::from(operate(name, &[*a, *b]) == Answer::Fault)),
        _ => Answer::Missing,
    }
}

thread_local! {
    static PATTERNS: RefCell<Vec<(String, Option<Regex>)>> = const { RefCell::new(vec![]) };
}

/// Whether the pattern is found in the text. Patterns come in the form of [`crate::rule`], which was checked.
fn matches(args: &[Value<'_>]) -> Answer {
    let [Value::Text(text), Value::Text(pattern)] = args else { return Answer::Missing };
    PATTERNS.with_borrow_mut(|known| {
        let index = known.iter().position(|(written, _)| written == pattern).unwrap_or_else(|| {
            if known.len() >= PATTERNS_MAX {
                known.clear();
            }
            let built = regex::RegexBuilder::new(pattern).size_limit(PATTERN_MEMORY_MAX).build().ok();
            known.push(((*pattern).to_owned(), built));
            known.len() - 1
        });
        match &known[index].1 {
            Some(regex) => Answer::Integer(i64::from(regex.is_match(text))),
            None => Answer::Fault,
        }
    })
}

/// A keyed hash; see [`super::keyed`].
fn keyed(args: &[Value<'_>]) -> Answer {
    let [Value::Text(pads), Value::Text(text)] = args else { return Answer::Missing };
    super::keyed::hash_with(pads, text).map_or(Answer::Missing, Answer::Text)
}

thread_local! {
    static ZONE: RefCell<Option<(String, jiff::tz::TimeZone)>> = const { RefCell::new(None) };
}

/// A part of an instant in a time zone, by the name that CEL gives it, or its `date`.
fn part(args: &[Value<'_>]) -> Answer {
    let [Value::Text(name), Value::Integer(at_us), Value::Text(zone)] = args else { return Answer::Missing };
    let Ok(at) = jiff::Timestamp::from_microsecond(*at_us) else { return Answer::Fault };
    let zone = ZONE.with_borrow_mut(|known| match known {
        Some((name, found)) if name == zone => Some(found.clone()),
        _ => {
            let found = jiff::tz::TimeZone::get(zone).ok()?;
            *known = Some(((*zone).to_owned(), found.clone()));
            Some(found)
        }
    });
    let Some(zone) = zone else { return Answer::Fault };
    let local = zone.to_datetime(at);
    let part = match *name {
        "date" => return Answer::Text(local.date().to_string()),
        "getFullYear" => i64::from(local.year()),
        "getMonth" => i64::from(local.month()) - 1,
        "getDate" => i64::from(local.day()),
        "getDayOfMonth" => i64::from(local.day()) - 1,
        "getDayOfWeek" => i64::from(local.weekday().to_sunday_zero_offset()),
        "getDayOfYear" => i64::from(local.day_of_year()) - 1,
        "getHours" => i64::from(local.hour()),
        "getMinutes" => i64::from(local.minute()),
        "getSeconds" => i64::from(local.second()),
        "getMilliseconds" => i64::from(local.millisecond()),
        _ => return Answer::Missing,
    };
    Answer::Integer(part)
}

/// The MD5 of a text, in hexadecimal.
fn md5_of(args: &[Value<'_>]) -> Answer {
    let [Value::Text(text)] = args else { return Answer::Missing };
    Answer::Text(Md5::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn md5_is_that_of_postgresql() {
        let of = |text| md5_of(&[Value::Text(text)]);
        // As `SELECT md5(…)` of PostgreSQL 15 shows them.
        assert_eq!(of(""), Answer::Text("d41d8cd98f00b204e9800998ecf8427e".to_owned()));
        assert_eq!(of("12"), Answer::Text("c20ad4d76fe97759aa27a0c99bff6710".to_owned()));
        assert_eq!(md5_of(&[Value::Missing]), Answer::Missing);
    }

    #[test]
    fn arithmetic_faults_where_postgresql_does() {
        let of = |name: &str, a: i64, b: i64| operate(name, &[Value::Integer(a), Value::Integer(b)]);
        assert_eq!(of("add", i64::MAX, 1), Answer::Fault);
        assert_eq!(of("divide", i64::MIN, -1), Answer::Fault);
        assert_eq!(of("remainder", i64::MIN, -1), Answer::Integer(0));
        assert_eq!(of("remainder", -7, 2), Answer::Integer(-1));
        assert_eq!(of("divide", -7, 2), Answer::Integer(-3));
        assert_eq!(of("remainder", 1, 0), Answer::Fault);
        assert_eq!(operate("divide", &[Value::Real(1.0), Value::Integer(0)]), Answer::Fault);
        assert_eq!(operate("multiply", &[Value::Real(1e300), Value::Real(1e300)]), Answer::Fault);
        assert_eq!(operate("multiply", &[Value::Real(1e-300), Value::Real(1e-300)]), Answer::Fault);
        assert_eq!(operate("add", &[Value::Missing, Value::Integer(1)]), Answer::Missing);
    }

    #[test]
    fn parts_are_those_of_the_wall_clock() {
        // 2026-03-29T00:59:59.9995Z: a second later the clocks in Rome go to three.
        let at = Value::Integer(1_774_745_999_999_500);
        let of = |name: &str| part(&[Value::Text(name), at, Value::Text("Europe/Rome")]);
        assert_eq!(of("getHours"), Answer::Integer(1));
        assert_eq!(of("getMonth"), Answer::Integer(2));
        assert_eq!(of("getDayOfWeek"), Answer::Integer(0));
        assert_eq!(of("getMilliseconds"), Answer::Integer(999));
        assert_eq!(of("date"), Answer::Text("2026-03-29".to_owned()));
    }
}
