//! Addresses and names that try to be more than that: none becomes a header, and each has its outcome.

use std::{collections::BTreeMap, fs};

use crate::{
    home::{Home, assert_conserved, lawful, people_manifests},
    world::{Postgres, SmtpSink},
};

/// Address, name, and what becomes of it.
fn hostile() -> Vec<(String, String, &'static str)> {
    let row = |address: &str, name: &str, outcome| (address.to_owned(), name.to_owned(), outcome);
    vec![
        row("p0@example.com", "Ann", "Sent"),
        row("p1@example.com\nBcc: victim@example.com", "Ann", "MalformedAddress"),
        row("p2@example.com\r\nBcc: victim@example.com\r\n\r\nHello", "Ann", "MalformedAddress"),
        row("p3@example.com, victim@example.com", "Ann", "MalformedAddress"),
        row("p4@example.com> ORCPT=x", "Ann", "MalformedAddress"),
        row("<p5@example.com>", "Ann", "MalformedAddress"),
        row("zoë@example.com", "Ann", "MalformedAddress"),
        row(&format!("{}@example.com", "p".repeat(300)), "Ann", "MalformedAddress"),
        row(&format!("p8@{}.com", "d".repeat(300)), "Ann", "MalformedAddress"),
        row("no address at all", "Ann", "MalformedAddress"),
        row("", "Ann", "NoAddress"),
        row("   ", "Ann", "NoAddress"),
        row("p12@example.com", "Eve\r\nBcc: victim@example.com\r\n\r\n<script>", "Sent"),
        row("p13@example.com", "Eve\nX-Evil: yes", "Sent"),
        row("p14@example.com", &"Zoë 🔔 ".repeat(60), "Sent"),
        row("p15@example.com", &"x".repeat(2_000), "Sent"),
        row("p16@example.com", "=?utf-8?q?Bcc:_victim?=", "Sent"),
        row("p17@example.com", "\u{202e}evil\u{7}\u{1b}[31m\u{85}Bcc: x", "Sent"),
        row("p18@example.com", ".", "Sent"),
        row("p19@example.com", "{{ person.email }} {% raw %}", "Sent"),
    ]
}

fn csv() -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(vec![]);
    writer.write_record(["id", "email", "name", "news", "news_at", "updated_at"]).unwrap();
    let then = "2026-01-01T00:00:00Z";
    for (id, (address, name, _)) in hostile().iter().enumerate() {
        writer.write_record([&id.to_string(), address, name, "t", then, then]).unwrap();
    }
    // No database text holds a NUL: the row is kept as a reject, and nobody enters for it.
    writer.write_record(["100", "p100@example.com", "Nu\0l", "t", then, then]).unwrap();
    writer.into_inner().unwrap()
}

/// The headers, each on one line.
fn headers(mail: &[u8]) -> Vec<String> {
    let end = mail.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let text = std::str::from_utf8(&mail[..end]).unwrap();
    assert!(text.is_ascii() && text.lines().all(|line| line.len() <= 998), "{text}");
    assert!(!text.contains('\0') && !text.replace("\r\n", "").contains(['\r', '\n']), "{text}");
    text.replace("\r\n ", " ").lines().map(str::to_owned).collect()
}

fn assert_harmless(mail: &[u8]) {
    let mut count = BTreeMap::new();
    for header in headers(mail) {
        let (name, _) = header.split_once(": ").unwrap_or_else(|| panic!("no header: {header:?}"));
        *count.entry(name.to_owned()).or_insert(0) += 1;
    }
    let allowed =
        ["From", "To", "Subject", "Message-ID", "Date", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"];
    assert!(count.iter().all(|(name, n)| allowed.contains(&name.as_str()) && *n == 1), "{count:?}");
}

fn begin(home: &Home, channel: &str) {
    let text = people_manifests("  schedule: {immediate: {notAfter: 2099-01-01T00:00:00Z}}", "true");
    home.write("town/town.yaml", &text.replace("spec: {outbox: {}}", channel));
    fs::create_dir_all(home.path().join("town/data")).unwrap();
    fs::write(home.path().join("town/data/people.csv"), csv()).unwrap();
}

fn outcomes(home: &Home, url: &str) {
    let run: serde_json::Value =
        serde_json::from_str(&home.call(&["get", "run", "greet-immediate", "-o", "json", "--store", url]).out).unwrap();
    assert_conserved(&run);
    let count = |outcome: &str| hostile().iter().filter(|(_, _, o)| *o == outcome).count();
    assert_eq!(run["status"]["totals"]["entered"], hostile().len(), "{run}");
    assert_eq!(run["status"]["totals"]["sent"], count("Sent"), "{run}");
    for reason in ["MalformedAddress", "NoAddress"] {
        assert_eq!(run["status"]["channels"][0]["reasons"][reason], count(reason), "{run}");
    }
    let dataset: serde_json::Value =
        serde_json::from_str(&home.call(&["get", "dataset", "town", "-o", "json", "--store", url]).out).unwrap();
    assert_eq!(dataset["status"]["rejected"], 1, "{dataset}");
}

fn to_an_outbox(url: &str) {
    let home = Home::new();
    begin(&home, "spec: {outbox: {}}");
    let ran = home.run(&["town", "--store", url]);
    assert_eq!(ran.code, 0, "{ran:?}");
    outcomes(&home, url);
    home.outbox().iter().for_each(|path| assert_harmless(&fs::read(path).unwrap()));
}

#[test]
fn no_name_becomes_a_header_on_sqlite() {
    to_an_outbox("sqlite://.campanile/store.db");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_becomes_a_header_on_postgres() {
    let postgres = Postgres::start().await.unwrap();
    to_an_outbox(&postgres.database().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_becomes_a_command_or_another_recipient() {
    let sink = SmtpSink::start(&[]).await.unwrap();
    let home = Home::new();
    let port = sink.port();
    let smtp = format!("spec: {{email: {{from: a@example.com, smtp: {{host: 127.0.0.1, port: {port}, tls: None}}}}}}");
    begin(&home, &smtp);
    home.write("town/town.yaml", &lawful(&home.read("town/town.yaml")));
    let ran = home.run(&["town", "--deliver", "live"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    outcomes(&home, "sqlite://.campanile/store.db");
    let sent: Vec<String> =
        hostile().into_iter().filter(|(_, _, o)| *o == "Sent").map(|(address, _, _)| address).collect();
    let mut to: Vec<String> = sink.mails().unwrap().into_iter().flat_map(|mail| mail.to).collect();
    to.sort_by_key(|address| sent.iter().position(|s| s == address));
    assert_eq!(to, sent);
}
