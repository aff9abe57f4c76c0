//! Apache Parquet: a Decimal is an INT64 with its scale, a Date days, a Timestamp microseconds in UTC. Every column is
//! optional, and compressed by Zstandard.

use std::{io, sync::Arc};

use jiff::{Timestamp, civil};
use parquet::{
    basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel},
    data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type},
    errors::{ParquetError, Result},
    file::{
        properties::WriterProperties,
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::types::Type,
};
use serde_json::Value;

use super::{Column, Rows, packing::Packed};
use crate::rule::schema::FieldType;

/// A group of rows is held in memory until it is written; readers skip whole ones.
const GROUP_ROWS: usize = 50_000;
const GROUP_BYTES: usize = 16 * 1024 * 1024;
/// What INT64 holds, and the most that a field may have.
const DECIMAL_DIGITS: i32 = 18;

pub(super) struct Parquet {
    out: SerializedFileWriter<Packed>,
    columns: Vec<(FieldType, Vec<Value>)>,
    bytes: usize,
}

impl Parquet {
    pub fn new(columns: &[Column], out: Packed) -> io::Result<Self> {
        let fields: Result<Vec<_>> = columns.iter().map(|column| field(column).map(Arc::new)).collect();
        let schema = Type::group_type_builder("rows").with_fields(fields?).build()?;
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
        let out = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties))?;
        Ok(Self { out, columns: columns.iter().map(|column| (column.ty, vec![])).collect(), bytes: 0 })
    }

    fn write_group(&mut self) -> Result<()> {
        let mut group = self.out.next_row_group()?;
        for (ty, values) in &mut self.columns {
            write_column(&mut group, *ty, &std::mem::take(values))?;
        }
        group.close()?;
        self.bytes = 0;
        Ok(())
    }

    fn has_rows(&self) -> bool {
        self.columns.first().is_some_and(|(_, values)| !values.is_empty())
    }
}

impl Rows for Parquet {
    fn row(&mut self, values: Vec<Value>) -> io::Result<()> {
        for ((_, column), value) in self.columns.iter_mut().zip(values) {
            self.bytes += size_of::<Value>() + value.as_str().map_or(0, str::len);
            column.push(value);
        }
        let rows = self.columns.first().map_or(0, |(_, values)| values.len());
        if rows >= GROUP_ROWS || self.bytes >= GROUP_BYTES {
            self.write_group()?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<Packed> {
        if self.has_rows() {
            self.write_group()?;
        }
        Ok(self.out.into_inner()?)
    }
}

fn field(column: &Column) -> Result<Type> {
    let (physical, logical) = match column.ty {
        FieldType::String => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        FieldType::Integer => (Physical::INT64, None),
        FieldType::Double => (Physical::DOUBLE, None),
        FieldType::Boolean => (Physical::BOOLEAN, None),
        FieldType::Date => (Physical::INT32, Some(LogicalType::Date)),
        FieldType::Timestamp => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
        FieldType::Decimal { scale } => {
            let builder = Type::primitive_type_builder(&column.name, Physical::INT64)
                .with_repetition(Repetition::OPTIONAL)
                .with_logical_type(Some(LogicalType::decimal(scale.into(), DECIMAL_DIGITS)));
            return builder.with_scale(scale.into()).with_precision(DECIMAL_DIGITS).build();
        }
    };
    let builder = Type::primitive_type_builder(&column.name, physical).with_repetition(Repetition::OPTIONAL);
    builder.with_logical_type(logical).build()
}

fn write_column(group: &mut SerializedRowGroupWriter<'_, Packed>, ty: FieldType, values: &[Value]) -> Result<()> {
    match ty {
        FieldType::String => write::<ByteArrayType>(group, values, |v| Some(ByteArray::from(v.as_str()?))),
        FieldType::Integer => write::<Int64Type>(group, values, Value::as_i64),
        FieldType::Double => write::<DoubleType>(group, values, Value::as_f64),
        FieldType::Boolean => write::<BoolType>(group, values, Value::as_bool),
        FieldType::Date => write::<Int32Type>(group, values, |v| days(v.as_str()?)),
        FieldType::Timestamp => {
            write::<Int64Type>(group, values, |v| Some(v.as_str()?.parse::<Timestamp>().ok()?.as_microsecond()))
        }
        FieldType::Decimal { scale } => write::<Int64Type>(group, values, |v| scaled(v.as_str()?, scale)),
    }
}

/// One column of a group: which values are there, and those.
fn write<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Packed>,
    values: &[Value],
    read: impl Fn(&Value) -> Option<T::T>,
) -> Result<()> {
    let is_there: Vec<i16> = values.iter().map(|value| i16::from(!value.is_null())).collect();
    let present: Option<Vec<T::T>> = values.iter().filter(|value| !value.is_null()).map(read).collect();
    let unfit = || ParquetError::General("a value is not of its column's type".to_owned());
    let mut column = group.next_column()?.ok_or_else(unfit)?;
    column.typed::<T>().write_batch(&present.ok_or_else(unfit)?, Some(&is_there), None)?;
    column.close()
}

/// Days since 1970-01-01.
fn days(text: &str) -> Option<i32> {
    let date: civil::Date = text.parse().ok()?;
    Some(civil::date(1970, 1, 1).until(date).ok()?.get_days())
}

/// `-1.5` at scale 2 as -150.
fn scaled(text: &str, scale: u8) -> Option<i64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let scale = usize::from(scale);
    let is_exact = part.len() <= scale || part[scale..].bytes().all(|b| b == b'0');
    let part = part.get(..scale.min(part.len()))?;
    is_exact.then(|| format!("{whole}{part:0<scale$}").parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_exactly() {
        let read = [("-1.5", 2), ("0.05", 2), ("-0.05", 2), ("12", 0), ("1.500", 1), ("1.55", 1)];
        assert_eq!(read.map(|(t, s)| scaled(t, s)), [Some(-150), Some(5), Some(-5), Some(12), Some(15), None]);
        assert_eq!([days("1970-01-02"), days("1969-12-31"), days("2026-02-30")], [Some(1), Some(-1), None]);
    }
}
