//! A wrong link is found when some have got it: the rest get the right one, and nobody gets both.

use std::{collections::BTreeMap, fs};

use crate::{
    home::{Home, PATIENCE, assert_conserved, people, people_manifests},
    world::{Postgres, until_true},
};

const PEOPLE: usize = 400;

fn manifests(subject: &str) -> String {
    people_manifests("  schedule: {immediate: {notAfter: 2099-01-01T00:00:00Z}}", "true")
        .replace("template: hello}", "template: hello, throttle: {perSecond: 200}}")
        .replace("subject: \"Hello", &format!("subject: \"{subject}"))
}

/// Who got what: an address to the first words of its subjects.
fn got(home: &Home) -> BTreeMap<String, Vec<String>> {
    let mut got = BTreeMap::<String, Vec<String>>::new();
    for path in home.outbox() {
        let text = fs::read_to_string(path).unwrap();
        let header = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim().to_owned();
        let subject = header("Subject:").split(' ').next().unwrap().to_owned();
        got.entry(header("To:")).or_default().push(subject);
    }
    got
}

async fn the_rest_gets_the_new_revision(store: &[&str]) {
    let home = Home::new();
    home.write("town/town.yaml", &manifests("Wrong"));
    home.write("town/data/people.csv", &people(PEOPLE));
    let with_store = |args: &[&str]| home.call(&[args, store].concat());
    let running = home.spawn(&[&["run", "town"], store].concat(), "log");
    until_true("the first messages", PATIENCE, || home.outbox().len() > 20).await.unwrap();
    assert_eq!(with_store(&["stop", "greet", "--reason", "wrong link"]).code, 0);
    home.write("town/town.yaml", &manifests("Right"));
    let object = |kind: &str, name: &str| -> serde_json::Value {
        serde_json::from_str(&with_store(&["get", kind, name, "-o", "json"]).out).unwrap_or_default()
    };
    let revision = || object("campaign", "greet")["status"]["revision"].clone();
    let pinned = object("campaignrun", "greet-immediate")["status"]["revision"].clone();
    until_true("the edit to be seen", PATIENCE, || revision() != pinned).await.unwrap();
    let asked = with_store(&["rerun", "greet-immediate", "--remaining"]);
    assert_eq!((asked.code, asked.out.as_str()), (0, "campaignrun.campanile.dev/greet-immediate-r2 requested\n"));
    let reason = |run: &str| {
        let conditions = object("campaignrun", run)["status"]["conditions"].clone();
        let conditions = conditions.as_array().cloned().unwrap_or_default();
        let ready = conditions.into_iter().find(|c| c["type"] == "Ready").unwrap_or_default();
        (
            ready["reason"].as_str().unwrap_or_default().to_owned(),
            ready["message"].as_str().unwrap_or_default().to_owned(),
        )
    };
    until_true("the run to end", PATIENCE, || reason("greet-immediate").0 == "Superseded").await.unwrap();
    assert_eq!(reason("greet-immediate").1, "what waited goes on in greet-immediate-r2");
    let wrong = got(&home).len();
    assert!(wrong > 20 && wrong < PEOPLE, "{wrong}");

    // Nothing is sent while the campaign is stopped; then everyone else gets the right one.
    until_true("the successor to wait", PATIENCE, || reason("greet-immediate-r2").0 == "Held").await.unwrap();
    assert_eq!(got(&home).len(), wrong);
    assert_eq!(with_store(&["start", "greet"]).code, 0);
    until_true("the rest", PATIENCE, || reason("greet-immediate-r2").0 == "Completed").await.unwrap();
    let got = got(&home);
    assert_eq!(got.len(), PEOPLE);
    assert!(got.values().all(|subjects| subjects.len() == 1), "nobody gets both");
    assert_eq!(got.values().filter(|subjects| subjects[0] == "Wrong").count(), wrong);
    let (first, rest) = (object("campaignrun", "greet-immediate"), object("campaignrun", "greet-immediate-r2"));
    assert_conserved(&first);
    assert_conserved(&rest);
    assert_eq!(first["status"]["totals"]["cancelled"], PEOPLE - wrong);
    assert_eq!(first["status"]["channels"][0]["reasons"]["Superseded"], PEOPLE - wrong);
    assert_eq!(rest["status"]["totals"]["sent"], PEOPLE - wrong);

    // A second successor of the same run would send twice, and one of a run that is through has nobody.
    for (of, name, message) in [
        ("greet-immediate", "again", "the remainder of `greet-immediate` was taken by another run"),
        (
            "greet-immediate-r2",
            "none",
            "nobody waits in run `greet-immediate-r2`, and nobody was left out when it ended",
        ),
    ] {
        assert_eq!(with_store(&["rerun", of, "--remaining", "--name", name]).code, 0);
        until_true("the refusal", PATIENCE, || reason(name).0 == "Invalid").await.unwrap();
        assert_eq!(reason(name).1, message);
    }
    drop(running);
    assert_eq!(home.outbox().len(), PEOPLE);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_gets_the_new_revision_on_sqlite() {
    the_rest_gets_the_new_revision(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_gets_the_new_revision_on_postgresql() {
    let url = Postgres::shared().await.unwrap().database().await.unwrap();
    the_rest_gets_the_new_revision(&["--store", &url]).await;
}

#[test]
fn a_step_that_people_wait_in_must_still_be_there() {
    let home = Home::new();
    home.write("town/town.yaml", &people_manifests("", "true"));
    home.write("town/data/people.csv", &people(3));
    assert_eq!(home.run(&["town"]).code, 0);
    assert_eq!(home.call(&["stop", "--channel", "out", "--reason", "wrong link"]).code, 0);
    assert_eq!(home.call(&["trigger", "greet", "--name", "first"]).code, 0);
    home.run(&["town"]);
    home.write("town/town.yaml", &people_manifests("", "true").replace("- name: mail", "- name: letter"));
    assert_eq!(home.call(&["rerun", "first", "--remaining"]).code, 0);
    home.run(&["town"]);
    let (_, reason, message) = home.ready("campaignrun", "first-r2");
    assert_eq!(reason, "Invalid");
    assert_eq!(message, "people wait in step `mail` (of person), which the campaign no longer has");
    assert_eq!(home.ready("campaignrun", "first").1, "Sending", "it goes on as it was");
    let unknown = home.call(&["rerun", "second", "--remaining"]);
    assert_eq!((unknown.code, unknown.err.as_str()), (2, "error: there is no run `second` in namespace default\n"));
}
