//! A run that waits: each process goes on where the last one was, and a run that is stopped, cancelled or run anew
//! stays whole.

use serde_json::Value;

use super::{Shop, step};
use crate::home::people;

/// Everybody gets a first letter at once; two days later those whose number is even get a second one, and the others one
/// at the next nine o'clock in Rome. A join waits for both.
fn manifests() -> String {
    let town = crate::home::people_manifests("  schedule: {at: 2026-05-01T08:00:00Z}", "true");
    let (before, _) = town.split_once("  - name: mail\n").unwrap();
    format!(
        r#"{before}  - name: first
    from: all
    email: {{channel: out, template: hello}}
  - name: pause
    from: all
    wait: {{for: 2d}}
  - name: half
    split: {{branches: [{{name: low, where: person.id <= 2}}], rest: high}}
  - name: morning
    from: half.high
    wait: {{timeOfDay: {{at: "09:00", timeZone: Europe/Rome}}}}
  - name: both
    join: {{of: [half.low, morning]}}
  - name: size
    choose: {{branches: [{{name: many, when: counts.half_low > 100, unused: true}}, {{name: few, when: counts.morning > 0}}], rest: none}}
  - name: nobody
    from: size.none
    unused: true
    deduplicate: {{by: [name], keep: {{first: id}}}}
  - name: second
    from: size.few
    email: {{channel: out, template: again}}
  - name: third
    from: morning
    email: {{channel: out, template: again}}
---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {{name: again}}
spec: {{email: {{subject: "Again {{{{ person.name }}}}", text: "x"}}}}
"#
    )
}

const RUN: &str = "greet-20260501080000";

impl Shop {
    /// A town of four whose run begins.
    fn begin(&self) {
        self.home.write("town/town.yaml", &manifests());
        self.home.write("town/data/people.csv", &people(4));
        let ran = self.run_at("town", "2026-05-01T07:00:00Z");
        assert_eq!(ran.code, 0, "{ran:?}");
        let ran = self.run_at("town", "2026-05-01T08:00:01Z");
        assert_eq!(ran.code, 1, "the run is not done: {ran:?}");
        assert_eq!(self.sent(), letters("Hello", 1..=4));
        assert_eq!(self.reason(RUN), "Waiting");
    }
}

fn letters(word: &str, people: impl IntoIterator<Item = u32>) -> Vec<String> {
    people.into_iter().map(|id| format!("p{id}@example.com: {word} Person {id}")).collect()
}

fn all(parts: &[Vec<String>]) -> Vec<String> {
    let mut all = parts.concat();
    all.sort();
    all
}

fn states(status: &Value) -> Vec<String> {
    let steps = status["steps"].as_array().unwrap();
    steps
        .iter()
        .map(|s| format!("{} {} {}", s["name"].as_str().unwrap(), s["state"].as_str().unwrap(), s["out"]))
        .collect()
}

async fn a_run_goes_on_after_its_waits(shop: Shop) {
    shop.begin();
    let status = shop.run_status(RUN);
    let waits = ["all Done 4", "pause Waiting 4", "half.low Pending 0", "half.high Pending 0", "morning Pending 0"];
    assert_eq!(states(&status)[..5], waits);
    assert_eq!(step(&status, "pause")["until"], "2026-05-03T08:00:01Z");
    assert_eq!(status["totals"]["entered"], 4);
    // A process that begins too early finds nothing to do.
    shop.run_at("town", "2026-05-03T08:00:00Z");
    assert_eq!(shop.sent().len(), 4);
    // Two days later, without the one who was deleted meanwhile.
    let gone = match &shop.url {
        Some(_) => "DELETE FROM default_town.person WHERE id = 4 RETURNING CAST(id AS TEXT)",
        None => "DELETE FROM default_town_person WHERE id = 4 RETURNING CAST(id AS TEXT)",
    };
    assert_eq!(shop.texts(gone).await, ["4"]);
    shop.run_at("town", "2026-05-03T08:00:02Z");
    let status = shop.run_status(RUN);
    assert_eq!(step(&status, "pause")["left"], 1, "who is gone is counted");
    assert_eq!(
        states(&status)[1..6],
        ["pause Done 3", "half.low Done 2", "half.high Done 1", "morning Waiting 1", "both Pending 0"]
    );
    assert_eq!(step(&status, "morning")["until"], "2026-05-04T07:00:00Z");
    assert_eq!(shop.sent().len(), 4);
    // And the next morning the rest.
    let ran = shop.run_at("town", "2026-05-04T07:00:00Z");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(shop.sent(), all(&[letters("Hello", 1..=4), letters("Again", 1..=3)]));
    let status = shop.run_status(RUN);
    assert_eq!(shop.reason(RUN), "Completed");
    assert!(states(&status).iter().all(|state| state.contains("Done")), "{status}");
    assert_eq!((&status["totals"]["entered"], &status["totals"]["sent"]), (&7.into(), &7.into()));
    // A rebuilt process starts nothing again.
    shop.run_at("town", "2026-05-09T07:00:00Z");
    assert_eq!(shop.sent().len(), 7);
}

async fn a_run_that_waits_is_suspended_and_cancelled(shop: Shop) {
    shop.begin();
    let town = shop.home.read("town/town.yaml");
    shop.home.write("town/town.yaml", &town.replace("  topic: news\n", "  topic: news\n  suspend: true\n"));
    shop.run_at("town", "2026-05-04T07:00:00Z");
    assert_eq!(states(&shop.run_status(RUN))[1], "pause Waiting 4", "nothing goes on while suspended");
    assert_eq!(shop.reason(RUN), "Held");
    shop.home.write("town/town.yaml", &town);
    shop.run_at("town", "2026-05-04T07:30:00Z");
    assert_eq!(states(&shop.run_status(RUN))[1], "pause Done 4");
    assert_eq!(shop.call(&["cancel", RUN]).code, 0);
    shop.run_at("town", "2026-05-04T07:30:01Z");
    assert_eq!(shop.reason(RUN), "Cancelled");
    let status = shop.run_status(RUN);
    assert_eq!(step(&status, "morning")["state"], "Cancelled");
    shop.run_at("town", "2026-05-09T07:00:00Z");
    assert_eq!(shop.sent(), letters("Hello", 1..=4));
}

async fn the_rest_of_a_run_that_waits_goes_on_as_declared_now(shop: Shop) {
    shop.begin();
    let town = shop.home.read("town/town.yaml").replace("Again ", "Better ").replace("Hello ", "Never ");
    shop.home.write("town/town.yaml", &town);
    shop.run_at("town", "2026-05-02T08:00:00Z");
    assert_eq!(shop.call(&["rerun", RUN, "--remaining", "--name", "rest"]).code, 0);
    shop.run_at("town", "2026-05-02T09:00:00Z");
    assert_eq!((shop.reason(RUN).as_str(), shop.reason("rest").as_str()), ("Superseded", "Waiting"));
    assert_eq!(step(&shop.run_status("rest"), "pause")["until"], "2026-05-03T08:00:01Z", "it does not wait anew");
    shop.run_at("town", "2026-05-03T08:00:02Z");
    shop.run_at("town", "2026-05-04T07:00:00Z");
    assert_eq!(shop.reason("rest"), "Completed");
    assert_eq!(shop.sent(), all(&[letters("Hello", 1..=4), letters("Better", 1..=4)]));
    assert_eq!(shop.run_status("rest")["totals"]["sent"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_after_its_waits_on_sqlite() {
    a_run_goes_on_after_its_waits(Shop::on_sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_after_its_waits_on_postgresql() {
    a_run_goes_on_after_its_waits(Shop::on_postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_is_suspended_and_cancelled_on_sqlite() {
    a_run_that_waits_is_suspended_and_cancelled(Shop::on_sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_is_suspended_and_cancelled_on_postgresql() {
    a_run_that_waits_is_suspended_and_cancelled(Shop::on_postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_a_run_that_waits_goes_on_as_declared_now_on_sqlite() {
    the_rest_of_a_run_that_waits_goes_on_as_declared_now(Shop::on_sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_a_run_that_waits_goes_on_as_declared_now_on_postgresql() {
    the_rest_of_a_run_that_waits_goes_on_as_declared_now(Shop::on_postgres().await).await;
}
