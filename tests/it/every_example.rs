//! Every folder under `examples/` runs as it is; one that is added is held to the same.

use std::fs;

use serde_json::Value;

use crate::home::{Home, assert_conserved, copy, repository};

const NOW: &str = "2026-05-01T08:00:00Z";

fn home(example: &str) -> Home {
    let home = Home::new();
    copy(&repository().join("examples").join(example), &home.path().join(example));
    home
}

fn names() -> Vec<String> {
    let folders = fs::read_dir(repository().join("examples")).unwrap().map(Result::unwrap);
    let mut names: Vec<_> = folders.map(|folder| folder.file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(names.len() >= 8, "{names:?}");
    names
}

#[test]
fn each_is_valid_sends_what_it_says_once_and_loses_nobody() {
    for name in names() {
        let home = home(&name);
        let valid = home.call(&["validate", &name]);
        assert_eq!(valid.code, 0, "{name}: {valid:?}");
        let first = home.run(&[&name, "--now", NOW]);
        assert!(!first.err.contains("error"), "{name}: {first:?}");
        // What is not through waits for its day, and for nothing else.
        let waits = first.err.lines().filter(|line| line.starts_with("not ready: "));
        assert!(waits.clone().all(|line| line.contains(": Waiting: ")), "{name}: {first:?}");
        assert_eq!(first.code, i32::from(waits.count() > 0), "{name}: {first:?}");
        let runs: Value = serde_json::from_str(&home.call(&["get", "campaignruns", "-o", "json"]).out).unwrap();
        runs["items"].as_array().unwrap().iter().for_each(assert_conserved);
        let sent = home.outbox();
        home.run(&[&name, "--now", NOW]);
        assert_eq!(home.outbox(), sent, "{name} sends again");
    }
}

#[test]
fn the_book_club_writes_again_after_three_days_to_who_drew_a_voucher() {
    let home = home("book-club");
    let run = |now: &str| home.run(&["book-club", "--now", now]);
    assert_eq!((run(NOW).code, home.outbox().len()), (1, 7));
    assert_eq!((run("2026-05-04T07:00:00Z").code, home.outbox().len()), (1, 7), "it is not yet time");
    assert_eq!((run("2026-05-04T09:00:00Z").code, home.outbox().len()), (0, 9));
    assert_eq!(home.call(&["trigger", "spring-letter", "--name", "again"]).code, 0);
    assert_eq!((run("2026-05-05T08:00:00Z").code, home.outbox().len()), (1, 9));
    let again = home.get("run", "again");
    assert_eq!(again["status"]["totals"]["entered"], 0, "nobody enters twice in four weeks: {again:#}");
}
