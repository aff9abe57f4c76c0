//! For machines:
//!
//! ```json
//! {"version": 1, "from": "2026-03-01T00:00:00Z", "to": "2026-04-01T00:00:00Z", "takes": null,
//!  "entries": [{"at": "2026-03-29T01:00:00Z", "timeZone": "Europe/Rome", "namespace": "default", "campaign": "greet",
//!    "event": "Start", "size": null, "sizeNote": "no store was asked", "mails": [{"step": "mail", "channel": "out"}],
//!    "notes": ["02:30 does not exist on this day"]}],
//!  "conflicts": [{"id": "overlap", "message": "…", "first": "…", "count": 3}],
//!  "refreshes": [{"namespace": "default", "audience": "gold", "schedule": "…", "first": "…", "count": 31}],
//!  "quiet": [{"namespace": "default", "campaign": "old", "why": "suspended"}]}
//! ```
//!
//! `event` is `Start`, `Resume` (with `started` and `steps`), `Skipped` (with `started`) or `Missed`. `takes` is in
//! seconds.

use serde_json::{Value, json};

use super::Calendar;
use crate::review::calendar::{Entry, Event, Size};

/// Raised when a field changes its meaning or goes; fields may be added.
pub const VERSION: u32 = 1;

/// The calendar as one document.
pub fn write(calendar: &Calendar) -> String {
    let conflicts = calendar.conflicts.iter().map(|conflict| {
        let (id, message) = (conflict.trouble.id(), conflict.trouble.to_string());
        json!({"id": id, "message": message, "first": conflict.first, "count": conflict.count})
    });
    let refreshes = calendar.refreshes.iter().map(|refresh| {
        let key = &refresh.audience;
        json!({
            "namespace": key.namespace, "audience": key.name, "schedule": refresh.schedule,
            "first": refresh.first, "count": refresh.count,
        })
    });
    let quiet = calendar.quiet.iter();
    let quiet = quiet.map(|(key, why)| json!({"namespace": key.namespace, "campaign": key.name, "why": why}));
    let document = json!({
        "version": VERSION,
        "from": calendar.window.from,
        "to": calendar.window.to,
        "takes": calendar.window.takes.map(|takes| takes.as_secs()),
        "entries": calendar.entries.iter().map(entry).collect::<Vec<_>>(),
        "conflicts": conflicts.collect::<Vec<_>>(),
        "refreshes": refreshes.collect::<Vec<_>>(),
        "quiet": quiet.collect::<Vec<_>>(),
    });
    format!("{document:#}")
}

fn entry(entry: &Entry) -> Value {
    let mails = entry.mails.iter().map(|mail| json!({"step": mail.step, "channel": mail.channel}));
    let mut written = json!({
        "at": entry.at,
        "timeZone": entry.zone.iana_name().unwrap_or("UTC"),
        "namespace": entry.campaign.namespace,
        "campaign": entry.campaign.name,
        "mails": mails.collect::<Vec<_>>(),
        "notes": entry.notes,
    });
    match &entry.event {
        Event::Start(size) => {
            written["event"] = json!("Start");
            let (rows, note) = match size {
                Size::Known(rows, from) => (Some(rows), from),
                Size::Unknown(why) => (None, why),
            };
            (written["size"], written["sizeNote"]) = (json!(rows), json!(note));
        }
        Event::Resume { started, steps } => {
            written["event"] = json!("Resume");
            (written["started"], written["steps"]) = (json!(started), json!(steps));
        }
        Event::Skipped { started } => {
            written["event"] = json!("Skipped");
            written["started"] = json!(started);
        }
        Event::Missed => written["event"] = json!("Missed"),
    }
    written
}
