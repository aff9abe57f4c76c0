//! One SELECT over one entity, with joins shared per path.
//!
//! The same builder serves audiences, the activities, the planning of sends and the reading of the columns that a
//! template needs. To-one links become LEFT JOINs, once per path however often it is used.

use std::collections::BTreeMap;

use sea_query::{Alias, Expr, ExprTrait, IntoTableRef, JoinType, Order, Query as Statement, SelectStatement, TableRef};

use super::{
    Inputs, Rule,
    fault::{FaultPlace, faults_of},
    lower::{Lowering, grouped::Grouped},
    path::Path,
    schema::{Dialect, Entity, Schema, Table},
};

/// The alias of the entity itself, and of the set it is joined to.
const ROOT: &str = "t0";
pub const SET: &str = "s";

/// A table or a grouped subquery that is joined.
#[derive(Clone, Debug)]
pub(super) struct Join {
    pub kind: JoinType,
    pub alias: String,
    pub source: TableRef,
    pub on: Expr,
}

/// One level of a query: an aliased entity, and the rows that its to-one paths lead to.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub alias: String,
    pub entity: String,
    pub joins: Vec<Join>,
    /// The alias for each path that is joined already.
    pub paths: BTreeMap<Vec<String>, String>,
    /// The grouped tables of its links to many rows.
    pub grouped: Vec<Grouped>,
}

impl Frame {
    pub fn new(alias: String, entity: &str) -> Self {
        Self { alias, entity: entity.to_owned(), joins: vec![], paths: BTreeMap::new(), grouped: vec![] }
    }
}

/// A SELECT that is being built.
pub struct Query<'s> {
    lowering: Lowering<'s>,
    /// The set whose rows these are, if it is not the whole entity; and whether rows without an entity row stay.
    set: Option<(SelectStatement, JoinType)>,
    /// The set stands for the entity: only its key is asked for.
    is_alone: bool,
    columns: Vec<(Expr, Option<String>)>,
    filters: Vec<Expr>,
    order: Vec<Expr>,
}

impl<'s> Query<'s> {
    /// All rows of an entity.
    pub fn over(schema: &'s Schema, entity: &Entity, dialect: Dialect) -> Self {
        let lowering = Lowering::new(schema, dialect, Frame::new(ROOT.to_owned(), &entity.name));
        Self { lowering, set: None, is_alone: false, columns: vec![], filters: vec![], order: vec![] }
    }

    /// The rows of an entity whose keys `set` selects, under the names of the key fields.
    pub fn over_set(schema: &'s Schema, entity: &Entity, dialect: Dialect, set: SelectStatement) -> Self {
        Self::over_set_by(schema, entity, dialect, (set, JoinType::InnerJoin))
    }

    /// Like [`Query::over_set`], where nothing but the key is asked for: the set has it, and the entity is not read.
    pub fn over_keys(schema: &'s Schema, entity: &Entity, dialect: Dialect, set: SelectStatement) -> Self {
        Self { is_alone: true, ..Self::over_set(schema, entity, dialect, set) }
    }

    /// Like [`Query::over_set`], but a row of the set stays when the entity has no such row any more.
    pub fn over_set_keeping(schema: &'s Schema, entity: &Entity, dialect: Dialect, set: SelectStatement) -> Self {
        Self::over_set_by(schema, entity, dialect, (set, JoinType::LeftJoin))
    }

    fn over_set_by(schema: &'s Schema, entity: &Entity, dialect: Dialect, set: (SelectStatement, JoinType)) -> Self {
        let mut query = Self { set: Some(set), ..Self::over(schema, entity, dialect) };
        query.lowering.of_set = entity.key.first().map(|key| Self::set_column(key).is_not_null());
        query
    }

    /// The column at the end of a path of to-one links. One to many rows gives a row for each of them.
    pub fn path(&mut self, path: &Path) -> Expr {
        self.lowering.column(0, &path.hops, path.field.as_deref().unwrap_or_default())
    }

    /// Of the rows that a path of links leads to, keeps those with this; the query's own rows all stay.
    pub fn narrow(&mut self, hops: &[String], condition: Expr) {
        let alias = self.lowering.joined(0, hops);
        let join = self.lowering.frames[0].joins.iter_mut().find(|join| join.alias == alias);
        join.into_iter().for_each(|join| join.on = join.on.clone().and(condition.clone()));
    }

    /// A column of the set that the query is over.
    pub fn set_column(name: &str) -> Expr {
        Expr::col((Alias::new(SET), Alias::new(name)))
    }

    /// Keeps the rows for which the rule holds.
    pub fn restrict(&mut self, rule: &Rule, inputs: &Inputs) {
        let conditions = self.lowering.truth_of(rule, inputs);
        self.filters.extend(conditions);
    }

    /// After a fault: where in the rule it can have been, and the SELECT that finds it. Its one row, if there is one, is
    /// the number of the place and the key of the row, each part as text. `None` if the rule cannot fault.
    pub fn faults(mut self, rule: &Rule, inputs: &Inputs) -> Option<(Vec<FaultPlace>, SelectStatement)> {
        let (places, conditions): (Vec<_>, Vec<_>) = faults_of(rule, self.dialect()).into_iter().unzip();
        if places.is_empty() {
            return None;
        }
        let place = self.lowering.first_of(&conditions, inputs);
        let key = self.key();
        self.column(place.clone(), "place");
        for (index, part) in key.iter().enumerate() {
            let text = self.custom("CAST(? AS TEXT)", [part.clone()]);
            self.column(text, &format!("key{index}"));
        }
        let place = match self.lowering.of_set.clone() {
            Some(of_set) => self.custom("CASE WHEN ? THEN ? END", [of_set, place]),
            None => place,
        };
        self.filters.push(place.is_not_null());
        self.order = key;
        Some((places, self.finish().limit(1).to_owned()))
    }

    /// Whether the rule holds, never missing.
    pub fn condition(&mut self, rule: &Rule, inputs: &Inputs) -> Expr {
        self.lowering.solid_of(rule, inputs)
    }

    /// The value that a rule has for the row.
    pub fn value(&mut self, rule: &Rule, inputs: &Inputs) -> Expr {
        self.lowering.value_of(rule, inputs)
    }

    /// Joins the rows of another SELECT whose columns have these values; the query's own rows all stay.
    pub fn join_left(&mut self, select: SelectStatement, alias: &str, on: impl IntoIterator<Item = (Expr, String)>) {
        let on = all_of(on.into_iter().map(|(own, name)| own.eq(Expr::col((Alias::new(alias), Alias::new(name))))));
        let source = TableRef::SubQuery(select.into(), Alias::new(alias).into());
        self.lowering.frames[0].joins.push(Join { kind: JoinType::LeftJoin, alias: alias.to_owned(), source, on });
    }

    pub fn filter(&mut self, condition: Expr) {
        self.filters.push(condition);
    }

    pub fn column(&mut self, expr: Expr, name: &str) {
        self.columns.push((expr, Some(name.to_owned())));
    }

    pub fn order_by(&mut self, expr: Expr) {
        self.order.push(expr);
    }

    /// Template text with `?` for each expression, for what sea-query has no words for.
    pub fn custom(&self, template: &str, parts: impl IntoIterator<Item = Expr>) -> Expr {
        self.lowering.custom(template, parts)
    }

    pub fn dialect(&self) -> Dialect {
        self.lowering.dialect
    }

    /// The entity's key columns, in the order of the key.
    pub fn key(&self) -> Vec<Expr> {
        let entity = self.lowering.schema.entity(&self.lowering.frames[0].entity);
        let names = entity.map(|e| e.key.clone()).unwrap_or_default();
        names.iter().map(|name| Expr::col((Alias::new(ROOT), Alias::new(name)))).collect()
    }

    /// The keys of the rows, under the names of the key fields.
    pub fn keys(mut self) -> SelectStatement {
        // Only of a whole entity, and where nothing but the one rule is asked.
        let is_alone = self.set.is_none() && self.columns.is_empty() && self.order.is_empty();
        if let Some(form) = self.lowering.joined.take().filter(|form| is_alone && form.len() == self.filters.len())
            && let [root] = self.lowering.frames.as_slice()
            && root.grouped.len() == 1
            && let Some(select) = self.lowering.joined_select(root.clone(), form)
        {
            return select;
        }
        let frame = &self.lowering.frames[0];
        let names = self.lowering.schema.entity(&frame.entity).map(|e| e.key.clone()).unwrap_or_default();
        for name in names {
            self.columns.push((Expr::col((Alias::new(ROOT), Alias::new(&name))), Some(name)));
        }
        self.finish()
    }

    /// The keys of the rows that a path of links leads to, each once.
    pub fn reached(mut self, path: &Path) -> SelectStatement {
        let alias = self.lowering.follow(&path.hops, JoinType::InnerJoin);
        let names = self.lowering.schema.entity(&path.entity).map(|e| e.key.clone()).unwrap_or_default();
        for name in names {
            self.columns.push((Expr::col((Alias::new(&alias), Alias::new(&name))), Some(name)));
        }
        self.finish().distinct().to_owned()
    }

    /// The keys of the rows from which a path of links leads nowhere.
    pub fn unreached(mut self, path: &Path) -> SelectStatement {
        let alias = self.lowering.follow(&path.hops, JoinType::LeftJoin);
        let key = self.lowering.schema.entity(&path.entity).and_then(|e| e.key.first().cloned()).unwrap_or_default();
        self.filters.push(Expr::col((Alias::new(&alias), Alias::new(&key))).is_null());
        self.keys()
    }

    /// The keys of the rows from which a path of links leads to one of the rows of `to`, each once.
    pub fn leading(mut self, path: &Path, to: SelectStatement) -> SelectStatement {
        let alias = self.lowering.follow(&path.hops, JoinType::InnerJoin);
        let names = self.lowering.schema.entity(&path.entity).map(|e| e.key.clone()).unwrap_or_default();
        let columns: Vec<Expr> = names.iter().map(|name| Expr::col((Alias::new(&alias), Alias::new(name)))).collect();
        self.filters.push(Expr::tuple(columns).in_subquery(to));
        self.keys().distinct().to_owned()
    }

    /// Keeps the rows whose keys `set` selects, too.
    pub fn within(&mut self, set: SelectStatement) {
        self.filters.push(Expr::tuple(self.key()).in_subquery(set));
    }

    /// The SELECT with the columns asked for.
    pub fn finish(self) -> SelectStatement {
        let mut lowering = self.lowering;
        let root = lowering.frames.swap_remove(0);
        let schema = lowering.schema;
        let mut select = Statement::select();
        for (expr, name) in self.columns {
            match name {
                Some(name) => select.expr_as(expr, Alias::new(name)),
                None => select.expr(expr),
            };
        }
        let entity = schema.entity(&root.entity);
        let table = entity.map(|e| aliased(&e.table, &root.alias));
        match (self.set, table) {
            (Some((set, _)), _) if self.is_alone => {
                select.from_subquery(set, Alias::new(ROOT));
            }
            (Some((set, kind)), Some(table)) => {
                let on = entity.iter().flat_map(|e| &e.key).map(|key| {
                    Expr::col((Alias::new(ROOT), Alias::new(key))).equals((Alias::new(SET), Alias::new(key)))
                });
                select.from_subquery(set, Alias::new(SET)).join(kind, table, all_of(on));
            }
            (None, Some(table)) => {
                select.from(table);
            }
            (_, None) => {}
        }
        lowering.add_joins(&mut select, root);
        self.filters.into_iter().for_each(|filter| {
            select.and_where(filter);
        });
        self.order.into_iter().for_each(|expr| {
            select.order_by_expr(expr, Order::Asc);
        });
        select
    }
}

pub(super) fn all_of(conditions: impl IntoIterator<Item = Expr>) -> Expr {
    conditions.into_iter().reduce(ExprTrait::and).unwrap_or_else(|| Expr::val(true))
}

pub(super) fn aliased(table: &Table, alias: &str) -> TableRef {
    let reference = match &table.schema {
        Some(schema) => (Alias::new(schema), Alias::new(&table.name)).into_table_ref(),
        None => Alias::new(&table.name).into_table_ref(),
    };
    reference.alias(Alias::new(alias))
}
