//! Dataset: its tables made, its files read. It is ready once every file that is there is in.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Action, Error, World, sentence, stand};
use crate::{
    api::{
        DatasetSpec, DatasetStatus,
        condition::{self, Reason, Standing, whole_seconds},
        dataset::{DeletionPolicy, Entity, EntityStatus, LatencyStatus, WhenStale},
    },
    files::{Found, SETTLED},
    ingest, plan,
    source::{Key, Kind, Weight, catalog::Object},
    store::{self, entity::Place},
};

/// A file that is about to settle is not looked at all the time.
const SOON: Duration = Duration::from_millis(20);
/// How often a Dataset that is being deleted asks whether runs still need it.
const OPEN_RUNS: Duration = Duration::from_secs(2);
/// How long until a source that was lost is looked for again.
const LOST: Duration = Duration::from_secs(5);

/// What a look at the sources found.
#[derive(Default)]
struct Looked {
    unsettled: usize,
    incomplete: usize,
    settles_in: Duration,
    problems: Vec<String>,
    /// Troubles that a declared freshness bears for a while.
    borne: Vec<String>,
    refused: Vec<String>,
    /// What is older than it may be, and whether that holds runs.
    stale: Vec<(String, WhenStale)>,
    /// When the next source becomes too old.
    stale_in: Option<Duration>,
    /// The entities that have new rows.
    read: BTreeSet<String>,
}

impl Looked {
    /// A source that cannot be reached is a problem at once, unless the author said how old its data may be.
    fn fail(&mut self, entity: &Entity, problem: String) {
        if entity.freshness.is_some() { self.borne.push(problem) } else { self.problems.push(problem) }
    }
}

pub async fn reconcile(object: &Object, world: &World) -> Result<Action, Error> {
    if object.is_deleting {
        return clean_up(object, world).await;
    }
    let spec = match validate(object) {
        Ok(spec) => spec,
        Err(standing) => {
            write(object, None, &standing, world).await?;
            return Ok(Action::Await);
        }
    };
    if let Some(owner) = &world.not_mine {
        let standing = Standing::Stalled(Reason::StoreNotMine, owner.clone());
        write(object, Some((&spec, None)), &standing, world).await?;
        return Ok(Action::Await);
    }
    let place = Place { namespace: &object.key.namespace, dataset: &object.key.name, dialect: world.store.dialect() };
    for entity in &spec.entities {
        let ensured = match entity.source.as_ref().and_then(|s| s.table.as_ref()) {
            None => world.store.ensure_entity(place, entity).await,
            Some(table) => match world.reach.check_table(place.namespace, table) {
                Ok(()) => world.store.ensure_view(place, entity, table).await,
                Err(message) => Err(store::Error::Refused(message)),
            },
        };
        match ensured {
            Err(store::Error::Refused(message)) => {
                write(object, Some((&spec, None)), &Standing::Stalled(Reason::Invalid, message), world).await?;
                return Ok(Action::Await);
            }
            other => other?,
        }
    }
    world.store.note_dataset(place.namespace, place.dataset, &spec, world.clock.now()).await?;
    let exports = spec.history.iter().flat_map(|history| &history.exports).map(|export| &*export.name);
    world.store.declare_exports(place, &exports.collect::<Vec<_>>()).await?;
    let is_to_be_held = spec.deletion_policy == DeletionPolicy::Delete;
    if object.is_held != is_to_be_held {
        world.source.hold(&object.key, is_to_be_held).await?;
    }
    let looked = apply(object, &spec, place, world).await?;
    let standing = stands(&looked);
    if world.loaded.note(&object.key, standing.is_ready()) {
        world.queue.wake(world.catalog.dependents(&object.key));
    }
    let retired = world.store.retire(place, &spec.retention, world.clock.now()).await?;
    let lost = retired.without_tables.iter().map(|run| Key::new(Kind::CampaignRun, place.namespace, run));
    world.queue.wake(lost);
    if retired.runs > 0 || retired.rejects > 0 {
        tracing::info!(dataset = place.dataset, runs = retired.runs, rejects = retired.rejects, "past their retention");
    }
    write(object, Some((&spec, Some(&looked))), &standing, world).await?;
    let until_next = retired.next.map(|next| next.duration_since(world.clock.now()).try_into().unwrap_or_default());
    let every = spec.entities.iter().filter_map(|e| e.source.as_ref()?.files.as_ref()).map(|f| f.every.as_std()).min();
    let every = every.into_iter().chain(until_next).min();
    Ok(match every {
        _ if looked.unsettled > 0 => Action::Soon(looked.settles_in.clamp(SOON, SETTLED)),
        // A source that was lost is looked for sooner, so that a short trouble does not make it stale.
        Some(every) if !looked.borne.is_empty() => Action::Later(every.min(LOST)),
        Some(every) => {
            let next = looked.stale_in.map_or(every, |left| every.min(left + SOON));
            Action::Later(next.max(Duration::from_secs(1)))
        }
        None => Action::Await,
    })
}

/// The object is being deleted: its tables go with it, if that was asked for and no run needs them any more.
async fn clean_up(object: &Object, world: &World) -> Result<Action, Error> {
    let spec = object.spec::<DatasetSpec>();
    let namespace = &object.key.namespace;
    world.loaded.note(&object.key, false);
    if world.not_mine.is_none() {
        let place = Place { namespace, dataset: &object.key.name, dialect: world.store.dialect() };
        world.store.declare_exports(place, &[]).await?;
    }
    if spec.is_ok_and(|spec| spec.deletion_policy == DeletionPolicy::Delete) && world.not_mine.is_none() {
        let campaigns = world.catalog.all(Kind::Campaign).into_iter();
        for campaign in campaigns.filter(|c| c.key.namespace == *namespace && c.spec["dataset"] == *object.key.name) {
            if let Some(run) = world.store.open_runs(namespace, &campaign.key.name).await?.first() {
                let standing = Standing::Working(Reason::Held, format!("is deleted once {} has ended", run.name));
                write(object, None, &standing, world).await?;
                return Ok(Action::Later(OPEN_RUNS));
            }
        }
        let place = Place { namespace, dataset: &object.key.name, dialect: world.store.dialect() };
        world.store.drop_dataset(place).await?;
    }
    world.source.hold(&object.key, false).await?;
    Ok(Action::Await)
}

fn validate(object: &Object) -> Result<DatasetSpec, Standing> {
    let spec: DatasetSpec = object.spec().map_err(|message| Standing::Stalled(Reason::Invalid, message))?;
    let found = plan::dataset::check(&object.key.name, &spec);
    if found.is_empty() { Ok(spec) } else { Err(Standing::Stalled(Reason::Invalid, sentence(&found, &object.key))) }
}

/// Reads every file that is new, by name; one that is being written is left for the next look.
async fn apply(object: &Object, spec: &DatasetSpec, place: Place<'_>, world: &World) -> Result<Looked, Error> {
    let mut looked = Looked { settles_in: Duration::MAX, ..Looked::default() };
    for entity in &spec.entities {
        let Some(source) = entity.source.as_ref().and_then(|s| s.files.as_ref()) else { continue };
        let now = world.clock.now();
        let found = match world.site(object, &source.url, &source.access).await {
            Ok(site) => site.look(&world.arrivals).await.map(|found| (site, found)),
            Err(problem) => Err(problem),
        };
        let (site, found) = match found {
            Ok(found) => found,
            Err(problem) => {
                looked.fail(entity, problem);
                age(place, entity, &mut looked, world).await?;
                continue;
            }
        };
        let reader = ingest::Reader { store: &world.store, place, dataset: spec, entity, source, site: &site };
        match read(&reader, found, &mut looked, world).await {
            Ok(()) => world.store.note_look(place, &entity.name, now).await?,
            Err(ingest::Failure::Lost(problem)) => looked.fail(entity, problem),
            Err(ingest::Failure::Store(error)) => return Err(error.into()),
        }
        age(place, entity, &mut looked, world).await?;
    }
    Ok(looked)
}

/// How old the last look at an entity's source is, against what it may be.
async fn age(place: Place<'_>, entity: &Entity, looked: &mut Looked, world: &World) -> Result<(), Error> {
    let Some(freshness) = &entity.freshness else { return Ok(()) };
    let last = world.store.last_look(place, &entity.name).await?;
    let max = freshness.max_age.as_std();
    let age = last.map(|at| world.clock.now().duration_since(at).max(jiff::SignedDuration::ZERO).unsigned_abs());
    match age {
        Some(age) if age <= max => {
            let left = max - age;
            looked.stale_in = Some(looked.stale_in.map_or(left, |other| other.min(left)));
        }
        _ => {
            let words = last.map_or_else(
                || format!("{} has never been looked at", entity.name),
                |at| format!("{} was last looked at {at:.0}, more than {} ago", entity.name, freshness.max_age),
            );
            looked.stale.push((words, freshness.when_stale));
        }
    }
    Ok(())
}

async fn read(
    reader: &ingest::Reader<'_>,
    found: Vec<Found>,
    looked: &mut Looked,
    world: &World,
) -> Result<(), ingest::Failure> {
    let known = world.store.files_read(reader.place, &reader.entity.name).await?;
    let has_looked = world.store.last_look(reader.place, &reader.entity.name).await?.is_some();
    let work = ingest::unit::plan(reader.entity, reader.source, found, &known);
    looked.unsettled += work.unsettled;
    looked.incomplete += work.incomplete;
    looked.settles_in = looked.settles_in.min(work.settles_in);
    looked.refused.extend(work.refused);
    for (file, newer) in &work.superseded {
        reader.pass_over(file, newer, world.clock.now()).await?;
    }
    for unit in &work.units {
        let notes = reader.read(unit, world.clock.now()).await?;
        // What lay there before anybody looked did not arrive, nor did what is read again for a new field.
        let is_new = |file: &Found| !known.iter().any(|k| k.path == file.name && k.stamp == file.stamp);
        if has_looked && unit.iter().all(is_new) {
            reader.note_arrivals(unit).await?;
        }
        for note in notes {
            tracing::info!(
                file = note.path,
                rows = note.rows,
                rejected = note.rejected,
                problem = note.problem,
                "read"
            );
            looked.refused.extend(note.problem.map(|p| format!("{}: {p}", note.path)));
        }
        looked.read.insert(reader.entity.name.to_string());
    }
    Ok(())
}

fn stands(looked: &Looked) -> Standing {
    if let Some(problem) = looked.problems.first() {
        return Standing::Stalled(Reason::SourceUnreadable, problem.clone());
    }
    if let Some((words, _)) = looked.stale.iter().find(|(_, when)| *when == WhenStale::Hold) {
        let why = looked.borne.first().map_or(String::new(), |problem| format!("; {problem}"));
        return Standing::Stalled(Reason::Stale, format!("{words}{why}"));
    }
    if let Some(refused) = looked.refused.first() {
        return Standing::Stalled(Reason::FileRefused, refused.clone());
    }
    if looked.unsettled > 0 {
        return Standing::Working(Reason::Loading, format!("{} files are being written", looked.unsettled));
    }
    let waiting = match looked.incomplete {
        0 => String::new(),
        n => format!("; {n} wait for what completes them"),
    };
    let borne = looked.borne.first().map_or(String::new(), |problem| format!("; not looked at now: {problem}"));
    Standing::Ready(Reason::Loaded, format!("every file is in{waiting}{borne}"))
}

async fn write(
    object: &Object,
    spec: Option<(&DatasetSpec, Option<&Looked>)>,
    standing: &Standing,
    world: &World,
) -> Result<(), Error> {
    let mut status: DatasetStatus = object.status();
    status.observed_generation = object.generation;
    if let Some((spec, looked)) = spec.filter(|_| world.not_mine.is_none() && standing.reason() != Reason::Invalid) {
        status.entities = entities(object, spec, looked, &status.entities, world).await?;
        status.history = world.exports(object).await?;
        status.entity_count = i64::try_from(spec.entities.len()).unwrap_or(0);
        status.rows = status.entities.iter().map(|e| e.rows).sum();
        status.rejected = status.entities.iter().map(|e| e.rejected).sum();
    }
    let now = world.clock.now();
    stand(&mut status.conditions, standing, object, now);
    if let Some((spec, looked)) = spec.and_then(|(spec, looked)| Some((spec, looked?))) {
        if spec.entities.iter().any(|e| e.freshness.is_some()) {
            let (reason, words) = match looked.stale.first() {
                Some((words, _)) => (Reason::Stale, words.as_str()),
                None => (Reason::Fresh, "every source was looked at in time"),
            };
            let is_fresh = looked.stale.is_empty();
            condition::set(&mut status.conditions, "Fresh", is_fresh, reason, words, object.generation, now);
        } else {
            status.conditions.retain(|c| c.type_ != "Fresh");
        }
        let was_fresh =
            condition::find(&object.status::<DatasetStatus>().conditions, "Fresh").is_none_or(|c| c.status == "True");
        if let Some((words, WhenStale::Warn)) = looked.stale.first()
            && was_fresh
        {
            world.source.event(&object.key, Weight::Warning, Reason::Stale, words).await;
        }
    }
    world.write(object, status).await
}

async fn entities(
    object: &Object,
    spec: &DatasetSpec,
    looked: Option<&Looked>,
    before: &[EntityStatus],
    world: &World,
) -> Result<Vec<EntityStatus>, Error> {
    let place = Place { namespace: &object.key.namespace, dataset: &object.key.name, dialect: world.store.dialect() };
    let mut found = vec![];
    for entity in &spec.entities {
        let name = &*entity.name;
        let old = before.iter().find(|e| e.name == name);
        // Counting reads the whole table, so it is done where rows came.
        let rows = match old {
            Some(old) if looked.is_some_and(|l| !l.read.contains(name)) => old.rows,
            _ => world.store.entity_rows(place, name).await?,
        };
        let files = world.store.file_count(place, name).await?;
        let latency = world.store.latency(place, name).await?;
        let seconds = |at: jiff::Timestamp| Time(whole_seconds(at));
        found.push(EntityStatus {
            name: name.to_owned(),
            table: place.table_name(name),
            rows,
            files: files.files,
            rejected: files.rejected,
            erased: files.erased,
            rejects: (files.rejected > 0).then(|| "reject".to_owned()),
            last_ingested_at: files.last_ingested.map(seconds),
            looked_at: world.store.last_look(place, name).await?.map(seconds),
            latency: latency.map(|l| LatencyStatus {
                last_ms: l.last_ms,
                p50_ms: l.p50_ms,
                p99_ms: l.p99_ms,
                files: l.files,
            }),
            problem: files.problem,
        });
    }
    Ok(found)
}
