//! Links: each path to one row is joined once, however often it is used.

use sea_query::{Alias, Expr, ExprTrait, JoinType};

use super::Lowering;
use crate::rule::{
    ast::{Comparison, Node, Typed},
    query::{Join, aliased, all_of},
    schema::{Dialect, Entity, FieldType, KEY_TEXT},
};

impl Lowering<'_> {
    /// The column `field` of variable `var`'s row, or of the row that `hops` lead to.
    pub fn column(&mut self, var: usize, hops: &[String], field: &str) -> Expr {
        let alias = self.joined(var, hops);
        Expr::col((Alias::new(alias), Alias::new(field)))
    }

    /// The alias of the row that to-one links lead to; joined on first use.
    pub fn joined(&mut self, var: usize, hops: &[String]) -> String {
        if hops.is_empty() {
            return self.frames[var].alias.clone();
        }
        if let Some(alias) = self.frames[var].paths.get(hops) {
            return alias.clone();
        }
        let (before, last) = (&hops[..hops.len() - 1], &hops[hops.len() - 1]);
        let from = self.joined(var, before);
        let alias = self.fresh_alias();
        let here = self.entity_at(var, before);
        if let Some(join) = self.link_join(&here, last, (&from, &alias), JoinType::LeftJoin) {
            self.frames[var].joins.push(join);
            self.frames[var].paths.insert(hops.to_vec(), alias.clone());
        }
        alias
    }

    /// Where a condition that must hold is false without the row of a link, the join drops what has none: the database may
    /// then begin with that row.
    pub(super) fn drop_unlinked(&mut self, conjuncts: &[&Typed]) {
        let frame = &mut self.frames[0];
        for hops in conjuncts.iter().flat_map(|condition| needed(condition)) {
            for length in 1..=hops.len() {
                let Some(alias) = frame.paths.get(&hops[..length]) else { continue };
                frame
                    .joins
                    .iter_mut()
                    .filter(|join| join.alias == *alias)
                    .for_each(|join| join.kind = JoinType::InnerJoin);
            }
        }
    }

    pub(super) fn entity_at(&self, var: usize, hops: &[String]) -> String {
        let mut entity = self.frames[var].entity.clone();
        for hop in hops {
            if let Some(link) = self.schema.entity(&entity).and_then(|e| e.link(hop)) {
                entity.clone_from(&link.to);
            }
        }
        entity
    }

    /// Joins along links of either kind from the root; the alias of the last.
    pub fn follow(&mut self, hops: &[String], kind: JoinType) -> String {
        let mut from = self.frames[0].alias.clone();
        let mut entity = self.frames[0].entity.clone();
        for hop in hops {
            let alias = self.fresh_alias();
            if let Some(join) = self.link_join(&entity, hop, (&from, &alias), kind) {
                self.frames[0].joins.push(join);
            }
            if let Some(link) = self.schema.entity(&entity).and_then(|e| e.link(hop)) {
                entity.clone_from(&link.to);
            }
            from = alias;
        }
        from
    }

    fn link_join(&self, from: &str, link: &str, (here, there): (&str, &str), kind: JoinType) -> Option<Join> {
        let from = self.schema.entity(from)?;
        let link = from.link(link)?;
        let to = self.schema.entity(&link.to)?;
        let on = self.link_on(&link.keys, (from, here), (to, there));
        Some(Join { kind, alias: there.to_owned(), source: aliased(&to.table, there), on })
    }

    /// That a row belongs to the row of the other alias, and to the entity at all.
    pub(super) fn link_on(&self, keys: &[(String, String)], here: (&Entity, &str), there: (&Entity, &str)) -> Expr {
        let equal =
            keys.iter().map(|(a, b)| self.key_column(there.0, there.1, b).eq(self.key_column(here.0, here.1, a)));
        all_of(equal.chain(self.only(there.0, there.1)))
    }

    /// What keeps the rows of others out of a table that several share.
    pub(super) fn only(&self, entity: &Entity, alias: &str) -> Vec<Expr> {
        let own = |(column, value): &(String, String)| {
            Expr::col((Alias::new(alias), Alias::new(column))).eq(Expr::val(value.clone()))
        };
        entity.only.iter().map(own).collect()
    }

    /// A column that a link compares, or the canonical text of the whole key; the ledger keeps the same text.
    pub(super) fn key_column(&self, entity: &Entity, alias: &str, name: &str) -> Expr {
        let column = |name: &str| Expr::col((Alias::new(alias), Alias::new(name)));
        if name != KEY_TEXT {
            return column(name);
        }
        let part = |name: &String| match (entity.field(name).map(|f| f.ty), self.dialect) {
            (Some(FieldType::Date), Dialect::Postgres) => self.custom("to_char(?, 'YYYY-MM-DD')", [column(name)]),
            _ => column(name),
        };
        match (entity.key.as_slice(), self.dialect) {
            ([one], _) if entity.field(one).is_some_and(|f| f.ty == FieldType::String) => column(one),
            ([one], _) => self.custom("CAST(? AS TEXT)", [part(one)]),
            (several, Dialect::Sqlite) => {
                let marks = vec!["?"; several.len()].join(", ");
                self.custom(&format!("json_array({marks})"), several.iter().map(part))
            }
            (several, Dialect::Postgres) => {
                let marks = vec!["CAST(to_json(?) AS text)"; several.len()].join(" || ',' || ");
                self.custom(&format!("('[' || {marks} || ']')"), several.iter().map(part))
            }
        }
    }
}

/// The links of the row itself without which a condition does not hold: those of fields that may not be missing there.
fn needed(condition: &Typed) -> Vec<&[String]> {
    let is_constant = |of: &Typed| {
        matches!(of.node, Node::Text(_) | Node::Integer(_) | Node::Double(_) | Node::Date(_) | Node::Timestamp(_))
    };
    let operands: &[&Typed] = match &condition.node {
        // Two fields that are both missing are equal.
        Node::Compare(Comparison::Equal, a, b) if is_constant(b) => &[a],
        Node::Compare(Comparison::Equal, a, b) if is_constant(a) => &[b],
        Node::Compare(Comparison::Equal, ..) => &[],
        Node::Compare(_, a, b) | Node::StartsWith(a, b) | Node::EndsWith(a, b) | Node::Contains(a, b) => &[a, b],
        Node::In(a, _) | Node::Matches(a, _) => &[a],
        Node::Field { .. } => &[condition],
        _ => &[],
    };
    let hops = operands.iter().filter_map(|of| match &of.node {
        Node::Field { var: 0, hops, .. } if !hops.is_empty() => Some(&**hops),
        _ => None,
    });
    hops.collect()
}
