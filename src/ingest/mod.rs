//! Files become rows: found, read once, typed, merged.
//!
//! A file is (path, size, time of change), an object (URL, etag). It is read once it has been unchanged for
//! [`SETTLED`](crate::files::SETTLED) or was renamed into place; a half-written one is left alone. A bad row never stops a file: it is
//! kept as a reject with its line and reason.
//!
//! | file | what |
//! | --- | --- |
//! | [`unit`] | which are read, and which together |
//! | [`format`] | CSV, JSON Lines, Parquet; gzip and zstd |
//! | [`cell`] | text as typed values |
//! | `feed` | records as the store takes them; rejects |
//! | [`addresses`] | lists of addresses, which are hashed as they are read |

pub mod addresses;
pub mod cell;
pub(crate) mod feed;
pub mod format;
pub mod keys;
pub mod unit;

use std::time::SystemTime;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::sync::mpsc;

use self::{
    feed::{Counts, Erased, Feed},
    format::{Halt, Reading},
};
use crate::{
    api::{
        DatasetSpec,
        dataset::{Contents, Entity, FileFormat, FileSource},
    },
    files::{Found, Site},
    store::{
        self, Store,
        entity::Place,
        files::{FileRead, Reject},
        merge::{Consenting, Merge, consent_rules},
        rows::{Batch, Target},
    },
};

/// Batches on their way from the reader to the store: the reader waits when the store is slower.
const BATCHES_WAITING: usize = 4;
/// What one snapshot may delete, unless said.
const MAX_DELETES: &str = "2%";

/// Why files were not read.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Where they are cannot be reached; another look may find them.
    #[error("{0}")]
    Lost(String),
}

/// An entity whose files are read.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    pub store: &'a Store,
    pub place: Place<'a>,
    pub dataset: &'a DatasetSpec,
    pub entity: &'a Entity,
    pub source: &'a FileSource,
    pub site: &'a Site,
}

/// What reading a unit came to, before it is in the table.
struct Loaded {
    target: Target,
    counts: Vec<Counts>,
}

impl Reader<'_> {
    /// Reads the files of one unit into the entity's table, in one transaction with the note that they were read. Returns
    /// what is noted of each.
    ///
    /// # Errors
    /// Of the store, or if a file cannot be reached: a file that cannot be read is noted with its problem.
    pub async fn read(&self, unit: &[Found], now: Timestamp) -> Result<Vec<FileRead>, Failure> {
        let mut target = None;
        unit.iter().for_each(|file| tracing::info!(file = file.name, "reads"));
        loop {
            let erased = Erased::of(self.store, self.place, &self.entity.name).await?;
            let mut tx = self.store.begin().await?;
            let file_no = tx.begin_file(self.place, &self.entity.name).await?;
            let mut notes: Vec<FileRead> = unit.iter().map(|file| self.note(file)).collect();
            if self.are_read(&mut tx, &notes).await? {
                return Ok(notes);
            }
            let is_empty = tx.is_empty(self.place, self.entity).await?;
            let into = target.unwrap_or(if is_empty { Target::Table } else { Target::Stage });
            let loaded = match self.load(&mut tx, unit, into, (file_no, &erased)).await {
                Ok(loaded) => loaded,
                Err(Stopped::Unfit) if into == Target::Table => {
                    // A key came twice, or a delete: what that means is decided on a stage.
                    target = Some(Target::Stage);
                    continue;
                }
                Err(Stopped::Unfit) => return Err(Failure::Lost("the reader stopped".to_owned())),
                Err(Stopped::Failed(failure)) => return Err(failure),
                Err(Stopped::Refused(index, message)) => {
                    drop(tx);
                    return self.refuse(notes, (index, message), &[], now).await;
                }
            };
            for (note, counts) in notes.iter_mut().zip(&loaded.counts) {
                (note.rows, note.deleted, note.rejected) = (counts.rows, counts.deleted, counts.rejected);
                note.erased = counts.erased;
                note.note = (counts.ignored > 0).then(|| format!("{} columns belong to no field", counts.ignored));
            }
            let too_many = loaded.counts.iter().map(|counts| self.too_many_rejects(counts));
            if let Some((index, message)) = too_many.enumerate().find_map(|(i, m)| Some((i, m?))) {
                drop(tx);
                let rejects = &loaded.counts[index].rejects;
                return self.refuse(notes, (index, message), rejects, now).await;
            }
            if let Some(message) = self.merge(&mut tx, unit, &loaded, file_no, now).await? {
                drop(tx);
                return self.refuse(notes, (unit.len() - 1, message), &[], now).await;
            }
            // Asked last, because who erases waits for it.
            if !erased.stands(&mut tx, self.place, &self.entity.name).await? {
                continue;
            }
            for (index, (note, counts)) in notes.iter().zip(&loaded.counts).enumerate() {
                let no = file_no + i64::try_from(index).unwrap_or(0);
                tx.note_file(self.place, &self.entity.name, (note, no), &counts.rejects, now).await?;
            }
            tx.commit().await?;
            let rows = notes.iter().map(|note| note.rows).sum();
            self.store.describe_growth(self.place, &self.entity.name, rows).await?;
            return Ok(notes);
        }
    }

    /// Notes that a later snapshot made a file needless.
    ///
    /// # Errors
    /// Of the store.
    pub async fn pass_over(&self, file: &Found, newer: &str, now: Timestamp) -> Result<(), Failure> {
        let mut tx = self.store.begin().await?;
        let no = tx.begin_file(self.place, &self.entity.name).await?;
        let note = FileRead { note: Some(format!("not read: {newer} is a later snapshot")), ..self.note(file) };
        tx.note_file(self.place, &self.entity.name, (&note, no), &[], now).await?;
        Ok(tx.commit().await?)
    }

    /// Notes how long files took from their appearance until now.
    ///
    /// # Errors
    /// Of the store.
    pub async fn note_arrivals(&self, unit: &[Found]) -> Result<(), Failure> {
        let took = |at: SystemTime| at.elapsed().map_or(0, |time| i64::try_from(time.as_micros()).unwrap_or(i64::MAX));
        let mut tx = self.store.begin().await?;
        for file in unit {
            tx.note_arrival(self.place, &self.entity.name, took(file.appeared)).await?;
        }
        Ok(tx.commit().await?)
    }

    fn note(&self, file: &Found) -> FileRead {
        FileRead {
            path: file.name.clone(),
            stamp: file.stamp.clone(),
            shape: unit::fields_of(self.entity),
            ..FileRead::default()
        }
    }

    async fn are_read(&self, tx: &mut store::Tx, notes: &[FileRead]) -> store::Result<bool> {
        for note in notes {
            if !tx.is_read(self.place, &self.entity.name, note).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn load(
        &self,
        tx: &mut store::Tx,
        unit: &[Found],
        target: Target,
        (file_no, erased): (i64, &Erased),
    ) -> Result<Loaded, Stopped> {
        let failed = |e: store::Error| Stopped::Failed(Failure::Store(e));
        if target == Target::Stage {
            tx.open_stage(self.place, self.entity).await.map_err(failed)?;
        }
        let has_changes = self.source.contents == Contents::Changes;
        let reading = Reading::of(self.entity, self.source.time_zone.as_deref(), has_changes)
            .map_err(|message| Stopped::Refused(0, message))?;
        let (sender, mut batches) = mpsc::channel::<Batch>(BATCHES_WAITING);
        let numbered = self.entity.version.as_ref().map(|_| file_no);
        let mut feed = Feed::new(self.place.dialect, self.entity, target, numbered, erased.clone(), sender);
        let (site, format, files) = (self.site.clone(), self.source.format, unit.to_vec());
        let reading = tokio::task::spawn_blocking(move || {
            for (index, file) in files.iter().enumerate() {
                let input = site.open(file, format != FileFormat::Parquet).map_err(|why| (index, Halt::Lost(why)))?;
                format::read(format, input, &reading, &mut feed).map_err(|halt| (index, halt))?;
                feed.end_file();
            }
            feed.finish().map_err(|halt| (files.len() - 1, halt))
        });
        let taken = tx.load(self.place, self.entity, target, &mut batches).await;
        // Where the store failed, the reader must not wait for it.
        drop(batches);
        let read = reading.await.map_err(|e| Stopped::Failed(Failure::Lost(format!("the reader stopped: {e}"))))?;
        match taken {
            Err(error) if error.is_duplicate() => return Err(Stopped::Unfit),
            other => other.map_err(failed)?,
        }
        match read {
            Ok(counts) => Ok(Loaded { target, counts }),
            Err((_, Halt::Enough)) => Err(Stopped::Unfit),
            Err((index, Halt::Refused(message))) => Err(Stopped::Refused(index, message)),
            Err((index, Halt::Lost(message))) => {
                Err(Stopped::Failed(Failure::Lost(format!("{}: {message}", unit[index].name))))
            }
        }
    }

    /// Makes what was loaded part of the entity; or why that is refused.
    async fn merge(
        &self,
        tx: &mut store::Tx,
        unit: &[Found],
        loaded: &Loaded,
        file_no: i64,
        now: Timestamp,
    ) -> store::Result<Option<String>> {
        let path = unit.last().map_or("", |file| &*file.name);
        let is_snapshot = self.source.contents == Contents::Snapshot;
        let merge = Merge {
            place: self.place,
            entity: self.entity,
            path,
            file_no,
            has_deletes: loaded.counts.iter().any(|counts| counts.deleted > 0),
        };
        let source = format!("file:{path}");
        let rules = consent_rules(self.dataset, self.entity, &source);
        if loaded.target == Target::Table {
            for rule in rules {
                tx.log_consent(&merge, &rule, Consenting::Table, now).await?;
            }
            return Ok(None);
        }
        tx.keep_last_of_each_key(&merge).await?;
        if is_snapshot {
            let (all, absent) = tx.absent(&merge).await?;
            let (allowed, words) = allowance(self.source.max_deletes.as_ref(), MAX_DELETES, all);
            if absent > allowed {
                return Ok(Some(format!(
                    "it would delete {absent} of {all} rows, more than maxDeletes {words}; is it complete?"
                )));
            }
            if absent > 0 {
                tx.delete_absent(&merge).await?;
            }
            tx.drop_unchanged(&merge).await?;
        }
        tx.drop_stale(&merge).await?;
        for rule in rules {
            tx.log_consent(&merge, &rule, Consenting::Stage, now).await?;
        }
        tx.apply_stage(&merge).await?;
        Ok(None)
    }

    /// Notes why a unit was refused: nothing of it stays but the notes.
    async fn refuse(
        &self,
        mut notes: Vec<FileRead>,
        (index, message): (usize, String),
        rejects: &[Reject],
        now: Timestamp,
    ) -> Result<Vec<FileRead>, Failure> {
        let culprit = notes[index].path.clone();
        let mut tx = self.store.begin().await?;
        let no = tx.begin_file(self.place, &self.entity.name).await?;
        for (i, note) in notes.iter_mut().enumerate() {
            note.shape = unit::limits_of(self.entity, self.source);
            note.problem =
                Some(if i == index { message.clone() } else { format!("it is one snapshot with {culprit}") });
            let rejects = if i == index { rejects } else { &[] };
            tx.note_file(self.place, &self.entity.name, (note, no), rejects, now).await?;
        }
        tx.commit().await?;
        Ok(notes)
    }

    fn too_many_rejects(&self, counts: &Counts) -> Option<String> {
        let limit = self.source.max_rejects.as_ref()?;
        let (allowed, words) = allowance(Some(limit), "", counts.rows + counts.deleted + counts.rejected);
        let first =
            counts.rejects.first().map_or(String::new(), |r| format!("; first in line {}: {}", r.line, r.reason));
        (counts.rejected > allowed)
            .then(|| format!("{} bad rows are more than maxRejects {words}{first}", counts.rejected))
    }
}

/// Why a unit was not loaded.
enum Stopped {
    /// It does not go into the table as it is.
    Unfit,
    /// The file with this place in the unit is wrong.
    Refused(usize, String),
    Failed(Failure),
}

/// A number or a percent of `all`, and how it is written.
fn allowance(limit: Option<&IntOrString>, otherwise: &str, all: i64) -> (i64, String) {
    let text = match limit {
        Some(IntOrString::Int(n)) => return (i64::from(*n), n.to_string()),
        Some(IntOrString::String(text)) => text.clone(),
        None => otherwise.to_owned(),
    };
    let percent: f64 = text.trim_end_matches('%').parse().unwrap_or(0.0);
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a share of a count of rows")]
    let allowed = (all as f64 * percent / 100.0) as i64;
    (allowed, text)
}
