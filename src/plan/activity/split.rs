//! `split`: each row goes to the first branch that takes it.
//!
//! ```yaml
//! split:
//!   branches:
//!   - {name: gold, where: 'booking.customer.tier == "gold"', atMost: 10%, keep: {first: booking.departure}}
//!   - {name: test, atMost: 500}
//!   rest: others
//! ```
//!
//! A percent is of the step's input, rounded down. What is above a branch's limit goes on to the next branches. With
//! `overlap: true` each branch takes from all rows, and `rest` has those that no branch took.

use std::collections::BTreeMap;

use sea_query::{Alias, Expr, ExprTrait, SelectStatement};

use super::{Compiled, Ground, Output, Place, RuleFaults, Selects, keys_of, order::Order};
use crate::{
    api::step::{self, Share},
    plan::Finding,
    rule::{Query, Rule, check, schema::Entity},
};

pub struct Split {
    input: String,
    entity: String,
    branches: Vec<Branch>,
    overlaps: bool,
    has_rest: bool,
}

struct Branch {
    rule: Option<Rule>,
    limit: Option<(Share, Order)>,
}

pub fn compile(step: &step::Split, place: &Place<'_>) -> Result<(Compiled, Vec<Output>), Vec<Finding>> {
    let (input, entity) = place.input()?;
    let (mut branches, mut outputs, mut found) = (vec![], vec![], vec![]);
    for (index, branch) in step.branches.iter().enumerate() {
        let rule = branch.rule.as_ref().map(|rule| check(rule, place.schema, &entity.name, &BTreeMap::new()));
        let rule = rule.transpose().map_err(|problem| {
            let path = place.path("split", &format!("branches[{index}].where"));
            Finding::of_problems(place.this, &path, problem)
        });
        let order = match &branch.keep {
            Some(keep) => Order::compile(keep, place, entity, "split", &format!("branches[{index}].keep")),
            // The same people in every run, and whoever a branch passes on is drawn by the next one.
            None => Ok(Order::Random { seed: format!("{}/{}", place.bundle.name, place.step) }),
        };
        match (rule, order) {
            (Ok(rule), Ok(order)) => branches.push(Branch { rule, limit: branch.at_most.map(|share| (share, order)) }),
            (rule, order) => found.extend(rule.err().into_iter().flatten().chain(order.err())),
        }
        let path = format!(".split.branches[{index}].name");
        outputs.push(Output { is_unused: branch.unused, ..Output::part(place.step, &branch.name, &entity.name, path) });
    }
    if let Some(rest) = &step.rest {
        outputs.push(Output::part(place.step, rest, &entity.name, ".split.rest".to_owned()));
    }
    if !found.is_empty() {
        return Err(found);
    }
    let (input, entity) = (input.to_owned(), entity.name.clone());
    let split = Split { input, entity, branches, overlaps: step.overlap, has_rest: step.rest.is_some() };
    Ok((Compiled::Split(split), outputs))
}

impl Split {
    pub fn rules(&self) -> Vec<(String, &Rule)> {
        let rules = self.branches.iter().enumerate();
        let rules = rules.filter_map(|(index, branch)| Some((index, branch.rule.as_ref()?)));
        rules.map(|(index, rule)| (format!("split.branches[{index}].where"), rule)).collect()
    }

    /// Of each branch its rule, and whether only so many rows are taken.
    pub fn branches(&self) -> impl Iterator<Item = (Option<&Rule>, bool)> {
        self.branches.iter().map(|branch| (branch.rule.as_ref(), branch.limit.is_some()))
    }

    pub fn selects(&self, ground: &Ground<'_>) -> Selects {
        let Some(entity) = ground.schema.entity(&self.entity) else { return Selects::default() };
        let is_limited = self.branches.iter().any(|branch| branch.limit.is_some());
        let (outputs, rest) = if is_limited { self.drawn(ground, entity) } else { self.by_rules(ground, entity) };
        Selects::with_rest(outputs, rest, self.has_rest)
    }

    pub fn faults(&self, ground: &Ground<'_>) -> Vec<RuleFaults> {
        let Some(entity) = ground.schema.entity(&self.entity) else { return vec![] };
        let faults = |rule: &Rule| {
            let query = Query::over_set(ground.schema, entity, ground.dialect, (ground.input)(&self.input));
            let (places, select) = query.faults(rule, ground.inputs)?;
            Some(RuleFaults { entity: self.entity.clone(), places, select })
        };
        self.branches.iter().filter_map(|branch| branch.rule.as_ref()).filter_map(faults).collect()
    }

    /// Without limits: branch n takes what holds for n and, unless branches overlap, for none before it.
    fn by_rules(&self, ground: &Ground<'_>, entity: &Entity) -> (Vec<SelectStatement>, SelectStatement) {
        let select = |refused: usize, taken: Option<&Branch>| {
            let mut query = Query::over_set(ground.schema, entity, ground.dialect, (ground.input)(&self.input));
            for rule in self.branches[..refused].iter().filter_map(|branch| branch.rule.as_ref()) {
                let condition = query.condition(rule, ground.inputs);
                query.filter(Expr::not(condition));
            }
            taken
                .and_then(|branch| branch.rule.as_ref())
                .into_iter()
                .for_each(|rule| query.restrict(rule, ground.inputs));
            query.keys()
        };
        let refused = |index| if self.overlaps { 0 } else { index };
        let outputs = self.branches.iter().enumerate().map(|(i, branch)| select(refused(i), Some(branch))).collect();
        (outputs, select(self.branches.len(), None))
    }

    /// With limits the branches take turns, each over what the turn before has left: one SELECT around another.
    fn drawn(&self, ground: &Ground<'_>, entity: &Entity) -> (Vec<SelectStatement>, SelectStatement) {
        let mut turn = self.marked(ground, entity);
        let mut outputs = vec![];
        for (index, branch) in self.branches.iter().enumerate() {
            turn = self.turn(ground, entity, turn, index, branch);
            let taken = Expr::col(Alias::new(taken(index)));
            outputs.push(keys_of(entity, turn.clone()).and_where(taken.eq(1)).to_owned());
        }
        let none = (0..self.branches.len()).map(|index| Expr::col(Alias::new(taken(index))).eq(0));
        let mut rest = keys_of(entity, turn);
        none.for_each(|condition| {
            rest.and_where(condition);
        });
        (outputs, rest)
    }

    /// Every row of the input with what the turns need: whether each rule holds, each draw's order, and how many rows there are.
    fn marked(&self, ground: &Ground<'_>, entity: &Entity) -> SelectStatement {
        let mut query = Query::over_set(ground.schema, entity, ground.dialect, (ground.input)(&self.input));
        for (index, branch) in self.branches.iter().enumerate() {
            if let Some(rule) = &branch.rule {
                let condition = query.condition(rule, ground.inputs);
                let holds = query.custom("CASE WHEN ? THEN 1 ELSE 0 END", [condition]);
                query.column(holds, &format!("holds_{index}"));
            }
            if let Some((_, order)) = &branch.limit {
                let (terms, parts) = order.terms(&mut query, entity);
                let place = query.custom(&format!("row_number() OVER (ORDER BY {terms})"), parts);
                query.column(place, &format!("place_{index}"));
            }
        }
        let all = query.custom("count(*) OVER ()", []);
        query.column(all, "all_rows");
        query.keys()
    }

    /// `from` with a column more: 1 for the rows that branch `index` takes, else 0.
    fn turn(
        &self,
        ground: &Ground<'_>,
        entity: &Entity,
        from: SelectStatement,
        index: usize,
        branch: &Branch,
    ) -> SelectStatement {
        let column = |name: String| Expr::col(Alias::new(name));
        let mut eligible: Vec<Expr> = branch.rule.iter().map(|_| column(format!("holds_{index}")).eq(1)).collect();
        if !self.overlaps {
            eligible.extend((0..index).map(|earlier| column(taken(earlier)).eq(0)));
        }
        let eligible = eligible.into_iter().reduce(ExprTrait::and).unwrap_or_else(|| Expr::cust("TRUE"));
        let mut select = sea_query::Query::select();
        for name in &entity.key {
            select.column(Alias::new(name));
        }
        select.column(Alias::new("all_rows"));
        for (later, branch) in self.branches.iter().enumerate().skip(index + 1) {
            if branch.rule.is_some() {
                select.column(Alias::new(format!("holds_{later}")));
            }
            if branch.limit.is_some() {
                select.column(Alias::new(format!("place_{later}")));
            }
        }
        select.columns((0..index).map(|earlier| Alias::new(taken(earlier))));
        let custom = |template: &str, parts: Vec<Expr>| {
            Query::over(ground.schema, entity, ground.dialect).custom(template, parts)
        };
        let takes = match &branch.limit {
            None => custom("CASE WHEN ? THEN 1 ELSE 0 END", vec![eligible]),
            Some((share, _)) => {
                let limit = match share {
                    Share::Rows(rows) => Expr::val(i64::from(*rows)),
                    Share::Millionths(n) => custom("all_rows * ? / 1000000", vec![Expr::val(i64::from(*n))]),
                };
                let place = column(format!("place_{index}"));
                custom(
                    "CASE WHEN ? AND row_number() OVER (PARTITION BY CASE WHEN ? THEN 1 ELSE 0 END ORDER BY ?) <= ? THEN 1 ELSE 0 END",
                    vec![eligible.clone(), eligible, place, limit],
                )
            }
        };
        select.expr_as(takes, Alias::new(taken(index))).from_subquery(from, Alias::new("q")).to_owned()
    }
}

fn taken(index: usize) -> String {
    format!("taken_{index}")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{golden, said};

    #[test]
    fn becomes_sql() {
        let plain = "- {name: it, unused: true, split: {branches: [{name: big, where: order.total > 9.5}, {name: paid, where: order.paid}], rest: others}}";
        insta::assert_snapshot!("split_by_rules", golden("order", plain));
        let overlap = "- {name: it, unused: true, split: {overlap: true, branches: [{name: big, where: order.total > 9.5}, {name: paid, where: order.paid}]}}";
        insta::assert_snapshot!("split_overlapping", golden("order", overlap));
        let limits = "- {name: it, unused: true, split: {branches: [{name: big, where: order.total > 9.5, atMost: 12.5%, \
                      keep: {last: updated_at}}, {name: some, atMost: 500}, {name: paid, where: order.paid}], rest: others}}";
        insta::assert_snapshot!("split_with_limits", golden("order", limits));
    }

    #[test]
    fn says_what_is_wrong() {
        let wrong = "- {name: it, unused: true, split: {branches: [{name: big, where: order.totl > 9.5}, {name: some, atMost: 5, keep: {first: customer}}]}}";
        insta::assert_snapshot!("split_wrong", said("order", wrong));
        let twice = "- {name: it, unused: true, split: {branches: [{name: big, atMost: 5}], rest: big}}";
        insta::assert_snapshot!("split_wrong_2", said("order", twice));
    }
}
