//! The functions that there are, for the words about those that there are not.

use cel::IdedExpr;

use super::Checker;
use crate::rule::{ast::Part, problem::Problem};

const FUNCTIONS: [&str; 24] = [
    "weeks",
    "days",
    "hours",
    "minutes",
    "seconds",
    "date",
    "timestamp",
    "has",
    "startsWith",
    "endsWith",
    "contains",
    "matches",
    "lowerAscii",
    "upperAscii",
    "size",
    "exists",
    "all",
    "exists_one",
    "filter",
    "map",
    "sum",
    "avg",
    "min",
    "max",
];

impl Checker<'_> {
    pub(super) fn no_function(&self, expr: &IdedExpr, name: &str) -> Problem {
        if FUNCTIONS.contains(&name) || Part::named(name).is_some() {
            return self.problem(expr, format!("`{name}` is not used like this"));
        }
        self.problem(expr, format!("there is no function `{name}`"))
            .suggest(name, FUNCTIONS.into_iter().chain(Part::ALL.map(|(name, _)| name)))
    }
}
