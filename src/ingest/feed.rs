//! Records as the store takes them: typed, checked, in batches. What does not fit is a reject.

use std::collections::HashSet;

use tokio::sync::mpsc;

use super::format::{Halt, Record, Sink};
use crate::{
    api::{dataset::Entity, name::Word},
    rule::Dialect,
    store::{
        self, Store, Tx,
        entity::Place,
        files::Reject,
        keyed::{Keyed, Label},
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
    /// Rows of those who were erased.
    pub erased: i64,
    pub rejects: Vec<Reject>,
    /// Columns that belong to no field.
    pub ignored: usize,
}

/// Who was erased of an entity, by keyed hashes of keys: rows with such a key are left out.
#[derive(Clone, Default)]
pub struct Erased {
    keyed: Option<Keyed>,
    hashes: HashSet<String>,
}

impl Erased {
    /// # Errors
    /// Of the store.
    pub async fn of(store: &Store, place: Place<'_>, entity: &str) -> store::Result<Self> {
        let hashes = store.erased_of(place, entity).await?;
        let keyed = if hashes.is_empty() { None } else { Some(store.keyed(Label::Key).await?) };
        Ok(Self { keyed, hashes })
    }

    /// Whether nobody was erased since; held until the transaction ends.
    ///
    /// # Errors
    /// Of the store.
    pub async fn stands(&self, tx: &mut Tx, place: Place<'_>, entity: &str) -> store::Result<bool> {
        Ok(tx.erased_count(place, entity).await? == i64::try_from(self.hashes.len()).unwrap_or(i64::MAX))
    }
}

/// A part of a key, as its canonical text has it.
fn json(value: Value<'_>) -> serde_json::Value {
    match value {
        Value::Text(text) => text.into(),
        Value::Integer(n) => n.into(),
        Value::Date(date) => date.to_string().into(),
        // A key has no other types.
        _ => serde_json::Value::Null,
    }
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
    erased: Erased,
    /// The places of the key's parts among the fields, in the order of the key.
    key: Vec<usize>,
    counts: Counts,
    done: Vec<Counts>,
}

impl Feed {
    pub fn new(
        dialect: Dialect,
        entity: &Entity,
        target: Target,
        file_no: Option<i64>,
        erased: Erased,
        sender: mpsc::Sender<Batch>,
    ) -> Self {
        let place = |name: &Word| entity.fields.iter().position(|field| field.name == *name);
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
            erased,
            key: entity.key.iter().filter_map(place).collect(),
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

    fn is_erased(&self, record: &impl Record) -> bool {
        if self.erased.hashes.is_empty() {
            return false;
        }
        let part = |index: &usize| record.value(*index).map_or(serde_json::Value::Null, json);
        let text = match self.key.as_slice() {
            [one] => match part(one) {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            },
            several => serde_json::Value::Array(several.iter().map(part).collect()).to_string(),
        };
        self.erased.keyed.as_ref().is_some_and(|keyed| self.erased.hashes.contains(&keyed.hash(&text)))
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
            // Her deletion, too, would be remembered under her key.
            Ok(()) if self.is_erased(record) => {
                self.rows.undo();
                self.counts.erased += 1;
            }
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
