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
        Ok(Some(Fault { place, row })) => store::Error::Refused(format!("{place} for {row}")),
        _ => error,
    }
}

/// Where a rule faulted, and for which row.
pub struct Fault {
    /// The step, the part of the rule and what is wrong with it.
    pub place: String,
    /// The entity and the key: nothing for a page that others see.
    pub row: String,
}

/// # Errors
/// Of the store.
pub async fn find(store: &Store, plan: &Plan, inputs: &Inputs) -> store::Result<Option<Fault>> {
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
            let text = &place.text;
            let place = format!("step `{}`: `{text}` ({}:{} of the rule) {what}", step.name, place.line, place.column);
            return Ok(Some(Fault { place, row: format!("{entity} {}", key.join(", ")) }));
        }
    }
    Ok(None)
}
