//! Files become rows: found, read once, typed, merged.
//!
//! A file is (path, size, time of change). It is read once it has been unchanged for [`SETTLED_MS`] or was renamed into
//! place; a half-written one is left alone. A bad row never stops a file: it is kept as a reject with its line and reason.

pub mod cell;
mod csv;
pub mod keys;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::{
    api::{DatasetSpec, dataset::Entity},
    store::{
        self, Store,
        entity::{FileRead, Place},
        merge::{Reject, consent_rules},
    },
};

/// A writer that pauses longer inside one file should rename it into place.
pub const SETTLED_MS: u64 = 500;
/// Chunks on their way from the reader to the store: the reader waits when the store is slower.
const CHUNKS_WAITING: usize = 2;
/// More files under one source are likely a wrong folder.
const FILES_MAX: usize = 100_000;

/// A file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub path: PathBuf,
    /// Relative to the manifest's folder: what the store remembers it by.
    pub name: String,
    pub stamp: String,
    /// Whether it has been unchanged long enough to be read.
    pub is_settled: bool,
}

/// The files of a source, by name. `url` is relative to `base` and cannot leave `root`.
pub fn look(root: &Path, base: &Path, url: &str) -> io::Result<Vec<Found>> {
    let wanted = base.join(url.trim_start_matches("file://"));
    let outside =
        || io::Error::new(io::ErrorKind::PermissionDenied, format!("`{url}` leads out of {}", root.display()));
    let lost = |e: io::Error| io::Error::new(e.kind(), format!("`{url}`: {e}"));
    let real = wanted.canonicalize().map_err(lost)?;
    if !real.starts_with(root.canonicalize()?) {
        return Err(outside());
    }
    let mut paths = vec![];
    if real.is_dir() {
        for entry in fs::read_dir(&real)? {
            let path = entry?.path();
            let is_hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
            let is_csv = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"));
            if is_csv && !is_hidden {
                paths.push(path);
            }
        }
    } else {
        paths.push(real.clone());
    }
    if paths.len() > FILES_MAX {
        return Err(io::Error::other(format!("`{url}` holds more than {FILES_MAX} files")));
    }
    paths.sort();
    paths.into_iter().map(|path| found(&real, url, path)).collect()
}

fn found(real: &Path, url: &str, path: PathBuf) -> io::Result<Found> {
    let meta = fs::metadata(&path)?;
    let modified = meta.modified()?;
    let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    // A time of change in the future cannot be waited for: the file counts as settled.
    let is_settled = modified.elapsed().map_or(true, |age| age >= Duration::from_millis(SETTLED_MS));
    let name = match path.strip_prefix(real) {
        Ok(inside) if !inside.as_os_str().is_empty() => format!("{}/{}", url.trim_end_matches('/'), inside.display()),
        _ => url.to_owned(),
    };
    Ok(Found { path, name, stamp: format!("{}:{}", meta.len(), since.as_nanos()), is_settled })
}

/// What a file is read as; when it changes, the file is read again.
pub fn shape_of(entity: &Entity) -> String {
    let fields = entity.fields.iter().map(|f| format!("{}:{:?}:{:?}", f.name, f.kind, f.scale));
    fields.collect::<Vec<_>>().join(",")
}

/// Reads one file into its entity's table, in one transaction with the note that it was read.
///
/// # Errors
/// Only the store's: a file that cannot be read is noted with its problem.
pub async fn read_file(
    store: &Store,
    place: Place<'_>,
    dataset: &DatasetSpec,
    entity: &Entity,
    file: &Found,
    now: Timestamp,
) -> store::Result<FileRead> {
    let (sender, mut chunks) = mpsc::channel(CHUNKS_WAITING);
    let reader = csv::Reader::new(file.path.clone(), entity.clone());
    let reading = tokio::task::spawn_blocking(move || reader.run(&sender));
    let mut tx = store.begin().await?;
    tx.open_stage(place, entity).await?;
    while let Some(chunk) = chunks.recv().await {
        tx.stage(entity, &chunk).await?;
    }
    let read = reading.await.unwrap_or_else(|e| Err(format!("the reader stopped: {e}")));
    let mut note = FileRead {
        path: file.name.clone(),
        stamp: file.stamp.clone(),
        shape: shape_of(entity),
        rows: 0,
        rejected: 0,
        problem: None,
    };
    let mut rejects = vec![];
    note.problem = match read {
        Ok(counts) => {
            (note.rows, note.rejected, rejects) = (counts.rows, counts.rejected, counts.rejects);
            too_many_rejects(entity, &note, rejects.first())
        }
        Err(message) => Some(message),
    };
    if note.problem.is_some() {
        // Refused whole: nothing of it stays but the note.
        drop(tx);
        tx = store.begin().await?;
    } else {
        for rule in consent_rules(dataset, entity, &format!("file:{}", file.name)) {
            tx.log_consent(place, entity, &rule, now).await?;
        }
        tx.merge_stage(place, entity).await?;
    }
    tx.note_file(place, &entity.name, &note, &rejects, now).await?;
    tx.commit().await?;
    Ok(note)
}

fn too_many_rejects(entity: &Entity, note: &FileRead, first: Option<&Reject>) -> Option<String> {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    let limit = entity.source.as_ref()?.files.max_rejects.as_ref()?;
    let (allowed, words) = match limit {
        IntOrString::Int(n) => (i64::from(*n), n.to_string()),
        IntOrString::String(text) => {
            let percent: f64 = text.trim_end_matches('%').parse().unwrap_or(0.0);
            (((note.rows + note.rejected) as f64 * percent / 100.0) as i64, text.clone())
        }
    };
    let first = first.map_or(String::new(), |r| format!("; first in line {}: {}", r.line, r.reason));
    (note.rejected > allowed).then(|| format!("{} bad rows are more than maxRejects {words}{first}", note.rejected))
}
