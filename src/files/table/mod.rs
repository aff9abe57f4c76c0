//! Rows as files for others to read: CSV, JSON Lines, Parquet.
//!
//! A missing value is an empty field in CSV and `null` elsewhere; a Decimal and a Timestamp are texts in CSV and JSON Lines,
//! as a number there would lose digits, and typed in Parquet.

mod parquet;
mod text;

use std::io::{self, Write};

use serde_json::Value;

use self::{parquet::Parquet, text::Csv, text::Jsonl};
use super::target::Pending;
use crate::{api::dataset::FileFormat, rule::schema::FieldType};

/// What stands in one column.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub ty: FieldType,
}

/// Takes rows, in order.
trait Rows {
    fn row(&mut self, values: Vec<Value>) -> io::Result<()>;
    /// Writes what is left, and hands back where it was written.
    fn finish(self: Box<Self>) -> io::Result<Pending>;
}

/// A table that is being written; blocks.
pub struct Table {
    rows: Box<dyn Rows + Send>,
    count: u64,
}

impl Table {
    /// # Errors
    /// If it cannot be written to.
    pub fn new(format: FileFormat, columns: &[Column], out: Pending) -> io::Result<Self> {
        let rows: Box<dyn Rows + Send> = match format {
            FileFormat::CSV => Box::new(Csv::new(columns, out)?),
            FileFormat::JSONL => Box::new(Jsonl::new(columns, out)),
            FileFormat::Parquet => Box::new(Parquet::new(columns, out)?),
        };
        Ok(Self { rows, count: 0 })
    }

    /// Writes a row: for each column its value as [`Row::shown`](crate::store::Row::shown) gives it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn row(&mut self, values: Vec<Value>) -> io::Result<()> {
        self.count += 1;
        self.rows.row(values)
    }

    /// Gives the file its name; how many rows it has.
    ///
    /// # Errors
    /// If it is not whole there; nothing of it is left then.
    pub fn commit(self) -> io::Result<u64> {
        let mut out = self.rows.finish()?;
        out.flush()?;
        out.commit()?;
        Ok(self.count)
    }
}
