//! A statement with its binds, and the rows that answer it, in the words of either database.
//!
//! Internal statements are constant text with `$1 $2 …`, which both databases read; statements over tables
//! that an author declared are built by sea-query.

use std::borrow::Cow;

use sea_query::{PostgresQueryBuilder, QueryStatementBuilder, SchemaStatementBuilder, SqliteQueryBuilder};
use sqlx::{AssertSqlSafe, Row as _, postgres::PgRow, sqlite::SqliteRow};

use super::{Error, Result, merge::decimal_text};
use crate::rule::{Dialect, FieldType};

/// A value that goes into a statement beside its text, never into it.
#[derive(Clone, Debug, PartialEq)]
pub enum Bind {
    Text(Option<String>),
    Int(Option<i64>),
    Real(Option<f64>),
    Bool(Option<bool>),
    /// A column of values, for `unnest`; PostgreSQL only.
    Ints(Vec<i64>),
    Texts(Vec<Option<String>>),
}

impl From<&str> for Bind {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}
impl From<String> for Bind {
    fn from(value: String) -> Self {
        Self::Text(Some(value))
    }
}
impl From<&String> for Bind {
    fn from(value: &String) -> Self {
        Self::Text(Some(value.clone()))
    }
}
impl From<Option<String>> for Bind {
    fn from(value: Option<String>) -> Self {
        Self::Text(value)
    }
}
impl From<i64> for Bind {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}
impl From<Option<i64>> for Bind {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}
impl From<bool> for Bind {
    fn from(value: bool) -> Self {
        Self::Bool(Some(value))
    }
}

/// A statement and its values.
///
/// ```
/// use campanile::store::Sql;
/// let sql = Sql::new("SELECT no FROM run WHERE namespace = $1 AND name = $2").bind("default").bind("hello-1");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Sql {
    text: Cow<'static, str>,
    pub(super) binds: Vec<Bind>,
}

impl Sql {
    pub fn new(text: &'static str) -> Self {
        Self { text: Cow::Borrowed(text), binds: vec![] }
    }

    #[must_use]
    pub fn bind(mut self, value: impl Into<Bind>) -> Self {
        self.binds.push(value.into());
        self
    }

    /// A statement over declared tables.
    pub fn query(statement: &impl QueryStatementBuilder, dialect: Dialect) -> Result<Self> {
        let (text, values) = match dialect {
            Dialect::Sqlite => statement.build_any(&SqliteQueryBuilder),
            Dialect::Postgres => statement.build_any(&PostgresQueryBuilder),
        };
        let binds = values.0.into_iter().map(bind_of).collect::<Result<_>>()?;
        Ok(Self { text: Cow::Owned(text), binds })
    }

    /// A definition of a declared table; it carries no values.
    pub fn define(statement: &impl SchemaStatementBuilder, dialect: Dialect) -> Self {
        let text = match dialect {
            Dialect::Sqlite => statement.build(SqliteQueryBuilder),
            Dialect::Postgres => statement.build(PostgresQueryBuilder),
        };
        Self { text: Cow::Owned(text), binds: vec![] }
    }

    /// Whether the statement holds an identifier, given as it is quoted.
    pub fn names(&self, quoted: &str) -> bool {
        self.text.contains(quoted)
    }

    /// Text that this module's siblings composed from quoted identifiers and constants.
    pub(super) fn composed(text: String, binds: Vec<Bind>) -> Self {
        Self { text: Cow::Owned(text), binds }
    }

    /// Constant text around a statement over declared tables. `@1 @2 …` in `after` stand for `binds`: they are
    /// numbered behind the statement's own, in a form that both databases read.
    pub(super) fn around(
        before: &str,
        statement: &impl QueryStatementBuilder,
        after: &str,
        binds: Vec<Bind>,
        dialect: Dialect,
    ) -> Result<Self> {
        let inner = Self::query(statement, dialect)?;
        let own = inner.binds.len();
        let mut after = after.to_owned();
        for n in (1..=binds.len()).rev() {
            after = after.replace(&format!("@{n}"), &format!("${}", own + n));
        }
        let binds = inner.binds.into_iter().chain(binds).collect();
        Ok(Self { text: Cow::Owned(format!("{before}{}{after}", inner.text)), binds })
    }

    pub(super) fn text(&self) -> AssertSqlSafe<String> {
        AssertSqlSafe(self.text.to_string())
    }
}

/// The rule compiler binds text, integers, doubles and truth values only; see [`crate::rule`].
fn bind_of(value: sea_query::Value) -> Result<Bind> {
    use sea_query::Value;
    Ok(match value {
        Value::Bool(v) => Bind::Bool(v),
        Value::TinyInt(v) => Bind::Int(v.map(i64::from)),
        Value::SmallInt(v) => Bind::Int(v.map(i64::from)),
        Value::Int(v) => Bind::Int(v.map(i64::from)),
        Value::BigInt(v) => Bind::Int(v),
        Value::Unsigned(v) => Bind::Int(v.map(i64::from)),
        Value::BigUnsigned(v) => Bind::Int(v.and_then(|n| i64::try_from(n).ok())),
        Value::Double(v) => Bind::Real(v),
        Value::String(v) => Bind::Text(v.map(|s| s.to_string())),
        other => return Err(Error::Internal(format!("no bind for {other:?}"))),
    })
}

/// One row of an answer, read by position.
pub enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// The value of column `index`, counted from 0.
    pub fn get<T>(&self, index: usize) -> Result<T>
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(index)?,
            Self::Postgres(row) => row.try_get(index)?,
        })
    }

    /// The value of a declared field, as `plan::message::portable` selects it: times and decimals as text. None: missing.
    pub fn shown<V>(&self, index: usize, ty: FieldType) -> Result<Option<V>>
    where
        V: From<String> + From<i64> + From<f64> + From<bool>,
    {
        Ok(match (ty, self) {
            (FieldType::Integer, _) => self.get::<Option<i64>>(index)?.map(V::from),
            (FieldType::Double, _) => self.get::<Option<f64>>(index)?.map(V::from),
            (FieldType::Boolean, _) => self.get::<Option<bool>>(index)?.map(V::from),
            (FieldType::Timestamp, _) => {
                self.get::<Option<i64>>(index)?.map(|us| V::from(super::instant(us).to_string()))
            }
            (FieldType::Decimal { scale }, Self::Sqlite(_)) => {
                self.get::<Option<i64>>(index)?.map(|n| V::from(decimal_text(n, scale)))
            }
            (FieldType::String | FieldType::Date | FieldType::Decimal { .. }, _) => {
                self.get::<Option<String>>(index)?.map(V::from)
            }
        })
    }
}
