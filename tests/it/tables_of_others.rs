//! Tables that others fill: read in place, checked against the catalog, never written; and the end of a Dataset.

use sqlx::{Connection, Executor, PgConnection};

use crate::either::Place;

fn declare(place: &Place, table: &str, seen: &str) {
    place.declare(&format!(
        "    key: [id]\n    fields:\n    - {{name: id, type: Integer}}\n    - {{name: name, type: String}}\n    \
         - {{name: seen, type: {seen}}}\n    source: {{table: {table}}}\n"
    ));
}

#[tokio::test]
async fn a_table_is_read_in_place_and_checked() {
    let [sqlite, postgres] = Place::both().await;
    declare(&sqlite, "crm.person", "Timestamp");
    assert_eq!(sqlite.run(&[]).code, 1);
    assert_eq!(sqlite.message(), "Invalid: person: `table: crm.person` needs a PostgreSQL store");

    declare(&postgres, "crm.person", "Timestamp");
    assert_eq!(postgres.run(&[]).code, 1);
    assert_eq!(postgres.message(), "Invalid: person: there is no table crm.person that may be read");
    let mut crm = PgConnection::connect(postgres.url.as_ref().unwrap()).await.unwrap();
    let make = "CREATE SCHEMA crm; CREATE TABLE crm.person (id int PRIMARY KEY, name varchar(20), seen timestamp, other bytea); \
                INSERT INTO crm.person VALUES (1, 'Ann', '2026-01-01'), (2, 'Bob', NULL)";
    crm.execute(sqlx::raw_sql(make)).await.unwrap();
    postgres.read();
    assert_eq!(postgres.people().await, ["1 Ann", "2 Bob"]);
    assert_eq!(postgres.status()["rows"], 2);
    // What others write is seen at once.
    crm.execute("INSERT INTO crm.person VALUES (3, 'Cid', NULL)").await.unwrap();
    assert_eq!(postgres.people().await.len(), 3);
    declare(&postgres, "crm.person", "Boolean");
    assert_eq!(postgres.run(&[]).code, 1);
    assert_eq!(postgres.message(), "Invalid: column `seen` of crm.person is timestamp and cannot be read as Boolean");
    declare(&postgres, "campanile.run", "Timestamp");
    assert_eq!(postgres.run(&[]).code, 1);
    assert_eq!(postgres.message(), "Invalid: person: schema campanile is not one to read from");
}

#[tokio::test]
async fn a_dataset_that_is_deleted_keeps_its_tables_unless_told_otherwise() {
    for place in Place::both().await {
        let person = "    key: [id]\n    version: seen\n    fields:\n    - {name: id, type: Integer}\n    - {name: name, type: String}\n    \
                      - {name: seen, type: Integer}\n    source: {files: {url: data, format: CSV}}\n";
        place.declare(person);
        place.home.write("town/data/people.csv", "id,name,seen\n1,Ann,1\n");
        place.read();
        let manifest = place.home.read("town/town.yaml");
        let remove = || std::fs::remove_file(place.home.path().join("town/town.yaml")).unwrap();
        remove();
        place.read();
        assert_eq!(place.people().await, ["1 Ann"]);
        place.home.write("town/town.yaml", &manifest.replace("  profile:", "  deletionPolicy: Delete\n  profile:"));
        place.read();
        remove();
        place.read();
        let left = match place.url {
            Some(_) => "SELECT CAST(nspname AS TEXT) FROM pg_namespace WHERE nspname = 'default_town'",
            None => "SELECT name FROM sqlite_master WHERE name LIKE 'default_town%'",
        };
        assert!(place.ask(left).await.is_empty());
        assert!(place.ask("SELECT path FROM file").await.is_empty());
    }
}
