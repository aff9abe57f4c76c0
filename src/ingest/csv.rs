//! CSV with a header row, read in a thread of its own.

use std::{fs::File, path::PathBuf};

use jiff::tz::TimeZone;
use tokio::sync::mpsc;

use super::cell;
use crate::{
    api::dataset::Entity,
    store::merge::{Cell, Reject},
};

/// Rows handed over at once.
const CHUNK_ROWS: usize = 2_000;
/// Rejects kept of one file; all are counted.
const REJECTS_KEPT_MAX: usize = 10_000;

pub struct Reader {
    path: PathBuf,
    entity: Entity,
}

/// What a file held.
#[derive(Debug, Default)]
pub struct Counts {
    pub rows: i64,
    pub rejected: i64,
    pub rejects: Vec<Reject>,
}

pub type Chunk = Vec<(i64, Vec<Cell>)>;

impl Reader {
    pub fn new(path: PathBuf, entity: Entity) -> Self {
        Self { path, entity }
    }

    /// Reads the file to its end.
    ///
    /// # Errors
    /// Why the file cannot be read at all.
    pub fn run(&self, sender: &mpsc::Sender<Chunk>) -> Result<Counts, String> {
        let file = File::open(&self.path).map_err(|e| e.to_string())?;
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file);
        let header = reader.byte_headers().map_err(|e| broken(&e))?.clone();
        let columns = self.columns(&header)?;
        let zone = self.entity.source.as_ref().and_then(|s| s.files.time_zone.as_deref());
        let zone = zone.map_or(Ok(TimeZone::UTC), TimeZone::get).map_err(|e| e.to_string())?;
        let mut counts = Counts::default();
        let mut chunk = Vec::with_capacity(CHUNK_ROWS);
        let mut record = csv::ByteRecord::new();
        while reader.read_byte_record(&mut record).map_err(|e| broken(&e))? {
            let line = record.position().map_or(0, |p| i64::try_from(p.line()).unwrap_or(0));
            match self.row(&record, header.len(), &columns, &zone) {
                Ok(cells) => {
                    counts.rows += 1;
                    chunk.push((line, cells));
                }
                Err((field, reason)) => {
                    counts.rejected += 1;
                    if counts.rejects.len() < REJECTS_KEPT_MAX {
                        counts.rejects.push(Reject { line, field, reason });
                    }
                }
            }
            if chunk.len() == CHUNK_ROWS && sender.blocking_send(std::mem::take(&mut chunk)).is_err() {
                return Err("the store stopped taking rows".to_owned());
            }
        }
        // The receiver is gone only if the store failed, and it says so itself.
        let _ = sender.blocking_send(chunk);
        Ok(counts)
    }

    /// For each field of the entity its place in the file.
    fn columns(&self, header: &csv::ByteRecord) -> Result<Vec<usize>, String> {
        let names: Vec<String> = header
            .iter()
            .map(|name| String::from_utf8_lossy(name).trim_start_matches('\u{feff}').trim().to_owned())
            .collect();
        for (index, name) in names.iter().enumerate() {
            if names[..index].contains(name) {
                return Err(format!("line 1: the header names column `{name}` twice"));
            }
        }
        let place = |field: &str| names.iter().position(|name| name == field);
        let missing: Vec<&str> = self.entity.fields.iter().map(|f| &*f.name).filter(|f| place(f).is_none()).collect();
        if !missing.is_empty() {
            return Err(format!("line 1: the header has no column {}", missing.join(", ")));
        }
        Ok(self.entity.fields.iter().filter_map(|f| place(&f.name)).collect())
    }

    fn row(
        &self,
        record: &csv::ByteRecord,
        width: usize,
        columns: &[usize],
        zone: &TimeZone,
    ) -> Result<Vec<Cell>, (Option<String>, String)> {
        if record.len() != width {
            return Err((None, format!("{} fields where the header has {width}", record.len())));
        }
        let mut cells = Vec::with_capacity(columns.len());
        for (field, column) in self.entity.fields.iter().zip(columns) {
            let wrong = |reason: &str| (Some(field.name.to_string()), format!("{}: {reason}", field.name));
            let cell = cell::parse(record.get(*column).unwrap_or_default(), field, zone).map_err(wrong)?;
            let is_required = field.required || self.entity.key.contains(&field.name);
            if is_required && cell == Cell::Missing {
                return Err(wrong("required, and missing"));
            }
            cells.push(cell);
        }
        Ok(cells)
    }
}

fn broken(error: &csv::Error) -> String {
    match error.position() {
        Some(at) => format!("line {}: not CSV", at.line()),
        None => "cannot be read".to_owned(),
    }
}
