//! Pushes, from a folder to a device: each provider of them on both stores, and what becomes of a device that is gone.

mod counterpart;
mod devices;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use self::counterpart::Counterpart;
use crate::{either::Place, home::assert_conserved};

const MANIFEST: &str = r#"apiVersion: campanile.dev/v1alpha1
kind: Dataset
metadata: {name: town}
spec:
  entities:
  - name: person
    key: [id]
    fields:
    - {name: id, type: Integer, reveal: true}
    - {name: token, type: String}
    - {name: name, type: String}
    - {name: language, type: String}
    - {name: pings, type: Boolean}
    source: {files: {url: data/people.jsonl, format: JSONL}}
  profile: {entity: person, locale: language, addresses: {push: token}}
  topics:
  - {name: news, category: Marketing, consent: {push: {field: pings}}}
---
apiVersion: campanile.dev/v1alpha1
kind: Channel
metadata: {name: out}
spec: {CHANNEL}
---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {name: hello}
spec:
  push:
    title: "Hello {{ person.name }}"
    body: "Your parcel is at the door"
    data:
    - {name: url, value: "https://example.com/{{ person.id }}"}
    - {name: kind, value: parcel}
    collapse: "parcel-{{ person.id }}"
    urgency: High
  locales:
    it: {push: {title: "Ciao {{ person.name }}", data: [{name: kind, value: pacco}]}}
---
apiVersion: campanile.dev/v1alpha1
kind: Campaign
metadata: {name: greet}
spec:
  dataset: town
  topic: news
  steps:
  - {name: all, audience: {entity: person, where: "true"}}
  - {name: ping, push: {channel: out, template: hello, once: {ever: false}, expiresAfter: 1h}}
"#;

/// A Secret that a folder declares.
fn secret(values: &Value) -> String {
    format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: pushes}}\nstringData: {values}\n")
}

/// One person on a line.
fn person(id: i64, token: Option<&str>, name: &str, language: &str, pings: bool) -> String {
    format!("{}\n", json!({"id": id, "token": token, "name": name, "language": language, "pings": pings}))
}

fn run_of(place: &Place, name: &str, live: &[&str]) -> Value {
    assert_eq!(place.call(&["trigger", "greet", "--name", name]).code, 0);
    let ran = place.run(live);
    assert_eq!(ran.code, 0, "{ran:?}");
    let run = place.get("campaignrun", name);
    assert_conserved(&run);
    run
}

/// Sent, failed, and why the others did not get it.
fn counts(run: &Value) -> (i64, i64, Value) {
    let ping = run["status"]["channels"].as_array().unwrap().iter().find(|c| c["step"] == "ping").unwrap();
    (ping["sent"].as_i64().unwrap(), ping["failed"].as_i64().unwrap(), ping["reasons"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_push_reaches_its_device_and_one_that_is_gone_is_not_asked_again() {
    for place in Place::both().await {
        for (at, counterpart) in Counterpart::all().await.iter().enumerate() {
            reaches(&place, counterpart, at).await;
        }
    }
}

async fn reaches(place: &Place, counterpart: &Counterpart, at: usize) {
    let name = counterpart.name;
    let (alive, dead) = (counterpart.alive("bc"), counterpart.dead());
    let manifests = MANIFEST.replace("{CHANNEL}", &format!("{{push: {}}}", counterpart.channel));
    place.home.write("town/town.yaml", &(manifests + &secret(&counterpart.secret)));
    let people = [
        person(1, Some(&alive), "Ada", "it", true),
        person(2, Some(&dead), "Bo", "en", true),
        person(3, None, "Cy", "en", true),
        person(4, Some(&counterpart.alive("de")), "Di", "en", false),
    ];
    place.home.write("town/data/people.jsonl", &people.concat());
    let live = ["--deliver", "live", "--allow-url", &counterpart.url];
    place.run(&live);
    let first = run_of(place, &format!("first-{at}"), &live);
    let reasons = json!({"NoAddress": 1, "NoConsent": 1, "Unregistered": 1});
    assert_eq!(counts(&first), (1, 1, reasons), "{name}: {first}");
    let shown = counterpart.shown();
    let data = BTreeMap::from([("url", "https://example.com/1"), ("kind", "pacco")]);
    let data = data.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let expected = (alive.clone(), "Ciao Ada".to_owned(), "Your parcel is at the door".to_owned(), data);
    assert_eq!(shown, [expected], "{name}");
    let (ttl, urgency, collapse) = counterpart.newest();
    assert!((3_500..=3_600).contains(&ttl), "{name}: {ttl}, no longer than the message itself");
    assert!(["high", "HIGH", "10"].contains(&urgency.as_str()), "{name}: {urgency}");
    assert!(collapse == "parcel-1" || (name == "webPush" && collapse.len() == 32), "{name}: {collapse}");

    // It is marked with its outcome, by a hash.
    let marked =
        place.ask("SELECT medium || ' ' || reason || ' ' || hash FROM suppression ORDER BY since_us DESC").await;
    assert!(marked.len() == at + 1 && marked[0].starts_with("push Unregistered "), "{name}: {marked:?}");
    assert!(!marked[0].contains(&dead), "{marked:?}");
    let asked = place.call(&["suppression", "show", &dead, "--medium", "push"]);
    assert!(asked.code == 0 && asked.out.contains("Unregistered"), "{name}: {asked:?}");

    // It is said before, and is so.
    let why = place.call(&["why", "greet", "2", "town"]);
    assert!(why.out.contains("Suppressed") && why.out.contains("(Unregistered)"), "{name}: {why:?}");
    let second = run_of(place, &format!("second-{at}"), &live);
    let reasons = json!({"NoAddress": 1, "NoConsent": 1, "Suppressed": 1});
    assert_eq!(counts(&second), (1, 0, reasons), "{name}: {second}");
    assert_eq!(counterpart.shown().len(), 2, "{name}");

    // Another token is another device.
    let people = person(2, Some(&counterpart.alive("ef")), "Bo", "en", true);
    place.home.write("town/data/people.jsonl", &people);
    place.run(&live);
    let third = run_of(place, &format!("third-{at}"), &live);
    assert_eq!(counts(&third).0, 2, "{name}: {third}");
    let (new, shown) = (counterpart.alive("ef"), counterpart.shown());
    assert_eq!(shown.iter().filter(|(to, ..)| *to == new).count(), 1, "{name}: {shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_takes_a_push_as_a_file_and_all_that_is_said_of_it_beforehand_holds() {
    for place in Place::both().await {
        place.home.write("town/town.yaml", &MANIFEST.replace("{CHANNEL}", "{outbox: {}}"));
        let people = [
            person(1, Some(" token-1 "), "Ada", "it", true),
            person(2, Some(""), "Bo", "en", true),
            person(3, Some(&"x".repeat(4_097)), "Cy", "en", true),
            person(4, Some("token-4"), "Di", "en", false),
        ];
        place.home.write("town/data/people.jsonl", &people.concat());
        place.read();
        let planned = place.call(&["plan", "town", "-o", "json"]);
        let run = run_of(&place, "first", &[]);
        let reasons = json!({"MalformedAddress": 1, "NoAddress": 1, "NoConsent": 1});
        assert_eq!(counts(&run), (1, 0, reasons.clone()), "{run}");
        let plan: Value = serde_json::from_str(&planned.out).unwrap_or_else(|e| panic!("{e}: {planned:?}"));
        let messages = &plan["campaigns"][0]["steps"][1]["messages"];
        let said = messages["excluded"].as_array().unwrap().iter();
        let said: serde_json::Map<_, _> =
            said.map(|of| (of["reason"].as_str().unwrap().to_owned(), of["rows"]["now"]["exact"].clone())).collect();
        assert_eq!((&messages["sent"]["now"]["exact"], Value::from(said)), (&1.into(), reasons));

        let files = place.home.outbox();
        let [file] = files.as_slice() else { panic!("{files:?}") };
        let text = std::fs::read_to_string(file).unwrap();
        let expected = json!({
            "to": "token-1", "title": "Ciao Ada", "body": "Your parcel is at the door",
            "data": {"url": "https://example.com/1", "kind": "pacco"}, "collapse": "parcel-1", "urgency": "high",
        });
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
        let shown = place.call(&["render", "--run", "first", "1", "--step", "ping"]);
        assert_eq!((shown.code, shown.out.as_str()), (0, text.as_str()), "{shown:?}");
        let preview = place.call(&["render", "greet", "--as", "4", "town"]);
        for (id, said) in
            [("2", "person.token is missing"), ("3", "person.token is no token"), ("4", "opted out of news")]
        {
            let why = place.call(&["why", "greet", id, "town"]);
            assert!(why.out.contains(said), "{id}: {why:?} {preview:?}");
        }
        let held = place.run(&["--deliver", "redirect=me@example.com"]);
        assert_eq!(held.code, 0, "{held:?}");
        let redirected = run_of(&place, "second", &["--deliver", "redirect=me@example.com"]);
        assert_eq!(counts(&redirected).2["NotAllowed"], 1, "no address of a person's is a device: {redirected}");
        let proof = place.call(&["proof", "greet", "town", "--to", "push:mine", "--as", "1"]);
        let path = proof.out.trim().rsplit(": ").next().unwrap_or_default().to_owned();
        let proof_file: Value =
            serde_json::from_str(&place.home.read(&path)).unwrap_or_else(|e| panic!("{e}: {proof:?}"));
        assert_eq!((&proof_file["to"], &proof_file["title"]), (&"mine".into(), &"[proof] Ciao Ada".into()));
    }
}

#[test]
fn what_is_wrong_with_a_push_is_said_where_it_stands() {
    let home = crate::home::Home::new();
    home.write("town/data/people.jsonl", "");
    let fcm = "{push: {fcm: {secretRef: {name: pushes}}}}";
    for (from, to, said) in [
        (
            "{name: kind, value: parcel}",
            "{name: from, value: parcel}",
            "`from` is a name that a push service keeps for itself",
        ),
        ("[{name: kind, value: pacco}]", "[{name: kinds, value: pacco}]", "the template itself has no `data.kinds`"),
        ("{{ person.name }}\"\n    body", "{{ person.nam }}\"\n    body", "did you mean `name`?"),
        ("addresses: {push: token}", "addresses: {push: id}", "must lead to"),
        ("addresses: {push: token}", "addresses: {email: token}", "dataset `town` has no push address for the profile"),
        (
            fcm,
            "{email: {from: a@example.com, smtp: {host: mail.example.com}}}",
            "channel `out` is email.smtp, which carries no push",
        ),
        (fcm, "{push: {}}", "push is exactly one of webPush, fcm, apns"),
        (fcm, "{push: {fcm: {secretRef: {name: pushes}}}, outbox: {}}", "a channel is exactly one of email"),
        (fcm, "{push: {webPush: {subject: me, secretRef: {name: pushes}}}}", "subject"),
    ] {
        let manifest = MANIFEST.replace("{CHANNEL}", fcm);
        assert!(manifest.contains(from), "{from}");
        home.write("town/town.yaml", &manifest.replacen(from, to, 1));
        let checked = home.call(&["validate", "town"]);
        assert!(checked.code != 0 && format!("{}{}", checked.out, checked.err).contains(said), "{said}: {checked:?}");
    }
    home.write("town/town.yaml", &MANIFEST.replace("{CHANNEL}", fcm));
    let checked = home.call(&["validate", "town"]);
    assert_eq!(checked.code, 0, "{checked:?}");
}
