//! `campanile person KEY`: all that is kept of one person, on both stores, and nothing of it in clear where it leaves the
//! terminal.

use campanile::store::{
    Sql, Store,
    event::{Event, EventType, MessageKey},
    ledger::Part,
    suppression::{Cause, Suppressed},
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    consent_elsewhere::{http, listening},
    consent_over_time::{link, sent_at, with_links},
    either::Place,
};

const HEAD: &str = "id,email,name,news,news_at,updated_at\n";

pub async fn store_of(place: &Place) -> Store {
    let sqlite = format!("sqlite://{}", place.home.path().join(".campanile/store.db").display());
    Store::open(place.url.as_deref().unwrap_or(&sqlite)).await.unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Records what came back about the newest message of a person.
pub async fn record(store: &Store, profile: &str, ty: EventType, time: &str, (url, is_machine): (Option<&str>, bool)) {
    let sql = "SELECT run_day, run_no, step_no, shard, seq FROM ledger WHERE profile = $1 ORDER BY run_no DESC LIMIT 1";
    let row = store.fetch_one(Sql::new(sql).bind(profile)).await.unwrap().unwrap();
    let n = |index: usize| row.get::<i64>(index).unwrap();
    let part = Part { run_day: n(0), run_no: n(1), step_no: n(2), shard: n(3) };
    let event = Event {
        message: MessageKey { part, seq: n(4) },
        id: format!("{ty:?} {time}"),
        ty,
        at: at(time),
        reason: None,
        url: url.map(str::to_owned),
        is_machine,
    };
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.record_events(&[event]).await.unwrap(), [true]);
    tx.commit().await.unwrap();
}

fn person(place: &Place, args: &[&str]) -> Value {
    let ran = place.call(&[&["person"], args, &["-o", "json"]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    serde_json::from_str(&ran.out).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_told_whole_and_masked() {
    for place in Place::both().await {
        with_links(&place, "");
        let row = |id: i64, name: &str| {
            format!("{id},{name}@example.com,{name},t,2026-02-01T00:00:00Z,2026-02-01T00:00:00Z\n")
        };
        place.home.write("town/data/1.csv", &format!("{HEAD}{}{}", row(1, "Zita"), row(2, "Bob")));
        place.read();
        assert_eq!(sent_at(&place, "first", "2026-03-01T09:00:00Z"), (2, 0));
        let store = store_of(&place).await;
        record(&store, "1", EventType::Delivered, "2026-03-01T09:00:10Z", (None, false)).await;
        record(&store, "1", EventType::Opened, "2026-03-01T09:01:00Z", (None, true)).await;
        record(&store, "1", EventType::Clicked, "2026-03-01T09:02:00Z", (Some("https://shop.example/zita"), false))
            .await;
        let hash = store.address_key().await.unwrap().of_address("Zita@example.com");
        let since = at("2026-03-01T10:00:00Z");
        let held = |cause, until| Suppressed {
            namespace: "default".to_owned(),
            medium: "email".to_owned(),
            hash: hash.clone(),
            cause,
            since,
            until,
        };
        store.suppress(&[held(Cause::SoftBounces, Some(at("2026-03-01T11:00:00Z")))]).await.unwrap();
        store.close().await;
        let (running, port) = listening(&place, "log", &["--now", "2026-03-01T12:00:00Z"]).await;
        assert_eq!(
            http(port, "POST", &link(&place, "Zita@example.com", 'u'), &[], "List-Unsubscribe=One-Click").0,
            200
        );
        drop(running);
        assert_eq!(sent_at(&place, "second", "2026-03-02T09:00:00Z"), (1, 1));

        let told = person(&place, &["1"]);
        assert_eq!((&told["key"], &told["isThere"], &told["entity"]), (&json!("•••"), &json!(true), &json!("person")));
        let field = |name: &str| {
            let fields = told["fields"].as_array().unwrap();
            fields.iter().find(|field| field["name"] == name).unwrap()["value"].clone()
        };
        assert_eq!((field("name"), field("email"), field("news")), (json!("•••"), json!("•••"), json!(true)));
        let address = &told["addresses"][0];
        assert_eq!((&address["medium"], &address["address"]), (&json!("email"), &json!("•••")), "{told}");
        let held = &address["suppressions"][0];
        assert_eq!((&held["cause"], &held["isOver"]), (&json!("SoftBounces"), &json!(true)), "{told}");
        assert_eq!(address["withdrawn"][0]["source"], "unsubscribe", "{told}");
        let consent = told["consent"].as_array().unwrap();
        let said: Vec<String> = consent.iter().map(|c| format!("{} {}", c["state"], c["source"])).collect();
        assert_eq!(consent.len(), 2, "{told}");
        assert!(said[0].contains("Withdrawn") && said[0].contains("unsubscribe"), "{said:?}");
        assert!(said[1].contains("Granted") && said[1].contains("file:"), "{said:?}");
        let messages = told["messages"].as_array().unwrap();
        assert_eq!(messages.len(), 2, "{told}");
        let (newest, first) = (&messages[0], &messages[1]);
        assert_eq!(
            (&newest["run"], &newest["outcome"], &newest["reason"]),
            (&json!("second"), &json!("Excluded"), &json!("NoConsent"))
        );
        assert_eq!(
            (&first["run"], &first["outcome"], &first["item"]),
            (&json!("first"), &json!("Sent"), &json!("•••"))
        );
        assert_eq!(first["attempts"].as_array().unwrap().len(), 1, "{told}");
        let events: Vec<(&str, bool)> = first["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| (event["type"].as_str().unwrap(), event["machine"].as_bool().unwrap()))
            .collect();
        assert_eq!(events, [("Delivered", false), ("Opened", true), ("Clicked", false)]);
        assert_eq!(first["events"][2]["url"], "•••", "a link may say whose it is");

        let newest = person(&place, &["person=1", "--messages", "1"]);
        assert_eq!((newest["messages"].as_array().unwrap().len(), &newest["hasMoreMessages"]), (1, &json!(true)));
        let text = place.call(&["person", "1"]);
        assert_eq!(text.code, 0, "{text:?}");
        for part in ["news by email: Withdrawn (unsubscribe)", "run first", "Opened, by a machine", "NoConsent"] {
            assert!(text.out.contains(part), "{part}: {}", text.out);
        }
        for told in [told.to_string(), text.out] {
            assert!(!told.to_lowercase().contains("zita") && !told.contains('@'), "{told}");
        }
        let other = person(&place, &["2"]);
        assert_eq!(other["messages"].as_array().unwrap().len(), 2, "{other}");
        assert_eq!(other["addresses"][0]["suppressions"], json!([]), "{other}");
        // Nobody is known under that key; what is no key is said, but not which.
        assert_eq!(place.call(&["person", "77"]).code, 1);
        let wrong = place.call(&["person", "secret"]);
        assert!(
            wrong.code == 2 && wrong.err.contains("no key of person") && !wrong.err.contains("secret"),
            "{wrong:?}"
        );
        let revealed = place.call(&["person", "1", "--reveal"]);
        assert!(revealed.code == 2 && revealed.err.contains("only on a terminal"), "{revealed:?}");
    }
}

const CLUB: &str = "---
apiVersion: campanile.dev/v1alpha1
kind: Dataset
metadata: {name: club}
spec:
  entities:
  - name: member
    key: [house, place]
    fields:
    - {name: house, type: String, reveal: true}
    - {name: place, type: Integer, reveal: true}
    - {name: phone, type: String}
    source: {files: {url: members, format: CSV}}
  profile: {entity: member, addresses: {sms: phone}}
  topics:
  - {name: service, category: Transactional}
---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {name: text}
spec: {sms: {text: \"Hello {{ member.house }}\"}}
---
apiVersion: campanile.dev/v1alpha1
kind: Campaign
metadata: {name: text-all}
spec:
  dataset: club
  topic: service
  steps:
  - name: all
    audience: {entity: member, where: 'true'}
  - name: text
    sms: {channel: out, template: text}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_several_fields_names_one_member_of_one_dataset() {
    for place in Place::both().await {
        let town = crate::home::people_manifests("", "true");
        place.home.write("town/town.yaml", &format!("{town}{CLUB}"));
        place.home.write("town/data/1.csv", &crate::home::people(1));
        place.home.write("town/members/1.csv", "house,place,phone\n\"north, 2\",7,+39 333 1234567\nsouth,7,\n");
        place.read();
        assert_eq!(place.call(&["trigger", "text-all", "--name", "once"]).code, 0);
        place.read();
        let several = place.call(&["person", "1"]);
        assert!(several.code == 2 && several.err.contains("--dataset, one of club, town"), "{several:?}");
        let member = person(&place, &["[\"north, 2\",7]", "--dataset", "club"]);
        assert_eq!(member["key"], "[\"north, 2\",7]", "{member}");
        assert_eq!(member["messages"][0]["outcome"], "Sent", "{member}");
        assert_eq!(member["addresses"][0]["medium"], "sms", "{member}");
        let other = person(&place, &["south, 7", "--dataset", "club"]);
        assert_eq!(other["messages"][0]["reason"], "NoAddress", "{other}");
        assert_eq!(other["addresses"], json!([]), "{other}");
    }
}
