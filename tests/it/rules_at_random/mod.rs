//! Random rules: both stores give the answer of a direct reading of the missing-value rules, written here in Rust.
//!
//! A failure prints the seed and the rule. `RULES_SEED=n RULES_CASES=n` looks further.

mod data;
mod parts;
mod reading;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use campanile::rule::{Dialect, Inputs, Param, ParamType, Query, check};
use sea_query::{PostgresQueryBuilder, SqliteQueryBuilder, Value};
use sqlx::{Connection, Executor, PgConnection, Row as _, SqliteConnection};

use self::{
    data::{KINDS, Rows, Val, kind, rows, schema, statements},
    parts::{BOOL, Maker, Part, now, params, text},
    reading::Reader,
};
use crate::world::Postgres;

const SEED: u64 = 20_261_123;
const CASES: u64 = 64;
const DAY_US: i64 = 86_400_000_000;

/// Small, seeded, and the same on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % n as u64).unwrap()
    }

    fn one_of<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

type Keys = BTreeSet<Vec<String>>;

fn read(rule: &Part, root: &'static str, rows: &Rows) -> Keys {
    let reader = Reader { rows };
    let written = |v: &Val| match v {
        Val::Text(s) => s.clone(),
        Val::Int(n) => n.to_string(),
        other => format!("{other:?}"),
    };
    let holding = rows[root].iter().filter(|row| reader.holds(rule, &mut vec![(kind(root), Some(*row))]));
    holding.map(|row| kind(root).key.iter().map(|key| written(&row[key])).collect()).collect()
}

fn inputs() -> Inputs {
    let params = params().into_iter().map(|(name, value)| {
        let value = match value {
            Val::Text(s) => Param::String(s),
            Val::Int(n) => Param::Integer(n),
            Val::Double(d) => Param::Double(d),
            Val::Bool(b) => Param::Boolean(b),
            other => panic!("no parameter is {other:?}"),
        };
        (name.to_owned(), value)
    });
    Inputs { now: now(), params: params.collect() }
}

fn built(rule: &str, root: &str, dialect: Dialect) -> Result<(String, Vec<Value>), String> {
    let types = BTreeMap::from([
        ("i".to_owned(), ParamType::Integer),
        ("d".to_owned(), ParamType::Double),
        ("s".to_owned(), ParamType::String),
        ("b".to_owned(), ParamType::Boolean),
    ]);
    let schema = schema();
    let checked = check(rule, &schema, root, &types).map_err(|p| p.picture(rule))?;
    let mut query = Query::over(&schema, schema.entity(root).unwrap(), dialect);
    query.restrict(&checked, &inputs());
    let (sql, values) = match dialect {
        Dialect::Sqlite => query.keys().build(SqliteQueryBuilder),
        Dialect::Postgres => query.keys().build(PostgresQueryBuilder),
    };
    Ok((sql, values.0))
}

async fn on_sqlite(connection: &mut SqliteConnection, rule: &str, root: &str) -> Result<Keys, String> {
    let (sql, values) = built(rule, root, Dialect::Sqlite)?;
    let cell = |row: &sqlx::sqlite::SqliteRow, i: usize| {
        row.try_get::<i64, _>(i).map_or_else(|_| row.get::<String, _>(i), |n| n.to_string())
    };
    let mut query = sqlx::query(sqlx::AssertSqlSafe(sql.clone()));
    for value in values {
        query = match value {
            Value::String(s) => query.bind(s),
            Value::BigInt(n) => query.bind(n),
            Value::Double(d) => query.bind(d),
            Value::Bool(b) => query.bind(b),
            other => panic!("unforeseen {other:?}"),
        };
    }
    let rows = query.fetch_all(connection).await.map_err(|e| format!("{e}\n{sql}"))?;
    let keys = rows.iter().map(|row| (0..kind(root).key.len()).map(|i| cell(row, i)).collect());
    once(keys.collect())
}

async fn on_postgres(connection: &mut PgConnection, rule: &str, root: &str) -> Result<Keys, String> {
    let (sql, values) = built(rule, root, Dialect::Postgres)?;
    let cell = |row: &sqlx::postgres::PgRow, i: usize| {
        row.try_get::<i64, _>(i).map_or_else(|_| row.get::<String, _>(i), |n| n.to_string())
    };
    let mut query = sqlx::query(sqlx::AssertSqlSafe(sql.clone()));
    for value in values {
        query = match value {
            Value::String(s) => query.bind(s),
            Value::BigInt(n) => query.bind(n),
            Value::Double(d) => query.bind(d),
            Value::Bool(b) => query.bind(b),
            other => panic!("unforeseen {other:?}"),
        };
    }
    let rows = query.fetch_all(connection).await.map_err(|e| format!("{e}\n{sql}"))?;
    let keys = rows.iter().map(|row| (0..kind(root).key.len()).map(|i| cell(row, i)).collect());
    once(keys.collect())
}

fn once(keys: Vec<Vec<String>>) -> Result<Keys, String> {
    let set: Keys = keys.iter().cloned().collect();
    if set.len() == keys.len() { Ok(set) } else { Err(format!("a row comes twice: {keys:?}")) }
}

fn given(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

#[tokio::test(flavor = "multi_thread")]
async fn random_rules_are_answered_as_they_read() {
    let seed = given("RULES_SEED", SEED);
    println!("RULES_SEED={seed}");
    let rows = rows(&mut Dice(seed));
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("rules.db").display());
    let mut sqlite = SqliteConnection::connect(&url).await.unwrap();
    for statement in statements(&rows, Dialect::Sqlite) {
        sqlite.execute(sqlx::AssertSqlSafe(statement)).await.unwrap();
    }
    let url = Postgres::shared().await.unwrap().database().await.unwrap();
    let mut postgres = PgConnection::connect(&url).await.unwrap();
    for statement in statements(&rows, Dialect::Postgres) {
        postgres.execute(sqlx::AssertSqlSafe(statement)).await.unwrap();
    }
    let (mut wrong, mut mixed) = (String::new(), 0);
    for case in 0..given("RULES_CASES", CASES) {
        let mut dice = Dice(seed ^ (case + 1).wrapping_mul(0xA076_1D64_78BD_642F));
        let root = KINDS[dice.below(KINDS.len())].name;
        let depth = 1 + dice.below(4);
        let rule = Maker { dice: &mut dice, scopes: vec![root] }.part(BOOL, depth);
        let text = text(&rule, root);
        let wanted = read(&rule, root, &rows);
        mixed += u32::from(!wanted.is_empty() && wanted.len() < rows[root].len());
        let answers = [on_sqlite(&mut sqlite, &text, root).await, on_postgres(&mut postgres, &text, root).await];
        for (store, answer) in ["SQLite", "PostgreSQL"].into_iter().zip(answers) {
            match answer {
                Ok(keys) if keys == wanted => {}
                Ok(keys) => {
                    writeln!(wrong, "case {case}, {store}: {text}\n  wanted {wanted:?}\n  got    {keys:?}").unwrap()
                }
                Err(problem) => writeln!(wrong, "case {case}, {store}: {text}\n  {problem}").unwrap(),
            }
        }
    }
    assert!(wrong.is_empty(), "RULES_SEED={seed}\n{wrong}");
    assert!(mixed > 0, "no rule told rows apart");
}
