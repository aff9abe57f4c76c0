//! A person's history for somebody to read.
//!
//! ```text
//! person ••• of dataset town
//!   email  •••  suppressed in this namespace since 2026-03-03T08:00:00Z: HardBounce
//! consent
//!   2026-03-02T10:00:00Z  news by email: Withdrawn (unsubscribe)
//! messages
//!   2026-03-01T09:00:00Z  greet, run greet-1, mail over out: Sent
//!     2026-03-01T09:00:04Z  Delivered
//! ```

use std::fmt::{self, Display, Formatter};

use serde_json::Value as Json;

use super::history::{ConsentView, MessageView, PersonView};

impl Display for PersonView {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} of dataset {}", self.entity, self.key, self.dataset)?;
        if let Some(at) = self.erased_at {
            writeln!(f, "  erased on request at {at:.0}; what follows is kept under a keyed hash")?;
        } else if !self.is_there {
            writeln!(f, "  there is no such {} now", self.entity)?;
        }
        for field in &self.fields {
            match &field.value {
                Json::Null => writeln!(f, "  {} is missing", field.name)?,
                Json::String(text) => writeln!(f, "  {} = {text}", field.name)?,
                other => writeln!(f, "  {} = {other}", field.name)?,
            }
        }
        if !self.addresses.is_empty() {
            writeln!(f, "addresses")?;
        }
        for address in &self.addresses {
            writeln!(f, "  {}  {}", address.medium, address.address)?;
            for held in &address.suppressions {
                let scope = if held.is_whole_store { "in the whole store" } else { "in this namespace" };
                let until = held.until.map_or(String::new(), |until| format!(" until {until:.0}"));
                let over = if held.is_over { ", which is over" } else { "" };
                writeln!(f, "    suppressed {scope} since {:.0}{until}: {}{over}", held.since, held.cause)?;
            }
            address.withdrawn.iter().try_for_each(|entry| put_consent(entry, "under this address ", 4, f))?;
        }
        writeln!(f, "consent{}", if self.consent.is_empty() { ": nothing is recorded" } else { "" })?;
        self.consent.iter().try_for_each(|entry| put_consent(entry, "", 2, f))?;
        writeln!(f, "messages{}", if self.messages.is_empty() { ": none" } else { "" })?;
        self.messages.iter().try_for_each(|message| put_message(message, f))?;
        if self.has_more_messages {
            writeln!(f, "  and older ones (--messages N)")?;
        }
        Ok(())
    }
}

fn put_consent(entry: &ConsentView, what: &str, indent: usize, f: &mut Formatter<'_>) -> fmt::Result {
    let topic = if entry.topic == "*" { "everything" } else { &entry.topic };
    let by = if entry.channel == "*" { String::new() } else { format!(" by {}", entry.channel) };
    let text = entry.text.as_ref().map_or_else(String::new, |text| format!(" \"{text}\""));
    writeln!(f, "{:indent$}{:.0}  {what}{topic}{by}: {} ({}){text}", "", entry.at, entry.state, entry.source)
}

fn put_message(message: &MessageView, f: &mut Formatter<'_>) -> fmt::Result {
    let MessageView { campaign, run, step, channel, item, outcome, .. } = message;
    let mode = message.mode.as_ref().map_or_else(String::new, |mode| format!(" ({mode})"));
    match message.planned_at {
        Some(at) => write!(f, "  {at:.0}  ")?,
        None => write!(f, "  ")?,
    }
    write!(f, "{campaign}, run {run}{mode}, {step} over {channel}, about {item}: {outcome}")?;
    message.reason.iter().try_for_each(|reason| write!(f, " ({reason})"))?;
    message.at.iter().try_for_each(|at| write!(f, " at {at:.0}"))?;
    message.due_at.iter().try_for_each(|due| write!(f, ", due at {due:.0}"))?;
    message.detail.iter().try_for_each(|detail| write!(f, ": {detail}"))?;
    writeln!(f)?;
    for attempt in &message.attempts {
        let failure = attempt.failure.as_ref().map_or_else(String::new, |reason| format!(" failed: {reason}"));
        writeln!(f, "    {:.0}  attempt {}{failure}", attempt.at, attempt.no)?;
    }
    for event in &message.events {
        write!(f, "    {:.0}  {}", event.at, event.ty)?;
        event.reason.iter().try_for_each(|reason| write!(f, " ({reason})"))?;
        event.url.iter().try_for_each(|url| write!(f, " {url}"))?;
        writeln!(f, "{}", if event.machine { ", by a machine" } else { "" })?;
    }
    Ok(())
}
