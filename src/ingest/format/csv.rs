//! CSV with a header row, whose columns may stand in any order.

use csv_core::ReadRecordResult;

use super::{Halt, Places, RECORD_BYTES_MAX, Reading, Record, Sink, Window, change_of};
use crate::{
    ingest::cell,
    store::rows::{Change, Value},
};

/// Wider rows are no table that a person made.
const COLUMNS_MAX: usize = 4_096;
const RECORD_BYTES_FIRST: usize = 16 * 1024;

/// The bytes of one record, unquoted, and where each of its fields ends.
struct Fields<'a> {
    bytes: &'a [u8],
    ends: &'a [usize],
}

impl<'a> Fields<'a> {
    fn get(&self, index: usize) -> &'a [u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }
}

struct Row<'a> {
    fields: Fields<'a>,
    places: &'a Places,
    reading: &'a Reading,
}

impl Record for Row<'_> {
    fn value(&self, field: usize) -> Result<Value<'_>, &'static str> {
        cell::parse(self.fields.get(self.places.fields[field]), &self.reading.fields[field], &self.reading.zone)
    }

    fn change(&self) -> Result<Change, &'static str> {
        self.places.change.map_or(Ok(Change::Upsert), |place| change_of(self.fields.get(place)))
    }
}

/// Reads records out of a window.
struct Parser {
    window: Window,
    core: csv_core::Reader,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    width: usize,
}

impl Parser {
    /// The line of the next record; false if there is none.
    fn next(&mut self) -> Result<Option<u64>, Halt> {
        let line = self.core.line();
        let (mut length, mut width) = (0, 0);
        loop {
            // No input is how the parser learns that there is no more.
            if self.window.unread().is_empty() {
                self.window.fill()?;
            }
            let unread = self.window.unread();
            let (result, read, written, ended) =
                self.core.read_record(unread, &mut self.bytes[length..], &mut self.ends[width..]);
            self.window.skip(read);
            length += written;
            width += ended;
            match result {
                ReadRecordResult::Record => {
                    self.width = width;
                    return Ok(Some(line));
                }
                ReadRecordResult::End => return Ok(None),
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull if self.bytes.len() < RECORD_BYTES_MAX => {
                    self.bytes.resize(self.bytes.len() * 2, 0);
                }
                ReadRecordResult::OutputEndsFull if self.ends.len() < COLUMNS_MAX => {
                    self.ends.resize(self.ends.len() * 2, 0);
                }
                ReadRecordResult::OutputFull => {
                    let what = "a row longer than 16 MiB; is a quote never closed?";
                    return Err(Halt::Refused(format!("line {line}: {what}")));
                }
                ReadRecordResult::OutputEndsFull => {
                    return Err(Halt::Refused(format!("line {line}: more than {COLUMNS_MAX} columns")));
                }
            }
        }
    }

    fn fields(&self) -> Fields<'_> {
        Fields { bytes: &self.bytes, ends: &self.ends[..self.width] }
    }
}

pub(super) fn read(stream: Box<dyn std::io::Read + Send>, reading: &Reading, sink: &mut impl Sink) -> Result<(), Halt> {
    let mut window = Window::new(stream);
    while window.unread().len() < 3 && window.fill()? {}
    if window.unread().starts_with("\u{feff}".as_bytes()) {
        window.skip(3);
    }
    let mut parser = Parser {
        window,
        core: csv_core::Reader::new(),
        bytes: vec![0; RECORD_BYTES_FIRST],
        ends: vec![0; 64],
        width: 0,
    };
    if parser.next()?.is_none() {
        return Err(Halt::Refused("line 1: the header is missing".to_owned()));
    }
    let places = {
        let header = parser.fields();
        let names: Result<Vec<&str>, _> =
            (0..parser.width).map(|index| std::str::from_utf8(header.get(index)).map(str::trim)).collect();
        let names = names.map_err(|_| Halt::Refused("line 1: the header is not UTF-8".to_owned()))?;
        Places::of(&names, reading, sink)?
    };
    let width = parser.width;
    while let Some(line) = parser.next()? {
        let line = i64::try_from(line).unwrap_or(i64::MAX);
        if parser.width == width {
            sink.take(line, &Row { fields: parser.fields(), places: &places, reading })?;
        } else {
            sink.reject(line, format!("{} fields where the header has {width}", parser.width))?;
        }
    }
    Ok(())
}
