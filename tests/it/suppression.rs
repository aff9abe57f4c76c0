//! Who is suppressed gets nothing, on both stores: neither marketing nor service mail, and plan says so before.

use campanile::store::{
    Store,
    suppression::{Cause, Suppressed},
};
use jiff::{SignedDuration, Timestamp};

use crate::{
    either::Place,
    home::{assert_conserved, people, people_manifests},
};

const POLICY: &str = "---
apiVersion: campanile.dev/v1alpha1
kind: ContactPolicy
metadata: {name: careful}
spec: {suppression: {scope: Store, softBounces: {count: 2, within: 14d}}}
";

fn store_url(place: &Place) -> String {
    let file = || format!("sqlite://{}", place.home.path().join(".campanile/store.db").display());
    place.url.clone().unwrap_or_else(file)
}

async fn suppress(place: &Place, address: &str, namespace: &str, until: Option<Timestamp>) {
    let store = Store::open(&store_url(place)).await.unwrap();
    let hash = store.address_key().await.unwrap().of_address(address);
    let (namespace, medium) = (namespace.to_owned(), "email".to_owned());
    let since = Timestamp::UNIX_EPOCH;
    store.suppress(&[Suppressed { namespace, medium, hash, cause: Cause::HardBounce, since, until }]).await.unwrap();
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_suppressed_gets_nothing() {
    for place in Place::both().await {
        let home = &place.home;
        let policies = "  policies: [careful]\n";
        let manifests = people_manifests(policies, "true").replace("topic: news", "topic: service");
        home.write("town/town.yaml", &(manifests + POLICY));
        home.write("town/data/people.csv", &people(5));
        place.read();
        let tomorrow = campanile::clock::Clock::system().now() + SignedDuration::from_hours(24);
        suppress(&place, " P1@Example.COM ", "default", None).await;
        suppress(&place, "p2@example.com", "*", Some(tomorrow)).await;
        suppress(&place, "p3@example.com", "elsewhere", None).await;
        suppress(&place, "p4@example.com", "default", Some(Timestamp::UNIX_EPOCH)).await;
        let store = store_url(&place);
        let plan = home.call(&["plan", "town", "--store", &store, "-o", "json"]);
        let plan: serde_json::Value = serde_json::from_str(&plan.out).unwrap();
        let excluded = &plan["campaigns"][0]["steps"][1]["messages"]["excluded"][0];
        assert_eq!(
            (&excluded["reason"], &excluded["rows"]["now"]["exact"]),
            (&"Suppressed".into(), &2.into()),
            "{plan}"
        );
        let why = home.call(&["why", "greet", "1", "town", "--store", &store]);
        assert!(why.out.contains("Suppressed") && why.out.contains("HardBounce"), "{why:?}");
        assert_eq!(home.call(&["trigger", "greet", "--store", &store, "--name", "first"]).code, 0);
        place.read();
        let run = home.call(&["get", "run", "first", "--store", &store, "-o", "json"]);
        let run: serde_json::Value = serde_json::from_str(&run.out).unwrap();
        assert_conserved(&run);
        assert_eq!(run["status"]["totals"]["sent"], 3, "{run}");
        assert_eq!(run["status"]["channels"][0]["reasons"]["Suppressed"], 2, "{run}");
        let kept = place.ask("SELECT hash FROM suppression UNION ALL SELECT reason FROM suppression").await;
        assert!(kept.iter().all(|text| !text.contains('@')), "{kept:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_has_the_last_word() {
    for place in Place::both().await {
        place.home.write("town/town.yaml", &people_manifests("", "true"));
        place.home.write("town/data/people.csv", &people(1));
        place.read();
        let store = store_url(&place);
        let call = |args: &[&str]| {
            let ran = place.home.call(&[&["suppression"], args, &["--store", &store]].concat());
            (ran.code, ran.out.trim().to_owned())
        };
        assert_eq!(call(&["show", "p1@example.com"]), (1, "not suppressed".to_owned()));
        assert_eq!(call(&["lift", "p1@example.com"]).0, 1);
        assert_eq!(call(&["add", "P1@example.com", "--whole-store"]).0, 0);
        assert_eq!(call(&["add", "p1@example.com", "--until", "2099-01-01T00:00:00Z"]).0, 0);
        let (code, shown) = call(&["show", "p1@example.com"]);
        assert!(code == 0 && shown.contains("ByHand"), "{shown}");
        assert_eq!(call(&["show", "p1@example.com", "-n", "elsewhere"]).0, 0);
        assert_eq!(call(&["show", "p1@example.com", "--medium", "sms"]).0, 1);
        let (code, lifted) = call(&["lift", "p1@example.com"]);
        assert!(code == 0 && lifted.contains("still holds in the whole store"), "{lifted}");
        assert_eq!(call(&["lift", "p1@example.com", "--whole-store"]), (0, "lifted".to_owned()));
        assert_eq!(call(&["show", "p1@example.com"]).0, 1);
    }
}

#[test]
fn a_policy_that_is_not_there_is_an_error_that_points_at_it() {
    let home = crate::home::Home::new();
    let manifests = people_manifests("  policies: [carefull]\n", "true") + POLICY;
    home.write("town/town.yaml", &manifests);
    let ran = home.call(&["validate", "town"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(
        ran.err.contains("there is no ContactPolicy `carefull`")
            || ran.out.contains("there is no ContactPolicy `carefull`"),
        "{ran:?}"
    );
    home.write("town/town.yaml", &manifests.replace("carefull", "careful").replace("count: 2", "count: 0"));
    let ran = home.call(&["validate", "town"]);
    assert_ne!(ran.code, 0, "{ran:?}");
}
