//! What a channel's quota and its domains' rates hold back goes later, and nobody gets lost on the way.

use crate::home::{Home, assert_conserved, people_manifests};

const HEAD: &str = "id,email,name,news,news_at,updated_at\n";

fn row(id: usize, domain: &str) -> String {
    format!("{id},p{id}@{domain},Person {id},t,2026-01-01T00:00:00Z,2026-01-01T00:00:00Z\n")
}

fn home(rate: &str, rows: &str) -> Home {
    let home = Home::new();
    let channel = format!("spec: {{outbox: {{}}, rate: {rate}}}");
    let manifest = people_manifests("  schedule: {immediate: {}}", "true")
        .replace("spec: {outbox: {}}", &channel)
        .replace("template: hello}", "template: hello, expiresAfter: 90d}");
    home.write("town/town.yaml", &manifest);
    home.write("town/data/people.csv", &format!("{HEAD}{rows}"));
    home
}

fn sent_and_waiting(home: &Home) -> (i64, i64) {
    let run = home.get("campaignrun", "greet-immediate");
    assert_conserved(&run);
    let n = |part: &str| run["status"]["totals"][part].as_i64().unwrap();
    (n("sent"), n("waiting"))
}

#[test]
fn what_is_above_the_daily_quota_goes_on_the_next_days() {
    let rows: String = (1..=25).map(|id| row(id, "example.com")).collect();
    let home = home("{perDay: 10}", &rows);
    // A message waits: that is no success yet.
    assert_eq!(home.run(&["town", "--now", "2026-05-01T22:00:00Z"]).code, 1);
    assert_eq!(sent_and_waiting(&home), (10, 15));
    assert_eq!(home.run(&["town", "--now", "2026-05-01T23:00:00Z"]).code, 1);
    assert_eq!(sent_and_waiting(&home), (10, 15));
    assert_eq!(home.run(&["town", "--now", "2026-05-02T00:00:01Z"]).code, 1);
    assert_eq!(sent_and_waiting(&home), (20, 5));
    assert_eq!(home.run(&["town", "--now", "2026-05-03T08:00:00Z"]).code, 0);
    assert_eq!(sent_and_waiting(&home), (25, 0));
    assert_eq!(home.outbox().len(), 25);
}

#[test]
fn a_slow_domain_holds_nobody_else_up() {
    let slow: String = (1..=200).map(|id| row(id, "Slow.example")).collect();
    let others: String = (201..=400).map(|id| row(id, "example.com")).collect();
    let home = home("{domains: [{match: [slow.example, slower.example], perSecond: 1}]}", &format!("{slow}{others}"));
    assert_eq!(home.run(&["town", "--now", "2026-05-01T09:00:00Z"]).code, 1);
    let (sent, waiting) = sent_and_waiting(&home);
    let is_to_others = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().any(|line| line.starts_with("To: ") && line.contains("@example.com"))
    };
    let to_others = home.outbox().iter().filter(|path| is_to_others(path)).count();
    assert_eq!((to_others, sent + waiting), (200, 400));
    assert!(sent < 300, "{sent} of 400 went at once");
    assert_eq!(home.run(&["town", "--now", "2026-05-01T09:10:00Z"]).code, 0);
    assert_eq!(sent_and_waiting(&home), (400, 0));
}
