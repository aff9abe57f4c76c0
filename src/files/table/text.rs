//! CSV (RFC 4180) and JSON Lines.

use std::io::{self, BufWriter, Write};

use serde_json::{Map, Value};

use super::{Column, Rows};
use crate::files::target::Pending;

pub(super) struct Csv {
    out: csv::Writer<Pending>,
}

impl Csv {
    pub fn new(columns: &[Column], out: Pending) -> io::Result<Self> {
        let mut out = csv::Writer::from_writer(out);
        out.write_record(columns.iter().map(|column| &column.name))?;
        Ok(Self { out })
    }
}

impl Rows for Csv {
    fn row(&mut self, values: Vec<Value>) -> io::Result<()> {
        let fields = values.into_iter().map(|value| match value {
            Value::Null => String::new(),
            Value::String(text) => text,
            other => other.to_string(),
        });
        Ok(self.out.write_record(fields)?)
    }

    fn finish(self: Box<Self>) -> io::Result<Pending> {
        self.out.into_inner().map_err(csv::IntoInnerError::into_error)
    }
}

pub(super) struct Jsonl {
    names: Vec<String>,
    out: BufWriter<Pending>,
}

impl Jsonl {
    pub fn new(columns: &[Column], out: Pending) -> Self {
        Self { names: columns.iter().map(|column| column.name.clone()).collect(), out: BufWriter::new(out) }
    }
}

impl Rows for Jsonl {
    fn row(&mut self, values: Vec<Value>) -> io::Result<()> {
        let object: Map<String, Value> = self.names.iter().cloned().zip(values).collect();
        serde_json::to_writer(&mut self.out, &object)?;
        self.out.write_all(b"\n")
    }

    fn finish(self: Box<Self>) -> io::Result<Pending> {
        self.out.into_inner().map_err(io::IntoInnerError::into_error)
    }
}
