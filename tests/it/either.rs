//! A folder home on either store, with a dataset that a test declares: what holds of one must hold of the other.

use std::{fs::File, process::Stdio};

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, SqliteConnection};

use crate::{
    home::{Home, Ran, Running},
    world::Postgres,
};

/// A home on one of the stores.
pub struct Place {
    pub home: Home,
    pub url: Option<String>,
}

impl Place {
    pub async fn both() -> [Self; 2] {
        let url = Postgres::shared().await.unwrap().database().await.unwrap();
        [Self { home: Home::new(), url: None }, Self { home: Home::new(), url: Some(url) }]
    }

    /// Declares the dataset `town` with one entity, `person`.
    pub fn declare(&self, person: &str) {
        let manifest = format!(
            "apiVersion: campanile.dev/v1alpha1\nkind: Dataset\nmetadata: {{name: town}}\nspec:\n  entities:\n  - name: person\n\
             {person}  profile: {{entity: person, addresses: {{}}}}\n"
        );
        self.home.write("town/town.yaml", &manifest);
    }

    /// `campanile run` in the background; its log goes to the file `name`.
    pub fn spawn(&self, name: &str) -> Running {
        self.spawn_with(name, &[])
    }

    pub fn spawn_with(&self, name: &str, more: &[&str]) -> Running {
        let log = File::create(self.home.path().join(name)).unwrap();
        let mut command = self.home.command(&self.args(&[&["run", "town"], more].concat()));
        let child = command.env("CAMPANILE_LOG", "info").stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Running { child }
    }

    fn args<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let store = self.url.iter().flat_map(|url| ["--store", url]);
        args.iter().copied().chain(store).collect()
    }

    pub fn run(&self, more: &[&str]) -> Ran {
        self.home.run(&self.args(&[&["town"], more].concat()))
    }

    pub fn read(&self) {
        let ran = self.run(&[]);
        assert_eq!(ran.code, 0, "{ran:?}");
    }

    /// [`Self::ask`], of a store that may not be there yet.
    pub async fn try_ask(&self, sql: &str) -> sqlx::Result<Vec<String>> {
        match &self.url {
            Some(url) => {
                let url = format!("{url}?options=-csearch_path%3Dcampanile");
                let mut connection = PgConnection::connect(&url).await?;
                let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut connection).await?;
                rows.iter().map(|row| row.try_get(0)).collect()
            }
            None => {
                let url = format!("sqlite://{}", self.home.path().join(".campanile/store.db").display());
                let mut connection = SqliteConnection::connect(&url).await?;
                let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut connection).await?;
                rows.iter().map(|row| row.try_get(0)).collect()
            }
        }
    }

    pub async fn ask(&self, sql: &str) -> Vec<String> {
        let table = if self.url.is_some() { "default_town.person" } else { "default_town_person" };
        let sql = AssertSqlSafe(sql.replace("PERSON", table));
        match &self.url {
            Some(url) => {
                let url = format!("{url}?options=-csearch_path%3Dcampanile");
                let mut connection = PgConnection::connect(&url).await.unwrap();
                let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            }
            None => {
                let url = format!("sqlite://{}", self.home.path().join(".campanile/store.db").display());
                let mut connection = SqliteConnection::connect(&url).await.unwrap();
                let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            }
        }
    }

    pub async fn people(&self) -> Vec<String> {
        self.ask("SELECT id || ' ' || name FROM PERSON ORDER BY id").await
    }

    /// `campanile ARGS` on the store.
    pub fn call(&self, args: &[&str]) -> Ran {
        self.home.call(&self.args(args))
    }

    pub fn get(&self, kind: &str, name: &str) -> Value {
        serde_json::from_str(&self.call(&["get", kind, name, "-o", "json"]).out).unwrap_or(Value::Null)
    }

    /// The status, the reason and the message of an object's condition.
    pub fn condition(&self, kind: &str, name: &str, condition: &str) -> (String, String, String) {
        let object = self.get(kind, name);
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.into_iter().find(|c| c["type"] == condition).unwrap_or_default();
        let text = |part: &str| found[part].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"), text("message"))
    }

    /// The dataset's status.
    pub fn status(&self) -> Value {
        self.get("dataset", "town")["status"].clone()
    }

    /// The reason and the message of its condition.
    pub fn message(&self) -> String {
        let conditions = self.status()["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.into_iter().find(|c| c["type"] == "Ready").unwrap();
        format!("{}: {}", ready["reason"].as_str().unwrap(), ready["message"].as_str().unwrap())
    }
}
