//! Links to one row: each path is joined once, however often it is used.

use sea_query::{Alias, Expr, ExprTrait, JoinType};

use super::Lowering;
use crate::rule::query::{Join, aliased, all_of};

impl Lowering<'_> {
    /// The column `field` of variable `var`'s row, or of the row that `hops` lead to.
    pub fn column(&mut self, var: usize, hops: &[String], field: &str) -> Expr {
        let alias = self.joined(var, hops);
        Expr::col((Alias::new(alias), Alias::new(field)))
    }

    /// The alias of the row that to-one links lead to; joined on first use.
    pub(super) fn joined(&mut self, var: usize, hops: &[String]) -> String {
        if hops.is_empty() {
            return self.frames[var].alias.clone();
        }
        if let Some(alias) = self.frames[var].paths.get(hops) {
            return alias.clone();
        }
        let (before, last) = (&hops[..hops.len() - 1], &hops[hops.len() - 1]);
        let from = self.joined(var, before);
        let alias = self.fresh_alias();
        let entity = self.entity_at(var, before);
        let link = self.schema.entity(&entity).and_then(|e| e.link(last));
        let Some((link, to)) = link.and_then(|link| Some((link, self.schema.entity(&link.to)?))) else {
            return alias;
        };
        let on = link.keys.iter().map(|(here, there)| {
            Expr::col((Alias::new(&alias), Alias::new(there))).equals((Alias::new(&from), Alias::new(here)))
        });
        let join = Join { kind: JoinType::LeftJoin, source: aliased(&to.table, &alias), on: all_of(on) };
        self.frames[var].joins.push(join);
        self.frames[var].paths.insert(hops.to_vec(), alias.clone());
        alias
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
            let link = self.schema.entity(&entity).and_then(|e| e.link(hop));
            if let Some((link, to)) = link.and_then(|link| Some((link, self.schema.entity(&link.to)?))) {
                let on = link.keys.iter().map(|(here, there)| {
                    Expr::col((Alias::new(&alias), Alias::new(there))).equals((Alias::new(&from), Alias::new(here)))
                });
                self.frames[0].joins.push(Join { kind, source: aliased(&to.table, &alias), on: all_of(on) });
                entity.clone_from(&link.to);
            }
            from = alias;
        }
        from
    }
}
