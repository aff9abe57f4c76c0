//! Which runs would start between two instants, when they go on, and what gets into each other's way.
//!
//! The starts are those of [`Timetable`], as the engine asks for them, and the waits those of the compiled steps. A
//! process that was down, a campaign that is stopped by hand and data that comes late are not foreseen.

mod conflict;
pub mod format;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

pub use self::conflict::{Conflict, Trouble};
use super::tree::Tree;
use crate::{
    api::campaign::{Overlap, Schedule},
    plan::{
        Plan,
        activity::Compiled,
        check::{Audience, Campaign},
    },
    run::schedule::{Daylight, Timetable},
    source::{Key, admission::Sound},
};

/// Further ahead nobody plans, and schedules will have been edited.
pub const HORIZON_DAYS_MAX: i64 = 400;
/// More starts are not a calendar that anyone reads.
pub const ENTRIES_MAX: usize = 10_000;
/// The day that daylight saving makes longest.
const DAY_HOURS_MAX: i64 = 25;
/// How long a run sends where nobody said so and none has run.
pub const TAKES: SignedDuration = SignedDuration::from_hours(1);

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub from: Timestamp,
    pub to: Timestamp,
    /// How long every run sends, if that is said.
    pub takes: Option<SignedDuration>,
}

/// What a store remembers of a campaign.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub size: Option<Size>,
    /// How long its last run sent.
    pub took: Option<SignedDuration>,
    /// Whether it ran by its schedule: what starts once does not again.
    pub has_run: bool,
}

/// How many rows a run would begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Size {
    /// So many, and where the number is from.
    Known(i64, String),
    Unknown(String),
}

/// Why it cannot be said what starts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the end is not after the beginning")]
    Backwards,
    #[error("a calendar has at most {HORIZON_DAYS_MAX} days")]
    TooLong,
    #[error("there are more than {ENTRIES_MAX} starts; {0} has most of them")]
    TooMany(String),
}

#[derive(Clone, Debug)]
pub struct Calendar {
    pub window: Window,
    /// By time, then by name.
    pub entries: Vec<Entry>,
    pub conflicts: Vec<Conflict>,
    pub refreshes: Vec<Refreshes>,
    /// Campaigns that start nothing in this time, and why.
    pub quiet: Vec<(Key, String)>,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub struct Entry {
    pub at: Timestamp,
    pub campaign: Key,
    pub zone: TimeZone,
    pub event: Event,
    pub mails: Vec<Mail>,
    /// What else is to be known of it.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Start(Size),
    /// The run goes on behind a `wait`.
    Resume {
        started: Timestamp,
        steps: Vec<String>,
    },
    /// An earlier run still sends.
    Skipped {
        started: Timestamp,
    },
    /// It would have waited for an earlier run longer than its deadline.
    Missed,
}

impl Event {
    pub fn word(&self) -> &'static str {
        match self {
            Self::Start(_) => "starts",
            Self::Resume { .. } => "goes on",
            Self::Skipped { .. } => "is skipped",
            Self::Missed => "is missed",
        }
    }
}

/// A channel step that sends then.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mail {
    pub step: String,
    pub channel: String,
}

/// The refreshes of an audience that is kept.
#[derive(Clone, Debug)]
pub struct Refreshes {
    pub audience: Key,
    pub schedule: String,
    pub first: Timestamp,
    pub zone: TimeZone,
    /// At most [`ENTRIES_MAX`].
    pub count: usize,
}

impl Calendar {
    /// The calendar of the campaigns that are right. `memory` is what a store knows of them, if there is one.
    ///
    /// # Errors
    /// If the time is too long, or too much starts in it.
    pub fn of(tree: &Tree, window: Window, memory: Option<&BTreeMap<Key, Memory>>) -> Result<Self, Error> {
        check(&window)?;
        let mut calendar = Self { window, entries: vec![], conflicts: vec![], refreshes: vec![], quiet: vec![] };
        for (key, sound) in tree.checked() {
            match sound {
                Sound::Campaign(campaign) => calendar.add_campaign(key, campaign, memory)?,
                Sound::Audience(audience) => calendar.add_refreshes(key, audience),
            }
        }
        let order = |entry: &Entry| (entry.at, entry.campaign.clone());
        calendar.entries.sort_by_cached_key(order);
        calendar.conflicts = conflict::find(&calendar, tree);
        Ok(calendar)
    }

    fn add_refreshes(&mut self, key: &Key, audience: &Audience) {
        let Some(table) = audience.sets.get(&key.name).and_then(|set| set.refresh.as_ref()) else { return };
        let mut starts = table.starts(self.before(), self.window.to).take(ENTRIES_MAX);
        let Some(first) = starts.next() else { return };
        let (schedule, zone) = (table.words(), table.zone().clone());
        let count = starts.count() + 1;
        self.refreshes.push(Refreshes { audience: key.clone(), schedule, first, zone, count });
    }

    /// So that what starts at the beginning is in.
    fn before(&self) -> Timestamp {
        self.window.from.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(self.window.from)
    }

    fn add_campaign(
        &mut self,
        key: &Key,
        campaign: &Campaign,
        memory: Option<&BTreeMap<Key, Memory>>,
    ) -> Result<(), Error> {
        let spec = &campaign.bundle.campaign;
        let Some((table, schedule)) = campaign.timetable.as_ref().zip(spec.schedule.as_ref()) else {
            self.quiet.push((key.clone(), "runs are made by hand".to_owned()));
            return Ok(());
        };
        if spec.suspend {
            self.quiet.push((key.clone(), "suspended".to_owned()));
            return Ok(());
        }
        let known = memory.map(|memory| memory.get(key).cloned().unwrap_or_default());
        if table.is_once() && known.as_ref().is_some_and(|known| known.has_run) {
            self.quiet.push((key.clone(), "has run, and starts once".to_owned()));
            return Ok(());
        }
        let takes = self.window.takes.or(known.as_ref().and_then(|known| known.took)).unwrap_or(TAKES);
        let starts: Vec<Timestamp> = match table.not_after() {
            Some(end) if end.is_some_and(|end| end < self.window.from) => vec![],
            // It starts as soon as it is seen.
            Some(_) => vec![self.window.from],
            None => table.starts(self.earliest(campaign, takes), self.window.to).take(ENTRIES_MAX + 1).collect(),
        };
        let mut runs = Runs {
            key,
            plan: &campaign.plan,
            table,
            schedule,
            takes,
            size: size(known.as_ref()),
            last: None,
            entries: vec![],
        };
        starts.into_iter().for_each(|at| runs.add(at));
        let Window { from, to, .. } = self.window;
        let before = self.entries.len();
        self.entries.extend(runs.entries.into_iter().filter(|entry| entry.at >= from && entry.at <= to));
        if self.entries.len() == before {
            self.quiet.push((key.clone(), "starts at no time in between".to_owned()));
        }
        if self.entries.len() > ENTRIES_MAX { Err(Error::TooMany(self.busiest())) } else { Ok(()) }
    }

    /// Before the window stand starts that still work in it.
    fn earliest(&self, campaign: &Campaign, takes: SignedDuration) -> Timestamp {
        let from = self.window.from;
        if campaign.timetable.as_ref().is_some_and(Timetable::is_once) {
            return Timestamp::MIN;
        }
        let last = parts(&campaign.plan, from).keys().next_back().copied().unwrap_or(from);
        // A wait for a time of day takes a day more or less, by when it begins.
        let waits = campaign.plan.steps.iter().filter(|step| matches!(step.compiled, Compiled::Wait(_))).count();
        let slack = SignedDuration::from_hours(DAY_HOURS_MAX * i64::try_from(waits).unwrap_or(0));
        let works = last.duration_since(from).saturating_add(takes).saturating_add(slack);
        let works = works.min(SignedDuration::from_hours(24 * HORIZON_DAYS_MAX));
        self.before().checked_sub(works).unwrap_or(from)
    }

    fn busiest(&self) -> String {
        let mut counts = BTreeMap::<&Key, usize>::new();
        self.entries.iter().for_each(|entry| *counts.entry(&entry.campaign).or_default() += 1);
        let busiest = counts.into_iter().max_by_key(|(_, count)| *count);
        busiest.map(|(key, _)| format!("campaign `{}`", key.name)).unwrap_or_default()
    }
}

fn check(window: &Window) -> Result<(), Error> {
    let length = window.to.duration_since(window.from);
    if length <= SignedDuration::ZERO {
        Err(Error::Backwards)
    } else if length > SignedDuration::from_hours(24 * HORIZON_DAYS_MAX) {
        Err(Error::TooLong)
    } else {
        Ok(())
    }
}

fn size(known: Option<&Memory>) -> Size {
    match known {
        None => Size::Unknown("no store was asked".to_owned()),
        Some(memory) => memory.size.clone().unwrap_or_else(|| Size::Unknown("it has never run".to_owned())),
    }
}

/// The runs of one campaign, one after the other.
struct Runs<'a> {
    key: &'a Key,
    plan: &'a Plan,
    table: &'a Timetable,
    schedule: &'a Schedule,
    takes: SignedDuration,
    size: Size,
    /// When the last run started, and until when it works.
    last: Option<(Timestamp, Timestamp)>,
    entries: Vec<Entry>,
}

impl Runs<'_> {
    fn add(&mut self, nominal: Timestamp) {
        let mut notes: Vec<String> = self.table.daylight(nominal).map(daylight_words).into_iter().collect();
        if let Some(end) = self.table.not_after() {
            let until = end.map_or(String::new(), |end| format!(", until {}", self.table.in_zone(end)));
            notes.push(format!("as soon as it is seen{until}"));
        }
        let busy = self.last.filter(|(_, until)| *until > nominal);
        let at = match (busy, self.schedule.overlap) {
            (None, _) => nominal,
            (Some((started, _)), Overlap::Forbid) => {
                let event = Event::Skipped { started };
                self.entries.push(self.entry(nominal, event, vec![], notes));
                return;
            }
            (Some((started, _)), Overlap::Replace) => {
                notes.push(format!("cancels the run of {}", self.table.in_zone(started)));
                nominal
            }
            (Some((started, until)), Overlap::Queue) => {
                notes.push(format!("waits for the run of {}", self.table.in_zone(started)));
                if until.duration_since(nominal) > self.table.starting_deadline {
                    self.entries.push(self.entry(nominal, Event::Missed, vec![], notes));
                    return;
                }
                until
            }
        };
        let parts = parts(self.plan, at);
        let end = parts.keys().next_back().copied().unwrap_or(at);
        self.last = Some((at, end.checked_add(self.takes).unwrap_or(end)));
        for (when, part) in parts {
            let event = if when == at {
                Event::Start(self.size.clone())
            } else {
                Event::Resume { started: at, steps: part.waits }
            };
            let notes = if when == at { std::mem::take(&mut notes) } else { vec![] };
            self.entries.push(self.entry(when, event, part.mails, notes));
        }
    }

    fn entry(&self, at: Timestamp, event: Event, mails: Vec<Mail>, notes: Vec<String>) -> Entry {
        Entry { at, campaign: self.key.clone(), zone: self.table.zone().clone(), event, mails, notes }
    }
}

fn daylight_words(daylight: Daylight) -> String {
    match daylight {
        Daylight::Skipped(time) => format!("{} does not exist on this day", time.strftime("%H:%M")),
        Daylight::Repeated => "its time comes twice on this day: the first one".to_owned(),
    }
}

/// What a run does at one instant.
#[derive(Debug, Default)]
struct Part {
    /// The `wait` steps that are over.
    waits: Vec<String>,
    mails: Vec<Mail>,
}

/// What a run that starts at `at` does, and when: sets are there at once, but for those behind a `wait`.
fn parts(plan: &Plan, at: Timestamp) -> BTreeMap<Timestamp, Part> {
    let mut there = BTreeMap::<&str, Timestamp>::new();
    let mut parts = BTreeMap::from([(at, Part::default())]);
    for step in &plan.steps {
        let begins = step.needs.iter().filter_map(|need| there.get(need.as_str())).max().copied().unwrap_or(at);
        let ends = match &step.compiled {
            Compiled::Wait(wait) => wait.due(begins).max(begins),
            _ => begins,
        };
        there.extend(step.outputs.iter().map(|output| (output.name.as_str(), ends)));
        match &step.compiled {
            Compiled::Wait(_) if ends > begins => parts.entry(ends).or_default().waits.push(step.name.clone()),
            Compiled::Message(message) => {
                let mail = Mail { step: step.name.clone(), channel: message.channel.clone() };
                parts.entry(ends).or_default().mails.push(mail);
            }
            _ => {}
        }
    }
    parts
}

impl Calendar {
    /// Whether objects of several namespaces are in it, so that names alone do not tell them apart.
    pub fn has_namespaces(&self) -> bool {
        let entries = self.entries.iter().map(|entry| &entry.campaign);
        let others = self.quiet.iter().map(|(key, _)| key).chain(self.refreshes.iter().map(|r| &r.audience));
        entries.chain(others).map(|key| &key.namespace).collect::<BTreeSet<_>>().len() > 1
    }
}
