//! `split`: each row goes to the first branch whose rule holds.
//!
//! ```yaml
//! split:
//!   branches:
//!   - {name: gold, where: 'booking.customer.tier == "gold"'}
//!   rest: others
//! ```

use std::collections::BTreeMap;

use sea_query::{Expr, ExprTrait};

use super::{Compiled, Ground, Output, Place, RuleFaults, Selects};
use crate::{
    api::step,
    plan::Finding,
    rule::{Query, Rule, check},
};

pub struct Split {
    input: String,
    entity: String,
    branches: Vec<Rule>,
    has_rest: bool,
}

pub fn compile(step: &step::Split, place: &Place<'_>) -> Result<(Compiled, Vec<Output>), Vec<Finding>> {
    let (input, entity) = place.input()?;
    let (mut branches, mut outputs, mut found) = (vec![], vec![], vec![]);
    for (index, branch) in step.branches.iter().enumerate() {
        match check(&branch.rule, place.schema, &entity.name, &BTreeMap::new()) {
            Ok(rule) => branches.push(rule),
            Err(problem) => {
                let path = place.path("split", &format!("branches[{index}].where"));
                found.push(Finding::of_problem(place.this, path, problem));
            }
        }
        outputs.push(Output {
            name: format!("{}.{}", place.step, branch.name),
            entity: entity.name.clone(),
            path: format!(".split.branches[{index}].name"),
            is_unused: branch.unused,
        });
    }
    if let Some(rest) = &step.rest {
        let path = ".split.rest".to_owned();
        outputs.push(Output {
            name: format!("{}.{rest}", place.step),
            entity: entity.name.clone(),
            path,
            is_unused: false,
        });
    }
    if !found.is_empty() {
        return Err(found);
    }
    let split = Split { input: input.to_owned(), entity: entity.name.clone(), branches, has_rest: step.rest.is_some() };
    Ok((Compiled::Split(split), outputs))
}

impl Split {
    pub fn selects(&self, ground: &Ground<'_>) -> Selects {
        let Some(entity) = ground.schema.entity(&self.entity) else { return Selects { outputs: vec![], left: None } };
        // Branch n takes what holds for n and for none before it; the rest is what holds for none.
        let select = |taken: usize| {
            let mut query = Query::over_set(ground.schema, entity, ground.dialect, (ground.input)(&self.input));
            let earlier: Vec<Expr> =
                self.branches[..taken].iter().map(|rule| query.condition(rule, ground.inputs)).collect();
            earlier.into_iter().for_each(|condition| query.filter(Expr::not(condition)));
            if let Some(rule) = self.branches.get(taken) {
                query.restrict(rule, ground.inputs);
            }
            query.keys()
        };
        let mut outputs: Vec<_> = (0..self.branches.len()).map(select).collect();
        let rest = select(self.branches.len());
        if self.has_rest {
            outputs.push(rest);
            return Selects { outputs, left: None };
        }
        Selects { outputs, left: Some(rest) }
    }

    pub fn faults(&self, ground: &Ground<'_>) -> Vec<RuleFaults> {
        let Some(entity) = ground.schema.entity(&self.entity) else { return vec![] };
        let faults = |rule: &Rule| {
            let query = Query::over_set(ground.schema, entity, ground.dialect, (ground.input)(&self.input));
            let (places, select) = query.faults(rule, ground.inputs)?;
            Some(RuleFaults { entity: self.entity.clone(), places, select })
        };
        self.branches.iter().filter_map(faults).collect()
    }
}
