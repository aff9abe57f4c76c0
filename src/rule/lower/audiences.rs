//! `in audience("x")`: a semi-join with the audience's keys, negated an anti-join.

use sea_query::{Alias, Expr, ExprTrait, Query as Statement};

use super::{Lowering, always};
use crate::rule::{query::all_of, schema::Dialect};

impl Lowering<'_> {
    /// PostgreSQL makes semi- and anti-joins of EXISTS, and of a negated IN a plan that compares row by row. SQLite
    /// looks an IN up in an index that it makes once, and would run an EXISTS for each row.
    pub(super) fn in_audience(&mut self, var: usize, hops: &[String], audience: &str) -> Expr {
        let Some(keys) = self.inputs.audiences.get(audience).cloned() else { return always(false) };
        let columns = self.key_columns(var, hops);
        match self.dialect {
            Dialect::Postgres => {
                let alias = self.fresh_alias();
                let on = columns
                    .into_iter()
                    .map(|(key, column)| Expr::col((Alias::new(&alias), Alias::new(key))).eq(column));
                let mut select = Statement::select();
                select.expr(Expr::cust("1")).from_subquery(keys, Alias::new(&alias)).and_where(all_of(on));
                Expr::exists(select)
            }
            Dialect::Sqlite => {
                let mut columns: Vec<Expr> = columns.into_iter().map(|(_, column)| column).collect();
                if columns.len() == 1 {
                    return columns.remove(0).in_subquery(keys);
                }
                Expr::tuple(columns).in_subquery(keys)
            }
        }
    }

    /// The key of the row that to-one links lead to. The last link's own columns hold it, so that row is not joined:
    /// an audience has only rows that are there.
    fn key_columns(&mut self, var: usize, hops: &[String]) -> Vec<(String, Expr)> {
        let key = self.schema.entity(&self.entity_at(var, hops)).map(|e| e.key.clone()).unwrap_or_default();
        let link = hops.split_last().and_then(|(last, before)| {
            let link = self.schema.entity(&self.entity_at(var, before))?.link(last)?;
            Some((before, link.keys.clone()))
        });
        let column = |name: String| match &link {
            Some((before, keys)) if keys.iter().any(|(_, there)| *there == name) => {
                let here = keys.iter().find(|(_, there)| *there == name).map(|(here, _)| here.clone());
                let column = self.column(var, before, &here.unwrap_or_default());
                (name, column)
            }
            _ => {
                let column = self.column(var, hops, &name);
                (name, column)
            }
        };
        key.into_iter().map(column).collect()
    }
}
