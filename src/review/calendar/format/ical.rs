//! iCalendar (RFC 5545): one event for each start, so that a marketing calendar can subscribe to it.
//!
//! Times are in UTC, so that no reader's own tables of daylight saving decide when a campaign starts.

use jiff::{SignedDuration, Timestamp};

use super::{Calendar, channels, name, notes, size, words};
use crate::{
    review::calendar::{Entry, Event, TAKES},
    source::Key,
};

/// Of a line, without its break (section 3.1).
const OCTETS_MAX: usize = 75;

/// The calendar as a stream of lines. `now` is when it was made.
pub fn write(calendar: &Calendar, now: Timestamp) -> String {
    let mut stream = Stream::default();
    stream.line("BEGIN:VCALENDAR");
    stream.line("VERSION:2.0");
    stream.line(&format!("PRODID:-//Campanile//campanile {}//EN", env!("CARGO_PKG_VERSION")));
    stream.line("CALSCALE:GREGORIAN");
    stream.line("METHOD:PUBLISH");
    for entry in &calendar.entries {
        event(&mut stream, entry, calendar, now);
    }
    stream.line("END:VCALENDAR");
    stream.text
}

fn event(stream: &mut Stream, entry: &Entry, calendar: &Calendar, now: Timestamp) {
    let takes = calendar.window.takes.unwrap_or(TAKES);
    let is_off = matches!(entry.event, Event::Skipped { .. } | Event::Missed);
    let title = format!("{} {}", name(&entry.campaign, calendar), words(entry));
    let mut about: Vec<String> = vec![];
    about.extend(Some(channels(entry)).filter(|channels| !channels.is_empty()).map(|c| format!("Channels: {c}")));
    about.extend(Some(size(entry)).filter(|size| !size.is_empty()).map(|size| format!("Size: {size}")));
    about.extend(notes(entry));
    stream.line("BEGIN:VEVENT");
    stream.line(&format!("UID:{}", uid(&entry.campaign, entry)));
    stream.line(&format!("DTSTAMP:{}", utc(now)));
    stream.line(&format!("DTSTART:{}", utc(entry.at)));
    stream.line(&format!("DURATION:{}", duration(takes)));
    stream.line(&format!("SUMMARY:{}", escaped(&title)));
    if !about.is_empty() {
        stream.line(&format!("DESCRIPTION:{}", escaped(&about.join("\n"))));
    }
    stream.line(&format!("CATEGORIES:{}", escaped(&entry.campaign.namespace)));
    stream.line(if is_off { "STATUS:CANCELLED" } else { "STATUS:CONFIRMED" });
    // A campaign keeps nobody busy.
    stream.line("TRANSP:TRANSPARENT");
    stream.line("END:VEVENT");
}

/// The same for the same start, whenever the calendar is made: readers then replace it.
fn uid(key: &Key, entry: &Entry) -> String {
    let what = match &entry.event {
        Event::Resume { started, .. } => format!("{}-{}", utc(*started), utc(entry.at)),
        _ => utc(entry.at),
    };
    format!("{}.{}.{what}@campanile.dev", key.namespace, key.name)
}

fn utc(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// Section 3.3.6.
fn duration(length: SignedDuration) -> String {
    format!("PT{}S", length.as_secs().max(0))
}

/// Section 3.3.11.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | ';' | ',' => escaped.extend(['\\', c]),
            '\n' => escaped.push_str("\\n"),
            c if c.is_control() => {}
            c => escaped.push(c),
        }
    }
    escaped
}

/// Lines, each ended by CRLF and folded where it is too long, never inside of a character.
#[derive(Default)]
struct Stream {
    text: String,
}

impl Stream {
    fn line(&mut self, line: &str) {
        let mut length = 0;
        for c in line.chars() {
            if length + c.len_utf8() > OCTETS_MAX {
                self.text.push_str("\r\n ");
                length = 1;
            }
            self.text.push(c);
            length += c.len_utf8();
        }
        self.text.push_str("\r\n");
    }
}
