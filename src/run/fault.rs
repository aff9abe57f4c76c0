//! After a rule faulted: in which step, at which place of its text, and for which row.
//!
//! The rules of the run's steps are asked in their order, over the same SELECTs chained without work tables, and only
//! after a failure; a run that does not fault pays nothing for it.

use std::collections::BTreeMap;

use sea_query::{Query, SelectStatement};

use crate::{
    plan::{
        Plan,
        activity::{RuleFaults, keys_of},
    },
    rule::Inputs,
    store::{self, Sql, Store},
};

/// The fault in words; `error` itself where no rule admits it.
pub async fn explain(store: &Store, plan: &Plan, inputs: &Inputs, error: store::Error) -> store::Error {
    match find(store, plan, inputs).await {
        Ok(Some(words)) => store::Error::Refused(words),
        _ => error,
    }
}

async fn find(store: &Store, plan: &Plan, inputs: &Inputs) -> store::Result<Option<String>> {
    let mut sets = BTreeMap::<String, SelectStatement>::new();
    for step in &plan.steps {
        let input = |name: &str| sets.get(name).cloned().unwrap_or_else(Query::select);
        let found = step.compiled.faults(&plan.ground(inputs, inputs.now, &input));
        for RuleFaults { entity, places, select } in found {
            let Some(row) = store.fetch_one(Sql::query(&select, plan.dialect)?).await? else { continue };
            let index = usize::try_from(row.get::<i64>(0)?).unwrap_or(0);
            let keys = plan.schema.entity(&entity).map_or(1, |e| e.key.len());
            let key: Vec<String> = (1..=keys).map(|at| row.get(at)).collect::<store::Result<_>>()?;
            let Some(place) = places.get(index) else { continue };
            let what = if place.is_division { "divides by zero or overflows" } else { "overflows" };
            return Ok(Some(format!(
                "step `{}`: `{}` ({}:{} of the rule) {what} for {entity} {}",
                step.name,
                place.text,
                place.line,
                place.column,
                key.join(", ")
            )));
        }
        let input = |name: &str| sets.get(name).cloned().unwrap_or_else(Query::select);
        let made = step.compiled.selects(&plan.ground(inputs, inputs.now, &input)).outputs;
        let keys = step.outputs.iter().zip(made).filter_map(|(output, select)| {
            let entity = plan.schema.entity(&output.entity)?;
            Some((output.name.clone(), keys_of(entity, select)))
        });
        sets.extend(keys.collect::<Vec<_>>());
    }
    Ok(None)
}
