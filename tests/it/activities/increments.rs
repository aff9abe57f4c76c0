//! `incremental`: a row comes once, or again when it has changed; what a run did not reach comes again.

use campanile::{
    run::advance::advance,
    store::{
        Store,
        campaign::{NewRun, Origin, State},
        entity::work_table,
    },
};
use jiff::Timestamp;

use super::{Shop, step};
use crate::home::people_manifests;

/// People by number, each with the day of May on which they changed.
fn people(days: &[u32]) -> String {
    let mut text = "id,email,name,news,news_at,updated_at\n".to_owned();
    for (id, day) in (1..).zip(days) {
        text.push_str(&format!("{id},p{id}@example.com,P{id},t,2026-01-01T00:00:00Z,2026-05-{day:02}T00:00:00Z\n"));
    }
    text
}

/// Runs are made by hand, and `once` holds nobody back.
fn manifests(incremental: &str) -> String {
    let step = format!("  - name: new\n    incremental: {incremental}\n  - name: mail\n");
    people_manifests("", "true")
        .replace("  - name: mail\n", &step)
        .replace("template: hello}", "template: hello, once: {ever: false}}")
}

impl Shop {
    /// Asks for a run, lets it run, and says whom the step gave.
    async fn trigger(&self, run: &str, now: &str) -> Vec<i64> {
        assert_eq!(self.call(&["trigger", "greet", "--name", run]).code, 0);
        self.run_at("town", now);
        self.keys(run, "new", "id").await
    }
}

async fn a_row_comes_once(shop: Shop) {
    shop.home.write("town/town.yaml", &manifests("{by: Key, window: 30d, rest: known}").replace("- name: mail", "- {name: counted, from: new.known, unused: true, deduplicate: {by: [name], keep: {first: id}}}\n  - name: mail\n    from: new"));
    shop.home.write("town/data/people.csv", &people(&[1, 1, 1]));
    shop.run_at("town", "2026-05-02T00:00:00Z");
    // A run that sends nothing reserves nothing. Asked for together, either of the two could have been planned first.
    assert_eq!(shop.call(&["trigger", "greet", "--dry-run", "--name", "dry"]).code, 0);
    shop.run_at("town", "2026-05-02T00:00:00Z");
    assert_eq!(shop.trigger("first", "2026-05-02T00:00:00Z").await, [1, 2, 3]);
    assert_eq!(shop.keys("dry", "new", "id").await, [1, 2, 3]);
    shop.home.write("town/data/more.csv", &people(&[2, 1, 1, 1, 1]));
    assert_eq!(shop.trigger("second", "2026-05-03T00:00:00Z").await, [4, 5]);
    assert_eq!(shop.keys("second", "new.known", "id").await, [1, 2, 3]);
    // The state is kept under names: a campaign that was away finds it again.
    let town = shop.home.read("town/town.yaml");
    shop.home.write("town/town.yaml", &town.replace("name: greet", "name: other"));
    shop.run_at("town", "2026-05-04T00:00:00Z");
    assert_eq!(shop.get("campaign", "greet"), serde_json::Value::Null);
    shop.home.write("town/town.yaml", &town);
    shop.run_at("town", "2026-05-04T00:00:00Z");
    assert!(shop.trigger("third", "2026-05-04T00:00:00Z").await.is_empty());
    // Thirty days after the first run its people may come again.
    assert_eq!(shop.trigger("later", "2026-06-01T12:00:00Z").await, [1, 2, 3]);
    assert_eq!(shop.sent().len(), 8);
}

async fn a_row_comes_again_when_it_has_changed(shop: Shop) {
    shop.home.write("town/town.yaml", &manifests("{by: Field, field: updated_at, window: 10d}"));
    shop.home.write("town/data/people.csv", &people(&[1, 2, 3]));
    shop.run_at("town", "2026-05-04T00:00:00Z");
    assert_eq!(shop.trigger("first", "2026-05-04T00:00:00Z").await, [1, 2, 3]);
    shop.home.write("town/data/people2.csv", &people(&[1, 5, 3, 4]));
    assert_eq!(shop.trigger("second", "2026-05-06T00:00:00Z").await, [2, 4]);
    assert_eq!(step(&shop.run_status("second"), "new")["left"], 2);
    // What changed before the window is not taken, though nobody took it yet.
    shop.home.write("town/data/people3.csv", &people(&[1, 5, 9, 4, 6, 20]));
    assert_eq!(shop.trigger("third", "2026-05-20T00:00:00Z").await, [6]);
    let old = shop.texts("SELECT CAST(count(*) AS TEXT) FROM incremental WHERE item = '2'").await;
    assert_eq!(old, ["1"], "what was before is forgotten when a run has ended well");
}

async fn what_a_run_did_not_reach_comes_again(shop: Shop) {
    shop.home.write("town/town.yaml", &manifests("{by: Key}"));
    shop.home.write("town/data/people.csv", &people(&[1, 1, 1]));
    shop.run_at("town", "2026-05-02T00:00:00Z");
    assert_eq!(shop.call(&["stop", "--channel", "out", "--reason", "test"]).code, 0);
    assert_eq!(shop.trigger("first", "2026-05-02T00:00:00Z").await, [1, 2, 3]);
    assert_eq!(shop.reason("first"), "Sending");
    // A run that overlaps does not see what is reserved.
    shop.home.write("town/data/more.csv", &people(&[1, 1, 1, 1]));
    assert_eq!(shop.trigger("overlapping", "2026-05-02T01:00:00Z").await, [4]);
    // What goes on in a successor is the successor's.
    assert_eq!(shop.call(&["rerun", "first", "--remaining", "--name", "again"]).code, 0);
    shop.run_at("town", "2026-05-02T02:00:00Z");
    assert_eq!(shop.reason("first"), "Superseded");
    assert!(shop.trigger("none", "2026-05-02T03:00:00Z").await.is_empty());
    // Cancelled, nobody was reached: they are free for the next one.
    for run in ["again", "overlapping"] {
        assert_eq!(shop.call(&["cancel", run]).code, 0);
    }
    shop.run_at("town", "2026-05-02T04:00:00Z");
    assert_eq!(shop.reason("again"), "Cancelled");
    assert_eq!(shop.call(&["start", "--channel", "out"]).code, 0);
    assert_eq!(shop.trigger("last", "2026-05-02T05:00:00Z").await, [1, 2, 3, 4]);
    assert_eq!(shop.reason("last"), "Completed");
    assert_eq!(shop.sent().len(), 4);
    assert!(shop.trigger("after", "2026-05-02T06:00:00Z").await.is_empty());
}

/// Two processes evaluate the step of two runs at the same time.
async fn runs_at_one_time_take_each_row_once(shop: Shop) {
    shop.home.write("town/town.yaml", &manifests("{by: Key}"));
    shop.home.write("town/data/people.csv", &people(&[1; 300]));
    shop.run_at("town", "2026-05-02T00:00:00Z");
    assert_eq!(shop.call(&["trigger", "greet", "--dry-run", "--name", "dry"]).code, 0);
    shop.run_at("town", "2026-05-02T00:00:00Z");
    let hash = shop.texts("SELECT revision FROM run").await.remove(0);
    let text = shop.texts("SELECT content FROM revision").await.remove(0);
    let file = || format!("sqlite://{}", shop.home.path().join(".campanile/store.db").display());
    let store = Store::open(&shop.url.clone().unwrap_or_else(file)).await.unwrap();
    let now: Timestamp = "2026-05-02T01:00:00Z".parse().unwrap();
    let names: Vec<String> = (0..6).map(|n| format!("run-{n}")).collect();
    for name in &names {
        let new = NewRun {
            namespace: "default",
            name,
            campaign: "greet",
            dataset: "town",
            mode: "Live",
            origin: Origin::Hand,
            scheduled: now,
            predecessor: None,
            revision: (&hash, &text),
        };
        store.create_run(&new, now).await.unwrap();
    }
    let planned = names.iter().map(|name| {
        let store = store.clone();
        async move {
            loop {
                let run = store.run("default", name).await.unwrap().unwrap();
                if run.state != State::Pending {
                    return run.no;
                }
                // Who comes second is told to begin again.
                let _ = advance(&store, &run, now).await;
            }
        }
    });
    let mut taken = vec![];
    for no in futures::future::join_all(planned).await {
        taken.extend(shop.texts(&format!("SELECT CAST(id AS TEXT) FROM {}", work_table(no, "new"))).await);
    }
    taken.sort_by_key(|id| id.parse::<i64>().unwrap());
    assert_eq!(taken, (1..=300).map(|id| id.to_string()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_at_one_time_take_each_row_once_on_sqlite() {
    runs_at_one_time_take_each_row_once(Shop::on_sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_at_one_time_take_each_row_once_on_postgresql() {
    runs_at_one_time_take_each_row_once(Shop::on_postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_comes_once_on_sqlite() {
    a_row_comes_once(Shop::on_sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_comes_once_on_postgresql() {
    a_row_comes_once(Shop::on_postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_comes_again_when_it_has_changed_on_sqlite() {
    a_row_comes_again_when_it_has_changed(Shop::on_sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_comes_again_when_it_has_changed_on_postgresql() {
    a_row_comes_again_when_it_has_changed(Shop::on_postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_did_not_reach_comes_again_on_sqlite() {
    what_a_run_did_not_reach_comes_again(Shop::on_sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_did_not_reach_comes_again_on_postgresql() {
    what_a_run_did_not_reach_comes_again(Shop::on_postgres().await).await;
}
