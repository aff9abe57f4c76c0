//! The keys that are kept of an audience are replaced at once: who reads sees the old set or the new one, and waits for
//! neither. And a statement of an author ends when its time is over, and writes nothing.

use std::time::Duration;

use campanile::{
    api::dataset::Entity,
    store::{
        Sql, Store,
        audience::{Evaluated, Kept},
        entity::Place,
        readonly::Readers,
    },
};
use jiff::Timestamp;
use sea_query::{Expr, Query, SelectStatement};
use tokio::sync::mpsc;

use crate::world::Postgres;

const NAME: (&str, &str) = ("ns", "vip");

fn person() -> Entity {
    serde_json::from_str(
        r#"{"name": "person", "key": ["id"], "fields": [{"name": "id", "type": "Integer"}, {"name": "town", "type": "String"}]}"#,
    )
    .unwrap()
}

fn keys(ids: &[i64]) -> SelectStatement {
    let one = |id: &i64| Query::select().expr_as(Expr::val(*id), "id").to_owned();
    let mut all = one(&ids[0]);
    ids[1..].iter().for_each(|id| {
        all.union(sea_query::UnionType::All, one(id));
    });
    all
}

async fn read(store: &Store, table: &str) -> i64 {
    let text: &'static str = String::leak(format!("SELECT count(*) FROM \"{table}\""));
    store.fetch_one(Sql::new(text)).await.unwrap().unwrap().get(0).unwrap()
}

async fn replace(store: &Store, ids: &[i64]) -> Kept {
    let mut tx = store.begin().await.unwrap();
    let kept = tx.replace_kept(NAME, &person(), &keys(ids), ("town", "d", None)).await.unwrap();
    let evaluated = Evaluated { size: ids.len() as i64, profiles: None, took_ms: 0, at: Timestamp::UNIX_EPOCH };
    tx.note_evaluated(NAME, &evaluated, 0, false).await.unwrap();
    tx.commit().await.unwrap();
    kept
}

async fn the_old_set_or_the_new(store: &Store) {
    let first = replace(store, &[1, 2, 3, 3]).await;
    assert_eq!((first.added, first.removed, read(store, &first.table).await), (3, 0, 3));
    let mut tx = store.begin().await.unwrap();
    let second = tx.replace_kept(NAME, &person(), &keys(&[3, 4, 5, 6]), ("town", "d", None)).await.unwrap();
    assert_eq!((second.added, second.removed), (3, 2));
    // Nobody waits for the writer, and nobody sees its half.
    assert_eq!(read(store, &first.table).await, 3);
    tx.commit().await.unwrap();
    assert_eq!(read(store, &first.table).await, 4);
    // What is given up leaves no trace.
    let mut tx = store.begin().await.unwrap();
    tx.replace_kept(NAME, &person(), &keys(&[9]), ("town", "e", None)).await.unwrap();
    drop(tx);
    let known = store.audience(NAME.0, NAME.1).await.unwrap();
    assert_eq!((known.kept.unwrap().definition, read(store, &first.table).await), ("d".to_owned(), 4));
}

#[tokio::test]
async fn on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("store.db").display());
    let store = Store::open(&url).await.unwrap();
    the_old_set_or_the_new(&store).await;
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) AS id FROM n";
    statements_end(store, &url, endless).await;
}

#[tokio::test]
async fn on_postgres() {
    let url = Postgres::shared().await.unwrap().database().await.unwrap();
    let store = Store::open(&url).await.unwrap();
    the_old_set_or_the_new(&store).await;
    // A run that froze its moment before goes on seeing the set as it was then.
    let mut run = store.begin().await.unwrap();
    run.freeze().await.unwrap();
    let known = run.audience(NAME.0, NAME.1).await.unwrap();
    replace(&store, &[7]).await;
    let table = known.kept.unwrap().table;
    assert_eq!(
        (run.count(&campanile::store::audience::kept_keys(&table, ["id"])).await.unwrap(), read(&store, &table).await),
        (4, 1)
    );
    statements_end(store, &url, "SELECT 1 AS id FROM pg_sleep(60)").await;
}

async fn statements_end(store: Store, url: &str, endless: &str) {
    let place = Place { namespace: "ns", dataset: "town", dialect: store.dialect() };
    let (sender, mut rows) = mpsc::channel(1);
    let none = store.run_sql(place, &person(), "SELECT 1 AS id", sender.clone()).await;
    assert_eq!(none.unwrap_err(), "namespace ns may not run statements of its own");
    let store = store.with_readers(Readers::own(url).within(Duration::from_millis(200)));
    let late = store.run_sql(place, &person(), endless, sender.clone()).await;
    assert_eq!(late.unwrap_err(), "the statement took longer than 0.2 s");
    let no_key = store.run_sql(place, &person(), "VALUES (1)", sender.clone()).await;
    assert_eq!(no_key.unwrap_err(), "the statement must give the key of person (id), and it gives column1");
    let two = store.run_sql(place, &person(), "SELECT 1 AS id UNION ALL SELECT 2", sender).await;
    assert!(two.unwrap() == 2 && rows.recv().await.is_some());
}
