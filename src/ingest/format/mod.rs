//! The formats of files: each reads records and shows them, one at a time, to a [`Sink`].
//!
//! ```ignore
//! format::read(FileFormat::CSV, input, &reading, &mut sink)?;
//! ```
//!
//! A record that cannot be taken is the sink's to reject; a file that cannot be read is [`Halt::Refused`], with the line.
//! Nothing here holds more than one record, but for Parquet, which is read in batches of [`parquet::BATCH_RECORDS`].

mod csv;
mod jsonl;
mod parquet;

use std::io::{self, BufReader, Read, Seek};

use jiff::tz::TimeZone;

use crate::{
    api::dataset::{Entity, Field, FileFormat},
    files::Input,
    store::rows::{Change, Value},
};

/// The column in which change data capture says what a row asks for.
pub const CHANGE_COLUMN: &str = "_change_request_type";
/// A record that is longer than this is most likely a quote that is never closed.
pub const RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Read from a file at once.
const READ_BYTES: usize = 256 * 1024;

/// What is read of each record.
#[derive(Clone, Debug)]
pub struct Reading {
    pub fields: Vec<Field>,
    /// The zone of timestamps without an offset.
    pub zone: TimeZone,
    /// Whether [`CHANGE_COLUMN`] is looked for.
    pub has_changes: bool,
}

impl Reading {
    /// An entity's own fields.
    ///
    /// # Errors
    /// If `zone` is not the name of a time zone.
    pub fn of(entity: &Entity, zone: Option<&str>, has_changes: bool) -> Result<Self, String> {
        Ok(Self {
            fields: entity.fields.clone(),
            zone: zone.map_or(Ok(TimeZone::UTC), TimeZone::get).map_err(|e| e.to_string())?,
            has_changes,
        })
    }
}

/// One record, whose values are typed as they are asked for.
pub trait Record {
    /// The value of a field of the [`Reading`], by its place there; or why it does not fit.
    fn value(&self, field: usize) -> Result<Value<'_>, &'static str>;
    /// What the record asks for; or why nobody knows.
    fn change(&self) -> Result<Change, &'static str>;
}

/// Why a file is not read further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// The file is wrong as a whole: why, and in which line.
    Refused(String),
    /// The reader lost touch with where the file is; it may be read another time.
    Lost(String),
    /// The sink wants no more.
    Enough,
}

/// Takes records.
pub trait Sink {
    /// Takes a record, or rejects it. Lines count from 1; in Parquet they are rows.
    ///
    /// # Errors
    /// [`Halt::Enough`] where no more of them are wanted.
    fn take(&mut self, line: i64, record: &impl Record) -> Result<(), Halt>;
    /// Rejects a record that has the wrong form.
    ///
    /// # Errors
    /// [`Halt::Enough`] where no more of them are wanted.
    fn reject(&mut self, line: i64, reason: String) -> Result<(), Halt>;
    /// Says that the file has columns that no field asks for.
    fn ignore(&mut self, columns: usize);
}

/// Reads a file to its end.
///
/// # Errors
/// Why it is not read to its end.
pub fn read(format: FileFormat, input: Input, reading: &Reading, sink: &mut impl Sink) -> Result<(), Halt> {
    match format {
        FileFormat::CSV => csv::read(stream(input)?, reading, sink),
        FileFormat::JSONL => jsonl::read(stream(input)?, reading, sink),
        FileFormat::Parquet => parquet::read(input, reading, sink),
    }
}

/// Whether a file of this name is of this format: `customers.csv`, `customers.csv.gz`.
pub fn is_named_as(format: FileFormat, name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let name = [".gz", ".zst"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    let ends: &[&str] = match format {
        FileFormat::CSV => &[".csv"],
        FileFormat::JSONL => &[".jsonl", ".ndjson"],
        FileFormat::Parquet => &[".parquet"],
    };
    ends.iter().any(|end| name.ends_with(end))
}

/// The text of a file, decompressed if it is gzip or zstd, which its first bytes say whatever its name.
fn stream(input: Input) -> Result<Box<dyn Read + Send>, Halt> {
    let mut plain: Box<dyn Read + Send> = match input {
        Input::File(mut file) => {
            file.rewind().map_err(lost)?;
            Box::new(file)
        }
        Input::Stream(stream) => stream,
        Input::Ranges(_) => return Err(Halt::Refused("a text format is read from its beginning".to_owned())),
    };
    let mut first = [0; 4];
    let mut held = 0;
    while held < first.len() {
        match plain.read(&mut first[held..]).map_err(lost)? {
            0 => break,
            n => held += n,
        }
    }
    let whole = io::Cursor::new(first[..held].to_vec()).chain(plain);
    Ok(match first[..held] {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(READ_BYTES, whole))),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::new(whole).map_err(lost)?),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            return Err(Halt::Refused("line 1: not UTF-8 but UTF-16".to_owned()));
        }
        _ => Box::new(whole),
    })
}

/// A stream that breaks: a compressed one that is cut or damaged is wrong, anything else may come back.
fn lost(error: io::Error) -> Halt {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            Halt::Refused("the file is damaged or cut".to_owned())
        }
        _ => Halt::Lost(error.to_string()),
    }
}

/// A stream's bytes in a window that moves over them.
struct Window {
    stream: Box<dyn Read + Send>,
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    is_over: bool,
}

impl Window {
    fn new(stream: Box<dyn Read + Send>) -> Self {
        Self { stream, bytes: vec![0; READ_BYTES], start: 0, end: 0, is_over: false }
    }

    fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    fn skip(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
    }

    /// Reads more behind what is unread; false at the end of the stream.
    fn fill(&mut self) -> Result<bool, Halt> {
        if self.is_over {
            return Ok(false);
        }
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.bytes.len() {
            self.bytes.resize(self.bytes.len() * 2, 0);
        }
        let n = self.stream.read(&mut self.bytes[self.end..]).map_err(lost)?;
        self.end += n;
        self.is_over = n == 0;
        Ok(n > 0)
    }
}

/// `u` or `d`; an empty one is an upsert.
fn change_of(raw: &[u8]) -> Result<Change, &'static str> {
    match raw.trim_ascii() {
        b"" | b"u" | b"U" => Ok(Change::Upsert),
        b"d" | b"D" => Ok(Change::Delete),
        _ => Err("_change_request_type: neither u nor d"),
    }
}

/// For each field its place among the names, and the place of [`CHANGE_COLUMN`].
#[derive(Debug)]
struct Places {
    fields: Vec<usize>,
    change: Option<usize>,
}

impl Places {
    fn of(names: &[&str], reading: &Reading, sink: &mut impl Sink) -> Result<Self, Halt> {
        let place = |field: &str| names.iter().position(|name| *name == field);
        let is_wanted = |name: &str| {
            reading.fields.iter().any(|f| *f.name == *name) || (reading.has_changes && name == CHANGE_COLUMN)
        };
        for (index, name) in names.iter().enumerate() {
            if is_wanted(name) && names[..index].contains(name) {
                return Err(Halt::Refused(format!("line 1: the header names column `{name}` twice")));
            }
        }
        let missing: Vec<&str> = reading.fields.iter().map(|f| &*f.name).filter(|f| place(f).is_none()).collect();
        if !missing.is_empty() {
            return Err(Halt::Refused(format!("line 1: the header has no column {}", missing.join(", "))));
        }
        sink.ignore(names.iter().filter(|name| !is_wanted(name)).count());
        Ok(Self {
            fields: reading.fields.iter().filter_map(|f| place(&f.name)).collect(),
            change: reading.has_changes.then(|| place(CHANGE_COLUMN)).flatten(),
        })
    }
}
