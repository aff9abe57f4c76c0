//! Which rows of the entities on a campaign's way are the subject's: as its steps lead from one to another, or as the one
//! path of to-one links does.

use std::collections::{BTreeMap, BTreeSet};

use sea_query::SelectStatement;

use super::{Subject, Walker};
use crate::{
    plan::{
        Step,
        activity::{Compiled, only_way},
    },
    rule::{Path, Query},
};

/// The subject's rows.
pub(super) struct Traced {
    /// By entity, the SELECT of their keys.
    pub sets: BTreeMap<String, SelectStatement>,
    /// The entities to which steps lead from the subject, and not back to it: of these, only what is really reached counts.
    ahead: BTreeSet<String>,
}

impl Walker<'_> {
    pub(super) fn trace(&self, subject: &Subject) -> Traced {
        let own = subject.select(&self.bundle().dataset, self.plan().dialect);
        let sets = BTreeMap::from([(subject.entity.clone(), own)]);
        let mut traced = Traced { sets, ahead: BTreeSet::new() };
        // Each turn reaches another entity.
        while self.follow_steps(&mut traced) {}
        let entities: Vec<&String> = self.plan().steps.iter().flat_map(|s| &s.outputs).map(|o| &o.entity).collect();
        for entity in entities {
            if !traced.sets.contains_key(entity)
                && let Some(set) = self.by_links(subject, entity, &traced)
            {
                traced.sets.insert(entity.clone(), set);
            }
        }
        traced
    }

    /// Narrows what a step leads to, to what `coming` leads to: the subject's rows that really come to the step.
    pub(super) fn narrow(&self, step: &Step, coming: &SelectStatement, traced: &mut Traced) {
        let found = match &step.compiled {
            Compiled::ChangeEntity(change) if traced.ahead.contains(&change.path.entity) => {
                self.forward(&change.entity, &change.path, coming).map(|set| (change.path.entity.clone(), set))
            }
            Compiled::Match(matching) if traced.ahead.contains(&matching.to) => {
                self.matched(step, coming).map(|set| (matching.to.clone(), set))
            }
            _ => None,
        };
        traced.sets.extend(found);
    }

    fn matched(&self, step: &Step, set: &SelectStatement) -> Option<SelectStatement> {
        let input = |_: &str| set.clone();
        let made = step.compiled.selects(&self.plan().ground(&self.inputs, self.clock, &input));
        made.outputs.into_iter().next()
    }

    /// One entity further along a step; whether there was one.
    fn follow_steps(&self, traced: &mut Traced) -> bool {
        let profile = &*self.bundle().dataset.profile.entity;
        for step in &self.plan().steps {
            let (from, to, path) = match &step.compiled {
                Compiled::ChangeEntity(change) => (&*change.entity, &*change.path.entity, Some(&change.path)),
                Compiled::Match(matching) => (&*matching.entity, &*matching.to, None),
                Compiled::Message(message) => (&*message.entity, profile, Some(&message.recipient)),
                _ => continue,
            };
            let is_ahead = traced.sets.contains_key(from) && !matches!(step.compiled, Compiled::Message(_));
            let found = match (traced.sets.get(from), traced.sets.get(to), path) {
                (Some(set), None, Some(path)) => self.forward(from, path, set).map(|found| (to, found)),
                (None, Some(set), Some(path)) => self.back(from, path, set).map(|found| (from, found)),
                (Some(set), None, None) => self.matched(step, set).map(|found| (to, found)),
                (None, Some(set), None) => {
                    let Compiled::Match(matching) = &step.compiled else { continue };
                    let none = |_: &str| SelectStatement::new();
                    let ground = self.plan().ground(&self.inputs, self.clock, &none);
                    matching.matching(&ground, set.clone()).map(|found| (from, found))
                }
                _ => continue,
            };
            if let Some((entity, set)) = found {
                traced.sets.insert(entity.to_owned(), set);
                if is_ahead {
                    traced.ahead.insert(entity.to_owned());
                }
                return true;
            }
        }
        false
    }

    fn forward(&self, from: &str, path: &Path, set: &SelectStatement) -> Option<SelectStatement> {
        let entity = self.schema().entity(from)?;
        Some(Query::over_set(self.schema(), entity, self.plan().dialect, set.clone()).reached(path))
    }

    fn back(&self, from: &str, path: &Path, set: &SelectStatement) -> Option<SelectStatement> {
        let entity = self.schema().entity(from)?;
        Some(Query::over(self.schema(), entity, self.plan().dialect).leading(path, set.clone()))
    }

    /// By the one path of to-one links from the entity to the subject, or from the subject to the entity.
    fn by_links(&self, subject: &Subject, entity: &str, traced: &Traced) -> Option<SelectStatement> {
        let own = traced.sets.get(&subject.entity)?;
        if let Some(path) = only_way(self.schema(), entity, &subject.entity) {
            return self.back(entity, &path, own);
        }
        let path = only_way(self.schema(), &subject.entity, entity)?;
        self.forward(&subject.entity, &path, own)
    }
}
