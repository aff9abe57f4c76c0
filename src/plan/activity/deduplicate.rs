//! `deduplicate`: keep the first n rows of each group.
//!
//! ```yaml
//! deduplicate: {by: [customer_id], keep: {first: departure}}
//! deduplicate: {by: [customer_id], keep: {prefer: {field: status, values: [gold, silver]}}, count: 2, rest: others}
//! deduplicate: {by: [address_id], keep: {random: {seed: spring}}}
//! ```
//!
//! Ties go to the lower key, so that a run and its plan agree. A missing value comes after every other.

use sea_query::{Alias, Expr, ExprTrait};

use super::{Compiled, Ground, Output, Place, Selects, keys_of, order::Order};
use crate::{
    api::step,
    plan::Finding,
    rule::{Path, Query},
};

pub struct Deduplicate {
    input: String,
    entity: String,
    by: Vec<Path>,
    order: Order,
    count: i64,
    has_rest: bool,
}

pub fn compile(step: &step::Deduplicate, place: &Place<'_>) -> Result<(Compiled, Vec<Output>), Vec<Finding>> {
    let (input, entity) = place.input()?;
    let (mut by, mut found) = (vec![], vec![]);
    for (index, text) in step.by.iter().enumerate() {
        match place.one_field(text, &entity.name, "deduplicate", &format!("by[{index}]")) {
            Ok((path, _)) => by.push(path),
            Err(finding) => found.push(finding),
        }
    }
    let order = Order::compile(&step.keep, place, entity, "deduplicate", "keep");
    let order = match order {
        Ok(order) if found.is_empty() => order,
        other => {
            found.extend(other.err());
            return Err(found);
        }
    };
    let compiled = Deduplicate {
        input: input.to_owned(),
        entity: entity.name.clone(),
        by,
        order,
        count: i64::from(step.count),
        has_rest: step.rest.is_some(),
    };
    let outputs = Output::with_rest(place, &entity.name, step.rest.as_ref(), "deduplicate", &entity.name);
    Ok((Compiled::Deduplicate(compiled), outputs))
}

impl Deduplicate {
    pub fn selects(&self, ground: &Ground<'_>) -> Selects {
        let Some(entity) = ground.schema.entity(&self.entity) else { return Selects::default() };
        let mut query = Query::over_set(ground.schema, entity, ground.dialect, (ground.input)(&self.input));
        let by: Vec<Expr> = self.by.iter().map(|path| query.path(path)).collect();
        let (terms, order) = self.order.terms(&mut query, entity);
        let template = format!("row_number() OVER (PARTITION BY {} ORDER BY {terms})", vec!["?"; by.len()].join(", "));
        let rank = query.custom(&template, by.into_iter().chain(order));
        query.column(rank, "rank_no");
        let ranked = query.keys();
        let rank = || Expr::col(Alias::new("rank_no"));
        let kept = keys_of(entity, ranked.clone()).and_where(rank().lte(self.count)).to_owned();
        let rest = keys_of(entity, ranked).and_where(rank().gt(self.count)).to_owned();
        Selects::with_rest(vec![kept], rest, self.has_rest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{golden, said};

    #[test]
    fn becomes_sql() {
        let first = "- {name: it, unused: true, deduplicate: {by: [order.customer_id], keep: {first: updated_at}}}";
        insta::assert_snapshot!("deduplicate_first", golden("order", first));
        let prefer = "- {name: it, unused: true, deduplicate: {by: [customer_id], count: 2, rest: others, \
                      keep: {prefer: {field: order.customer.tier, values: [gold, silver]}}}}";
        insta::assert_snapshot!("deduplicate_prefer", golden("order", prefer));
        let random = "- {name: it, unused: true, deduplicate: {by: [customer_id], keep: {random: {seed: spring}}}}";
        insta::assert_snapshot!("deduplicate_random", golden("order", random));
    }

    #[test]
    fn says_what_is_wrong() {
        let wrong = "- {name: it, unused: true, deduplicate: {by: [order.custmer_id], keep: {prefer: {field: order.paid, values: [1]}}}}";
        insta::assert_snapshot!("deduplicate_wrong", said("order", wrong));
    }
}
