//! Activities: one file each, always in this order: what can be wrong, what it becomes.
//!
//! An activity knows no database handle: SQL is a value here. The fields that an author writes are in
//! [`crate::api::step`]; every output is one SELECT of the key columns of its
//! entity, and what a step leaves out is another: counted, or an output of its own where `rest` names it.

mod audience;
mod change_entity;
mod choose;
mod combine;
mod deduplicate;
mod enrich;
mod incremental;
mod join;
mod matching;
mod message;
mod order;
mod save_audience;
mod split;
#[cfg(test)]
mod tests;
mod unconfirmed;
mod wait;

use std::collections::BTreeMap;

use jiff::Timestamp;
use sea_query::{Alias, Expr, Query as Statement, SelectStatement, SubQueryStatement};

pub use audience::Source;
pub use enrich::{Enrich, Enriched, Kind};
pub use incremental::Incremental;
pub use message::{only_way, ways};
pub use save_audience::SaveAudience;
pub use unconfirmed::{Asking, Unconfirmed};
pub use wait::Wait;

use super::{Bundle, Finding, MISSING_REFERENCE, Ref, audience::Sets, message::MessagePlan};
use crate::{
    api::{medium::Medium, name::Label, step::Activity},
    rule::{Dialect, FaultPlace, FieldType, Inputs, Param, Path, Rule, Schema, check_path, schema::Entity},
};

/// Where an activity stands.
pub struct Place<'a> {
    pub this: &'a Ref,
    pub bundle: &'a Bundle,
    pub schema: &'a Schema,
    pub index: usize,
    pub step: &'a str,
    /// The outputs it reads.
    pub inputs: &'a [Output],
    /// All outputs of earlier steps by name.
    pub earlier: &'a BTreeMap<String, Output>,
}

impl Place<'_> {
    /// The path of one of the activity's fields.
    fn path(&self, word: &str, field: &str) -> String {
        format!("spec.steps[{}].{word}.{field}", self.index)
    }

    fn finding(&self, word: &str, field: &str, message: impl Into<String>) -> Finding {
        Finding::new(self.this, self.path(word, field), message)
    }

    /// What was named and not gathered; [`Bundle`] says that, too.
    fn lost(&self, word: &str, field: &str, kind: &str, name: &str) -> Finding {
        let finding = self.finding(word, field, format!("there is no {kind} `{name}`")).id(MISSING_REFERENCE);
        Finding { is_missing_reference: true, ..finding }
    }

    /// The one set that the activity works on.
    fn input(&self) -> Result<(&str, &Entity), Vec<Finding>> {
        let wrong = || vec![Finding::new(self.this, format!("spec.steps[{}]", self.index), "the step has no input")];
        let input = self.inputs.first().ok_or_else(wrong)?;
        Ok((&input.name, self.schema.entity(&input.entity).ok_or_else(wrong)?))
    }

    /// A field that each row of `entity` has one of.
    fn one_field(&self, text: &str, entity: &str, word: &str, field: &str) -> Result<(Path, FieldType), Finding> {
        let path = check_path(text, self.schema, entity)
            .map_err(|problem| Finding::of_problem(self.this, self.path(word, field), problem))?;
        match path.field_type(self.schema) {
            _ if path.is_many => Err(self.finding(word, field, format!("`{text}` leads to many rows"))),
            None => Err(self.finding(word, field, format!("`{text}` is a row, not a field"))),
            Some(ty) => Ok((path, ty)),
        }
    }
}

/// A set that later steps may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// `step`, or `step.branch`.
    pub name: String,
    pub entity: String,
    /// Where in the step it is declared.
    pub path: String,
    pub is_unused: bool,
    /// What its rows carry beside their keys, for templates.
    pub columns: Vec<(String, FieldType)>,
    /// What `enrich` steps added on the way.
    pub enriched: Vec<Enriched>,
    /// What its people are to confirm.
    pub asking: Option<Asking>,
}

impl Output {
    fn of(step: &str, entity: &str) -> Self {
        let path = ".name".to_owned();
        Self {
            name: step.to_owned(),
            entity: entity.to_owned(),
            path,
            is_unused: false,
            columns: vec![],
            enriched: vec![],
            asking: None,
        }
    }

    /// The output `step.part`, declared at `path` of the step.
    fn part(step: &str, part: &str, entity: &str, path: String) -> Self {
        Self { name: format!("{step}.{part}"), path, ..Self::of(step, entity) }
    }

    /// The step's own output, and that of what it leaves out, if it is named.
    fn with_rest(place: &Place<'_>, entity: &str, rest: Option<&Label>, word: &str, rest_entity: &str) -> Vec<Self> {
        let rest = rest.map(|name| Self::part(place.step, name, rest_entity, format!(".{word}.rest")));
        [Self::of(place.step, entity)].into_iter().chain(rest).collect()
    }
}

/// A compiled activity.
pub enum Compiled {
    Audience(audience::Audience),
    Unconfirmed(Unconfirmed),
    Incremental(Incremental),
    Match(matching::Match),
    ChangeEntity(change_entity::ChangeEntity),
    Combine(combine::Combine),
    Deduplicate(deduplicate::Deduplicate),
    Split(split::Split),
    Enrich(Enrich),
    SaveAudience(SaveAudience),
    Choose(choose::Choose),
    Wait(Wait),
    Join(join::Join),
    Message(Box<MessagePlan>),
}

/// What SELECTs are made on.
pub struct Ground<'a> {
    pub schema: &'a Schema,
    pub dialect: Dialect,
    pub sets: &'a Sets,
    pub inputs: &'a Inputs,
    /// The running clock, for windows; rules have a `now` of their own.
    pub now: Timestamp,
    /// The SELECT of the keys of an earlier output.
    pub input: &'a dyn Fn(&str) -> SelectStatement,
}

/// The SELECT of each output in their order, and of the rows that the step leaves out where no output has them.
#[derive(Default)]
pub struct Selects {
    pub outputs: Vec<SelectStatement>,
    pub left: Option<SelectStatement>,
}

impl Selects {
    fn one(select: SelectStatement) -> Self {
        Self { outputs: vec![select], left: None }
    }

    /// What is left out becomes the last output, or is only counted.
    fn with_rest(mut outputs: Vec<SelectStatement>, rest: SelectStatement, has_rest: bool) -> Self {
        if has_rest {
            outputs.push(rest);
            return Self { outputs, left: None };
        }
        Self { outputs, left: Some(rest) }
    }
}

/// A SELECT of the key columns of `from`, which has them.
pub fn keys_of(entity: &Entity, from: SelectStatement) -> SelectStatement {
    let mut select = Statement::select();
    for name in &entity.key {
        select.column(Alias::new(name));
    }
    select.from_subquery(from, Alias::new("q")).to_owned()
}

fn subquery(select: SelectStatement) -> Expr {
    Expr::SubQuery(None, Box::new(SubQueryStatement::SelectStatement(select)))
}

/// What finds a fault of a rule: the places it can be at, and the SELECT of the place's number and the row's key.
pub struct RuleFaults {
    pub entity: String,
    pub places: Vec<FaultPlace>,
    pub select: SelectStatement,
}

/// The rules that an activity holds, each with its path in the step: they may ask about audiences.
pub fn rules_of(activity: &Activity) -> Vec<(String, &str)> {
    match activity {
        Activity::Audience(step) => step.rule.iter().map(|rule| ("audience.where".to_owned(), rule.as_str())).collect(),
        Activity::Split(step) => {
            let branches = step.branches.iter().enumerate();
            let rules = branches.filter_map(|(index, branch)| Some((index, branch.rule.as_deref()?)));
            rules.map(|(index, rule)| (format!("split.branches[{index}].where"), rule)).collect()
        }
        Activity::Enrich(step) => {
            step.aggregate.iter().map(|rule| ("enrich.aggregate".to_owned(), rule.as_str())).collect()
        }
        _ => vec![],
    }
}

/// A named audience as a step of its own name.
pub(super) fn named_audience(name: &str, entity: &str, own: BTreeMap<String, Param>) -> (Compiled, Output) {
    (Compiled::Audience(audience::Audience::named(name, entity, own)), Output::of(name, entity))
}

/// Checks an activity where it stands.
pub fn compile(activity: &Activity, place: &Place<'_>) -> Result<(Compiled, Vec<Output>), Vec<Finding>> {
    match activity {
        Activity::Audience(step) => audience::compile(step, place),
        Activity::Unconfirmed(step) => unconfirmed::compile(step, place),
        Activity::Incremental(step) => incremental::compile(step, place),
        Activity::Match(step) => matching::compile(step, place),
        Activity::ChangeEntity(step) => change_entity::compile(step, place),
        Activity::Union(_) => combine::compile(combine::Kind::Union, "union", None, place),
        Activity::Intersect(step) => combine::compile(combine::Kind::Intersect, "intersect", step.rest.as_ref(), place),
        Activity::Subtract(step) => combine::compile(combine::Kind::Subtract, "subtract", step.rest.as_ref(), place),
        Activity::Deduplicate(step) => deduplicate::compile(step, place),
        Activity::Split(step) => split::compile(step, place),
        Activity::Enrich(step) => enrich::compile(step, place),
        Activity::SaveAudience(step) => save_audience::compile(step, place),
        Activity::Choose(step) => choose::compile(step, place),
        Activity::Wait(step) => wait::compile(step, place),
        Activity::Join(_) => join::compile(place),
        Activity::Email(step) => message::compile(Medium::Email, step, place),
        Activity::Sms(step) => message::compile(Medium::Sms, step, place),
        Activity::Push(step) => message::compile(Medium::Push, step, place),
        Activity::DirectMail(step) => message::compile(Medium::Postal, step, place),
        Activity::Http(step) => message::compile(Medium::Http, step, place),
    }
}

impl Compiled {
    pub fn selects(&self, ground: &Ground<'_>) -> Selects {
        match self {
            Self::Audience(audience) => audience.selects(ground),
            Self::Unconfirmed(unconfirmed) => unconfirmed.selects(ground),
            Self::Incremental(incremental) => incremental.selects(ground),
            Self::Match(matching) => matching.selects(ground),
            Self::ChangeEntity(change) => change.selects(ground),
            Self::Combine(combine) => combine.selects(ground),
            Self::Deduplicate(deduplicate) => deduplicate.selects(ground),
            Self::Split(split) => split.selects(ground),
            Self::Enrich(enrich) => enrich.selects(ground),
            Self::SaveAudience(save) => save.selects(ground),
            Self::Choose(choose) => choose.selects(ground),
            Self::Wait(wait) => wait.selects(ground),
            Self::Join(join) => join.selects(ground),
            Self::Message(_) => Selects::default(),
        }
    }

    /// The rules that it was compiled from, each with its path in the step.
    pub fn rules(&self) -> Vec<(String, &Rule)> {
        match self {
            Self::Audience(audience) => audience.rules(),
            Self::Split(split) => split.rules(),
            Self::Enrich(enrich) => enrich.rules(),
            Self::Choose(choose) => choose.rules(),
            _ => vec![],
        }
    }

    /// After a fault: what finds it in the activity's rules.
    pub fn faults(&self, ground: &Ground<'_>) -> Vec<RuleFaults> {
        match self {
            Self::Audience(audience) => audience.faults(ground),
            Self::Split(split) => split.faults(ground),
            Self::Enrich(enrich) => enrich.faults(ground),
            _ => vec![],
        }
    }
}
