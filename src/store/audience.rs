//! What is known of an audience by its name, and the keys of those that are kept.
//!
//! Kept keys are an ordinary table that a person can query. A new set is staged beside it, and the table gets the
//! difference in one transaction: who reads sees the old set or the new one and waits for neither; and a transaction
//! that froze its moment before goes on seeing the old one, which it would not if tables changed their names.

use jiff::Timestamp;
use sea_query::{Alias, Index, Query, SelectStatement, Table as TableStatement};

use super::{Error, Result, Row, Sql, Store, Tx, entity as tables, instant, micros};
use crate::{
    api::{audience::Guard, dataset::Entity},
    rule::Dialect,
};

/// Where a set is staged before its table takes the difference.
const STAGE: &str = "audience_stage";

/// What is known of an audience.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// As it was last evaluated; none if it never was.
    pub last: Option<Evaluated>,
    /// The keys that are kept, if any are.
    pub kept: Option<Kept>,
    /// The last size that was inside the guard.
    pub baseline: Option<i64>,
    /// A size that a person let pass.
    pub accepted: Option<i64>,
    /// Why runs that use the set are held, if they are.
    pub outside: Option<String>,
    /// What was exported last, and when.
    pub exported: Option<(String, Timestamp)>,
    guard: Option<String>,
}

/// A set as it was evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evaluated {
    pub size: i64,
    /// Distinct profiles behind its rows, where one path of to-one links leads to them.
    pub profiles: Option<i64>,
    /// Whole milliseconds.
    pub took_ms: i64,
    pub at: Timestamp,
}

/// The keys that stand in a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    pub table: String,
    pub entity: String,
    /// What they are the rows of; when it differs from what is declared, they are out of date.
    pub definition: String,
    /// Of the file they came from.
    pub stamp: Option<String>,
    /// Keys that were not in the set before, and those that were and are not any more.
    pub added: i64,
    pub removed: i64,
    /// Keys that have no row in the entity.
    pub unmatched: i64,
}

const KNOWN: &str = "SELECT size, profiles, at_us, took_ms, table_name, definition, stamp, added, removed, unmatched, guard, \
                     baseline, accepted, outside, exported, exported_us, entity FROM audience WHERE namespace = $1";

fn known(row: &Row) -> Result<Known> {
    let last = match (row.get::<Option<i64>>(0)?, row.get::<Option<i64>>(2)?) {
        (Some(size), Some(at_us)) => Some(Evaluated {
            size,
            profiles: row.get(1)?,
            took_ms: row.get::<Option<i64>>(3)?.unwrap_or(0),
            at: instant(at_us),
        }),
        _ => None,
    };
    let number = |index| -> Result<i64> { Ok(row.get::<Option<i64>>(index)?.unwrap_or(0)) };
    let kept = match row.get::<Option<String>>(4)? {
        Some(table) => Some(Kept {
            table,
            entity: row.get::<Option<String>>(16)?.unwrap_or_default(),
            definition: row.get::<Option<String>>(5)?.unwrap_or_default(),
            stamp: row.get(6)?,
            added: number(7)?,
            removed: number(8)?,
            unmatched: number(9)?,
        }),
        None => None,
    };
    Ok(Known {
        last,
        kept,
        guard: row.get(10)?,
        baseline: row.get(11)?,
        accepted: row.get(12)?,
        outside: row.get(13)?,
        exported: row.get::<Option<String>>(14)?.zip(row.get::<Option<i64>>(15)?.map(instant)),
    })
}

impl Known {
    pub fn is_guarded(&self) -> bool {
        self.guard.is_some()
    }

    /// Why a set of this size is outside the guard that is declared now, if it is. A set that was read with parameters of
    /// a run's own (`is_own`) is measured by the guard's limits only: its size says nothing about the next one's.
    pub fn objection(&self, size: i64, is_own: bool) -> Option<String> {
        let guard: Guard = serde_json::from_str(self.guard.as_deref()?).ok()?;
        guard.objection(size, self.baseline.filter(|_| !is_own), self.accepted)
    }

    /// Under a guard and a size that a person let pass: what that means for the set that stands.
    ///
    /// # Errors
    /// If the guard cannot be written as JSON, which would be a fault of ours.
    pub fn declared(mut self, guard: Option<&Guard>, accepted: Option<i64>) -> Result<Self> {
        let text = guard.map(serde_json::to_string).transpose().map_err(|e| Error::Internal(e.to_string()))?;
        if self.guard == text && self.accepted == accepted {
            return Ok(self);
        }
        (self.guard, self.accepted) = (text, accepted);
        self.outside = self.last.and_then(|last| self.objection(last.size, false));
        if let Some(last) = self.last.filter(|_| self.outside.is_none()) {
            self.baseline = Some(last.size);
        }
        Ok(self)
    }
}

impl Store {
    /// What is known of an audience.
    pub async fn audience(&self, namespace: &str, name: &str) -> Result<Known> {
        let row = self.fetch_one(one(namespace, name)).await?;
        row.map_or_else(|| Ok(Known::default()), |row| known(&row))
    }

    /// Keeps what is declared of an audience now: a run in flight is held by today's guard, not by the one it pinned.
    /// What a change of it means for the set that stands is decided here, too.
    pub async fn declare_guard(
        &self,
        namespace: &str,
        name: &str,
        guard: Option<&Guard>,
        accepted: Option<i64>,
    ) -> Result<Known> {
        let found = self.audience(namespace, name).await?;
        if found == found.clone().declared(guard, accepted)? {
            return Ok(found);
        }
        let mut tx = self.begin().await?;
        tx.lock_audience(namespace, name).await?;
        let found = tx.audience(namespace, name).await?.declared(guard, accepted)?;
        let sql = "UPDATE audience SET guard = $3, accepted = $4, outside = $5, baseline = $6 WHERE namespace = $1 AND name = $2";
        let sql = Sql::new(sql)
            .bind(namespace)
            .bind(name)
            .bind(found.guard.clone())
            .bind(found.accepted)
            .bind(found.outside.clone())
            .bind(found.baseline);
        tx.execute(sql).await?;
        tx.commit().await?;
        Ok(found)
    }

    /// Notes that a set was exported; `what` tells it from others.
    pub async fn note_export(&self, namespace: &str, name: &str, what: &str, now: Timestamp) -> Result<()> {
        let sql = "UPDATE audience SET exported = $3, exported_us = $4 WHERE namespace = $1 AND name = $2";
        self.execute(Sql::new(sql).bind(namespace).bind(name).bind(what).bind(micros(now))).await?;
        Ok(())
    }
}

fn one(namespace: &str, name: &str) -> Sql {
    Sql::composed(format!("{KNOWN} AND name = $2"), vec![namespace.into(), name.into()])
}

impl Tx {
    /// What is known of an audience at this transaction's moment.
    pub async fn audience(&mut self, namespace: &str, name: &str) -> Result<Known> {
        let row = self.fetch_one(one(namespace, name)).await?;
        row.map_or_else(|| Ok(Known::default()), |row| known(&row))
    }

    /// Makes the audience's row, and holds it to the end of the transaction: one set is replaced at a time.
    async fn lock_audience(&mut self, namespace: &str, name: &str) -> Result<()> {
        let sql = "INSERT INTO audience (namespace, name) VALUES ($1, $2) ON CONFLICT (namespace, name) DO UPDATE SET name = excluded.name";
        self.execute(Sql::new(sql).bind(namespace).bind(name)).await?;
        Ok(())
    }

    /// Replaces the keys that are kept of an audience by those that `select` gives, each once.
    ///
    /// The caller then says with [`Tx::note_evaluated`] how large the set is.
    ///
    /// # Errors
    /// The store's, and those of the data that `select` reads.
    pub async fn replace_kept(
        &mut self,
        (namespace, name): (&str, &str),
        entity: &Entity,
        select: &SelectStatement,
        (dataset, definition, stamp): (&str, &str, Option<&str>),
    ) -> Result<Kept> {
        self.lock_audience(namespace, name).await?;
        let table = tables::kept_table(namespace, name, &entity.name);
        self.make_kept_table((namespace, name), &table, entity).await?;
        self.execute(Sql::new("DROP TABLE IF EXISTS audience_stage")).await?;
        let stage = self.key_table(STAGE, entity).temporary().to_owned();
        self.execute(Sql::define(&stage, self.dialect())).await?;
        let keys = columns(entity);
        let insert = format!("INSERT INTO {STAGE} ({keys}) SELECT {keys} FROM (");
        let each_once = ") q WHERE TRUE ON CONFLICT DO NOTHING";
        self.execute(Sql::around(&insert, select, each_once, vec![], self.dialect())?).await?;
        if self.dialect() == Dialect::Postgres {
            // Autovacuum does not see the table yet, and without figures the planner compares row by row.
            self.execute(Sql::new("ANALYZE audience_stage")).await?;
        }
        let target = tables::quoted(&table);
        let same = |a: &str, b: &str| {
            let parts = entity.key.iter().map(|k| format!("{a}.{0} = {b}.{0}", tables::quoted(k)));
            parts.collect::<Vec<_>>().join(" AND ")
        };
        let delete =
            format!("DELETE FROM {target} AS t WHERE NOT EXISTS (SELECT 1 FROM {STAGE} s WHERE {})", same("s", "t"));
        let removed = self.execute(Sql::composed(delete, vec![])).await?;
        let insert = format!(
            "INSERT INTO {target} ({keys}) SELECT {keys} FROM {STAGE} s WHERE NOT EXISTS (SELECT 1 FROM {target} t WHERE {})",
            same("t", "s")
        );
        let added = self.execute(Sql::composed(insert, vec![])).await?;
        let kept = Kept {
            table,
            entity: entity.name.to_string(),
            definition: definition.to_owned(),
            stamp: stamp.map(str::to_owned),
            added: i64::try_from(added).unwrap_or(i64::MAX),
            removed: i64::try_from(removed).unwrap_or(i64::MAX),
            unmatched: 0,
        };
        let sql = "UPDATE audience SET table_name = $3, definition = $4, stamp = $5, added = $6, removed = $7, unmatched = 0, entity = $8, dataset = $9 \
                   WHERE namespace = $1 AND name = $2";
        let sql = Sql::new(sql)
            .bind(namespace)
            .bind(name)
            .bind(&kept.table)
            .bind(&kept.definition)
            .bind(kept.stamp.clone())
            .bind(kept.added)
            .bind(kept.removed)
            .bind(&kept.entity)
            .bind(dataset);
        self.execute(sql).await?;
        Ok(kept)
    }

    /// Notes how large an audience was when it was evaluated, and how many kept keys have no row; why the set is
    /// outside its guard, if it is (see [`Known::objection`]).
    pub async fn note_evaluated(
        &mut self,
        (namespace, name): (&str, &str),
        evaluated: &Evaluated,
        unmatched: i64,
        is_own: bool,
    ) -> Result<Option<String>> {
        self.lock_audience(namespace, name).await?;
        let outside = self.audience(namespace, name).await?.objection(evaluated.size, is_own);
        let baseline = (outside.is_none() && !is_own).then_some(evaluated.size);
        let sql = "UPDATE audience SET size = $3, profiles = $4, at_us = $5, took_ms = $6, unmatched = $7, outside = $8, \
                   baseline = COALESCE($9, baseline) WHERE namespace = $1 AND name = $2";
        let sql = Sql::new(sql)
            .bind(namespace)
            .bind(name)
            .bind(evaluated.size)
            .bind(evaluated.profiles)
            .bind(micros(evaluated.at))
            .bind(evaluated.took_ms)
            .bind(unmatched)
            .bind(outside.clone())
            .bind(baseline);
        self.execute(sql).await?;
        Ok(outside)
    }

    /// The table for the keys; one for other columns, which an entity of that name once had, goes.
    async fn make_kept_table(&mut self, (namespace, name): (&str, &str), table: &str, entity: &Entity) -> Result<()> {
        let shape: Vec<String> = entity
            .key
            .iter()
            .map(|k| {
                let kind = entity.fields.iter().find(|f| f.name == *k).map(|f| f.kind);
                format!("{k} {kind:?}")
            })
            .collect();
        let shape = shape.join(", ");
        let read = "SELECT table_name, shape FROM audience WHERE namespace = $1 AND name = $2";
        let row = self.fetch_one(Sql::new(read).bind(namespace).bind(name)).await?;
        let (was, old): (Option<String>, Option<String>) = match row {
            Some(row) => (row.get(0)?, row.get(1)?),
            None => (None, None),
        };
        if was.as_deref() == Some(table) && old.as_deref() == Some(&*shape) {
            return Ok(());
        }
        for name in was.iter().map(String::as_str).chain([table]) {
            self.execute(Sql::composed(format!("DROP TABLE IF EXISTS {}", tables::quoted(name)), vec![])).await?;
        }
        let create = self.key_table(table, entity);
        self.execute(Sql::define(&create, self.dialect())).await?;
        let sql = "UPDATE audience SET shape = $3 WHERE namespace = $1 AND name = $2";
        self.execute(Sql::new(sql).bind(namespace).bind(name).bind(shape)).await?;
        Ok(())
    }

    fn key_table(&self, name: &str, entity: &Entity) -> sea_query::TableCreateStatement {
        let mut create = TableStatement::create();
        create.table(Alias::new(name));
        let mut key = Index::create();
        for field in &entity.key {
            create.col(tables::key_column(entity, field, self.dialect()));
            key.col(Alias::new(&**field));
        }
        create.primary_key(&mut key);
        create
    }
}

fn columns(entity: &Entity) -> String {
    entity.key.iter().map(|k| tables::quoted(k)).collect::<Vec<_>>().join(", ")
}

/// The keys that stand in a table.
pub fn kept_keys<'k>(table: &str, key: impl IntoIterator<Item = &'k str>) -> SelectStatement {
    let mut select = Query::select();
    key.into_iter().for_each(|name| {
        select.column(Alias::new(name));
    });
    select.from(Alias::new(table)).to_owned()
}
