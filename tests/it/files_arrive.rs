//! Files: typed, upserted by key and version, each read once; bad rows are kept as rejects with line and reason.

use sqlx::{Connection, Row, SqliteConnection};

use crate::home::{Home, people, people_manifests};

fn home() -> Home {
    let home = Home::new();
    home.write("town/town.yaml", &people_manifests("", "true"));
    home
}

async fn query(home: &Home, sql: &'static str) -> Vec<String> {
    let url = format!("sqlite://{}", home.path().join(".campanile/store.db").display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
    rows.iter().map(|row| row.get::<Option<String>, _>(0).unwrap_or_default()).collect()
}

#[tokio::test]
async fn the_higher_version_wins_whatever_the_order() {
    let home = home();
    let head = "id,email,name,news,news_at,updated_at\n";
    home.write(
        "town/data/1.csv",
        &format!("{head}1,a@b.c,new,t,,2026-02-01T00:00:00Z\n2,b@b.c,two,t,,2026-01-01T00:00:00Z\n"),
    );
    home.write(
        "town/data/2.csv",
        &format!("{head}1,a@b.c,old,t,,2026-01-01T00:00:00Z\n2,b@b.c,equal,t,,2026-01-01T00:00:00Z\n"),
    );
    assert_eq!(home.run(&["town"]).code, 0);
    let names = query(&home, "SELECT name FROM default_town_person ORDER BY id").await;
    assert_eq!(names, ["new", "equal"]);
}

#[tokio::test]
async fn bad_rows_are_kept_with_line_and_reason_and_never_a_value() {
    let home = home();
    let bad = "x1,secret@b.c,n,t,,2026-01-01T00:00:00Z\n,secret@b.c,n,t,,\n3,c@b.c,n,perhaps,,2026-01-01T00:00:00Z\n4,d@b.c\n5,e@b.c,n,t,,yesterday\n";
    home.write("town/data/people.csv", &format!("{}{bad}", people(2)));
    assert_eq!(home.run(&["town"]).code, 0);
    let rejects = query(&home, "SELECT line || ' ' || reason FROM reject ORDER BY line").await;
    let wanted = [
        "4 id: not an Integer",
        "5 id: required, and missing",
        "6 news: not a Boolean",
        "7 2 fields where the header has 6",
        "8 updated_at: not a Timestamp",
    ];
    assert_eq!(rejects, wanted);
    let status = home.get("dataset", "town")["status"].clone();
    assert_eq!(
        (&status["rows"], &status["rejected"], &status["entities"][0]["rejects"]),
        (&2.into(), &5.into(), &"reject".into())
    );
    assert!(!status.to_string().contains("secret"));
}

#[tokio::test]
async fn past_max_rejects_the_file_is_refused_whole() {
    let home = home();
    let manifest = people_manifests("", "true").replace("format: CSV", "format: CSV, maxRejects: 10%");
    home.write("town/town.yaml", &manifest);
    home.write("town/data/people.csv", &format!("{}x,,,,,\ny,,,,,\n", people(8)));
    assert_eq!(home.run(&["town"]).code, 1);
    let (_, reason, message) = home.ready("dataset", "town");
    assert_eq!(reason, "FileRefused");
    assert!(
        message.contains("data/people.csv: 2 bad rows are more than maxRejects 10%; first in line 10"),
        "{message}"
    );
    assert_eq!(home.get("dataset", "town")["status"]["rows"], 0);
}

#[tokio::test]
async fn a_file_counts_once_and_again_when_it_is_rewritten() {
    let home = home();
    home.write("town/data/people.csv", &people(3));
    assert_eq!(home.run(&["town"]).code, 0);
    let at = || home.get("dataset", "town")["status"]["entities"][0]["lastIngestedAt"].clone();
    let first = query(&home, "SELECT CAST(at_us AS TEXT) FROM file").await;
    assert_eq!(home.run(&["town"]).code, 0);
    assert_eq!(query(&home, "SELECT CAST(at_us AS TEXT) FROM file").await, first);
    home.write("town/data/people.csv", &people(4));
    assert_eq!(home.run(&["town"]).code, 0);
    assert_ne!(query(&home, "SELECT CAST(at_us AS TEXT) FROM file").await, first);
    assert_eq!(home.get("dataset", "town")["status"]["rows"], 4);
    assert!(at().is_string());
}

#[tokio::test]
async fn a_field_may_be_added_and_not_retyped() {
    let home = home();
    home.write("town/data/people.csv", &people(2));
    let manifest = people_manifests("", "true");
    home.write(
        "town/town.yaml",
        &manifest.replace("    - {name: name, type: String}\n", "").replace("person.name", "person.email"),
    );
    assert_eq!(home.run(&["town"]).code, 0);
    // The file is read again, so that the new field has its values.
    home.write("town/town.yaml", &manifest);
    assert_eq!(home.run(&["town"]).code, 0);
    assert_eq!(query(&home, "SELECT name FROM default_town_person ORDER BY id").await, ["Person 1", "Person 2"]);
    home.write("town/town.yaml", &manifest.replace("name: name, type: String", "name: name, type: Integer"));
    assert_eq!(home.run(&["town"]).code, 1);
    let (_, reason, message) = home.ready("dataset", "town");
    assert!(
        reason == "Invalid" && message.contains("person.name was String and cannot become Integer; to migrate"),
        "{message}"
    );
}
