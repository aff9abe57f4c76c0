//! Links to many rows: semi- and anti-joins, and correlated subqueries where a set operation cannot serve.

use sea_query::{Alias, Expr, ExprTrait, JoinType, Query as Statement, SelectStatement};

use super::{Lowering, always, grouped::conjuncts};
use crate::rule::{
    ast::{Comparison, Function, Many, Node, Type, Typed},
    fault::can_fault,
    query::{Frame, aliased},
    schema::{Dialect, Entity, FieldType},
};

/// A subquery over the rows behind a link: its alias, their entity, and what ties them to the row outside.
pub(super) struct Opened<'s> {
    pub alias: String,
    pub to: &'s Entity,
    pub keys: &'s [(String, String)],
    pub tie: Expr,
}

impl<'s> Lowering<'s> {
    /// `x.size() > 0` and its kin ask whether there is one: a semi-join, not a count.
    pub(super) fn count_against_zero(
        &mut self,
        (comparison, a, b): (Comparison, &Typed, &Typed),
        is_negated: bool,
    ) -> Option<Expr> {
        let (true, Node::Aggregate { many, filter, .. }, Node::Integer(n)) =
            (self.is_existence(comparison, a, b), &a.node, &b.node)
        else {
            return None;
        };
        let is_some = match (comparison, n) {
            (Comparison::Greater, 0) | (Comparison::GreaterOrEqual, 1) => true,
            (Comparison::Equal | Comparison::LessOrEqual, 0) | (Comparison::Less, 1) => false,
            _ => return None,
        };
        let exists = self.exists(many, filter.as_deref(), false);
        Some(if is_some != is_negated { exists } else { Expr::not(exists) })
    }

    /// Whether a count is only asked whether there is one.
    pub(super) fn is_existence(&self, comparison: Comparison, a: &Typed, b: &Typed) -> bool {
        use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
        matches!(
            (&a.node, comparison, &b.node),
            (Node::Aggregate { function: Function::Count, .. }, Greater | Equal | LessOrEqual, Node::Integer(0))
                | (Node::Aggregate { function: Function::Count, .. }, GreaterOrEqual | Less, Node::Integer(1))
        )
    }

    /// The subquery of a to-many link with its frame pushed; the caller lowers what is inside, then closes it.
    pub(super) fn open(&mut self, many: &Many) -> Option<Opened<'s>> {
        let base = self.joined(many.var, &many.hops);
        let outer = self.entity_at(many.var, &many.hops);
        let schema = self.schema;
        let from = schema.entity(&outer)?;
        let link = from.link(&many.link)?;
        let to = schema.entity(&link.to)?;
        let alias = self.fresh_alias();
        self.frames.truncate(many.inner);
        self.frames.push(Frame::new(alias.clone(), &to.name));
        let tie = self.link_on(&link.keys, (from, &base), (to, &alias));
        Some(Opened { alias, to, keys: &link.keys, tie })
    }

    /// FROM and joins of the innermost frame, which ends here.
    pub(super) fn close(&mut self, to: &Entity, alias: &str) -> SelectStatement {
        let mut select = Statement::select();
        select.from(aliased(&to.table, alias));
        if let Some(frame) = self.frames.pop() {
            self.add_joins(&mut select, frame);
        }
        select
    }

    pub(super) fn exists(&mut self, many: &Many, body: Option<&Typed>, is_negated: bool) -> Expr {
        let Some(opened) = self.open(many) else { return always(false) };
        if let Some(body) = body.filter(|body| can_fault(body, self.dialect)) {
            return self.exists_strictly(opened, body, is_negated);
        }
        let mut conditions = vec![opened.tie];
        let (mut rows, mut merged) = (vec![(opened.to, opened.alias)], vec![]);
        match body {
            Some(body) if is_negated => conditions.push(self.negation(body)),
            Some(body) => self.conditions_of(body, (&mut rows, &mut merged), &mut conditions),
            None => {}
        }
        // The innermost rows were opened last; each is joined to those around it.
        let mut frames = self.frames.split_off(self.frames.len() - rows.len()).into_iter();
        let mut select = Statement::select();
        select.expr(Expr::cust("1"));
        for (index, (to, alias)) in rows.into_iter().enumerate() {
            match index.checked_sub(1).and_then(|before| merged.get(before).cloned()) {
                None => select.from(aliased(&to.table, &alias)),
                Some(tie) => select.join(JoinType::InnerJoin, aliased(&to.table, &alias), tie),
            };
            if let Some(frame) = frames.next() {
                self.add_joins(&mut select, frame);
            }
        }
        conditions.into_iter().for_each(|condition| {
            select.and_where(condition);
        });
        Expr::exists(select)
    }

    /// What must hold of the rows of a semi-join. One of rows that themselves have rows is the same join, once longer.
    fn conditions_of(
        &mut self,
        body: &Typed,
        (rows, merged): (&mut Vec<(&'s Entity, String)>, &mut Vec<Expr>),
        conditions: &mut Vec<Expr>,
    ) {
        let all = conjuncts(body);
        let is_inner = |c: &Typed| matches!(c.node, Node::Exists(..)) && !can_fault(c, self.dialect);
        // A second one would multiply the rows of the first.
        let inner =
            if all.iter().filter(|c| is_inner(c)).count() == 1 { all.iter().position(|c| is_inner(c)) } else { None };
        for (index, condition) in all.iter().enumerate() {
            if Some(index) != inner {
                conditions.push(self.truth(condition));
            }
        }
        let Some(Node::Exists(many, body)) = inner.map(|index| &all[index].node) else { return };
        let Some(opened) = self.open(many) else {
            conditions.push(always(false));
            return;
        };
        merged.push(opened.tie);
        rows.push((opened.to, opened.alias));
        self.conditions_of(body, (rows, merged), conditions);
    }

    /// A semi-join may stop at any row or look at rows of others: where the body can fault, it is asked of each row of the link.
    fn exists_strictly(&mut self, opened: Opened<'_>, body: &Typed, is_negated: bool) -> Expr {
        let mut condition = self.solid(body);
        if is_negated {
            condition = Expr::not(condition);
        }
        let function = if self.dialect == Dialect::Postgres { "bool_or" } else { "max" };
        let is_outside = !body.looks_at(self.frames.len() - 1);
        let mut select = self.close(opened.to, &opened.alias);
        select.and_where(opened.tie);
        let select = if is_outside {
            self.one_further(select, condition, |this, column| this.custom(&format!("{function}(?)"), [column]))
        } else {
            select.expr(self.custom(&format!("{function}(?)"), [condition])).to_owned()
        };
        self.custom("(? IS TRUE)", [subquery(select)])
    }

    pub(super) fn aggregate(
        &mut self,
        ty: Type,
        many: &Many,
        filter: Option<&Typed>,
        function: Function,
        value: Option<&Typed>,
    ) -> Expr {
        let is_bare = std::mem::take(&mut self.is_bare);
        let parts: Vec<&Typed> = filter.into_iter().chain(value).collect();
        let is_outside = parts.iter().any(|part| part.looks_outside(many.inner));
        let can_fault = parts.iter().any(|part| can_fault(part, self.dialect));
        // Only where the table can be held to the very rows that are asked may a value of it fault; a filter is asked
        // before that.
        let filter_faults = filter.is_some_and(|filter| self::can_fault(filter, self.dialect));
        let is_group = !is_outside && !filter_faults && (!can_fault || self.is_plain && many.var == 0);
        let found = if is_group {
            self.grouped(many, filter, (ty, function), value, can_fault)
        } else {
            self.correlated(many, filter, (ty, function), value)
        };
        let found = match (function, ty, self.dialect) {
            // Summed as numeric; out of range is a fault where the sum is used, not where it is made.
            (Function::Sum, Type::INTEGER, Dialect::Postgres) => self.custom("CAST(? AS bigint)", [found]),
            _ => found,
        };
        let is_none_zero = matches!(function, Function::Count | Function::Sum) && !is_bare;
        if is_none_zero { self.custom("COALESCE(?, 0)", [found]) } else { found }
    }

    /// A subquery per row: for what compares the rows with the row outside, or must not look at rows of others; and for a
    /// sum whose range is asked, not kept.
    pub(super) fn correlated(
        &mut self,
        many: &Many,
        filter: Option<&Typed>,
        (ty, function): (Type, Function),
        value: Option<&Typed>,
    ) -> Expr {
        let Some(opened) = self.open(many) else { return Expr::cust("NULL") };
        let mut conditions = vec![opened.tie.clone()];
        if let Some(filter) = filter {
            let condition = self.truth(filter);
            conditions.push(match can_fault(filter, self.dialect) {
                true => self.custom("CASE WHEN ? THEN ? ELSE FALSE END", [opened.tie, condition]),
                false => condition,
            });
        }
        let is_all_outside = value.is_some_and(|v| v.looks_outside(many.inner) && !v.looks_at(many.inner));
        let value = value.map(|v| (self.value(v), decimals(v)));
        let mut select = self.close(opened.to, &opened.alias);
        conditions.into_iter().for_each(|c| {
            select.and_where(c);
        });
        if is_all_outside && let Some((value, scale)) = value {
            let over = |this: &Self, column| this.aggregate_call(ty, function, Some((column, scale)), None);
            return subquery(self.one_further(select, value, over));
        }
        select.expr(self.aggregate_call(ty, function, value, None));
        subquery(select)
    }

    /// SQL gives an aggregate to the query whose columns it reads, which would be the one outside: one SELECT further in
    /// the value is a column of its own.
    fn one_further(
        &mut self,
        mut select: SelectStatement,
        value: Expr,
        aggregate: impl Fn(&Self, Expr) -> Expr,
    ) -> SelectStatement {
        let each = self.fresh_alias();
        select.expr_as(value, Alias::new("v"));
        let computed = aggregate(self, Expr::col((Alias::new(&each), Alias::new("v"))));
        Statement::select().expr(computed).from_subquery(select, Alias::new(&each)).to_owned()
    }

    pub(super) fn aggregate_call(
        &self,
        ty: Type,
        function: Function,
        value: Option<(Expr, u8)>,
        filter: Option<Expr>,
    ) -> Expr {
        let only = if filter.is_some() { " FILTER (WHERE ?)" } else { "" };
        let Some((value, scale)) = value.filter(|_| function != Function::Count) else {
            return self.custom(&format!("count(*){only}"), filter);
        };
        let collate = if ty == Type::STRING && self.dialect == Dialect::Postgres { " COLLATE \"C\"" } else { "" };
        let call = |name: &str| {
            self.custom(&format!("{name}(?{collate}){only}"), std::iter::once(value.clone()).chain(filter.clone()))
        };
        match (function, self.dialect) {
            (Function::Count | Function::Sum, _) => call("sum"),
            (Function::UpperSum, _) => {
                self.custom("(sum(? >> 32) + (sum(? & 4294967295) >> 32))", [value.clone(), value.clone()])
            }
            (Function::Average, Dialect::Postgres) => self.custom("CAST(? AS double precision)", [call("avg")]),
            (Function::Average, Dialect::Sqlite) if scale == 0 => call("avg"),
            (Function::Average, Dialect::Sqlite) => {
                self.custom("(? / ?)", [call("avg"), Expr::val(10_f64.powi(i32::from(scale)))])
            }
            (Function::Minimum, _) => call("min"),
            (Function::Maximum, _) => call("max"),
        }
    }
}

/// Digits behind the point of a scaled integer.
pub(super) fn decimals(typed: &Typed) -> u8 {
    if let Type::Field(FieldType::Decimal { scale }) = typed.ty { scale } else { 0 }
}

pub(super) fn subquery(select: SelectStatement) -> Expr {
    Expr::SubQuery(None, Box::new(sea_query::SubQueryStatement::SelectStatement(select)))
}
