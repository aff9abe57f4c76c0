//! Links to many rows: semi- and anti-joins, and one grouped table for each aggregate.

use sea_query::{Alias, Expr, ExprTrait, JoinType, Query as Statement, SelectStatement, TableRef};

use super::{Lowering, always};
use crate::rule::{
    ast::{Comparison, Function, Many, Node, Type, Typed},
    query::{Frame, Join, add_joins, aliased, all_of},
    schema::{Dialect, FieldType},
};

/// A subquery's alias, the pairs of keys that tie it to the row outside, and its table.
type Opened = (String, Vec<(String, String)>, TableRef);

impl Lowering<'_> {
    /// `x.size() > 0` and its kin ask whether there is one: a semi-join, not a count.
    pub(super) fn count_against_zero(&mut self, comparison: Comparison, a: &Typed, b: &Typed) -> Option<Expr> {
        let (Node::Aggregate { many, filter, function: Function::Count, .. }, Node::Integer(n)) = (&a.node, &b.node)
        else {
            return None;
        };
        let is_some = match (comparison, n) {
            (Comparison::Greater, 0) | (Comparison::GreaterOrEqual, 1) => true,
            (Comparison::Equal | Comparison::LessOrEqual, 0) | (Comparison::Less, 1) => false,
            _ => return None,
        };
        let exists = self.exists(many, filter.as_deref(), false);
        Some(if is_some { exists } else { Expr::not(exists) })
    }

    /// The subquery of a to-many link with its frame pushed; the caller lowers what is inside, then closes it.
    pub(super) fn open(&mut self, many: &Many) -> Option<Opened> {
        let outer = self.entity_at(many.var, &many.hops);
        let schema = self.schema;
        let link = schema.entity(&outer).and_then(|e| e.link(&many.link))?;
        let to = schema.entity(&link.to)?;
        let alias = self.fresh_alias();
        self.frames.truncate(many.inner);
        self.frames.push(Frame::new(alias.clone(), &to.name));
        let source = aliased(&to.table, &alias);
        Some((alias, link.keys.clone(), source))
    }

    pub(super) fn exists(&mut self, many: &Many, body: Option<&Typed>, is_negated: bool) -> Expr {
        let base = self.joined(many.var, &many.hops);
        let Some((alias, keys, source)) = self.open(many) else { return always(false) };
        let condition = body.map(|body| if is_negated { self.negation(body) } else { self.truth(body) });
        let mut select = Statement::select();
        select.expr(Expr::cust("1")).from(source);
        add_joins(&mut select, self.frames.pop().map(|f| f.joins).unwrap_or_default());
        select.and_where(link_keys(&keys, &alias, &base));
        condition.into_iter().for_each(|c| {
            select.and_where(c);
        });
        Expr::exists(select)
    }

    pub(super) fn aggregate(
        &mut self,
        ty: Type,
        many: &Many,
        filter: Option<&Typed>,
        function: Function,
        value: Option<&Typed>,
    ) -> Expr {
        let is_outside = filter.into_iter().chain(value).any(|part| part.looks_outside(many.inner));
        let base = self.joined(many.var, &many.hops);
        let Some((alias, keys, source)) = self.open(many) else { return Expr::cust("NULL") };
        let condition = filter.map(|f| self.truth(f));
        let is_all_outside = value.is_some_and(|v| v.looks_outside(many.inner) && !v.looks_at(many.inner));
        let value = value.map(|v| {
            let scale = if let Type::Field(FieldType::Decimal { scale }) = v.ty { scale } else { 0 };
            (self.value(v), scale)
        });
        let mut select = Statement::select();
        if is_all_outside && let Some((value, scale)) = value {
            // SQL gives an aggregate to the query whose columns it reads, which would be the one outside.
            let each = self.fresh_alias();
            select.expr_as(value, Alias::new("v")).from(source);
            add_joins(&mut select, self.frames.pop().map(|f| f.joins).unwrap_or_default());
            condition.into_iter().for_each(|c| {
                select.and_where(c);
            });
            select.and_where(link_keys(&keys, &alias, &base));
            let column = Expr::col((Alias::new(&each), Alias::new("v")));
            let computed = self.aggregate_call(ty, function, Some((column, scale)));
            let select = Statement::select().expr(computed).from_subquery(select, Alias::new(&each)).to_owned();
            return self.none_is_zero(function, subquery(select));
        }
        let computed = self.aggregate_call(ty, function, value);
        select.from(source);
        add_joins(&mut select, self.frames.pop().map(|f| f.joins).unwrap_or_default());
        condition.into_iter().for_each(|c| {
            select.and_where(c);
        });
        let found = if is_outside {
            select.expr(computed).and_where(link_keys(&keys, &alias, &base));
            subquery(select)
        } else {
            self.join_grouped(many.var, select, computed, &keys, &alias, &base)
        };
        self.none_is_zero(function, found)
    }

    pub(super) fn none_is_zero(&self, function: Function, found: Expr) -> Expr {
        if matches!(function, Function::Count | Function::Sum) { self.custom("COALESCE(?, 0)", [found]) } else { found }
    }

    /// One grouped derived table instead of a subquery per row.
    pub(super) fn join_grouped(
        &mut self,
        var: usize,
        mut select: SelectStatement,
        computed: Expr,
        keys: &[(String, String)],
        alias: &str,
        base: &str,
    ) -> Expr {
        let derived = self.fresh_alias();
        for (_, there) in keys {
            let column = (Alias::new(alias), Alias::new(there));
            select.column(column.clone()).group_by_col(column.clone()).and_where(Expr::col(column).is_not_null());
        }
        select.expr_as(computed, Alias::new("v"));
        let on = link_keys(keys, &derived, base);
        let source = TableRef::SubQuery(select.into(), Alias::new(&derived).into());
        self.frames[var].joins.push(Join { kind: JoinType::LeftJoin, source, on });
        Expr::col((Alias::new(&derived), Alias::new("v")))
    }

    pub(super) fn aggregate_call(&self, ty: Type, function: Function, value: Option<(Expr, u8)>) -> Expr {
        let Some((value, scale)) = value else { return Expr::cust("count(*)") };
        let text = ty == Type::STRING && self.dialect == Dialect::Postgres;
        match (function, self.dialect) {
            (Function::Count, _) => Expr::cust("count(*)"),
            (Function::Sum, Dialect::Postgres) if ty == Type::INTEGER => self.custom("CAST(sum(?) AS bigint)", [value]),
            (Function::Sum, _) => self.custom("sum(?)", [value]),
            (Function::Average, Dialect::Postgres) => self.custom("CAST(avg(?) AS double precision)", [value]),
            (Function::Average, Dialect::Sqlite) => {
                self.custom("(avg(?) / ?)", [value, Expr::val(10_f64.powi(i32::from(scale)))])
            }
            (Function::Minimum, _) => self.custom(if text { "min(? COLLATE \"C\")" } else { "min(?)" }, [value]),
            (Function::Maximum, _) => self.custom(if text { "max(? COLLATE \"C\")" } else { "max(?)" }, [value]),
        }
    }
}

fn subquery(select: SelectStatement) -> Expr {
    Expr::SubQuery(None, Box::new(sea_query::SubQueryStatement::SelectStatement(select)))
}

fn link_keys(keys: &[(String, String)], there_alias: &str, here_alias: &str) -> Expr {
    all_of(keys.iter().map(|(here, there)| {
        Expr::col((Alias::new(there_alias), Alias::new(there))).equals((Alias::new(here_alias), Alias::new(here)))
    }))
}
