//! `campanile run` without `--until-idle`: an edit is reconciled, a broken one is reported and changes nothing.

use std::sync::Arc;

use campanile::{
    clock::Clock,
    reconcile::World,
    send::gate::Gate,
    source::{Key, Kind, directory},
    store::Store,
};

use crate::{
    home::{Home, PATIENCE, people, people_manifests},
    world::until_true,
};

const CRON: &str = "  schedule: {cron: \"0 9 * * *\", timeZone: Europe/Rome}";

#[tokio::test]
async fn edits_are_taken_and_broken_ones_leave_the_last_good_state() {
    let home = Home::new();
    let good = people_manifests(CRON, "person.id > 1");
    home.write("town/town.yaml", &good);
    home.write("town/data/people.csv", &people(3));
    let _running = home.spawn(&["run", "town"], "log");
    let is_ready = || home.ready("campaign", "greet").0 == "True";
    until_true("the campaign is ready", PATIENCE, is_ready).await.unwrap();
    let revision = || home.get("campaign", "greet")["status"]["revision"].clone();
    let first = revision();

    home.write("town/town.yaml", &good.replace("person.id > 1", "person.id > 2"));
    until_true("the edit is reconciled", PATIENCE, || revision() != first).await.unwrap();
    let second = revision();
    let generation = home.get("campaign", "greet")["metadata"]["generation"].clone();
    assert_eq!(generation, 2);

    // A rule with an unknown field, and YAML that is none.
    home.write("town/town.yaml", &good.replace("person.id > 1", "person.idd > 2"));
    until_true("the error is reported", PATIENCE, || home.read("log").contains("no field or link `idd`"))
        .await
        .unwrap();
    let log = home.read("log");
    assert!(log.contains("town.yaml:43:47") && log.contains("did you mean `id`?"), "{log}");
    home.write("town/town.yaml", &format!("{good}\n  - [broken"));
    until_true("the error is reported", PATIENCE, || home.read("log").contains("this is not YAML")).await.unwrap();
    assert_eq!((revision(), is_ready()), (second, true));

    home.write("town/town.yaml", &good);
    until_true("the old rule is back", PATIENCE, || revision() == first).await.unwrap();
    assert!(is_ready());
}

#[tokio::test]
async fn rows_that_arrive_are_read_and_a_deleted_manifest_is_a_deletion() {
    let home = Home::new();
    home.write("town/town.yaml", &people_manifests(CRON, "true"));
    home.write("town/data/people.csv", &people(3));
    let _running = home.spawn(&["run", "town"], "log");
    let rows = || home.get("dataset", "town")["status"]["rows"].as_i64();
    until_true("the first file is in", PATIENCE, || rows() == Some(3)).await.unwrap();
    home.write("town/data/people-2.csv", &people(5));
    until_true("the second file is in", PATIENCE, || rows() == Some(5)).await.unwrap();
    std::fs::remove_file(home.path().join("town/town.yaml")).unwrap();
    until_true("the campaign is gone", PATIENCE, || home.get("campaign", "greet").is_null()).await.unwrap();
}

/// What is written while a process starts, behind its first look and before it watches, raises no notification.
#[tokio::test]
async fn an_edit_between_the_first_look_and_the_watch_is_seen() {
    let home = Home::new();
    let good = people_manifests(CRON, "person.id > 1");
    home.write("town/town.yaml", &good);
    let root = home.path().join("town").canonicalize().unwrap();
    let store = Store::open(&format!("sqlite://{}", home.path().join("store.db").display())).await.unwrap();
    let marks = directory::Marks::new(home.path());
    let folder = Arc::new(directory::Folder::new(store.clone(), Clock::system(), vec![root], marks));
    let world = World::in_folder(&folder, &store, Clock::system(), Gate::Outbox, vec![]);
    let (problems, _) = folder.load(true).await.unwrap();
    assert!(problems.is_empty());
    let key = Key::new(Kind::Campaign, "default", "greet");
    let generation = || world.catalog.get(&key).unwrap().generation;
    assert_eq!(generation(), 1);

    home.write("town/town.yaml", &good.replace("person.id > 1", "person.id > 2"));
    let watching = tokio::spawn(directory::watch(folder.clone(), world.clone(), |_| ()));
    // Below the minute after which a folder is looked at whatever was notified.
    until_true("the edit is seen", PATIENCE / 2, || generation() == 2).await.unwrap();
    watching.abort();
}
