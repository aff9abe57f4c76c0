//! A person with several devices: each is a message of its own, found again by its row, and she herself is one person.

use std::{collections::BTreeMap, fs};

use serde_json::{Value, json};

use super::{Counterpart, MANIFEST, counts, run_of, secret};
use crate::{
    either::Place,
    home::{PATIENCE, assert_conserved},
    world::until_true,
};

const DEVICES: &str = r#"    source: {files: {url: data/people.jsonl, format: JSONL}}
  - name: device
    key: [person_id, app]
    fields:
    - {name: person_id, type: Integer}
    - {name: app, type: String, reveal: true}
    - {name: token, type: String}
    links:
    - {name: owner, to: person, keys: {person_id: id}, inverse: devices}
    source: {files: {url: data/devices, format: JSONL, contents: Snapshot, maxDeletes: 100%}}
"#;

fn manifest(channel: &str) -> String {
    MANIFEST
        .replace("{CHANNEL}", channel)
        .replace("    - {name: token, type: String}\n", "")
        .replace("    source: {files: {url: data/people.jsonl, format: JSONL}}\n", DEVICES)
        .replace("addresses: {push: token}", "addresses: {push: devices.token}")
}

fn person(id: i64, pings: bool) -> String {
    format!("{}\n", json!({"id": id, "name": format!("P{id}"), "language": "en", "pings": pings}))
}

fn device(owner: i64, app: &str, token: &str) -> String {
    format!("{}\n", json!({"person_id": owner, "app": app, "token": token}))
}

fn write_devices(place: &Place, number: i64, devices: &[String]) {
    place.home.write(&format!("town/data/devices/{number}.jsonl"), &devices.concat());
}

/// What the outbox has, by the token, with how many files name it.
fn told(place: &Place) -> BTreeMap<String, usize> {
    let mut told = BTreeMap::new();
    for path in place.home.outbox() {
        let file: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        *told.entry(file["to"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    told
}

/// What a plan says of the step: messages, and why others are none.
fn planned(place: &Place) -> (Value, Value) {
    let ran = place.call(&["plan", "town", "-o", "json"]);
    let plan: Value = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
    let messages = &plan["campaigns"][0]["steps"][1]["messages"];
    let said = messages["excluded"].as_array().into_iter().flatten();
    let said: serde_json::Map<_, _> =
        said.map(|of| (of["reason"].as_str().unwrap().to_owned(), of["rows"]["now"]["exact"].clone())).collect();
    (messages["sent"]["now"]["exact"].clone(), said.into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_device_gets_it_and_the_one_that_is_gone_holds_back_no_other() {
    let [_, google, _] = Counterpart::all().await;
    for place in Place::both().await {
        let manifest = manifest(&format!("{{push: {}}}", google.channel)) + &secret(&google.secret);
        place.home.write("town/town.yaml", &manifest);
        let people = [person(1, true), person(2, true), person(3, true), person(4, false)];
        place.home.write("town/data/people.jsonl", &people.concat());
        let devices = [
            device(1, "phone", "device:a"),
            device(1, "old", &google.dead()),
            device(1, "tablet", "device:b"),
            device(3, "phone", "device:c"),
            device(4, "phone", "device:d"),
            device(4, "tablet", "device:e"),
        ];
        write_devices(&place, 1, &devices);
        let live = ["--deliver", "live", "--allow-url", &google.url];
        place.run(&live);
        let before = google.shown().len();
        assert_eq!(planned(&place), (json!(4), json!({"NoAddress": 1, "NoConsent": 2})));
        let first = run_of(&place, "first", &live);
        assert_eq!(counts(&first), (3, 1, json!({"NoAddress": 1, "NoConsent": 2, "Unregistered": 1})), "{first}");
        let mut shown: Vec<_> = google.shown()[before..].iter().map(|(to, ..)| to.clone()).collect();
        shown.sort();
        assert_eq!(shown, ["device:a", "device:b", "device:c"]);
        let places = place
            .ask("SELECT item || ' ' || address || ' ' || coalesce(device, '') FROM ledger ORDER BY item, address")
            .await;
        let expected = [
            r#"1 1 [1,"old"]"#,
            r#"1 2 [1,"phone"]"#,
            r#"1 3 [1,"tablet"]"#,
            "2 0 ",
            r#"3 1 [3,"phone"]"#,
            r#"4 1 [4,"phone"]"#,
            r#"4 2 [4,"tablet"]"#,
        ];
        assert_eq!(places, expected);

        let second = run_of(&place, "second", &live);
        assert_eq!(counts(&second), (3, 0, json!({"NoAddress": 1, "NoConsent": 2, "Suppressed": 1})), "{second}");
        let why = place.call(&["why", "greet", "1", "town"]);
        assert!(why.out.contains("device 1") && why.out.contains("Suppressed"), "{why:?}");
        let why = place.call(&["why", "greet", "4", "town"]);
        assert!(why.out.contains("opted out of news"), "{why:?}");
        let why = place.call(&["why", "greet", "1", "--run", "first"]);
        assert!(why.out.contains("device 1: Failed") && why.out.contains("device 2: Sent"), "{why:?}");
        let shown = place.call(&["render", "--run", "first", "1", "--step", "ping"]);
        assert!(shown.code == 2 && shown.err.contains("it went to several devices: 1, 2, 3"), "{shown:?}");
        let shown = place.call(&["render", "--run", "first", "1", "--step", "ping", "--device", "2"]);
        assert!(shown.code == 0 && shown.out.contains("device:a"), "{shown:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_found_again_by_its_row_and_not_by_its_place() {
    for place in Place::both().await {
        place.home.write("town/town.yaml", &manifest("{outbox: {}}"));
        place.home.write("town/data/people.jsonl", &[person(1, true), person(2, true)].concat());
        let devices = [
            device(1, "b", "token-b"),
            device(1, "c", "token-c"),
            device(1, "d", "token-d"),
            device(2, "e", "token-e"),
        ];
        write_devices(&place, 1, &devices);
        place.read();
        assert_eq!(place.call(&["stop", "--channel", "out", "--reason", "a look at it"]).code, 0);
        assert_eq!(place.call(&["trigger", "greet", "--name", "first"]).code, 0);
        place.run(&[]);
        // A new one before them all, one is gone, one has another token.
        let devices = [
            device(1, "a", "token-a"),
            device(1, "c", "token-c-again"),
            device(1, "d", "token-d"),
            device(2, "e", "token-e"),
        ];
        write_devices(&place, 2, &devices);
        place.run(&[]);
        assert_eq!(told(&place), BTreeMap::new());
        assert_eq!(place.call(&["start", "--channel", "out"]).code, 0);
        place.read();
        let run = place.get("campaignrun", "first");
        assert_conserved(&run);
        assert_eq!(counts(&run), (3, 0, json!({"NoAddress": 1})), "{run}");
        let tokens: Vec<String> = told(&place).into_keys().collect();
        assert_eq!(tokens, ["token-c-again", "token-d", "token-e"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn once_is_the_persons_whatever_her_devices() {
    let [_, google, _] = Counterpart::all().await;
    for place in Place::both().await {
        let manifest = manifest(&format!("{{push: {}}}", google.channel)) + &secret(&google.secret);
        place.home.write("town/town.yaml", &manifest.replace("once: {ever: false}", "once: {ever: true}"));
        place.home.write("town/data/people.jsonl", &[person(1, true), person(2, true)].concat());
        // Of the first one device is gone, of the second all are.
        let dead = |n: i64| format!("{}{n}", google.dead());
        let devices =
            [device(1, "a", &dead(1)), device(1, "b", "device:a"), device(2, "a", &dead(2)), device(2, "b", &dead(3))];
        write_devices(&place, 1, &devices);
        let live = ["--deliver", "live", "--allow-url", &google.url];
        place.run(&live);
        let first = run_of(&place, "first", &live);
        assert_eq!(counts(&first), (1, 3, json!({"Unregistered": 3})), "{first}");
        assert_eq!(planned(&place), (json!(0), json!({"AlreadySent": 1, "Suppressed": 2})));
        let second = run_of(&place, "second", &live);
        assert_eq!(counts(&second), (0, 0, json!({"AlreadySent": 1, "Suppressed": 2})), "{second}");
        // A new device is nobody new.
        let more = [device(1, "c", "device:c"), device(2, "c", "device:d")];
        write_devices(&place, 2, &[&devices[..], &more[..]].concat());
        place.run(&live);
        let third = run_of(&place, "third", &live);
        assert_eq!(counts(&third), (1, 0, json!({"AlreadySent": 1, "Suppressed": 2})), "{third}");
        assert_eq!(google.shown().last().unwrap().0, "device:d");
    }
}

const PEOPLE: i64 = 60;
const EACH: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_a_run_goes_to_the_devices_that_it_had_not_reached() {
    for place in Place::both().await {
        let manifest = manifest("{outbox: {}}")
            .replace("once: {ever: false}", "throttle: {perSecond: 50}")
            .replace("  steps:\n", "  schedule: {immediate: {notAfter: 2099-01-01T00:00:00Z}}\n  steps:\n");
        let people: Vec<String> = (1..=PEOPLE).map(|id| person(id, true)).collect();
        place.home.write("town/data/people.jsonl", &people.concat());
        let all = (1..=PEOPLE).flat_map(|id| ["a", "b", "c"].map(|app| device(id, app, &format!("{id}-{app}"))));
        write_devices(&place, 1, &all.collect::<Vec<_>>());
        place.home.write("town/town.yaml", &manifest);
        let running = place.spawn("log");
        until_true("the first messages", PATIENCE, || place.home.outbox().len() > 10).await.unwrap();
        assert_eq!(place.call(&["stop", "greet", "--reason", "wrong link"]).code, 0);
        assert_eq!(place.call(&["rerun", "greet-immediate", "--remaining"]).code, 0);
        let reason = |run: &str| place.condition("campaignrun", run, "Ready").1;
        until_true("the run to end", PATIENCE, || reason("greet-immediate") == "Superseded").await.unwrap();
        assert_eq!(place.call(&["start", "greet"]).code, 0);
        until_true("the rest", PATIENCE, || reason("greet-immediate-r2") == "Completed").await.unwrap();
        drop(running);
        let told = told(&place);
        assert_eq!(told.len(), EACH * usize::try_from(PEOPLE).unwrap());
        assert!(told.values().all(|n| *n == 1), "no device gets both: {told:?}");
        let (first, rest) =
            (place.get("campaignrun", "greet-immediate"), place.get("campaignrun", "greet-immediate-r2"));
        assert_conserved(&first);
        assert_conserved(&rest);
        assert_eq!(first["status"]["totals"]["cancelled"], rest["status"]["totals"]["sent"]);
        // And once is once.
        assert_eq!(place.call(&["trigger", "greet", "--name", "again"]).code, 0);
        // The first run was superseded, and that is what this call ends by.
        place.run(&[]);
        let again = place.get("campaignrun", "again");
        assert_eq!(counts(&again), (0, 0, json!({"AlreadySent": PEOPLE})), "{again}");
    }
}
