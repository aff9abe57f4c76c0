//! Records as the store takes them: typed, checked, in batches. What does not fit is a reject.

use tokio::sync::mpsc;

use super::format::{Halt, Record, Sink};
use crate::{
    api::dataset::Entity,
    rule::Dialect,
    store::{
        files::Reject,
        rows::{Batch, Change, Rows, Target, Value},
    },
};

/// Rejects kept of one file; all are counted.
const REJECTS_KEPT_MAX: usize = 10_000;

/// What a file held.
#[derive(Debug, Default)]
pub struct Counts {
    pub rows: i64,
    pub deleted: i64,
    pub rejected: i64,
    pub rejects: Vec<Reject>,
    /// Columns that belong to no field.
    pub ignored: usize,
}

/// What a field asks of a row.
struct Need {
    name: String,
    is_required: bool,
    is_key: bool,
    is_version: bool,
}

/// Sends the records of a unit's files to the store.
pub struct Feed {
    rows: Rows,
    needs: Vec<Need>,
    target: Target,
    sender: mpsc::Sender<Batch>,
    counts: Counts,
    done: Vec<Counts>,
}

impl Feed {
    pub fn new(
        dialect: Dialect,
        entity: &Entity,
        target: Target,
        file_no: Option<i64>,
        sender: mpsc::Sender<Batch>,
    ) -> Self {
        let needs = entity.fields.iter().map(|field| Need {
            name: field.name.to_string(),
            is_required: field.required || entity.key.contains(&field.name),
            is_key: entity.key.contains(&field.name),
            is_version: entity.version.as_ref() == Some(&field.name),
        });
        Self {
            rows: Rows::new(dialect, entity, target, file_no),
            needs: needs.collect(),
            target,
            sender,
            counts: Counts::default(),
            done: vec![],
        }
    }

    /// Ends a file; another may follow.
    pub fn end_file(&mut self) {
        self.done.push(std::mem::take(&mut self.counts));
    }

    /// Sends what is left, and tells what each file held.
    ///
    /// # Errors
    /// If the store takes no more.
    pub fn finish(mut self) -> Result<Vec<Counts>, Halt> {
        self.send()?;
        Ok(self.done)
    }

    fn send(&mut self) -> Result<(), Halt> {
        // Why nobody receives, the store says itself.
        self.sender.blocking_send(self.rows.take()).map_err(|_| Halt::Enough)
    }

    fn push(&mut self, change: Change, record: &impl Record) -> Result<(), (usize, &'static str)> {
        for (index, need) in self.needs.iter().enumerate() {
            // Of a row that is deleted its key says enough.
            let is_read = change == Change::Upsert || need.is_key || need.is_version;
            let value = if is_read { record.value(index).map_err(|why| (index, why))? } else { Value::Missing };
            let is_required = if change == Change::Upsert { need.is_required } else { need.is_key };
            if is_required && value == Value::Missing {
                return Err((index, "required, and missing"));
            }
            self.rows.push(value);
        }
        Ok(())
    }

    fn keep(&mut self, line: i64, field: Option<String>, reason: String) {
        self.counts.rejected += 1;
        if self.counts.rejects.len() < REJECTS_KEPT_MAX {
            self.counts.rejects.push(Reject { line, field, reason });
        }
    }
}

impl Sink for Feed {
    fn take(&mut self, line: i64, record: &impl Record) -> Result<(), Halt> {
        let change = match record.change() {
            Ok(change) => change,
            Err(reason) => return self.reject(line, reason.to_owned()),
        };
        if change == Change::Delete && self.target == Target::Table {
            return Err(Halt::Enough);
        }
        self.rows.begin(change);
        match self.push(change, record) {
            Ok(()) => {
                self.rows.end();
                match change {
                    Change::Upsert => self.counts.rows += 1,
                    Change::Delete => self.counts.deleted += 1,
                }
            }
            Err((index, why)) => {
                self.rows.undo();
                let name = self.needs[index].name.clone();
                let reason = format!("{name}: {why}");
                self.keep(line, Some(name), reason);
            }
        }
        if self.rows.is_full() { self.send() } else { Ok(()) }
    }

    fn reject(&mut self, line: i64, reason: String) -> Result<(), Halt> {
        self.keep(line, None, reason);
        Ok(())
    }

    fn ignore(&mut self, columns: usize) {
        self.counts.ignored = columns;
    }
}
