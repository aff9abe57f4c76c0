//! Rows on their way into the store, in the form in which it takes them: PostgreSQL's binary COPY, SQLite's binds.
//!
//! A reader pushes typed values into one buffer; for PostgreSQL no value is ever an allocation of its own. Binary, because
//! the server then parses no text: a date is four bytes, and a decimal the digits that it stores.

use jiff::{Timestamp, civil};

use super::{Bind, micros};
use crate::{api::dataset::Entity, rule::Dialect};

/// A full buffer is handed over; a few of them are on their way at once.
const BATCH_BYTES: usize = 256 * 1024;
/// The same bound for SQLite, whose rows are counted.
const BATCH_ROWS: usize = 1_000;
/// PostgreSQL counts days and microseconds from 2000-01-01.
const POSTGRES_EPOCH_DAYS: i32 = 10_957;
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// One value of a row, typed as its field is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Missing,
    Text(&'a str),
    Integer(i64),
    Double(f64),
    Boolean(bool),
    /// Scaled by ten to the field's `scale`.
    Decimal(i64),
    Date(civil::Date),
    Timestamp(Timestamp),
}

/// What a row asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Change {
    #[default]
    Upsert,
    Delete,
}

/// Where rows go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Into the entity's table itself, which is empty.
    Table,
    /// Into the stage, which has a number and the kind of change before each row.
    Stage,
}

/// A batch of rows.
#[derive(Debug)]
pub enum Batch {
    Copy(Vec<u8>),
    Binds(Vec<Vec<Bind>>),
}

/// The batch that is being filled.
#[derive(Debug)]
pub struct Rows {
    batch: Batch,
    /// Where the row under way begins.
    mark: usize,
    target: Target,
    /// The number of the file, in the table of an entity with versions.
    file_no: Option<i64>,
    scales: Vec<u8>,
    column: usize,
    row_no: i64,
}

impl Rows {
    pub fn new(dialect: Dialect, entity: &Entity, target: Target, file_no: Option<i64>) -> Self {
        let scales = entity.fields.iter().map(|f| f.scale.unwrap_or(0)).collect();
        Self { batch: empty(dialect), mark: 0, target, file_no, scales, column: 0, row_no: 0 }
    }

    /// Begins a row.
    pub fn begin(&mut self, change: Change) {
        self.column = 0;
        let extra = if self.target == Target::Stage { 2 } else { usize::from(self.file_no.is_some()) };
        let columns = self.scales.len() + extra;
        match &mut self.batch {
            Batch::Copy(bytes) => {
                self.mark = bytes.len();
                bytes.extend_from_slice(&u16::try_from(columns).unwrap_or(u16::MAX).to_be_bytes());
            }
            Batch::Binds(rows) => {
                self.mark = rows.len();
                rows.push(Vec::with_capacity(columns));
            }
        }
        match (self.target, self.file_no) {
            (Target::Stage, _) => {
                self.put(Value::Integer(self.row_no), 0);
                self.put(Value::Boolean(change == Change::Delete), 0);
            }
            (Target::Table, Some(no)) => self.put(Value::Integer(no), 0),
            (Target::Table, None) => {}
        }
    }

    /// The next value of the row, in the order of the entity's fields.
    pub fn push(&mut self, value: Value<'_>) {
        let scale = self.scales.get(self.column).copied().unwrap_or(0);
        self.column += 1;
        self.put(value, scale);
    }

    /// Ends a row.
    pub fn end(&mut self) {
        self.row_no += 1;
    }

    /// Takes the row under way back.
    pub fn undo(&mut self) {
        match &mut self.batch {
            Batch::Copy(bytes) => bytes.truncate(self.mark),
            Batch::Binds(rows) => rows.truncate(self.mark),
        }
    }

    pub fn is_full(&self) -> bool {
        match &self.batch {
            Batch::Copy(bytes) => bytes.len() >= BATCH_BYTES,
            Batch::Binds(rows) => rows.len() >= BATCH_ROWS,
        }
    }

    /// Hands the batch over and begins another.
    pub fn take(&mut self) -> Batch {
        let next = match &self.batch {
            Batch::Copy(_) => empty(Dialect::Postgres),
            Batch::Binds(_) => empty(Dialect::Sqlite),
        };
        std::mem::replace(&mut self.batch, next)
    }

    #[inline]
    fn put(&mut self, value: Value<'_>, scale: u8) {
        match &mut self.batch {
            Batch::Copy(bytes) => put_binary(bytes, value, scale),
            Batch::Binds(rows) => {
                if let Some(row) = rows.last_mut() {
                    row.push(bind(value));
                }
            }
        }
    }
}

fn empty(dialect: Dialect) -> Batch {
    match dialect {
        Dialect::Postgres => Batch::Copy(Vec::with_capacity(BATCH_BYTES + BATCH_BYTES / 8)),
        Dialect::Sqlite => Batch::Binds(Vec::with_capacity(BATCH_ROWS)),
    }
}

fn bind(value: Value<'_>) -> Bind {
    match value {
        Value::Missing => Bind::Text(None),
        Value::Text(text) => text.into(),
        Value::Integer(n) | Value::Decimal(n) => n.into(),
        Value::Double(x) => Bind::Real(Some(x)),
        Value::Boolean(b) => b.into(),
        Value::Date(date) => date.to_string().into(),
        Value::Timestamp(at) => micros(at).into(),
    }
}

/// A field of PostgreSQL's binary format: its length in four bytes, then the type's own form (`…recv` of its type).
#[inline]
fn put_binary(out: &mut Vec<u8>, value: Value<'_>, scale: u8) {
    match value {
        Value::Missing => out.extend_from_slice(&(-1_i32).to_be_bytes()),
        Value::Text(text) => {
            // Fields are bounded far below 2 GiB, see `ingest::cell`.
            out.extend_from_slice(&i32::try_from(text.len()).unwrap_or(i32::MAX).to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        Value::Integer(n) => put_eight(out, n.to_be_bytes()),
        Value::Double(x) => put_eight(out, x.to_be_bytes()),
        Value::Boolean(b) => out.extend_from_slice(&[0, 0, 0, 1, u8::from(b)]),
        Value::Decimal(n) => put_numeric(out, n, scale),
        Value::Date(date) => {
            out.extend_from_slice(&4_i32.to_be_bytes());
            out.extend_from_slice(&(days(date) - POSTGRES_EPOCH_DAYS).to_be_bytes());
        }
        Value::Timestamp(at) => put_eight(out, (micros(at) - POSTGRES_EPOCH_US).to_be_bytes()),
    }
}

#[inline]
fn put_eight(out: &mut Vec<u8>, bytes: [u8; 8]) {
    let mut all = [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    all[4..].copy_from_slice(&bytes);
    out.extend_from_slice(&all);
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar; March begins the year, so that the leap day ends it.
fn days(date: civil::Date) -> i32 {
    let (month, day) = (i32::from(date.month()), i32::from(date.day()));
    let year = i32::from(date.year()) - i32::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// `numeric` is digits to the base of 10,000, aligned at the decimal point, without zeros at either end.
fn put_numeric(out: &mut Vec<u8>, scaled: i64, scale: u8) {
    const BASE: u64 = 10_000;
    // 19 decimal digits fall into 6 groups at most, whichever way the point cuts them.
    let mut groups = [0_u16; 7];
    let mut first = groups.len();
    let (mut rest, scale) = (scaled.unsigned_abs(), u32::from(scale));
    let odd = scale % 4;
    let mut behind = i16::try_from(scale.div_ceil(4)).unwrap_or(0);
    let mut push = |digits: u64| {
        first -= 1;
        groups[first] = u16::try_from(digits).unwrap_or(0);
    };
    if odd > 0 {
        let cut = 10_u64.pow(odd);
        push((rest % cut) * 10_u64.pow(4 - odd));
        rest /= cut;
    }
    let mut pushed = i16::from(odd > 0);
    while rest > 0 || pushed < behind {
        push(rest % BASE);
        rest /= BASE;
        pushed += 1;
    }
    let mut digits = &groups[first..];
    let mut weight = pushed - behind - 1;
    while let Some((0, shorter)) = digits.split_first() {
        (digits, weight) = (shorter, weight - 1);
    }
    while let Some((0, shorter)) = digits.split_last() {
        (digits, behind) = (shorter, behind - 1);
    }
    let count = u16::try_from(digits.len()).unwrap_or(0);
    let sign: u16 = if scaled < 0 { 0x4000 } else { 0 };
    let weight = if count == 0 { 0 } else { weight };
    out.extend_from_slice(&(8 + 2 * i32::from(count)).to_be_bytes());
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&u16::try_from(scale).unwrap_or(0).to_be_bytes());
    digits.iter().for_each(|digit| out.extend_from_slice(&digit.to_be_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(scaled: i64, scale: u8) -> (i16, u16, Vec<u16>) {
        let mut out = vec![];
        put_numeric(&mut out, scaled, scale);
        let word = |at: usize| u16::from_be_bytes([out[at], out[at + 1]]);
        assert_eq!(usize::from(word(2)), out.len() - 4);
        assert_eq!((usize::from(word(4)), word(10)), ((out.len() - 12) / 2, u16::from(scale)));
        (word(6).cast_signed(), word(8), (12..out.len()).step_by(2).map(word).collect())
    }

    #[test]
    fn decimals_become_the_digits_that_postgresql_stores() {
        assert_eq!(numeric(0, 2), (0, 0, vec![]));
        assert_eq!(numeric(12_345, 2), (0, 0, vec![123, 4500]));
        assert_eq!(numeric(-5, 2), (-1, 0x4000, vec![500]));
        assert_eq!(numeric(120_000, 0), (1, 0, vec![12]));
        assert_eq!(numeric(1, 5), (-2, 0, vec![1000]));
        assert_eq!(numeric(i64::MAX, 0), (4, 0, vec![922, 3372, 368, 5477, 5807]));
        assert_eq!(numeric(123_456_789_012_345_678, 17), (0, 0, vec![1, 2345, 6789, 123, 4567, 8000]));
    }

    #[test]
    fn days_count_from_1970() {
        let at = |y, m, d| days(civil::date(y, m, d));
        assert_eq!((at(1970, 1, 1), at(2000, 1, 1), at(1969, 12, 31)), (0, POSTGRES_EPOCH_DAYS, -1));
        assert_eq!((at(2000, 3, 1), at(2024, 2, 29), at(1, 1, 1)), (11_017, 19_782, -719_162));
    }
}
