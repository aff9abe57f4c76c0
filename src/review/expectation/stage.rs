//! The private store of a test, and a campaign run on it as a home would run it, through a channel that leads nowhere.
//!
//! A store is made once for each dataset, loaded once for each fixture, and copied for each run: files of SQLite that only
//! this process sees, gone when it ends.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::{Timestamp, tz::TimeZone};
use tempfile::TempDir;
use tokio::{
    sync::{Mutex, mpsc, mpsc::UnboundedSender},
    time::Instant,
};

use super::{
    Unrun,
    fixture::Fixture,
    load::{DIALECT, Prepared},
};
use crate::{
    api::{
        AudienceSpec,
        audience::Form,
        dataset::{DatasetSpec, Entity},
        step::Record,
    },
    clock::Clock,
    ingest::cell,
    plan::{Bundle, Plan},
    run::{
        advance::{self, Progress},
        schedule::Timetable,
    },
    send::{
        channel::{Channel, Delivery, Done, Envelope},
        dispatch::{Dispatcher, LEASE, Secrets, Watch},
        lease::Lease,
        providers::{Providers, Secret},
    },
    store::{
        self, Store,
        audience::Evaluated,
        campaign::{NewRun, Origin, Run, State},
        entity::{Place, keys_given},
        merge::{Consenting, Merge, consent_rules},
        rows::{Change, Rows, Target, Value},
    },
};

/// A run over a few rows ends in milliseconds; one that does not end has a fault of ours.
const RUN_TIME_MAX: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(1);

/// A campaign that was run.
pub struct Played {
    pub store: Store,
    pub pinned: Arc<(Bundle, Plan)>,
    pub run: Run,
    /// Why it is held, if it is.
    pub held: Option<String>,
}

/// Where the private stores are.
pub struct Stage {
    folder: TempDir,
    /// The file of each store that was made, by what is in it.
    made: Mutex<BTreeMap<String, PathBuf>>,
    copies: AtomicUsize,
}

impl Stage {
    /// # Errors
    /// If no folder can be made.
    pub fn new() -> std::io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("campanile-test-").tempdir()?;
        Ok(Self { folder, made: Mutex::default(), copies: AtomicUsize::default() })
    }

    /// A store with a fixture's rows, of the caller's own.
    pub async fn store(
        &self,
        test: &Prepared,
        pinned: &Arc<(Bundle, Plan)>,
        fixture: &Fixture,
        now: Timestamp,
    ) -> Result<Store, Unrun> {
        let bundle = &pinned.0;
        let place = Place { namespace: &test.namespace, dataset: &bundle.campaign.dataset, dialect: DIALECT };
        let dataset = serde_json::to_string(&bundle.dataset).unwrap_or_default();
        let shape = format!("{}/{} {dataset}", place.namespace, place.dataset);
        let mut made = self.made.lock().await;
        let number = made.len();
        let path = |what: &str| self.folder.path().join(format!("{what}-{number}.db"));
        let empty = match made.get(&shape) {
            Some(path) => path.clone(),
            None => {
                let path = path("empty");
                let store = open(&path).await?;
                store.enter("test", "test").await?;
                for entity in &bundle.dataset.entities {
                    store.ensure_entity(place, entity).await?;
                }
                store.close().await;
                made.insert(shape.clone(), path.clone());
                path
            }
        };
        let filled = format!("{now} {fixture:?} {shape}");
        let loaded = match made.get(&filled) {
            Some(path) => path.clone(),
            None => {
                let path = path("loaded");
                copy_closed(&empty, &path)?;
                let store = open(&path).await?;
                load(&store, place, &bundle.dataset, fixture, now).await?;
                fill(&store, place, pinned, fixture, now).await?;
                store.close().await;
                made.insert(filled, path.clone());
                path
            }
        };
        let copy = path(&format!("run-{}", self.copies.fetch_add(1, Ordering::Relaxed)));
        copy_closed(&loaded, &copy)?;
        Ok(open(&copy).await?)
    }

    /// Runs a campaign at each of the times in turn; the last run is the one that is asked about.
    pub async fn play(
        &self,
        test: &Prepared,
        pinned: &Arc<(Bundle, Plan)>,
        fixture: &Fixture,
        times: &[Timestamp],
    ) -> Result<Played, Unrun> {
        let first = times.first().copied().unwrap_or(Timestamp::UNIX_EPOCH);
        let store = self.store(test, pinned, fixture, first).await?;
        let mut last = None;
        for (index, at) in times.iter().enumerate() {
            last = Some(play_one(&store, pinned, *at, index).await?);
        }
        let lost = || store::Error::Internal("a test without a time".to_owned());
        let (run, held) = last.ok_or_else(lost)?;
        Ok(Played { store, pinned: pinned.clone(), run, held })
    }
}

/// What shapes a message stays; what would slow it down, sign it, or forget it goes.
pub fn harmless(mut bundle: Bundle) -> Bundle {
    for step in &mut bundle.campaign.steps {
        if let Some(message) = step.activity.message_mut() {
            message.record = Record::Fields;
            message.throttle = None;
        }
    }
    for channel in bundle.channels.values_mut() {
        channel.rate = None;
        if let Some(email) = &mut channel.email {
            email.dkim = None;
            email.smtp.secret_ref = None;
        }
    }
    for spec in bundle.audiences.values_mut() {
        // No statement of an author runs here: its keys are given.
        if matches!(spec.form(), Some(Form::Sql(_)))
            && let Some(given) = saved(spec)
        {
            *spec = given;
        }
    }
    bundle
}

fn saved(spec: &AudienceSpec) -> Option<AudienceSpec> {
    let mut json = serde_json::to_value(spec).ok()?;
    let fields = json.as_object_mut()?;
    fields.remove("sql");
    fields.insert("saved".to_owned(), serde_json::json!({}));
    serde_json::from_value(json).ok()
}

async fn open(path: &Path) -> store::Result<Store> {
    Store::open_scratch(&format!("sqlite://{}", path.display())).await
}

/// Copies a store that nobody writes to. Connections that close at the same time may each leave the log to the other: what
/// is still in it belongs to the store. The log goes first, for what moves from it meanwhile is then in both.
fn copy_closed(from: &Path, to: &Path) -> std::io::Result<()> {
    let log = |of: &Path| PathBuf::from(format!("{}-wal", of.display()));
    match std::fs::copy(log(from), log(to)) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::copy(from, to)?;
    Ok(())
}

async fn load(
    store: &Store,
    place: Place<'_>,
    dataset: &DatasetSpec,
    fixture: &Fixture,
    now: Timestamp,
) -> store::Result<()> {
    for entity in &dataset.entities {
        let Some(rows) = fixture.rows.get(&*entity.name) else { continue };
        let mut tx = store.begin().await?;
        let file_no = tx.begin_file(place, &entity.name).await?;
        let mut batch = Rows::new(place.dialect, entity, Target::Table, entity.version.is_some().then_some(file_no));
        let (sender, mut batches) = mpsc::channel(rows.len() + 1);
        for row in rows.values() {
            batch.begin(Change::Upsert);
            for (field, text) in entity.fields.iter().zip(row) {
                // It was typed when the fixture was read.
                let text = text.as_deref().unwrap_or_default();
                batch.push(cell::parse(text.as_bytes(), field, &TimeZone::UTC).unwrap_or(Value::Missing));
            }
            batch.end();
        }
        // There is room for one.
        let _ = sender.send(batch.take()).await;
        drop(sender);
        tx.load(place, entity, Target::Table, &mut batches).await?;
        let merge = Merge { place, entity, path: "test", file_no, has_deletes: false };
        for rule in consent_rules(dataset, entity, "test") {
            tx.log_consent(&merge, &rule, Consenting::Table, now).await?;
        }
        tx.commit().await?;
    }
    Ok(())
}

/// Fills the audiences that come from elsewhere.
async fn fill(
    store: &Store,
    place: Place<'_>,
    pinned: &(Bundle, Plan),
    fixture: &Fixture,
    now: Timestamp,
) -> store::Result<()> {
    for set in pinned.1.sets.iter().filter(|set| !set.is_on_demand()) {
        let Some(keys) = fixture.audiences.get(&set.name) else { continue };
        let lost = || store::Error::Internal(format!("entity {} is gone", set.entity));
        let entity: &Entity = pinned.0.dataset.entity(&set.entity).ok_or_else(lost)?;
        let select = keys_given(place.dialect, entity, keys);
        let name = (place.namespace, set.name.as_str());
        let mut tx = store.begin().await?;
        tx.replace_kept(name, entity, &select, (place.dataset, &set.definition, None)).await?;
        let size = i64::try_from(keys.len()).unwrap_or(i64::MAX);
        let evaluated = Evaluated { size, profiles: None, took_ms: 0, at: now };
        tx.note_evaluated(name, &evaluated, 0, false).await?;
        tx.commit().await?;
    }
    Ok(())
}

async fn play_one(
    store: &Store,
    pinned: &Arc<(Bundle, Plan)>,
    at: Timestamp,
    index: usize,
) -> Result<(Run, Option<String>), Unrun> {
    let bundle = &pinned.0;
    let (hash, text) = bundle.revision().map_err(|e| store::Error::Internal(e.to_string()))?;
    let table = bundle.campaign.schedule.as_ref().and_then(|schedule| Timetable::of(schedule).ok());
    let name = match &table {
        // One that starts once has one name for ever; a run before it is another's.
        Some(table) if index == 0 || !table.is_once() => table.run_name(&bundle.name, at),
        _ => format!("{}-{}", bundle.name, at.strftime("%Y%m%d%H%M%S")),
    };
    let new = NewRun {
        namespace: &bundle.namespace,
        name: &name,
        campaign: &bundle.name,
        dataset: &bundle.campaign.dataset,
        mode: "Live",
        origin: if table.is_some() { Origin::Schedule } else { Origin::Hand },
        scheduled: at,
        predecessor: None,
        revision: (&hash, &text),
    };
    let (mut run, _) = store.create_run(&new, at).await?;
    let mut office = Office::open(store, at);
    let (began, mut held) = (Instant::now(), None);
    while run.state != State::Done {
        match advance::advance(store, &run, office.clock.now()).await? {
            Progress::Planned(_) => office.dispatcher.wake.notify_one(),
            // A `wait` is over at once.
            Progress::Rests(until) => {
                office.close().await?;
                office = Office::open(store, until);
            }
            Progress::Held(_) | Progress::Paused => {
                held = store.run(&run.namespace, &run.name).await?.map(|run| run.message);
                break;
            }
            Progress::Ended => break,
            Progress::Sends | Progress::Waits | Progress::Cancels => tokio::time::sleep(LOOK).await,
        }
        if began.elapsed() > RUN_TIME_MAX {
            return Err(store::Error::Internal(format!("run {name} does not end")).into());
        }
        let lost = || store::Error::Internal("a run vanished".to_owned());
        run = store.run(&run.namespace, &run.name).await?.ok_or_else(lost)?;
    }
    office.close().await?;
    let lost = || store::Error::Internal("a run vanished".to_owned());
    let run = store.run(&bundle.namespace, &name).await?.ok_or_else(lost)?;
    Ok((run, held))
}

/// Who sends, on a clock of its own.
struct Office {
    clock: Clock,
    dispatcher: Arc<Dispatcher>,
    working: tokio::task::JoinHandle<()>,
}

impl Office {
    fn open(store: &Store, at: Timestamp) -> Self {
        let clock = Clock::starting_at(at);
        let providers = Providers::only(Arc::new(Nowhere));
        let nobody = Arc::new(Nobody);
        let dispatcher =
            Arc::new(Dispatcher::new(store.clone(), clock, providers, nobody.clone(), nobody, Lease::new(LEASE, true)));
        let working = tokio::spawn(dispatcher.clone().run());
        Self { clock, dispatcher, working }
    }

    async fn close(&mut self) -> store::Result<()> {
        let finished = self.dispatcher.finish().await;
        self.working.abort();
        finished
    }
}

/// A channel that takes every message, and nothing leaves.
struct Nowhere;

#[async_trait]
impl Channel for Nowhere {
    async fn submit(&self, tag: u64, _: Envelope, done: &UnboundedSender<Done>) {
        let _ = done.send(Done { tag, delivery: Delivery::Sent { receipt: String::new() } });
    }

    fn may_doubt(&self) -> bool {
        false
    }

    fn connections(&self) -> usize {
        1
    }
}

struct Nobody;

#[async_trait]
impl Secrets for Nobody {
    async fn secret(&self, _: &str, _: &str) -> Option<Secret> {
        None
    }
}

impl Watch for Nobody {
    fn progressed(&self, _: &str, _: &str) {}
}
