//! How many a campaign would reach if it ran now: on each edge of its graph, and who is left out for which reason.
//!
//! A run keeps each output in a work table; here each is a table expression over those before it, made of the same
//! SELECTs, and all of it is one statement that only reads and sees one moment. Who is excluded is told by the SQL by
//! which planning and sending tell it. What the store does not hold is unknown, with the reason, and never 0.

mod both;
mod expected;

use std::collections::BTreeMap;

use jiff::Timestamp;
use sea_query::{
    Alias, CommonTableExpression, Expr, ExprTrait, Query as Statement, SelectStatement, UnionType, WithClause,
    WithQuery,
};

pub use both::people_in_both;
pub use expected::Verdict;

use crate::{
    plan::{
        Bundle, Plan, Step,
        activity::{Compiled, Source},
        audience::Set,
        message::{MessagePlan, canonical},
    },
    rule::{Dialect, Inputs, Query, Rule},
    run::{
        audiences::{self, Ground, Standing},
        engine::once_since,
        fault,
        hold::Hold,
    },
    store::{
        self, Sql, Store,
        audience::Known,
        campaign::{Origin, Owner},
        entity::Place,
        ledger::{DEVICE, granted},
        planning::{Fence, Judging, judged},
    },
};

/// What one campaign would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Rows by output.
    pub outputs: BTreeMap<String, i64>,
    /// By step, the rows that it leaves out, where no output has them.
    pub left: BTreeMap<String, i64>,
    /// By channel step.
    pub channels: BTreeMap<String, Messages>,
    /// Rows by audience: those that are weighed by their guards.
    pub audiences: BTreeMap<String, i64>,
    pub negations: Vec<OnlyMissing>,
    /// Why the run would be held, whatever is counted here.
    pub held: Vec<Hold>,
    pub expected: Verdict,
    /// What is counted otherwise than a run might find it.
    pub notes: Vec<String>,
}

/// What enters a channel step, and what becomes of it as far as that is known before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    pub entered: i64,
    /// By reason.
    pub excluded: BTreeMap<String, i64>,
    /// Messages that nothing holds back.
    pub sent: i64,
}

/// Rows that are in only because something is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnlyMissing {
    /// The output that they are in.
    pub output: String,
    /// The negation, as its author wrote it.
    pub clause: String,
    /// The fields of which one is missing.
    pub fields: Vec<String>,
    pub rows: i64,
}

/// When a campaign is counted.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// `now` of the rules.
    pub scheduled: Timestamp,
    /// The running clock.
    pub now: Timestamp,
    /// Of the rows that steps begin with only so many percent are taken, the same ones each time.
    pub sample_percent: Option<u8>,
    /// How many rows of tables one statement may read.
    pub rows_max: Option<i64>,
}

/// What is counted by one part of the statement.
enum Count {
    Output(String),
    Left(String),
    /// A channel step, by reason.
    Excluded(String),
    /// A channel step, by reason; those without one get the message.
    Refused(String),
    Audience(String),
    Negation(OnlyMissing),
}

/// The sizes that a person let pass.
#[derive(Clone, Debug, Default)]
pub struct Accepted {
    pub audiences: BTreeMap<String, i64>,
    pub campaign: Option<i64>,
}

/// The rows of a campaign, or why they are unknown: a sentence without a personal value.
pub async fn count(
    store: &Store,
    (bundle, plan): (&Bundle, &Plan),
    accepted: &Accepted,
    moment: Moment,
) -> Result<Counted, String> {
    let known = known(store, bundle, plan, &accepted.audiences).await.map_err(|e| said(&e))?;
    let ground = Ground::of(bundle, plan);
    let counted = audiences::counted(plan);
    let standing = audiences::stand(&ground, &counted, &known, (moment.scheduled, moment.now));
    let inputs = ground.sets.inputs((ground.schema, ground.dialect), moment.scheduled, &standing.kept);
    let inputs = inputs.map_err(|name| audiences::unfilled(&name))?;
    if let Some(name) = filled_on_the_way(plan) {
        return Err(format!("it fills audience `{name}` and reads it, too: what it reads is known when it runs"));
    }
    let statement = Assembly::of((bundle, plan), &inputs, &standing, moment).statement();
    let (statement, counts) = statement.ok_or("it has no step that can be counted")?;
    let sql = Sql::query(&statement, plan.dialect).map_err(|e| said(&e))?;
    check_there(store, bundle, plan, &sql, moment.rows_max).await?;
    let rows = match store.fetch(sql).await {
        Ok(rows) => rows,
        Err(error) if error.is_fault() => {
            return Err(match fault::find(store, plan, &inputs).await {
                Ok(Some(fault)) => format!("{}; a run fails by it", fault.place),
                _ => "a rule overflows or divides by zero; a run fails by it".to_owned(),
            });
        }
        Err(error) => return Err(said(&error)),
    };
    let mut all = gather(&rows, counts).map_err(|e| said(&e))?;
    all.held.extend(standing.held);
    let on_demand = |name: &str| plan.sets.get(name).is_some_and(Set::is_on_demand);
    for (name, size) in &all.audiences {
        if let Some(why) = known.get(name).and_then(|known| known.objection(*size, false)) {
            all.held.push(audiences::outside_guard(name, &why));
        }
    }
    for step in &plan.steps {
        if let Compiled::Audience(audience) = &step.compiled
            && let Some((name, is_own)) = audience.reference(&plan.sets)
            && on_demand(name)
            && moment.sample_percent.is_none()
            && let Some(size) = all.outputs.get(&step.name)
            && let Some(why) = known.get(name).and_then(|known| known.objection(*size, is_own))
        {
            all.held.push(audiences::outside_guard(name, &why));
        }
        if let Compiled::Wait(wait) = &step.compiled {
            let due = wait.due(moment.now);
            if due > moment.now {
                all.notes
                    .push(format!("`{}` is held until {due:.0}; what is behind it is counted as of now", step.name));
            }
        }
    }
    all.expected = expected::weigh(store, bundle, &all, accepted.campaign, moment).await?;
    let by_statement = plan.sets.iter().filter(|set| set.sql_on_demand().is_some());
    all.notes.extend(
        by_statement.map(|set| {
            format!("audience `{}` is counted as its statement gave it last; a run asks it again", set.name)
        }),
    );
    Ok(all)
}

/// A failure of the store in words: the database's own may hold a value.
pub fn said(error: &store::Error) -> String {
    match error {
        store::Error::Unavailable(sqlx::Error::Database(e)) => {
            let code = e.code().map(|code| format!(" ({code})")).unwrap_or_default();
            format!("the database refused the statement{code}")
        }
        store::Error::Unavailable(_) => "the database did not answer".to_owned(),
        other => other.to_string(),
    }
}

/// What the store knows of the audiences, under what is declared of them now.
async fn known(
    store: &Store,
    bundle: &Bundle,
    plan: &Plan,
    accepted: &BTreeMap<String, i64>,
) -> store::Result<BTreeMap<String, Known>> {
    let mut known = BTreeMap::new();
    for set in plan.sets.iter() {
        let guard = bundle.audiences.get(&set.name).and_then(|spec| spec.guard.as_ref());
        let found = store.audience(&bundle.namespace, &set.name).await?;
        known.insert(set.name.clone(), found.declared(guard, accepted.get(&set.name).copied())?);
    }
    Ok(known)
}

fn filled_on_the_way(plan: &Plan) -> Option<&str> {
    let saves = plan.steps.iter().filter_map(|step| match &step.compiled {
        Compiled::SaveAudience(save) => Some(save.reference.as_str()),
        _ => None,
    });
    saves.into_iter().find(|name| plan.sets.get(name).is_some())
}

/// Whether the tables and columns are there that the statement reads.
async fn check_there(
    store: &Store,
    bundle: &Bundle,
    plan: &Plan,
    sql: &Sql,
    rows_max: Option<i64>,
) -> Result<(), String> {
    let place = Place { namespace: &bundle.namespace, dataset: &bundle.campaign.dataset, dialect: plan.dialect };
    let there = store.columns_there(place).await.map_err(|e| said(&e))?;
    for entity in bundle.dataset.entities.iter().filter(|entity| sql.names(&place.table_name(&entity.name))) {
        let columns = match there.get(&*entity.name) {
            None => {
                return Err(format!("the store has no table of {} of dataset `{}` yet", entity.name, place.dataset));
            }
            Some(None) => continue,
            Some(Some(columns)) => columns,
        };
        let lost =
            entity.fields.iter().find(|f| !columns.contains_key(&*f.name) && sql.names(&format!("\"{}\"", f.name)));
        if let Some(field) = lost {
            return Err(format!(
                "the store's table of {} has no column for its new field {} yet",
                entity.name, field.name
            ));
        }
    }
    if let Some(rows_max) = rows_max {
        let mut rows = 0;
        for entity in bundle.dataset.entities.iter().filter(|entity| sql.names(&place.table_name(&entity.name))) {
            rows += store.rows_about(place, &entity.name).await.map_err(|e| said(&e))?;
        }
        if rows > rows_max {
            return Err(format!("it would read about {rows} rows, more than the {rows_max} that it may"));
        }
    }
    Ok(())
}

/// The statement that is being put together.
struct Assembly<'a> {
    bundle: &'a Bundle,
    plan: &'a Plan,
    inputs: &'a Inputs,
    standing: &'a Standing<'a>,
    moment: Moment,
    with: WithClause,
    /// The table expression of each output.
    tables: BTreeMap<String, String>,
    counts: Vec<Count>,
    parts: Vec<SelectStatement>,
}

impl<'a> Assembly<'a> {
    fn of(
        (bundle, plan): (&'a Bundle, &'a Plan),
        inputs: &'a Inputs,
        standing: &'a Standing<'a>,
        moment: Moment,
    ) -> Self {
        let mut all = Self {
            bundle,
            plan,
            inputs,
            standing,
            moment,
            with: WithClause::new(),
            tables: BTreeMap::new(),
            counts: vec![],
            parts: vec![],
        };
        for set in &standing.guarded {
            if let Some(select) = inputs.audiences.get(&set.name) {
                all.count(Count::Audience(set.name.clone()), select.clone());
            }
        }
        for step in &plan.steps {
            match &step.compiled {
                Compiled::Message(message) => all.message(step, message),
                _ => all.step(step),
            }
        }
        all
    }

    fn statement(mut self) -> Option<(WithQuery, Vec<Count>)> {
        let mut parts = std::mem::take(&mut self.parts).into_iter();
        let mut select = parts.next()?;
        parts.for_each(|part| {
            select.union(UnionType::All, part);
        });
        Some((select.with(self.with), self.counts))
    }

    /// The keys of an output.
    fn keys(&self, output: &str) -> SelectStatement {
        let mut select = Statement::select();
        let entity = self.plan.output(output).and_then(|output| self.plan.schema.entity(&output.entity));
        let (Some(table), Some(entity)) = (self.tables.get(output), entity) else { return select };
        entity.key.iter().for_each(|name| {
            select.column(Alias::new(name));
        });
        select.from(Alias::new(table)).to_owned()
    }

    fn table(&mut self, name: &str, select: SelectStatement) {
        let mut table = CommonTableExpression::new();
        table.query(select).table_name(Alias::new(name)).materialized(true);
        self.with.cte(table);
    }

    fn count(&mut self, what: Count, of: SelectStatement) {
        let mut part = Statement::select();
        part.expr_as(self.number(), Alias::new("part"))
            .expr_as(Expr::cust("CAST(NULL AS TEXT)"), Alias::new("reason"))
            .expr_as(Expr::cust("count(*)"), Alias::new("n"))
            .from_subquery(of, Alias::new("c"));
        self.parts.push(part);
        self.counts.push(what);
    }

    /// Counts by the column `reason` of a SELECT.
    fn count_by(&mut self, what: Count, of: SelectStatement, reason: &str) {
        let mut part = Statement::select();
        let reason = Expr::col((Alias::new("c"), Alias::new(reason)));
        part.expr_as(self.number(), Alias::new("part"))
            .expr_as(reason.clone(), Alias::new("reason"))
            .expr_as(Expr::cust("count(*)"), Alias::new("n"))
            .from_subquery(of, Alias::new("c"))
            .add_group_by([reason]);
        self.parts.push(part);
        self.counts.push(what);
    }

    fn number(&self) -> Expr {
        Expr::cust(format!("CAST({} AS BIGINT)", self.counts.len()))
    }

    fn step(&mut self, step: &'a Step) {
        let selects = {
            let input = |name: &str| self.keys(name);
            step.compiled.selects(&self.plan.ground(self.inputs, self.moment.now, &input))
        };
        for (output, mut select) in step.outputs.iter().zip(selects.outputs) {
            if let (Compiled::Audience(_), Some(percent)) = (&step.compiled, self.moment.sample_percent) {
                select = self.sampled(&output.entity, select, percent);
            }
            let table = format!("preview_{}", self.tables.len());
            self.table(&table, select);
            self.tables.insert(output.name.clone(), table);
            self.count(Count::Output(output.name.clone()), self.keys(&output.name));
        }
        if let Some(left) = selects.left {
            self.count(Count::Left(step.name.clone()), left);
        }
        self.negations(step);
    }

    /// Of a set of keys those whose hash is low: the same ones in every set of the entity.
    fn sampled(&self, entity: &str, set: SelectStatement, percent: u8) -> SelectStatement {
        let Some(entity) = self.plan.schema.entity(entity) else { return set };
        let mut query = Query::over_keys(&self.plan.schema, entity, self.plan.dialect, set);
        let item = canonical(&mut query, entity, &[]);
        let bound = format!("{:04x}", u32::from(Ord::min(percent, 100)) * 65_535 / 100);
        let text = match self.plan.dialect {
            Dialect::Postgres => "substr(md5(?), 1, 4) COLLATE \"C\" <= ?",
            Dialect::Sqlite => "substr(md5(?), 1, 4) <= ?",
        };
        let is_low = query.custom(text, [item, Expr::val(bound)]);
        query.filter(is_low);
        query.keys()
    }

    fn message(&mut self, step: &Step, message: &MessagePlan) {
        let (schema, dialect) = (&self.plan.schema, self.plan.dialect);
        let profile = &*self.bundle.dataset.profile.entity;
        let Some(entity) = schema.entity(&message.entity) else { return };
        let Some(entries) = message.entries(schema, profile, dialect, self.keys(&message.input)) else { return };
        let origin = Origin::expected(&self.bundle.campaign);
        let since = once_since(message.once, self.bundle, origin, self.moment.now);
        let campaigns = self.bundle.names();
        let owner = Owner { namespace: &self.bundle.namespace, campaigns: &campaigns, step: &step.name };
        let fence = since.map(|since| Fence { owner, since });
        let is_several = message.devices().is_some();
        let judged = judged(entries, &Judging { keys: entity.key.len(), fence, is_several, successor_of: None });
        let table = format!("preview_mail_{}", self.counts.len());
        self.table(&table, judged);
        let reason = || Expr::col((Alias::new("l"), Alias::new("reason")));
        let mut excluded = Statement::select();
        excluded.expr_as(reason(), Alias::new("reason")).from_as(Alias::new(&table), Alias::new("l"));
        excluded.and_where(reason().is_not_null());
        self.count_by(Count::Excluded(step.name.clone()), excluded, "reason");
        let mut rest = Statement::select();
        for (index, name) in entity.key.iter().enumerate() {
            rest.expr_as(Expr::col((Alias::new("l"), Alias::new(format!("k{index}")))), Alias::new(name));
        }
        rest.column((Alias::new("l"), Alias::new("profile")));
        rest.expr_as(Expr::col((Alias::new("l"), Alias::new("device"))), Alias::new(DEVICE));
        rest.expr_as(granted(message.asks(self.bundle), dialect), Alias::new("granted"));
        rest.from_as(Alias::new(&table), Alias::new("l")).and_where(reason().is_null());
        if let Some(refusals) =
            message.refusals(schema, dialect, rest, &[], message.asked(self.bundle, self.moment.now))
        {
            self.count_by(Count::Refused(step.name.clone()), refusals, "refusal");
        }
    }

    fn negations(&mut self, step: &'a Step) {
        let (plan, inputs) = (self.plan, self.inputs);
        match &step.compiled {
            Compiled::Audience(audience) => match &audience.source {
                Source::Rule(rule) => self.negations_of(&step.name, &audience.entity, rule, inputs),
                // Whose keys are kept was decided when they were.
                Source::Named(name, _) if self.standing.kept.contains_key(name) => {}
                Source::Named(name, own) => {
                    if let Some((rule, inputs)) = plan.sets.rule(name, own, inputs) {
                        self.negations_of(&step.name, &audience.entity, rule, &inputs);
                    }
                }
            },
            Compiled::Split(split) => {
                for ((rule, _), output) in split.branches().zip(&step.outputs) {
                    if let Some(rule) = rule {
                        self.negations_of(&output.name, &output.entity, rule, inputs);
                    }
                }
            }
            _ => {}
        }
    }

    fn negations_of(&mut self, output: &str, entity: &str, rule: &Rule, inputs: &Inputs) {
        let (schema, dialect) = (&self.plan.schema, self.plan.dialect);
        let Some(entity) = schema.entity(entity) else { return };
        for negation in rule.negations(schema, &entity.name) {
            let mut query = Query::over_set(schema, entity, dialect, self.keys(output));
            let missing = negation.reads.iter().map(|path| query.path(path).is_null()).reduce(ExprTrait::or);
            let Some(missing) = missing else { continue };
            query.filter(missing);
            let holds = query.condition(&negation.without, inputs);
            query.filter(Expr::not(holds));
            let fields = negation
                .reads
                .iter()
                .map(|path| format!("{}.{}", path.entity, path.field.as_deref().unwrap_or_default()));
            let what =
                OnlyMissing { output: output.to_owned(), clause: negation.text, fields: fields.collect(), rows: 0 };
            self.count(Count::Negation(what), query.keys());
        }
    }
}

fn gather(rows: &[store::Row], counts: Vec<Count>) -> store::Result<Counted> {
    let mut found = BTreeMap::<usize, Vec<(Option<String>, i64)>>::new();
    for row in rows {
        let part = usize::try_from(row.get::<i64>(0)?).unwrap_or(usize::MAX);
        found.entry(part).or_default().push((row.get(1)?, row.get(2)?));
    }
    let mut all = Counted::default();
    for (index, what) in counts.into_iter().enumerate() {
        let found = found.remove(&index).unwrap_or_default();
        let total = found.iter().map(|(_, n)| n).sum();
        match what {
            Count::Output(name) => drop(all.outputs.insert(name, total)),
            Count::Left(name) => drop(all.left.insert(name, total)),
            Count::Audience(name) => drop(all.audiences.insert(name, total)),
            Count::Negation(negation) => all.negations.push(OnlyMissing { rows: total, ..negation }),
            Count::Excluded(step) | Count::Refused(step) => {
                let messages = all.channels.entry(step).or_default();
                messages.entered += total;
                for (reason, n) in found {
                    match reason {
                        Some(reason) => *messages.excluded.entry(reason).or_default() += n,
                        None => messages.sent += n,
                    }
                }
            }
        }
    }
    Ok(all)
}
