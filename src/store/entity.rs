//! The tables of a Dataset: made and extended.
//!
//! They are ordinary tables that a person can query: in PostgreSQL in the schema `<namespace>_<dataset>`, in
//! SQLite under that prefix.

use std::collections::{BTreeMap, BTreeSet};

use sea_query::{Alias, ColumnDef, Expr, Index, Query, SelectStatement, Table as TableStatement, TableRef, UnionType};
use sha2::{Digest, Sha256};

use super::{Bind, Error, Result, Sql, Store, Tx, erased::ERASED};
use crate::{
    api::dataset::{Entity, FieldKind},
    rule::{Dialect, FieldType, schema::Table},
};

/// PostgreSQL cuts longer identifiers silently, which could make two names one.
/// A table that grew by fewer rows at once is not worth describing anew.
const DESCRIBED_ROWS_MIN: i64 = 10_000;
const IDENTIFIER_BYTES_MAX: usize = 63;

/// In the table of an entity with versions: the number of the file that a row is from. No field has a dot in its name.
pub(super) const FILE_COLUMN: &str = "file.no";

/// Where a Dataset's entities live.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub namespace: &'a str,
    pub dataset: &'a str,
    pub dialect: Dialect,
}

impl Place<'_> {
    /// The table of an entity.
    pub fn table(&self, entity: &str) -> Table {
        let owner = format!("{}_{}", self.namespace, self.dataset);
        match self.dialect {
            Dialect::Postgres => Table { schema: Some(identifier(&owner)), name: entity.to_owned() },
            Dialect::Sqlite => Table { schema: None, name: format!("{owner}_{entity}") },
        }
    }

    /// The table's name as a person types it into a query.
    pub fn table_name(&self, entity: &str) -> String {
        let table = self.table(entity);
        table.schema.map_or_else(|| format!("\"{}\"", table.name), |schema| format!("\"{schema}\".\"{}\"", table.name))
    }

    /// The table of what was deleted, with the version that it had. No entity has a dot in its name.
    pub(super) fn tombstones(&self, entity: &str) -> Table {
        self.table(&format!("{entity}.deleted"))
    }

    pub(super) fn tombstones_name(&self, entity: &str) -> String {
        self.table_name(&format!("{entity}.deleted"))
    }

    pub(super) fn key(&self, entity: &str) -> Vec<Bind> {
        vec![self.namespace.into(), self.dataset.into(), entity.into()]
    }
}

/// A name that the database takes whole; a longer one keeps its beginning and a hash.
pub(super) fn identifier(name: &str) -> String {
    if name.len() <= IDENTIFIER_BYTES_MAX {
        return name.to_owned();
    }
    let hash = Sha256::digest(name.as_bytes());
    format!("{}_{:02x}{:02x}{:02x}{:02x}", &name[..IDENTIFIER_BYTES_MAX - 9], hash[0], hash[1], hash[2], hash[3])
}

/// The reference that sea-query builds statements with.
pub fn table_ref(table: &Table) -> TableRef {
    use sea_query::IntoTableRef;
    match &table.schema {
        Some(schema) => (Alias::new(schema), Alias::new(&table.name)).into_table_ref(),
        None => Alias::new(&table.name).into_table_ref(),
    }
}

/// Quotes an identifier; both databases double the quote inside.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(super) fn column(name: &str, kind: FieldKind, precision: u8, scale: u8, dialect: Dialect) -> ColumnDef {
    let mut column = ColumnDef::new(Alias::new(name));
    match (kind, dialect) {
        (FieldKind::String, _) => column.text(),
        (FieldKind::Integer, _) => column.big_integer(),
        (FieldKind::Decimal, Dialect::Postgres) => column.decimal_len(u32::from(precision), u32::from(scale)),
        (FieldKind::Double, _) => column.double(),
        (FieldKind::Boolean, _) => column.boolean(),
        (FieldKind::Date, Dialect::Postgres) => column.date(),
        (FieldKind::Date, Dialect::Sqlite) => column.text(),
        (FieldKind::Timestamp, Dialect::Postgres) => column.timestamp_with_time_zone(),
        (FieldKind::Decimal | FieldKind::Timestamp, Dialect::Sqlite) => column.big_integer(),
    };
    column
}

/// A key field as a column of a work table.
pub(super) fn key_column(entity: &Entity, name: &str, dialect: Dialect) -> ColumnDef {
    let kind = entity.fields.iter().find(|f| *f.name == *name).map_or(FieldKind::String, |f| f.kind);
    column(name, kind, 18, 0, dialect)
}

/// A value that is no field of an entity, as a column of a work table; a Decimal has the digits that it comes to.
pub(super) fn value_column(name: &str, ty: FieldType, dialect: Dialect) -> ColumnDef {
    let kind = match ty {
        FieldType::String => FieldKind::String,
        FieldType::Integer => FieldKind::Integer,
        FieldType::Double => FieldKind::Double,
        FieldType::Boolean => FieldKind::Boolean,
        FieldType::Date => FieldKind::Date,
        FieldType::Timestamp => FieldKind::Timestamp,
        FieldType::Decimal { scale } => match dialect {
            Dialect::Sqlite => return column(name, FieldKind::Decimal, 18, scale, dialect),
            Dialect::Postgres => return ColumnDef::new(Alias::new(name)).decimal().to_owned(),
        },
    };
    column(name, kind, 18, 0, dialect)
}

/// The name of a run's work table: unique by the run's number, whole in either database.
pub fn work_table(run_no: i64, output: &str) -> String {
    identifier(&format!("w_{run_no}_{}", output.replace('.', "_")))
}

/// The table of an audience's keys. No entity's table has two `_` in a row there: a dataset's name begins with none.
pub(super) fn kept_table(namespace: &str, audience: &str, entity: &str) -> String {
    identifier(&format!("audience__{namespace}_{audience}_{entity}"))
}

/// A field's type in words, as it stands in the shape.
fn type_words(field: &crate::api::dataset::Field) -> String {
    match field.kind {
        FieldKind::Decimal => format!("Decimal({}, {})", field.precision.unwrap_or(18), field.scale.unwrap_or(0)),
        other => format!("{other:?}"),
    }
}

/// What cannot change without a migration: the key, and the type of each column that exists.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Shape {
    key: Vec<String>,
    columns: BTreeMap<String, String>,
    /// The field by which rows are newer or older; there is a table of tombstones for it.
    #[serde(default)]
    version: Option<String>,
}

impl Shape {
    fn of(entity: &Entity) -> Self {
        let columns = entity.fields.iter().map(|f| (f.name.to_string(), type_words(f))).collect();
        let version = entity.version.as_ref().map(ToString::to_string);
        Self { key: entity.key.iter().map(ToString::to_string).collect(), columns, version }
    }

    /// Whether a table of this shape serves an entity of another.
    fn serves(&self, wanted: &Self) -> bool {
        let has = |(name, kind): (&String, &String)| self.columns.get(name) == Some(kind);
        self.key == wanted.key && wanted.columns.iter().all(has) && self.version == wanted.version
    }
}

impl Store {
    /// Makes the entity's table, or extends it by the fields that are new.
    ///
    /// # Errors
    /// [`Error::Refused`] if a type or the key changed, with the steps to migrate.
    pub async fn ensure_entity(&self, place: Place<'_>, entity: &Entity) -> Result<()> {
        let wanted = Shape::of(entity);
        let read = "SELECT shape FROM shape WHERE namespace = $1 AND dataset = $2 AND entity = $3";
        let found = self.fetch_one(Sql::composed(read.to_owned(), place.key(&entity.name))).await?;
        // What was read in place until now has no rows of its own.
        if found.as_ref().map(|row| row.get::<String>(0)).transpose()?.is_some_and(|text| super::view::is_view(&text)) {
            let drop = format!("DROP VIEW IF EXISTS {}", place.table_name(&entity.name));
            self.execute(Sql::composed(drop, vec![])).await?;
        }
        let found: Option<Shape> =
            found.map(|row| row.get::<String>(0)).transpose()?.and_then(|text| serde_json::from_str(&text).ok());
        if found.as_ref().is_some_and(|found| found.serves(&wanted)) {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        let mut merged = wanted.clone();
        match found {
            None => {
                tx.create_entity(place, entity).await?;
                tx.keep_versions(place, entity).await?;
            }
            Some(found) => {
                refuse_retyping(place, entity, &found, &wanted)?;
                let added = entity.fields.iter().filter(|f| !found.columns.contains_key(&*f.name));
                tx.add_columns(place, entity, added).await?;
                if found.version != wanted.version {
                    tx.keep_versions(place, entity).await?;
                }
                // A field that was removed is hidden: its column stays, and so does its type.
                merged.columns.extend(found.columns);
            }
        }
        let text = serde_json::to_string(&merged).map_err(|e| Error::Internal(e.to_string()))?;
        let write = "INSERT INTO shape (namespace, dataset, entity, shape) VALUES ($1, $2, $3, $4) \
                     ON CONFLICT (namespace, dataset, entity) DO UPDATE SET shape = excluded.shape";
        let binds = place.key(&entity.name).into_iter().chain([text.into()]).collect();
        tx.execute(Sql::composed(write.to_owned(), binds)).await?;
        tx.commit().await
    }

    /// The entities of a Dataset that have a table or a view here.
    pub async fn entities_there(&self, place: Place<'_>) -> Result<BTreeSet<String>> {
        let sql = "SELECT entity FROM shape WHERE namespace = $1 AND dataset = $2";
        let rows = self.fetch(Sql::new(sql).bind(place.namespace).bind(place.dataset)).await?;
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// The entities of a Dataset that have a table here, with the type of each column in words; of a view, whose columns
    /// are the declared ones, nothing.
    pub async fn columns_there(&self, place: Place<'_>) -> Result<BTreeMap<String, Option<BTreeMap<String, String>>>> {
        let sql = "SELECT entity, shape FROM shape WHERE namespace = $1 AND dataset = $2";
        let rows = self.fetch(Sql::new(sql).bind(place.namespace).bind(place.dataset)).await?;
        let columns = |text: String| serde_json::from_str::<Shape>(&text).ok().map(|shape| shape.columns);
        rows.iter().map(|row| Ok((row.get(0)?, columns(row.get(1)?)))).collect()
    }

    /// How many rows an entity's table holds.
    pub async fn entity_rows(&self, place: Place<'_>, entity: &str) -> Result<i64> {
        let count =
            Query::select().expr(sea_query::Expr::cust("count(*)")).from(table_ref(&place.table(entity))).to_owned();
        self.fetch_one(Sql::query(&count, place.dialect)?).await?.map_or(Ok(0), |row| row.get(0))
    }

    /// About how many rows an entity's table holds, without reading them: as the planner knows it on PostgreSQL; on SQLite
    /// no fewer than there are.
    pub async fn rows_about(&self, place: Place<'_>, entity: &str) -> Result<i64> {
        let name = place.table_name(entity);
        let row = match place.dialect {
            Dialect::Postgres => {
                // Nobody looked at it yet: rows are hardly shorter than 64 bytes.
                let sql = "SELECT CAST(CASE WHEN reltuples < 0 THEN pg_relation_size(oid) / 64 ELSE reltuples END AS BIGINT) \
                           FROM pg_class WHERE oid = to_regclass($1)";
                self.fetch_one(Sql::new(sql).bind(name)).await?
            }
            Dialect::Sqlite => {
                let sql = format!("SELECT coalesce(max(rowid), 0) FROM {name}");
                self.fetch_one(Sql::composed(sql, vec![])).await?
            }
        };
        row.map_or(Ok(0), |row| row.get(0))
    }

    /// Tells the planner what a table holds now, if `rows` more than a tenth of it, and not few, have come at once:
    /// PostgreSQL would find out by itself, minutes later. Of less its own count of changes takes care.
    pub async fn describe_growth(&self, place: Place<'_>, entity: &str, rows: i64) -> Result<()> {
        if place.dialect != Dialect::Postgres || rows < DESCRIBED_ROWS_MIN {
            return Ok(());
        }
        if rows >= self.rows_about(place, entity).await? / 10 {
            self.execute(Sql::composed(format!("ANALYZE {}", place.table_name(entity)), vec![])).await?;
        }
        Ok(())
    }
}

fn refuse_retyping(place: Place<'_>, entity: &Entity, found: &Shape, wanted: &Shape) -> Result<()> {
    let migrate = format!(
        "to migrate, declare a new entity or field, or drop table {} and its row in `shape`",
        place.table_name(&entity.name)
    );
    if found.key != wanted.key {
        return Err(Error::Refused(format!(
            "the key of {} was ({}) and cannot become ({}); {migrate}",
            entity.name,
            found.key.join(", "),
            wanted.key.join(", ")
        )));
    }
    for (name, kind) in &wanted.columns {
        if let Some(was) = found.columns.get(name).filter(|was| *was != kind) {
            return Err(Error::Refused(format!(
                "{}.{name} was {was} and cannot become {kind}; {migrate}",
                entity.name
            )));
        }
    }
    Ok(())
}

impl Tx {
    async fn create_entity(&mut self, place: Place<'_>, entity: &Entity) -> Result<()> {
        let table = place.table(&entity.name);
        if let Some(schema) = &table.schema {
            let create = format!("CREATE SCHEMA IF NOT EXISTS {}", quoted(schema));
            self.execute(Sql::composed(create, vec![])).await?;
        }
        let mut create = TableStatement::create();
        create.table(table_ref(&table)).if_not_exists();
        for field in &entity.fields {
            create.col(column(
                &field.name,
                field.kind,
                field.precision.unwrap_or(18),
                field.scale.unwrap_or(0),
                place.dialect,
            ));
        }
        let mut key = Index::create();
        for name in &entity.key {
            key.col(Alias::new(&**name));
        }
        create.primary_key(&mut key);
        self.execute(Sql::define(&create, place.dialect)).await?;
        self.index_links(place, entity).await
    }

    /// What it takes to tell newer from older: where a row is from, and what was deleted.
    async fn keep_versions(&mut self, place: Place<'_>, entity: &Entity) -> Result<()> {
        let Some(version) = entity.fields.iter().find(|f| Some(&f.name) == entity.version.as_ref()) else {
            return Ok(());
        };
        let mut file_no = ColumnDef::new(Alias::new(FILE_COLUMN));
        file_no.big_integer();
        if !self.has_file_column(place, entity).await? {
            let mut alter = TableStatement::alter();
            alter.table(table_ref(&place.table(&entity.name))).add_column(file_no.clone());
            self.execute(Sql::define(&alter, place.dialect)).await?;
        }
        // Tombstones of another version field say nothing about this one.
        let drop = format!("DROP TABLE IF EXISTS {}", place.tombstones_name(&entity.name));
        self.execute(Sql::composed(drop, vec![])).await?;
        let mut create = TableStatement::create();
        create.table(table_ref(&place.tombstones(&entity.name)));
        let mut key = Index::create();
        for name in &entity.key {
            create.col(key_column(entity, name, place.dialect));
            key.col(Alias::new(&**name));
        }
        if !entity.key.contains(&version.name) {
            let (precision, scale) = (version.precision.unwrap_or(18), version.scale.unwrap_or(0));
            create.col(column(&version.name, version.kind, precision, scale, place.dialect));
        }
        create.col(file_no).primary_key(&mut key);
        self.execute(Sql::define(&create, place.dialect)).await?;
        Ok(())
    }

    async fn has_file_column(&mut self, place: Place<'_>, entity: &Entity) -> Result<bool> {
        let table = place.table(&entity.name);
        let sql = match place.dialect {
            Dialect::Sqlite => Sql::new("SELECT 1 FROM pragma_table_info($1) WHERE name = $2").bind(&table.name),
            Dialect::Postgres => Sql::new(
                "SELECT 1 FROM information_schema.columns WHERE table_name = $1 AND column_name = $2 AND table_schema = $3",
            )
            .bind(&table.name),
        };
        let sql = sql.bind(FILE_COLUMN);
        let sql = match &table.schema {
            Some(schema) => sql.bind(schema),
            None => sql,
        };
        Ok(self.fetch_one(sql).await?.is_some())
    }

    /// A link is followed in both directions, so the columns that hold it are indexed.
    async fn index_links(&mut self, place: Place<'_>, entity: &Entity) -> Result<()> {
        let table = place.table(&entity.name);
        for link in &entity.links {
            let name = identifier(&format!("{}_by_{}", table.name, link.name));
            let mut index = Index::create();
            index.if_not_exists().name(name).table(table_ref(&table));
            for here in link.keys.keys() {
                index.col(Alias::new(here));
            }
            self.execute(Sql::define(&index, place.dialect)).await?;
        }
        Ok(())
    }

    async fn add_columns<'f>(
        &mut self,
        place: Place<'_>,
        entity: &Entity,
        fields: impl Iterator<Item = &'f crate::api::dataset::Field>,
    ) -> Result<()> {
        for field in fields {
            let mut alter = TableStatement::alter();
            let mut definition =
                column(&field.name, field.kind, field.precision.unwrap_or(18), field.scale.unwrap_or(0), place.dialect);
            alter.table(table_ref(&place.table(&entity.name))).add_column(&mut definition);
            self.execute(Sql::define(&alter, place.dialect)).await?;
        }
        self.index_links(place, entity).await
    }
}

/// The canonical text of a row's key: the value itself, or a JSON array of several.
///
/// A key field is a String, an Integer or a Date; others are refused where the Dataset is checked.
pub fn canonical_key(dialect: Dialect, entity: &Entity, alias: &str) -> String {
    let part = |name: &str| {
        let column = format!("{alias}.{}", quoted(name));
        let is_date = entity.fields.iter().any(|f| *f.name == *name && f.kind == FieldKind::Date);
        match dialect {
            Dialect::Postgres if is_date => format!("to_char({column}, 'YYYY-MM-DD')"),
            _ => column,
        }
    };
    match (entity.key.as_slice(), dialect) {
        ([one], _) => format!("CAST({} AS TEXT)", part(one)),
        (several, Dialect::Sqlite) => {
            format!("json_array({})", several.iter().map(|k| part(k)).collect::<Vec<_>>().join(", "))
        }
        (several, Dialect::Postgres) => {
            let parts: Vec<String> = several.iter().map(|k| format!("to_json({})::text", part(k))).collect();
            format!("('[' || {} || ']')", parts.join(" || ',' || "))
        }
    }
}

/// The SELECT of the keys that are given by their canonical texts, in the types of the entity's key. Each part must be
/// one of its field's type: PostgreSQL refuses what is not.
pub fn keys_given(dialect: Dialect, entity: &Entity, items: &[String]) -> SelectStatement {
    let row = |item: &String| {
        let text = match dialect {
            Dialect::Sqlite => Expr::cust_with_exprs("CAST(? AS TEXT)".to_owned(), [Expr::val(item.clone())]),
            Dialect::Postgres => Expr::cust_with_exprs("CAST($ AS TEXT)".to_owned(), [Expr::val(item.clone())]),
        };
        Query::select().expr_as(text, Alias::new("item")).to_owned()
    };
    let mut rows = items.iter().map(row);
    let mut given = rows.next().unwrap_or_else(|| {
        let none = Expr::cust("CAST(NULL AS TEXT)");
        Query::select().expr_as(none, Alias::new("item")).and_where(Expr::cust("1 = 0")).to_owned()
    });
    rows.for_each(|row| {
        given.union(UnionType::All, row);
    });
    let mut select = Query::select();
    for (index, name) in entity.key.iter().enumerate() {
        select.expr_as(Expr::cust(key_part(dialect, entity, index, "g.item")), Alias::new(&**name));
    }
    select.from_subquery(given, Alias::new("g")).to_owned()
}

/// The way back: the value of the `index`-th key field out of the canonical text in `text`.
pub fn key_part(dialect: Dialect, entity: &Entity, index: usize, text: &str) -> String {
    let kind = entity.fields.iter().find(|f| f.name == entity.key[index]).map(|f| f.kind);
    let raw = match (entity.key.len(), dialect) {
        (1, _) => text.to_owned(),
        (_, Dialect::Sqlite) => format!("json_extract({text}, '$[{index}]')"),
        (_, Dialect::Postgres) => format!("(CAST({text} AS json) ->> {index})"),
    };
    let value = match (kind, dialect) {
        (Some(FieldKind::Integer), _) => format!("CAST({raw} AS BIGINT)"),
        (Some(FieldKind::Date), Dialect::Postgres) => format!("CAST({raw} AS DATE)"),
        _ if entity.key.len() == 1 => return raw,
        _ => raw,
    };
    // What stands in the place of a key that was erased is the key of no row.
    format!("CASE WHEN {text} LIKE '{ERASED}%' THEN NULL ELSE {value} END")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_stay_apart() {
        let (a, b) = (identifier(&format!("{}a", "x".repeat(80))), identifier(&format!("{}b", "x".repeat(80))));
        assert!(a.len() <= IDENTIFIER_BYTES_MAX && a != b);
    }
}
