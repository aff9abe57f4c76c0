//! Rules over what was sent: `messages` of the profile and their `events`, of live runs, on both stores.

use std::collections::BTreeMap;

use campanile::{
    api::DatasetSpec,
    plan::dataset::schema_of,
    rule::{Inputs, Query, check, check_path},
    store::{
        Sql, Store,
        campaign::{NewRun, Origin, Run},
        entity::{Place, canonical_key},
        planning::ChannelStep,
    },
};
use jiff::Timestamp;
use sea_query::{Expr, Query as Statement};

use crate::world::Postgres;

const TOWN: &str = "
entities:
- name: person
  key: [id]
  fields:
  - {name: id, type: Integer}
  - {name: email, type: String}
profile: {entity: person, addresses: {email: email}}
";
/// A profile with a key of several fields, of each type that a key can have.
const CLUB: &str = "
entities:
- name: person
  key: [house, id, since]
  fields:
  - {name: house, type: String}
  - {name: id, type: Integer}
  - {name: since, type: Date}
profile: {entity: person, addresses: {}}
";

fn at(hour: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + hour * 3_600).unwrap()
}

async fn execute(store: &Store, text: String) {
    store.execute(Sql::new(String::leak(text.clone()))).await.unwrap_or_else(|e| panic!("{e}: {text}"));
}

/// A run that sends to the persons of `ids`.
async fn send(
    store: &Store,
    place: Place<'_>,
    spec: &DatasetSpec,
    (name, mode): (&str, &'static str),
    ids: &str,
) -> Run {
    let revision = format!(r#"{{"campaign": {{"dataset": "{}", "topic": "offers"}}}}"#, place.dataset);
    let new = NewRun {
        namespace: place.namespace,
        name,
        campaign: "spring",
        dataset: "d",
        mode,
        origin: Origin::Hand,
        scheduled: at(0),
        predecessor: None,
        revision: (place.dataset, &revision),
    };
    let (run, _) = store.create_run(&new, at(0)).await.unwrap();
    let key = canonical_key(store.dialect(), &spec.entities[0], "p");
    let source = Statement::select()
        .expr_as(Expr::cust(key.clone()), "item")
        .expr_as(Expr::cust(key), "profile")
        .expr_as(Expr::cust("CAST(NULL AS TEXT)"), "reason")
        .expr_as(Expr::cust("CAST(NULL AS TEXT)"), "device")
        .expr_as(Expr::cust("p.id"), "place")
        .from_as(campanile::store::entity::table_ref(&place.table("person")), "p")
        .and_where(Expr::cust(format!("p.id IN ({ids})")))
        .to_owned();
    let mut tx = store.begin().await.unwrap();
    let step = ChannelStep {
        run: &run,
        step_no: 1,
        step: "mail",
        campaigns: &[],
        channel: "out",
        expires: at(100),
        once_since: None,
        is_several: false,
        shards: store.shards().await.unwrap(),
    };
    tx.plan_channel(&step, &source, at(1)).await.unwrap();
    tx.commit().await.unwrap();
    execute(store, format!("UPDATE run SET planned_us = {} WHERE no = {}", at(1).as_microsecond(), run.no)).await;
    run
}

/// Person 1 was sent to, opened and clicked; 2 bounced, and a machine opened; 3 waits; 4 was only in a test; 5 in nothing.
async fn history(store: &Store, place: Place<'_>, spec: &DatasetSpec) {
    store.ensure_entity(place, &spec.entities[0]).await.unwrap();
    let table = place.table_name("person");
    for id in 1..=5 {
        let key =
            if place.dataset == "club" { format!("'Ä \"1\"', {id}, '2020-01-31'") } else { format!("{id}, NULL") };
        execute(store, format!("INSERT INTO {table} VALUES ({key})")).await;
    }
    let run = send(store, place, spec, (&format!("{}-live", place.dataset), "Live"), "1, 2, 3").await;
    send(store, place, spec, (&format!("{}-test", place.dataset), "Test"), "4").await;
    let key = canonical_key(store.dialect(), &spec.entities[0], "p");
    let of =
        |id: i64| format!("FROM ledger l, {table} p WHERE l.run_no = {} AND l.profile = {key} AND p.id = {id}", run.no);
    for (id, outcome, reason) in [(1, "Sent", "NULL"), (2, "Failed", "'HardBounce'")] {
        execute(
            store,
            format!(
                "INSERT INTO outcome (run_day, run_no, step_no, shard, seq, outcome, reason, detail, at_us) \
                 SELECT l.run_day, l.run_no, l.step_no, l.shard, l.seq, '{outcome}', {reason}, NULL, {} {}",
                at(2).as_microsecond(),
                of(id)
            ),
        )
        .await;
    }
    for (id, kind, url, machine) in
        [(1, "Opened", "NULL", 0), (1, "Clicked", "'https://example.com/shop'", 0), (2, "Opened", "NULL", 1)]
    {
        execute(
            store,
            format!(
                "INSERT INTO message_event (run_day, run_no, step_no, shard, seq, id, type, at_us, url, machine) \
                 SELECT l.run_day, l.run_no, l.step_no, l.shard, l.seq, '{kind}', '{kind}', {}, {url}, {machine} {}",
                at(3).as_microsecond(),
                of(id)
            ),
        )
        .await;
    }
}

const RULES: [(&str, &[i64]); 13] = [
    ("person.messages.exists(m, m.campaign == 'spring' && m.outcome == 'Sent')", &[1]),
    ("person.messages.exists(m, m.sentAt > now - days(7))", &[1]),
    ("person.messages.exists(m, m.outcome == 'Waiting')", &[3]),
    ("person.messages.exists(m, m.topic == 'offers' && m.channel == 'out' && m.step == 'mail')", &[1, 2, 3]),
    ("person.messages.exists(m, m.run.endsWith('-test'))", &[]),
    ("person.messages.size() == 0", &[4, 5]),
    ("person.messages.exists(m, m.events.exists(e, e.type == 'Clicked' && e.url.contains('/shop')))", &[1]),
    ("person.messages.exists(m, m.events.exists(e, e.type == 'Opened'))", &[1]),
    ("person.messages.exists(m, m.events.map(e, e.at).max() > m.sentAt + minutes(30))", &[1]),
    ("person.messages.size() > 0 && !person.messages.exists(m, m.events.size() > 0)", &[2, 3]),
    ("person.messages.filter(m, m.reason == 'HardBounce').size() == 1", &[2]),
    ("person.messages.map(m, m.plannedAt).max() < now - hours(20)", &[1, 2, 3]),
    ("person.messages.exists(m, has(m.variant))", &[]),
];

async fn answers(store: Store) {
    store.enter("home", "test").await.unwrap();
    let datasets = [("ns", "town", TOWN), ("ns", "club", CLUB), ("other", "town", TOWN)];
    for (namespace, dataset, text) in datasets {
        let spec: DatasetSpec = serde_yaml::from_str(text).unwrap();
        let place = Place { namespace, dataset, dialect: store.dialect() };
        if namespace == "other" {
            // The same keys in another namespace have a history of their own: none.
            store.ensure_entity(place, &spec.entities[0]).await.unwrap();
            execute(&store, format!("INSERT INTO {} VALUES (1, NULL)", place.table_name("person"))).await;
        } else {
            history(&store, place, &spec).await;
        }
        let schema = schema_of(&spec, namespace, dataset, store.dialect());
        for (rule, wanted) in RULES {
            let checked =
                check(rule, &schema, "person", &BTreeMap::new()).unwrap_or_else(|p| panic!("{}", p.picture(rule)));
            let mut query = Query::over(&schema, schema.entity("person").unwrap(), store.dialect());
            query.restrict(&checked, &Inputs::at(at(25)));
            let sql = Sql::query(&query.keys(), store.dialect()).unwrap();
            let rows = store.fetch(sql.clone()).await.unwrap_or_else(|e| panic!("{rule}: {e}: {sql:?}"));
            let id = if dataset == "club" { 1 } else { 0 };
            let mut ids: Vec<i64> = rows.iter().map(|row| row.get(id).unwrap()).collect();
            ids.sort_unstable();
            if namespace == "other" {
                assert!(ids.is_empty() || rule.contains("== 0"), "{namespace}: {rule}");
            } else {
                assert_eq!(ids, wanted, "{dataset}: {rule}");
            }
        }
    }
    let schema = schema_of(&serde_yaml::from_str(TOWN).unwrap(), "ns", "town", store.dialect());
    let problem = check_path("person.messages.outcome", &schema, "person").unwrap_err();
    assert_eq!(problem.to_string(), "`messages` is the history of what was sent, and only rules read it");
    let problem = check("message.campaign == 'spring'", &schema, "message", &BTreeMap::new()).unwrap_err();
    assert_eq!(
        problem.to_string(),
        "`message` is history that the store keeps; no set starts from it; start from the profile and ask its `messages`"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_tells_what_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    answers(Store::open(&format!("sqlite://{}", folder.path().join("store.db").display())).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_tells_the_same() {
    answers(Store::open(&Postgres::shared().await.unwrap().database().await.unwrap()).await.unwrap()).await;
}
