//! From a checked rule to SQL for one dialect.
//!
//! A condition is lowered so that it is true exactly when the rule holds; otherwise it may be false or NULL, which
//! is the same to a WHERE. Where it must be one or the other (under `!`, as a value), `IS TRUE` settles it. So
//! equality with a constant stays a plain `=` that an index serves.

mod arithmetic;
mod compare;
mod joins;
mod rows;

use sea_query::{Expr, ExprTrait};

use super::{
    Inputs, Param, Rule,
    ast::{Comparison, Node, Typed},
    query::Frame,
    schema::{Dialect, Schema},
};

pub(super) struct Lowering<'s> {
    pub schema: &'s Schema,
    pub dialect: Dialect,
    /// The frame of each variable in scope, by its number.
    pub frames: Vec<Frame>,
    aliases: usize,
    inputs: Inputs,
}

impl<'s> Lowering<'s> {
    pub fn new(schema: &'s Schema, dialect: Dialect, root: Frame) -> Self {
        Self { schema, dialect, frames: vec![root], aliases: 1, inputs: Inputs::at(jiff::Timestamp::UNIX_EPOCH) }
    }

    pub fn truth_of(&mut self, rule: &Rule, inputs: &Inputs) -> Expr {
        self.inputs = inputs.clone();
        self.truth(&rule.root)
    }

    pub fn solid_of(&mut self, rule: &Rule, inputs: &Inputs) -> Expr {
        self.inputs = inputs.clone();
        self.solid(&rule.root)
    }

    /// Template text with `?` for each expression. PostgreSQL's mark in sea-query's templates is `$`.
    pub fn custom(&self, template: &str, parts: impl IntoIterator<Item = Expr>) -> Expr {
        match self.dialect {
            Dialect::Sqlite => Expr::cust_with_exprs(template.to_owned(), parts),
            Dialect::Postgres => Expr::cust_with_exprs(template.replace('?', "$"), parts),
        }
    }

    fn fresh_alias(&mut self) -> String {
        self.aliases += 1;
        format!("t{}", self.aliases - 1)
    }

    /// True exactly when the condition holds; else false or NULL.
    fn truth(&mut self, typed: &Typed) -> Expr {
        match &typed.node {
            Node::Boolean(b) => always(*b),
            Node::And(a, b) => self.truth(a).and(self.truth(b)),
            Node::Or(a, b) => self.truth(a).or(self.truth(b)),
            Node::Not(a) => self.negation(a),
            Node::Has(a) => self.presence(a),
            Node::HasLink { var, hops } => self.link_presence(*var, hops),
            Node::Compare(comparison, a, b) => self.comparison(*comparison, a, b),
            Node::In(a, list) => self.membership(a, list),
            Node::StartsWith(a, b) => {
                let (a, b) = (self.value(a), self.value(b));
                match self.dialect {
                    Dialect::Postgres => self.custom("starts_with(?, ?)", [a, b]),
                    Dialect::Sqlite => self.custom("substr(?, 1, length(?)) = ?", [a, b.clone(), b]),
                }
            }
            Node::EndsWith(a, b) => {
                let (a, b) = (self.value(a), self.value(b));
                match self.dialect {
                    Dialect::Postgres => self.custom("right(?, length(?)) = ?", [a, b.clone(), b]),
                    Dialect::Sqlite => {
                        self.custom("substr(?, max(1, length(?) - length(?) + 1)) = ?", [a.clone(), a, b.clone(), b])
                    }
                }
            }
            Node::Contains(a, b) => {
                let (a, b) = (self.value(a), self.value(b));
                match self.dialect {
                    Dialect::Postgres => self.custom("strpos(?, ?) > 0", [a, b]),
                    Dialect::Sqlite => self.custom("instr(?, ?) > 0", [a, b]),
                }
            }
            Node::Exists(many, body) => self.exists(many, Some(body), false),
            Node::All(many, body) => Expr::not(self.exists(many, Some(body), true)),
            _ => self.value(typed),
        }
    }

    fn may_be_null(&self, typed: &Typed) -> bool {
        match &typed.node {
            Node::And(a, b) | Node::Or(a, b) => self.may_be_null(a) || self.may_be_null(b),
            Node::Compare(Comparison::Equal, a, b) => a.is_nullable != b.is_nullable,
            Node::Compare(_, a, b) | Node::StartsWith(a, b) | Node::EndsWith(a, b) | Node::Contains(a, b) => {
                a.is_nullable || b.is_nullable
            }
            Node::In(a, _) => a.is_nullable,
            // `negation` takes two off.
            Node::Not(a) => matches!(&a.node, Node::Not(inner) if self.may_be_null(inner)),
            Node::Field { .. } | Node::If(..) => typed.is_nullable,
            _ => false,
        }
    }

    /// True or false, never NULL.
    fn solid(&mut self, typed: &Typed) -> Expr {
        let truth = self.truth(typed);
        if self.may_be_null(typed) { self.custom("(?) IS TRUE", [truth]) } else { truth }
    }

    fn negation(&mut self, of: &Typed) -> Expr {
        if let Node::Not(inner) = &of.node {
            return self.truth(inner);
        }
        let truth = self.truth(of);
        if self.may_be_null(of) { self.custom("(?) IS NOT TRUE", [truth]) } else { Expr::not(truth) }
    }

    fn presence(&mut self, of: &Typed) -> Expr {
        if of.is_nullable { self.value(of).is_not_null() } else { always(true) }
    }

    fn link_presence(&mut self, var: usize, hops: &[String]) -> Expr {
        let key =
            self.schema.entity(&self.entity_at(var, hops)).and_then(|e| e.key.first()).cloned().unwrap_or_default();
        self.column(var, hops, &key).is_not_null()
    }

    fn value(&mut self, typed: &Typed) -> Expr {
        match &typed.node {
            Node::Text(text) => Expr::val(text.clone()),
            Node::Integer(n) => Expr::val(*n),
            Node::Double(d) => self.double_constant(*d),
            Node::Boolean(b) => always(*b),
            Node::Date(date) => match self.dialect {
                Dialect::Sqlite => Expr::val(date.to_string()),
                Dialect::Postgres => self.custom("CAST(? AS date)", [Expr::val(date.to_string())]),
            },
            Node::Timestamp(at) => self.timestamp(*at),
            Node::Now => self.timestamp(self.inputs.now),
            Node::Param(name) => match self.inputs.params.get(name) {
                Some(Param::String(s)) => Expr::val(s.clone()),
                Some(Param::Integer(n)) => Expr::val(*n),
                Some(Param::Double(d)) => self.double_constant(*d),
                Some(Param::Boolean(b)) => Expr::val(*b),
                None => Expr::cust("NULL"),
            },
            Node::Field { var, hops, field } => self.column(*var, hops, field),
            Node::LowerAscii(a) => self.ascii_case("lower", a),
            Node::UpperAscii(a) => self.ascii_case("upper", a),
            Node::Length(a) => {
                let a = self.value(a);
                self.custom("length(?)", [a])
            }
            Node::If(c, a, b) => {
                let c = self.truth(c);
                let (then, otherwise) = (self.value(a), self.value(b));
                let (a, b) = (self.telling(a, then), self.telling(b, otherwise));
                self.custom("CASE WHEN ? THEN ? ELSE ? END", [c, a, b])
            }
            Node::Arithmetic(what, a, b) => self.arithmetic(typed.ty, *what, a, b),
            Node::Span(unit_us, n) => match &n.node {
                Node::Integer(n) => Expr::val(n.saturating_mul(*unit_us)),
                _ => self.value(n).mul(*unit_us),
            },
            Node::Aggregate { many, filter, function, value } => {
                self.aggregate(typed.ty, many, filter.as_deref(), *function, value.as_deref())
            }
            _ => self.solid(typed),
        }
    }

    fn ascii_case(&mut self, function: &str, a: &Typed) -> Expr {
        let a = self.value(a);
        // The C collation folds ASCII only, as SQLite does.
        let collate = if self.dialect == Dialect::Postgres { " COLLATE \"C\"" } else { "" };
        self.custom(&format!("{function}(?{collate})"), [a])
    }
}

fn always(holds: bool) -> Expr {
    Expr::cust(if holds { "TRUE" } else { "FALSE" })
}
