//! JSON Lines: one object in each line. A field that is absent or `null` is missing; what no field asks for is skipped.

use std::{borrow::Cow, collections::HashMap, fmt};

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{CHANGE_COLUMN, Halt, RECORD_BYTES_MAX, Reading, Record, Sink, Window, change_of};
use crate::{
    api::dataset::FieldKind,
    ingest::cell,
    store::rows::{Change, Value},
};

/// A field's value, text without its quotes.
enum Json<'a> {
    Missing,
    Text(Cow<'a, str>),
    /// A number or a truth value, as it is written.
    Plain(&'a str),
    Nested,
}

struct Row<'a> {
    values: Vec<Json<'a>>,
    change: Option<Cow<'a, str>>,
    reading: &'a Reading,
}

impl Record for Row<'_> {
    fn value(&self, field: usize) -> Result<Value<'_>, &'static str> {
        let declared = &self.reading.fields[field];
        match &self.values[field] {
            Json::Missing => Ok(Value::Missing),
            Json::Text(text) if declared.kind == FieldKind::String => cell::text(text.as_bytes()).map(Value::Text),
            Json::Text(text) => cell::parse(text.as_bytes(), declared, &self.reading.zone),
            // A number has lost the zeros before it, which a text may need.
            Json::Plain(_) if declared.kind == FieldKind::String => Err("a number or a Boolean, not a String"),
            Json::Plain(text) => cell::parse(text.as_bytes(), declared, &self.reading.zone),
            Json::Nested => Err("an object or a list"),
        }
    }

    fn change(&self) -> Result<Change, &'static str> {
        self.change.as_ref().map_or(Ok(Change::Upsert), |text| change_of(text.as_bytes()))
    }
}

/// Picks the values of the fields out of an object.
struct Picker<'r> {
    reading: &'r Reading,
    places: &'r HashMap<&'r str, usize>,
}

impl<'de: 'r, 'r> Visitor<'de> for Picker<'r> {
    type Value = Row<'r>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row<'r>, A::Error> {
        let mut row = Row { values: vec![], change: None, reading: self.reading };
        row.values.resize_with(self.reading.fields.len(), || Json::Missing);
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            if let Some(place) = self.places.get(&*name) {
                row.values[*place] = json(map.next_value::<&RawValue>()?)?;
            } else if self.reading.has_changes && name == CHANGE_COLUMN {
                row.change = map.next_value::<Option<Cow<'de, str>>>()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(row)
    }
}

fn json<'a, E: serde::de::Error>(raw: &'a RawValue) -> Result<Json<'a>, E> {
    let text = raw.get();
    Ok(match text.as_bytes().first() {
        Some(b'n') => Json::Missing,
        Some(b'{' | b'[') => Json::Nested,
        Some(b'"') => {
            // Without an escape the text stands there as it is.
            let inside = &text[1..text.len().saturating_sub(1).max(1)];
            match inside.contains('\\') {
                false => Json::Text(Cow::Borrowed(inside)),
                true => Json::Text(Cow::Owned(serde_json::from_str(text).map_err(E::custom)?)),
            }
        }
        _ => Json::Plain(text),
    })
}

pub(super) fn read(stream: Box<dyn std::io::Read + Send>, reading: &Reading, sink: &mut impl Sink) -> Result<(), Halt> {
    let mut window = Window::new(stream);
    let places: HashMap<&str, usize> = reading.fields.iter().enumerate().map(|(i, f)| (&*f.name, i)).collect();
    let mut line = 0_i64;
    loop {
        let mut seen = 0;
        let length = loop {
            if let Some(at) = memchr::memchr(b'\n', &window.unread()[seen..]) {
                break Some(seen + at);
            }
            seen = window.unread().len();
            if seen > RECORD_BYTES_MAX {
                return Err(Halt::Refused(format!("line {}: longer than 16 MiB", line + 1)));
            }
            if !window.fill()? {
                break None;
            }
        };
        line += 1;
        let is_last = length.is_none();
        let whole = &window.unread()[..length.unwrap_or(window.unread().len())];
        let text = if line == 1 { whole.strip_prefix("\u{feff}".as_bytes()).unwrap_or(whole) } else { whole };
        let read = whole.len() + usize::from(!is_last);
        if !text.trim_ascii().is_empty() {
            take(line, text, reading, &places, sink)?;
        }
        window.skip(read);
        if is_last {
            return Ok(());
        }
    }
}

fn take(
    line: i64,
    text: &[u8],
    reading: &Reading,
    places: &HashMap<&str, usize>,
    sink: &mut impl Sink,
) -> Result<(), Halt> {
    let Ok(text) = std::str::from_utf8(text) else { return sink.reject(line, "not UTF-8".to_owned()) };
    let mut parser = serde_json::Deserializer::from_str(text);
    let row = parser.deserialize_map(Picker { reading, places });
    match row.and_then(|row| parser.end().map(|()| row)) {
        Ok(row) => sink.take(line, &row),
        // The parser's own words may quote the line.
        Err(_) => sink.reject(line, "not a JSON object".to_owned()),
    }
}
