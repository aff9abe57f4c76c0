//! Audience questions on TPC-H data: the SQL that rules become, against the SQL that a person writes for the same answer.
//!
//! ```sh
//! cargo bench --bench segmentation                 # SCALE=1 on PostgreSQL, SQLITE_SCALE=0.1 on SQLite, unless said
//! ```
//!
//! The tables are those that a Dataset has, made by the store and filled by `COPY`: primary keys and links are indexed.
//! Both statements of a question run on the same server in turn, as new statements with the server's own settings but
//! for `work_mem`; of several turns (more of quick statements) each counts with its least time, because whatever else the machine does only adds.
//! The answers are compared row by row before anything is timed.

#[path = "../tests/it/world/mod.rs"]
mod world;

#[path = "segmentation/data.rs"]
mod data;
#[path = "segmentation/questions.rs"]
mod questions;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use campanile::{
    api::DatasetSpec,
    plan::dataset::schema_of,
    rule::{Dialect, Inputs, Query, Schema, check},
    store::{Row, Sql, Store, entity::Place},
};
use questions::{QUESTIONS, Question};
use world::Postgres;

/// Turns of each question: at least these, and of quick statements as many as this time holds.
const TURNS: usize = 5;
const TURNS_MAX: usize = 100;
const TIME_MIN: Duration = Duration::from_millis(500);
const NAMESPACE: &str = "ns";
const DATASET: &str = "tpch";
/// What the issue asks of the ratios.
const MEDIAN_MAX: f64 = 1.05;
const RATIO_MAX: f64 = 1.3;

fn number(name: &str, otherwise: f64) -> f64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

/// A database with the tables of the Dataset.
struct Home {
    store: Store,
    schema: Schema,
    spec: DatasetSpec,
    dialect: Dialect,
}

impl Home {
    async fn open(url: &str) -> Self {
        let store = Store::open(url).await.expect("a store");
        let spec: DatasetSpec = serde_yaml::from_str(data::DATASET).expect("a dataset");
        let dialect = store.dialect();
        let schema = schema_of(&spec, NAMESPACE, DATASET, dialect);
        let home = Self { store, schema, spec, dialect };
        for entity in &home.spec.entities {
            home.store.ensure_entity(home.place(), entity).await.expect("a table");
        }
        home
    }

    fn place(&self) -> Place<'static> {
        Place { namespace: NAMESPACE, dataset: DATASET, dialect: self.dialect }
    }

    /// What the rule becomes.
    fn ours(&self, question: &Question) -> Sql {
        let checked = check(question.rule, &self.schema, question.entity, &BTreeMap::new())
            .unwrap_or_else(|problem| panic!("{}", problem.picture(question.rule)));
        let entity = self.schema.entity(question.entity).expect("an entity");
        let mut query = Query::over(&self.schema, entity, self.dialect);
        query.restrict(&checked, &Inputs::at(jiff::Timestamp::UNIX_EPOCH));
        Sql::query(&query.keys(), self.dialect).expect("a statement")
    }

    /// What a person writes, with the names of the tables here. Money is scaled on SQLite.
    fn by_hand(&self, question: &Question) -> Sql {
        let mut text = question.by_hand.to_owned();
        for entity in &self.spec.entities {
            text = text.replace(&format!("{{{}}}", entity.name), &self.place().table_name(&entity.name));
        }
        while let Some(start) = text.find("{d:") {
            let end = start + text[start..].find('}').expect("a closed number");
            let whole: i64 = text[start + 3..end].parse().expect("a number");
            let number = if self.dialect == Dialect::Sqlite { whole * 100 } else { whole };
            text.replace_range(start..=end, &number.to_string());
        }
        Sql::new(String::leak(text))
    }

    async fn keys(&self, sql: Sql) -> Vec<(i64, i64)> {
        let rows = self.store.fetch(sql.clone()).await.unwrap_or_else(|e| panic!("{e}: {sql:?}"));
        let key = |row: &Row| (row.get(0).expect("a key"), row.get(1).unwrap_or(0));
        let mut keys: Vec<(i64, i64)> = rows.iter().map(key).collect();
        keys.sort_unstable();
        keys
    }

    async fn time(&self, sql: Sql) -> Duration {
        let begun = Instant::now();
        self.store.fetch(sql).await.expect("an answer");
        begun.elapsed()
    }

    /// The ratio of each question, printed as it is found.
    async fn measure(&self, questions: &[&Question]) -> Vec<f64> {
        println!("  {:<62} {:>9} {:>9} {:>9} {:>6}", "question", "rows", "rule", "by hand", "ratio");
        let mut ratios = vec![];
        for question in questions {
            let (ours, by_hand) = (self.ours(question), self.by_hand(question));
            let answer = self.keys(ours.clone()).await;
            assert_eq!(answer, self.keys(by_hand.clone()).await, "{}", question.rule);
            let (mut mine, mut theirs) = (Duration::MAX, Duration::MAX);
            let begun = Instant::now();
            for turn in 0..TURNS_MAX {
                if turn >= TURNS && begun.elapsed() > TIME_MIN {
                    break;
                }
                // Who comes second may find what the first has warmed.
                let (first, second) = if turn % 2 == 0 { (&ours, &by_hand) } else { (&by_hand, &ours) };
                let (a, b) = (self.time(first.clone()).await, self.time(second.clone()).await);
                let (a, b) = if turn % 2 == 0 { (a, b) } else { (b, a) };
                (mine, theirs) = (mine.min(a), theirs.min(b));
            }
            let ratio = mine.as_secs_f64() / theirs.as_secs_f64();
            let ms = |time: Duration| format!("{:.0} ms", time.as_secs_f64() * 1_000.0);
            println!("  {:<62} {:>9} {:>9} {:>9} {ratio:>6.2}", question.name, answer.len(), ms(mine), ms(theirs));
            ratios.push(ratio);
        }
        ratios
    }
}

fn judge(mut ratios: Vec<f64>) -> bool {
    ratios.sort_unstable_by(f64::total_cmp);
    let (median, most) = (ratios[ratios.len() / 2], ratios.last().copied().unwrap_or(0.0));
    println!("  median ratio {median:.2} (at most {MEDIAN_MAX}), largest {most:.2} (at most {RATIO_MAX})\n");
    median <= MEDIAN_MAX && most <= RATIO_MAX
}

#[tokio::main]
async fn main() {
    let only = std::env::var("ONLY").unwrap_or_default();
    let wanted: Vec<&Question> = QUESTIONS.iter().filter(|q| q.name.contains(&only)).collect();
    let (scale, sqlite_scale) = (number("SCALE", 1.0), number("SQLITE_SCALE", 0.1));

    let postgres = Postgres::start().await.expect("PostgreSQL");
    let url = postgres.database().await.expect("a database");
    let home =
        Home::open(&format!("{url}?options=-c%20work_mem%3D64MB%20-c%20plan_cache_mode%3Dforce_custom_plan")).await;
    let begun = Instant::now();
    data::copy(&url, &home.spec, scale).await;
    println!(
        "PostgreSQL, TPC-H at scale {scale} (loaded in {:.0} s), least of {TURNS} turns or more",
        begun.elapsed().as_secs_f64()
    );
    let mut is_good = judge(home.measure(&wanted).await);
    drop(home);

    let folder = tempfile::tempdir().expect("a folder");
    let home = Home::open(&format!("sqlite://{}", folder.path().join("store.db").display())).await;
    data::insert(&home.store, &home.spec, sqlite_scale).await;
    println!("SQLite, TPC-H at scale {sqlite_scale}, least of {TURNS} turns or more");
    let wanted: Vec<&Question> = wanted.into_iter().filter(|q| q.is_for_sqlite).collect();
    if !wanted.is_empty() {
        is_good &= judge(home.measure(&wanted).await);
    }
    if !is_good && only.is_empty() {
        std::process::exit(1);
    }
}
