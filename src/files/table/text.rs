//! CSV (RFC 4180), JSON Lines, and lines of fields with a fixed width.

use std::io::{self, BufWriter, Write};

use serde_json::{Map, Value};

use super::{Column, Rows, packing::Packed};

pub(super) struct Csv {
    out: csv::Writer<Packed>,
}

impl Csv {
    pub fn new(delimiter: u8, columns: &[Column], out: Packed) -> io::Result<Self> {
        let mut out = csv::WriterBuilder::new().delimiter(delimiter).from_writer(out);
        out.write_record(columns.iter().map(|column| &column.name))?;
        Ok(Self { out })
    }
}

impl Rows for Csv {
    fn row(&mut self, values: Vec<Value>) -> io::Result<()> {
        Ok(self.out.write_record(values.into_iter().map(text))?)
    }

    fn finish(self: Box<Self>) -> io::Result<Packed> {
        self.out.into_inner().map_err(csv::IntoInnerError::into_error)
    }
}

fn text(value: Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// Each field is filled up with blanks on its right.
pub(super) struct Fixed {
    widths: Vec<usize>,
    out: BufWriter<Packed>,
}

impl Fixed {
    pub fn new(widths: Vec<usize>, out: Packed) -> Self {
        Self { widths, out: BufWriter::new(out) }
    }
}

impl Rows for Fixed {
    fn row(&mut self, values: Vec<Value>) -> io::Result<()> {
        for (value, width) in values.into_iter().zip(&self.widths) {
            let text = text(value);
            // A field that were cut would be another street; one with a line break would be another row.
            if text.chars().count() > *width || text.contains(char::is_control) {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "a value does not fit into its field"));
            }
            write!(self.out, "{text:<width$}")?;
        }
        self.out.write_all(b"\n")
    }

    fn finish(self: Box<Self>) -> io::Result<Packed> {
        self.out.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

pub(super) struct Jsonl {
    names: Vec<String>,
    out: BufWriter<Packed>,
}

impl Jsonl {
    pub fn new(columns: &[Column], out: Packed) -> Self {
        Self { names: columns.iter().map(|column| column.name.clone()).collect(), out: BufWriter::new(out) }
    }
}

impl Rows for Jsonl {
    fn row(&mut self, values: Vec<Value>) -> io::Result<()> {
        let object: Map<String, Value> = self.names.iter().cloned().zip(values).collect();
        serde_json::to_writer(&mut self.out, &object)?;
        self.out.write_all(b"\n")
    }

    fn finish(self: Box<Self>) -> io::Result<Packed> {
        self.out.into_inner().map_err(io::IntoInnerError::into_error)
    }
}
