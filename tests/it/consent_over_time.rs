//! Consent is a log: the newest change wins, and a file cannot quietly opt anybody back in.

use crate::home::{Home, people_manifests};

const HEAD: &str = "id,email,name,news,news_at,updated_at\n";

fn sent(home: &Home, run: &str) -> (i64, i64) {
    assert_eq!(home.call(&["trigger", "greet", "--name", run]).code, 0);
    let ran = home.run(&["town"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let status = home.get("campaignrun", run)["status"].clone();
    let no_consent = status["channels"][0]["reasons"]["NoConsent"].as_i64().unwrap_or(0);
    (status["totals"]["sent"].as_i64().unwrap(), no_consent)
}

fn home(manifest: &str) -> Home {
    let home = Home::new();
    // Each run by hand may send again here: what is asked is consent.
    let manifest = manifest.replace("template: hello}", "template: hello, once: {ever: false}}");
    home.write("town/town.yaml", &manifest);
    home.write("town/data/1.csv", HEAD);
    assert_eq!(home.run(&["town"]).code, 0);
    home
}

#[test]
fn the_newest_change_wins_whenever_it_arrives() {
    let home = home(&people_manifests("", "true"));
    home.write(
        "town/data/2.csv",
        &format!("{HEAD}1,a@b.c,A,t,2026-03-01T00:00:00Z,2026-03-01T00:00:00Z\n2,b@b.c,B,,,2026-03-01T00:00:00Z\n"),
    );
    assert_eq!(sent(&home, "first"), (1, 1));
    home.write("town/data/3.csv", &format!("{HEAD}1,a@b.c,A,f,2026-03-02T10:00:00Z,2026-03-02T10:00:00Z\n"));
    assert_eq!(sent(&home, "withdrawn"), (0, 2));
    // Tonight's export still says `t` with a newer row but an older change: nobody is opted back in.
    home.write("town/data/4.csv", &format!("{HEAD}1,a@b.c,A,t,2026-03-01T00:00:00Z,2026-03-03T02:00:00Z\n"));
    assert_eq!(sent(&home, "export"), (0, 2));
    home.write("town/data/5.csv", &format!("{HEAD}1,a@b.c,A,f,2026-03-02T10:00:00Z,2026-03-04T00:00:00Z\n"));
    home.write("town/data/6.csv", &format!("{HEAD}1,a@b.c,A,t,2026-03-05T00:00:00Z,2026-03-05T00:00:00Z\n"));
    assert_eq!(sent(&home, "granted"), (1, 1));
}

#[test]
fn without_changed_at_a_file_may_withdraw_but_not_grant_again() {
    let home = home(&people_manifests("", "true").replace("field: news, changedAt: news_at", "field: news"));
    home.write("town/data/2.csv", &format!("{HEAD}1,a@b.c,A,t,,2026-03-01T00:00:00Z\n"));
    assert_eq!(sent(&home, "first"), (1, 0));
    home.write("town/data/3.csv", &format!("{HEAD}1,a@b.c,A,f,,2026-03-02T00:00:00Z\n"));
    assert_eq!(sent(&home, "withdrawn"), (0, 1));
    home.write("town/data/4.csv", &format!("{HEAD}1,a@b.c,A,t,,2026-03-03T00:00:00Z\n"));
    assert_eq!(sent(&home, "again"), (0, 1));
}

#[test]
fn transactional_topics_need_no_opt_in() {
    let home = home(&people_manifests("", "true").replace("topic: news", "topic: service"));
    home.write("town/data/2.csv", &format!("{HEAD}1,a@b.c,A,f,2026-03-01T00:00:00Z,2026-03-01T00:00:00Z\n"));
    assert_eq!(sent(&home, "first"), (1, 0));
}
