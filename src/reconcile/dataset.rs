//! Dataset: its tables made, its files read. It is ready once every file that is there is in.

use std::{path::PathBuf, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Action, Error, World, sentence, stand};
use crate::{
    api::{
        DatasetSpec, DatasetStatus,
        condition::{Reason, Standing, whole_seconds},
        dataset::{Entity, EntityStatus},
    },
    ingest::{self, Found, SETTLED_MS},
    plan,
    source::{Key, Kind, catalog::Object},
    store::{self, entity::Place},
};

/// What a look at the sources found.
#[derive(Default)]
struct Looked {
    unsettled: usize,
    problems: Vec<String>,
    refused: Vec<String>,
    read: usize,
}

pub async fn reconcile(object: &Object, world: &World) -> Result<Action, Error> {
    let spec = match validate(object) {
        Ok(spec) => spec,
        Err(standing) => {
            write(object, None, &standing, world).await?;
            return Ok(Action::Await);
        }
    };
    if let Some(owner) = &world.not_mine {
        let standing = Standing::Stalled(Reason::StoreNotMine, owner.clone());
        write(object, Some(&spec), &standing, world).await?;
        return Ok(Action::Await);
    }
    let place = Place { namespace: &object.key.namespace, dataset: &object.key.name, dialect: world.store.dialect() };
    for entity in &spec.entities {
        match world.store.ensure_entity(place, entity).await {
            Err(store::Error::Refused(message)) => {
                write(object, Some(&spec), &Standing::Stalled(Reason::Invalid, message), world).await?;
                return Ok(Action::Await);
            }
            other => other?,
        }
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
    write(object, Some(&spec), &standing, world).await?;
    let until_next = retired.next.map(|next| next.duration_since(world.clock.now()).try_into().unwrap_or_default());
    let every = spec.entities.iter().filter_map(|e| e.source.as_ref()).map(|s| s.files.every.as_std()).min();
    let every = every.into_iter().chain(until_next).min();
    Ok(match every {
        _ if looked.unsettled > 0 => Action::Soon(Duration::from_millis(SETTLED_MS / 2)),
        Some(every) => Action::Later(every.max(Duration::from_secs(1))),
        None => Action::Await,
    })
}

fn validate(object: &Object) -> Result<DatasetSpec, Standing> {
    let spec: DatasetSpec = object.spec().map_err(|message| Standing::Stalled(Reason::Invalid, message))?;
    let found = plan::dataset::check(&object.key.name, &spec);
    if found.is_empty() { Ok(spec) } else { Err(Standing::Stalled(Reason::Invalid, sentence(&found, &object.key))) }
}

/// Reads every file that is new, by name; one that is being written is left for the next look.
async fn apply(object: &Object, spec: &DatasetSpec, place: Place<'_>, world: &World) -> Result<Looked, Error> {
    let mut looked = Looked::default();
    for entity in &spec.entities {
        let Some(source) = &entity.source else { continue };
        let files = match look(object, world, source.files.url.clone()).await {
            Ok(files) => files,
            Err(problem) => {
                looked.problems.push(problem);
                continue;
            }
        };
        let known = world.store.files_read(place, &entity.name).await?;
        let shape = ingest::shape_of(entity);
        for file in files {
            let old = known.iter().find(|k| k.path == file.name && k.stamp == file.stamp && k.shape == shape);
            if let Some(old) = old {
                looked.refused.extend(old.problem.iter().map(|p| format!("{}: {p}", file.name)));
            } else if !file.is_settled {
                looked.unsettled += 1;
            } else {
                let note = read(world, place, spec, entity, &file).await?;
                looked.read += 1;
                looked.refused.extend(note.iter().map(|p| format!("{}: {p}", file.name)));
            }
        }
    }
    Ok(looked)
}

async fn read(
    world: &World,
    place: Place<'_>,
    spec: &DatasetSpec,
    entity: &Entity,
    file: &Found,
) -> Result<Option<String>, Error> {
    let note = ingest::read_file(&world.store, place, spec, entity, file, world.clock.now()).await?;
    tracing::info!(file = file.name, rows = note.rows, rejected = note.rejected, problem = note.problem, "read");
    Ok(note.problem)
}

async fn look(object: &Object, world: &World, url: String) -> Result<Vec<Found>, String> {
    let base = object.origin.as_ref().and_then(|file| file.parent().map(PathBuf::from)).or_else(|| world.data.clone());
    let Some(base) = base else {
        return Err(format!("`{url}`: this controller has no --data directory"));
    };
    // In the folder home a manifest reaches what lies beside and below it; in a cluster the data directory.
    let found = tokio::task::spawn_blocking(move || ingest::look(&base, &base, &url)).await;
    found.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

fn stands(looked: &Looked) -> Standing {
    if let Some(problem) = looked.problems.first() {
        return Standing::Stalled(Reason::SourceUnreadable, problem.clone());
    }
    if let Some(refused) = looked.refused.first() {
        return Standing::Stalled(Reason::FileRefused, refused.clone());
    }
    if looked.unsettled > 0 {
        return Standing::Working(Reason::Loading, format!("{} files are being written", looked.unsettled));
    }
    Standing::Ready(Reason::Loaded, "every file is in".to_owned())
}

async fn write(object: &Object, spec: Option<&DatasetSpec>, standing: &Standing, world: &World) -> Result<(), Error> {
    let mut status: DatasetStatus = object.status();
    status.observed_generation = object.generation;
    if let Some(spec) = spec.filter(|_| world.not_mine.is_none() && standing.reason() != Reason::Invalid) {
        status.entities = entities(object, spec, world).await?;
        status.entity_count = i64::try_from(spec.entities.len()).unwrap_or(0);
        status.rows = status.entities.iter().map(|e| e.rows).sum();
        status.rejected = status.entities.iter().map(|e| e.rejected).sum();
    }
    stand(&mut status.conditions, standing, object, world.clock.now());
    world.write(object, status).await
}

async fn entities(object: &Object, spec: &DatasetSpec, world: &World) -> Result<Vec<EntityStatus>, Error> {
    let place = Place { namespace: &object.key.namespace, dataset: &object.key.name, dialect: world.store.dialect() };
    let mut found = vec![];
    for entity in &spec.entities {
        let count = world.store.entity_count(place, &entity.name).await?;
        found.push(EntityStatus {
            name: entity.name.to_string(),
            table: place.table_name(&entity.name),
            rows: count.rows,
            files: count.files,
            rejected: count.rejected,
            rejects: (count.rejected > 0).then(|| "reject".to_owned()),
            last_ingested_at: count.last_ingested.map(|at| Time(whole_seconds(at))),
            problem: count.problem,
        });
    }
    Ok(found)
}
