//! One page that needs nothing else: a lane for each campaign over the time between, and the list below.

use std::{collections::BTreeMap, fmt::Write};

use jiff::{SignedDuration, Timestamp, ToSpan, tz::TimeZone};

use super::{COLUMNS, Calendar, cells, name, sections, when, words};
use crate::review::{
    calendar::{Entry, Event},
    report::html::escaped,
};

const STYLE: &str = include_str!("timeline.css");
/// Marks on the axis; more would run into each other.
const MARKS_MAX: i64 = 12;

/// The page. Times are in the zone of each campaign, or all in one; the axis is in that one, or in UTC.
pub fn write(calendar: &Calendar, zone: Option<&TimeZone>) -> String {
    let axis = zone.cloned().unwrap_or(TimeZone::UTC);
    let (from, to) = (when(calendar.window.from, &axis), when(calendar.window.to, &axis));
    let mut page = String::new();
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Calendar of campaigns</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>Calendar of campaigns</h1>\n<p>{} to {}</p>\n",
        escaped(&from),
        escaped(&to)
    );
    lanes(&mut page, calendar, &axis);
    list(&mut page, calendar, zone);
    for (title, lines) in sections(calendar, zone) {
        section(&mut page, title, lines);
    }
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

/// A row for each campaign, with its starts where they are in time.
fn lanes(page: &mut String, calendar: &Calendar, axis: &TimeZone) {
    let mut lanes = BTreeMap::<String, Vec<&Entry>>::new();
    for entry in &calendar.entries {
        lanes.entry(name(&entry.campaign, calendar)).or_default().push(entry);
    }
    if lanes.is_empty() {
        page.push_str("<p>Nothing starts in this time.</p>\n");
        return;
    }
    page.push_str(
        "<div class=\"timeline\" role=\"img\" aria-label=\"When each campaign starts\">\n<div class=\"axis\">",
    );
    for mark in marks(calendar, axis) {
        let label = mark.to_zoned(axis.clone()).strftime("%d %b").to_string();
        let _ = write!(page, "<span style=\"left:{:.3}%\">{label}</span>", place(calendar, mark));
    }
    page.push_str("</div>\n");
    for (campaign, entries) in lanes {
        let _ = write!(page, "<div class=\"lane\"><b>{}</b><div>", escaped(&campaign));
        for entry in entries {
            let class = match entry.event {
                Event::Start(_) => "start",
                Event::Resume { .. } => "resume",
                Event::Skipped { .. } | Event::Missed => "off",
            };
            let title = format!("{} {}", when(entry.at, &entry.zone), words(entry));
            let at = place(calendar, entry.at);
            let _ = write!(page, "<i class=\"{class}\" style=\"left:{at:.3}%\" title=\"{}\"></i>", escaped(&title));
        }
        page.push_str("</div></div>\n");
    }
    page.push_str("</div>\n<p class=\"legend\"><i class=\"start\"></i> starts <i class=\"resume\"></i> goes on ");
    page.push_str("<i class=\"off\"></i> skipped or missed</p>\n");
}

/// Midnights, not too many.
fn marks(calendar: &Calendar, axis: &TimeZone) -> Vec<Timestamp> {
    let (from, to) = (calendar.window.from, calendar.window.to);
    let days = to.duration_since(from).as_hours() / 24 + 1;
    let every = (days + MARKS_MAX - 1) / MARKS_MAX;
    let mut day = from.to_zoned(axis.clone()).date();
    let mut marks = vec![];
    while let Ok(at) = day.to_zoned(axis.clone()).map(|zoned| zoned.timestamp()) {
        if at > to {
            break;
        }
        if at >= from {
            marks.push(at);
        }
        let Ok(next) = day.checked_add(every.max(1).days()) else { break };
        day = next;
    }
    marks
}

/// Where an instant is between the beginning and the end, in percent.
fn place(calendar: &Calendar, at: Timestamp) -> f64 {
    let share = |length: SignedDuration| length.as_secs_f64();
    let whole = share(calendar.window.to.duration_since(calendar.window.from));
    (share(at.duration_since(calendar.window.from)) / whole * 100.0).clamp(0.0, 100.0)
}

fn list(page: &mut String, calendar: &Calendar, zone: Option<&TimeZone>) {
    if calendar.entries.is_empty() {
        return;
    }
    page.push_str("<div class=\"scroll\"><table>\n<thead><tr>");
    COLUMNS.iter().for_each(|column| page.extend(["<th>", column, "</th>"]));
    page.push_str("</tr></thead>\n<tbody>\n");
    for entry in &calendar.entries {
        let is_off = matches!(entry.event, Event::Skipped { .. } | Event::Missed);
        page.push_str(if is_off { "<tr class=\"off\">" } else { "<tr>" });
        for cell in cells(entry, calendar, zone) {
            let _ = write!(page, "<td>{}</td>", escaped(&cell));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody>\n</table></div>\n");
}

fn section(page: &mut String, title: &str, lines: Vec<String>) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(page, "<h2>{title}</h2>\n<ul>");
    for line in lines {
        let _ = writeln!(page, "<li>{}</li>", escaped(&line));
    }
    page.push_str("</ul>\n");
}
