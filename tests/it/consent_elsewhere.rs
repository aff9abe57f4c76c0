//! What people and other systems say over HTTP: events of a customer data platform, a person's page, the second yes of a
//! double opt-in. On both stores; what is forged, tampered with or told twice changes nothing.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use campanile::{
    feedback::{confirm, preferences, webhook},
    store::Store,
};
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

use crate::{
    either::Place,
    home::{PATIENCE, Running, people_manifests},
    recorded_review::{ASK, ask},
    world::until_true,
};

const CONSENT: &str = "dev.campanile.consent.changed.v1";
const ADDRESS: &str = "dev.campanile.address.changed.v1";
const SECRET: &str = "---
apiVersion: v1
kind: Secret
metadata: {name: crm}
stringData: {token: t0ken, signing_key: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw}
";

fn write_town(place: &Place) {
    let topics = "  - name: club
    category: Marketing
    title: {en: \"The club & more\", it: Il club}
    requires: Confirmed
    consent: {email: {field: news, changedAt: news_at}}
  - {name: service, category: Transactional, title: {en: Your orders}}
  cloudEvents: {secretRef: {name: crm}}\n";
    let manifest = people_manifests("", "true")
        .replace("  - {name: service, category: Transactional}\n", topics)
        .replace("template: hello}", "template: hello, once: {ever: false}}");
    place.home.write("town/town.yaml", &format!("{manifest}{SECRET}"));
    let head = "id,email,name,news,news_at,updated_at\n";
    let rows = "1,a@b.c,A,t,2026-03-01T00:00:00Z,2026-03-01T00:00:00Z\n2,b@b.c,B,t,2026-03-01T00:00:00Z,2026-03-01T00:00:00Z\n";
    place.home.write("town/data/1.csv", &format!("{head}{rows}"));
}

pub async fn listening(place: &Place, log: &str, more: &[&str]) -> (Running, u16) {
    let running = place.spawn_with(log, &[&["--listen", "127.0.0.1:0"], more].concat());
    until_true("the listener", PATIENCE, || place.home.read(log).contains("listening on")).await.unwrap();
    let text = place.home.read(log);
    let line = text.lines().find(|line| line.contains("listening on")).unwrap();
    let port = line.rsplit(':').next().unwrap().trim().parse().unwrap();
    (running, port)
}

pub fn http(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    // Who refuses a body may close before it is all read.
    let _ = stream.read_to_string(&mut answer);
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (code, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
}

fn event(id: &str, kind: &str, data: Value) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/crm", "type": kind, "time": "2026-04-01T10:00:00Z", "data": data})
}

fn consent(id: &str, profile: i64, topic: &str, state: &str, at: &str) -> Value {
    let said = json!([{"topic": topic, "channel": "email", "state": state, "at": at, "text": "Yes, please"}]);
    event(id, CONSENT, json!({"profile": profile, "consents": said}))
}

fn tell(port: u16, body: &Value) -> (u16, Value) {
    let kind = if body.is_array() { "application/cloudevents-batch+json" } else { "application/cloudevents+json" };
    let headers = [("Content-Type", kind), ("Authorization", "Bearer t0ken")];
    let (code, answer) = http(port, "POST", "/events/default/town", &headers, &body.to_string());
    (code, serde_json::from_str(&answer).unwrap_or(Value::Null))
}

async fn states(place: &Place, profile: &str) -> Vec<String> {
    place
        .ask(&format!(
            "SELECT topic || ' ' || channel || ' ' || state || ' ' || source FROM consent WHERE profile = '{profile}' \
             AND source NOT LIKE 'file:%' ORDER BY at_us, topic, state"
        ))
        .await
}

async fn secret(place: &Place) -> Vec<u8> {
    let sqlite = format!("sqlite://{}", place.home.path().join(".campanile/store.db").display());
    let store = Store::open(place.url.as_deref().unwrap_or(&sqlite)).await.unwrap();
    let secret = store.secret().await.unwrap();
    store.close().await;
    secret
}

#[tokio::test(flavor = "multi_thread")]
async fn events_count_once_in_their_own_order_and_only_of_whom_is_known() {
    for place in Place::both().await {
        write_town(&place);
        place.read();
        let (_running, port) = listening(&place, "log", &[]).await;
        let (path, kind) = ("/events/default/town", ("Content-Type", "application/cloudevents+json"));
        let out = consent("1", 1, "news", "Withdrawn", "2026-04-01T10:00:00Z");
        let body = out.to_string();

        // Who is not known is told nothing, not even whether there is such a dataset.
        for (path, token) in [(path, "Bearer wrong"), (path, ""), ("/events/default/other", "Bearer t0ken")] {
            assert_eq!(http(port, "POST", path, &[kind, ("Authorization", token)], &body).0, 401, "{path} {token}");
        }
        let known = ("Authorization", "Bearer t0ken");
        assert_eq!(http(port, "POST", path, &[known, ("Content-Type", "text/plain")], &body).0, 415);
        assert_eq!(http(port, "POST", path, &[known, kind], "{").0, 400);
        assert_eq!(http(port, "POST", path, &[known, kind], &" ".repeat(1_100_000)).0, 413);
        assert_eq!(states(&place, "1").await, [""; 0]);

        let (code, answer) = tell(port, &out);
        assert_eq!((code, &answer["result"]), (200, &json!("Accepted")), "{answer}");
        assert_eq!(tell(port, &out).1["result"], "Duplicate");
        // A yes that was said before the no, and comes behind it; and what no event may say.
        let late = consent("2", 1, "news", "Granted", "2026-03-15T10:00:00Z");
        let wrong = [
            consent("3", 1, "nows", "Granted", "2026-04-01T10:00:00Z"),
            consent("4", 1, "service", "Withdrawn", "2026-04-01T10:00:00Z"),
            consent("5", 1, "news", "Granted", "2999-01-01T00:00:00Z"),
            consent("6", 1, "*", "Granted", "2026-04-01T10:00:00Z"),
            event("7", CONSENT, json!({"profile": "secret-name", "consents": []})),
        ];
        let (code, answer) = tell(port, &Value::Array([vec![late], wrong.to_vec()].concat()));
        assert_eq!(code, 422);
        let results: Vec<&str> =
            answer["results"].as_array().unwrap().iter().map(|one| one["result"].as_str().unwrap()).collect();
        assert_eq!(results, ["Accepted", "Refused", "Refused", "Refused", "Refused", "Refused"]);
        assert!(!answer.to_string().contains("secret-name"), "{answer}");
        let said = ["news email Granted event:/crm", "news email Withdrawn event:/crm"];
        assert_eq!(states(&place, "1").await, said);

        // Signed instead, as Standard Webhooks has it.
        let key = webhook::key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signed = |at: Timestamp, body: &str, sent: &str| {
            let (second, signature) = (at.as_second().to_string(), webhook::sign(&key, "m1", at, body.as_bytes()));
            let headers =
                [kind, ("webhook-id", "m1"), ("webhook-timestamp", &second), ("webhook-signature", &signature)];
            http(port, "POST", path, &headers, sent).0
        };
        #[allow(clippy::disallowed_methods, reason = "the process under test asks the machine, too")]
        let now = Timestamp::now();
        assert_eq!(signed(now, &body, &body), 200);
        assert_eq!(signed(now, &body, &body.replace("news", "club")), 401, "tampered with");
        assert_eq!(signed(now - 6.minutes(), &body, &body), 401, "overheard, and brought later");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_stands_against_older_rows_and_falls_to_newer_ones() {
    for place in Place::both().await {
        write_town(&place);
        place.read();
        let moved = |id: &str, profile: Value, email: &str, version: &str| {
            event(id, ADDRESS, json!({"profile": profile, "addresses": {"email": email}, "version": version}))
        };
        let emails = async || place.ask("SELECT CAST(id AS TEXT) || ' ' || email FROM PERSON ORDER BY id").await;
        let (running, port) = listening(&place, "log", &[]).await;
        let (code, answer) = tell(port, &moved("1", json!(1), "new@b.c", "2026-04-01T00:00:00Z"));
        assert_eq!((code, &answer["result"]), (200, &json!("Accepted")), "{answer}");
        assert_eq!(tell(port, &moved("2", json!("1"), "old@b.c", "2026-03-15T00:00:00Z")).1["result"], "Older");
        assert_eq!(tell(port, &moved("1", json!(1), "again@b.c", "2026-05-01T00:00:00Z")).1["result"], "Duplicate");
        // She is made, if the entity asks for no more than is given.
        assert_eq!(tell(port, &moved("3", json!(3), "c@b.c", "2026-04-01T00:00:00Z")).1["result"], "Accepted");
        let refused = event("4", ADDRESS, json!({"profile": 1, "addresses": {"sms": "+39333"}}));
        assert_eq!(tell(port, &refused).0, 422);
        // Binary mode; without a version the event's time is it.
        let headers = [
            ("Content-Type", "application/json"),
            ("Authorization", "Bearer t0ken"),
            ("ce-specversion", "1.0"),
            ("ce-id", "5"),
            ("ce-source", "/crm"),
            ("ce-type", ADDRESS),
            ("ce-time", "2026-04-02T00:00:00Z"),
        ];
        let body = json!({"profile": 2, "addresses": {"email": "moved@b.c"}}).to_string();
        assert_eq!(http(port, "POST", "/events/default/town", &headers, &body).0, 200);
        assert_eq!(emails().await, ["1 new@b.c", "2 moved@b.c", "3 c@b.c"]);
        drop(running);
        let head = "id,email,name,news,news_at,updated_at\n";
        let row = |id: i64, version: &str| format!("{id},file@b.c,X,t,2026-03-01T00:00:00Z,{version}\n");
        let rows = row(1, "2026-03-20T00:00:00Z") + &row(2, "2026-06-01T00:00:00Z");
        place.home.write("town/data/2.csv", &format!("{head}{rows}"));
        place.read();
        assert_eq!(emails().await, ["1 new@b.c", "2 file@b.c", "3 c@b.c"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_shows_by_get_and_changes_by_post() {
    for place in Place::both().await {
        write_town(&place);
        place.read();
        let (_running, port) = listening(&place, "log", &[]).await;
        let secret = secret(&place).await;
        let links = preferences::Links::new("", ("default", "town"), "email", &secret);
        let path = links.to("1", "a@b.c", Some("it-CH"));
        let (code, page) = http(port, "GET", &path, &[], "");
        assert!(code == 200 && page.contains("Il club") && page.contains("lang=\"it\""), "{page}");
        assert!(page.contains("name=\"news.email\" value=\"1\" checked") && !page.contains("<script"), "{page}");
        for forged in [&path[..path.len() - 2], &path.replace("/p/", "/p/A"), &path.replace("/p/", "/c/")] {
            assert_eq!(http(port, "POST", forged, &[], "do=nothing").0, 404, "{forged}");
        }
        // A look, a mailbox that posts to whatever it finds, and what was saved as it is: nothing is said by them.
        for body in ["", "List-Unsubscribe=One-Click", "do=save&news.email=1&club.email=1"] {
            assert_eq!(http(port, "POST", &path, &[], body).0, 200);
        }
        // Of the last one: who saves `club` in her own mailbox has confirmed it there.
        assert_eq!(states(&place, "1").await, ["club email Granted preferences"]);
        let (_, page) = http(port, "POST", &path, &[], "do=save&news.email=1");
        assert!(
            page.contains("role=\"status\"") && !page.contains("name=\"club.email\" value=\"1\" checked"),
            "{page}"
        );
        http(port, "POST", &path, &[], "do=nothing");
        let (_, page) = http(port, "GET", &path, &[], "");
        assert!(!page.contains("checked"), "{page}");
        http(port, "POST", &path, &[], "do=save&news.email=1");
        let said = states(&place, "1").await;
        let wanted = ["club email Granted", "club email Withdrawn", "* * Withdrawn", "news email Granted"];
        assert_eq!(said, wanted.map(|text| format!("{text} preferences")));
        let kept = place.ask("SELECT topic || ' ' || channel FROM opt_out ORDER BY topic").await;
        assert_eq!(kept, ["* *", "club email"]);
        assert_eq!(http(port, "POST", "/p/specimen", &[], "do=nothing").0, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_must_confirm_is_pending_until_she_presses_the_button() {
    for place in Place::both().await {
        write_town(&place);
        place.read();
        let (_running, port) = listening(&place, "log", &[]).await;
        let newest = async || {
            let sql = "SELECT state FROM consent WHERE profile = '2' AND topic = 'club' ORDER BY at_us DESC, state DESC LIMIT 1";
            place.ask(sql).await
        };
        assert_eq!(newest().await, ["Pending"], "the file grants, she has not confirmed");
        let links = confirm::Links::new("", ("default", "town"), ("club", "email"), &secret(&place).await);
        let path = links.to("2", None);
        let (code, page) = http(port, "GET", &path, &[("Accept-Language", "en")], "");
        assert!(
            code == 200 && page.contains("The club &amp; more") && page.contains("<form method=\"post\">"),
            "{page}"
        );
        assert_eq!(newest().await, ["Pending"], "a look changes nothing");
        assert_eq!(http(port, "POST", &path, &[], "").0, 200);
        assert_eq!(newest().await, ["Granted"]);
        // Once more what is known already asks for nothing; and a link does not outlast what she says later.
        assert_eq!(tell(port, &consent("1", 2, "club", "Granted", "2026-05-01T00:00:00Z")).1["result"], "Accepted");
        assert_eq!(newest().await, ["Granted"]);
        #[allow(clippy::disallowed_methods, reason = "the process under test asks the machine, too")]
        let now = Timestamp::now().to_string();
        assert_eq!(tell(port, &consent("2", 2, "club", "Withdrawn", &now)).1["result"], "Accepted");
        assert_eq!(http(port, "POST", &path, &[], "").0, 410);
        assert_eq!(newest().await, ["Withdrawn"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_laid_out_well_in_light_and_dark_wide_and_narrow() {
    let [place, _] = Place::both().await;
    write_town(&place);
    place.read();
    let (_running, port) = listening(&place, "log", &[]).await;
    let links = preferences::Links::new("", ("default", "town"), "email", &secret(&place).await);
    let (_, page) = http(port, "POST", &links.to("1", "a@b.c", Some("de")), &[], "do=save&news.email=1");
    let path = place.home.write("page.html", &page.replace("</body>", &format!("{ASK}</body>")));
    let mut looks = vec![];
    for width in [1280, 500] {
        for is_dark in [false, true] {
            let answer = ask(&path, width, is_dark);
            let (verdict, look) = answer.trim().rsplit_once('\n').unwrap();
            assert_eq!(verdict, "all is in its place", "{width} wide, dark: {is_dark}");
            looks.push(look.to_owned());
        }
    }
    assert!(looks[0] == looks[2] && looks[1] == looks[3] && looks[0] != looks[1], "light and dark differ: {looks:?}");
}
