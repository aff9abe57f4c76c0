//! What is kept of an audience: refreshed by its schedule, imported from its file, filled by a campaign, exported.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::{Action, Error, Form, Ground, LOOK_AHEAD_MAX, Looked, Object, Reason, Standing, World};
use crate::{
    api::{AudienceSpec, audience::Import, dataset::FileFormat},
    files::{Found, Site},
    ingest::{
        feed::Erased,
        keys::{self, Unread},
    },
    plan::audience::{Set, import_format},
    run::{audiences, export},
    store::{self, audience::Known, entity::Place, files::FileRead},
};

/// How often an imported file is looked at where no file notification arrives.
const IMPORT_EVERY: Duration = Duration::from_secs(15 * 60);
/// Chunks of keys on their way to the store.
const CHUNKS_WAITING: usize = 2;

/// Brings what is kept up to date, if it is time.
pub(super) async fn keep(
    object: &Object,
    spec: &AudienceSpec,
    ground: &Ground<'_>,
    known: &Known,
    world: &World,
) -> Result<Looked, Error> {
    let gone = || Error::Internal(format!("audience {} is gone", object.key.name));
    let set = ground.sets.get(&object.key.name).ok_or_else(gone)?;
    let now = world.clock.now();
    // Before the rows are in, no key would have one.
    let is_loaded = world.loaded.contains(ground.namespace, ground.dataset_name);
    let not_loaded = || {
        let message = format!("Dataset `{}` is being read", ground.dataset_name);
        Ok(Looked::at(Standing::Working(Reason::DependencyNotReady, message)))
    };
    let Some(timetable) = &set.refresh else {
        return match spec.form() {
            Some(Form::Import(_)) if !is_loaded => not_loaded(),
            Some(Form::Import(import)) => read(object, import, (ground, set), None, world).await,
            Some(Form::Saved) if known.kept.is_none() => Ok(Looked::at(Standing::Ready(
                Reason::Accepted,
                "not filled yet; runs that read it are held".to_owned(),
            ))),
            Some(Form::Saved) => Ok(Looked::at(Standing::Ready(Reason::Refreshed, "filled by a campaign".to_owned()))),
            _ => Ok(Looked::at(Standing::Ready(Reason::Accepted, "evaluated when a run reads it".to_owned()))),
        };
    };
    let stands = known.kept.as_ref().is_some_and(|kept| kept.definition == set.definition);
    let nominal = match known.last.filter(|_| stands) {
        Some(last) => set.due(last.at, now),
        None => Some(now),
    };
    let mut looked = match nominal {
        None => Looked::at(Standing::Ready(Reason::Refreshed, "kept as of its last refresh".to_owned())),
        Some(_) if !is_loaded => return not_loaded(),
        Some(nominal) => refresh(object, spec, (ground, set), (nominal, now), world).await?,
    };
    looked.next = timetable.look(now, now, false).next;
    if let (Action::Await, Some(next)) = (looked.action, looked.next) {
        looked.action = Action::Later(until(next, now));
    }
    Ok(looked)
}

fn until(at: Timestamp, now: Timestamp) -> Duration {
    at.duration_since(now).max(SignedDuration::ZERO).unsigned_abs().min(LOOK_AHEAD_MAX)
}

async fn refresh(
    object: &Object,
    spec: &AudienceSpec,
    (ground, set): (&Ground<'_>, &Set),
    (nominal, now): (Timestamp, Timestamp),
    world: &World,
) -> Result<Looked, Error> {
    let refreshed = match spec.form() {
        Some(Form::Import(import)) => return read(object, import, (ground, set), Some(now), world).await,
        Some(Form::Sql(text)) => {
            let evaluated = audiences::evaluate_sql(&world.store, ground, set, text, now).await;
            evaluated.map(|done| done.map_err(|why| Standing::Stalled(Reason::StepFailed, why)))
        }
        _ => {
            let evaluated = audiences::evaluate(&world.store, ground, set, (nominal, now)).await;
            evaluated.map(|done| done.map_err(|why| Standing::Working(Reason::DependencyNotReady, why)))
        }
    };
    Ok(Looked::at(match refreshed {
        Ok(Ok(())) => {
            tracing::info!(audience = object.key.name, "refreshed");
            Standing::Ready(Reason::Refreshed, "kept as of its last refresh".to_owned())
        }
        Ok(Err(standing)) => standing,
        Err(error) if error.is_passing() => return Err(error.into()),
        // A fault of the data, such as a sum that overflows: it is tried again when it is due again.
        Err(error) => Standing::Stalled(Reason::StepFailed, error.to_string()),
    }))
}

/// Reads the file of an import, if it is not the one that was read last. If it is, and a refresh is `due` now, the keys
/// are counted as of now.
async fn read(
    object: &Object,
    import: &Import,
    (ground, set): (&Ground<'_>, &Set),
    due: Option<Timestamp>,
    world: &World,
) -> Result<Looked, Error> {
    let (site, file, format) = match find(object, import, world).await {
        Ok(found) => found,
        Err(problem) => {
            let standing = Standing::Stalled(Reason::SourceUnreadable, problem);
            return Ok(Looked { action: Action::Later(IMPORT_EVERY), ..Looked::at(standing) });
        }
    };
    let place = Place { namespace: ground.namespace, dataset: ground.dataset_name, dialect: ground.dialect };
    // Its file and its rejects stand beside those of the entities, under a name that none of them can have.
    let owner = format!("audience/{}", set.name);
    let known = world.store.files_read(place, &owner).await?;
    let old = known.iter().find(|k| k.path == file.name && k.stamp == file.stamp && k.shape == set.definition);
    let note = match old {
        Some(old) => {
            if let Some(now) = due {
                audiences::count_again(&world.store, ground, set, now).await?;
            }
            old.clone()
        }
        None if !file.settles_in.is_zero() => {
            let standing = Standing::Working(Reason::Loading, format!("{} is being written", file.name));
            let action = Action::Soon(file.settles_in);
            return Ok(Looked { action, ..Looked::at(standing) });
        }
        None => take(import, (&site, &file, format), (ground, set), (place, &owner), world).await?,
    };
    let standing = match &note.problem {
        Some(problem) => Standing::Stalled(Reason::FileRefused, format!("{}: {problem}", file.name)),
        None if note.rejected > 0 => {
            let message = format!("imported; {} bad rows stand in table reject under {owner}", note.rejected);
            Standing::Ready(Reason::Loaded, message)
        }
        None => Standing::Ready(Reason::Loaded, "imported as the file is".to_owned()),
    };
    Ok(Looked { action: Action::Later(IMPORT_EVERY), ..Looked::at(standing) })
}

/// The one file that the import names, where it is and how it is read.
async fn find(object: &Object, import: &Import, world: &World) -> Result<(Site, Found, FileFormat), String> {
    let url = &import.url;
    let format = import_format(import)?;
    let site = world.site(object, url, &import.access).await?;
    let mut found = site.look(&world.arrivals).await?;
    match (found.pop(), found.is_empty()) {
        (Some(file), true) if file.name == import.url => Ok((site, file, format)),
        _ => Err(format!("`{}` is not one file", import.url)),
    }
}

/// Reads the file into the keys that are kept, in one transaction with the note that it was read.
async fn take(
    import: &Import,
    (site, file, format): (&Site, &Found, FileFormat),
    (ground, set): (&Ground<'_>, &Set),
    (place, owner): (Place<'_>, &str),
    world: &World,
) -> Result<FileRead, Error> {
    let began = std::time::Instant::now();
    let now = world.clock.now();
    let entity = ground.entity(&set.entity)?;
    let keys = audiences::key_entity(entity, import.key.as_deref());
    let (sender, rows) = mpsc::channel(CHUNKS_WAITING);
    let staging = audiences::stage(&world.store, ground, &keys, rows);
    let erased = Erased::of(&world.store, place, &set.entity).await?;
    let reading = keys::read_keys((site, file), format, (&keys, ground.dialect), erased.clone(), sender);
    let (read, staged) = tokio::join!(reading, staging);
    let mut tx = staged?;
    let mut note = FileRead {
        path: file.name.clone(),
        stamp: file.stamp.clone(),
        shape: set.definition.clone(),
        ..FileRead::default()
    };
    let mut rejects = vec![];
    match read {
        Ok(held) => {
            (note.rows, note.rejected, rejects) = (held.rows, held.rejected, held.rejects);
            let kept = audiences::take_stage(&mut tx, ground, set, &keys, Some(&file.stamp)).await?;
            audiences::settle(&mut tx, ground, set, &kept, (began, now)).await?;
        }
        Err(Unread::Lost(problem)) => return Err(Error::Internal(format!("{}: {problem}", file.name))),
        Err(Unread::Refused(problem)) => {
            // Refused whole: the keys that stood go on standing.
            drop(tx);
            tx = world.store.begin().await?;
            note.problem = Some(problem);
        }
    }
    if !erased.stands(&mut tx, place, &set.entity).await? {
        return Err(Error::Internal(format!("{}: somebody was erased while it was read", file.name)));
    }
    let no = tx.begin_file(place, owner).await?;
    tx.note_file(place, owner, (&note, no), &rejects, now).await?;
    tx.commit().await?;
    tracing::info!(audience = set.name, rows = note.rows, rejected = note.rejected, problem = note.problem, "imported");
    Ok(note)
}

/// Writes what is kept to the declared file, if it was refreshed since; why it could not be written, if it could not.
/// A set outside its guard is not for others either.
pub(super) async fn export(
    object: &Object,
    spec: &AudienceSpec,
    ground: &Ground<'_>,
    known: &Known,
    world: &World,
) -> Result<Option<String>, Error> {
    let (Some(declared), Some(kept), Some(last)) = (&spec.export, &known.kept, &known.last) else { return Ok(None) };
    let Some(set) = ground.sets.get(&object.key.name).filter(|set| set.stands_in(kept)) else { return Ok(None) };
    let text = serde_json::to_string(declared).map_err(|e| Error::Internal(e.to_string()))?;
    let hash: String = Sha256::digest(text).iter().take(8).map(|b| format!("{b:02x}")).collect();
    let what = format!("{hash} {}", store::micros(last.at));
    if known.outside.is_some() || known.exported.as_ref().is_some_and(|(done, _)| *done == what) {
        return Ok(None);
    }
    let target = match world.target(object, &declared.url, &declared.access).await {
        Ok(target) => target,
        Err(message) => return Ok(Some(message)),
    };
    match export::export(&world.store, ground, set, kept, (declared, target)).await? {
        Ok(rows) => {
            world.store.note_export(ground.namespace, &object.key.name, &what, world.clock.now()).await?;
            tracing::info!(audience = object.key.name, rows, file = declared.url, "exported");
            Ok(None)
        }
        Err(problem) => Ok(Some(format!("`{}`: {problem}", declared.url))),
    }
}
