//! What is past its retention goes by itself; what keeps people from getting a message twice does not.

use serde_json::Value;

use crate::{
    home::{Home, assert_conserved, people, people_manifests},
    world::Postgres,
};
use campanile::store::{Sql, Store};

/// Two Datasets whose campaigns run on one day; the second keeps its messages longer.
fn write(home: &Home) {
    let manifest = people_manifests("  schedule: {immediate: {notAfter: 2099-01-01T00:00:00Z}}", "true");
    let short = manifest.replace("  profile:", "  retention: {messages: 10d, workTables: 2d, rejects: 3d}\n  profile:");
    home.write("town/short.yaml", &short);
    home.write("town/data/people.csv", &people(40));
    // Another person's campaign on another Dataset.
    let long = manifest
        .split("---\n")
        .filter(|part| !part.contains("kind: Channel") && !part.contains("kind: MessageTemplate"))
        .collect::<Vec<_>>()
        .join("---\n")
        .replace("name: town", "name: village")
        .replace("dataset: town", "dataset: village")
        .replace("name: greet", "name: welcome")
        .replace("url: data,", "url: village,")
        .replace("  profile:", "  retention: {messages: 20d}\n  profile:");
    home.write("town/long.yaml", &long);
    home.write("town/village/people.csv", &(people(7) + "not a number,x,y,t,,\n"));
}

async fn rows(store: &Store, table: &str) -> i64 {
    let sql = match table {
        "ledger" => Sql::new("SELECT count(*) FROM ledger"),
        "attempt" => Sql::new("SELECT count(*) FROM attempt"),
        "outcome" => Sql::new("SELECT count(*) FROM outcome"),
        "reject" => Sql::new("SELECT count(*) FROM reject"),
        "tables" => Sql::new("SELECT count(*) FROM run_step WHERE work_table IS NOT NULL"),
        _ => Sql::new("SELECT count(*) FROM once_fence"),
    };
    store.fetch_one(sql).await.unwrap().unwrap().get(0).unwrap()
}

fn run_of(home: &Home, url: &str, name: &str) -> Value {
    serde_json::from_str(&home.call(&["get", "run", name, "-o", "json", "--store", url]).out).unwrap()
}

async fn goes_and_stays(url: &str, home: Home) -> Store {
    write(&home);
    let at = |now: &str| {
        let ran = home.run(&["town", "--store", url, "--now", now]);
        assert!(ran.code == 0, "{ran:?}");
    };
    at("2026-01-01T10:00:00Z");
    assert_eq!(home.outbox().len(), 47);
    let store = Store::open(url).await.unwrap();
    assert_eq!((rows(&store, "ledger").await, rows(&store, "outcome").await), (47, 47));
    assert_eq!((rows(&store, "tables").await, rows(&store, "reject").await), (2, 1));
    let sent = run_of(&home, url, "greet-immediate")["status"]["totals"].clone();
    assert_eq!(sent["sent"], 40);

    at("2026-01-02T10:00:00Z");
    assert_eq!((rows(&store, "tables").await, rows(&store, "ledger").await), (2, 47), "nothing is due yet");

    at("2026-01-04T10:00:00Z");
    assert_eq!(rows(&store, "tables").await, 1, "two days are over for one of them");
    let run = run_of(&home, url, "greet-immediate");
    assert!(run["status"]["steps"][0].get("table").is_none(), "{run}");

    // Ten days and one more, in which the day could have gone as one.
    at("2026-01-12T11:00:00Z");
    assert_eq!(rows(&store, "ledger").await, 7, "the other Dataset's messages of that day stay");
    assert_eq!(rows(&store, "outcome").await, 7);
    assert!((1..=7).contains(&rows(&store, "attempt").await), "of the other one only");

    at("2026-02-01T10:00:00Z");
    for table in ["ledger", "outcome", "attempt", "reject", "tables"] {
        assert_eq!(rows(&store, table).await, 0, "{table}");
    }
    // What the runs did is still known, and nobody gets anything again.
    assert_eq!(rows(&store, "once").await, 47);
    assert_eq!(home.outbox().len(), 47);
    let run = run_of(&home, url, "greet-immediate");
    assert_eq!(run["status"]["totals"], sent);
    assert_conserved(&run);
    let again = home.call(&["rerun", "greet-immediate", "--remaining", "--store", url]);
    assert_ne!(again.code, 0, "{again:?}");

    // A day that had been dropped can be used again.
    home.write("town/data/more.csv", &people(41));
    let triggered = home.call(&["trigger", "greet", "--store", url]);
    assert_eq!(triggered.code, 0, "{triggered:?}");
    at("2026-01-01T23:00:00Z");
    assert_eq!(home.outbox().len(), 48, "the one who is new");
    store
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_past_its_retention_goes_on_sqlite() {
    let home = Home::new();
    let url = format!("sqlite://{}", home.path().join("store.db").display());
    goes_and_stays(&url, home).await.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_past_its_retention_goes_on_postgres_with_its_partition() {
    let postgres = Postgres::start().await.unwrap();
    let url = postgres.database().await.unwrap();
    let store = goes_and_stays(&url, Home::new()).await;
    let parts = Sql::new(
        "SELECT string_agg(c.relname, ' ' ORDER BY c.relname) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
         WHERE i.inhparent = 'ledger'::regclass",
    );
    let parts: Option<String> = store.fetch_one(parts).await.unwrap().unwrap().get(0).unwrap();
    assert_eq!(parts.as_deref(), Some("ledger_20454"), "only the day that was used again");
    store.close().await;
}
