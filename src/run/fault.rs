//! After a rule faulted: in which step, at which place of its text, and for which row.
//!
//! The rules of the run's steps are asked in their order, over the same SELECTs chained without work tables, and only
//! after a failure; a run that does not fault pays nothing for it.

use sea_query::Query;

use crate::{
    plan::{Plan, activity::RuleFaults},
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
    let sets = plan.chained(inputs, inputs.now);
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
    }
    Ok(None)
}
