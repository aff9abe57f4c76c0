//! Named conditions of the Dataset: `customer.reachable` reads like a Boolean field and stands for a rule.
//!
//! A condition is read anew where it is used, on the row before the dot: behind a link that leads to no row all fields
//! are missing, as if its text stood there.

use std::ops::Range;

use super::{CIRCLE, Checker, Value, parse};
use crate::rule::problem::{Problem, circle};

const DEEP_MAX: usize = 8;

/// A condition in use: the row that it is about, and where the rule names it.
pub(super) struct Use {
    pub var: usize,
    pub hops: Vec<String>,
    pub entity: String,
    pub span: Range<usize>,
    /// Variables before this one belong to the rule around.
    pub visible: usize,
    /// The conditions that use this one, the outermost first.
    pub within: Vec<String>,
}

impl Checker<'_> {
    pub(super) fn named(&mut self, name: &str, text: &str, mut use_of: Use) -> Result<Value, Problem> {
        let span = use_of.span.clone();
        let this = format!("{}.{name}", use_of.entity);
        let mut within = self.use_of.as_ref().map(|outer| outer.within.clone()).unwrap_or_default();
        if let Some(first) = within.iter().position(|known| *known == this) {
            let circle = circle(within[first..].iter().map(String::as_str));
            let problem = Problem::new(format!("the conditions go in a circle: {circle}"), span);
            return Err(Problem { id: CIRCLE, ..problem });
        }
        if within.len() >= DEEP_MAX {
            return Err(Problem::new(format!("conditions use each other at most {DEEP_MAX} deep"), span));
        }
        within.push(this);
        (use_of.within, use_of.visible) = (within, self.scopes.len());
        let in_condition = |problem: Problem| {
            let is_told =
                problem.message.starts_with("the conditions go") || problem.message.starts_with("condition `");
            let message =
                if is_told { problem.message } else { format!("condition `{name}` is wrong: {}", problem.message) };
            Problem { message, span: span.clone(), is_consequence: true, others: vec![], ..problem }
        };
        let parsed = parse(text).map_err(in_condition)?;
        let mut inner = Checker {
            text,
            schema: self.schema,
            params: self.params,
            places: &parsed.places,
            scopes: self.scopes.clone(),
            depth: self.depth,
            parts: self.parts,
            use_of: Some(use_of),
            others: vec![],
        };
        let typed = inner.condition(&parsed.tree);
        self.parts = inner.parts;
        typed.map(Value::Typed).map_err(in_condition)
    }
}
