//! Who asked for a topic that is to be confirmed is asked once, in her own mailbox, and gets nothing of it before her yes; on
//! both stores.

use serde_json::Value;

use crate::{
    consent_elsewhere::{http, listening},
    consent_over_time::link,
    either::Place,
    home::{PATIENCE, assert_conserved, people_manifests},
    world::until_true,
};

const HEAD: &str = "id,email,name,news,news_at,updated_at\n";
const ASK: &str = "---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {name: ask}
spec: {email: {subject: \"Was it you, {{ person.name }}?\", text: \"Say yes: {{ confirm_url }} Thank you\"}}
---
apiVersion: campanile.dev/v1alpha1
kind: Campaign
metadata: {name: ask}
spec:
  dataset: town
  topic: service
  steps:
  - name: asked
    unconfirmed: {topic: news, within: 7d}
  - name: mail
    email: {channel: out, template: ask}
";

fn write_town(place: &Place) {
    let manifest = people_manifests("", "true")
        .replace("spec: {outbox: {}}", "spec: {outbox: {}, publicUrl: \"https://mail.example.com\"}")
        .replace("template: hello}", "template: hello, once: {ever: false}}")
        .replace("    category: Marketing\n", "    category: Marketing\n    requires: Confirmed\n");
    place.home.write("town/town.yaml", &format!("{manifest}{ASK}"));
}

fn row(id: i64, news: &str, at: &str) -> String {
    format!("{id},p{id}@example.com,P{id},{news},{at},{at}\n")
}

fn totals(place: &Place, campaign: &str, run: &str, now: &str) -> Value {
    assert_eq!(place.call(&["trigger", campaign, "--name", run]).code, 0);
    let ran = place.run(&["--now", now]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let run = place.get("run", run);
    assert_conserved(&run);
    run["status"]["totals"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asked_is_asked_once_and_gets_the_topic_after_her_yes() {
    for place in Place::both().await {
        write_town(&place);
        let old = row(3, "t", "2026-02-01T00:00:00Z");
        let rows = format!("{}{}{old}", row(1, "t", "2026-03-01T00:00:00Z"), row(2, "t", "2026-03-01T00:00:00Z"));
        place.home.write("town/data/1.csv", &format!("{HEAD}{rows}"));
        place.read();
        let plan = place.call(&["plan", "town", "--now", "2026-03-02T09:00:00Z", "-o", "json"]);
        let plan: Value = serde_json::from_str(&plan.out).unwrap();
        let asks = plan["campaigns"].as_array().unwrap().iter().find(|campaign| campaign["name"] == "ask").cloned();
        assert_eq!(
            asks.unwrap()["steps"][0]["outputs"][0]["rows"]["now"]["exact"],
            2,
            "who asked long ago is not: {plan}"
        );

        let asked = totals(&place, "ask", "first", "2026-03-02T09:00:00Z");
        assert_eq!((&asked["entered"], &asked["sent"]), (&2.into(), &2.into()), "{asked}");
        let again = totals(&place, "ask", "second", "2026-03-02T09:05:00Z");
        assert_eq!(again["entered"], 0, "nobody is asked twice: {again}");
        assert_eq!(totals(&place, "greet", "before", "2026-03-02T09:10:00Z")["sent"], 0);

        let path = link(&place, "p1@example.com", 'c');
        let (running, port) = listening(&place, "log", &["--now", "2026-03-02T10:00:00Z"]).await;
        let (code, page) = http(port, "GET", &path, &[], "");
        assert!(code == 200 && page.contains("<form"), "{page}");
        assert_eq!(http(port, "POST", &path, &[], "").0, 200);
        drop(running);
        assert_eq!(totals(&place, "greet", "after", "2026-03-02T11:00:00Z")["sent"], 1);

        // Who withdrew and asks anew is asked anew.
        place.home.write("town/data/2.csv", &format!("{HEAD}{}", row(2, "f", "2026-03-02T12:00:00Z")));
        place.run(&["--now", "2026-03-02T12:30:00Z"]);
        place.home.write("town/data/3.csv", &format!("{HEAD}{}", row(2, "t", "2026-03-03T00:00:00Z")));
        let anew = totals(&place, "ask", "third", "2026-03-03T09:00:00Z");
        assert_eq!((&anew["entered"], &anew["sent"]), (&1.into(), &1.into()), "{anew}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_decides_while_the_question_waits_is_not_asked_and_a_cancelled_run_gives_it_back() {
    for place in Place::both().await {
        write_town(&place);
        let now = "2026-03-02T09:00:00Z";
        let rows = format!("{}{}", row(1, "t", "2026-03-01T00:00:00Z"), row(2, "t", "2026-03-01T00:00:00Z"));
        place.home.write("town/data/1.csv", &format!("{HEAD}{rows}"));
        place.read();
        let running = place.spawn_with("log", &["--now", now]);
        let status = |run: &str| place.get("run", run)["status"].clone();
        assert_eq!(place.call(&["stop", "--channel", "out", "--reason", "a look at it"]).code, 0);
        assert_eq!(place.call(&["trigger", "ask", "--name", "cancelled"]).code, 0);
        until_true("what waits", PATIENCE, || status("cancelled")["totals"]["waiting"] == 2).await.unwrap();
        assert_eq!(place.call(&["cancel", "cancelled"]).code, 0);
        until_true("the end", PATIENCE, || status("cancelled")["completedAt"].is_string()).await.unwrap();
        assert_eq!(place.call(&["trigger", "ask", "--name", "again"]).code, 0);
        until_true("what waits again", PATIENCE, || status("again")["totals"]["waiting"] == 2).await.unwrap();
        place.home.deliver("town/data/2.csv", format!("{HEAD}{}", row(2, "f", "2026-03-02T08:00:00Z")).as_bytes());
        let withdrawn = "SELECT profile FROM consent WHERE state = 'Withdrawn'";
        let begun = std::time::Instant::now();
        while place.ask(withdrawn).await.is_empty() && begun.elapsed() < PATIENCE {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_eq!(place.call(&["start", "--channel", "out"]).code, 0);
        until_true("the rest", PATIENCE, || status("again")["completedAt"].is_string()).await.unwrap();
        let ended = status("again");
        assert_eq!((&ended["totals"]["sent"], &ended["totals"]["excluded"]), (&1.into(), &1.into()), "{ended}");
        assert_eq!(ended["channels"][0]["reasons"]["NoConsent"], 1, "{ended}");
        drop(running);
    }
}

#[test]
fn a_link_to_confirm_is_for_those_who_are_asked() {
    let home = crate::home::Home::new();
    let manifest = people_manifests("", "true").replace("text: \"Dear", "text: \"{{ confirm_url }} Dear");
    home.write("town/town.yaml", &manifest);
    let ran = home.call(&["validate", "town"]);
    let said = format!("{}{}", ran.out, ran.err);
    assert!(ran.code == 2 && said.contains("these people have nothing to confirm"), "{said}");
}
