//! `formerly`: a campaign under a new name takes over what was sent, what waits and what is not to be sent again.

use serde_json::Value;

use crate::{
    either::Place,
    home::{people, people_manifests},
};

const ONCE: &str = "  schedule: {cron: \"0 9 * * *\", timeZone: UTC}";

fn renamed(manifests: &str) -> String {
    manifests
        .replace("metadata: {name: greet}", "metadata: {name: welcome}")
        .replace("  topic: news\n", "  topic: news\n  formerly: [greet]\n")
}

fn at(place: &Place, now: &str) -> i32 {
    place.run(&["--now", now]).code
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_it_again_and_history_comes_along() {
    for place in Place::both().await {
        let home = &place.home;
        let manifests = people_manifests(ONCE, "true")
            .replace("- name: mail", "- {name: new, incremental: {by: Key}}\n  - name: mail")
            .replace("template: hello}", "template: hello, once: {ever: true}}");
        home.write("town/town.yaml", &manifests);
        home.write("town/data/people.csv", &people(3));
        at(&place, "2026-05-01T08:59:00Z");
        assert_eq!((at(&place, "2026-05-01T09:00:00Z"), home.outbox().len()), (0, 3));

        // The plan tells what the rename does: of four people one is new.
        home.write("before/town.yaml", &manifests);
        home.write("town/town.yaml", &renamed(&manifests));
        home.write("town/data/people.csv", &people(4));
        let ran = home.call(&["plan", "town", "--data", "--base", "before", "-o", "text"]);
        assert!(ran.out.contains("it takes over from `greet`"), "{ran:?}");
        assert!(ran.out.contains("`welcome` takes over from it (`formerly`)"), "{}", ran.out);

        assert_eq!((at(&place, "2026-05-01T09:30:00Z"), home.outbox().len()), (0, 3), "the rename starts nothing");
        let ran = place.call(&["plan", "town", "--now", "2026-05-02T09:00:00Z", "-o", "json"]);
        let report: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"));
        assert_eq!(report["campaigns"][0]["lastRun"], "greet-20260501090000");
        assert_eq!(at(&place, "2026-05-02T09:00:00Z"), 0);
        assert_eq!(home.outbox().len(), 4, "{:?}", place.get("campaignrun", "welcome-20260502090000")["status"]);
        let campaign = place.get("campaign", "welcome");
        assert_eq!(campaign["status"]["totals"]["sent"], 4);
        assert_eq!(place.get("campaign", "greet"), Value::Null);

        // The name may go once it is taken over.
        home.write("town/town.yaml", &renamed(&manifests).replace("  formerly: [greet]\n", ""));
        assert_eq!((at(&place, "2026-05-03T09:00:00Z"), home.outbox().len()), (0, 4));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_goes_on_and_a_stop_holds() {
    for place in Place::both().await {
        let home = &place.home;
        let manifests = people_manifests("  schedule: {at: \"2026-05-01T09:00:00Z\"}", "true");
        home.write("town/town.yaml", &manifests);
        home.write("town/data/people.csv", &people(3));
        at(&place, "2026-05-01T08:59:00Z");
        // Nothing is sent under the old name: it is stopped before its run begins, and the run waits.
        place.call(&["stop", "greet", "--reason", "a wrong link"]);
        at(&place, "2026-05-01T08:59:30Z");
        home.write("town/town.yaml", &renamed(&manifests));
        at(&place, "2026-05-01T08:59:40Z");
        let (_, reason, message) = place.condition("campaign", "welcome", "Ready");
        assert_eq!((&*reason, &*message), ("Stopped", "stopped: a wrong link"));
        at(&place, "2026-05-01T09:00:00Z");
        assert_eq!(home.outbox().len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_still_there_is_no_former_one() {
    let [place, _] = Place::both().await;
    let manifests = people_manifests(ONCE, "true");
    let campaign = manifests.rsplit_once("---\n").unwrap().1;
    place.home.write("town/town.yaml", &format!("{manifests}---\n{}", renamed(campaign)));
    let ran = place.call(&["validate", "town"]);
    assert_eq!(ran.code, 2);
    let said = format!("{}{}", ran.out, ran.err);
    assert!(said.contains("campaign `greet` is still declared: two cannot have its history"), "{said}");
}
