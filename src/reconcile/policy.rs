//! ContactPolicy: it can be read, and its list is in. What it asks for is pinned by the campaigns that name it; the list is
//! read once, for all that are written to in its scope.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::sync::mpsc;

use super::{Action, Error, World, sentence, stand};
use crate::{
    api::{
        ContactPolicySpec, ContactPolicyStatus,
        condition::{Reason, Standing, whole_seconds},
        medium::Medium,
        policy::{ImportStatus, SuppressionImport, SuppressionScope},
    },
    files::{Found, SETTLED, Site},
    ingest::{
        addresses::{List, read_addresses},
        keys::Unread,
    },
    plan,
    source::catalog::Object,
    store::{entity::Place, files::FileRead, suppression::WHOLE_STORE},
};

/// A file that is about to settle is not looked at all the time.
const SOON: Duration = Duration::from_millis(20);
/// Hashes on their way to the store: the reader waits when the store is slower.
const CHUNKS_WAITING: usize = 2;

pub async fn reconcile(object: &Object, world: &World) -> Result<Action, Error> {
    let mut status: ContactPolicyStatus = object.status();
    status.observed_generation = object.generation;
    let (standing, action) = match validate(object) {
        Err(standing) => (standing, Action::Await),
        Ok(spec) => match (&spec.suppression.import, &world.not_mine) {
            (None, _) => {
                status.import = None;
                (Standing::Ready(Reason::Accepted, "campaigns can name it".to_owned()), Action::Await)
            }
            (Some(_), Some(owner)) => (Standing::Stalled(Reason::StoreNotMine, owner.clone()), Action::Await),
            (Some(import), None) => take(object, spec.suppression.scope, import, world, &mut status).await?,
        },
    };
    stand(&mut status.conditions, &standing, object, world.clock.now());
    world.write(object, status).await?;
    Ok(action)
}

fn validate(object: &Object) -> Result<ContactPolicySpec, Standing> {
    let spec: ContactPolicySpec = object.spec().map_err(|message| Standing::Stalled(Reason::Invalid, message))?;
    let found = plan::check::policy(&object.key.name, &spec);
    if found.is_empty() { Ok(spec) } else { Err(Standing::Stalled(Reason::Invalid, sentence(&found, &object.key))) }
}

/// Reads the files of the list that are new.
async fn take(
    object: &Object,
    scope: SuppressionScope,
    import: &SuppressionImport,
    world: &World,
    status: &mut ContactPolicyStatus,
) -> Result<(Standing, Action), Error> {
    // Its files stand beside those of datasets, under a name that none of them can have.
    let owner = format!("policy/{}", object.key.name);
    let medium = Medium::from(import.medium);
    let place = Place { namespace: &object.key.namespace, dataset: &owner, dialect: world.store.dialect() };
    let (scoped, shape) = match scope {
        SuppressionScope::Store => (WHOLE_STORE, format!("{} Store", import.column)),
        SuppressionScope::Namespace => (&*object.key.namespace, format!("{} Namespace", import.column)),
    };
    let looked = match world.site(object, &import.url, &import.access).await {
        Ok(site) => site.look(&world.arrivals).await.map(|found| (site, found)),
        Err(problem) => Err(problem),
    };
    let known = world.store.files_read(place, medium.word()).await?;
    let (mut settles_in, mut lost) = (None, None);
    match looked {
        Err(problem) => lost = Some(problem),
        Ok((site, found)) => {
            let is_known = |file: &Found| {
                known.iter().any(|old| old.path == file.name && old.stamp == file.stamp && old.shape == shape)
            };
            for file in found.iter().filter(|file| !is_known(file)) {
                if !file.settles_in.is_zero() {
                    settles_in = Some(settles_in.map_or(file.settles_in, |other: Duration| other.min(file.settles_in)));
                    continue;
                }
                lost = read((&site, file), import, (place, scoped, &shape), world).await?.or(lost);
            }
        }
    }
    let (words, has_list, problem) = count(place, medium, world, status, lost).await?;
    let standing = match problem {
        _ if settles_in.is_some() => Standing::Working(Reason::Loading, "the list is being written".to_owned()),
        // What was imported holds, whatever becomes of the file.
        Some((Reason::SourceUnreadable, problem)) if has_list => {
            Standing::Ready(Reason::Loaded, format!("{words}; not looked at now: {problem}"))
        }
        Some((reason, problem)) => Standing::Stalled(reason, problem),
        None => Standing::Ready(Reason::Loaded, words),
    };
    let later = import.every.as_std().max(Duration::from_secs(1));
    let action = settles_in.map_or(Action::Later(later), |left| Action::Soon(left.clamp(SOON, SETTLED)));
    Ok((standing, action))
}

/// Reads one file; why it could not be read to its end, if it may be another time.
async fn read(
    (site, file): (&Site, &Found),
    import: &SuppressionImport,
    (place, scope, shape): (Place<'_>, &str, &str),
    world: &World,
) -> Result<Option<String>, Error> {
    let medium = Medium::from(import.medium);
    let list = List { format: import.format, column: &import.column, medium, keyed: world.store.address_key().await? };
    let (sender, mut hashes) = mpsc::channel::<Vec<String>>(CHUNKS_WAITING);
    let now = world.clock.now();
    // Each part stands by itself: who is on the list is not written to, even if the rest of it cannot be read.
    let taking = async {
        while let Some(chunk) = hashes.recv().await {
            world.store.import_suppressions((scope, medium.word()), chunk, now).await?;
        }
        Ok::<_, crate::store::Error>(())
    };
    let (listed, taken) = tokio::join!(read_addresses((site, file), list, sender), taking);
    taken?;
    let mut note =
        FileRead { path: file.name.clone(), stamp: file.stamp.clone(), shape: shape.to_owned(), ..FileRead::default() };
    let mut rejects = vec![];
    match listed {
        Ok(listed) => (note.rows, note.rejected, rejects) = (listed.rows, listed.rejected, listed.rejects),
        Err(Unread::Refused(problem)) => note.problem = Some(problem),
        Err(Unread::Lost(problem)) => return Ok(Some(format!("{}: {problem}", file.name))),
    }
    let mut tx = world.store.begin().await?;
    let no = tx.begin_file(place, medium.word()).await?;
    tx.note_file(place, medium.word(), (&note, no), &rejects, now).await?;
    tx.commit().await?;
    tracing::info!(
        policy = place.dataset,
        rows = note.rows,
        rejected = note.rejected,
        problem = note.problem,
        "imported"
    );
    Ok(None)
}

/// What was imported, in the status and in words; whether any file was read to its end; and what is wrong.
async fn count(
    place: Place<'_>,
    medium: Medium,
    world: &World,
    status: &mut ContactPolicyStatus,
    lost: Option<String>,
) -> Result<(String, bool, Option<(Reason, String)>), Error> {
    let files = world.store.files_read(place, medium.word()).await?;
    let counted = world.store.file_count(place, medium.word()).await?;
    let rows = files.iter().map(|file| file.rows).sum();
    let is_refused = |file: &&FileRead| file.problem.is_some();
    let refused = counted.problem.map(|problem| (Reason::FileRefused, problem));
    let problem = refused.or_else(|| lost.map(|problem| (Reason::SourceUnreadable, problem)));
    status.import = Some(ImportStatus {
        files: i64::try_from(files.len()).unwrap_or(i64::MAX),
        rows,
        rejected: counted.rejected,
        reasons: world.store.reject_reasons(place, medium.word()).await?,
        rejects: (counted.rejected > 0).then(|| "reject".to_owned()),
        last_imported_at: counted.last_ingested.map(|at| Time(whole_seconds(at))),
        problem: problem.as_ref().map(|(_, problem)| problem.clone()),
    });
    let bad = match counted.rejected {
        0 => String::new(),
        n => format!("; {n} bad rows stand in table reject under {}", place.dataset),
    };
    let whole = files.iter().filter(|file| !is_refused(file)).count();
    Ok((format!("{rows} addresses of {whole} files are written to no more{bad}"), whole > 0, problem))
}
