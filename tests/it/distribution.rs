//! The ledger can be spread over machines: the catalog and the SQL hold what that takes.

use std::{fs, path::Path};

use campanile::store::{Sql, Store};

use crate::{home::repository, world::Postgres};

/// What belongs to one shard of one day.
const LEDGER: [&str; 10] = [
    "ledger",
    "attempt",
    "failure",
    "outcome",
    "deferred",
    "batch",
    "claim_cursor",
    "tally",
    "message_event",
    "history_due",
];

async fn names(store: &Store, sql: &'static str) -> Vec<String> {
    store.fetch(Sql::new(sql)).await.unwrap().iter().map(|row| row.get(0).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_unique_key_of_the_ledger_has_day_and_shard() {
    let postgres = Postgres::start().await.unwrap();
    let store = Store::open(&postgres.database().await.unwrap()).await.unwrap();
    let is_ledgers = |name: &String| LEDGER.contains(&name.as_str());
    let keys = names(
        &store,
        "SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = 'campanile' AND i.indisunique",
    )
    .await;
    assert!(keys.iter().filter(|name| is_ledgers(name)).count() >= 8, "{keys:?}");
    let without = names(
        &store,
        "SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = 'campanile' AND i.indisunique AND (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid \
           AND a.attnum = ANY (i.indkey) AND a.attname IN ('run_day', 'shard')) < 2",
    )
    .await;
    assert_eq!(without.into_iter().filter(is_ledgers).collect::<Vec<_>>(), [""; 0]);
    let forbidden = names(
        &store,
        "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'campanile' AND ( \
           EXISTS (SELECT 1 FROM pg_constraint k WHERE k.contype = 'f' AND c.oid IN (k.conrelid, k.confrelid)) \
           OR EXISTS (SELECT 1 FROM pg_trigger t WHERE t.tgrelid = c.oid) \
           OR EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attidentity <> '') \
           OR EXISTS (SELECT 1 FROM pg_attrdef d WHERE d.adrelid = c.oid AND pg_get_expr(d.adbin, d.adrelid) LIKE '%nextval%'))",
    )
    .await;
    assert_eq!(forbidden.into_iter().filter(is_ledgers).collect::<Vec<_>>(), [""; 0]);
    store.close().await;
}

/// The words of a file outside its comments.
fn statements(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//") && !line.trim_start().starts_with("--"));
    code.collect::<Vec<_>>().join("\n").to_uppercase()
}

#[test]
fn correctness_rests_on_no_lock_or_message_that_a_pooler_or_a_distributed_store_lacks() {
    let mut files = vec![];
    let mut folders = vec![repository().join("src/store")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    assert!(files.len() > 20);
    for file in &files {
        let text = statements(file);
        for word in [
            "PG_ADVISORY",
            "PG_NOTIFY",
            "\"LISTEN",
            "\"NOTIFY",
            "MERGE INTO",
            "CREATE TRIGGER",
            " NOW()",
            "(NOW()",
            "CURRENT_TIMESTAMP",
        ] {
            assert!(!text.contains(word), "{} says {word}", file.display());
        }
    }
}
