//! A rule about the row itself and aggregates of one link, as the one join that a person would write.
//!
//! ```sql
//! SELECT id FROM (SELECT c.id, sum(b.amount) AS v0 FROM customer c JOIN booking b ON b.customer_id = c.id
//!                 WHERE c.country = 'IT' GROUP BY c.id) AS g WHERE v0 > 100
//! ```
//! Beside [`super::grouped`] it reads the few rows that the rule asks for once, not twice.

use sea_query::{Alias, Expr, ExprTrait, JoinType, Query as Statement, SelectStatement};

use super::{Lowering, grouped::Grouped};
use crate::rule::{
    ast::{Comparison, Function, Node, Typed},
    fault::can_fault,
    query::{Frame, aliased},
};

/// What such a rule asks: of the row, and of the aggregates.
#[derive(Clone, Debug)]
pub(in crate::rule) struct Joined {
    of_row: Vec<Expr>,
    of_group: Vec<Expr>,
    /// No row without rows behind the link fulfils it.
    is_inner: bool,
}

impl Joined {
    /// How many conditions it stands for.
    pub fn len(&self) -> usize {
        self.of_row.len() + self.of_group.len()
    }
}

impl Lowering<'_> {
    /// The rule in that form, where it has it. It is asked of a whole entity, before any other rule.
    pub(super) fn joined_of(&mut self, conjuncts: &[&Typed]) -> Option<Joined> {
        let is_first = self.rule_no == 1 && self.of_set.is_none() && !self.reducers.is_empty();
        let reads_group =
            |c: &Typed| c.any(&mut |part| matches!(&part.node, Node::Aggregate { many, .. } if many.var == 0));
        let (of_group, of_row): (Vec<&Typed>, Vec<&Typed>) = conjuncts.iter().partition(|c| reads_group(c));
        let may_be = is_first
            && !of_group.is_empty()
            && of_group.iter().all(|c| self.is_of_group(c))
            && of_row.iter().all(|c| !can_fault(c, self.dialect));
        if !may_be {
            return None;
        }
        let is_inner = of_group.iter().any(|c| self.fails_on_none(c));
        // After the grouping, only rows are left for which all to the left holds.
        self.is_plain = true;
        let mut asked = vec![];
        for (index, condition) in of_group.iter().enumerate() {
            let lowered = self.truth(condition);
            let is_guarded = can_fault(condition, self.dialect);
            asked.push(if is_guarded { self.behind(&of_group[..index], condition, lowered) } else { lowered });
        }
        self.is_plain = false;
        let of_row = of_row.iter().map(|c| self.truth(c)).collect();
        Some(Joined { of_row, of_group: asked, is_inner })
    }

    /// Whether a condition is on aggregates of the row's own link, and on nothing else of any row.
    fn is_of_group(&self, condition: &Typed) -> bool {
        match &condition.node {
            Node::Aggregate { many, filter, value, .. } => {
                let parts = || filter.iter().chain(value);
                let is_faulty = filter.as_ref().is_some_and(|f| can_fault(f, self.dialect));
                many.var == 0 && many.hops.is_empty() && !is_faulty && !parts().any(|p| p.looks_outside(many.inner))
            }
            Node::Field { .. } | Node::HasLink { .. } | Node::Exists(..) | Node::All(..) => false,
            Node::Compare(comparison, a, b) if self.is_existence(*comparison, a, b) => false,
            node => node.parts().into_iter().all(|part| self.is_of_group(part)),
        }
    }

    /// Whether a row without rows behind the link fails the condition.
    fn fails_on_none(&self, condition: &Typed) -> bool {
        let Node::Compare(comparison, a, b) = &condition.node else { return false };
        let is_missing = |x: &Typed| {
            matches!(
                x.node,
                Node::Aggregate { function: Function::Average | Function::Minimum | Function::Maximum, .. }
            )
        };
        let is_there = |x: &Typed| !x.is_nullable;
        self.spares_none(*comparison, a, b)
            || is_missing(a) && (is_there(b) || *comparison != Comparison::Equal)
            || is_missing(b) && (is_there(a) || *comparison != Comparison::Equal)
    }

    /// The SELECT of the keys.
    pub(in crate::rule) fn joined_select(&mut self, mut root: Frame, form: Joined) -> Option<SelectStatement> {
        let entity = self.schema.entity(&root.entity)?;
        let group = root.grouped.pop()?;
        let Grouped { derived, to, alias, keys, inner, columns, .. } = group;
        let to = self.schema.entity(&to)?;
        let tie = self.link_on(&keys, (entity, &root.alias), (to, &alias));
        let there = Expr::col((Alias::new(&alias), Alias::new(&keys.first()?.1)));
        let mut select = Statement::select();
        for key in &entity.key {
            let column = (Alias::new(&root.alias), Alias::new(key));
            select.column(column.clone()).group_by_col(column);
        }
        let first = columns.first().and_then(|c| c.filter.clone());
        let is_one = form.is_inner && columns.iter().all(|c| c.filter == first);
        for (index, column) in columns.into_iter().enumerate() {
            // A row that was joined to none is not one of the rows behind the link.
            let is_row = (!form.is_inner).then(|| there.clone().is_not_null());
            let filter = is_row.into_iter().chain(column.filter.filter(|_| !is_one)).reduce(ExprTrait::and);
            let computed = self.aggregate_call(column.ty, column.function, column.value, filter);
            select.expr_as(computed, Alias::new(format!("v{index}")));
        }
        select.from(aliased(&entity.table, &root.alias));
        self.add_joins(&mut select, root);
        let kind = if form.is_inner { JoinType::InnerJoin } else { JoinType::LeftJoin };
        select.join(kind, aliased(&to.table, &alias), tie);
        self.add_joins(&mut select, inner);
        form.of_row.into_iter().chain(first.filter(|_| is_one)).for_each(|condition| {
            select.and_where(condition);
        });
        let mut outside = Statement::select();
        for key in &entity.key {
            outside.column((Alias::new(&derived), Alias::new(key)));
        }
        outside.from_subquery(select, Alias::new(&derived));
        form.of_group.into_iter().for_each(|condition| {
            outside.and_where(condition);
        });
        Some(outside)
    }
}
