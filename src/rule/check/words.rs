//! The functions that there are, for the words about those that there are not.

use cel::IdedExpr;

use super::Checker;
use crate::rule::problem::Problem;

const FUNCTIONS: [&str; 20] = [
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
];
/// In CEL, in the design, and not built: refused by name rather than misread.
const NOT_BUILT: [&str; 4] = ["matches", "getMonth", "getDayOfMonth", "getFullYear"];

impl Checker<'_> {
    pub(super) fn no_function(&self, expr: &IdedExpr, name: &str) -> Problem {
        if NOT_BUILT.contains(&name) {
            return self.problem(expr, format!("`{name}` is not built yet"));
        }
        if FUNCTIONS.contains(&name) {
            return self.problem(expr, format!("`{name}` is not used like this"));
        }
        self.problem(expr, format!("there is no function `{name}`")).suggest(name, FUNCTIONS)
    }
}
