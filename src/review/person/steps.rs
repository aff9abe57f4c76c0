//! The walk: each step with the rows that come to it, which of them go on, and why the others do not.

use std::collections::BTreeMap;

use sea_query::{Query as Statement, SelectStatement, UnionType};

use super::{
    EndView, FATES_MAX, FateView, ROWS_MAX, RUNS_MAX, Row, RowView, RuleView, StepView, Subject, Walker, Why,
    trace::Traced,
};
use crate::{
    plan::{
        Step,
        activity::{Compiled, Source},
    },
    review::sample::About,
    rule::{Inputs, Param, Query},
    store::{self, Sql, fate::Whose},
};

/// How deep audiences that are made of others are explained.
const AUDIENCES_DEEP: usize = 6;

/// The subject's rows at each output.
type Reached = BTreeMap<String, Vec<Row>>;

impl Walker<'_> {
    /// Everything about a subject.
    ///
    /// # Errors
    /// Of the store.
    pub async fn walk(&self, subject: &Subject) -> store::Result<Why> {
        let mut traced = self.trace(subject);
        let own = self.hers(&subject.entity, &traced, None).await?;
        let mut reached = Reached::new();
        let mut steps = vec![];
        for step in &self.plan().steps {
            steps.push(self.step(step, &mut traced, &mut reached).await?);
        }
        let ends = self.plan().emails().map(|(_, name, _)| self.end(name, &steps, &reached)).collect();
        let fates = self.fates(subject, &traced).await?;
        Ok(Why {
            campaign: self.bundle().name.clone(),
            entity: subject.entity.clone(),
            key: self.mask.text(&subject.item),
            is_there: !own.is_empty(),
            now: self.inputs.now,
            run: self.run.as_ref().map(|run| run.name.clone()),
            steps,
            ends,
            fates,
        })
    }

    /// What a channel step would write to a subject about, and whether that comes to the step: where nothing of it does,
    /// these are the rows that could.
    ///
    /// # Errors
    /// Of the store.
    pub async fn messages_to(&self, step: &str, subject: &Subject) -> store::Result<(Vec<About>, bool)> {
        let Some((_, _, email)) = self.plan().emails().find(|(_, name, _)| *name == step) else {
            return Ok((vec![], false));
        };
        let traced = self.trace(subject);
        let set = self.sets.get(&email.input).cloned().unwrap_or_default();
        let mut rows = self.hers(&email.entity, &traced, Some(set)).await?;
        let is_in = !rows.is_empty();
        if !is_in {
            rows = self.hers(&email.entity, &traced, None).await?;
        }
        if email.per_profile {
            rows.truncate(1);
        }
        Ok((self.sampler.read(self.store, step, self.given(&email.entity, &rows)?).await?, is_in))
    }

    /// The keys of the subject's rows in a set of an entity.
    fn select(
        &self,
        entity: &str,
        traced: &Traced,
        set: Option<SelectStatement>,
    ) -> store::Result<Option<SelectStatement>> {
        let Some(own) = traced.sets.get(entity).cloned() else { return Ok(None) };
        let mut query = Query::over_set(self.schema(), self.entity(entity)?, self.plan().dialect, own);
        set.into_iter().for_each(|set| query.within(set));
        Ok(Some(query.keys()))
    }

    async fn hers(&self, entity: &str, traced: &Traced, set: Option<SelectStatement>) -> store::Result<Vec<Row>> {
        match self.select(entity, traced, set)? {
            Some(select) => self.rows(entity, select).await,
            None => Ok(vec![]),
        }
    }

    async fn step(&self, step: &Step, traced: &mut Traced, reached: &mut Reached) -> store::Result<StepView> {
        let declared = self.bundle().campaign.steps.iter().find(|declared| *declared.name == *step.name);
        let activity = declared.map_or("", |declared| declared.activity.word()).to_owned();
        let inputs: Vec<_> = step.inputs.iter().filter_map(|name| self.plan().output(name)).collect();
        let entity = match (&step.compiled, inputs.first(), step.outputs.first()) {
            (Compiled::Audience(audience), ..) => audience.entity.clone(),
            (_, Some(input), _) => input.entity.clone(),
            (_, None, output) => output.map(|output| output.entity.clone()).unwrap_or_default(),
        };
        let mut view =
            StepView { step: step.name.clone(), activity, entity: entity.clone(), rows: vec![], total: 0, note: None };
        if let Some(note) = self.is_not_there(step) {
            view.note = Some(note);
            return Ok(view);
        }
        if !traced.sets.contains_key(&entity) {
            view.note = Some(format!("no way leads from {entity} to whom is asked about"));
            return Ok(view);
        }
        // What comes to the step.
        let candidates = match inputs.as_slice() {
            [] => None,
            inputs => {
                let mut sets = inputs.iter().filter_map(|input| self.sets.get(&input.name).cloned());
                let mut all = sets.next().unwrap_or_default();
                // A join only waits for its other inputs.
                if !matches!(step.compiled, Compiled::Join(_)) {
                    sets.for_each(|set| {
                        all.union(UnionType::Distinct, set);
                    });
                }
                Some(self.whole(&entity, all)?)
            }
        };
        let mut coming = self.hers(&entity, traced, candidates.clone()).await?;
        if let Some(select) = self.select(&entity, traced, candidates)? {
            self.narrow(step, &select, traced);
            view.total = self.count(select).await?;
        }
        if let Compiled::Email(email) = &step.compiled {
            view.rows = self.messages(&step.name, email, coming).await?;
            return Ok(view);
        }
        let mut outputs = vec![];
        for output in &step.outputs {
            let set = self.sets.get(&output.name).cloned().unwrap_or_default();
            let found = self.hers(&output.entity, traced, Some(set)).await?;
            reached.insert(output.name.clone(), found.clone());
            outputs.push((output, found));
        }
        let goes_on = |row: &Row| -> Vec<String> {
            let own = outputs.iter().filter(|(output, found)| output.entity == entity && found.contains(row));
            own.map(|(output, _)| output.name.clone()).collect()
        };
        let mut rows: Vec<Row> = vec![];
        for row in outputs.iter().filter(|(output, _)| output.entity == entity).flat_map(|(_, found)| found) {
            if !rows.contains(row) {
                rows.push(row.clone());
            }
        }
        coming.retain(|row| !rows.contains(row));
        rows.append(&mut coming);
        rows.truncate(ROWS_MAX);
        for row in &rows {
            let outputs = goes_on(row);
            let (name, is_in) = (self.called(&entity, &row.item), !outputs.is_empty());
            view.rows.push(RowView { row: name, is_in, outputs, rules: vec![], reason: None, why: None });
        }
        self.explain(step, &entity, &rows, &mut view).await?;
        // Where rows lead to others, what they led to goes on.
        let leads = outputs.first().filter(|(output, _)| output.entity != entity && !view.rows.is_empty());
        if let Some((output, found)) = leads {
            let many = if found.len() == 1 { "row".to_owned() } else { "rows".to_owned() };
            view.note = Some(format!("leads to {} {many} of {}", found.len(), output.entity));
        }
        Ok(view)
    }

    /// Why a run that was cannot say anything of a step.
    fn is_not_there(&self, step: &Step) -> Option<String> {
        self.run.as_ref()?;
        let needed = step.inputs.iter().chain(step.outputs.iter().map(|output| &output.name));
        let is_lost = needed.into_iter().any(|name| !self.sets.contains_key(name));
        is_lost.then(|| "the run has not come here, or its tables are no longer kept".to_owned())
    }

    /// A compound as one SELECT of the keys.
    pub(super) fn whole(&self, entity: &str, select: SelectStatement) -> store::Result<SelectStatement> {
        let mut whole = Statement::select();
        for name in &self.entity(entity)?.key {
            whole.column(sea_query::Alias::new(name));
        }
        Ok(whole.from_subquery(select, sea_query::Alias::new("c")).to_owned())
    }

    async fn explain(&self, step: &Step, entity: &str, rows: &[Row], view: &mut StepView) -> store::Result<()> {
        match &step.compiled {
            Compiled::Audience(audience) => {
                let rules = match &audience.source {
                    Source::Named(name, own) => self.audience(name, own, entity, rows, 0).await?,
                    Source::Rule(rule) => self.rule("where", entity, rows, rule, &self.inputs, 0).await?,
                };
                put(view, rules);
            }
            Compiled::Split(split) => {
                let names = step.outputs.iter().map(|output| output.name.rsplit('.').next().unwrap_or_default());
                for (name, (rule, is_limited)) in names.zip(split.branches()) {
                    let of = format!("branch {name}");
                    let mut rules = match rule {
                        Some(rule) => self.rule(&of, entity, rows, rule, &self.inputs, 0).await?,
                        None => rows
                            .iter()
                            .map(|_| RuleView { of: of.clone(), is_in: true, clause: None, parts: vec![], note: None })
                            .collect(),
                    };
                    let output = format!("{}.{name}", step.name);
                    for (rule, row) in rules.iter_mut().zip(&view.rows) {
                        let is_taken = row.outputs.contains(&output);
                        if rule.is_in && !is_taken {
                            let why =
                                if is_limited { "it is above the branch's limit" } else { "an earlier branch took it" };
                            rule.note = Some(why.to_owned());
                        }
                    }
                    put(view, rules);
                }
                leave(view, "no branch takes it");
            }
            Compiled::Combine(_) => {
                for input in &step.inputs {
                    let set = self.sets.get(input).cloned().unwrap_or_default();
                    let mut query = Query::over_set(
                        self.schema(),
                        self.entity(entity)?,
                        self.plan().dialect,
                        self.given(entity, rows)?,
                    );
                    query.within(set);
                    let found = self.rows(entity, query.keys()).await?;
                    let of = format!("in {input}");
                    let is_in = |row: &Row| found.contains(row);
                    let rules = rows.iter().map(|row| RuleView {
                        of: of.clone(),
                        is_in: is_in(row),
                        clause: None,
                        parts: vec![],
                        note: None,
                    });
                    put(view, rules.collect());
                }
                leave(view, "it is not in what they are combined to");
            }
            Compiled::Deduplicate(_) => leave(view, "other rows of its group come before it"),
            Compiled::Incremental(_) => self.taken(step, rows, view).await?,
            Compiled::ChangeEntity(change) => {
                let given = self.given(entity, rows)?;
                let query = Query::over_set(self.schema(), self.entity(entity)?, self.plan().dialect, given);
                let lost = self.rows(entity, query.unreached(&change.path)).await?;
                for (row, known) in view.rows.iter_mut().zip(rows) {
                    row.is_in = !lost.contains(known);
                }
                leave(view, &format!("it leads to no {}", change.path.entity));
            }
            Compiled::Match(matching) => {
                let given = self.given(entity, rows)?;
                let input = |_: &str| given.clone();
                let ground = self.plan().ground(&self.inputs, self.clock, &input);
                let selects = step.compiled.selects(&ground);
                let unmatched = selects.left.or_else(|| selects.outputs.into_iter().nth(1)).unwrap_or_default();
                let lost = self.rows(entity, self.whole(entity, unmatched)?).await?;
                for (row, known) in view.rows.iter_mut().zip(rows) {
                    row.is_in = !lost.contains(known);
                }
                leave(view, &format!("it matches no {}", matching.to));
            }
            Compiled::Choose(_) => leave(view, "no branch is chosen"),
            Compiled::Wait(_) => leave(view, "it is gone from the dataset"),
            Compiled::Enrich(_) | Compiled::SaveAudience(_) | Compiled::Join(_) | Compiled::Email(_) => {}
        }
        Ok(())
    }

    /// The SELECT of the keys of rows.
    pub(super) fn given(&self, entity: &str, rows: &[Row]) -> store::Result<SelectStatement> {
        let lost = || store::Error::Internal(format!("{entity} is not in the dataset"));
        let declared = self.bundle().dataset.entity(entity).ok_or_else(lost)?;
        let items: Vec<String> = rows.iter().map(|row| row.item.clone()).collect();
        Ok(store::entity::keys_given(self.plan().dialect, declared, &items))
    }

    async fn taken(&self, step: &Step, rows: &[Row], view: &mut StepView) -> store::Result<()> {
        let of = [&*self.bundle().namespace, &*self.bundle().name, &*step.name];
        for (row, known) in view.rows.iter_mut().zip(rows).filter(|(row, _)| !row.is_in) {
            let taken = self.store.last_taken(of, &known.item).await?;
            row.why = Some(match taken {
                Some(taken) => {
                    let run = taken.run.map_or_else(|| "an earlier run".to_owned(), |run| format!("run {run}"));
                    format!("{run} took it at {:.0}", taken.at)
                }
                None => "its field is missing, or older than the window".to_owned(),
            });
        }
        Ok(())
    }

    /// A rule for each of the rows, with the audiences that it asks about.
    async fn rule(
        &self,
        of: &str,
        entity: &str,
        rows: &[Row],
        rule: &crate::rule::Rule,
        inputs: &Inputs,
        depth: usize,
    ) -> store::Result<Vec<RuleView>> {
        if rows.is_empty() {
            return Ok(vec![]);
        }
        let clauses = self.clauses(entity, rows, rule, inputs).await?;
        let mut views: Vec<RuleView> = clauses
            .into_iter()
            .map(|clause| RuleView {
                of: of.to_owned(),
                is_in: clause.truth == super::Truth::True,
                clause: Some(clause),
                parts: vec![],
                note: None,
            })
            .collect();
        let asked = audiences_of(&rule.clauses(self.schema(), entity));
        for name in asked {
            // Only of the rows themselves: an audience of rows behind a link holds other keys.
            let is_same = self.plan().sets.get(&name).is_some_and(|set| set.entity == entity);
            if is_same && depth < AUDIENCES_DEEP {
                let parts = Box::pin(self.audience(&name, &BTreeMap::new(), entity, rows, depth + 1)).await?;
                views.iter_mut().zip(parts).for_each(|(view, part)| view.parts.push(part));
            }
        }
        Ok(views)
    }

    /// A named audience for each of the rows: by its rule, by what it is combined of, or by the keys that are kept of it.
    async fn audience(
        &self,
        name: &str,
        own: &BTreeMap<String, Param>,
        entity: &str,
        rows: &[Row],
        depth: usize,
    ) -> store::Result<Vec<RuleView>> {
        let of = format!("audience {name}");
        let sets = &self.plan().sets;
        let select = sets.select(name, own, &self.inputs, (self.schema(), self.plan().dialect)).unwrap_or_default();
        let mut query =
            Query::over_set(self.schema(), self.entity(entity)?, self.plan().dialect, self.given(entity, rows)?);
        query.within(self.whole(entity, select)?);
        let found = self.rows(entity, query.keys()).await?;
        let is_kept = sets.get(name).is_some_and(|set| !set.is_on_demand());
        let note = match is_kept {
            true => {
                let known = self.store.audience(&self.bundle().namespace, name).await?;
                Some(known.last.map_or_else(
                    || "it has not been filled yet".to_owned(),
                    |last| format!("as it was kept at {:.0}", last.at),
                ))
            }
            false => None,
        };
        let mut views: Vec<RuleView> = match sets.rule(name, own, &self.inputs) {
            Some((rule, inputs)) => Box::pin(self.rule(&of, entity, rows, rule, &inputs, depth)).await?,
            None => rows
                .iter()
                .map(|_| RuleView { of: of.clone(), is_in: false, clause: None, parts: vec![], note: None })
                .collect(),
        };
        for (view, row) in views.iter_mut().zip(rows) {
            // What is kept may differ from what the rule says now.
            view.is_in = found.contains(row);
            view.note.clone_from(&note);
        }
        if let Some((_, members)) = sets.get(name).and_then(|set| set.members())
            && depth < AUDIENCES_DEEP
        {
            for (member, own) in members {
                let parts = Box::pin(self.audience(member, own, entity, rows, depth + 1)).await?;
                views.iter_mut().zip(parts).for_each(|(view, part)| view.parts.push(part));
            }
        }
        Ok(views)
    }

    /// How it ends at a channel step.
    fn end(&self, name: &str, steps: &[StepView], reached: &Reached) -> EndView {
        let view = steps.iter().find(|view| view.step == name);
        let rows = view.map_or(&[][..], |view| &view.rows);
        let messages = rows.iter().filter(|row| row.is_in).count();
        let reasons: std::collections::BTreeSet<String> = rows.iter().filter_map(|row| row.reason.clone()).collect();
        let left_at = if rows.is_empty() { self.left_at(name, reached) } else { None };
        EndView { step: name.to_owned(), messages, left_at, reasons: reasons.into_iter().collect() }
    }

    /// The last step on the way to `name` that the subject's rows came to.
    fn left_at(&self, name: &str, reached: &Reached) -> Option<String> {
        let step = self.plan().steps.iter().find(|step| step.name == name)?;
        for input in &step.inputs {
            if reached.get(input).is_some_and(|rows| !rows.is_empty()) {
                return Some(name.to_owned());
            }
        }
        if step.inputs.is_empty() {
            return Some(name.to_owned());
        }
        let makers = step.inputs.iter().map(|input| input.split('.').next().unwrap_or(input));
        makers.filter_map(|maker| self.left_at(maker, reached)).next()
    }

    /// What became of the subject's messages: in the run that is explained, or in the last few.
    async fn fates(&self, subject: &Subject, traced: &Traced) -> store::Result<Vec<FateView>> {
        let bundle = self.bundle();
        let runs = match &self.run {
            Some(run) => vec![run.clone()],
            None => self.store.runs(&bundle.namespace, &bundle.name, RUNS_MAX).await?,
        };
        let mut fates = vec![];
        for run in runs.iter().filter(|run| run.planned.is_some() && run.retired.is_none()) {
            let mut found = vec![];
            if *subject.entity == *bundle.dataset.profile.entity {
                found = self.store.fates(run, Whose::Profile(&subject.item), FATES_MAX).await?;
            } else {
                for (_, step, email) in self.plan().emails() {
                    let rows = self.hers(&email.entity, traced, None).await?;
                    for row in rows {
                        let of_row = self.store.fates(run, Whose::Item(&row.item), FATES_MAX).await?;
                        found.extend(of_row.into_iter().filter(|fate| fate.step == step));
                    }
                }
            }
            for fate in found {
                let email = self.plan().emails().find(|(_, step, _)| *step == fate.step);
                let entity = email.map_or("row", |(_, _, email)| &*email.entity);
                fates.push(FateView {
                    run: run.name.clone(),
                    row: self.called(entity, &fate.item),
                    step: fate.step,
                    outcome: fate.outcome.unwrap_or_else(|| "Waiting".to_owned()),
                    reason: fate.reason,
                    at: fate.at,
                    attempts: fate.attempts,
                    due: fate.due,
                });
            }
        }
        Ok(fates)
    }

    /// Rows of a statement that selects `item`, `profile` and `reason`.
    pub(super) async fn reasons(
        &self,
        select: &SelectStatement,
    ) -> store::Result<Vec<(String, Option<String>, Option<String>)>> {
        let found = self.store.fetch(Sql::query(select, self.plan().dialect)?).await?;
        found.iter().map(|row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).collect()
    }
}

/// Gives each row its rule.
fn put(view: &mut StepView, rules: Vec<RuleView>) {
    view.rows.iter_mut().zip(rules).for_each(|(row, rule)| row.rules.push(rule));
}

/// Says why rows leave that go on in no output.
fn leave(view: &mut StepView, why: &str) {
    for row in view.rows.iter_mut().filter(|row| !row.is_in && row.why.is_none()) {
        row.why = Some(why.to_owned());
    }
}

fn audiences_of(clause: &crate::rule::clause::Clause) -> Vec<String> {
    let mut found = clause.audiences.clone();
    for name in clause.parts.iter().flat_map(audiences_of) {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}
