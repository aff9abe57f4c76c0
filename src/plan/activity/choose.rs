//! `choose`: the whole set goes to the first branch whose condition on counts holds.
//!
//! ```yaml
//! choose:
//!   branches:
//!   - {name: many, when: counts.trips >= 1000}
//!   - {name: some, when: counts.trips > 0 && counts.tiers_gold * 10 > counts.trips}
//!   rest: none
//! ```
//!
//! `counts` has every output of an earlier step; in their names `-` and `.` are `_`. The other branches are empty.

use std::collections::{BTreeMap, BTreeSet};

use sea_query::{Alias, Expr, ExprTrait as _, Query as Statement, SelectStatement};

use super::{Compiled, Ground, Output, Place, Selects, keys_of, subquery};
use crate::{
    api::step,
    plan::Finding,
    rule::{
        FieldType, Query, Rule, Schema, check,
        schema::{Entity, Field, Table},
    },
};

const COUNTS: &str = "counts";
/// What a [`Query`] calls the row that it is over.
const ROW: &str = "t0";

pub struct Choose {
    input: String,
    entity: String,
    cases: Vec<Rule>,
    counts: Schema,
    /// What the conditions count, by the field's name.
    pub counted: BTreeMap<String, String>,
    has_rest: bool,
}

pub fn compile(step: &step::Choose, place: &Place<'_>) -> Result<(Compiled, Vec<Output>), Vec<Finding>> {
    let (input, entity) = place.input()?;
    let names: BTreeMap<String, String> =
        place.earlier.keys().map(|name| (name.replace(['-', '.'], "_"), name.clone())).collect();
    let counts = schema_of(names.keys());
    let (mut cases, mut outputs, mut found) = (vec![], vec![], vec![]);
    let mut counted = BTreeSet::new();
    for (index, case) in step.branches.iter().enumerate() {
        match check(&case.when, &counts, COUNTS, &BTreeMap::new()) {
            Ok(rule) => {
                counted.extend(rule.own_fields());
                cases.push(rule);
            }
            Err(problem) => {
                let path = place.path("choose", &format!("branches[{index}].when"));
                found.extend(Finding::of_problems(place.this, &path, problem));
            }
        }
        let path = format!(".choose.branches[{index}].name");
        outputs.push(Output { is_unused: case.unused, ..Output::part(place.step, &case.name, &entity.name, path) });
    }
    if let Some(rest) = &step.rest {
        outputs.push(Output::part(place.step, rest, &entity.name, ".choose.rest".to_owned()));
    }
    if !found.is_empty() {
        return Err(found);
    }
    let counted = names.into_iter().filter(|(field, _)| counted.contains(field)).collect();
    let (input, entity, has_rest) = (input.to_owned(), entity.name.clone(), step.rest.is_some());
    Ok((Compiled::Choose(Choose { input, entity, cases, counts, counted, has_rest }), outputs))
}

/// One row whose fields are counts.
fn schema_of<'a>(names: impl Iterator<Item = &'a String>) -> Schema {
    let field = |name: &String| Field { name: name.clone(), ty: FieldType::Integer, is_required: true };
    let counts = Entity {
        name: COUNTS.to_owned(),
        key: vec![],
        fields: names.map(field).collect(),
        links: vec![],
        conditions: vec![],
        is_history: false,
        only: vec![],
        table: Table { schema: None, name: COUNTS.to_owned() },
    };
    Schema { entities: BTreeMap::from([(COUNTS.to_owned(), counts)]), ..Schema::default() }
}

impl Choose {
    pub fn rules(&self) -> Vec<(String, &Rule)> {
        let cases = self.cases.iter().enumerate();
        cases.map(|(index, rule)| (format!("choose.branches[{index}].when"), rule)).collect()
    }

    pub fn selects(&self, ground: &Ground<'_>) -> Selects {
        let Some(entity) = ground.schema.entity(&self.entity) else { return Selects::default() };
        let select = |refused: usize| {
            let mut chosen = keys_of(entity, (ground.input)(&self.input));
            chosen.and_where(Expr::exists(self.chosen(ground, refused))).to_owned()
        };
        let outputs = (0..self.cases.len()).map(select).collect();
        Selects::with_rest(outputs, select(self.cases.len()), self.has_rest)
    }

    /// A row if the case behind `refused` others is the first whose condition holds.
    fn chosen(&self, ground: &Ground<'_>, refused: usize) -> SelectStatement {
        let mut counts = Statement::select();
        for (field, output) in &self.counted {
            let mut count = Statement::select();
            count.expr(Expr::cust("count(*)")).from_subquery((ground.input)(output), Alias::new("q"));
            counts.expr_as(subquery(count), Alias::new(field));
        }
        if self.counted.is_empty() {
            counts.expr(Expr::cust("1"));
        }
        let Some(row) = self.counts.entity(COUNTS) else { return counts };
        let mut query = Query::over(&self.counts, row, ground.dialect);
        for rule in &self.cases[..refused] {
            let condition = query.condition(rule, ground.inputs);
            query.filter(Expr::not(condition));
        }
        self.cases.get(refused).into_iter().for_each(|rule| query.restrict(rule, ground.inputs));
        query.column(Expr::cust("1"), "one");
        let mut select = query.finish();
        select.from_clear().from_subquery(counts, Alias::new(ROW)).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{golden, said};

    #[test]
    fn becomes_sql() {
        let step = "- {name: it, unused: true, choose: {branches: [{name: many, when: counts.all >= 1000}, {name: some, when: counts.all > 0}], rest: none}}";
        insta::assert_snapshot!("choose", golden("customer", step));
    }

    #[test]
    fn says_what_is_wrong() {
        let wrong = "- {name: it, unused: true, choose: {branches: [{name: many, when: counts.al >= 1000}, {name: some, when: counts.all}]}}";
        insta::assert_snapshot!("choose_wrong", said("customer", wrong));
    }
}
