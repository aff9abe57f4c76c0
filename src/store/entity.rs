//! The tables of a Dataset: made, extended, and filled from files.
//!
//! They are ordinary tables that a person can query: in PostgreSQL in the schema `<namespace>_<dataset>`, in
//! SQLite under that prefix. A file is merged in one transaction with the note that it was read, so it counts
//! exactly once, whenever the process dies.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sea_query::{Alias, ColumnDef, Index, Query, Table as TableStatement, TableRef};
use sha2::{Digest, Sha256};

use super::{Bind, Error, Result, Sql, Store, Tx, micros};
use crate::{
    api::dataset::{Category, Entity, FieldKind},
    rule::{Dialect, schema::Table},
};

/// PostgreSQL cuts longer identifiers silently, which could make two names one.
const IDENTIFIER_BYTES_MAX: usize = 63;
/// Rows of one INSERT into SQLite's stage: below its 32,766 binds for any entity of up to 64 fields.
const STAGE_ROWS: usize = 200;

/// One value of a row, typed as its field is, in the form in which the database stores it.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Missing,
    Text(String),
    Integer(i64),
    Double(f64),
    Boolean(bool),
    /// Scaled by ten to the field's `scale`.
    Decimal(i64),
    /// `2026-03-31`
    Date(jiff::civil::Date),
    Timestamp(Timestamp),
}

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

    fn key(&self, entity: &str) -> Vec<Bind> {
        vec![self.namespace.into(), self.dataset.into(), entity.into()]
    }
}

/// A name that the database takes whole; a longer one keeps its beginning and a hash.
fn identifier(name: &str) -> String {
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

fn column(name: &str, kind: FieldKind, precision: u8, scale: u8, dialect: Dialect) -> ColumnDef {
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

/// The name of a run's work table: unique by the run's number, whole in either database.
pub fn work_table(run_no: i64, output: &str) -> String {
    identifier(&format!("w_{run_no}_{}", output.replace('.', "_")))
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
}

impl Shape {
    fn of(entity: &Entity) -> Self {
        let columns = entity.fields.iter().map(|f| (f.name.to_string(), type_words(f))).collect();
        Self { key: entity.key.iter().map(ToString::to_string).collect(), columns }
    }
}

/// What a file is remembered by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRead {
    pub path: String,
    /// Size and time of change: when it differs, the file was rewritten.
    pub stamp: String,
    /// The fields that were read from it: when it differs, a field was added.
    pub shape: String,
    pub rows: i64,
    pub rejected: i64,
    /// Why the file was refused whole, if it was.
    pub problem: Option<String>,
}

/// A row that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    pub line: i64,
    pub field: Option<String>,
    pub reason: String,
}

/// What an entity's table holds, for the status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntityCount {
    pub rows: i64,
    pub files: i64,
    pub rejected: i64,
    pub last_ingested: Option<Timestamp>,
    pub problem: Option<String>,
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
        let found: Option<Shape> =
            found.map(|row| row.get::<String>(0)).transpose()?.and_then(|text| serde_json::from_str(&text).ok());
        if found.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        let mut merged = wanted.clone();
        match found {
            None => tx.create_entity(place, entity).await?,
            Some(found) => {
                refuse_retyping(place, entity, &found, &wanted)?;
                let added = entity.fields.iter().filter(|f| !found.columns.contains_key(&*f.name));
                tx.add_columns(place, entity, added).await?;
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

    /// The files that were read for an entity.
    pub async fn files_read(&self, place: Place<'_>, entity: &str) -> Result<Vec<FileRead>> {
        let sql = "SELECT path, stamp, shape, row_count, rejected, problem FROM file WHERE namespace = $1 AND dataset = $2 AND entity = $3 ORDER BY path";
        let rows = self.fetch(Sql::composed(sql.to_owned(), place.key(entity))).await?;
        rows.iter()
            .map(|r| {
                Ok(FileRead {
                    path: r.get(0)?,
                    stamp: r.get(1)?,
                    shape: r.get(2)?,
                    rows: r.get(3)?,
                    rejected: r.get(4)?,
                    problem: r.get(5)?,
                })
            })
            .collect()
    }

    pub async fn entity_count(&self, place: Place<'_>, entity: &str) -> Result<EntityCount> {
        let count =
            Query::select().expr(sea_query::Expr::cust("count(*)")).from(table_ref(&place.table(entity))).to_owned();
        let rows = self.fetch_one(Sql::query(&count, place.dialect)?).await?;
        let files = "SELECT count(*), CAST(COALESCE(sum(rejected), 0) AS BIGINT), max(at_us) FROM file WHERE namespace = $1 AND dataset = $2 AND entity = $3";
        let files = self.fetch_one(Sql::composed(files.to_owned(), place.key(entity))).await?;
        let problem = "SELECT path, problem FROM file WHERE namespace = $1 AND dataset = $2 AND entity = $3 AND problem IS NOT NULL ORDER BY at_us DESC LIMIT 1";
        let problem = self.fetch_one(Sql::composed(problem.to_owned(), place.key(entity))).await?;
        let mut found =
            EntityCount { rows: rows.map(|r| r.get(0)).transpose()?.unwrap_or(0), ..EntityCount::default() };
        if let Some(row) = files {
            (found.files, found.rejected) = (row.get(0)?, row.get(1)?);
            found.last_ingested = row.get::<Option<i64>>(2)?.map(super::instant);
        }
        if let Some(row) = problem {
            found.problem = Some(format!("{}: {}", row.get::<String>(0)?, row.get::<String>(1)?));
        }
        Ok(found)
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

    /// Makes an empty stage for one file's rows: `seq_no` is the line, the other columns are the entity's.
    pub async fn open_stage(&mut self, place: Place<'_>, entity: &Entity) -> Result<()> {
        self.execute(Sql::new("DROP TABLE IF EXISTS stage")).await?;
        let mut create = TableStatement::create();
        create.table(Alias::new("stage")).temporary().col(ColumnDef::new(Alias::new("seq_no")).big_integer());
        for field in &entity.fields {
            create.col(column(
                &field.name,
                field.kind,
                field.precision.unwrap_or(18),
                field.scale.unwrap_or(0),
                place.dialect,
            ));
        }
        self.execute(Sql::define(&create, place.dialect)).await?;
        Ok(())
    }

    /// Adds rows to the stage; each is its line and its cells in the order of the entity's fields.
    pub async fn stage(&mut self, entity: &Entity, rows: &[(i64, Vec<Cell>)]) -> Result<()> {
        match self.dialect() {
            Dialect::Postgres => {
                let data: String = rows.iter().map(|(line, cells)| copy_line(*line, cells, entity)).collect();
                self.copy_in("COPY stage FROM STDIN", data.as_bytes()).await?;
            }
            Dialect::Sqlite => {
                for chunk in rows.chunks(STAGE_ROWS) {
                    self.stage_sqlite(entity, chunk).await?;
                }
            }
        }
        Ok(())
    }

    async fn stage_sqlite(&mut self, entity: &Entity, rows: &[(i64, Vec<Cell>)]) -> Result<()> {
        let one = format!("(?{})", ", ?".repeat(entity.fields.len()));
        let text = format!("INSERT INTO stage VALUES {}", vec![one; rows.len()].join(", "));
        let mut binds = Vec::with_capacity(rows.len() * (entity.fields.len() + 1));
        for (line, cells) in rows {
            binds.push((*line).into());
            binds.extend(cells.iter().map(sqlite_bind));
        }
        self.execute(Sql::composed(text, binds)).await?;
        Ok(())
    }

    /// Merges the stage into the entity's table: per key the highest version wins, then the last line.
    pub async fn merge_stage(&mut self, place: Place<'_>, entity: &Entity) -> Result<()> {
        let table = place.table_name(&entity.name);
        let columns: Vec<String> = entity.fields.iter().map(|f| quoted(&f.name)).collect();
        let key: Vec<String> = entity.key.iter().map(|k| quoted(k)).collect();
        let newest = entity.version.as_ref().map_or(String::new(), |v| format!("{} DESC NULLS LAST, ", quoted(v)));
        let sets: Vec<String> =
            columns.iter().filter(|c| !key.contains(c)).map(|c| format!("{c} = excluded.{c}")).collect();
        let update = if sets.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", sets.join(", ")) };
        let guard = match &entity.version {
            Some(v) if !sets.is_empty() => {
                let v = quoted(v);
                format!(" WHERE old.{v} IS NULL OR excluded.{v} >= old.{v}")
            }
            _ => String::new(),
        };
        let sql = format!(
            "INSERT INTO {table} AS old ({columns}) SELECT {columns} FROM (SELECT {columns}, \
               row_number() OVER (PARTITION BY {key} ORDER BY {newest}seq_no DESC) AS rank_no FROM stage) s WHERE rank_no = 1 \
             ON CONFLICT ({key}) DO {update}{guard}",
            columns = columns.join(", "),
            key = key.join(", "),
        );
        self.execute(Sql::composed(sql, vec![])).await?;
        Ok(())
    }

    /// Appends to the consent log what the stage changes, before it is merged.
    ///
    /// A row enters the log only where the field differs from what the table holds, stamped with `changedAt`.
    /// Without `changedAt` a file may withdraw, but never grant again after a recorded opt-out.
    pub async fn log_consent(
        &mut self,
        place: Place<'_>,
        entity: &Entity,
        consent: &ConsentRule<'_>,
        now: Timestamp,
    ) -> Result<()> {
        let table = place.table_name(&entity.name);
        let (field, version) = (quoted(consent.field), entity.version.as_ref().map(|v| quoted(v)));
        let profile = canonical_key(place.dialect, entity, "s");
        let on: Vec<String> = entity.key.iter().map(|k| format!("old.{0} = s.{0}", quoted(k))).collect();
        let at = consent.changed_at.map_or_else(
            || "CAST(NULL AS BIGINT)".to_owned(),
            |c| micros_of(place.dialect, &format!("s.{}", quoted(c))),
        );
        let differs = match place.dialect {
            Dialect::Sqlite => format!("s.{field} IS NOT old.{field}"),
            Dialect::Postgres => format!("s.{field} IS DISTINCT FROM old.{field}"),
        };
        let newer = version.as_ref().map_or(String::new(), |v| format!(" AND (old.{v} IS NULL OR s.{v} >= old.{v})"));
        let newest = version.as_ref().map_or(String::new(), |v| format!("{v} DESC NULLS LAST, "));
        let key: Vec<String> = entity.key.iter().map(|k| quoted(k)).collect();
        let sql = format!(
            "INSERT INTO consent (namespace, dataset, topic, channel, profile, at_us, granted, source, recorded_us) \
             SELECT $1, $2, $3, $4, q.profile, COALESCE(q.changed_us, $5), q.granted, $6, $5 FROM ( \
               SELECT {profile} AS profile, {at} AS changed_us, CASE WHEN s.{field} THEN 1 ELSE 0 END AS granted \
               FROM (SELECT *, row_number() OVER (PARTITION BY {keys} ORDER BY {newest}seq_no DESC) AS rank_no FROM stage) s \
               LEFT JOIN {table} old ON {on} WHERE s.rank_no = 1 AND s.{field} IS NOT NULL AND {differs}{newer}) q \
             WHERE q.granted = 0 OR q.changed_us IS NOT NULL OR NOT EXISTS (SELECT 1 FROM consent c WHERE c.namespace = $1 \
               AND c.dataset = $2 AND c.topic = $3 AND c.channel = $4 AND c.profile = q.profile AND c.granted = 0) \
             ON CONFLICT DO NOTHING",
            keys = key.join(", "),
            on = on.join(" AND "),
        );
        let binds = vec![
            place.namespace.into(),
            place.dataset.into(),
            consent.topic.into(),
            consent.channel.into(),
            micros(now).into(),
            consent.source.into(),
        ];
        self.execute(Sql::composed(sql, binds)).await?;
        Ok(())
    }

    /// Notes that a file was read, with its rejects, in the transaction that merged it.
    pub async fn note_file(
        &mut self,
        place: Place<'_>,
        entity: &str,
        file: &FileRead,
        rejects: &[Reject],
        now: Timestamp,
    ) -> Result<()> {
        let with = |more: Vec<Bind>| place.key(entity).into_iter().chain(more).collect::<Vec<Bind>>();
        let sql = "INSERT INTO file (namespace, dataset, entity, path, stamp, shape, row_count, rejected, problem, at_us) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (namespace, dataset, entity, path) DO UPDATE SET \
                   stamp = excluded.stamp, shape = excluded.shape, row_count = excluded.row_count, rejected = excluded.rejected, \
                   problem = excluded.problem, at_us = excluded.at_us";
        let binds = with(vec![
            (&file.path).into(),
            (&file.stamp).into(),
            (&file.shape).into(),
            file.rows.into(),
            file.rejected.into(),
            file.problem.clone().into(),
            micros(now).into(),
        ]);
        self.execute(Sql::composed(sql.to_owned(), binds)).await?;
        let clear = "DELETE FROM reject WHERE namespace = $1 AND dataset = $2 AND entity = $3 AND path = $4";
        self.execute(Sql::composed(clear.to_owned(), with(vec![(&file.path).into()]))).await?;
        let insert = "INSERT INTO reject (namespace, dataset, entity, path, line, field, reason, at_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";
        let rows = rejects.iter().map(|r| {
            with(vec![
                (&file.path).into(),
                r.line.into(),
                r.field.clone().into(),
                (&r.reason).into(),
                micros(now).into(),
            ])
        });
        self.execute_each(insert, rows.collect()).await
    }
}

/// Which field of the profile says what a person agreed to.
#[derive(Clone, Copy, Debug)]
pub struct ConsentRule<'a> {
    pub topic: &'a str,
    pub channel: &'a str,
    pub field: &'a str,
    pub changed_at: Option<&'a str>,
    pub source: &'a str,
}

/// The consent fields of an entity, if it is the profile.
pub fn consent_rules<'a>(
    dataset: &'a crate::api::DatasetSpec,
    entity: &'a Entity,
    source: &'a str,
) -> Vec<ConsentRule<'a>> {
    if dataset.profile.entity != entity.name {
        return vec![];
    }
    let topics = dataset.topics.iter().filter(|t| t.category == Category::Marketing || t.consent.is_some());
    topics
        .filter_map(|topic| {
            let email = topic.consent.as_ref()?.email.as_ref()?;
            let changed_at = email.changed_at.as_deref();
            Some(ConsentRule { topic: &topic.name, channel: "email", field: &email.field, changed_at, source })
        })
        .collect()
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

/// The way back: the value of the `index`-th key field out of the canonical text in `text`.
pub fn key_part(dialect: Dialect, entity: &Entity, index: usize, text: &str) -> String {
    let kind = entity.fields.iter().find(|f| f.name == entity.key[index]).map(|f| f.kind);
    let raw = match (entity.key.len(), dialect) {
        (1, _) => text.to_owned(),
        (_, Dialect::Sqlite) => format!("json_extract({text}, '$[{index}]')"),
        (_, Dialect::Postgres) => format!("(CAST({text} AS json) ->> {index})"),
    };
    match (kind, dialect) {
        (Some(FieldKind::Integer), _) => format!("CAST({raw} AS BIGINT)"),
        (Some(FieldKind::Date), Dialect::Postgres) => format!("CAST({raw} AS DATE)"),
        _ => raw,
    }
}

fn micros_of(dialect: Dialect, column: &str) -> String {
    match dialect {
        Dialect::Sqlite => column.to_owned(),
        Dialect::Postgres => format!("CAST(extract(epoch FROM {column}) * 1000000 AS BIGINT)"),
    }
}

fn sqlite_bind(cell: &Cell) -> Bind {
    match cell {
        Cell::Missing => Bind::Text(None),
        Cell::Text(text) => text.into(),
        Cell::Integer(n) | Cell::Decimal(n) => (*n).into(),
        Cell::Double(x) => Bind::Real(Some(*x)),
        Cell::Boolean(b) => (*b).into(),
        Cell::Date(date) => date.to_string().into(),
        Cell::Timestamp(at) => micros(*at).into(),
    }
}

/// One line of PostgreSQL's COPY text format: tab between columns, `\N` for missing, backslash escapes.
fn copy_line(line: i64, cells: &[Cell], entity: &Entity) -> String {
    use std::fmt::Write;
    let mut text = line.to_string();
    for (cell, field) in cells.iter().zip(&entity.fields) {
        text.push('\t');
        // Writing to a String cannot fail.
        let _ = match cell {
            Cell::Missing => write!(text, "\\N"),
            Cell::Text(value) => {
                for c in value.chars() {
                    match c {
                        '\\' => text.push_str("\\\\"),
                        '\t' => text.push_str("\\t"),
                        '\n' => text.push_str("\\n"),
                        '\r' => text.push_str("\\r"),
                        other => text.push(other),
                    }
                }
                Ok(())
            }
            Cell::Integer(n) => write!(text, "{n}"),
            Cell::Decimal(n) => write!(text, "{}", decimal_text(*n, field.scale.unwrap_or(0))),
            Cell::Double(x) => write!(text, "{x}"),
            Cell::Boolean(b) => write!(text, "{b}"),
            Cell::Date(date) => write!(text, "{date}"),
            Cell::Timestamp(at) => write!(text, "{at}"),
        };
    }
    text.push('\n');
    text
}

/// `12345` at scale 2 as `123.45`.
pub fn decimal_text(scaled: i64, scale: u8) -> String {
    if scale == 0 {
        return scaled.to_string();
    }
    let scale = usize::from(scale);
    let digits = format!("{:0width$}", scaled.unsigned_abs(), width = scale + 1);
    let (whole, part) = digits.split_at(digits.len() - scale);
    format!("{}{whole}.{part}", if scaled < 0 { "-" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_keep_their_scale_and_sign() {
        let written = [(12345, 2), (5, 2), (-5, 2), (-12345, 0), (0, 3)].map(|(n, s)| decimal_text(n, s));
        assert_eq!(written, ["123.45", "0.05", "-0.05", "-12345", "0.000"]);
    }

    #[test]
    fn long_names_stay_apart() {
        let (a, b) = (identifier(&format!("{}a", "x".repeat(80))), identifier(&format!("{}b", "x".repeat(80))));
        assert!(a.len() <= IDENTIFIER_BYTES_MAX && a != b);
    }
}
