//! `enrich`: adds values to the rows that templates behind it read under a name.
//!
//! ```yaml
//! enrich: {as: flight, fields: [booking.flight.number, booking.flight.gate]}          # {{ flight.number }}
//! enrich: {as: spent, aggregate: 'customer.payments.map(p, p.amount).sum()'}          # {{ spent }}
//! enrich: {as: films, link: customer.rentals, top: 3, orderBy: rental_date, direction: Descending}
//! ```
//!
//! The values are taken when the step is evaluated and stand in its work table. Of a link's rows only the fields that
//! some template reads are fetched: `{% for film in films %}{{ film.inventory.film.title }}{% endfor %}`.

use sea_query::{Alias, Expr, ExprTrait, Query as Statement, SelectStatement};

use super::{
    Compiled, Ground, Output, Place, RuleFaults, Selects,
    order::{collation, key_terms},
};
use crate::{
    api::step::{self, Direction, Shape},
    plan::{
        Finding,
        message::{RESERVED, portable},
    },
    rule::{
        Dialect, FieldType, Path, Query, Rule, Schema, check_path, check_value,
        schema::{Entity, Link},
    },
};

/// A name that templates behind the step may read, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enriched {
    pub name: String,
    /// The output in whose work table the values stand.
    pub output: String,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Each field, the column it stands in, and its type.
    Fields(Vec<(String, String, FieldType)>),
    Value(String, FieldType),
    /// So many rows of an entity, in one column, as a list or each under a name of its own.
    Rows {
        entity: String,
        column: String,
        top: u16,
        shape: Shape,
    },
}

pub struct Enrich {
    pub input: String,
    entity: String,
    name: String,
    content: Content,
}

enum Content {
    Fields(Vec<(String, Path)>),
    Value(Rule),
    Rows(Box<Rows>),
}

struct Rows {
    /// The to-one links before the one to many.
    before: Vec<String>,
    link: Link,
    top: u16,
    order: Option<(Path, FieldType, bool)>,
    /// What templates read of each row, in the order in which it stands there.
    reads: Vec<(Path, FieldType)>,
}

pub fn compile(step: &step::Enrich, place: &Place<'_>) -> Result<(Compiled, Vec<Output>), Vec<Finding>> {
    let (input, entity) = place.input()?;
    let name = step.name.to_string();
    let wrong = |message: String| vec![place.finding("enrich", "as", message)];
    if place.schema.entity(&name).is_some() || RESERVED.iter().any(|(reserved, _)| *reserved == name) {
        return Err(wrong(format!("`{name}` already means something to templates")));
    }
    if entity.key.contains(&name) {
        return Err(wrong(format!("`{name}` is a key field of {}", entity.name)));
    }
    if place.inputs.iter().flat_map(|input| &input.enriched).any(|known| known.name == name) {
        return Err(wrong(format!("an earlier step adds `{name}` already")));
    }
    let (content, kind) = match (&step.aggregate, &step.link, step.top) {
        (None, None, _) if !step.fields.is_empty() => fields(step, place, entity)?,
        (Some(aggregate), None, _) => value(aggregate, step, place, entity)?,
        (None, Some(link), Some(top)) => rows(link, top, step, place, entity)?,
        _ => return Err(wrong("enrich has exactly one of fields, aggregate, and link with top".to_owned())),
    };
    let columns = match &kind {
        Kind::Fields(fields) => fields.iter().map(|(_, column, ty)| (column.clone(), *ty)).collect(),
        Kind::Value(column, ty) => vec![(column.clone(), *ty)],
        Kind::Rows { column, .. } => vec![(column.clone(), FieldType::String)],
    };
    let enriched = Enriched { name: name.clone(), output: place.step.to_owned(), kind };
    let output = Output { columns, enriched: vec![enriched], ..Output::of(place.step, &entity.name) };
    let compiled = Enrich { input: input.to_owned(), entity: entity.name.clone(), name, content };
    Ok((Compiled::Enrich(compiled), vec![output]))
}

fn fields(step: &step::Enrich, place: &Place<'_>, entity: &Entity) -> Result<(Content, Kind), Vec<Finding>> {
    let (mut paths, mut kinds, mut found) = (vec![], vec![], vec![]);
    for (index, text) in step.fields.iter().enumerate() {
        let at = format!("fields[{index}]");
        match place.one_field(text, &entity.name, "enrich", &at) {
            Ok((path, ty)) => {
                let field = path.field.clone().unwrap_or_default();
                let column = column(&step.name, index);
                if kinds.iter().any(|(known, _, _)| *known == field) {
                    found.push(place.finding("enrich", &at, format!("`{}.{field}` is there already", step.name)));
                }
                paths.push((column.clone(), path));
                kinds.push((field, column, ty));
            }
            Err(finding) => found.push(finding),
        }
    }
    if found.is_empty() { Ok((Content::Fields(paths), Kind::Fields(kinds))) } else { Err(found) }
}

/// Short and apart from every key, whatever the fields are called.
fn column(name: &str, index: usize) -> String {
    format!("{name}.{}", index + 1)
}

fn value(text: &str, step: &step::Enrich, place: &Place<'_>, entity: &Entity) -> Result<(Content, Kind), Vec<Finding>> {
    let at = || place.path("enrich", "aggregate");
    let rule = check_value(text, place.schema, &entity.name)
        .map_err(|problem| Finding::of_problems(place.this, &at(), problem))?;
    let Some(ty) = rule.field_type() else {
        let message = "a length of time is not a value that a template can show";
        return Err(vec![place.finding("enrich", "aggregate", message)]);
    };
    Ok((Content::Value(rule), Kind::Value(step.name.to_string(), ty)))
}

fn rows(
    text: &str,
    top: u16,
    step: &step::Enrich,
    place: &Place<'_>,
    entity: &Entity,
) -> Result<(Content, Kind), Vec<Finding>> {
    let wrong = |message: String| vec![place.finding("enrich", "link", message)];
    let path = check_path(text, place.schema, &entity.name)
        .map_err(|problem| vec![Finding::of_problem(place.this, place.path("enrich", "link"), problem)])?;
    let mut at = entity;
    let mut link = None;
    for (index, hop) in path.hops.iter().enumerate() {
        let Some(found) = at.link(hop) else { break };
        if found.is_many && index + 1 < path.hops.len() {
            return Err(wrong(format!("of `{text}` only the last link may lead to many rows")));
        }
        link = Some(found.clone());
        at = place.schema.entity(&found.to).unwrap_or(at);
    }
    let Some(link) = link.filter(|link| link.is_many && path.field.is_none()) else {
        let hint = "what each row has one of is read with `fields`";
        return Err(vec![place.finding("enrich", "link", format!("`{text}` does not lead to many rows")).hint(hint)]);
    };
    if place.schema.entity(&link.to).is_some_and(|to| to.is_history) {
        return Err(wrong(format!("`{text}` is history that the store keeps, and cannot be listed")));
    }
    let order = step.order_by.as_ref().map(|text| {
        let (path, ty) = place.one_field(text, &link.to, "enrich", "orderBy")?;
        Ok((path, ty, step.direction == Some(Direction::Descending)))
    });
    let order = order.transpose().map_err(|finding: Finding| vec![finding])?;
    let (column, shape) = (step.name.to_string(), step.shape.unwrap_or_default());
    let kind = Kind::Rows { entity: link.to.clone(), column, top, shape };
    let before = path.hops[..path.hops.len() - 1].to_vec();
    Ok((Content::Rows(Box::new(Rows { before, link, top, order, reads: vec![] })), kind))
}

impl Enrich {
    pub fn rules(&self) -> Vec<(String, &Rule)> {
        match &self.content {
            Content::Value(rule) => vec![("enrich.aggregate".to_owned(), rule)],
            _ => vec![],
        }
    }

    /// Says what templates read of the link's rows; each stands at its own place in a row's list of values.
    pub fn read(&mut self, reads: Vec<(Path, FieldType)>) {
        if let Content::Rows(rows) = &mut self.content {
            rows.reads = reads;
        }
    }

    /// Entity and field of each value that one of its columns is made of.
    pub fn carried(&self, column: &str, schema: &Schema) -> Vec<(String, String)> {
        let end = |path: &Path| (path.entity.clone(), path.field.clone().unwrap_or_default());
        match &self.content {
            Content::Fields(fields) => {
                fields.iter().filter(|(name, _)| name == column).map(|(_, path)| end(path)).collect()
            }
            Content::Value(rule) => rule.carried(schema, &self.entity),
            Content::Rows(rows) => rows.reads.iter().map(|(path, _)| end(path)).collect(),
        }
    }

    pub fn selects(&self, ground: &Ground<'_>) -> Selects {
        self.select_over(ground, &(ground.input)(&self.input)).map_or_else(Selects::default, Selects::one)
    }

    pub fn faults(&self, ground: &Ground<'_>) -> Vec<RuleFaults> {
        let (Content::Value(rule), Some(entity)) = (&self.content, ground.schema.entity(&self.entity)) else {
            return vec![];
        };
        let query = Query::over_set(ground.schema, entity, ground.dialect, (ground.input)(&self.input));
        let found = query.faults(rule, ground.inputs);
        found.into_iter().map(|(places, select)| RuleFaults { entity: self.entity.clone(), places, select }).collect()
    }

    /// The enriched rows of a set that may be another than the step's own input.
    pub fn select_over(&self, ground: &Ground<'_>, set: &SelectStatement) -> Option<SelectStatement> {
        let entity = ground.schema.entity(&self.entity)?;
        let mut query = Query::over_set(ground.schema, entity, ground.dialect, set.clone());
        match &self.content {
            Content::Fields(fields) => {
                for (column, path) in fields {
                    let value = query.path(path);
                    query.column(value, column);
                }
            }
            Content::Value(rule) => {
                let value = query.value(rule, ground.inputs);
                query.column(value, &self.name);
            }
            Content::Rows(rows) => {
                let listed = rows.select(ground, entity, set)?;
                let here = rows.here(&mut query);
                query.join_left(listed, "l", here.into_iter().zip(rows.there()));
                query.column(Expr::col((Alias::new("l"), Alias::new("listed"))), &self.name);
            }
        }
        Some(query.keys())
    }
}

impl Rows {
    /// The fields on this side of the link.
    fn here(&self, query: &mut Query<'_>) -> Vec<Expr> {
        let path = |field: &String| Path {
            hops: self.before.clone(),
            field: Some(field.clone()),
            entity: String::new(),
            is_many: false,
        };
        self.link.keys.iter().map(|(here, _)| query.path(&path(here))).collect()
    }

    /// The columns of the other side.
    fn there(&self) -> impl Iterator<Item = String> {
        (0..self.link.keys.len()).map(|index| format!("k{index}"))
    }

    /// For each value of the link the first rows behind it, as one JSON list of lists.
    fn select(&self, ground: &Ground<'_>, entity: &Entity, set: &SelectStatement) -> Option<SelectStatement> {
        let to = ground.schema.entity(&self.link.to)?;
        let mut query = Query::over(ground.schema, to, ground.dialect);
        let keys: Vec<Expr> = self.link.keys.iter().map(|(_, there)| query.path(&Path::own(&to.name, there))).collect();
        for (key, name) in keys.iter().zip(self.there()) {
            query.column(key.clone(), &name);
        }
        for (index, (path, ty)) in self.reads.iter().enumerate() {
            let value = query.path(path);
            let value = portable(&query, value, *ty);
            query.column(value, &format!("v{index}"));
        }
        let (mut terms, mut order) = (String::new(), vec![]);
        if let Some((path, ty, is_last)) = &self.order {
            let way = if *is_last { "DESC" } else { "ASC" };
            terms = format!("?{} {way} NULLS LAST, ", collation(*ty, ground.dialect));
            order.push(query.path(path));
        }
        order.extend(query.key());
        let marks = vec!["?"; keys.len()].join(", ");
        let template =
            format!("row_number() OVER (PARTITION BY {marks} ORDER BY {terms}{})", key_terms(to, ground.dialect));
        let place = query.custom(&template, keys.clone().into_iter().chain(order));
        query.column(place, "place");
        // Only what the set's rows lead to is ranked.
        let mut reached = Query::over_set(ground.schema, entity, ground.dialect, set.clone());
        for (value, name) in self.here(&mut reached).into_iter().zip(self.there()) {
            reached.column(value, &name);
        }
        query.filter(Expr::tuple(keys).in_subquery(reached.finish()));

        let mut select = Statement::select();
        let mut values = vec![];
        for index in 0..self.reads.len() {
            values.push(Expr::col(Alias::new(format!("v{index}"))));
        }
        let marks = vec!["?"; values.len()].join(", ");
        let template = match ground.dialect {
            Dialect::Sqlite => format!("json_group_array(json_array({marks}) ORDER BY place)"),
            Dialect::Postgres => format!("CAST(json_agg(json_build_array({marks}) ORDER BY place) AS TEXT)"),
        };
        for name in self.there() {
            select.column(Alias::new(&name)).group_by_col(Alias::new(&name));
        }
        let listed = Query::over(ground.schema, to, ground.dialect).custom(&template, values);
        select.expr_as(listed, Alias::new("listed")).from_subquery(query.finish(), Alias::new("r"));
        select.and_where(Expr::col(Alias::new("place")).lte(i64::from(self.top)));
        Some(select)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{golden_with, said_with};

    fn steps(enrich: &str) -> String {
        format!(
            "- {{name: all, audience: {{entity: customer, where: \"true\"}}}}\n- {{name: it, enrich: {enrich}}}\n\
             - {{name: mail, email: {{channel: out, template: hello}}}}"
        )
    }

    #[test]
    fn becomes_sql() {
        let fields = steps("{as: who, fields: [tier, customer.joined]}");
        insta::assert_snapshot!("enrich_fields", golden_with(&fields, "{{ who.tier }}"));
        let value = steps("{as: spent, aggregate: 'customer.orders.map(o, o.total).sum()'}");
        insta::assert_snapshot!("enrich_aggregate", golden_with(&value, "{{ spent }}"));
        let rows = steps("{as: orders, link: customer.orders, top: 3, orderBy: updated_at, direction: Descending}");
        let text =
            "{% for o in orders %}{{ o.total }} {{ o.customer.tier }}{% endfor %}{{ orders[0].updated_at | date }}";
        insta::assert_snapshot!("enrich_rows", golden_with(&rows, text));
    }

    #[test]
    fn says_what_is_wrong() {
        let wrong = |enrich: &str, text: &str| said_with(&steps(enrich), text);
        let rows = "{as: orders, link: customer.orders, top: 3}";
        let words = [
            wrong("{as: customer, fields: [tier]}", ""),
            wrong("{as: who, fields: [teir, orders]}", ""),
            wrong("{as: n, aggregate: 'customer.orders'}", ""),
            wrong("{as: orders, link: customer.tier, top: 3}", ""),
            wrong("{as: orders, link: customer.orders, top: 3, orderBy: price}", ""),
            wrong("{as: who, fields: [tier]}", "{{ who.teir }}"),
            wrong("{as: n, aggregate: 'size(customer.orders)'}", "{{ n.x }} {% for x in n %}{% endfor %}"),
            wrong(rows, "{% for o in orders %}{{ o.totl }}{% endfor %}"),
            wrong(rows, "{{ orders.total }}"),
            wrong(rows, "{% for o in ordrs %}{{ o.total }}{% endfor %}"),
            wrong(rows, "{% for o in orders %}{{ o }}{% endfor %}"),
            wrong("{as: last, link: customer.orders, top: 2, shape: Columns}", "{{ last_1.total }} {{ last_3.total }}"),
        ];
        insta::assert_snapshot!("enrich_wrong", words.join("\n"));
    }
}
