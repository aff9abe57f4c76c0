//! Messages whose fate nobody knows: held for a person who says what became of them, or sent again where that is declared.

use crate::{
    home::{Home, assert_conserved, lawful, people, people_manifests},
    world::scripted_smtp::{Command, Hangup, Script, Server},
};

fn home(port: u16, more: &str) -> Home {
    let home = Home::new();
    let smtp = format!("spec: {{email: {{from: a@example.com, smtp: {{host: 127.0.0.1, port: {port}, tls: None}}}}}}");
    let manifest = people_manifests("  schedule: {immediate: {notAfter: 2099-01-01T00:00:00Z}}", "true")
        .replace("spec: {outbox: {}}", &smtp)
        .replace("template: hello}", &format!("template: hello{more}}}"));
    home.write("town/town.yaml", &lawful(&manifest));
    home.write("town/data/people.csv", &people(3));
    home
}

fn totals(home: &Home) -> (i64, i64, i64, i64) {
    let run = home.get("campaignrun", "greet-immediate");
    assert_conserved(&run);
    let n = |part: &str| run["status"]["totals"][part].as_i64().unwrap();
    (n("sent"), n("failed"), n("inDoubt"), run["status"]["channels"][0]["resent"].as_i64().unwrap_or(0))
}

#[test]
fn what_nobody_knows_is_held_for_a_person() {
    // It takes the content and breaks off without a word.
    let breaking = Server::start(Script { dot: Hangup, ..Script::default() });
    let home = home(breaking.port, "");
    assert_eq!(home.run(&["town", "--deliver", "live"]).code, 1, "doubt is no success");
    assert_eq!(totals(&home), (0, 0, 3, 0));
    assert_eq!(breaking.messages(), 3);

    let listed = home.call(&["get", "indoubt"]);
    let rows: Vec<Vec<&str>> = listed.out.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["RUN", "STEP", "ITEM", "SINCE", "DETAIL"]);
    let mut items: Vec<&str> = rows[1..].iter().map(|row| row[2]).collect();
    items.sort_unstable();
    assert_eq!(items, ["1", "2", "3"], "{}", listed.out);
    assert!(!listed.out.contains("@example.com"), "{}", listed.out);

    assert_eq!(home.call(&["resolve", "greet-immediate", "1", "--as", "sent"]).out, "1 resolved\n");
    assert_eq!(home.call(&["resolve", "greet-immediate", "2", "--as", "failed"]).out, "1 resolved\n");
    let again = home.call(&["resolve", "greet-immediate", "1", "--as", "sent"]);
    assert!(again.code == 2 && again.err.contains("no such message is in doubt"), "{again:?}");
    // The third is sent again, to the same server, under the name it had; and nobody knows once more.
    assert_eq!(home.call(&["resolve", "greet-immediate", "--all", "--as", "resend"]).out, "1 resolved\n");
    assert_eq!(home.run(&["town", "--deliver", "live"]).code, 1);
    assert_eq!(totals(&home), (1, 1, 1, 1));
    assert_eq!(breaking.messages(), 4);
    let ids = |n: usize| {
        let messages = breaking.seen.messages.lock().unwrap();
        let text = String::from_utf8(messages[n].clone()).unwrap();
        text.lines().find(|l| l.starts_with("Message-ID:")).map(str::to_owned).unwrap()
    };
    assert!((0..3).any(|n| ids(n) == ids(3)), "sent again with another Message-ID");
}

#[test]
fn where_it_is_declared_doubt_is_sent_again_and_counted() {
    let fickle =
        Server::start(Script { at: vec![(1, Command::Dot, Hangup), (2, Command::Dot, Hangup)], ..Script::default() });
    let home = home(fickle.port, ", onDoubt: Resend");
    let ran = home.run(&["town", "--deliver", "live"]);
    assert_eq!((ran.code, totals(&home)), (0, (3, 0, 0, 2)), "{ran:?}");
    assert_eq!(fickle.messages(), 5);
}
