//! `campanile simulate PATH… --from T --to T`: which runs would start when, and what gets into each other's way.

use std::{collections::BTreeMap, fmt::Write as _, io::Write as _, path::PathBuf};

use clap::{Args as ClapArgs, ValueEnum};
use jiff::{Timestamp, civil::Date, tz::TimeZone};

use super::{End, table::Table};
use crate::{
    api::duration::Duration,
    clock::Clock,
    review::{
        calendar::{
            Calendar, Memory, Size, TAKES, Window,
            format::{COLUMNS, cells, html, ical, json, sections},
        },
        count::{self, Accepted, Moment},
        tree::Tree,
    },
    source::{Key, Kind, admission::Sound},
    store::Store,
};

/// Of a campaign's runs, those in which the last one that ended by itself is looked for.
const RUNS: i64 = 20;

#[derive(ClapArgs)]
pub struct Args {
    /// Folders or files with manifests.
    #[arg(required = true)]
    path: Vec<PathBuf>,
    /// From this instant (2026-03-01T09:00:00+01:00) or the midnight before this day (2026-03-01).
    #[arg(long, value_name = "T")]
    from: String,
    /// Until this instant, or until the end of this day.
    #[arg(long, value_name = "T")]
    to: String,
    /// The zone of days and of what is shown (IANA name); without it days are in UTC and each campaign is shown in its own.
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// The store that sizes and earlier runs are read from; it is only read.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// How long each run is taken to send, such as 90m, whatever the store remembers.
    #[arg(long, value_name = "DURATION")]
    run_takes: Option<Duration>,
    /// How the calendar is written.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Ical,
    Html,
    Json,
}

pub async fn run(args: Args) -> End {
    match simulate(&args).await {
        Ok(end) | Err(end) => end,
    }
}

async fn simulate(args: &Args) -> Result<End, End> {
    let wrong = |message: String| End::Wrong(message, None);
    if let Some(path) = args.path.iter().find(|path| !path.exists()) {
        return Err(wrong(format!("{}: no such file or folder", path.display())));
    }
    let zone = match args.time_zone.as_deref() {
        Some(name) => Some(TimeZone::get(name).map_err(|_| wrong(format!("`{name}` is not a time zone")))?),
        None => None,
    };
    let days = zone.clone().unwrap_or(TimeZone::UTC);
    let window = Window {
        from: instant(&args.from, &days, false)?,
        to: instant(&args.to, &days, true)?,
        takes: args.run_takes.map(Duration::as_signed),
    };
    let tree = Tree::read(&args.path);
    let memory = match &args.store {
        Some(url) => Some(remember(&Store::open_readonly(url).await?, &tree).await?),
        None => None,
    };
    let calendar = Calendar::of(&tree, window, memory.as_ref()).map_err(|e| wrong(e.to_string()))?;
    let written = match args.output {
        Output::Text => text(&calendar, zone.as_ref()),
        Output::Ical => ical::write(&calendar, Clock::system().now()),
        Output::Html => html::write(&calendar, zone.as_ref()),
        Output::Json => json::write(&calendar) + "\n",
    };
    std::io::stdout().write_all(written.as_bytes()).map_err(|e| wrong(e.to_string()))?;
    if tree.errors().is_empty() {
        return Ok(End::Done);
    }
    let many = match tree.errors().len() {
        1 => "one error".to_owned(),
        n => format!("{n} errors"),
    };
    let message = format!("the manifests have {many}: what is wrong is not in the calendar");
    Err(End::Wrong(message, Some("see `campanile validate`".to_owned())))
}

/// An instant, or the beginning or the end of a day.
fn instant(text: &str, zone: &TimeZone, is_end: bool) -> Result<Timestamp, End> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let day = text.parse::<Date>().ok().and_then(|day| if is_end { day.tomorrow().ok() } else { Some(day) });
    let at = day.and_then(|day| day.to_zoned(zone.clone()).ok());
    at.map(|at| at.timestamp()).ok_or_else(|| {
        let hint = "write a day as in 2026-03-01, or an instant with its offset as in 2026-03-01T09:00:00+01:00";
        End::Wrong(format!("`{text}` is neither a day nor an instant"), Some(hint.to_owned()))
    })
}

/// What the store knows of each campaign.
async fn remember(store: &Store, tree: &Tree) -> Result<BTreeMap<Key, Memory>, End> {
    let mut memory = BTreeMap::new();
    for key in tree.sound(Kind::Campaign) {
        let Some(spec) = tree.campaign(&key.namespace, &key.name) else { continue };
        let names: Vec<String> = spec.names(&key.name).map(str::to_owned).collect();
        let known_as = store.known_as(&key.namespace, &names).await?;
        let runs = store.runs(&key.namespace, &known_as, RUNS).await?;
        let last = runs.iter().find(|run| run.has_ended_well());
        let size = match (count_now(store, tree, key).await, last) {
            (Ok(rows), _) => Size::Known(rows, "counted now".to_owned()),
            (Err(_), Some(run)) => {
                let rows = store.counts(run).await?.iter().map(|(_, counts)| counts.totals.entered).sum();
                Size::Known(rows, format!("as many as run {} had", run.name))
            }
            (Err(why), None) => Size::Unknown(why),
        };
        let took = last.and_then(|run| Some(run.completed?.duration_since(run.created)));
        let has_run = store.has_run_by_schedule(&key.namespace, &known_as).await?;
        memory.insert(key.clone(), Memory { size: Some(size), took, has_run });
    }
    Ok(memory)
}

/// How many messages a run that started now would begin with, or why nobody knows.
async fn count_now(store: &Store, tree: &Tree, key: &Key) -> Result<i64, String> {
    let Some(Sound::Campaign(campaign)) = tree.checked().get(key) else { return Err("it is wrong".to_owned()) };
    let bundle = &campaign.bundle;
    let plan = bundle.compile(store.dialect()).map_err(|_| "it does not compile for this store".to_owned())?;
    let now = Clock::system().now();
    let moment = Moment { scheduled: now, now, sample_percent: None, rows_max: None };
    let counted = count::count(store, (bundle, &plan), &Accepted::default(), moment).await?;
    Ok(counted.channels.values().map(|messages| messages.entered).sum())
}

/// For a terminal: times in the zone of each campaign, or all in one.
fn text(calendar: &Calendar, zone: Option<&TimeZone>) -> String {
    let mut text = String::new();
    if !calendar.entries.is_empty() {
        let titles = COLUMNS.map(str::to_uppercase);
        let mut table = Table::new(&titles.each_ref().map(String::as_str));
        for entry in &calendar.entries {
            table.row(cells(entry, calendar, zone).into());
        }
        let _ = writeln!(text, "{table}");
    }
    for (title, lines) in sections(calendar, zone) {
        if !lines.is_empty() {
            let _ = writeln!(text, "{title}:\n  {}\n", lines.join("\n  "));
        }
    }
    let takes = match calendar.window.takes {
        Some(takes) => format!("A run is taken to send for {takes:#}, as was said."),
        None => format!("A run is taken to send as long as its last one did, or {TAKES:#}."),
    };
    let _ = writeln!(text, "{takes} What is stopped by hand or comes late is not foreseen.");
    text
}
