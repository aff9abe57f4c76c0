//! Aggregates of many rows: one grouped table for each link, joined, whatever is asked of it.
//!
//! ```sql
//! LEFT JOIN (SELECT customer_id, count(*) AS v0, max(departure) AS v1 FROM booking GROUP BY customer_id) AS t1 ON …
//! ```
//! What the rule asks of the row itself also holds the grouped table to those rows: where few customers are Italian,
//! only their bookings are counted.

use sea_query::{Alias, Expr, ExprTrait, JoinType, Query as Statement, SelectStatement, TableRef};

use super::{
    Lowering,
    rows::{Opened, decimals},
};
use crate::rule::{
    ast::{Function, Many, Node, Type, Typed},
    fault::can_fault,
    query::{Frame, Join, aliased, all_of},
};

/// A grouped table that is being built: it grows with each aggregate of the same rows.
#[derive(Clone, Debug)]
pub(in crate::rule) struct Grouped {
    /// Rules of one query do not share a table: each may hold it to other rows.
    rule_no: usize,
    hops: Vec<String>,
    link: String,
    /// The alias under which it is joined.
    pub(super) derived: String,
    pub(super) to: String,
    pub(super) alias: String,
    pub(super) keys: Vec<(String, String)>,
    on: Expr,
    /// The rows that are asked, where the rule says so.
    restriction: Option<Expr>,
    pub(super) inner: Frame,
    pub(super) columns: Vec<Column>,
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::rule) struct Column {
    pub(super) ty: Type,
    pub(super) function: Function,
    pub(super) value: Option<(Expr, u8)>,
    pub(super) filter: Option<Expr>,
}

impl<'s> Lowering<'s> {
    /// The column of the grouped table that holds the aggregate.
    pub(super) fn grouped(
        &mut self,
        many: &Many,
        filter: Option<&Typed>,
        (ty, function): (Type, Function),
        value: Option<&Typed>,
        is_held: bool,
    ) -> Expr {
        let is_same = |g: &Grouped| g.rule_no == self.rule_no && g.hops == many.hops && g.link == many.link;
        let known = self.frames[many.var].grouped.iter().position(is_same);
        let mut group = match known {
            Some(index) => {
                let group = self.frames[many.var].grouped.remove(index);
                self.frames.truncate(many.inner);
                self.frames.push(group.inner.clone());
                group
            }
            None => match self.open_group(many) {
                Some(group) => group,
                None => return Expr::cust("NULL"),
            },
        };
        if is_held && group.restriction.is_none() {
            group.restriction = self.restriction(many, &group.alias, &group.keys, true);
        }
        let filter = filter.map(|f| self.truth(f));
        let value = value.map(|v| (self.value(v), decimals(v)));
        group.inner = self.frames.pop().unwrap_or(group.inner);
        let column = Column { ty, function, value, filter };
        let index = group.columns.iter().position(|c| *c == column).unwrap_or_else(|| {
            group.columns.push(column);
            group.columns.len() - 1
        });
        let found = Expr::col((Alias::new(&group.derived), Alias::new(format!("v{index}"))));
        let all = &mut self.frames[many.var].grouped;
        all.insert(known.unwrap_or(all.len()), group);
        found
    }

    fn open_group(&mut self, many: &Many) -> Option<Grouped> {
        let base = self.joined(many.var, &many.hops);
        let from = self.schema.entity(&self.entity_at(many.var, &many.hops))?;
        let Opened { alias, to, keys, .. } = self.open(many)?;
        let derived = self.fresh_alias();
        // The keys go by the names of the columns there; who else shares the table was left out inside.
        let on = keys.iter().map(|(here, there)| {
            Expr::col((Alias::new(&derived), Alias::new(there))).eq(self.key_column(from, &base, here))
        });
        let on = all_of(on);
        let restriction = self.restriction(many, &alias, keys, false);
        let inner = self.frames.last().cloned()?;
        Some(Grouped {
            rule_no: self.rule_no,
            hops: many.hops.clone(),
            link: many.link.clone(),
            derived,
            to: to.name.clone(),
            alias,
            keys: keys.to_vec(),
            on,
            restriction,
            inner,
            columns: vec![],
        })
    }

    /// `fk IN (SELECT id FROM customer WHERE country = 'IT')`; `is_held`: also where every row is asked.
    fn restriction(&mut self, many: &Many, alias: &str, keys: &[(String, String)], is_held: bool) -> Option<Expr> {
        if many.var != 0 || (self.reducers.is_empty() && !is_held) {
            return None;
        }
        let root = self.schema.entity(&self.frames[0].entity)?;
        let from = self.schema.entity(&self.entity_at(0, &many.hops))?;
        let there = self.fresh_alias();
        let outside = std::mem::replace(&mut self.frames, vec![Frame::new(there.clone(), &root.name)]);
        let base = self.joined(0, &many.hops);
        let reducers = std::mem::take(&mut self.reducers);
        let conditions: Vec<Expr> = reducers.iter().map(|reducer| self.truth(reducer)).collect();
        self.reducers = reducers;
        let mut select = Statement::select();
        select.from(aliased(&root.table, &there));
        for (here, _) in keys {
            select.expr(self.key_column(from, &base, here));
        }
        let frames = std::mem::replace(&mut self.frames, outside);
        frames.into_iter().for_each(|frame| self.add_joins(&mut select, frame));
        conditions.into_iter().for_each(|condition| {
            select.and_where(condition);
        });
        let columns: Vec<Expr> = keys.iter().map(|(_, key)| Expr::col((Alias::new(alias), Alias::new(key)))).collect();
        Some(match columns.as_slice() {
            [one] => one.clone().in_subquery(select),
            _ => Expr::tuple(columns).in_subquery(select),
        })
    }

    /// Adds a frame's joins to its SELECT: first the rows that links lead to, then the grouped tables.
    pub(in crate::rule) fn add_joins(&mut self, select: &mut SelectStatement, frame: Frame) {
        for join in frame.joins {
            select.join(join.kind, join.source, join.on);
        }
        for group in frame.grouped {
            let join = self.group_join(group);
            select.join(join.kind, join.source, join.on);
        }
    }

    fn group_join(&mut self, group: Grouped) -> Join {
        let Grouped { derived, to, alias, keys, on, restriction, inner, columns, .. } = group;
        let mut select = Statement::select();
        for (_, there) in &keys {
            let column = (Alias::new(&alias), Alias::new(there));
            select.column(column.clone()).group_by_col(column);
        }
        // One filter of all is the table's own; several become FILTER, and their union still is.
        let first = columns.first().and_then(|c| c.filter.clone());
        let is_one = columns.iter().all(|c| c.filter == first);
        let filters: Option<Vec<Expr>> = columns.iter().map(|c| c.filter.clone()).collect();
        for (index, column) in columns.into_iter().enumerate() {
            let filter = column.filter.filter(|_| !is_one);
            let computed = self.aggregate_call(column.ty, column.function, column.value, filter);
            select.expr_as(computed, Alias::new(format!("v{index}")));
        }
        if let Some(entity) = self.schema.entity(&to) {
            select.from(aliased(&entity.table, &alias));
            self.only(entity, &alias).into_iter().for_each(|own| {
                select.and_where(own);
            });
        }
        self.add_joins(&mut select, inner);
        let own = if is_one { first } else { filters.and_then(|all| all.into_iter().reduce(ExprTrait::or)) };
        own.into_iter().chain(restriction).for_each(|condition| {
            select.and_where(condition);
        });
        let source = TableRef::SubQuery(Box::new(select), Alias::new(&derived).into());
        Join { kind: JoinType::LeftJoin, alias: derived, source, on }
    }

    /// What the rule asks of the row itself and few rows may fulfil.
    pub(super) fn reducers_of(&self, conjuncts: &[&Typed]) -> Vec<Typed> {
        let reducers = conjuncts.iter().filter(|c| self.is_of_row(c) && is_selective(c));
        reducers.map(|c| (*c).clone()).collect()
    }

    /// Whether a condition looks at the row itself and rows that to-one links lead to, and cannot fault.
    pub(super) fn is_of_row(&self, condition: &Typed) -> bool {
        let is_many = |part: &Typed| matches!(part.node, Node::Exists(..) | Node::All(..) | Node::Aggregate { .. });
        !can_fault(condition, self.dialect) && !condition.any(&mut |part| is_many(part))
    }
}

/// What excludes a value, or asks whether there is one, seldom leaves few rows.
fn is_selective(condition: &Typed) -> bool {
    match &condition.node {
        Node::And(a, b) => is_selective(a) || is_selective(b),
        Node::Or(a, b) => is_selective(a) && is_selective(b),
        Node::Compare(..) | Node::In(..) | Node::Field { .. } | Node::Matches(..) => true,
        Node::StartsWith(..) | Node::EndsWith(..) | Node::Contains(..) => true,
        _ => false,
    }
}

/// The conditions that must all hold.
pub(super) fn conjuncts(condition: &Typed) -> Vec<&Typed> {
    match &condition.node {
        Node::And(a, b) => [conjuncts(a), conjuncts(b)].concat(),
        _ => vec![condition],
    }
}
