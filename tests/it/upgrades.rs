//! A store that an earlier version filled is brought to this one's tables, and keeps what it knew.

use std::{fs, path::Path};

use campanile::store::{Sql, Store};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection, migrate::Migrator};
use tempfile::TempDir;

use crate::{home::repository, world::Postgres};

/// The last migration before the ledger was partitioned by day.
const BEFORE: u32 = 5;

/// Two runs on two days: one person got a message, one was left out, one was tried twice.
const FILLED: &str = r#"
INSERT INTO revision (hash, content, at_us) VALUES ('h', '{"campaign": {"dataset": "town", "topic": "news"}}', 0);
INSERT INTO run (no, namespace, name, campaign, mode, origin, scheduled_us, run_day, revision, state, reason, message, created_us, planned_us, completed_us)
VALUES (1, 'ns', 'a-1', 'a', 'Live', 'Schedule', 0, 20000, 'h', 'Done', 'Completed', '', 0, 0, 1),
       (2, 'ns', 'a-2', 'a', 'Live', 'Schedule', 0, 20001, 'h', 'Done', 'Completed', '', 0, 0, 1);
INSERT INTO run_channel (run_no, step_no, step, channel, run_day, expires_us) VALUES (1, 1, 'mail', 'out', 20000, 9), (2, 1, 'mail', 'out', 20001, 9);
INSERT INTO ledger (run_day, run_no, step_no, shard, seq, item, address, profile, reason)
VALUES (20000, 1, 1, 0, 0, '7', 0, '7', NULL), (20000, 1, 1, 0, 1, '8', 0, '8', 'AlreadySent'), (20001, 2, 1, 0, 0, '9', 0, '9', NULL);
INSERT INTO attempt (run_day, run_no, step_no, shard, first_seq, attempt, last_seq, at_us, worker)
VALUES (20000, 1, 1, 0, 0, 1, 0, 5, 'w'), (20001, 2, 1, 0, 0, 1, 0, 5, 'w'), (20001, 2, 1, 0, 0, 2, 0, 6, 'w');
INSERT INTO failure (run_day, run_no, step_no, shard, seq, attempt, reason, at_us) VALUES (20001, 2, 1, 0, 0, 1, 'Timeout', 5);
INSERT INTO outcome (run_day, run_no, step_no, shard, seq, outcome, reason, at_us)
VALUES (20000, 1, 1, 0, 0, 'Sent', NULL, 6), (20000, 1, 1, 0, 1, 'Excluded', 'AlreadySent', 6), (20001, 2, 1, 0, 0, 'Sent', NULL, 7);
"#;

/// The migrations of the earlier version.
async fn earlier(dialect: &str) -> (Migrator, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(repository().join("src/store/migrations").join(dialect)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name[..4].parse::<u32>().unwrap() <= BEFORE {
            fs::copy(&path, folder.path().join(name)).unwrap();
        }
    }
    (Migrator::new(Path::new(folder.path())).await.unwrap(), folder)
}

async fn knows_what_it_knew(url: &str) -> Store {
    let store = Store::open(url).await.unwrap();
    let count = async |sql| store.fetch_one(Sql::new(sql)).await.unwrap().unwrap().get::<i64>(0).unwrap();
    assert_eq!(count("SELECT count(*) FROM ledger").await, 3);
    assert_eq!(count("SELECT count(*) FROM attempt").await, 3);
    assert_eq!(count("SELECT count(*) FROM failure").await, 1);
    assert_eq!(count("SELECT count(*) FROM outcome WHERE outcome = 'Sent'").await, 2);
    assert_eq!(count("SELECT count(*) FROM run WHERE dataset = 'town'").await, 2);
    // And rules see the history.
    assert_eq!(count("SELECT count(*) FROM message WHERE outcome = 'Sent' AND topic = 'news'").await, 2);
    let run = store.run("ns", "a-1").await.unwrap().unwrap();
    assert_eq!(store.kept(&run, "7").await.unwrap().len(), 1);
    store
}

#[tokio::test]
async fn a_folders_store_is_brought_to_this_version() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("store.db").display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    earlier("sqlite").await.0.run(&mut connection).await.unwrap();
    connection.execute(AssertSqlSafe(FILLED.to_owned())).await.unwrap();
    connection.close().await.unwrap();
    knows_what_it_knew(&url).await.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clusters_store_is_brought_to_this_version() {
    let postgres = Postgres::start().await.unwrap();
    let url = postgres.database().await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    connection.execute("CREATE SCHEMA campanile; SET search_path TO campanile").await.unwrap();
    earlier("postgres").await.0.run(&mut connection).await.unwrap();
    connection.execute(sqlx::raw_sql(AssertSqlSafe(FILLED.to_owned()))).await.unwrap();
    connection.close().await.unwrap();
    let store = knows_what_it_knew(&url).await;
    let days =
        Sql::new("SELECT count(*) FROM pg_inherits WHERE inhparent IN ('ledger'::regclass, 'message_event'::regclass)");
    assert_eq!(store.fetch_one(days).await.unwrap().unwrap().get::<i64>(0).unwrap(), 4, "two days, two tables");
    store.close().await;
}
