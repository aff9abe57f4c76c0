//! `expect`: a run that has another number of recipients than its campaign says is held, and nothing of it is sent.

use serde_json::Value;

use crate::{
    either::Place,
    home::{people, people_manifests},
};

const EXPECT: &str = "  schedule: {cron: \"0 9 * * *\", timeZone: UTC}\n  expect: {recipients: {min: 2, max: 5}, changeFromLastRun: 50%}";

/// So many people; the first of them wants nothing and is no recipient.
fn but_one(n: usize) -> String {
    people(n).replacen(",t,", ",f,", 1)
}

fn day(place: &Place, day: u8, minute: u8) -> i32 {
    place.run(&["--now", &format!("2026-05-{day:02}T09:{minute:02}:00Z")]).code
}

fn plan(place: &Place, day: u8) -> Value {
    let now = format!("2026-05-{day:02}T09:00:00Z");
    let ran = place.call(&["plan", "town", "--now", &now, "-o", "json"]);
    let report: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"));
    report["campaigns"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_outside_is_held_until_it_is_inside_or_let_pass() {
    for place in Place::both().await {
        let home = &place.home;
        let manifests = people_manifests(EXPECT, "true");
        home.write("town/town.yaml", &manifests);
        home.write("town/data/people.csv", &but_one(4));
        place.run(&["--now", "2026-05-01T08:59:00Z"]);
        assert!(plan(&place, 1)["notes"].to_string().contains("as many get it as `expect` says"));
        // The first run has none before it.
        assert_eq!((day(&place, 1, 0), home.outbox().len()), (0, 3));

        // Five after three are too great a change, and seven are too many at all. The plan says it before the run does.
        for (n, why) in [
            (6, "5 recipients, after 3 in the last run, are a change of more than 50%"),
            (8, "7 recipients are more than max 5"),
        ] {
            home.write("town/data/people.csv", &but_one(n));
            // What was read is what is planned on; the run is made once.
            assert_eq!((day(&place, 2, 0), home.outbox().len()), (1, 3));
            let (status, reason, message) = place.condition("campaignrun", "greet-20260502090000", "Ready");
            let wanted = format!(
                "it is not what `expect` says: {why}; to let it pass, set annotation campanile.dev/accept-size: \"{}\" on campaign `greet`",
                n - 1
            );
            assert_eq!((&*status, &*reason, &*message), ("False", "Held", &*wanted));
            assert_eq!(plan(&place, 2)["held"], serde_json::json!([wanted]));
            // The campaign is well, and says what is the matter.
            let (status, _, message) = place.condition("campaign", "greet", "Ready");
            assert!(status == "True" && message.contains("is held: it is not what `expect` says"), "{message}");
        }
        // Who must not know figures of this size is not told them.
        let ran = place.call(&["plan", "town", "--now", "2026-05-02T09:00:00Z", "--untrusted", "-o", "json"]);
        assert!(ran.out.contains("it is not what `expect` says") && !ran.out.contains("7 recipients"), "{}", ran.out);

        // A person lets this number pass, and the same run goes on.
        let named = "kind: Campaign\nmetadata: {name: greet";
        let accepted = manifests.replace(named, &format!("{named}, annotations: {{campanile.dev/accept-size: \"7\"}}"));
        home.write("town/town.yaml", &accepted);
        assert_eq!((day(&place, 2, 10), home.outbox().len()), (0, 10));

        // Nobody is too few. An edit of `expect` holds at once, also for the run that is held.
        let nobody = people_manifests(EXPECT, "person.id > 100");
        home.write("town/town.yaml", &nobody);
        assert_eq!((day(&place, 3, 0), home.outbox().len()), (1, 10));
        let (_, _, message) = place.condition("campaignrun", "greet-20260503090000", "Ready");
        assert!(message.contains("0 recipients are fewer than min 2"), "{message}");
        home.write(
            "town/town.yaml",
            &nobody.replace("{recipients: {min: 2, max: 5}, changeFromLastRun: 50%}", "{recipients: {max: 5}}"),
        );
        assert_eq!((day(&place, 3, 10), home.outbox().len()), (0, 10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_behind_a_wait_is_weighed_with_what_went_before() {
    for place in Place::both().await {
        let home = &place.home;
        let mail = "  - name: mail\n    email: {channel: out, template: hello}\n";
        let later = format!(
            "{mail}  - {{name: pause, from: all, wait: {{for: 1d}}}}\n  - {{name: again, email: {{channel: out, template: hello}}}}\n"
        );
        let manifests = people_manifests(EXPECT, "true").replace(mail, &later);
        home.write("town/town.yaml", &manifests);
        home.write("town/data/people.csv", &people(3));
        place.run(&["--now", "2026-05-01T08:59:00Z"]);
        // Three so far are neither too many nor, as more are to come, too few; six in all are too many.
        day(&place, 1, 0);
        assert_eq!(home.outbox().len(), 3);
        let run = "greet-20260501090000";
        day(&place, 2, 0);
        assert_eq!(home.outbox().len(), 3, "{:?}", place.condition("campaignrun", run, "Ready"));
        let (_, reason, message) = place.condition("campaignrun", run, "Ready");
        assert!(reason == "Held" && message.contains("6 recipients are more than max 5"), "{reason}: {message}");
        home.write("town/town.yaml", &manifests.replace("max: 5", "max: 6"));
        day(&place, 2, 10);
        assert!(home.outbox().len() >= 6, "{:?}", place.condition("campaignrun", run, "Ready"));
    }
}
