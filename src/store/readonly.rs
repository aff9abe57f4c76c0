//! `sql:` audiences: a statement that an author wrote, run on a connection that cannot write.
//!
//! The statement stands as a derived table in a SELECT of the entity's key columns, so it is a query and nothing else,
//! and runs in a read-only transaction (SQLite: on a connection opened for reading) with a time limit. What it may read
//! is decided by who the connection logs in as: a role that a statement is merely switched to it could leave again.
//! Its rows are handed over in chunks and never held together.

use std::{
    collections::BTreeMap,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::TryStreamExt;
use sqlx::{
    AssertSqlSafe, Column, ConnectOptions, Connection, Executor, PgConnection, Row, SqlSafeStr, SqliteConnection,
    TypeInfo, ValueRef, postgres::PgConnectOptions, sqlite::SqliteConnectOptions,
};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    entity::{Place, quoted},
    replica::{GRACE, end_when},
    rows::{Batch, Change, Rows, Target, Value},
};
use crate::{
    api::dataset::{Entity, FieldKind},
    rule::Dialect,
};

/// A statement that needs longer belongs into a table of its own, made when there is time for it.
const STATEMENT_TIME_MAX: Duration = Duration::from_secs(60);

/// The connections on which statements of authors are run.
#[derive(Debug)]
pub struct Readers {
    /// Of every namespace, and of one; the URL of a database.
    all: Option<String>,
    by_namespace: BTreeMap<String, String>,
    time_max: Duration,
}

impl Default for Readers {
    fn default() -> Self {
        Self { all: None, by_namespace: BTreeMap::new(), time_max: STATEMENT_TIME_MAX }
    }
}

impl Readers {
    /// The home's own store, read-only: for a folder, whose author has its files anyway.
    pub fn own(store: &str) -> Self {
        Self { all: Some(store.to_owned()), ..Self::default() }
    }

    /// The same connections, for statements that take at most this long.
    #[must_use]
    pub fn within(self, time_max: Duration) -> Self {
        Self { time_max, ..self }
    }

    /// A connection for each namespace that may have `sql:` audiences, `NAMESPACE=URL`.
    ///
    /// # Errors
    /// Of an entry that is none, without its URL, which may hold a password.
    pub fn by_namespace(entries: &[String]) -> Result<Self, String> {
        let mut readers = Self::default();
        for entry in entries {
            match entry.split_once('=') {
                Some((namespace, url)) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                    readers.by_namespace.insert(namespace.to_owned(), url.to_owned());
                }
                _ => return Err("write NAMESPACE=postgres://ROLE@HOST/DATABASE".to_owned()),
            }
        }
        Ok(readers)
    }

    fn url(&self, namespace: &str) -> Option<&str> {
        self.by_namespace.get(namespace).or(self.all.as_ref()).map(String::as_str)
    }
}

impl super::Store {
    /// Whether statements of this namespace's authors may be run at all.
    pub fn may_run_sql(&self, namespace: &str) -> bool {
        self.readers.url(namespace).is_some()
    }

    /// Runs an author's statement and sends the keys that it gives, each row with its number.
    ///
    /// # Errors
    /// In words for the author; never with a value of the data.
    pub async fn run_sql(&self, place: Place<'_>, entity: &Entity, text: &str, sender: Sender) -> Result<i64, String> {
        let Some(url) = self.readers.url(place.namespace) else {
            return Err(format!("namespace {} may not run statements of its own", place.namespace));
        };
        let text = only_statement(text)?;
        let statement = Statement { url, place, entity, text, time_max: self.readers.time_max };
        // The databases' own limits end the work; this one ends the waiting for a server that says nothing.
        let ran = tokio::time::timeout(statement.time_max + GRACE, statement.run(&sender)).await;
        ran.unwrap_or(Err(Failed::TooLong)).map_err(|failed| match failed {
            Failed::TooLong => format!("the statement took longer than {} s", statement.time_max.as_secs_f32()),
            Failed::Said(words) => words,
        })
    }
}

impl Dialect {
    fn of(url: &str) -> Self {
        if url.starts_with("sqlite:") { Self::Sqlite } else { Self::Postgres }
    }
}

/// An author's statement, where it is run.
struct Statement<'a> {
    url: &'a str,
    place: Place<'a>,
    entity: &'a Entity,
    text: &'a str,
    time_max: Duration,
}

enum Failed {
    TooLong,
    /// In words for the author.
    Said(String),
}

impl From<String> for Failed {
    fn from(words: String) -> Self {
        Self::Said(words)
    }
}

type Sender = mpsc::Sender<Batch>;

/// The one statement that the text is, without the `;` behind it.
///
/// # Errors
/// If there are several, or if it does not end where the text does.
pub fn only_statement(text: &str) -> Result<&str, String> {
    let mut rest = text.char_indices().peekable();
    let (mut end, mut deep) = (None, 0_i32);
    while let Some((at, c)) = rest.next() {
        let next = rest.peek().map(|(_, next)| *next);
        // Both databases' quotes count in both: what one of them reads differently is refused, never let through.
        let closing = match (c, next) {
            ('\'' | '"' | '`', _) => Some(c),
            ('[', _) => Some(']'),
            _ => None,
        };
        if let Some(closing) = closing {
            if !rest.any(|(_, c)| c == closing) {
                return Err(format!("a `{c}` is not closed"));
            }
            continue;
        }
        match (c, next) {
            ('-', Some('-')) => {
                let _ = rest.any(|(_, c)| c == '\n');
            }
            ('/', Some('*')) => {
                let mut before = ' ';
                let closes = |(_, c): (usize, char)| std::mem::replace(&mut before, c) == '*' && c == '/';
                rest.next();
                if !rest.any(closes) {
                    return Err("a comment is not closed".to_owned());
                }
            }
            (';', _) => end = end.or(Some(at)),
            _ if end.is_some() && !c.is_whitespace() => return Err("there is more than one statement".to_owned()),
            ('(', _) => deep += 1,
            (')', _) if deep == 0 => return Err("a `)` closes nothing".to_owned()),
            (')', _) => deep -= 1,
            ('$', Some('$')) => return Err("texts in `$$` are not taken: quote them with '…'".to_owned()),
            _ => {}
        }
    }
    let text = text[..end.unwrap_or(text.len())].trim();
    let first = text.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default().to_ascii_lowercase();
    if !["select", "with", "values"].contains(&first.as_str()) {
        return Err("the statement is no SELECT".to_owned());
    }
    Ok(text)
}

/// The entity's key columns of the author's statement. On a line of its own, so that a comment at its end ends there.
fn wrapped(columns: &[String], text: &str) -> String {
    format!("SELECT {} FROM (\n{text}\n) AS q", columns.join(", "))
}

fn kind_of(entity: &Entity, key: &str) -> FieldKind {
    entity.fields.iter().find(|f| *f.name == *key).map_or(FieldKind::String, |f| f.kind)
}

/// For each key field the type of the column that the statement gives for it.
fn types_of(entity: &Entity, columns: &[(String, String)]) -> Result<Vec<String>, String> {
    let of = |key: &str| columns.iter().find(|(name, _)| name == key).map(|(_, ty)| ty.clone());
    let missing: Vec<&str> = entity.key.iter().map(|k| &**k).filter(|k| of(k).is_none()).collect();
    if missing.is_empty() {
        return Ok(entity.key.iter().filter_map(|k| of(k)).collect());
    }
    let given: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    Err(format!(
        "the statement must give the key of {} ({}), and it gives {}",
        entity.name,
        missing.join(", "),
        if given.is_empty() { "no column".to_owned() } else { given.join(", ") }
    ))
}

impl Statement<'_> {
    /// Of rows of the key alone.
    fn batch(&self) -> Rows {
        let fields = self.entity.key.iter().filter_map(|key| self.entity.fields.iter().find(|f| f.name == *key));
        let keys = Entity { fields: fields.cloned().collect(), ..self.entity.clone() };
        Rows::new(self.place.dialect, &keys, Target::Stage, None)
    }

    async fn run(&self, rows: &Sender) -> Result<i64, Failed> {
        match Dialect::of(self.url) {
            Dialect::Sqlite => self.run_sqlite(rows).await,
            Dialect::Postgres => self.run_postgres(rows).await,
        }
    }

    async fn run_postgres(&self, sender: &Sender) -> Result<i64, Failed> {
        let Self { url, place, entity, text, time_max } = *self;
        // The dataset's own tables by their names alone.
        let path =
            place.table("").schema.map_or_else(|| "public".to_owned(), |schema| format!("{},public", quoted(&schema)));
        let limit_ms = time_max.as_millis().to_string();
        let options = PgConnectOptions::from_str(url).map_err(|_| "the connection's URL is none".to_owned())?;
        let options = options.options([
            ("search_path", path.as_str()),
            ("timezone", "UTC"),
            ("statement_timeout", limit_ms.as_str()),
            ("default_transaction_read_only", "on"),
        ]);
        let mut connection = PgConnection::connect_with(&options).await.map_err(|e| refused(&e))?;
        let mut tx = connection.begin_with("BEGIN READ ONLY").await.map_err(|e| refused(&e))?;
        // Parsed and not run: what is wrong here is wrong with the text, and may be said as the database says it.
        let all = AssertSqlSafe(wrapped(&["*".to_owned()], text)).into_sql_str();
        let described = (&mut *tx).describe(all).await.map_err(|e| wrong_text(&e))?;
        let columns = described.columns().iter().map(|c| (c.name().to_owned(), c.type_info().name().to_owned()));
        let types = types_of(entity, &columns.collect::<Vec<_>>())?;
        let mut parts = vec![];
        for (key, ty) in entity.key.iter().zip(&types) {
            let column = quoted(key);
            parts.push(match (kind_of(entity, key), ty.as_str()) {
                (FieldKind::Integer, "INT2" | "INT4" | "INT8") => format!("CAST({column} AS bigint)"),
                (FieldKind::String, "TEXT" | "VARCHAR" | "CHAR" | "NAME") => format!("CAST({column} AS text)"),
                (FieldKind::Date, "DATE") => format!("to_char({column}, 'YYYY-MM-DD')"),
                (kind, ty) => return Err(Failed::Said(format!("column `{key}` must be {kind:?}, and it is {ty}"))),
            });
        }
        let statement = AssertSqlSafe(wrapped(&parts, text));
        let mut rows = sqlx::query(statement).persistent(false).fetch(&mut *tx);
        let (mut batch, mut count) = (self.batch(), 0);
        while let Some(row) = rows.try_next().await.map_err(|e| failed(&e))? {
            count += 1;
            batch.begin(Change::Upsert);
            for (index, key) in entity.key.iter().enumerate() {
                let none = || format!("row {count} has no `{key}`");
                match kind_of(entity, key) {
                    FieldKind::Integer => {
                        let value: Option<i64> = row.try_get(index).map_err(|e| failed(&e))?;
                        batch.push(Value::Integer(value.ok_or_else(none)?));
                    }
                    kind => {
                        let value: Option<String> = row.try_get(index).map_err(|e| failed(&e))?;
                        push_text(&mut batch, kind, &value.ok_or_else(none)?, (key, count))?;
                    }
                }
            }
            batch.end();
            if batch.is_full() {
                send(&mut batch, sender).await?;
            }
        }
        send(&mut batch, sender).await?;
        Ok(count)
    }

    async fn run_sqlite(&self, sender: &Sender) -> Result<i64, Failed> {
        let Self { url, entity, text, time_max, .. } = *self;
        let options = SqliteConnectOptions::from_str(url).map_err(|_| "the store's URL is none".to_owned())?;
        let options = options.read_only(true).create_if_missing(false).pragma("query_only", "on");
        let mut connection: SqliteConnection =
            options.disable_statement_logging().connect().await.map_err(|e| refused(&e))?;
        let is_over = Arc::new(AtomicBool::new(false));
        let timer = is_over.clone();
        let mut alarm = JoinSet::new();
        alarm.spawn(async move {
            tokio::time::sleep(time_max).await;
            timer.store(true, Ordering::Relaxed);
        });
        end_when(&mut connection, is_over.clone()).await.map_err(|e| refused(&e))?;
        let all = AssertSqlSafe(wrapped(&["*".to_owned()], text)).into_sql_str();
        let described = (&mut connection).describe(all).await.map_err(|e| wrong_text(&e))?;
        let columns = described.columns().iter().map(|c| (c.name().to_owned(), String::new()));
        types_of(entity, &columns.collect::<Vec<_>>())?;
        let parts: Vec<String> = entity.key.iter().map(|k| quoted(k)).collect();
        let mut rows = sqlx::query(AssertSqlSafe(wrapped(&parts, text))).fetch(&mut connection);
        let (mut batch, mut count) = (self.batch(), 0);
        loop {
            let row = match rows.try_next().await {
                Err(_) if is_over.load(Ordering::Relaxed) => return Err(Failed::TooLong),
                other => other.map_err(|e| failed(&e))?,
            };
            let Some(row) = row else { break };
            count += 1;
            batch.begin(Change::Upsert);
            for (index, key) in entity.key.iter().enumerate() {
                let raw = row.try_get_raw(index).map_err(|e| failed(&e))?;
                if raw.is_null() {
                    return Err(Failed::Said(format!("row {count} has no `{key}`")));
                }
                // SQLite's columns have no type; each value has one.
                let ty = raw.type_info().name().to_owned();
                let kind = kind_of(entity, key);
                match (kind, ty.as_str()) {
                    (FieldKind::Integer, "INTEGER") => {
                        batch.push(Value::Integer(row.try_get_unchecked(index).map_err(|e| failed(&e))?));
                    }
                    (FieldKind::String | FieldKind::Date, "TEXT") => {
                        let value: String = row.try_get_unchecked(index).map_err(|e| failed(&e))?;
                        push_text(&mut batch, kind, &value, (key, count))?;
                    }
                    (kind, ty) => {
                        return Err(Failed::Said(format!(
                            "column `{key}` must be {kind:?}, and in row {count} it is {ty}"
                        )));
                    }
                }
            }
            batch.end();
            if batch.is_full() {
                send(&mut batch, sender).await?;
            }
        }
        send(&mut batch, sender).await?;
        Ok(count)
    }
}

fn push_text(batch: &mut Rows, kind: FieldKind, value: &str, (key, row): (&str, i64)) -> Result<(), String> {
    batch.push(match kind {
        FieldKind::Date => Value::Date(value.parse().map_err(|_| format!("row {row}: `{key}` is no Date"))?),
        _ => Value::Text(value),
    });
    Ok(())
}

async fn send(batch: &mut Rows, sender: &Sender) -> Result<(), String> {
    sender.send(batch.take()).await.map_err(|_| "the store stopped taking rows".to_owned())
}

fn refused(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(e) => format!("the database refused the connection: {}", e.message()),
        other => format!("no connection to the database: {other}"),
    }
}

fn wrong_text(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(e) => format!("the statement is wrong: {}", e.message()),
        other => other.to_string(),
    }
}

/// While rows are made, a message may hold what stands in them: it is told by its code.
fn failed(error: &sqlx::Error) -> Failed {
    Failed::Said(match error {
        sqlx::Error::Database(e) if e.code().as_deref() == Some("57014") => return Failed::TooLong,
        sqlx::Error::Database(e) => format!("the statement failed (code {})", e.code().unwrap_or_default()),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => "the statement's rows cannot be read".to_owned(),
        _ => "the connection to the database was lost".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::only_statement;

    #[test]
    fn one_statement_that_is_a_query() {
        for text in [
            "SELECT id FROM t",
            "select id from t where name = 'a;b' ; ",
            "WITH x AS (SELECT 1 AS id) SELECT id FROM x -- all; of them",
            "SELECT id /* ; */ FROM \"a;b\"",
        ] {
            assert!(only_statement(text).is_ok(), "{text}");
        }
        assert_eq!(only_statement(" SELECT 1 ;\n").unwrap(), "SELECT 1");
    }

    #[test]
    fn anything_else_is_refused_in_words() {
        let said = [
            "SELECT 1; DROP TABLE t",
            "SELECT 1) AS q; DROP TABLE t; --",
            "SELECT 1) UNION (SELECT 2",
            "DELETE FROM t",
            "ATTACH 'x' AS y",
            "COPY t TO PROGRAM 'x'",
            "SELECT 'a",
            "SELECT $$a$$",
            "SELECT `'`; ATTACH 'x' AS y",
            "",
        ]
        .map(|text| only_statement(text).unwrap_err());
        insta::assert_debug_snapshot!(said, @r#"
        [
            "there is more than one statement",
            "a `)` closes nothing",
            "a `)` closes nothing",
            "the statement is no SELECT",
            "the statement is no SELECT",
            "the statement is no SELECT",
            "a `'` is not closed",
            "texts in `$$` are not taken: quote them with '…'",
            "there is more than one statement",
            "the statement is no SELECT",
        ]
        "#);
    }
}
