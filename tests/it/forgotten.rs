//! `campanile forget KEY`, on both stores: counts stay true, what waits is not sent, tomorrow's file brings nobody back, and
//! no table of the store holds what was hers.

use campanile::store::event::EventType;
use serde_json::{Value, json};
use sqlx::{Connection, Executor};

use crate::{
    consent_elsewhere::{http, listening},
    consent_over_time::{link, sent_at, with_links},
    either::Place,
    home::{PATIENCE, assert_conserved},
    whole_history::{record, store_of},
    world::until_true,
};

const HEAD: &str = "id,email,name,news,news_at,updated_at\n";

fn row(id: i64, name: &str) -> String {
    format!("{id},{name}@example.com,{name},t,2026-02-01T00:00:00Z,2026-02-01T00:00:00Z\n")
}

/// Every table of the store that holds one of the texts, whatever the case.
async fn tables_with(place: &Place, texts: &[&str]) -> Vec<String> {
    let columns = if place.url.is_some() {
        "SELECT quote_ident(table_schema) || '.' || quote_ident(table_name) || ' ' || quote_ident(column_name) \
         FROM information_schema.columns WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
    } else {
        "SELECT '\"' || m.name || '\" \"' || c.name || '\"' FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'"
    };
    let mut found = vec![];
    for column in place.ask(columns).await {
        let (table, name) = column.split_once(' ').unwrap();
        for text in texts {
            let sql = format!(
                "SELECT CAST(count(*) AS TEXT) FROM {table} WHERE lower(CAST({name} AS TEXT)) LIKE '%{}%'",
                text.to_lowercase()
            );
            if place.ask(&sql).await != ["0"] {
                found.push(format!("{column}: {text}"));
            }
        }
    }
    found
}

fn run_status(place: &Place, run: &str) -> Value {
    place.get("run", run)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_erased_and_what_was_counted_stays() {
    for place in Place::both().await {
        with_links(&place, "");
        place.home.write("town/data/1.csv", &format!("{HEAD}{}{}", row(41, "Zita"), row(42, "Bob")));
        place.read();
        assert_eq!(sent_at(&place, "first", "2026-03-01T09:00:00Z"), (2, 0));
        let store = store_of(&place).await;
        record(&store, "41", EventType::Clicked, "2026-03-01T09:02:00Z", (Some("https://s.example/zita"), false)).await;
        store.close().await;
        let unsubscribe = link(&place, "Zita@example.com", 'u');
        let preferences = link(&place, "Zita@example.com", 'p');
        let before = run_status(&place, "first");
        let held = ["zita"];
        let there = tables_with(&place, &held).await;
        assert!(there.len() >= 4, "rows, words, links: {there:?}");

        let asked = place.call(&["forget", "41"]);
        assert!(asked.code == 2 && asked.err.contains("--yes"), "{asked:?}");
        let unknown = place.call(&["forget", "4242", "--yes"]);
        assert!(unknown.code == 2 && unknown.err.contains("nobody is known"), "{unknown:?}");
        let done = place.call(&["forget", "41", "--yes"]);
        assert_eq!(done.code, 0, "{done:?}");
        for part in ["1 row, 1 message, 1 entry of consent", "data", "default/greet/first", "backups"] {
            assert!(done.out.contains(part), "{part}: {}", done.out);
        }
        assert_eq!(tables_with(&place, &held).await, Vec::<String>::new());
        // Her key, where a column holds nothing else.
        let key = place
            .ask("SELECT item FROM ledger WHERE item = '41' OR profile = '41' UNION ALL SELECT profile FROM consent WHERE profile = '41' \
                  UNION ALL SELECT item FROM once_fence WHERE item = '41' UNION ALL SELECT CAST(id AS TEXT) FROM PERSON WHERE id = 41")
            .await;
        assert_eq!(key, Vec::<String>::new());
        assert_eq!(run_status(&place, "first")["status"]["totals"], before["status"]["totals"]);

        let told = place.call(&["person", "41", "-o", "json"]);
        assert_eq!(told.code, 0, "{told:?}");
        let told: Value = serde_json::from_str(&told.out).unwrap();
        assert!(told["isThere"] == false && told["erasedAt"].is_string(), "{told}");
        assert_eq!((told["fields"].clone(), told["addresses"].clone()), (json!([]), json!([])), "{told}");
        let message = &told["messages"][0];
        assert_eq!((&message["outcome"], &message["events"][0]["type"]), (&json!("Sent"), &json!("Clicked")), "{told}");
        assert_eq!(message["events"][0]["url"], Value::Null, "{told}");
        assert_eq!(told["consent"][0]["source"], "erased", "{told}");

        // Tomorrow's export has her again, and a delete of her that names her key.
        let more = "id,email,name,news,news_at,updated_at,_change_request_type\n";
        let again = "41,Zita@example.com,Zita,t,2026-03-02T00:00:00Z,2026-03-02T00:00:00Z,u\n41,,,,,2026-03-03T00:00:00Z,d\n\
                     43,Cleo@example.com,Cleo,t,2026-03-02T00:00:00Z,2026-03-02T00:00:00Z,u\n";
        place.home.write("town/data/2.csv", &format!("{more}{again}"));
        place.read();
        assert_eq!(place.people().await, ["42 Bob", "43 Cleo"]);
        let entity = &place.status()["entities"][0];
        assert_eq!((&entity["erased"], &entity["rejected"]), (&json!(2), &json!(0)), "{entity}");
        // Her old links still answer, and bring nothing of her back.
        let (running, port) = listening(&place, "log", &["--now", "2026-03-03T08:00:00Z"]).await;
        assert_eq!(http(port, "POST", &unsubscribe, &[], "List-Unsubscribe=One-Click").0, 200);
        assert_eq!(http(port, "GET", &preferences, &[], "").0, 410);
        drop(running);
        assert_eq!(sent_at(&place, "second", "2026-03-03T09:00:00Z"), (2, 0));
        assert_eq!(tables_with(&place, &held).await, Vec::<String>::new());
        let key = place.ask("SELECT profile FROM consent WHERE profile = '41'").await;
        assert_eq!(key, Vec::<String>::new());
        // Again, it finds nothing more to do.
        let done = place.call(&["forget", "41", "--yes"]);
        assert!(done.code == 0 && done.out.contains("0 rows, 0 messages"), "{done:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_person_is_not_sent_though_its_run_is_in_flight() {
    for place in Place::both().await {
        with_links(&place, "");
        let rows: String = (1..=9).map(|id| row(id, &format!("P{id}x"))).collect();
        place.home.write("town/data/1.csv", &format!("{HEAD}{rows}"));
        place.read();
        let running = place.spawn("log");
        assert_eq!(place.call(&["stop", "--channel", "out", "--reason", "a look at it"]).code, 0);
        assert_eq!(place.call(&["trigger", "greet", "--name", "waits"]).code, 0);
        let waiting = || run_status(&place, "waits")["status"]["totals"]["waiting"] == 9;
        until_true("what waits", PATIENCE, waiting).await.unwrap();
        // Beside the running home.
        let done = place.call(&["forget", "5", "--yes"]);
        assert!(done.code == 0 && done.out.contains("not sent: 1 message that waited"), "{done:?}");
        assert_eq!(tables_with(&place, &["p5x"]).await, Vec::<String>::new());
        assert_eq!(place.call(&["start", "--channel", "out"]).code, 0);
        let ended = || run_status(&place, "waits")["status"]["completedAt"].is_string();
        until_true("the end", PATIENCE, ended).await.unwrap();
        let run = run_status(&place, "waits");
        assert_conserved(&run);
        assert_eq!((&run["status"]["totals"]["sent"], &run["status"]["totals"]["excluded"]), (&json!(8), &json!(1)));
        assert_eq!(run["status"]["channels"][0]["reasons"]["Erased"], 1, "{run}");
        let sent: String = place.home.outbox().iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
        assert!(!sent.contains("P5x") && sent.contains("P4x"), "{sent}");
        drop(running);
    }
}

const SHOP: &str = r#"apiVersion: campanile.dev/v1alpha1
kind: Dataset
metadata: {name: town}
spec:
  entities:
  - name: person
    key: [email]
    fields:
    - {name: email, type: String}
    - {name: name, type: String}
    source: {files: {url: people, format: CSV, contents: Snapshot, maxDeletes: 100%}}
  - name: order
    key: [shop, nr]
    fields:
    - {name: shop, type: String}
    - {name: nr, type: Integer}
    - {name: buyer, type: String}
    links:
    - {name: person, to: person, keys: {buyer: email}, inverse: orders}
    source: {files: {url: orders, format: JSONL}}
  profile: {entity: person, addresses: {email: email}}
  topics:
  - {name: service, category: Transactional}
---
apiVersion: campanile.dev/v1alpha1
kind: Channel
metadata: {name: out}
spec: {outbox: {}}
---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {name: hello}
spec: {email: {subject: "Your order {{ order.nr }}", text: "Dear {{ who.name }}"}}
---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {name: plain}
spec: {email: {subject: "News", text: "Dear {{ person.name }}"}}
---
apiVersion: campanile.dev/v1alpha1
kind: Audience
metadata: {name: vips}
spec: {dataset: town, entity: person, import: {url: vips.csv, key: mail}}
---
apiVersion: campanile.dev/v1alpha1
kind: Audience
metadata: {name: regulars}
spec: {dataset: town, entity: person, where: 'size(person.orders) > 0', refresh: {cron: "0 0 * * *", timeZone: UTC}}
---
apiVersion: campanile.dev/v1alpha1
kind: Campaign
metadata: {name: orders}
spec:
  dataset: town
  topic: service
  steps:
  - name: all
    audience: {entity: order, where: 'true'}
  - name: known
    enrich: {as: who, fields: [order.person.name]}
  - name: mail
    email: {channel: out, template: hello}
---
apiVersion: campanile.dev/v1alpha1
kind: Campaign
metadata: {name: once}
spec:
  dataset: town
  topic: service
  steps:
  - name: all
    audience: {ref: vips}
  - name: fresh
    incremental: {by: Key}
  - name: mail
    email: {channel: out, template: plain, once: {ever: true}}
"#;

/// Every count that the store keeps of runs.
async fn counts(place: &Place) -> Vec<String> {
    place.ask("SELECT run_no || ' ' || step_no || ' ' || outcome || ' ' || reason || ' ' || sum(n) FROM tally GROUP BY run_no, step_no, outcome, reason ORDER BY 1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_known_by_her_address_is_found_nowhere_even_with_her_orders() {
    for place in Place::both().await {
        place.home.write("town/town.yaml", SHOP);
        let people = "email,name\nzita@example.com,Zita\nbob@example.com,Bob\n";
        let orders = "{\"shop\": \"north\", \"nr\": 1, \"buyer\": \"zita@example.com\"}\n{\"shop\": \"north\", \"nr\": 2, \"buyer\": \"bob@example.com\"}\n";
        place.home.write("town/people/1.csv", people);
        place.home.write("town/orders/1.jsonl", orders);
        place.home.write("town/vips.csv", "mail\nzita@example.com\nbob@example.com\n");
        place.read();
        for (campaign, run) in [("orders", "first"), ("once", "second")] {
            assert_eq!(place.call(&["trigger", campaign, "--name", run]).code, 0);
        }
        place.read();
        let held = ["zita"];
        let there = tables_with(&place, &held).await;
        for table in ["w_", "audience__", "once_fence", "incremental", "ledger", "attempt", "order"] {
            assert!(there.iter().any(|column| column.contains(table)), "{table}: {there:?}");
        }
        let before = counts(&place).await;
        // Each dataset says what leads to whom.
        let wrong = place.call(&["forget", "zita@example.com", "--yes", "--with", "person"]);
        assert!(wrong.code == 2 && wrong.err.contains("no row of person leads to a person"), "{wrong:?}");
        let done = place.call(&["forget", "zita@example.com", "--yes"]);
        assert_eq!(done.code, 0, "{done:?}");
        assert!(done.out.contains("a row of order that lead") && done.out.contains("--with order"), "{}", done.out);
        let left = tables_with(&place, &held).await;
        assert!(left.len() == 1 && left[0].contains("order") && left[0].contains("buyer"), "{left:?}");

        // Brought back for this once, to go with what is hers; the snapshot and the lists have her every day.
        let store = store_of(&place).await;
        store.execute(campanile::store::Sql::new("DELETE FROM erased")).await.unwrap();
        store.close().await;
        place.home.write("town/people/2.csv", people);
        place.read();
        assert_eq!(place.ask("SELECT name FROM PERSON ORDER BY name").await, ["Bob", "Zita"]);
        let done = place.call(&["forget", "zita@example.com", "--yes", "--with", "order"]);
        assert!(done.code == 0 && done.out.contains("1 row of order"), "{done:?}");
        assert_eq!(tables_with(&place, &held).await, Vec::<String>::new());
        assert_eq!(counts(&place).await, before);

        place.home.write("town/people/3.csv", &format!("{people}cleo@example.com,Cleo\n"));
        place.home.write("town/orders/2.jsonl", orders);
        place.home.write("town/vips.csv", "mail\nzita@example.com\nbob@example.com\ncleo@example.com\n");
        place.read();
        assert_eq!(place.ask("SELECT name FROM PERSON ORDER BY name").await, ["Bob", "Cleo"]);
        assert_eq!(place.get("audience", "vips")["status"]["size"], 2, "{}", place.get("audience", "vips"));
        let erased: Vec<i64> =
            place.status()["entities"].as_array().unwrap().iter().map(|e| e["erased"].as_i64().unwrap_or(0)).collect();
        assert_eq!(erased, [1, 1]);
        for (campaign, run) in [("orders", "third"), ("once", "fourth")] {
            assert_eq!(place.call(&["trigger", campaign, "--name", run]).code, 0);
        }
        place.read();
        assert_eq!(run_status(&place, "fourth")["status"]["totals"]["entered"], 1, "who was sent to is not again");
        assert_eq!(tables_with(&place, &held).await, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_another_systems_table_her_row_stays_and_nothing_is_sent_to_it() {
    let [_, place] = Place::both().await;
    let mut crm = sqlx::PgConnection::connect(place.url.as_ref().unwrap()).await.unwrap();
    let make = "CREATE SCHEMA crm; CREATE TABLE crm.person (id int PRIMARY KEY, email text, name text, news bool, \
                news_at timestamptz, updated_at timestamptz); \
                INSERT INTO crm.person SELECT n, 'p' || n || '@example.com', 'P' || n, true, now(), now() FROM generate_series(1, 3) n";
    crm.execute(sqlx::raw_sql(make)).await.unwrap();
    let manifest = crate::home::people_manifests("", "true")
        .replace("topic: news", "topic: service")
        .replace("source: {files: {url: data, format: CSV}}", "source: {table: crm.person}")
        .replace("template: hello}", "template: hello, once: {ever: false}}");
    place.home.write("town/town.yaml", &manifest);
    place.read();
    let done = place.call(&["forget", "2", "--yes"]);
    assert!(done.code == 0 && done.out.contains("table crm.person, another system's"), "{done:?}");
    let plan = place.call(&["plan", "town", "-o", "json"]);
    let plan: Value = serde_json::from_str(&plan.out).unwrap();
    let excluded = &plan["campaigns"][0]["steps"][1]["messages"]["excluded"][0];
    assert_eq!((&excluded["reason"], &excluded["rows"]["now"]["exact"]), (&json!("Erased"), &json!(1)), "{plan}");
    let why = place.call(&["why", "greet", "2", "town"]);
    assert!(why.out.contains("Erased"), "{why:?}");
    assert_eq!(place.call(&["trigger", "greet", "--name", "first"]).code, 0);
    place.read();
    let run = run_status(&place, "first");
    assert_eq!(
        (&run["status"]["totals"]["sent"], &run["status"]["channels"][0]["reasons"]["Erased"]),
        (&json!(2), &json!(1))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_erases_waits_for_whoever_may_still_write_her_key() {
    let [_, place] = Place::both().await;
    place.home.write("town/town.yaml", &crate::home::people_manifests("", "true"));
    place.home.write("town/data/1.csv", &crate::home::people(1));
    place.read();
    let store = store_of(&place).await;
    let mut planning = store.begin().await.unwrap();
    planning.freeze().await.unwrap();
    let mut sending = store.begin().await.unwrap();
    assert!(!sending.is_erased(("default", "town"), "person", "hash").await.unwrap());
    let is_alone = async || store.begin().await.unwrap().close_erased().await.unwrap();
    assert!(!is_alone().await, "a plan may hold her");
    planning.commit().await.unwrap();
    assert!(!is_alone().await, "so may an attempt");
    sending.commit().await.unwrap();
    let mut erasing = store.begin().await.unwrap();
    assert!(erasing.close_erased().await.unwrap());
    drop(erasing);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_a_run_is_sent_anew_without_who_was_erased() {
    for place in Place::both().await {
        with_links(&place, "");
        let rows: String = (1..=3).map(|id| row(id, &format!("P{id}x"))).collect();
        place.home.write("town/data/1.csv", &format!("{HEAD}{rows}"));
        place.read();
        let running = place.spawn("log");
        assert_eq!(place.call(&["stop", "--channel", "out", "--reason", "wrong link"]).code, 0);
        assert_eq!(place.call(&["trigger", "greet", "--name", "waits"]).code, 0);
        let status = |run: &str| run_status(&place, run)["status"].clone();
        until_true("what waits", PATIENCE, || status("waits")["totals"]["waiting"] == 3).await.unwrap();
        assert_eq!(place.call(&["forget", "2", "--yes"]).code, 0);
        assert_eq!(place.call(&["rerun", "waits", "--remaining"]).code, 0);
        until_true("the run to end", PATIENCE, || status("waits")["completedAt"].is_string()).await.unwrap();
        assert_eq!(place.call(&["start", "--channel", "out"]).code, 0);
        until_true("the rest", PATIENCE, || status("waits-r2")["completedAt"].is_string()).await.unwrap();
        assert_eq!(status("waits-r2")["totals"]["sent"], 2, "{}", status("waits-r2"));
        assert_eq!(status("waits")["totals"]["cancelled"], 3, "{}", status("waits"));
        drop(running);
    }
}
