//! From a checked rule to SQL for one dialect.
//!
//! A condition is lowered so that it is true exactly when the rule holds; otherwise it may be false or NULL, which
//! is the same to a WHERE. Where it must be one or the other (under `!`, as a value), `IS TRUE` settles it. So
//! equality with a constant stays a plain `=` that an index serves.

mod arithmetic;
mod audiences;
mod compare;
pub(super) mod grouped;
pub(super) mod joined;
mod joins;
mod rows;
mod text;
mod time;

use sea_query::{Alias, Expr, ExprTrait};

use self::{grouped::conjuncts, joined::Joined};
use super::{
    Inputs, Param, Rule,
    ast::{Comparison, Node, Type, Typed},
    fault::can_fault,
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
    /// Rules lowered so far.
    rule_no: usize,
    /// Conditions on the row itself that hold wherever the rule does.
    reducers: Vec<Typed>,
    /// Whether what is lowered is asked of exactly the rows that fulfil the reducers.
    is_plain: bool,
    /// Whether the next count or sum may be NULL where there is none.
    is_bare: bool,
    /// The first rule as one join, where it has that form.
    pub joined: Option<Joined>,
    /// The column that is there when a row is one of the set that is asked.
    pub of_set: Option<Expr>,
}

impl<'s> Lowering<'s> {
    pub fn new(schema: &'s Schema, dialect: Dialect, root: Frame) -> Self {
        Self {
            schema,
            dialect,
            frames: vec![root],
            aliases: 1,
            inputs: Inputs::at(jiff::Timestamp::UNIX_EPOCH),
            rule_no: 0,
            reducers: vec![],
            is_plain: false,
            is_bare: false,
            joined: None,
            of_set: None,
        }
    }

    /// True exactly when the rule holds.
    pub fn truth_of(&mut self, rule: &Rule, inputs: &Inputs) -> Vec<Expr> {
        self.inputs = inputs.clone();
        self.rule_no += 1;
        let all = conjuncts(&rule.root);
        self.reducers = self.reducers_of(&all);
        self.joined = self.joined_of(&all);
        let mut made: Vec<Expr> = vec![];
        for (index, condition) in all.iter().enumerate() {
            let guards = &all[..index];
            let faults = can_fault(condition, self.dialect);
            self.is_plain = faults
                && self.of_set.is_none()
                && guards.iter().all(|g| self.is_of_row(g) && self.reducers.contains(g));
            let lowered = self.truth(condition);
            made.push(if faults { self.behind(guards, condition, lowered) } else { lowered });
        }
        if self.of_set.is_none() && !all.iter().any(|condition| can_fault(condition, self.dialect)) {
            self.drop_unlinked(&all);
        }
        self.is_plain = false;
        self.reducers.clear();
        made
    }

    /// A condition that can fault is asked only of rows of the set, and only where all to its left holds.
    ///
    /// PostgreSQL may ask a condition on the row behind a link of rows that nothing leads to, before it joins; a guard
    /// that reads the row itself keeps it from that.
    fn behind(&mut self, guards: &[&Typed], of: &Typed, condition: Expr) -> Expr {
        let reads_link = |part: &Typed| matches!(&part.node, Node::Field { var: 0, hops, .. } if !hops.is_empty());
        let key = self.schema.entity(&self.frames[0].entity).and_then(|e| e.key.first());
        let own = match (&self.of_set, key) {
            (Some(of_set), _) => Some(of_set.clone()),
            (None, Some(key)) if of.any(&mut |part| reads_link(part)) => {
                let key = Expr::col((Alias::new(&self.frames[0].alias), Alias::new(key)));
                Some(key.is_not_null())
            }
            _ => None,
        };
        let guards: Vec<Expr> = guards.iter().map(|guard| self.truth(guard)).collect();
        match own.into_iter().chain(guards).reduce(ExprTrait::and) {
            Some(guard) => self.custom("CASE WHEN ? THEN ? ELSE FALSE END", [guard, condition]),
            None => condition,
        }
    }

    /// Whether the rule holds, true or false.
    pub fn solid_of(&mut self, rule: &Rule, inputs: &Inputs) -> Expr {
        self.inputs = inputs.clone();
        self.rule_no += 1;
        self.reducers = self.reducers_of(&conjuncts(&rule.root));
        let solid = self.solid(&rule.root);
        self.reducers.clear();
        if can_fault(&rule.root, self.dialect) { self.behind(&[], &rule.root, solid) } else { solid }
    }

    /// The number of the first of `conditions` that holds, or NULL.
    pub fn first_of(&mut self, conditions: &[Typed], inputs: &Inputs) -> Expr {
        self.inputs = inputs.clone();
        self.rule_no += 1;
        let mut branches = vec![];
        for (condition, n) in conditions.iter().zip(0_i64..) {
            let when = self.truth(condition);
            branches.push(self.custom("WHEN ? THEN ?", [when, Expr::val(n)]));
        }
        let marks = vec!["?"; branches.len()].join(" ");
        self.custom(&format!("CASE {marks} END"), branches)
    }

    pub fn value_of(&mut self, rule: &Rule, inputs: &Inputs) -> Expr {
        self.inputs = inputs.clone();
        self.value(&rule.root)
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
            Node::And(a, b) if can_fault(b, self.dialect) => {
                let (left, right) = (self.truth(a), self.guarded(b));
                // What the guard asks can also stand by itself, where an index may serve it.
                let alone = self.is_of_row(a).then(|| left.clone());
                let guarded = self.custom("CASE WHEN ? THEN ? ELSE FALSE END", [left, right]);
                alone.into_iter().chain([guarded]).reduce(ExprTrait::and).unwrap_or_else(|| always(false))
            }
            Node::Or(a, b) if can_fault(b, self.dialect) => {
                let (left, right) = (self.truth(a), self.guarded(b));
                self.custom("CASE WHEN ? THEN TRUE ELSE ? END", [left, right])
            }
            Node::And(a, b) => self.truth(a).and(self.truth(b)),
            Node::Or(a, b) => self.truth(a).or(self.truth(b)),
            Node::Not(a) => self.negation(a),
            Node::Has(a) => self.presence(a),
            Node::HasLink { var, hops } => self.link_presence(*var, hops),
            Node::InAudience { var, hops, audience } => self.in_audience(*var, hops, audience),
            Node::Compare(comparison, a, b) => self.comparison(*comparison, a, b),
            Node::In(a, list) => self.membership(a, list),
            Node::StartsWith(a, b) => self.starts_with(a, b),
            Node::EndsWith(a, b) => self.ends_with(a, b),
            Node::Contains(a, b) => self.contains(a, b),
            Node::Matches(a, pattern) => self.matches(a, pattern),
            Node::Faults(operation) => self.faults(operation),
            Node::Exists(many, body) => self.exists(many, Some(body), false),
            Node::All(many, body) => Expr::not(self.exists(many, Some(body), true)),
            _ => self.value(typed),
        }
    }

    /// What stands behind a guard: asked of fewer rows than the reducers tell.
    fn guarded(&mut self, typed: &Typed) -> Expr {
        let was_plain = std::mem::take(&mut self.is_plain);
        let truth = self.truth(typed);
        self.is_plain = was_plain;
        truth
    }

    fn may_be_null(&self, typed: &Typed) -> bool {
        match &typed.node {
            Node::And(a, b) | Node::Or(a, b) => self.may_be_null(a) || self.may_be_null(b),
            Node::Compare(comparison, a, b) if self.spares_none(*comparison, a, b) => true,
            Node::Compare(Comparison::Equal, a, b) => a.is_nullable != b.is_nullable,
            Node::Compare(_, a, b) | Node::StartsWith(a, b) | Node::EndsWith(a, b) | Node::Contains(a, b) => {
                a.is_nullable || b.is_nullable
            }
            Node::In(a, _) | Node::Matches(a, _) => a.is_nullable,
            Node::Faults(operation) => operation.node.parts().iter().any(|part| part.is_nullable),
            Node::InAudience { .. } => self.dialect == Dialect::Sqlite,
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
        if let Node::Compare(comparison, a, b) = &of.node
            && let Some(exists) = self.count_against_zero((*comparison, a, b), true)
        {
            return exists;
        }
        let truth = self.truth(of);
        if self.may_be_null(of) { self.custom("(?) IS NOT TRUE", [truth]) } else { Expr::not(truth) }
    }

    fn presence(&mut self, of: &Typed) -> Expr {
        // What can fault is computed, though nobody reads the value.
        if of.is_nullable || can_fault(of, self.dialect) { self.value(of).is_not_null() } else { always(true) }
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
            Node::Date(date) => self.date(*date),
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
            Node::Concat(a, b) => {
                let (left, right) = (self.value(a), self.value(b));
                let (left, right) = (self.telling(a, left), self.telling(b, right));
                self.custom("(? || ?)", [left, right])
            }
            Node::LowerAscii(a) => self.ascii_case("lower", a),
            Node::UpperAscii(a) => self.ascii_case("upper", a),
            Node::Length(a) => {
                let a = self.value(a);
                self.custom("length(?)", [a])
            }
            Node::If(c, a, b) => {
                let when = self.truth(c);
                let was_plain = std::mem::take(&mut self.is_plain);
                let [then, otherwise] = [a, b].map(|branch| match typed.ty {
                    Type::Field(ty) if typed.ty.is_number() => self.number(branch, ty),
                    _ => {
                        let value = self.value(branch);
                        self.telling(branch, value)
                    }
                });
                self.is_plain = was_plain;
                self.custom("CASE WHEN ? THEN ? ELSE ? END", [when, then, otherwise])
            }
            Node::Arithmetic(what, a, b) => self.arithmetic(typed, *what, a, b),
            Node::Span(unit_us, n) => self.span(typed, *unit_us, n),
            Node::Part(part, of, zone) => self.part(*part, of, zone),
            Node::DateIn(of, zone) => self.date_in(of, zone),
            Node::Aggregate { many, filter, function, value } => {
                self.aggregate(typed.ty, many, filter.as_deref(), *function, value.as_deref())
            }
            _ => self.solid(typed),
        }
    }
}

fn always(holds: bool) -> Expr {
    Expr::cust(if holds { "TRUE" } else { "FALSE" })
}
