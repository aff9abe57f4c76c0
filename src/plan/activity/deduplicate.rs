//! `deduplicate`: keep the first or last n rows of each group.
//!
//! ```yaml
//! deduplicate: {by: [customer_id], keep: {first: departure}}
//! ```
//!
//! Ties go to the lower key, so that a run and its plan agree. A missing value comes after every other.

use sea_query::{Alias, Expr, ExprTrait, Query as Statement};

use super::{Compiled, Ground, Output, Place, Selects};
use crate::{
    api::step::{self, Keep},
    plan::Finding,
    rule::{Path, Query, check_path},
};

pub struct Deduplicate {
    input: String,
    entity: String,
    by: Vec<Path>,
    order: Path,
    is_last: bool,
    count: i64,
}

pub fn compile(step: &step::Deduplicate, place: &Place<'_>) -> Result<(Compiled, Vec<Output>), Vec<Finding>> {
    let (input, entity) = place.input()?;
    let mut found = vec![];
    let mut path = |text: &str, field: String| match check_path(text, place.schema, &entity.name) {
        Ok(path) if path.is_many => {
            found.push(place.finding("deduplicate", &field, format!("`{text}` leads to many rows")));
            None
        }
        Ok(path) if path.field.is_none() => {
            found.push(place.finding("deduplicate", &field, format!("`{text}` is a row, not a field")));
            None
        }
        Ok(path) => Some(path),
        Err(problem) => {
            found.push(Finding::of_problem(place.this, place.path("deduplicate", &field), problem));
            None
        }
    };
    let by: Vec<Path> = step.by.iter().enumerate().filter_map(|(i, text)| path(text, format!("by[{i}]"))).collect();
    let (text, word) = match &step.keep {
        Keep::First(text) => (text, "first"),
        Keep::Last(text) => (text, "last"),
    };
    let order = path(text, format!("keep.{word}"));
    let Some(order) = order.filter(|_| found.is_empty()) else { return Err(found) };
    let compiled = Deduplicate {
        input: input.to_owned(),
        entity: entity.name.clone(),
        by,
        order,
        is_last: word == "last",
        count: i64::from(step.count),
    };
    let output = Output::of(place.step, &entity.name);
    Ok((Compiled::Deduplicate(compiled), vec![output]))
}

impl Deduplicate {
    pub fn selects(&self, ground: &Ground<'_>) -> Selects {
        let Some(entity) = ground.schema.entity(&self.entity) else { return Selects { outputs: vec![], left: None } };
        let mut query = Query::over_set(ground.schema, entity, ground.dialect, (ground.input)(&self.input));
        let by: Vec<Expr> = self.by.iter().map(|path| query.path(path)).collect();
        let order = query.path(&self.order);
        let key = query.key();
        let marks = |n: usize| vec!["?"; n].join(", ");
        let template = format!(
            "row_number() OVER (PARTITION BY {} ORDER BY ? {} NULLS LAST, {})",
            marks(by.len()),
            if self.is_last { "DESC" } else { "ASC" },
            marks(key.len())
        );
        let rank = query.custom(&template, by.into_iter().chain([order]).chain(key));
        query.column(rank, "rank_no");
        let ranked = query.keys();
        let mut select = Statement::select();
        for name in &entity.key {
            select.column(Alias::new(name));
        }
        select.from_subquery(ranked, Alias::new("r")).and_where(Expr::col(Alias::new("rank_no")).lte(self.count));
        Selects::one(select)
    }
}
