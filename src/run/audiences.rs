//! The evaluation of audiences: what a run finds of them when it begins, and what is kept of them between runs.
//!
//! A set that is kept is evaluated and replaced in one transaction that sees one moment of the data. The rows of `sql:`
//! and of imports come from where that transaction does not reach, and go through a stage.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use jiff::Timestamp;
use sea_query::{Alias, Expr, SelectStatement};
use tokio::sync::mpsc;

use super::{engine::Planned, hold::Hold};
use crate::{
    api::{
        DatasetSpec,
        dataset::{self, Entity},
    },
    plan::{
        Bundle, Plan,
        activity::{self, Compiled},
        audience::{Set, Sets},
    },
    rule::{Dialect, Inputs, Path, Query, Schema},
    store::{
        self, Store, Tx,
        audience::{Evaluated, Kept, Known, kept_keys},
        entity::Place,
        rows::{Batch, Target},
    },
};

/// Chunks of rows on their way to the store: who makes them waits when the store is slower.
const CHUNKS_WAITING: usize = 2;

/// What audiences are evaluated on.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    pub namespace: &'a str,
    pub dataset_name: &'a str,
    pub dataset: &'a DatasetSpec,
    pub schema: &'a Schema,
    pub dialect: Dialect,
    pub sets: &'a Sets,
}

impl<'a> Ground<'a> {
    /// What a run pinned.
    pub fn of(bundle: &'a Bundle, plan: &'a Plan) -> Self {
        Self {
            namespace: &bundle.namespace,
            dataset_name: &bundle.campaign.dataset,
            dataset: &bundle.dataset,
            schema: &plan.schema,
            dialect: plan.dialect,
            sets: &plan.sets,
        }
    }

    pub fn entity(&self, name: &str) -> store::Result<&'a Entity> {
        self.dataset.entity(name).ok_or_else(|| store::Error::Internal(format!("entity {name} is gone")))
    }

    fn place(&self) -> Place<'a> {
        Place { namespace: self.namespace, dataset: self.dataset_name, dialect: self.dialect }
    }
}

/// Why a run cannot begin yet, and what is to be noted of the audience that holds it.
pub struct Held {
    why: String,
    evaluated: Option<(String, Evaluated, bool)>,
}

impl Held {
    fn because(why: String) -> Self {
        Self { why, evaluated: None }
    }

    /// An audience that was evaluated and is outside its guard.
    pub fn outside(name: &str, evaluated: Evaluated, is_own: bool, why: &str) -> Self {
        Self { why: outside_guard(name, why).to_string(), evaluated: Some((name.to_owned(), evaluated, is_own)) }
    }

    /// Notes it, now that the transaction in which it was found is gone.
    pub async fn record(self, store: &Store, namespace: &str) -> store::Result<Planned> {
        if let Some((name, evaluated, is_own)) = &self.evaluated {
            let mut tx = store.begin().await?;
            tx.note_evaluated((namespace, name), evaluated, 0, *is_own).await?;
            tx.commit().await?;
        }
        Ok(Planned::Held(self.why))
    }
}

/// What the rules of a run read of audiences, or why the run is held.
///
/// The guards are weighed of all that it uses, directly or not. What a step reads as it is (`counted`) is weighed where
/// that step is counted.
pub async fn weigh(
    tx: &mut Tx,
    ground: &Ground<'_>,
    counted: &BTreeSet<&str>,
    (scheduled, now): (Timestamp, Timestamp),
) -> store::Result<Result<Inputs, Held>> {
    let mut known = BTreeMap::new();
    for set in ground.sets.iter() {
        known.insert(set.name.clone(), tx.audience(ground.namespace, &set.name).await?);
    }
    let Standing { kept, guarded, held } = stand(ground, counted, &known, (scheduled, now));
    if let Some(hold) = held {
        return Ok(Err(Held::because(hold.to_string())));
    }
    let inputs = match ground.sets.inputs((ground.schema, ground.dialect), scheduled, &kept) {
        Ok(inputs) => inputs,
        Err(name) => return Ok(Err(Held::because(unfilled(&name)))),
    };
    for set in guarded {
        let Some(select) = inputs.audiences.get(&set.name) else { continue };
        let began = Instant::now();
        let size = tx.count(select).await?;
        let profiles = count_profiles(tx, ground, &set.entity, select).await?;
        let evaluated = Evaluated { size, profiles, took_ms: millis(began), at: now };
        if let Some(why) = tx.note_evaluated((ground.namespace, &set.name), &evaluated, 0, false).await? {
            return Ok(Err(Held::outside(&set.name, evaluated, false, &why)));
        }
    }
    Ok(Ok(inputs))
}

/// How a run finds its audiences before anything is evaluated.
pub struct Standing<'a> {
    /// The keys that are read as they stand.
    pub kept: BTreeMap<String, Kept>,
    /// Those that are evaluated and weighed where the run begins.
    pub guarded: Vec<&'a Set>,
    /// Why the run is held, if it is.
    pub held: Option<Hold>,
}

/// Decides by what is `known` of each audience how a run finds it, and so does a preview.
pub fn stand<'a>(
    ground: &Ground<'a>,
    counted: &BTreeSet<&str>,
    known: &BTreeMap<String, Known>,
    (scheduled, now): (Timestamp, Timestamp),
) -> Standing<'a> {
    let mut standing = Standing { kept: BTreeMap::new(), guarded: vec![], held: None };
    for set in ground.sets.iter() {
        let Some(known) = known.get(&set.name) else { continue };
        if let Some(stands) = known.kept.clone().filter(|stands| set.stands_in(stands)) {
            if let Some(why) = &known.outside {
                standing.held.get_or_insert_with(|| outside_guard(&set.name, why));
            }
            // A run that starts at nine reads what was refreshed at nine.
            if known.last.is_some_and(|last| set.due(last.at, scheduled.min(now)).is_some()) {
                standing
                    .held
                    .get_or_insert_with(|| Hold::because(format!("audience `{}` is due to be refreshed", set.name)));
            }
            standing.kept.insert(set.name.clone(), stands);
        } else if known.is_guarded() && set.is_on_demand() && !counted.contains(&*set.name) {
            standing.guarded.push(set);
        }
    }
    standing
}

/// Why a run does not begin, in words.
pub fn outside_guard(name: &str, why: &str) -> Hold {
    Hold::with(format!("audience `{name}` is outside its guard"), why)
}

/// Why a run does not begin, in words.
pub fn unfilled(name: &str) -> String {
    format!("audience `{name}` has not been filled yet")
}

/// What rules read of audiences as they stand now; of none, where that cannot be told.
pub async fn inputs_now(store: &Store, ground: &Ground<'_>, scheduled: Timestamp) -> Inputs {
    let inputs = inputs_as_kept(store, ground, scheduled).await.ok().and_then(Result::ok);
    inputs.unwrap_or_else(|| Inputs::at(scheduled))
}

/// What rules read of audiences as they stand now, whatever their guards say.
///
/// # Errors
/// The store's; within, the name of an audience that has not been filled yet.
pub async fn inputs_as_kept(
    store: &Store,
    ground: &Ground<'_>,
    scheduled: Timestamp,
) -> store::Result<Result<Inputs, String>> {
    let mut kept = BTreeMap::new();
    for set in ground.sets.iter() {
        let known = store.audience(ground.namespace, &set.name).await?;
        kept.extend(known.kept.filter(|k| set.stands_in(k)).map(|k| (set.name.clone(), k)));
    }
    Ok(ground.sets.inputs((ground.schema, ground.dialect), scheduled, &kept))
}

/// The audiences that steps read as they are: they are counted there.
pub fn counted(plan: &Plan) -> BTreeSet<&str> {
    let steps = plan.steps.iter().filter_map(|step| match &step.compiled {
        Compiled::Audience(audience) => audience.reference(&plan.sets),
        _ => None,
    });
    steps.filter(|(_, is_own)| !is_own).map(|(name, _)| name).collect()
}

/// Runs the statements of the `sql:` audiences that no schedule refreshes: the run reads the keys that they give. Why
/// the run is held, if one of them cannot be run.
pub async fn run_statements(store: &Store, ground: &Ground<'_>, now: Timestamp) -> store::Result<Option<String>> {
    for set in ground.sets.iter() {
        let Some(text) = set.sql_on_demand() else { continue };
        if let Err(why) = evaluate_sql(store, ground, set, text, now).await? {
            return Ok(Some(format!("audience `{}`: {why}", set.name)));
        }
    }
    Ok(None)
}

/// Evaluates an audience by its rule or its parts as of `nominal`, and keeps its keys.
///
/// # Errors
/// The store's; within, why it has to wait for an audience that it builds on.
pub async fn evaluate(
    store: &Store,
    ground: &Ground<'_>,
    set: &Set,
    (nominal, now): (Timestamp, Timestamp),
) -> store::Result<Result<(), String>> {
    let began = Instant::now();
    let mut tx = store.begin().await?;
    tx.freeze().await?;
    let mut kept = BTreeMap::new();
    for other in ground.sets.iter().filter(|other| other.name != set.name) {
        let known = tx.audience(ground.namespace, &other.name).await?;
        if known.last.is_some_and(|last| other.due(last.at, nominal).is_some()) {
            return Ok(Err(format!("audience `{}` is due to be refreshed", other.name)));
        }
        kept.extend(known.kept.filter(|k| other.stands_in(k)).map(|k| (other.name.clone(), k)));
    }
    let inputs = match ground.sets.inputs((ground.schema, ground.dialect), nominal, &kept) {
        Ok(inputs) => inputs,
        Err(name) => return Ok(Err(unfilled(&name))),
    };
    let select = inputs.audiences.get(&set.name).cloned().unwrap_or_default();
    let keys = ground.entity(&set.entity)?;
    let kept = tx
        .replace_kept((ground.namespace, &set.name), keys, &select, (ground.dataset_name, &set.definition, None))
        .await?;
    settle(&mut tx, ground, set, &kept, (began, now)).await?;
    tx.commit().await?;
    Ok(Ok(()))
}

/// Runs an author's statement and keeps the keys that it gives.
///
/// # Errors
/// The store's; within, why the statement cannot be run, in words for its author.
pub async fn evaluate_sql(
    store: &Store,
    ground: &Ground<'_>,
    set: &Set,
    text: &str,
    now: Timestamp,
) -> store::Result<Result<(), String>> {
    let began = Instant::now();
    let entity = ground.entity(&set.entity)?;
    let keys = key_entity(entity, None);
    let (sender, rows) = mpsc::channel(CHUNKS_WAITING);
    let staging = stage(store, ground, &keys, rows);
    let (ran, staged) = tokio::join!(store.run_sql(ground.place(), entity, text, sender), staging);
    let mut tx = staged?;
    if let Err(why) = ran {
        return Ok(Err(why));
    }
    let kept = take_stage(&mut tx, ground, set, &keys, None).await?;
    settle(&mut tx, ground, set, &kept, (began, now)).await?;
    tx.commit().await?;
    Ok(Ok(()))
}

/// The entity's key alone, as files and statements give it; `column` is its name there, if it has one of its own.
pub fn key_entity(entity: &Entity, column: Option<&str>) -> Entity {
    let name = |field: &dataset::Field| match column {
        Some(column) if entity.key.len() == 1 => column.into(),
        _ => field.name.clone(),
    };
    let of = |key: &crate::api::name::Word| entity.fields.iter().find(|f| f.name == *key);
    let fields: Vec<dataset::Field> =
        entity.key.iter().filter_map(of).map(|f| dataset::Field { name: name(f), ..f.clone() }).collect();
    let key = fields.iter().map(|f| f.name.clone()).collect();
    Entity { key, version: None, fields, links: vec![], source: None, ..entity.clone() }
}

/// Stages rows of keys as they come, in a transaction that begins with the first of them: a statement may take its time,
/// and others write meanwhile.
pub async fn stage(
    store: &Store,
    ground: &Ground<'_>,
    keys: &Entity,
    mut rows: mpsc::Receiver<Batch>,
) -> store::Result<Tx> {
    let mut next = rows.recv().await;
    let mut tx = store.begin().await?;
    tx.open_stage(ground.place(), keys).await?;
    let (forward, mut batches) = mpsc::channel(CHUNKS_WAITING);
    let passing = async move {
        while let Some(batch) = next {
            if forward.send(batch).await.is_err() {
                return;
            }
            next = rows.recv().await;
        }
    };
    let loading = async {
        let loaded = tx.load(ground.place(), keys, Target::Stage, &mut batches).await;
        // Where the store failed, the reader must not wait for it.
        drop(batches);
        loaded
    };
    tokio::join!(passing, loading).1?;
    Ok(tx)
}

/// Keeps the keys that are staged.
pub async fn take_stage(
    tx: &mut Tx,
    ground: &Ground<'_>,
    set: &Set,
    keys: &Entity,
    stamp: Option<&str>,
) -> store::Result<Kept> {
    let entity = ground.entity(&set.entity)?;
    let mut select = SelectStatement::new();
    for (key, column) in entity.key.iter().zip(&keys.key) {
        select.expr_as(Expr::col(Alias::new(&**column)), Alias::new(&**key));
    }
    select.from(Alias::new("stage"));
    tx.replace_kept((ground.namespace, &set.name), entity, &select, (ground.dataset_name, &set.definition, stamp)).await
}

/// Counts what is kept of a set now: the keys that have a row, the people behind them, the keys that have none.
pub async fn settle(
    tx: &mut Tx,
    ground: &Ground<'_>,
    set: &Set,
    kept: &Kept,
    (began, now): (Instant, Timestamp),
) -> store::Result<()> {
    let Some(entity) = ground.schema.entity(&set.entity) else { return Ok(()) };
    let all = kept_keys(&kept.table, entity.key.iter().map(String::as_str));
    let keys = tx.count(&all).await?;
    let present = Query::over_set(ground.schema, entity, ground.dialect, all).keys();
    let size = tx.count(&present).await?;
    let profiles = count_profiles(tx, ground, &set.entity, &present).await?;
    let evaluated = Evaluated { size, profiles, took_ms: millis(began), at: now };
    tx.note_evaluated((ground.namespace, &set.name), &evaluated, keys - size, false).await?;
    Ok(())
}

/// Counts the keys that are kept once more: they are the same, and their rows may not be.
pub async fn count_again(store: &Store, ground: &Ground<'_>, set: &Set, now: Timestamp) -> store::Result<()> {
    let began = Instant::now();
    let mut tx = store.begin().await?;
    let known = tx.audience(ground.namespace, &set.name).await?;
    let Some(kept) = known.kept else { return Ok(()) };
    settle(&mut tx, ground, set, &kept, (began, now)).await?;
    tx.commit().await
}

/// Distinct people behind a set, where one path of to-one links leads to them.
pub async fn count_profiles(
    tx: &mut Tx,
    ground: &Ground<'_>,
    entity: &str,
    set: &SelectStatement,
) -> store::Result<Option<i64>> {
    let Some(way) = activity::only_way(ground.schema, entity, &ground.dataset.profile.entity) else { return Ok(None) };
    let Some(from) = ground.schema.entity(entity) else { return Ok(None) };
    if way == (Path { hops: vec![], field: None, entity: entity.to_owned(), is_many: false }) {
        return tx.count(set).await.map(Some);
    }
    let query = Query::over_set(ground.schema, from, ground.dialect, set.clone());
    tx.count(&query.reached(&way)).await.map(Some)
}

pub fn millis(since: Instant) -> i64 {
    i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX)
}
