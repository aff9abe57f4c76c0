//! What gets into each other's way: campaigns that send at the same time, runs that are skipped, audiences that are read
//! before they are refreshed.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::{Calendar, Entry, Event};
use crate::{
    review::tree::Tree,
    source::{Key, Kind, admission::Sound},
};

/// Two starts within this time are at the same time.
const TOGETHER: SignedDuration = SignedDuration::from_hours(1);
/// An audience that was refreshed within this time is fresh enough for a run.
const FRESH: SignedDuration = SignedDuration::from_hours(1);

/// Something that happens once or again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub trouble: Trouble,
    pub first: Timestamp,
    /// The zone of the campaign whose start it is.
    pub zone: TimeZone,
    pub count: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// Two campaigns begin to send within an hour: over these channels, to the people of these datasets.
    Together { campaigns: [Key; 2], channels: Vec<String>, datasets: Vec<String> },
    /// A start that is skipped or missed, as an earlier run still works.
    Overlap { campaign: Key },
    /// A run reads an audience shortly before its next refresh.
    BeforeRefresh { campaign: Key, audience: Key },
}

impl Trouble {
    /// A stable name for its kind.
    pub fn id(&self) -> &'static str {
        match self {
            Self::Together { .. } => "same-time",
            Self::Overlap { .. } => "overlap",
            Self::BeforeRefresh { .. } => "before-refresh",
        }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Together { campaigns: [one, other], channels, datasets } => {
                write!(f, "`{}` and `{}` begin within an hour", one.name, other.name)?;
                let quoted = |names: &[String]| names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
                if !channels.is_empty() {
                    write!(f, " over {}", quoted(channels))?;
                }
                if !datasets.is_empty() {
                    write!(f, " to people of {}", quoted(datasets))?;
                }
                Ok(())
            }
            Self::Overlap { campaign } => {
                write!(f, "`{}` does not start, as its earlier run still works", campaign.name)
            }
            Self::BeforeRefresh { campaign, audience } => write!(
                f,
                "`{}` reads audience `{}` within the hour before it is refreshed",
                campaign.name, audience.name
            ),
        }
    }
}

/// All conflicts, by the time at which each first happens.
pub(super) fn find(calendar: &Calendar, tree: &Tree) -> Vec<Conflict> {
    let mut found = BTreeMap::<Trouble, Conflict>::new();
    let mut add = |trouble: Trouble, entry: &Entry| {
        let conflict = || Conflict { trouble: trouble.clone(), first: entry.at, zone: entry.zone.clone(), count: 0 };
        found.entry(trouble.clone()).or_insert_with(conflict).count += 1;
    };
    for (index, entry) in calendar.entries.iter().enumerate() {
        match entry.event {
            Event::Skipped { .. } | Event::Missed => {
                add(Trouble::Overlap { campaign: entry.campaign.clone() }, entry);
            }
            Event::Start(_) => before_refresh(entry, tree, &mut add),
            Event::Resume { .. } => {}
        }
        let soon = calendar.entries[index + 1..].iter();
        for other in soon.take_while(|other| other.at.duration_since(entry.at) < TOGETHER) {
            if let Some(trouble) = together(entry, other, tree) {
                add(trouble, other);
            }
        }
    }
    let mut conflicts: Vec<Conflict> = found.into_values().collect();
    conflicts.sort_by_key(|conflict| conflict.first);
    conflicts
}

fn together(one: &Entry, other: &Entry, tree: &Tree) -> Option<Trouble> {
    let (a, b) = (&one.campaign, &other.campaign);
    if a == b || a.namespace != b.namespace || one.mails.is_empty() || other.mails.is_empty() {
        return None;
    }
    let is_shared = |channel: &&String| other.mails.iter().any(|mail| mail.channel == **channel);
    let channels = one.mails.iter().map(|mail| &mail.channel).filter(is_shared);
    let mut channels: Vec<String> = channels.cloned().collect();
    channels.sort();
    channels.dedup();
    let dataset = |key: &Key| tree.campaign(&key.namespace, &key.name).map(|spec| spec.dataset.to_string());
    let datasets = dataset(a).filter(|name| dataset(b).as_ref() == Some(name)).into_iter().collect::<Vec<_>>();
    let campaigns = if a < b { [a.clone(), b.clone()] } else { [b.clone(), a.clone()] };
    let is_trouble = !channels.is_empty() || !datasets.is_empty();
    is_trouble.then_some(Trouble::Together { campaigns, channels, datasets })
}

fn before_refresh(entry: &Entry, tree: &Tree, add: &mut impl FnMut(Trouble, &Entry)) {
    let Some(Sound::Campaign(campaign)) = tree.checked().get(&entry.campaign) else { return };
    let around = |hours: SignedDuration| entry.at.checked_add(hours).unwrap_or(entry.at);
    for set in campaign.plan.sets.iter() {
        let Some(table) = &set.refresh else { continue };
        // A run whose audience is due at its own time refreshes it first.
        let is_fresh = table.starts(around(-FRESH), entry.at).next().is_some();
        let is_soon = table.starts(entry.at, around(TOGETHER)).next().is_some();
        if !is_fresh && is_soon {
            let audience = Key::new(Kind::Audience, &entry.campaign.namespace, &set.name);
            add(Trouble::BeforeRefresh { campaign: entry.campaign.clone(), audience }, entry);
        }
    }
}
