//! Activities: one file each, always in this order: what can be wrong, what it becomes.
//!
//! An activity knows no database handle: SQL is a value here. The fields that an author writes are in
//! [`crate::api::step`]; every output is one SELECT of the key columns of its entity.

mod audience;
mod change_entity;
mod combine;
mod deduplicate;
mod email;
mod split;

use sea_query::SelectStatement;

pub use email::only_way;

use super::{Bundle, Finding, Ref, audience::Sets, message::EmailPlan};
use crate::{
    api::step::Activity,
    rule::{Dialect, FaultPlace, Inputs, Schema, schema::Entity},
};

/// Where an activity stands.
pub struct Place<'a> {
    pub this: &'a Ref,
    pub bundle: &'a Bundle,
    pub schema: &'a Schema,
    pub index: usize,
    pub step: &'a str,
    /// The outputs it reads, each with its entity.
    pub inputs: &'a [(String, String)],
}

impl Place<'_> {
    /// The path of one of the activity's fields.
    fn path(&self, word: &str, field: &str) -> String {
        format!("spec.steps[{}].{word}.{field}", self.index)
    }

    fn finding(&self, word: &str, field: &str, message: impl Into<String>) -> Finding {
        Finding::new(self.this, self.path(word, field), message)
    }

    /// The one set that the activity works on.
    fn input(&self) -> Result<(&str, &Entity), Vec<Finding>> {
        let wrong = || vec![Finding::new(self.this, format!("spec.steps[{}]", self.index), "the step has no input")];
        let (name, entity) = self.inputs.first().ok_or_else(wrong)?;
        Ok((name, self.schema.entity(entity).ok_or_else(wrong)?))
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
}

impl Output {
    fn of(step: &str, entity: &str) -> Self {
        Self { name: step.to_owned(), entity: entity.to_owned(), path: ".name".to_owned(), is_unused: false }
    }
}

/// A compiled activity.
pub enum Compiled {
    Audience(audience::Audience),
    Split(split::Split),
    Deduplicate(deduplicate::Deduplicate),
    Combine(combine::Combine),
    ChangeEntity(change_entity::ChangeEntity),
    Email(Box<EmailPlan>),
}

/// What SELECTs are made on.
pub struct Ground<'a> {
    pub schema: &'a Schema,
    pub dialect: Dialect,
    pub sets: &'a Sets,
    pub inputs: &'a Inputs,
    /// The SELECT of the keys of an earlier output.
    pub input: &'a dyn Fn(&str) -> SelectStatement,
}

/// The SELECT of each output in their order, and of the input's rows that led nowhere.
pub struct Selects {
    pub outputs: Vec<SelectStatement>,
    pub left: Option<SelectStatement>,
}

impl Selects {
    fn one(select: SelectStatement) -> Self {
        Self { outputs: vec![select], left: None }
    }
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
            branches.map(|(index, branch)| (format!("split.branches[{index}].where"), branch.rule.as_str())).collect()
        }
        _ => vec![],
    }
}

/// Checks an activity where it stands.
pub fn compile(activity: &Activity, place: &Place<'_>) -> Result<(Compiled, Vec<Output>), Vec<Finding>> {
    match activity {
        Activity::Audience(step) => audience::compile(step, place),
        Activity::Split(step) => split::compile(step, place),
        Activity::Deduplicate(step) => deduplicate::compile(step, place),
        Activity::Union(_) => combine::compile(combine::Kind::Union, "union", place),
        Activity::Intersect(_) => combine::compile(combine::Kind::Intersect, "intersect", place),
        Activity::Subtract(_) => combine::compile(combine::Kind::Subtract, "subtract", place),
        Activity::ChangeEntity(step) => change_entity::compile(step, place),
        Activity::Email(step) => email::compile(step, place),
    }
}

impl Compiled {
    pub fn selects(&self, ground: &Ground<'_>) -> Selects {
        match self {
            Self::Audience(audience) => audience.selects(ground),
            Self::Split(split) => split.selects(ground),
            Self::Deduplicate(deduplicate) => deduplicate.selects(ground),
            Self::Combine(combine) => combine.selects(ground),
            Self::ChangeEntity(change) => change.selects(ground),
            Self::Email(_) => Selects { outputs: vec![], left: None },
        }
    }

    /// After a fault: what finds it in the activity's rules.
    pub fn faults(&self, ground: &Ground<'_>) -> Vec<RuleFaults> {
        match self {
            Self::Audience(audience) => audience.faults(ground),
            Self::Split(split) => split.faults(ground),
            _ => vec![],
        }
    }
}
