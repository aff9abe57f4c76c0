//! Parquet: flat columns of a file, found by name. Nested ones and lists belong to no field.
//!
//! Columns are read side by side in batches of [`BATCH_RECORDS`]; the file is never in memory, nor is a row group. The
//! low-level readers are used, not arrow's: rows leave one at a time anyway.

use std::{
    io::{self, Read},
    sync::Arc,
};

use bytes::Bytes;
use jiff::{Timestamp, civil, tz::TimeZone};
use parquet::{
    basic::{ConvertedType, LogicalType, TimeUnit, Type as Physical},
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::{ByteArray, DataType, FixedLenByteArray, Int96},
    errors::ParquetError,
    file::{
        reader::{ChunkReader, FileReader, Length, RowGroupReader},
        serialized_reader::SerializedFileReader,
    },
    schema::types::ColumnDescriptor,
};

use super::{CHANGE_COLUMN, Halt, Places, Reading, Record, Sink, change_of};
use crate::{
    api::dataset::{Field, FieldKind},
    files::{Input, Ranges},
    ingest::cell,
    store::rows::{Change, Value},
};

/// Records of which a batch of each column is in memory.
pub const BATCH_RECORDS: usize = 1_024;
/// Read from an object store at once, where pages are read one after the other.
const READ_AHEAD_BYTES: usize = 1024 * 1024;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Boolean,
    Integer {
        is_signed: bool,
    },
    Double,
    Decimal {
        scale: u8,
    },
    Date,
    /// Units of so many nanoseconds.
    Timestamp {
        unit_ns: i64,
        is_utc: bool,
    },
    Text,
    Other,
}

impl Kind {
    fn of(column: &ColumnDescriptor) -> Self {
        let scale = || u8::try_from(column.type_scale()).map_or(Self::Other, |scale| Self::Decimal { scale });
        let timestamp = |unit_ns, is_utc| Self::Timestamp { unit_ns, is_utc };
        match (column.logical_type_ref(), column.converted_type(), column.physical_type()) {
            (Some(LogicalType::Decimal(_)), ..) | (None, ConvertedType::DECIMAL, _) => scale(),
            (Some(LogicalType::Date), ..) | (None, ConvertedType::DATE, _) => Self::Date,
            (Some(LogicalType::Timestamp(t)), ..) => {
                let unit_ns = match t.unit {
                    TimeUnit::MILLIS => 1_000_000,
                    TimeUnit::MICROS => 1_000,
                    TimeUnit::NANOS => 1,
                };
                timestamp(unit_ns, t.is_adjusted_to_u_t_c)
            }
            (None, ConvertedType::TIMESTAMP_MILLIS, _) => timestamp(1_000_000, true),
            (None, ConvertedType::TIMESTAMP_MICROS, _) => timestamp(1_000, true),
            (Some(LogicalType::Integer(int)), ..) => Self::Integer { is_signed: int.is_signed },
            (
                None,
                ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32 | ConvertedType::UINT_64,
                _,
            ) => Self::Integer { is_signed: false },
            (Some(LogicalType::Uuid | LogicalType::Time(_) | LogicalType::Float16 | LogicalType::Bson), ..) => {
                Self::Other
            }
            (None, ConvertedType::TIME_MILLIS | ConvertedType::TIME_MICROS | ConvertedType::INTERVAL, _) => Self::Other,
            (_, _, Physical::BOOLEAN) => Self::Boolean,
            (_, _, Physical::INT32 | Physical::INT64) => Self::Integer { is_signed: true },
            (_, _, Physical::FLOAT | Physical::DOUBLE) => Self::Double,
            (_, _, Physical::INT96) => timestamp(1, false),
            (_, _, Physical::BYTE_ARRAY) => Self::Text,
            (_, _, Physical::FIXED_LEN_BYTE_ARRAY) => Self::Other,
        }
    }

    fn fits(self, field: FieldKind) -> bool {
        match self {
            Self::Text => true,
            Self::Boolean => field == FieldKind::Boolean,
            Self::Integer { .. } => matches!(field, FieldKind::Integer | FieldKind::Decimal | FieldKind::Double),
            Self::Double => field == FieldKind::Double,
            Self::Decimal { .. } => field == FieldKind::Decimal,
            Self::Date => field == FieldKind::Date,
            Self::Timestamp { .. } => field == FieldKind::Timestamp,
            Self::Other => false,
        }
    }
}

/// One column's part of a batch.
enum Values {
    Bool(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Int96(Vec<Int96>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Bytes(Vec<ByteArray>),
    Fixed(Vec<FixedLenByteArray>),
}

/// A column of a row group that is being read.
struct Column {
    reader: ColumnReader,
    kind: Kind,
    has_missing: bool,
    levels: Vec<i16>,
    full_level: i16,
    values: Values,
    /// For each record of the batch the place of its value; none where it is missing.
    places: Vec<Option<u32>>,
}

impl Column {
    fn new(group: &dyn RowGroupReader, index: usize) -> Result<Self, ParquetError> {
        let descriptor = group.metadata().column(index).column_descr_ptr();
        let reader = group.get_column_reader(index)?;
        let values = match &reader {
            ColumnReader::BoolColumnReader(_) => Values::Bool(vec![]),
            ColumnReader::Int32ColumnReader(_) => Values::Int32(vec![]),
            ColumnReader::Int64ColumnReader(_) => Values::Int64(vec![]),
            ColumnReader::Int96ColumnReader(_) => Values::Int96(vec![]),
            ColumnReader::FloatColumnReader(_) => Values::Float(vec![]),
            ColumnReader::DoubleColumnReader(_) => Values::Double(vec![]),
            ColumnReader::ByteArrayColumnReader(_) => Values::Bytes(vec![]),
            ColumnReader::FixedLenByteArrayColumnReader(_) => Values::Fixed(vec![]),
        };
        Ok(Self {
            reader,
            kind: Kind::of(&descriptor),
            has_missing: descriptor.max_def_level() > 0,
            levels: vec![],
            full_level: descriptor.max_def_level(),
            values,
            places: vec![],
        })
    }

    /// Reads the next batch; how many records it has.
    fn fill(&mut self) -> Result<usize, ParquetError> {
        self.levels.clear();
        let levels = self.has_missing.then_some(&mut self.levels);
        let records = match (&mut self.reader, &mut self.values) {
            (ColumnReader::BoolColumnReader(r), Values::Bool(v)) => batch(r, levels, v),
            (ColumnReader::Int32ColumnReader(r), Values::Int32(v)) => batch(r, levels, v),
            (ColumnReader::Int64ColumnReader(r), Values::Int64(v)) => batch(r, levels, v),
            (ColumnReader::Int96ColumnReader(r), Values::Int96(v)) => batch(r, levels, v),
            (ColumnReader::FloatColumnReader(r), Values::Float(v)) => batch(r, levels, v),
            (ColumnReader::DoubleColumnReader(r), Values::Double(v)) => batch(r, levels, v),
            (ColumnReader::ByteArrayColumnReader(r), Values::Bytes(v)) => batch(r, levels, v),
            (ColumnReader::FixedLenByteArrayColumnReader(r), Values::Fixed(v)) => batch(r, levels, v),
            _ => Err(ParquetError::General("a column that changed its type".to_owned())),
        }?;
        self.places.clear();
        let mut next = 0;
        self.places.extend((0..records).map(|record| {
            let is_there = !self.has_missing || self.levels.get(record) == Some(&self.full_level);
            is_there.then(|| {
                next += 1;
                next - 1
            })
        }));
        Ok(records)
    }

    fn value<'a>(&'a self, record: usize, field: &Field, zone: &TimeZone) -> Result<Value<'a>, &'static str> {
        let Some(place) = self.places.get(record).copied().flatten() else { return Ok(Value::Missing) };
        let place = place as usize;
        let number = match &self.values {
            Values::Bool(v) => return Ok(Value::Boolean(v[place])),
            Values::Float(v) => return double(f64::from(v[place])),
            Values::Double(v) => return double(v[place]),
            Values::Bytes(v) if self.kind == Kind::Text => return text(v[place].data(), field, zone),
            Values::Int96(v) => {
                let at = v[place].to_nanos();
                return instant(i128::from(at), false, zone);
            }
            Values::Int32(v) if self.kind == (Kind::Integer { is_signed: false }) => {
                i128::from(v[place].cast_unsigned())
            }
            Values::Int64(v) if self.kind == (Kind::Integer { is_signed: false }) => {
                i128::from(v[place].cast_unsigned())
            }
            Values::Int32(v) => i128::from(v[place]),
            Values::Int64(v) => i128::from(v[place]),
            Values::Bytes(v) => big_endian(v[place].data())?,
            Values::Fixed(v) => big_endian(v[place].data())?,
        };
        match (self.kind, field.kind) {
            (Kind::Integer { .. }, FieldKind::Integer) => {
                i64::try_from(number).map(Value::Integer).map_err(|_| "not an Integer")
            }
            #[allow(clippy::cast_precision_loss, reason = "a Double is asked for")]
            (Kind::Integer { .. }, FieldKind::Double) => double(number as f64),
            (Kind::Integer { .. }, _) => rescaled(number, 0, field),
            (Kind::Decimal { scale }, _) => rescaled(number, scale, field),
            (Kind::Date, _) => {
                let day = i32::try_from(number).map_err(|_| "a Date out of range")?;
                let span = jiff::Span::new().try_days(day).map_err(|_| "a Date out of range")?;
                let date = civil::date(1970, 1, 1).checked_add(span);
                date.map(Value::Date).map_err(|_| "a Date out of range")
            }
            (Kind::Timestamp { unit_ns, is_utc }, _) => instant(number * i128::from(unit_ns), is_utc, zone),
            _ => Err("of another type"),
        }
    }
}

fn batch<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    levels: Option<&mut Vec<i16>>,
    values: &mut Vec<T::T>,
) -> Result<usize, ParquetError> {
    values.clear();
    reader.read_records(BATCH_RECORDS, levels, None, values).map(|(records, _, _)| records)
}

fn double(x: f64) -> Result<Value<'static>, &'static str> {
    if x.is_finite() { Ok(Value::Double(x)) } else { Err("not a Double") }
}

fn text<'a>(raw: &'a [u8], field: &Field, zone: &TimeZone) -> Result<Value<'a>, &'static str> {
    match field.kind {
        FieldKind::String => cell::text(raw).map(Value::Text),
        _ => cell::parse(raw, field, zone),
    }
}

fn big_endian(raw: &[u8]) -> Result<i128, &'static str> {
    if raw.len() > 16 {
        return Err("a Decimal with more digits than its precision");
    }
    let is_negative = raw.first().is_some_and(|byte| *byte >= 0x80);
    let mut wide = [if is_negative { 0xff } else { 0 }; 16];
    wide[16 - raw.len()..].copy_from_slice(raw);
    Ok(i128::from_be_bytes(wide))
}

fn rescaled(number: i128, scale: u8, field: &Field) -> Result<Value<'static>, &'static str> {
    let (wanted, precision) = (field.scale.unwrap_or(0), field.precision.unwrap_or(18));
    let too_long = "a Decimal with more digits than its precision";
    let scaled = match wanted.checked_sub(scale) {
        Some(more) => number.checked_mul(10_i128.pow(u32::from(more))).ok_or(too_long)?,
        None => {
            let cut = 10_i128.checked_pow(u32::from(scale - wanted)).ok_or(too_long)?;
            if number % cut != 0 {
                return Err("a Decimal with more digits behind the point than its scale");
            }
            number / cut
        }
    };
    match i64::try_from(scaled) {
        Ok(n) if scaled.unsigned_abs() < 10_u128.pow(u32::from(precision)) => Ok(Value::Decimal(n)),
        _ => Err(too_long),
    }
}

/// An instant, or a reading of a clock on the wall in the source's zone.
fn instant(ns: i128, is_utc: bool, zone: &TimeZone) -> Result<Value<'static>, &'static str> {
    let out = "a Timestamp out of range";
    let at = Timestamp::from_nanosecond(ns).map_err(|_| out)?;
    if is_utc {
        return Ok(Value::Timestamp(at));
    }
    let wall = TimeZone::UTC.to_datetime(at);
    zone.to_timestamp(wall).map(Value::Timestamp).map_err(|_| out)
}

struct Row<'a> {
    columns: &'a [Column],
    change: Option<&'a Column>,
    record: usize,
    reading: &'a Reading,
}

impl Record for Row<'_> {
    fn value(&self, field: usize) -> Result<Value<'_>, &'static str> {
        self.columns[field].value(self.record, &self.reading.fields[field], &self.reading.zone)
    }

    fn change(&self) -> Result<Change, &'static str> {
        let Some(column) = self.change else { return Ok(Change::Upsert) };
        match (&column.values, column.places.get(self.record).copied().flatten()) {
            (_, None) => Ok(Change::Upsert),
            (Values::Bytes(texts), Some(place)) => change_of(texts[place as usize].data()),
            _ => Err("_change_request_type: neither u nor d"),
        }
    }
}

pub(super) fn read(input: Input, reading: &Reading, sink: &mut impl Sink) -> Result<(), Halt> {
    match input {
        Input::File(file) => read_from(file, reading, sink),
        Input::Ranges(ranges) => read_from(Object(ranges), reading, sink),
        Input::Stream(_) => Err(Halt::Refused("Parquet cannot be read from a stream".to_owned())),
    }
}

fn read_from<R: ChunkReader + 'static>(source: R, reading: &Reading, sink: &mut impl Sink) -> Result<(), Halt> {
    let file = SerializedFileReader::new(source).map_err(wrong)?;
    let (places, change) = columns(&file, reading, sink)?;
    let mut row_no = 0_i64;
    for index in 0..file.num_row_groups() {
        let group = file.get_row_group(index).map_err(wrong)?;
        let open = |place: &usize| Column::new(&*group, *place).map_err(wrong);
        let mut columns = places.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let mut change = change.as_ref().map(open).transpose()?;
        loop {
            let mut records = None;
            for column in columns.iter_mut().chain(&mut change) {
                let read = column.fill().map_err(wrong)?;
                if records.replace(read).is_some_and(|before| before != read) {
                    return Err(Halt::Refused("its columns are not of one length".to_owned()));
                }
            }
            let Some(records) = records.filter(|n| *n > 0) else { break };
            for record in 0..records {
                row_no += 1;
                sink.take(row_no, &Row { columns: &columns, change: change.as_ref(), record, reading })?;
            }
        }
    }
    Ok(())
}

/// For each field the place of its column, checked against what it holds.
fn columns(
    file: &SerializedFileReader<impl ChunkReader + 'static>,
    reading: &Reading,
    sink: &mut impl Sink,
) -> Result<(Vec<usize>, Option<usize>), Halt> {
    let schema = file.metadata().file_metadata().schema_descr();
    let flat: Vec<usize> = (0..schema.num_columns())
        .filter(|index| {
            let column = schema.column(*index);
            column.max_rep_level() == 0 && column.path().parts().len() == 1
        })
        .collect();
    let described: Vec<_> = flat.iter().map(|index| schema.column(*index)).collect();
    let names: Vec<&str> = described.iter().map(|column| column.name()).collect();
    let places = Places::of(&names, reading, sink).map_err(|halt| match halt {
        Halt::Refused(message) => Halt::Refused(message.replace("line 1: the header", "the file")),
        other => other,
    })?;
    for (field, place) in reading.fields.iter().zip(&places.fields) {
        let kind = Kind::of(&described[*place]);
        if !kind.fits(field.kind) {
            let physical = described[*place].physical_type();
            let message = format!("its column `{}` is {physical} and cannot be read as {:?}", field.name, field.kind);
            return Err(Halt::Refused(message));
        }
    }
    if places.change.is_some_and(|place| Kind::of(&described[place]) != Kind::Text) {
        return Err(Halt::Refused(format!("its column `{CHANGE_COLUMN}` is no text")));
    }
    Ok((places.fields.iter().map(|place| flat[*place]).collect(), places.change.map(|place| flat[place])))
}

fn wrong(error: ParquetError) -> Halt {
    // A store that did not answer is not the file's fault.
    if let ParquetError::External(inner) = &error
        && let Some(io) = inner.downcast_ref::<io::Error>()
        && io.kind() != io::ErrorKind::UnexpectedEof
    {
        return Halt::Lost(io.to_string());
    }
    Halt::Refused("not a Parquet file, or a damaged one".to_owned())
}

/// An object of a remote store.
struct Object(Arc<dyn Ranges>);

impl Length for Object {
    fn len(&self) -> u64 {
        self.0.size()
    }
}

impl ChunkReader for Object {
    type T = Ahead;

    fn get_read(&self, start: u64) -> Result<Ahead, ParquetError> {
        Ok(Ahead { ranges: self.0.clone(), at: start, block: Bytes::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.0.read(start, length).map_err(|e| ParquetError::External(Box::new(e)))
    }
}

/// Reads on from a place, a block at a time.
struct Ahead {
    ranges: Arc<dyn Ranges>,
    at: u64,
    block: Bytes,
}

impl Read for Ahead {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.block.is_empty() {
            let left = usize::try_from(self.ranges.size().saturating_sub(self.at)).unwrap_or(usize::MAX);
            // A page's header is small, and the page itself is fetched by its length.
            let length = left.min(READ_AHEAD_BYTES).min(out.len().max(16 * 1024));
            if length == 0 {
                return Ok(0);
            }
            self.block = self.ranges.read(self.at, length)?;
            self.at += length as u64;
        }
        let n = out.len().min(self.block.len());
        out[..n].copy_from_slice(&self.block.split_to(n));
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_of_any_width_keep_their_sign_and_scale() {
        assert_eq!(big_endian(&[0xff, 0x85]), Ok(-123));
        assert_eq!(big_endian(&[]), Ok(0));
        let field = Field {
            name: "f".into(),
            kind: FieldKind::Decimal,
            precision: Some(6),
            scale: Some(2),
            required: false,
            reveal: false,
        };
        assert_eq!(rescaled(-1230, 3, &field), Ok(Value::Decimal(-123)));
        assert_eq!(rescaled(7, 0, &field), Ok(Value::Decimal(700)));
        assert!(rescaled(1, 3, &field).is_err() && rescaled(1_000_000, 2, &field).is_err());
    }

    #[test]
    fn an_instant_without_a_zone_is_the_sources() {
        let rome = TimeZone::get("Europe/Rome").unwrap();
        let at = |ns, is_utc| instant(ns, is_utc, &rome).unwrap();
        assert_eq!(at(0, true), Value::Timestamp(Timestamp::UNIX_EPOCH));
        assert_eq!(at(0, false), Value::Timestamp("1969-12-31T23:00:00Z".parse().unwrap()));
    }
}
