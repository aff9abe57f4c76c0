//! A calendar for people, for calendars and for machines.

pub mod html;
pub mod ical;
pub mod json;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, tz::TimeZone};

use super::{Calendar, Entry, Event, Size};
use crate::source::Key;

/// `Sun 2026-03-29 03:00 CEST`
pub fn when(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M %Z").to_string()
}

/// The object's name, with its namespace where there are several.
pub fn name(key: &Key, calendar: &Calendar) -> String {
    if calendar.has_namespaces() { format!("{}/{}", key.namespace, key.name) } else { key.name.clone() }
}

pub fn size(entry: &Entry) -> String {
    match &entry.event {
        Event::Start(Size::Known(rows, _)) => rows.to_string(),
        Event::Start(Size::Unknown(_)) => "unknown".to_owned(),
        _ => String::new(),
    }
}

/// What happens, in words.
pub fn words(entry: &Entry) -> String {
    match &entry.event {
        Event::Resume { steps, .. } => format!("goes on behind {}", steps.join(", ")),
        other => other.word().to_owned(),
    }
}

/// What else is to be known of an entry, in words.
pub fn notes(entry: &Entry) -> Vec<String> {
    let mut notes = entry.notes.clone();
    match &entry.event {
        Event::Skipped { started } => notes.push(format!("the run of {} still works", when(*started, &entry.zone))),
        Event::Resume { started, .. } => notes.push(format!("of the run of {}", when(*started, &entry.zone))),
        _ => {}
    }
    notes
}

/// The channels that it sends over, each once.
pub fn channels(entry: &Entry) -> String {
    let mut channels: Vec<&str> = entry.mails.iter().map(|mail| mail.channel.as_str()).collect();
    channels.sort_unstable();
    channels.dedup();
    channels.join(", ")
}

/// What stands in the list of entries.
pub const COLUMNS: [&str; 6] = ["Time", "Campaign", "What", "Channels", "Size", "Note"];

/// The list of entries, by [`COLUMNS`]. Times are in the zone of each campaign, or all in one.
pub fn cells(entry: &Entry, calendar: &Calendar, zone: Option<&TimeZone>) -> [String; 6] {
    [
        when(entry.at, zone.unwrap_or(&entry.zone)),
        name(&entry.campaign, calendar),
        words(entry),
        channels(entry),
        size(entry),
        notes(entry).join("; "),
    ]
}

/// What is to be said behind the list, each with its title; where there is nothing to say, no lines.
pub fn sections(calendar: &Calendar, zone: Option<&TimeZone>) -> [(&'static str, Vec<String>); 4] {
    let conflicts = calendar.conflicts.iter().map(|conflict| {
        let first = when(conflict.first, zone.unwrap_or(&conflict.zone));
        format!("{}: {}", conflict.trouble, how_often(conflict.count, &first))
    });
    let refreshes = calendar.refreshes.iter().map(|refresh| {
        let often = how_often(refresh.count, &when(refresh.first, zone.unwrap_or(&refresh.zone)));
        format!("{} ({}): {often}", name(&refresh.audience, calendar), refresh.schedule)
    });
    let quiet = calendar.quiet.iter().map(|(key, why)| format!("{}: {why}", name(key, calendar)));
    [
        ("Conflicts", conflicts.collect()),
        ("Audiences that are refreshed", refreshes.collect()),
        ("Nothing starts", quiet.collect()),
        ("Sizes", size_notes(calendar)),
    ]
}

/// Where the sizes are from, or why there are none, each with its campaigns.
pub fn size_notes(calendar: &Calendar) -> Vec<String> {
    let mut notes = BTreeMap::<String, BTreeSet<String>>::new();
    for entry in &calendar.entries {
        let Event::Start(size) = &entry.event else { continue };
        let note = match size {
            Size::Known(_, from) => from.clone(),
            Size::Unknown(why) => format!("unknown, as {why}"),
        };
        notes.entry(note).or_default().insert(name(&entry.campaign, calendar));
    }
    let names = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(", ");
    notes.into_iter().map(|(note, campaigns)| format!("{}: {note}", names(campaigns))).collect()
}

/// `3 times, first …`
pub fn how_often(count: usize, first: &str) -> String {
    if count == 1 { format!("on {first}") } else { format!("{count} times, first on {first}") }
}
