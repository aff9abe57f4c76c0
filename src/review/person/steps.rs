//! The walk: each step with the rows that come to it, and which of them go on.

use std::collections::{BTreeMap, BTreeSet};

use sea_query::{Query as Statement, SelectStatement, UnionType};

use super::{
    EndView, FATES_MAX, FateView, ROWS_MAX, RUNS_MAX, Row, RowView, StepView, Subject, Walker, Why, trace::Traced,
};
use crate::{
    plan::{
        Step,
        activity::{Compiled, RuleFaults},
    },
    review::sample::About,
    rule::Query,
    store::{self, Sql, campaign::State, fate::Whose},
};

/// By output, the step where a run fails before it is there.
type Broken = BTreeMap<String, String>;
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
        let (mut steps, mut broken) = (vec![], Broken::new());
        for step in &self.plan().steps {
            let (view, fails_at) = self.look(step, &mut traced, &mut reached, &broken).await?;
            if let Some(at) = fails_at {
                broken.extend(step.outputs.iter().map(|output| (output.name.clone(), at.clone())));
            }
            steps.push(view);
        }
        let ends = self.plan().messages().map(|(_, name, _)| self.end(name, &steps, &reached)).collect();
        let fates = self.fates(subject, &traced).await?;
        Ok(Why {
            campaign: self.bundle().name.clone(),
            entity: subject.entity.clone(),
            key: self.mask.text(&subject.item),
            is_there: !own.is_empty(),
            now: self.inputs.now,
            run: self.run.as_ref().map(|run| run.name.clone()),
            paused: self.paused().await?,
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
        let Some((_, message)) = self.plan().message_named(step) else {
            return Ok((vec![], false));
        };
        let traced = self.trace(subject);
        let set = self.sets.get(&message.input).cloned().unwrap_or_default();
        let mut rows = self.hers(&message.entity, &traced, Some(set)).await?;
        let is_in = !rows.is_empty();
        if !is_in {
            rows = self.hers(&message.entity, &traced, None).await?;
        }
        if message.per_profile {
            rows.truncate(1);
        }
        Ok((self.sampler.read(self.store, step, self.given(&message.entity, &rows)?).await?, is_in))
    }

    /// The keys of the subject's rows in a set of an entity.
    fn select(
        &self,
        entity: &str,
        traced: &Traced,
        set: Option<SelectStatement>,
    ) -> store::Result<Option<SelectStatement>> {
        let Some(own) = traced.sets.get(entity).cloned() else { return Ok(None) };
        // Over the set and within the subject's few rows: a database can begin with these.
        let (over, within) = match set {
            Some(set) => (set, Some(own)),
            None => (own, None),
        };
        let mut query = Query::over_set(self.schema(), self.entity(entity)?, self.plan().dialect, over);
        within.into_iter().for_each(|own| query.within(own));
        Ok(Some(query.keys()))
    }

    async fn hers(&self, entity: &str, traced: &Traced, set: Option<SelectStatement>) -> store::Result<Vec<Row>> {
        match self.select(entity, traced, set)? {
            Some(select) => self.rows(entity, select).await,
            None => Ok(vec![]),
        }
    }

    /// Whether the campaign sends at all.
    async fn paused(&self) -> store::Result<Option<String>> {
        let bundle = self.bundle();
        let stopped = self.store.stopped(&bundle.namespace, &bundle.name).await?;
        let suspended = bundle.campaign.suspend.then(|| "the campaign is suspended".to_owned());
        Ok(stopped.map(|reason| format!("the campaign is stopped: {reason}")).or(suspended))
    }

    /// A step, and where a run would fail, if it would there or before it.
    async fn look(
        &self,
        step: &Step,
        traced: &mut Traced,
        reached: &mut Reached,
        broken: &Broken,
    ) -> store::Result<(StepView, Option<String>)> {
        let mut view = self.empty(step);
        if let Some(at) = step.needs.iter().find_map(|need| broken.get(need)) {
            view.note = Some(format!("a run fails at `{at}`"));
            return Ok((view, Some(at.clone())));
        }
        let fault = match self.fault(step).await {
            Ok(None) => match self.step(step, view.clone(), traced, reached).await {
                Err(error) if error.is_fault() => "a rule that it builds on faults, and a run fails here".to_owned(),
                view => return Ok((view?, None)),
            },
            Ok(Some(fault)) => fault,
            Err(error) if error.is_fault() => "a rule that it builds on faults, and a run fails here".to_owned(),
            Err(error) => return Err(error),
        };
        // What its clauses come to for the subject can be told all the same.
        let rows = self.hers(&view.entity, traced, None).await?;
        for row in &rows {
            let (name, is_in) = (self.called(&view.entity, &row.item), false);
            view.rows.push(RowView { row: name, is_in, outputs: vec![], rules: vec![], reason: None, why: None });
        }
        view.total = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let entity = view.entity.clone();
        match self.explain(step, &entity, &rows, &mut view).await {
            Err(error) if error.is_fault() => view.rows.clear(),
            explained => explained?,
        }
        view.note = Some(fault);
        Ok((view, Some(step.name.clone())))
    }

    /// Why a run would fail at a step, whoever's row it is.
    async fn fault(&self, step: &Step) -> store::Result<Option<String>> {
        if self.run.is_some() {
            return Ok(None);
        }
        let input = |name: &str| self.sets.get(name).cloned().unwrap_or_default();
        for RuleFaults { places, select, .. } in
            step.compiled.faults(&self.plan().ground(&self.inputs, self.clock, &input))
        {
            let Some(row) = self.store.fetch_one(Sql::query(&select, self.plan().dialect)?).await? else { continue };
            let place = usize::try_from(row.get::<i64>(0)?).ok().and_then(|place| places.get(place));
            let text = place.map_or("its rule", |place| &place.text);
            return Ok(Some(format!("`{text}` overflows or divides by zero for somebody, and a run fails here")));
        }
        Ok(None)
    }

    fn empty(&self, step: &Step) -> StepView {
        let declared = self.bundle().campaign.steps.iter().find(|declared| *declared.name == *step.name);
        let activity = declared.map_or("", |declared| declared.activity.word()).to_owned();
        let input = step.inputs.first().and_then(|name| self.plan().output(name));
        let entity = match (&step.compiled, input, step.outputs.first()) {
            (Compiled::Audience(audience), ..) => audience.entity.clone(),
            (_, Some(input), _) => input.entity.clone(),
            (_, None, output) => output.map(|output| output.entity.clone()).unwrap_or_default(),
        };
        StepView { step: step.name.clone(), activity, entity, rows: vec![], total: 0, note: None }
    }

    async fn step(
        &self,
        step: &Step,
        mut view: StepView,
        traced: &mut Traced,
        reached: &mut Reached,
    ) -> store::Result<StepView> {
        let entity = view.entity.clone();
        let inputs: Vec<_> = step.inputs.iter().filter_map(|name| self.plan().output(name)).collect();
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
        if let Compiled::Message(message) = &step.compiled {
            view.rows = self.messages(&step.name, message, coming).await?;
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
        let run = self.run.as_ref()?;
        let needed = step.inputs.iter().chain(step.outputs.iter().map(|output| &output.name));
        let is_lost = needed.into_iter().any(|name| !self.sets.contains_key(name));
        let words = match run.state {
            State::Done => "the run's tables are no longer kept",
            _ => "the run has not come here yet",
        };
        is_lost.then(|| words.to_owned())
    }

    /// A compound as one SELECT of the keys.
    pub(super) fn whole(&self, entity: &str, select: SelectStatement) -> store::Result<SelectStatement> {
        let mut whole = Statement::select();
        for name in &self.entity(entity)?.key {
            whole.column(sea_query::Alias::new(name));
        }
        Ok(whole.from_subquery(select, sea_query::Alias::new("c")).to_owned())
    }

    /// The SELECT of the keys of rows.
    pub(super) fn given(&self, entity: &str, rows: &[Row]) -> store::Result<SelectStatement> {
        let lost = || store::Error::Internal(format!("{entity} is not in the dataset"));
        let declared = self.bundle().dataset.entity(entity).ok_or_else(lost)?;
        let items: Vec<String> = rows.iter().map(|row| row.item.clone()).collect();
        Ok(store::entity::keys_given(self.plan().dialect, declared, &items))
    }

    /// How it ends at a channel step.
    fn end(&self, name: &str, steps: &[StepView], reached: &Reached) -> EndView {
        let view = steps.iter().find(|view| view.step == name);
        let rows = view.map_or(&[][..], |view| &view.rows);
        let messages = rows.iter().filter(|row| row.is_in).count();
        let reasons: BTreeSet<String> = rows.iter().filter_map(|row| row.reason.clone()).collect();
        let note = view.and_then(|view| view.note.clone());
        let left_at = if rows.is_empty() && note.is_none() { self.left_at(name, reached) } else { None };
        EndView { step: name.to_owned(), messages, left_at, note, reasons: reasons.into_iter().collect() }
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
            None => {
                let known_as = self.store.known_as(&bundle.namespace, &bundle.names()).await?;
                self.store.runs(&bundle.namespace, &known_as, RUNS_MAX).await?
            }
        };
        let mut fates = vec![];
        for run in runs.iter().filter(|run| run.planned.is_some() && run.retired.is_none()) {
            let mut found = vec![];
            if *subject.entity == *bundle.dataset.profile.entity {
                found = self.store.fates(run, Whose::Profile(&subject.item), FATES_MAX).await?;
            } else {
                for (_, step, message) in self.plan().messages() {
                    let rows = self.hers(&message.entity, traced, None).await?;
                    for row in rows {
                        let of_row = self.store.fates(run, Whose::Item(&row.item), FATES_MAX).await?;
                        found.extend(of_row.into_iter().filter(|fate| fate.step == step));
                    }
                }
            }
            for fate in found {
                let entity = self.plan().message_named(&fate.step).map_or("row", |(_, message)| &*message.entity);
                fates.push(FateView {
                    run: run.name.clone(),
                    row: match fate.address {
                        0 => self.called(entity, &fate.item),
                        device => format!("{}, device {device}", self.called(entity, &fate.item)),
                    },
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
