//! Consent is a log: the newest change wins, and a file cannot quietly opt anybody back in.

use campanile::{
    api::medium::Medium,
    feedback::stop::{Stopped, withdraw_sender},
    store::Store,
};
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    consent_elsewhere::{http, listening},
    either::Place,
    home::{Home, PATIENCE, people_manifests},
    world::until_true,
};

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

/// A town whose messages say how to withdraw and where to choose; its runs by hand may send again.
pub fn with_links(place: &Place, schedule: &str) {
    let manifest = people_manifests(schedule, "true")
        .replace("spec: {outbox: {}}", "spec: {outbox: {}, publicUrl: \"https://mail.example.com\"}")
        .replace("text: \"Dear", "text: \"Stop: {{ unsubscribe_url }} Choose: {{ preferences_url }} Dear")
        .replace("template: hello}", "template: hello, once: {ever: false}}");
    place.home.write("town/town.yaml", &manifest);
}

/// The path of a link (`u` or `p`) in a message to an address.
pub fn link(place: &Place, address: &str, kind: char) -> String {
    let mut mails = place.home.outbox().into_iter().map(|path| std::fs::read_to_string(path).unwrap());
    let mail = mails.rfind(|mail| mail.contains(address)).unwrap().replace("=\r\n", "");
    let start = mail.find(&format!("https://mail.example.com/{kind}/")).unwrap() + "https://mail.example.com".len();
    mail[start..].split([' ', '\r', '>']).next().unwrap().to_owned()
}

fn status(place: &Place, run: &str) -> Value {
    let ran = place.call(&["get", "run", run, "-o", "json"]);
    serde_json::from_str::<Value>(&ran.out).unwrap_or(Value::Null)["status"].clone()
}

/// Triggers a run and sends it, beginning at a time of the clock; (sent, excluded `NoConsent`).
pub fn sent_at(place: &Place, run: &str, now: &str) -> (i64, i64) {
    let ran = place.call(&["trigger", "greet", "--name", run]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran = place.run(&["--now", now]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let status = status(place, run);
    let n = |count: &Value| count.as_i64().unwrap_or(0);
    (n(&status["totals"]["sent"]), n(&status["channels"][0]["reasons"]["NoConsent"]))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_opts_out_at_ten_stays_out_whatever_the_export_of_two_says() {
    for place in Place::both().await {
        with_links(&place, "");
        place.home.write("town/data/1.csv", &format!("{HEAD}1,a@b.c,A,t,2026-02-01T00:00:00Z,2026-02-01T00:00:00Z\n"));
        place.read();
        assert_eq!(sent_at(&place, "first", "2026-03-01T09:00:00Z"), (1, 0));
        let (running, port) = listening(&place, "log", &["--now", "2026-03-01T10:00:00Z"]).await;
        assert_eq!(http(port, "POST", &link(&place, "a@b.c", 'u'), &[], "List-Unsubscribe=One-Click").0, 200);
        drop(running);
        // Written at 02:00 from what the shop knew: true, in a newer row.
        place.home.write("town/data/2.csv", &format!("{HEAD}1,a@b.c,A2,t,2026-02-01T00:00:00Z,2026-03-02T02:00:00Z\n"));
        assert_eq!(sent_at(&place, "morning", "2026-03-02T09:00:00Z"), (0, 1));
        // Somebody else's row with her address: what she withdrew holds for it.
        let rows = "2,A@B.C,A,t,2026-02-01T00:00:00Z,2026-03-02T02:00:00Z\n3,c@b.c,C,t,2026-02-01T00:00:00Z,2026-03-02T02:00:00Z\n";
        place.home.write("town/data/3.csv", &format!("{HEAD}{rows}"));
        assert_eq!(sent_at(&place, "another-key", "2026-03-02T10:00:00Z"), (1, 2));
        let why = place.call(&["why", "greet", "2", "town"]);
        assert!(why.out.contains("withdrawn under the address"), "{}", why.out);
        // Her own later yes, on the page behind the link of a message, holds again.
        let (running, port) = listening(&place, "page.log", &["--now", "2026-03-02T11:00:00Z"]).await;
        let (code, page) = http(port, "POST", &link(&place, "a@b.c", 'p'), &[], "do=save&news.email=1");
        assert!(code == 200 && page.contains("checked"), "{page}");
        drop(running);
        assert_eq!(sent_at(&place, "again", "2026-03-02T12:00:00Z"), (2, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_unsubscribes_while_her_message_waits_does_not_get_it() {
    for place in Place::both().await {
        with_links(&place, "");
        let row = |id: i64| format!("{id},p{id}@b.c,P,t,2026-02-01T00:00:00Z,2026-02-01T00:00:00Z\n");
        place.home.write("town/data/1.csv", &format!("{HEAD}{}{}", row(1), row(2)));
        place.read();
        assert_eq!(sent_at(&place, "first", "2026-03-01T09:00:00Z"), (2, 0));
        let (running, port) = listening(&place, "log", &[]).await;
        assert_eq!(place.call(&["stop", "--channel", "out", "--reason", "a look at it"]).code, 0);
        assert_eq!(place.call(&["trigger", "greet", "--name", "waits"]).code, 0);
        until_true("what waits", PATIENCE, || status(&place, "waits")["totals"]["waiting"] == 2).await.unwrap();
        assert_eq!(http(port, "POST", &link(&place, "p2@b.c", 'u'), &[], "List-Unsubscribe=One-Click").0, 200);
        assert_eq!(place.call(&["start", "--channel", "out"]).code, 0);
        until_true("the end", PATIENCE, || status(&place, "waits")["completedAt"].is_string()).await.unwrap();
        let ended = status(&place, "waits");
        assert_eq!((&ended["totals"]["sent"], &ended["totals"]["excluded"]), (&1.into(), &1.into()), "{ended}");
        assert_eq!(ended["channels"][0]["reasons"]["NoConsent"], 1, "{ended}");
        drop(running);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_a_sender_gets_nothing_more_of_it_and_of_others_what_she_wants() {
    for place in Place::both().await {
        let manifest =
            people_manifests("", "true").replace("template: hello}", "template: hello, once: {ever: false}}");
        place.home.write("town/town.yaml", &manifest);
        let row = |id: i64, email: &str| format!("{id},{email},P,t,2026-02-01T00:00:00Z,2026-02-01T00:00:00Z\n");
        place.home.write("town/data/1.csv", &format!("{HEAD}{}{}", row(1, "a@b.c"), row(2, "c@b.c")));
        place.read();
        assert_eq!(sent_at(&place, "first", "2026-03-01T09:00:00Z"), (2, 0));
        let sqlite = format!("sqlite://{}", place.home.path().join(".campanile/store.db").display());
        let store = Store::open(place.url.as_deref().unwrap_or(&sqlite)).await.unwrap();
        let at: Timestamp = "2026-03-01T10:00:00Z".parse().unwrap();
        let stop = |channel| Stopped {
            namespace: "default",
            channel,
            medium: Medium::Email,
            address: "A@b.c",
            source: "reply",
            text: Some("STOP"),
            at,
        };
        assert_eq!(withdraw_sender(&store, &stop("other"), at).await.unwrap(), 1);
        assert_eq!(sent_at(&place, "of-another", "2026-03-01T11:00:00Z"), (2, 0));
        assert_eq!(withdraw_sender(&store, &stop("out"), at).await.unwrap(), 1);
        store.close().await;
        assert_eq!(sent_at(&place, "stopped", "2026-03-01T12:00:00Z"), (1, 1));
        // What is Transactional, too: she may not be written to by it at all.
        place.home.write("town/town.yaml", &manifest.replace("topic: news", "topic: service"));
        assert_eq!(sent_at(&place, "transactional", "2026-03-01T13:00:00Z"), (1, 1));
    }
}
