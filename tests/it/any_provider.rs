//! `http`: any provider by a declared request and rules over its answer, on the wire and through whole runs on both stores.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use campanile::{
    api::channel::HttpChannel,
    clock::Clock,
    files::{http::Permit, reach::Reach},
    send::channel::{
        Channel, Content, Delivery, Envelope, Permission, Record,
        exchange::{Exchange, Speaks},
        http::Http,
        posted::Posted,
    },
};
use serde_json::{Value, json};

use crate::{
    either::Place,
    home::{assert_conserved, copy, repository},
    world::{
        any_provider::{Provider, Reply},
        free_port,
    },
};

fn channel(url: &str, more: Value, reach: Reach) -> Posted<Http> {
    let mut spec = json!({
        "request": {"url": format!("{url}/v1/{{{{ values.case }}}}"), "json": r#"{"case": "{{ values.case }}", "key": "{{ key }}"}"#},
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let spec: HttpChannel = serde_json::from_value(spec).unwrap();
    let permit = Permit { reach: Arc::new(reach), namespace: "shop".to_owned(), authorization: None };
    let exchange = Exchange::new(permit, &[], Speaks::Either).unwrap();
    Posted::new(Http::new(&spec, Default::default(), exchange, Clock::system()).unwrap(), 4)
}

fn open(url: &str) -> Reach {
    Reach { urls: vec![url.parse().unwrap()], ..Reach::default() }
}

fn message(case: &str) -> Envelope {
    let content = Content::Record(Record { to: String::new(), values: vec![("case".to_owned(), case.to_owned())] });
    let (id, reference) = (format!("tell-0-{case}"), "1.0.0.mark.sign".to_owned());
    Envelope { id, reference, content, folder: PathBuf::from("shop/a/a-1"), permission: Permission::default() }
}

fn said(delivery: &Delivery) -> String {
    match delivery {
        Delivery::Sent { receipt } => format!("sent {receipt}"),
        Delivery::Refused { reason, .. } => format!("refused {reason:?}"),
        Delivery::Later { reason, after, .. } => format!("later {reason:?} {:?}", after.map(|a| a.as_secs())),
        Delivery::InDoubt { .. } => "in doubt".to_owned(),
        Delivery::Unsent => "unsent".to_owned(),
    }
}

/// The path says how a request is answered: `/v1/503` with that status, `/v1/cut` by hanging up.
async fn by_path() -> Provider {
    let provider = Provider::start(|asked| match asked.path.rsplit('/').next().unwrap_or_default() {
        "cut" => Reply::HangUp,
        "silent" => Reply::Nothing,
        "wait" => Reply::Answer(429, vec![("retry-after", "17".to_owned())], String::new()),
        "moved" => Reply::Answer(307, vec![("location", "http://127.0.0.1:1/".to_owned())], String::new()),
        "taken" => Reply::of(202, json!({"id": "m-1", "accepted": true})),
        "dead" => Reply::of(200, json!({"accepted": false, "code": "unknown-user"})),
        "odd" => Reply::of(200, "<html>"),
        status => Reply::of(status.parse().unwrap_or(404), ""),
    });
    provider.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_class_of_answer_has_its_outcome() {
    let provider = by_path().await;
    let plain = channel(&provider.url(), json!({"timeout": "700ms"}), open(&provider.url()));
    for (case, expected) in [
        ("200", "sent "),
        ("400", "refused DataRefused"),
        ("401", "later AuthFailed None"),
        ("404", "refused DataRefused"),
        ("408", "later Unavailable None"),
        ("425", "later Unavailable None"),
        ("wait", "later Throttled Some(17)"),
        ("500", "later Unavailable None"),
        ("502", "in doubt"),
        ("504", "in doubt"),
        ("moved", "later ProtocolError None"),
        ("cut", "in doubt"),
        ("silent", "in doubt"),
        ("odd", "sent "),
    ] {
        assert_eq!(said(&plain.deliver(message(case)).await), expected, "{case}");
    }
    let rules = json!({
        "timeout": "700ms",
        "idempotent": true,
        "answer": {
            "sent": "status == 202 && body.accepted",
            "unregistered": "body.code == \"unknown-user\"",
            "receipt": "body.id",
        },
    });
    let ruled = channel(&provider.url(), rules, open(&provider.url()));
    for (case, expected) in [
        ("taken", "sent m-1"),
        ("dead", "refused RecipientRefused"),
        ("odd", "refused ProtocolError"),
        ("cut", "later Timeout None"),
        ("silent", "later Timeout None"),
        ("504", "later Timeout None"),
    ] {
        assert_eq!(said(&ruled.deliver(message(case)).await), expected, "{case}");
    }
    let before = provider.asked().len();
    let stopped = Envelope { permission: Permission::new(|| false), ..message("200") };
    assert_eq!(said(&plain.deliver(stopped).await), "unsent");
    assert_eq!(provider.asked().len(), before, "a message that may not go does not");
    let asked = provider.asked();
    assert!(asked.iter().all(|asked| asked.method == "POST" && asked.headers["content-type"] == "application/json"));
    let keys = |case: &str| {
        let of_case = asked.iter().filter(|asked| asked.json()["case"] == case);
        of_case.map(|asked| asked.headers["idempotency-key"].clone()).collect::<Vec<_>>()
    };
    assert!(keys("cut").len() == 2 && keys("cut")[0] == keys("cut")[1] && keys("cut")[0] != keys("silent")[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_inside_is_not_reached() {
    let provider = by_path().await;
    let closed = channel(&provider.url(), json!({}), Reach::default());
    assert_eq!(said(&closed.deliver(message("200")).await), "later ConnectFailed None");
    assert!(provider.asked().is_empty());
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let lost = channel(&nobody, json!({"idempotent": true}), open(&nobody));
    assert_eq!(said(&lost.deliver(message("200")).await), "later ConnectFailed None");
}

/// The example with the provider of the test in the place of the placeholder.
fn example(place: &Place, url: &str, more: &[(&str, &str)]) {
    copy(&repository().join("examples/every-channel"), &place.home.path().join("town"));
    for entry in std::fs::read_dir(place.home.path().join("town")).unwrap() {
        let path = entry.unwrap().path();
        let is_needed = ["http.yaml", "people.yaml", "data"].iter().any(|name| path.ends_with(name));
        if !is_needed && path.is_file() {
            std::fs::remove_file(path).unwrap();
        }
    }
    let path = place.home.path().join("town/http.yaml");
    let mut text = std::fs::read_to_string(&path).unwrap();
    for (from, to) in [("https://desk.example.com", url)].iter().chain(more) {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    std::fs::write(path, text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_tells_a_real_server() {
    for place in Place::both().await {
        let first = Arc::new(AtomicUsize::new(0));
        let seen = first.clone();
        let provider = Provider::start(move |asked| {
            let name = asked.json()["guest"]["name"].as_str().unwrap_or_default().to_owned();
            match name.as_str() {
                _ if asked.headers.get("authorization").is_none_or(|a| a != "Bearer t0ken") => Reply::of(401, "{}"),
                // The first time it is not able to; told again, it takes the guest.
                "Ada" if seen.fetch_add(1, SeqCst) == 0 => {
                    Reply::Answer(503, vec![("retry-after", "0".to_owned())], String::new())
                }
                "Dara" => Reply::of(409, json!({"error": {"code": "unknown-event", "message": "no Dara today"}})),
                _ => Reply::of(201, json!({"guest": {"id": format!("g-{name}")}})),
            }
        })
        .await
        .unwrap();
        example(&place, &provider.url(), &[]);
        place.home.write(
            "town/secret.yaml",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: desk}\nstringData: {token: t0ken}\n",
        );
        let ran = place.run(&["--deliver", "live", "--allow-url", &provider.url()]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let run = place.get("campaignrun", "guest-list-immediate");
        assert_conserved(&run);
        let step = &run["status"]["channels"][0];
        assert_eq!((&step["sent"], &step["failed"]), (&5.into(), &1.into()), "{step}");
        assert_eq!(step["reasons"], json!({"DataRefused": 1}), "{step}");
        let asked = provider.asked();
        assert_eq!(asked.len(), 7, "Ada twice");
        let ada: Vec<_> = asked.iter().filter(|asked| asked.json()["guest"]["name"] == "Ada").collect();
        assert_eq!(ada[0].headers["idempotency-key"], ada[1].headers["idempotency-key"]);
        assert!(ada[0].json()["reference"].as_str().is_some_and(|reference| reference.len() > 8), "{ada:?}");
        assert!(asked.iter().any(|asked| asked.json()["guest"]["name"] == "Çiçek"), "{asked:?}");
        let receipts = place.ask("SELECT detail FROM outcome WHERE outcome = 'Sent' ORDER BY detail").await;
        assert!(receipts.contains(&"g-Ada".to_owned()), "{receipts:?}");
        let details = place.ask("SELECT detail FROM outcome WHERE outcome = 'Failed'").await;
        assert_eq!(details, ["409 unknown-event"]);
        assert_eq!(place.run(&["--deliver", "live", "--allow-url", &provider.url()]).code, 0);
        assert_eq!(provider.asked().len(), 7, "nothing goes out twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doubt_is_held_or_told_again_under_its_key() {
    for (place, is_idempotent) in Place::both()
        .await
        .into_iter()
        .flat_map(|place| [(place, false)])
        .chain(Place::both().await.into_iter().map(|place| (place, true)))
    {
        let told = Arc::new(AtomicUsize::new(0));
        let seen = told.clone();
        let provider = Provider::start(move |asked| match asked.json()["guest"]["name"].as_str() {
            Some("Ada") if seen.fetch_add(1, SeqCst) == 0 => Reply::HangUp,
            _ => Reply::of(201, "{}"),
        });
        let provider = provider.await.unwrap();
        let word = format!("idempotent: {is_idempotent}");
        example(&place, &provider.url(), &[("idempotent: true", &word)]);
        place.home.write(
            "town/secret.yaml",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: desk}\nstringData: {token: t0ken}\n",
        );
        let args = ["--deliver", "live", "--allow-url", &provider.url()];
        place.run(&args);
        if is_idempotent {
            // Its turn comes in half a minute.
            let later = Clock::system().now() + jiff::SignedDuration::from_secs(60);
            place.run(&[&args[..], &["--now", &later.to_string()]].concat());
        }
        let step = place.get("campaignrun", "guest-list-immediate")["status"]["channels"][0].clone();
        let expected: (Value, Value) = if is_idempotent { (6.into(), 0.into()) } else { (5.into(), 1.into()) };
        assert_eq!((step["sent"].clone(), step["inDoubt"].clone()), expected, "{step}");
        let asked = provider.asked();
        let ada: Vec<_> = asked.iter().filter(|asked| asked.json()["guest"]["name"] == "Ada").collect();
        let keys: Vec<_> = ada.iter().map(|asked| asked.headers["idempotency-key"].as_str()).collect();
        assert_eq!(keys.len(), if is_idempotent { 2 } else { 1 });
        assert!(keys.iter().all(|key| *key == keys[0]));
    }
}

/// A gateway for texts, which no provider of its own is written for.
const GATEWAY: &str = r#"apiVersion: campanile.dev/v1alpha1
kind: Dataset
metadata: {name: town}
spec:
  entities:
  - name: person
    key: [id]
    fields: [{name: id, type: Integer}, {name: phone, type: String}, {name: name, type: String}]
    source: {files: {url: data, format: CSV}}
  profile: {entity: person, addresses: {sms: phone}}
  topics: [{name: service, category: Transactional}]
---
apiVersion: campanile.dev/v1alpha1
kind: Channel
metadata: {name: gateway}
spec:
  http:
    carries: Sms
    request:
      url: "URL/send?to={{ to }}"
      form: [{name: message, value: "{{ values.text }}"}]
    answer: {sent: 'text.startsWith("OK")', unregistered: 'text.startsWith("ERR 21")', receipt: text}
---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {name: hello}
spec: {sms: {text: "Hi {{ person.name }} & co"}}
---
apiVersion: campanile.dev/v1alpha1
kind: Campaign
metadata: {name: greet}
spec:
  dataset: town
  topic: service
  schedule: {immediate: {notAfter: 2099-01-01T00:00:00Z}}
  steps:
  - {name: all, audience: {entity: person, where: "true"}}
  - {name: text, sms: {channel: gateway, template: hello}}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn texts_go_over_a_gateway_and_only_where_the_gate_lets_them() {
    for place in Place::both().await {
        let provider = Provider::start(|asked| match asked.path.as_str() {
            "/send?to=%2B393331234568" => Reply::of(200, "ERR 21 no such number"),
            _ => Reply::of(200, "OK 17"),
        });
        let provider = provider.await.unwrap();
        place.home.write("town/town.yaml", &GATEWAY.replace("URL", &provider.url()));
        place.home.write(
            "town/data/people.csv",
            "id,phone,name\n1,+393331234567,Ada\n2,+393331234568,Bo\n3,+393331234569,Cy\n",
        );
        let url = provider.url();
        let args = ["--deliver", "allowlist=+393331234567,+393331234568", "--allow-url", &url];
        let ran = place.run(&args);
        assert_eq!(ran.code, 0, "{ran:?}");
        let step = place.get("campaignrun", "greet-immediate")["status"]["channels"][0].clone();
        assert_eq!(step["reasons"], json!({"NotAllowed": 1, "Unregistered": 1}), "{step}");
        let asked = provider.asked();
        assert_eq!(asked.len(), 2, "{asked:?}");
        let ada = asked.iter().find(|asked| asked.path == "/send?to=%2B393331234567").unwrap();
        assert_eq!(ada.body, "message=Hi+Ada+%26+co");
    }
}

#[test]
fn what_is_wrong_is_found_before_anything_is_sent() {
    let home = crate::home::Home::new();
    copy(&repository().join("examples/every-channel"), &home.path().join("town"));
    let path = home.path().join("town/http.yaml");
    let right = std::fs::read_to_string(&path).unwrap();
    for (from, to, said) in [
        ("{{ values.name }}", "{{ values.nam }}", "template `guest` has no value `nam`"),
        ("{{ secret.token }}", "{{ secrets.token }}", "did you mean `secret`?"),
        ("body.guest.id", "boddy.guest.id", "did you mean `body`?"),
        ("{{ values.name }}", "{{ values.name", "unexpected"),
    ] {
        assert!(right.contains(from), "{from}");
        std::fs::write(&path, right.replacen(from, to, 1)).unwrap();
        let checked = home.call(&["validate", "town"]);
        let shown = format!("{}{}", checked.out, checked.err);
        assert!(checked.code != 0 && shown.contains(said) && shown.contains("http.yaml"), "{said}: {shown}");
    }
}
