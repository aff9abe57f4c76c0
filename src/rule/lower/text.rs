//! Texts. Only orderings and case take a collation, the C one, which SQLite has by itself.

use sea_query::Expr;

use super::Lowering;
use crate::rule::{ast::Typed, schema::Dialect};

impl Lowering<'_> {
    pub(super) fn starts_with(&mut self, a: &Typed, b: &Typed) -> Expr {
        let (a, b) = (self.value(a), self.value(b));
        match self.dialect {
            Dialect::Postgres => self.custom("starts_with(?, ?)", [a, b]),
            Dialect::Sqlite => self.custom("substr(?, 1, length(?)) = ?", [a, b.clone(), b]),
        }
    }

    pub(super) fn ends_with(&mut self, a: &Typed, b: &Typed) -> Expr {
        let (a, b) = (self.value(a), self.value(b));
        match self.dialect {
            Dialect::Postgres => self.custom("right(?, length(?)) = ?", [a, b.clone(), b]),
            Dialect::Sqlite => {
                self.custom("substr(?, max(1, length(?) - length(?) + 1)) = ?", [a.clone(), a, b.clone(), b])
            }
        }
    }

    pub(super) fn contains(&mut self, a: &Typed, b: &Typed) -> Expr {
        let (a, b) = (self.value(a), self.value(b));
        match self.dialect {
            Dialect::Postgres => self.custom("strpos(?, ?) > 0", [a, b]),
            Dialect::Sqlite => self.custom("instr(?, ?) > 0", [a, b]),
        }
    }

    /// The pattern is in the form that both read alike.
    pub(super) fn matches(&mut self, a: &Typed, pattern: &str) -> Expr {
        let a = self.value(a);
        match self.dialect {
            Dialect::Postgres => self.custom("? ~ ?", [a, Expr::val(pattern)]),
            Dialect::Sqlite => self.custom("campanile_matches(?, ?)", [a, Expr::val(pattern)]),
        }
    }

    pub(super) fn ascii_case(&mut self, function: &str, a: &Typed) -> Expr {
        let a = self.value(a);
        // The C collation folds ASCII only, as SQLite does.
        let collate = if self.dialect == Dialect::Postgres { " COLLATE \"C\"" } else { "" };
        self.custom(&format!("{function}(?{collate})"), [a])
    }
}
