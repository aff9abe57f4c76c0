//! `kill -9` at any moment, then the same command: every recipient has exactly one message, or is counted in doubt.

use std::collections::BTreeMap;

use crate::{
    home::{Home, PATIENCE, assert_conserved, lawful, people, people_manifests},
    world::{SmtpSink, until_true},
};

const PEOPLE: usize = 3_000;

#[tokio::test]
async fn an_outbox_loses_and_doubles_nothing() {
    let home = Home::new();
    home.write("town/town.yaml", &people_manifests("  schedule: {immediate: {}}", "true"));
    home.write("town/data/people.csv", &people(PEOPLE));
    // Killed again and again, each time a little further on.
    for part in [1, PEOPLE / 3, PEOPLE * 2 / 3] {
        let mut running = home.spawn(&["run", "town"], "log");
        until_true("messages in the outbox", PATIENCE, || home.outbox().len() >= part).await.unwrap();
        running.child.kill().unwrap();
        running.child.wait().unwrap();
    }
    let before = home.outbox().len();
    let ran = home.run(&["town"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(before < PEOPLE, "the kills came too late to test anything");
    let run = home.get("campaignrun", "greet-immediate");
    assert_conserved(&run);
    assert_eq!(
        (&run["status"]["totals"]["sent"], &run["status"]["totals"]["inDoubt"]),
        (&(PEOPLE as i64).into(), &0.into())
    );
    let mut recipients = BTreeMap::<String, usize>::new();
    for path in home.outbox() {
        let text = std::fs::read_to_string(path).unwrap();
        let to = text.lines().find_map(|l| l.strip_prefix("To: ")).unwrap();
        *recipients.entry(to.to_owned()).or_default() += 1;
    }
    assert_eq!(recipients.len(), PEOPLE);
    assert!(recipients.values().all(|n| *n == 1));
}

#[tokio::test]
async fn a_relay_gets_each_message_at_most_once_and_doubt_is_bounded() {
    let sink = SmtpSink::start(&[]).await.unwrap();
    let home = Home::new();
    let smtp = format!(
        "spec: {{email: {{from: a@example.com, smtp: {{host: 127.0.0.1, port: {}, tls: None}}}}, connections: 3}}",
        sink.port()
    );
    let schedule = "  schedule: {immediate: {notAfter: 2099-01-01T00:00:00Z}}";
    home.write("town/town.yaml", &lawful(&people_manifests(schedule, "true").replace("spec: {outbox: {}}", &smtp)));
    home.write("town/data/people.csv", &people(PEOPLE));
    for part in [50, PEOPLE / 2] {
        let mut running = home.spawn(&["run", "town", "--deliver", "live"], "log");
        until_true("messages at the relay", PATIENCE, || sink.mails().is_ok_and(|m| m.len() >= part)).await.unwrap();
        running.child.kill().unwrap();
        running.child.wait().unwrap();
    }
    let ran = home.run(&["town", "--deliver", "live"]);
    let run = home.get("campaignrun", "greet-immediate");
    assert_conserved(&run);
    let n = |part: &str| usize::try_from(run["status"]["totals"][part].as_i64().unwrap()).unwrap();
    assert_eq!(n("sent") + n("inDoubt"), PEOPLE, "{run}");
    // Two kills, each with at most connections × depth attempts under way.
    assert!(n("inDoubt") <= 2 * 3 * 16, "{run}");
    // Doubt is no success: a person looks at it.
    assert_eq!(ran.code, i32::from(n("inDoubt") > 0), "{ran:?}");
    let mails = sink.mails().unwrap();
    let mut recipients = BTreeMap::<String, usize>::new();
    mails.iter().for_each(|mail| *recipients.entry(format!("{:?}", mail.header("To"))).or_default() += 1);
    assert!(recipients.values().all(|n| *n == 1), "a message went out twice");
    assert!(recipients.len() >= n("sent") && recipients.len() <= PEOPLE);
    assert!(sink.connections_max().unwrap() <= 3 + 1, "the sink itself may count a dead connection a moment longer");
}
