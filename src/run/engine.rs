//! The evaluation of a run: every step becomes a work table, every channel step enters the ledger.
//!
//! It is one transaction that sees one moment of the data: a crash in the middle leaves nothing, and the run begins again.

use std::{collections::BTreeMap, time::Instant};

use jiff::Timestamp;
use sea_query::{Alias, Query, SelectStatement};

use crate::{
    plan::{
        Bundle, Plan,
        activity::Compiled,
        audience::Set,
        message::{EmailPlan, Once},
    },
    run::{
        audiences::{self, Ground, Held},
        schedule::Timetable,
    },
    store::{
        self, Store,
        audience::Evaluated,
        campaign::{Origin, Run, State, StepCount},
        entity::work_table,
        planning::{ChannelStep, Column},
        remainder::left_by,
    },
};

/// What came of planning a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Planned {
    Done,
    /// It was no longer pending: another process planned it.
    Elsewhere,
    /// An audience is outside its guard, or has not come yet: why, in words. Nothing of the run stands.
    Held(String),
}

/// Plans a run: from `Pending` to `Sending`, or to `Done` where nothing is to be sent.
pub async fn plan_run(
    store: &Store,
    bundle: &Bundle,
    plan: &Plan,
    run: &Run,
    now: Timestamp,
) -> store::Result<Planned> {
    let is_dry = run.mode == "DryRun";
    let mut tx = store.begin().await?;
    tx.freeze().await?;
    let ground = Ground::of(bundle, plan);
    let counted = audiences::counted(plan);
    let inputs = match audiences::weigh(&mut tx, &ground, &counted, (run.scheduled, now)).await? {
        Ok(inputs) => inputs,
        Err(held) => {
            drop(tx);
            return held.record(store, &run.namespace).await;
        }
    };
    let (mut counts, mut tables) = (vec![], BTreeMap::<String, SelectStatement>::new());
    for step in &plan.steps {
        let selects = plan.selects(step, &|name| tables.get(name).cloned().unwrap_or_else(Query::select), &inputs);
        let left = match &selects.left {
            Some(select) => Some(tx.count(select).await?),
            None => None,
        };
        let mut made = vec![];
        for (output, select) in step.outputs.iter().zip(&selects.outputs) {
            let Some(entity) = bundle.dataset.entities.iter().find(|e| *e.name == *output.entity) else { continue };
            let table = work_table(run.no, &output.name);
            let columns: Vec<Column<'_>> = entity.key.iter().map(|name| Column { name }).collect();
            let began = Instant::now();
            let out = tx.fill_work_table(&table, entity, &columns, select).await?;
            let keys = read_back(&table, &columns);
            if let Compiled::Audience(audience) = &step.compiled
                && let Some((name, is_own)) = audience.reference(&plan.sets)
                && plan.sets.get(name).is_some_and(Set::is_on_demand)
            {
                let took_ms = audiences::millis(began);
                let profiles = audiences::count_profiles(&mut tx, &ground, &output.entity, &keys).await?;
                let evaluated = Evaluated { size: out, profiles, took_ms, at: now };
                let outside = tx.note_evaluated((&run.namespace, name), &evaluated, 0, is_own).await?;
                if let Some(why) = outside {
                    drop(tx);
                    return Held::outside(name, evaluated, is_own, &why).record(store, &run.namespace).await;
                }
            }
            counts.push(StepCount { name: output.name.clone(), out, left, table: Some(table) });
            made.push((output.name.clone(), keys));
        }
        tables.extend(made);
    }
    if !is_dry {
        let shards = store.shards().await?;
        for (step_no, step, email) in plan.emails() {
            let set = tables.get(&email.input).cloned().unwrap_or_else(Query::select);
            let entered = Entered { bundle, plan, run, shards, now };
            entered.plan_email(&mut tx, (step_no, step, email), set).await?;
        }
    }
    tx.put_steps(run.no, &counts).await?;
    let sourced = bundle.dataset.entities.iter().filter(|e| e.source.is_some()).map(|e| &*e.name);
    tx.note_data_as_of(run.no, (&bundle.namespace, &bundle.campaign.dataset), sourced).await?;
    let (to, reason) = if is_dry { (State::Done, "Completed") } else { (State::Sending, "") };
    let moved = tx.move_run(run.no, State::Pending, to, reason, "", now).await?;
    if moved {
        tx.commit().await?;
    }
    Ok(if moved { Planned::Done } else { Planned::Elsewhere })
}

/// Plans the successor of a run that is done: in each channel step exactly those whom the run left waiting.
pub async fn plan_remainder(
    store: &Store,
    (bundle, plan): (&Bundle, &Plan),
    (run, of): (&Run, i64),
    now: Timestamp,
) -> store::Result<Planned> {
    let shards = store.shards().await?;
    let mut tx = store.begin().await?;
    let mut counts = vec![];
    for (step_no, step, email) in plan.emails() {
        let Some(entity) = bundle.dataset.entities.iter().find(|e| *e.name == *email.entity) else { continue };
        let set = left_by(of, step, entity, plan.dialect);
        counts.push(StepCount { name: step.to_owned(), out: tx.count(&set).await?, left: None, table: None });
        let entered = Entered { bundle, plan, run, shards, now };
        entered.plan_email(&mut tx, (step_no, step, email), set).await?;
    }
    tx.put_steps(run.no, &counts).await?;
    let moved = tx.move_run(run.no, State::Pending, State::Sending, "", "", now).await?;
    if moved {
        tx.commit().await?;
    }
    Ok(if moved { Planned::Done } else { Planned::Elsewhere })
}

/// A run whose channel steps enter the ledger.
struct Entered<'a> {
    bundle: &'a Bundle,
    plan: &'a Plan,
    run: &'a Run,
    shards: i64,
    now: Timestamp,
}

impl Entered<'_> {
    async fn plan_email(
        &self,
        tx: &mut store::Tx,
        (step_no, step, email): (i64, &str, &EmailPlan),
        set: SelectStatement,
    ) -> store::Result<()> {
        let profile = &*self.bundle.dataset.profile.entity;
        let Some(entries) = email.entries(&self.plan.schema, profile, self.plan.dialect, set) else { return Ok(()) };
        let channel = ChannelStep {
            run: self.run,
            step_no,
            step,
            channel: &email.channel,
            expires: expires(email, self.now),
            once_since: once_since(email.once, self.bundle, self.run, self.now),
            shards: self.shards,
        };
        tx.plan_channel(&channel, &entries, self.now).await
    }
}

fn read_back(table: &str, columns: &[Column<'_>]) -> SelectStatement {
    let mut select = Query::select();
    for column in columns {
        select.column(Alias::new(column.name));
    }
    select.from(Alias::new(table)).to_owned()
}

fn expires(email: &EmailPlan, now: Timestamp) -> Timestamp {
    now.checked_add(email.expires_after.as_signed()).unwrap_or(Timestamp::MAX)
}

/// From when on an earlier message to the same item holds this one back.
fn once_since(once: Once, bundle: &Bundle, run: &Run, now: Timestamp) -> Option<Timestamp> {
    match once {
        Once::Never => None,
        Once::Ever => Some(Timestamp::UNIX_EPOCH),
        Once::Within(time) => Some(now.checked_sub(time.as_signed()).unwrap_or(Timestamp::UNIX_EPOCH)),
        Once::BySchedule => {
            let table = bundle.campaign.schedule.as_ref().and_then(|s| Timetable::of(s).ok());
            let is_cron = run.origin == Origin::Schedule && table.is_some_and(|t| !t.is_once());
            (!is_cron).then_some(Timestamp::UNIX_EPOCH)
        }
    }
}
