//! The evaluation of a run: every step becomes a work table, every channel step enters the ledger.
//!
//! It is one transaction that sees one moment of the data: a crash in the middle leaves nothing, and the run begins again.
//! What stands behind a `wait` is evaluated when that is over, in a transaction of its own over the tables that are there.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use jiff::Timestamp;
use sea_query::{Alias, Query, SelectStatement};

use crate::{
    api::dataset::Entity,
    plan::{
        Bundle, Plan, Step,
        activity::{self, Compiled, Ground, Output},
        audience::Set,
        message::{MessagePlan, Once},
    },
    rule::Inputs,
    run::{
        audiences::{self, Held},
        expect,
        schedule::Timetable,
    },
    store::{
        self, Store,
        audience::Evaluated,
        campaign::{Origin, Run, State, StepCount, StepState},
        entity::work_table,
        ledger::Topic,
        planning::{ChannelStep, Column},
        remainder::left_by,
    },
};

/// What came of planning a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Planned {
    Done,
    /// It was no longer to be planned: another process did.
    Elsewhere,
    /// An audience is outside its guard, or has not come yet; or the run is not what its campaign expects: why, in words.
    /// Nothing of it stands.
    Held(String),
}

/// Plans a run as far as it goes: from `Pending` to `Sending`, or to `Done` where nothing is to be sent; or on from where
/// its `wait` was.
pub async fn plan_run(
    store: &Store,
    bundle: &Bundle,
    plan: &Plan,
    run: &Run,
    now: Timestamp,
) -> store::Result<Planned> {
    let shards = store.shards().await?;
    let mut tx = store.begin().await?;
    tx.freeze().await?;
    if run.state == State::Sending && !tx.resume_run(run).await? {
        return Ok(Planned::Elsewhere);
    }
    let mut evaluation = match Evaluation::of(tx, (bundle, plan), run, shards, now).await? {
        Ok(evaluation) => evaluation,
        Err(held) => return held.record(store, &run.namespace).await,
    };
    if let Err(held) = evaluation.evaluate().await? {
        drop(evaluation);
        return held.record(store, &run.namespace).await;
    }
    let (is_dry, is_whole) = (evaluation.is_dry, evaluation.is_whole());
    if !is_dry {
        let (tx, entered) = (&mut evaluation.tx, &evaluation.entered);
        if let Some(why) = expect::weigh(tx, (bundle, plan), run, entered, (is_whole, now)).await? {
            return Ok(Planned::Held(why));
        }
    }
    let mut tx = evaluation.close().await?;
    if run.state == State::Pending {
        let sourced = bundle.dataset.entities.iter().filter(|e| e.source.is_some()).map(|e| &*e.name);
        tx.note_data_as_of(run.no, (&bundle.namespace, &bundle.campaign.dataset), sourced).await?;
        let (to, reason) = if is_dry { (State::Done, "Completed") } else { (State::Sending, "") };
        if !tx.move_run(run.no, State::Pending, to, reason, "", now).await? {
            return Ok(Planned::Elsewhere);
        }
    }
    tx.commit().await?;
    Ok(Planned::Done)
}

/// Plans the successor of a run that is done: in each channel step exactly those whom the run left waiting. What the run
/// had before it at a `wait`, the successor has before it, too.
pub async fn plan_remainder(
    store: &Store,
    (bundle, plan): (&Bundle, &Plan),
    (run, of): (&Run, &Run),
    before: &Plan,
    now: Timestamp,
) -> store::Result<Planned> {
    let shards = store.shards().await?;
    let mut tx = store.begin().await?;
    tx.hold_erased().await?;
    let mut evaluation = match Evaluation::of(tx, (bundle, plan), run, shards, now).await? {
        Ok(evaluation) => evaluation,
        Err(held) => return held.record(store, &run.namespace).await,
    };
    evaluation.take_over(of, before).await?;
    let mut tx = evaluation.close().await?;
    let moved = tx.move_run(run.no, State::Pending, State::Sending, "", "", now).await?;
    if moved {
        tx.commit().await?;
    }
    Ok(if moved { Planned::Done } else { Planned::Elsewhere })
}

/// A run that is being planned, in one transaction.
struct Evaluation<'a> {
    tx: store::Tx,
    bundle: &'a Bundle,
    plan: &'a Plan,
    run: &'a Run,
    shards: i64,
    now: Timestamp,
    inputs: Inputs,
    is_dry: bool,
    /// What is known of each output so far.
    known: BTreeMap<String, StepCount>,
    /// The channel steps that have entered the ledger.
    entered: BTreeSet<String>,
}

impl<'a> Evaluation<'a> {
    async fn of(
        mut tx: store::Tx,
        (bundle, plan): (&'a Bundle, &'a Plan),
        run: &'a Run,
        shards: i64,
        now: Timestamp,
    ) -> store::Result<Result<Self, Held>> {
        let counted = audiences::counted(plan);
        let ground = audiences::Ground::of(bundle, plan);
        let inputs = match audiences::weigh(&mut tx, &ground, &counted, (run.scheduled, now)).await? {
            Ok(inputs) => inputs,
            Err(held) => return Ok(Err(held)),
        };
        let known = tx.run_steps(run.no).await?.into_iter().map(|step| (step.name.clone(), step)).collect();
        let entered = tx.run_channels(run.no).await?.into_iter().collect();
        let is_dry = run.mode == "DryRun";
        Ok(Ok(Self { tx, bundle, plan, run, shards, now, inputs, is_dry, known, entered }))
    }

    /// Whether every step was evaluated: nothing is behind a `wait`.
    fn is_whole(&self) -> bool {
        self.known.values().all(|step| step.state == StepState::Done)
    }

    /// Keeps what is known, and when the run goes on.
    async fn close(mut self) -> store::Result<store::Tx> {
        let due = |step: &StepCount| match step.state {
            StepState::Waiting(due) => Some(due),
            _ => None,
        };
        let resume = self.known.values().filter_map(due).min();
        let order = |name: &str| self.plan.steps.iter().flat_map(|s| &s.outputs).position(|o| o.name == name);
        let mut steps: Vec<StepCount> = self.known.into_values().collect();
        steps.sort_by_key(|step| order(&step.name).unwrap_or(usize::MAX));
        self.tx.put_steps(self.run.no, &steps).await?;
        self.tx.rest_run(self.run.no, resume).await?;
        Ok(self.tx)
    }

    fn entity(&self, name: &str) -> store::Result<&'a Entity> {
        let lost = || store::Error::Internal(format!("{name} is not in the pinned dataset"));
        self.bundle.dataset.entity(name).ok_or_else(lost)
    }

    fn is_there(&self, output: &str) -> bool {
        self.known.get(output).is_some_and(|step| step.state == StepState::Done && step.table.is_some())
    }

    /// Every step whose inputs are there, in the order of the steps.
    async fn evaluate(&mut self) -> store::Result<Result<(), Held>> {
        let plan = self.plan;
        for (step, step_no) in plan.steps.iter().zip(0_i64..) {
            let is_ready = step.needs.iter().all(|need| self.is_there(need));
            if let Compiled::Message(message) = &step.compiled {
                if is_ready && !self.is_dry && !self.entered.contains(&step.name) {
                    let set = self.keys(&message.input);
                    self.plan_message((step_no, &step.name, message), set).await?;
                }
            } else if step.outputs.iter().all(|output| self.is_there(&output.name)) {
                // It was evaluated before the run waited.
            } else if !is_ready {
                self.note(step, StepState::Pending, 0);
            } else if let Compiled::Wait(wait) = &step.compiled
                && let Some(due) = self.waits_until(step, wait)
            {
                let out = self.known.get(&wait.input).map_or(0, |input| input.out);
                self.note(step, StepState::Waiting(due), out);
            } else if let Err(held) = self.evaluate_step(step).await? {
                return Ok(Err(held));
            }
        }
        Ok(Ok(()))
    }

    /// Until when a set that is there is held; a run that sends nothing waits for nothing.
    fn waits_until(&self, step: &Step, wait: &activity::Wait) -> Option<Timestamp> {
        let due = match self.known.get(&step.name).map(|known| known.state) {
            Some(StepState::Waiting(due)) => due,
            _ => wait.due(self.now),
        };
        (due > self.now && !self.is_dry).then_some(due)
    }

    fn note(&mut self, step: &Step, state: StepState, out: i64) {
        for output in &step.outputs {
            let count = StepCount { name: output.name.clone(), out, left: None, table: None, state };
            self.known.insert(output.name.clone(), count);
        }
    }

    async fn evaluate_step(&mut self, step: &Step) -> store::Result<Result<(), Held>> {
        let began = Instant::now();
        if let (Compiled::Incremental(_), false) = (&step.compiled, self.is_dry) {
            self.tx.take_turn(self.run, &step.name).await?;
        }
        let selects = self.on_ground(|ground| step.compiled.selects(ground));
        let left = match &selects.left {
            Some(select) => Some(self.tx.count(select).await?),
            None => None,
        };
        for (output, select) in step.outputs.iter().zip(&selects.outputs) {
            self.fill(output, select, left).await?;
        }
        match &step.compiled {
            Compiled::Audience(audience) => {
                let plan = self.plan;
                if let Some((name, is_own)) = audience.reference(&plan.sets)
                    && plan.sets.get(name).is_some_and(Set::is_on_demand)
                    && let Some(output) = step.outputs.first()
                {
                    return self.note_audience((name, is_own), output, began).await;
                }
            }
            Compiled::Incremental(incremental) if !self.is_dry => self.reserve(step, incremental).await?,
            Compiled::SaveAudience(save) if !self.is_dry => self.save(save, step, began).await?,
            _ => {}
        }
        Ok(Ok(()))
    }

    /// What the SELECTs of a plan become over the tables that are there.
    fn on_ground<T>(&self, make: impl FnOnce(&Ground<'_>) -> T) -> T {
        make(&self.plan.ground(&self.inputs, self.now, &|name| self.keys(name)))
    }

    /// The SELECT of the keys of an output that is there.
    fn keys(&self, output: &str) -> SelectStatement {
        let table = self.known.get(output).and_then(|step| step.table.as_deref());
        let entity = self.plan.output(output).and_then(|output| self.entity(&output.entity).ok());
        let (Some(table), Some(entity)) = (table, entity) else { return Query::select() };
        let mut select = Query::select();
        for name in &entity.key {
            select.column(Alias::new(&**name));
        }
        select.from(Alias::new(table)).to_owned()
    }

    /// Makes the work table of an output.
    async fn fill(&mut self, output: &Output, select: &SelectStatement, left: Option<i64>) -> store::Result<()> {
        let entity = self.entity(&output.entity)?;
        let table = work_table(self.run.no, &output.name);
        let values = output.columns.iter().map(|(name, ty)| Column { name, ty: Some(*ty) });
        let columns: Vec<Column<'_>> = values.chain(entity.key.iter().map(|name| Column { name, ty: None })).collect();
        let out = self.tx.fill_work_table(&table, entity, &columns, select).await?;
        let count = StepCount { name: output.name.clone(), out, left, table: Some(table), state: StepState::Done };
        self.known.insert(output.name.clone(), count);
        Ok(())
    }

    /// How large a set is, measured by who began to make it.
    async fn measure(&mut self, output: &Output, began: Instant) -> store::Result<Evaluated> {
        let (keys, took_ms) = (self.keys(&output.name), audiences::millis(began));
        let size = self.known.get(&output.name).map_or(0, |step| step.out);
        let ground = audiences::Ground::of(self.bundle, self.plan);
        let profiles = audiences::count_profiles(&mut self.tx, &ground, &output.entity, &keys).await?;
        Ok(Evaluated { size, profiles, took_ms, at: self.now })
    }

    async fn note_audience(
        &mut self,
        (name, is_own): (&str, bool),
        output: &Output,
        began: Instant,
    ) -> store::Result<Result<(), Held>> {
        let evaluated = self.measure(output, began).await?;
        let outside = self.tx.note_evaluated((&self.run.namespace, name), &evaluated, 0, is_own).await?;
        Ok(match outside {
            Some(why) => Err(Held::outside(name, evaluated, is_own, &why)),
            None => Ok(()),
        })
    }

    /// The audience gets the set as a whole. One that is outside its guard then holds who reads it, not who fills it.
    async fn save(&mut self, save: &activity::SaveAudience, step: &Step, began: Instant) -> store::Result<()> {
        let Some(output) = step.outputs.first() else { return Ok(()) };
        let (entity, keys) = (self.entity(&output.entity)?, self.keys(&output.name));
        let name = (self.run.namespace.as_str(), save.reference.as_str());
        self.tx.replace_kept(name, entity, &keys, (&self.bundle.campaign.dataset, "saved", None)).await?;
        let evaluated = self.measure(output, began).await?;
        self.tx.note_evaluated(name, &evaluated, 0, false).await?;
        Ok(())
    }

    /// The rows that an `incremental` step gave are this run's from here on.
    async fn reserve(&mut self, step: &Step, incremental: &activity::Incremental) -> store::Result<()> {
        let given = self.keys(&step.name);
        let Some(source) = self.on_ground(|ground| incremental.reserved(ground, given)) else { return Ok(()) };
        self.tx.reserve_rows(self.run, &step.name, &source, self.now).await?;
        self.tx.put_scope(self.run, &step.name, &self.plan.messages_behind(step)).await
    }

    async fn plan_message(
        &mut self,
        (step_no, step, message): (i64, &str, &MessagePlan),
        set: SelectStatement,
    ) -> store::Result<()> {
        let profile = &*self.bundle.dataset.profile.entity;
        let Some(entries) = message.entries(&self.plan.schema, profile, self.plan.dialect, set) else { return Ok(()) };
        let channel = ChannelStep {
            run: self.run,
            step_no,
            step,
            channel: &message.channel,
            expires: expires(message, self.now),
            once_since: once_since(message.once, self.bundle, self.run.origin, self.now),
            campaigns: &self.bundle.names(),
            is_several: message.devices().is_some(),
            shards: self.shards,
        };
        self.tx.plan_channel(&channel, &entries, self.now).await?;
        let Some(asking) = message.asking.as_ref().filter(|_| self.run.mode == "Live") else { return Ok(()) };
        let (namespace, dataset) = (&*self.bundle.namespace, &*self.bundle.campaign.dataset);
        let topic = Topic { namespace, dataset, topic: &asking.topic, channel: asking.medium.word() };
        self.tx.put_confirmations(topic, (self.run.run_day, self.run.no, step_no), self.now).await
    }

    /// What the run `of` left: in each channel step those who waited, with what templates read of them, and whatever stood
    /// behind a `wait`, by the names of the outputs.
    async fn take_over(&mut self, of: &Run, before: &Plan) -> store::Result<()> {
        let (plan, entered) = (self.plan, self.tx.run_channels(of.no).await?);
        if of.resume.is_some() {
            let is_same = |name: &str| {
                let (old, new) = (before.output(name), plan.output(name));
                old.zip(new).is_some_and(|(old, new)| old.entity == new.entity && old.columns == new.columns)
            };
            let kept = self.tx.run_steps(of.no).await?.into_iter().filter(|step| is_same(&step.name));
            self.known.extend(kept.map(|step| (step.name.clone(), step)));
        }
        let is_before = |name: &str| before.messages().any(|(_, known, _)| known == name);
        let mut read = BTreeMap::<&str, Vec<SelectStatement>>::new();
        for (step_no, step, message) in plan.messages() {
            if of.resume.is_some() && is_before(step) && !entered.iter().any(|name| name == step) {
                // Its people are still to come; what was added to their rows is added anew, as declared now.
                for output in message.enriched_by().into_iter().filter(|output| self.is_there(output)) {
                    read.entry(output).or_default().push(self.keys(output));
                }
                continue;
            }
            let entity = self.entity(&message.entity)?;
            let set = left_by(of.no, step, entity, plan.dialect);
            let out = self.tx.count(&set).await?;
            let count = StepCount { name: step.to_owned(), out, left: None, table: None, state: StepState::Done };
            self.known.insert(step.to_owned(), count);
            for output in message.enriched_by() {
                read.entry(output).or_default().push(set.clone());
            }
            self.plan_message((step_no, step, message), set).await?;
        }
        for step in &plan.steps {
            if let Compiled::Incremental(_) = &step.compiled {
                self.tx.put_scope(self.run, &step.name, &plan.messages_behind(step)).await?;
            }
            let (Compiled::Enrich(enrich), Some(sets)) = (&step.compiled, read.remove(step.name.as_str())) else {
                continue;
            };
            let mut sets = sets.into_iter();
            let Some(mut all) = sets.next() else { continue };
            all.unions(sets.map(|set| (sea_query::UnionType::Distinct, set)));
            let Some(select) = self.on_ground(|ground| enrich.select_over(ground, &all)) else { continue };
            for output in &step.outputs {
                self.fill(output, &select, None).await?;
            }
        }
        Ok(())
    }
}

fn expires(message: &MessagePlan, now: Timestamp) -> Timestamp {
    now.checked_add(message.expires_after.as_signed()).unwrap_or(Timestamp::MAX)
}

/// From when on an earlier message to the same item holds this one back.
pub fn once_since(once: Once, bundle: &Bundle, origin: Origin, now: Timestamp) -> Option<Timestamp> {
    match once {
        Once::Never => None,
        Once::Ever => Some(Timestamp::UNIX_EPOCH),
        Once::Within(time) => Some(now.checked_sub(time.as_signed()).unwrap_or(Timestamp::UNIX_EPOCH)),
        Once::BySchedule => {
            let table = bundle.campaign.schedule.as_ref().and_then(|s| Timetable::of(s).ok());
            let is_cron = origin == Origin::Schedule && table.is_some_and(|t| !t.is_once());
            (!is_cron).then_some(Timestamp::UNIX_EPOCH)
        }
    }
}
