//! The film rental example counts what SQL written by hand over its CSV files counts, on both stores.

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};

use crate::{
    home::{Home, assert_conserved, repository},
    world::Postgres,
};

const CAMPAIGNS: [&str; 3] = ["overdue-reminders", "rare-films", "disc-survey"];

/// The numbers of `film_rental.expected.sql`, from the CSV files loaded as they are.
async fn expected() -> BTreeMap<String, i64> {
    let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    for file in std::fs::read_dir(repository().join("examples/film-rental/data")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|e| e == "csv") {
            load(&mut connection, &path).await;
        }
    }
    let text = std::fs::read_to_string(repository().join("tests/it/film_rental.expected.sql")).unwrap();
    let mut numbers = BTreeMap::new();
    for query in text.split("-- name: ").skip(1) {
        let (name, sql) = query.split_once('\n').unwrap();
        let row = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.unwrap();
        numbers.insert(name.trim().to_owned(), row.get::<i64, _>(0));
    }
    assert!(numbers.len() > 30, "{numbers:?}");
    numbers
}

pub async fn load(connection: &mut SqliteConnection, path: &std::path::Path) {
    let table = path.file_stem().unwrap().to_str().unwrap();
    let mut reader = csv::Reader::from_path(path).unwrap();
    let names: Vec<String> = reader.headers().unwrap().iter().map(|n| format!("\"{n}\" TEXT")).collect();
    sqlx::query(AssertSqlSafe(format!("CREATE TABLE \"{table}\" ({})", names.join(", "))))
        .execute(&mut *connection)
        .await
        .unwrap();
    let marks = vec!["?"; names.len()].join(", ");
    let mut tx = connection.begin().await.unwrap();
    for record in reader.records() {
        let record = record.unwrap();
        let mut insert = sqlx::query(AssertSqlSafe(format!("INSERT INTO \"{table}\" VALUES ({marks})")));
        for field in &record {
            insert = insert.bind(if field.is_empty() { None } else { Some(field.to_owned()) });
        }
        insert.execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// The same names, from the statuses of the objects.
fn counted(home: &Home, store: &[&str]) -> BTreeMap<String, i64> {
    let get = |kind: &str, name: &str| -> Value {
        let args: Vec<&str> = ["get", kind, name, "-o", "json"].into_iter().chain(store.iter().copied()).collect();
        serde_json::from_str(&home.call(&args).out).unwrap()
    };
    let mut numbers = BTreeMap::new();
    let dataset = get("dataset", "rental-shop");
    numbers.insert("dataset.rental-shop.rows".to_owned(), dataset["status"]["rows"].as_i64().unwrap());
    for audience in ["overdue-rentals", "rare-films"] {
        let status = get("audience", audience)["status"].clone();
        for part in ["size", "profiles"] {
            numbers.extend(status[part].as_i64().map(|n| (format!("audience.{audience}.{part}"), n)));
        }
    }
    for campaign in CAMPAIGNS {
        let run = get("campaignrun", &format!("{campaign}-immediate"));
        assert_conserved(&run);
        for step in run["status"]["steps"].as_array().unwrap() {
            let name = step["name"].as_str().unwrap();
            for part in ["out", "left"] {
                numbers.extend(step[part].as_i64().map(|n| (format!("{campaign}.{name}.{part}"), n)));
            }
        }
        for step in run["status"]["channels"].as_array().unwrap() {
            let name = step["step"].as_str().unwrap();
            for part in ["entered", "sent", "excluded"] {
                numbers.insert(format!("{campaign}.{name}.{part}"), step[part].as_i64().unwrap());
            }
            for (reason, n) in step["reasons"].as_object().into_iter().flatten() {
                numbers.insert(format!("{campaign}.{name}.excluded.{reason}"), n.as_i64().unwrap());
            }
        }
    }
    numbers
}

fn assert_agree(expected: &BTreeMap<String, i64>, counted: &BTreeMap<String, i64>) {
    for (name, wanted) in expected {
        // A reason that nobody has is not in the status.
        let found = counted.get(name).copied().or_else(|| name.contains(".excluded.").then_some(0));
        assert_eq!(found, Some(*wanted), "{name}; counted: {counted:#?}");
    }
}

fn assert_written(home: &Home, expected: &BTreeMap<String, i64>) {
    let sent: i64 = expected.iter().filter(|(name, _)| name.ends_with(".sent")).map(|(_, n)| n).sum();
    assert_eq!(i64::try_from(home.outbox().len()).unwrap(), sent);
    for path in home.outbox() {
        let text = std::fs::read_to_string(&path).unwrap();
        let subject = text.lines().find(|l| l.starts_with("Subject: ")).unwrap();
        // Every subject names a person or a film: an empty value would leave a lone comma or blank.
        assert!(!subject.contains(": ,") && subject.len() > 12, "{}: {subject}", path.display());
    }
}

#[tokio::test]
async fn on_sqlite() {
    let (home, expected) = (Home::new(), expected().await);
    let example = repository().join("examples/film-rental");
    let ran = home.run(&[example.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.lines().any(|l| l.starts_with("rare-films") && l.contains("NoConsent 7")), "{}", ran.out);
    assert_agree(&expected, &counted(&home, &[]));
    assert_written(&home, &expected);
}

#[tokio::test]
async fn on_postgres() {
    let (home, expected) = (Home::new(), expected().await);
    let url = Postgres::shared().await.unwrap().database().await.unwrap();
    let example = repository().join("examples/film-rental");
    let ran = home.run(&[example.to_str().unwrap(), "--store", &url]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_agree(&expected, &counted(&home, &["--store", &url]));
    assert_written(&home, &expected);
}
