//! Names are identity: nothing goes out twice after a second run, a deletion and restore, or a copy of the store.

use std::fs;

use crate::home::{Home, copy, people, people_manifests};

fn home() -> Home {
    let home = Home::new();
    home.write("town/town.yaml", &people_manifests("  schedule: {immediate: {}}", "true"));
    home.write("town/data/people.csv", &people(20));
    home
}

#[test]
fn a_second_run_sends_nothing() {
    let home = home();
    assert_eq!(home.run(&["town"]).code, 0);
    assert_eq!(home.outbox().len(), 20);
    fs::remove_dir_all(home.path().join(".campanile/outbox")).unwrap();
    let again = home.run(&["town"]);
    assert_eq!((again.code, home.outbox().len()), (0, 0), "{again:?}");
    assert_eq!(home.get("campaign", "greet")["status"]["totals"]["sent"], 20);
}

#[test]
fn deleting_and_restoring_sends_nothing() {
    let home = home();
    assert_eq!(home.run(&["town"]).code, 0);
    fs::rename(home.path().join("town/town.yaml"), home.path().join("kept")).unwrap();
    assert_eq!(home.run(&["town"]).code, 0);
    assert!(home.call(&["get", "campaigns"]).err.contains("No resources found"));
    fs::remove_dir_all(home.path().join(".campanile/outbox")).unwrap();
    fs::rename(home.path().join("kept"), home.path().join("town/town.yaml")).unwrap();
    let restored = home.run(&["town"]);
    assert_eq!((restored.code, home.outbox().len()), (0, 0), "{restored:?}");
    assert_eq!(home.get("campaign", "greet")["status"]["lastRun"], "greet-immediate");
}

#[test]
fn a_copy_of_the_store_in_another_home_sends_nothing() {
    let home = home();
    home.write("town/town.yaml", &people_manifests("", "true"));
    assert_eq!(home.run(&["town"]).code, 0);
    let other = Home::new();
    copy(home.path(), other.path());
    // What would send in the original: a request that waits in the store.
    assert_eq!(home.call(&["trigger", "greet", "--name", "by-hand"]).code, 0);
    fs::copy(home.path().join(".campanile/store.db"), other.path().join(".campanile/store.db")).unwrap();
    let copied = other.run(&["town"]);
    assert_eq!((copied.code, other.outbox().len()), (1, 0), "{copied:?}");
    assert!(copied.err.contains("StoreNotMine") && copied.err.contains("store adopt"), "{}", copied.err);
    assert_eq!(other.call(&["trigger", "greet"]).code, 2);

    assert_eq!(home.run(&["town"]).code, 0);
    assert_eq!(home.outbox().len(), 20);
    assert_eq!(other.call(&["store", "adopt", "--waiting", "keep"]).code, 0);
    assert_eq!(other.run(&["town"]).code, 0);
}

#[test]
fn once_holds_over_runs_made_by_hand_and_follows_outcomes() {
    let home = home();
    home.write("town/town.yaml", &people_manifests("", "true"));
    home.write("town/data/people.csv", &people(20).replace("1,p1@example.com", "1,"));
    assert_eq!(home.run(&["town"]).code, 0);
    assert_eq!(home.call(&["trigger", "greet", "--name", "first"]).code, 0);
    assert_eq!(home.run(&["town"]).code, 0);
    let first = home.get("campaignrun", "first");
    assert_eq!(
        (&first["status"]["totals"]["sent"], &first["status"]["channels"][0]["reasons"]["NoAddress"]),
        (&19.into(), &1.into())
    );
    // Who got nothing may get it later; who got it never again.
    home.write("town/data/people.csv", &people(20).replace("2026-01-01T00:00:00Z\n", "2026-01-02T00:00:00Z\n"));
    assert_eq!(home.call(&["trigger", "greet", "--name", "second"]).code, 0);
    assert_eq!(home.run(&["town"]).code, 0);
    let second = home.get("campaignrun", "second");
    let reasons = &second["status"]["channels"][0]["reasons"];
    assert_eq!((&second["status"]["totals"]["sent"], &reasons["AlreadySent"]), (&1.into(), &19.into()), "{second}");
    // A name that already ran gets its old status back.
    assert_eq!(home.call(&["trigger", "greet", "--name", "second"]).code, 0);
    assert_eq!(home.run(&["town"]).code, 0);
    assert_eq!(home.outbox().len(), 20);
}

#[test]
fn a_dry_run_counts_and_sends_nothing() {
    let home = home();
    home.write("town/town.yaml", &people_manifests("", "person.id > 5"));
    assert_eq!(home.run(&["town"]).code, 0);
    assert_eq!(home.call(&["trigger", "greet", "--dry-run", "--name", "dry"]).code, 0);
    assert_eq!(home.run(&["town"]).code, 0);
    let dry = home.get("campaignrun", "dry");
    assert_eq!((&dry["status"]["steps"][0]["out"], &dry["status"]["totals"]["entered"]), (&15.into(), &0.into()));
    assert!(home.outbox().is_empty());
    assert_eq!(home.ready("campaignrun", "dry").1, "Completed");
}
