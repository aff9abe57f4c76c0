//! Tells the history of datasets to whom they declare: files by day, webhooks. What is to be told stands in the store (see
//! [`store::history`](crate::store::history)); it is taken away there once it was told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::time::Instant;

use super::{Error, World};
use crate::{
    api::{
        DatasetSpec,
        channel::Compression,
        condition::{Reason, whole_seconds},
        dataset::{ExportStatus, FileFormat, HistoryExport, HistoryFiles},
    },
    files::{http::Permit, table::Table, target::Target},
    history::{
        self,
        webhook::{Untold, Webhook},
    },
    send::channel::exchange::{Exchange, Speaks},
    source::{Kind, Weight, catalog::Object},
    store::{
        self,
        entity::Place,
        history::{Export, Line, Reached, Standing},
    },
};

/// How often it is asked which exports are due.
const TICK: Duration = Duration::from_secs(1);
/// A small file costs its readers as much as a large one.
const EVERY_FILES: Duration = Duration::from_secs(15 * 60);
const EVERY_WEBHOOK: Duration = Duration::from_secs(5);
/// Groups, and lines, that are held in memory at once, and told as one.
const GROUPS_AT_ONCE: i64 = 200;
const LINES_AT_ONCE: usize = 20_000;
/// After a failure the first pause; each further one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// A status shows what was told at most so often.
const STATUS_EVERY: Duration = Duration::from_secs(30);

/// How long a process that ends waits for others to be done with what they record.
const BEGIN_MAX: Duration = Duration::from_secs(10);
const BEGIN_LOOK: Duration = Duration::from_millis(50);

/// An export, by namespace, dataset and name.
type Name = (String, String, String);

#[derive(Clone, Copy)]
struct Pause {
    until: Instant,
    failures: u32,
    /// When the status was last asked for.
    shown: Option<Instant>,
    /// Whether it does not say yet what was told.
    is_owed: bool,
}

pub struct Teller {
    world: Arc<World>,
    /// Certificates to trust beside the system's.
    roots: Vec<Vec<u8>>,
    /// One look at a time, so that nothing is told twice only because two looks met.
    turn: tokio::sync::Mutex<()>,
    pauses: Mutex<BTreeMap<Name, Pause>>,
}

impl Teller {
    pub fn new(world: Arc<World>, roots: Vec<Vec<u8>>) -> Self {
        Self { world, roots, turn: tokio::sync::Mutex::default(), pauses: Mutex::default() }
    }

    /// Tells what is due until the process ends.
    pub async fn run(self: Arc<Self>) {
        loop {
            tokio::time::sleep(TICK).await;
            self.look(false).await;
        }
    }

    /// Tells all that is there, whenever it would be due. What could not be told, and why.
    pub async fn tell_all(&self) -> Vec<String> {
        self.look(true).await
    }

    async fn look(&self, is_last: bool) -> Vec<String> {
        let _turn = self.turn.lock().await;
        let mut due = vec![];
        for object in self.world.catalog.all(Kind::Dataset) {
            if self.world.not_mine.is_some() || object.is_deleting || object.spec["history"].is_null() {
                continue;
            }
            let Ok(spec) = object.spec::<DatasetSpec>() else { continue };
            let exports = spec.history.map(|history| history.exports).unwrap_or_default();
            due.extend(exports.into_iter().map(|export| (object.clone(), export)));
        }
        due.retain(|(object, export)| is_last || self.pause(&name(object, export)).until <= Instant::now());
        join_all(due.iter().map(|(object, export)| self.tell(object, export, is_last)))
            .await
            .into_iter()
            .flatten()
            .collect()
    }

    fn pause(&self, name: &Name) -> Pause {
        let pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = Pause { until: Instant::now(), failures: 0, shown: None, is_owed: false };
        pauses.get(name).copied().unwrap_or(fresh)
    }

    /// Tells one export; why it could not.
    async fn tell(&self, object: &Object, export: &HistoryExport, is_last: bool) -> Option<String> {
        let name = name(object, export);
        let told = self.tell_some(object, export, is_last).await;
        let mut pause = self.pause(&name);
        let (wait, problem, is_new) = match told {
            Ok(lines) => {
                pause.failures = 0;
                pause.is_owed |= lines > 0;
                let is_time = is_last || pause.shown.is_none_or(|shown| shown.elapsed() >= STATUS_EVERY);
                (every(export), None, pause.is_owed && is_time)
            }
            Err(Untold { problem, after }) => {
                let wait = PAUSE_FIRST.saturating_mul(2_u32.saturating_pow(pause.failures)).min(PAUSE_MAX);
                let after = after.and_then(|after| Duration::try_from(after).ok());
                pause.failures = pause.failures.saturating_add(1);
                let is_new = self.note(object, export, &problem).await;
                let shown = format!("the history of {} is not told to {}: {problem}", name.1, name.2);
                (after.unwrap_or(wait), Some(shown), is_new)
            }
        };
        let now = Instant::now();
        pause.until = now + wait;
        if is_new {
            (pause.shown, pause.is_owed) = (Some(now), false);
            self.world.queue.wake([object.key.clone()]);
        }
        self.pauses.lock().unwrap_or_else(PoisonError::into_inner).insert(name, pause);
        problem
    }

    /// Notes why an export does not go on; whether that is new.
    async fn note(&self, object: &Object, export: &HistoryExport, problem: &str) -> bool {
        let is_new = self.world.store.note_untold(self.of(object, export), problem).await;
        match is_new {
            Ok(true) => {
                let words = format!("history to {}: {problem}", &*export.name);
                self.world.source.event(&object.key, Weight::Warning, Reason::ExportFailed, &words).await;
                true
            }
            Ok(false) => false,
            Err(error) => {
                tracing::warn!(%error, "the history waits for the store");
                false
            }
        }
    }

    fn of<'a>(&self, object: &'a Object, export: &'a HistoryExport) -> Export<'a> {
        let dialect = self.world.store.dialect();
        let place = Place { namespace: &object.key.namespace, dataset: &object.key.name, dialect };
        Export { place, name: &export.name }
    }

    /// Tells batch after batch until nothing is left; how many lines.
    async fn tell_some(&self, object: &Object, export: &HistoryExport, is_last: bool) -> Result<usize, Untold> {
        let (store, of) = (&self.world.store, self.of(object, export));
        let failed = |error: store::Error| Untold::from(error.to_string());
        let mut count = 0;
        let asked = Instant::now();
        while !store.begin_export(of, self.world.clock.now()).await.map_err(failed)? {
            if !is_last || asked.elapsed() > BEGIN_MAX {
                return Ok(0);
            }
            tokio::time::sleep(BEGIN_LOOK).await;
        }
        let environment = store.environment().await.map_err(failed)?;
        let source = history::source(&environment, of.place.namespace, of.place.dataset);
        loop {
            let (mut lines, mut told) = (vec![], vec![]);
            for mut due in store.history_due(of, GROUPS_AT_ONCE).await.map_err(failed)? {
                let mut reached = Reached::Seq(0);
                while let Reached::Seq(_) = reached
                    && lines.len() < LINES_AT_ONCE
                {
                    let (found, so_far) = store.history_lines(&due).await.map_err(failed)?;
                    lines.extend(found);
                    reached = so_far;
                    if let Reached::Seq(seq) = so_far {
                        due = due.from(seq);
                    }
                }
                told.push((due, reached));
                if lines.len() >= LINES_AT_ONCE {
                    break;
                }
            }
            if told.is_empty() {
                return Ok(count);
            }
            self.deliver(object, export, &lines, &source).await?;
            store.note_told(of, &told, lines.len(), self.world.clock.now()).await.map_err(failed)?;
            count += lines.len();
        }
    }

    async fn deliver(
        &self,
        object: &Object,
        export: &HistoryExport,
        lines: &[Line],
        source: &str,
    ) -> Result<(), Untold> {
        if let Some(files) = &export.files {
            let mut days = BTreeMap::<Date, Vec<Line>>::new();
            for line in lines {
                days.entry(line.at.to_zoned(TimeZone::UTC).date()).or_default().push(line.clone());
            }
            for (day, lines) in days {
                self.write(object, files, (day, lines), source).await?;
            }
        }
        let Some(declared) = &export.webhook else { return Ok(()) };
        let (world, namespace) = (&self.world, &object.key.namespace);
        let url = declared.url.parse().map_err(|error| format!("`{}` is not a URL: {error}", declared.url))?;
        world.reach.check(namespace, &url)?;
        let secret = world.secrets.secret(namespace, &declared.secret_ref.name).await;
        let key = secret.as_ref().and_then(|secret| secret.get("signing_key"));
        let lost = || format!("there is no Secret `{}` with a key `signing_key`", declared.secret_ref.name);
        let key = key.ok_or_else(lost)?;
        let permit = Permit { reach: world.reach.clone(), namespace: namespace.clone(), authorization: None };
        let webhook = Webhook::new(&declared.url, key, Exchange::new(permit, &self.roots, Speaks::Either)?);
        let events: Vec<_> = lines.iter().map(|line| history::cloud_event(line, source)).collect();
        webhook.tell(&events, world.clock.now()).await
    }

    async fn write(
        &self,
        object: &Object,
        files: &HistoryFiles,
        (day, lines): (Date, Vec<Line>),
        source: &str,
    ) -> Result<(), Untold> {
        let extension = match files.format {
            FileFormat::CSV => "csv",
            FileFormat::JSONL => "jsonl",
            FileFormat::Parquet => "parquet",
        };
        let folder = files.url.trim_end_matches('/');
        let url = format!("{folder}/date={day}/{}.{extension}", history::file_name(&lines));
        let target = self.world.target(object, &url, &files.access).await?;
        let (format, source) = (files.format, source.to_owned());
        let written = tokio::task::spawn_blocking(move || write(&target, format, &lines, &source)).await;
        let written = written.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        written.map_err(|error| Untold::from(format!("`{url}`: {error}")))
    }
}

fn write(target: &Target, format: FileFormat, lines: &[Line], source: &str) -> std::io::Result<()> {
    let mut table = Table::new(&format.into(), &history::columns(), (Compression::None, target.begin()?))?;
    lines.iter().try_for_each(|line| table.row(history::row(line, source)))?;
    table.commit().map(drop)
}

fn name(object: &Object, export: &HistoryExport) -> Name {
    (object.key.namespace.clone(), object.key.name.clone(), export.name.to_string())
}

fn every(export: &HistoryExport) -> Duration {
    let default = if export.files.is_some() { EVERY_FILES } else { EVERY_WEBHOOK };
    export.every.map_or(default, |every| every.as_std().max(TICK))
}

impl World {
    /// How a dataset's exports stand, for its status.
    pub(super) async fn exports(&self, object: &Object) -> Result<Vec<ExportStatus>, Error> {
        let place =
            Place { namespace: &object.key.namespace, dataset: &object.key.name, dialect: self.store.dialect() };
        let at = |at: Timestamp| Time(whole_seconds(at));
        let standings = self.store.exports(Some(place)).await?.into_iter();
        let status = |standing: Standing| ExportStatus {
            name: standing.name,
            told: standing.told,
            told_at: standing.told_at.map(at),
            waits_since: standing.waits_since.map(at),
            problem: standing.problem,
        };
        Ok(standings.map(status).collect())
    }
}
