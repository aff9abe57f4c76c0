//! The targeting and flow activities, through the real binary on both stores.

mod enrichment;
mod flow;
mod increments;
mod targeting;

use std::path::Path;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, SqliteConnection};

use crate::{
    home::{Home, Ran},
    world::Postgres,
};

/// A home with one of the two stores.
struct Shop {
    home: Home,
    url: Option<String>,
}

impl Shop {
    fn on_sqlite() -> Self {
        Self { home: Home::new(), url: None }
    }

    async fn on_postgres() -> Self {
        let url = Postgres::shared().await.unwrap().database().await.unwrap();
        Self { home: Home::new(), url: Some(url) }
    }

    fn call(&self, args: &[&str]) -> Ran {
        let store = self.url.iter().flat_map(|url| ["--store", url.as_str()]);
        let args: Vec<&str> = args.iter().copied().chain(store).collect();
        self.home.call(&args)
    }

    /// `campanile run PATH --now NOW --until-idle`.
    fn run_at(&self, path: &str, now: &str) -> Ran {
        self.call(&["run", path, "--now", now, "--until-idle"])
    }

    fn get(&self, kind: &str, name: &str) -> Value {
        serde_json::from_str(&self.call(&["get", kind, name, "-o", "json"]).out).unwrap_or(Value::Null)
    }

    fn run_status(&self, run: &str) -> Value {
        let object = self.get("campaignrun", run);
        crate::home::assert_conserved(&object);
        object["status"].clone()
    }

    /// The reason of a run's `Ready` condition.
    fn reason(&self, run: &str) -> String {
        let status = self.run_status(run);
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.into_iter().find(|c| c["type"] == "Ready").unwrap_or_default();
        ready["reason"].as_str().unwrap_or_default().to_owned()
    }

    /// A query of the store whose one column is a text, or becomes one.
    async fn texts(&self, sql: &str) -> Vec<String> {
        let sql = AssertSqlSafe(sql.to_owned());
        match &self.url {
            Some(url) => {
                let mut connection = PgConnection::connect(url).await.unwrap();
                sqlx::query("SET search_path TO campanile").execute(&mut connection).await.unwrap();
                let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            }
            None => {
                let path = self.home.path().join(".campanile/store.db");
                let mut connection = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
                let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            }
        }
    }

    /// The keys in the work table of a step's output, in order.
    async fn keys(&self, run: &str, output: &str, key: &str) -> Vec<i64> {
        let status = self.run_status(run);
        let step = step(&status, output);
        let table = step["table"].as_str().unwrap();
        let mut keys: Vec<i64> = self
            .texts(&format!("SELECT CAST({key} AS TEXT) FROM \"{table}\""))
            .await
            .iter()
            .map(|key| key.parse().unwrap())
            .collect();
        assert_eq!(step["out"], keys.len(), "{output}");
        keys.sort_unstable();
        keys
    }

    /// Who was written to with which subject, sorted: `address: subject`.
    fn sent(&self) -> Vec<String> {
        let mut sent: Vec<String> = self.home.outbox().iter().map(|path| letter(path)).collect();
        sent.sort();
        sent
    }
}

fn letter(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let header = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    format!("{}: {}", header("To:"), header("Subject:"))
}

/// A step in a run's status.
fn step<'s>(status: &'s Value, name: &str) -> &'s Value {
    let steps = status["steps"].as_array().unwrap();
    steps.iter().find(|step| step["name"] == name).unwrap_or_else(|| panic!("no {name} in {steps:#?}"))
}

/// Sakila's tables as text, for SQL written by hand.
async fn sakila() -> SqliteConnection {
    let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    for file in std::fs::read_dir(crate::home::repository().join("examples/film-rental/data")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|e| e == "csv") {
            crate::film_rental::load(&mut connection, &path).await;
        }
    }
    connection
}

/// The numbers that a query written by hand gives, in order.
async fn by_hand(sakila: &mut SqliteConnection, sql: &str) -> Vec<i64> {
    let rows = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(sakila).await.unwrap();
    let mut keys: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    keys.sort_unstable();
    keys
}

/// The film rental shop with a campaign of the test's own instead of the example's.
fn film_rental(home: &Home, campaign: &str) {
    let example = crate::home::repository().join("examples/film-rental");
    crate::home::copy(&example.join("data"), &home.path().join("shop/data"));
    for file in ["dataset.yaml", "channel.yaml"] {
        let text = std::fs::read_to_string(example.join(file)).unwrap();
        home.write(&format!("shop/{file}"), &text);
    }
    home.write("shop/campaign.yaml", campaign);
}
