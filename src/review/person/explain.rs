//! Why a row goes on at a step, or does not: the rules that were asked, with their clauses, and what else decides.

use std::collections::BTreeMap;

use super::{Row, RuleView, StepView, Truth, Walker};
use crate::{
    plan::{
        Step,
        activity::{Compiled, Source},
    },
    rule::{Inputs, Param, Query, Rule, clause::Clause},
    store,
};

/// How deep audiences that are made of others are explained.
const AUDIENCES_DEEP: usize = 6;

impl Walker<'_> {
    pub(super) async fn explain(
        &self,
        step: &Step,
        entity: &str,
        rows: &[Row],
        view: &mut StepView,
    ) -> store::Result<()> {
        match &step.compiled {
            Compiled::Audience(audience) => {
                let rules = match &audience.source {
                    Source::Named(name, own) => self.audience(name, own, entity, rows, 0).await?,
                    Source::Rule(rule) => self.rule("where", entity, rows, rule, &self.inputs, 0).await?,
                };
                put(view, rules);
            }
            Compiled::Unconfirmed(_) => leave(view, "nothing that she asked for waits for her yes, or she was asked"),
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
            Compiled::Enrich(_) | Compiled::SaveAudience(_) | Compiled::Join(_) | Compiled::Message(_) => {}
        }
        Ok(())
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
        rule: &Rule,
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
                is_in: clause.truth == Truth::True,
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
        let found = match self.rows(entity, query.keys()).await {
            // Whether a row is in it is known by its clauses, though a run fails.
            Err(error) if error.is_fault() => None,
            found => Some(found?),
        };
        let known = self.store.audience(&self.bundle().namespace, name).await?;
        let is_kept = sets.get(name).is_some_and(|set| !set.is_on_demand());
        let note = match (&known.outside, is_kept) {
            (Some(why), _) => Some(format!("runs are held: it is outside its guard, {why}")),
            (None, true) => Some(known.last.map_or_else(
                || "it has not been filled yet".to_owned(),
                |last| format!("as it was kept at {:.0}", last.at),
            )),
            (None, false) => None,
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
            view.is_in = found.as_ref().map_or(view.is_in, |found| found.contains(row));
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

fn audiences_of(clause: &Clause) -> Vec<String> {
    let mut found = clause.audiences.clone();
    for name in clause.parts.iter().flat_map(audiences_of) {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}
