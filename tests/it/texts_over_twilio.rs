//! Texts over Twilio: each of its errors has its outcome, and a whole run, on both stores, takes what comes back.

use std::{path::PathBuf, sync::Arc, time::Duration};

use campanile::{
    clock::Clock,
    files::{http::Permit, reach::Reach},
    send::channel::{
        Channel, Content, Delivery, Envelope, Permission, Text,
        exchange::{Exchange, Speaks},
        posted::Posted,
        twilio::{self, Callback, Sender, Settings},
    },
};

use crate::{
    either::Place,
    home::{PATIENCE, Running, assert_conserved},
    world::{
        free_port,
        twilio::{ACCOUNT, API_KEY, TOKEN, Twilio},
        until_true,
    },
};

const NUMBER: &str = "+393331234567";

fn settings(twilio: &Twilio) -> Settings {
    Settings {
        account: ACCOUNT.to_owned(),
        login: (ACCOUNT.to_owned(), TOKEN.to_owned()),
        sender: Sender::From("Shop".to_owned()),
        endpoint: twilio.url().parse().unwrap(),
        callback: None,
        clock: Clock::system(),
    }
}

fn channel(settings: Settings) -> Posted<twilio::Twilio> {
    let urls = vec![settings.endpoint.as_str().parse().unwrap()];
    let reach = Arc::new(Reach { urls, ..Reach::default() });
    let permit = Permit { reach, namespace: "shop".to_owned(), authorization: None };
    let exchange = Exchange::new(permit, &[], Speaks::Either).unwrap().waiting(Duration::from_millis(700));
    Posted::new(twilio::Twilio::new(settings, exchange), 8)
}

fn text(to: &str, text: &str) -> Envelope {
    let content = Content::Text(Text { from: None, to: to.to_owned(), text: text.to_owned() });
    let (id, reference) = ("text-0-1".to_owned(), "1.0.0.mark.sign".to_owned());
    Envelope { id, reference, content, folder: PathBuf::new(), permission: Permission::default() }
}

/// What became of a message, in a word or two, and when it may go again.
fn said(delivery: &Delivery) -> (String, Option<i64>) {
    match delivery {
        Delivery::Sent { .. } => ("sent".to_owned(), None),
        Delivery::Refused { reason, .. } => (format!("refused {reason:?}"), None),
        Delivery::Later { reason, after, .. } => (format!("later {reason:?}"), after.map(|a| a.as_secs())),
        Delivery::InDoubt { .. } => ("in doubt".to_owned(), None),
        Delivery::Unsent => ("unsent".to_owned(), None),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_error_has_its_outcome() {
    let fake = Twilio::start().await.unwrap();
    let channel = channel(settings(&fake));
    let by_code = [
        (21211, "refused Unregistered"),
        (21217, "refused Unregistered"),
        (21614, "refused Unregistered"),
        (21635, "refused Unregistered"),
        (21610, "refused OptedOut"),
        (21265, "refused RecipientRefused"),
        (21266, "refused RecipientRefused"),
        (21268, "refused RecipientRefused"),
        (21608, "refused RecipientRefused"),
        (21612, "refused RecipientRefused"),
        (21212, "later SenderRefused"),
        (21408, "later SenderRefused"),
        (21606, "later SenderRefused"),
        (21659, "later SenderRefused"),
        (21703, "later SenderRefused"),
        (10001, "later AuthFailed"),
        (20003, "later AuthFailed"),
        (20005, "later AuthFailed"),
        (20404, "later AuthFailed"),
        (14107, "later Throttled"),
        (20429, "later Throttled"),
        (21611, "later Throttled"),
        (30022, "later Throttled"),
        (20503, "later Unavailable"),
        (20500, "in doubt"),
        (99999, "refused DataRefused"),
    ];
    for (code, word) in by_code {
        let to = format!("+1999{code}01");
        let delivery = channel.deliver(text(&to, "Hello")).await;
        assert_eq!(said(&delivery), (word.to_owned(), None), "{code}: {delivery:?}");
        let shown = format!("{delivery:?}");
        assert!(shown.contains(&code.to_string()) && !shown.contains(&to[1..]), "the code and nobody: {shown}");
    }
    for (to, expected) in [
        ("+199920429030", ("later Throttled", Some(30))),
        ("+199963038001", ("later Throttled", Some(3_600))),
        ("+199930023001", ("later Throttled", Some(3_600))),
        ("+15005550001", ("refused Unregistered", None)),
        ("+15005550002", ("refused RecipientRefused", None)),
        ("+15005550003", ("later SenderRefused", None)),
        ("+15005550004", ("refused OptedOut", None)),
        ("+15005550009", ("refused Unregistered", None)),
        ("+199800000001", ("in doubt", None)),
        ("nobody", ("refused Unregistered", None)),
    ] {
        let delivery = channel.deliver(text(to, "Hello")).await;
        assert_eq!(said(&delivery), (expected.0.to_owned(), expected.1), "{to}: {delivery:?}");
    }
    assert_eq!(said(&channel.deliver(text(NUMBER, "")).await).0, "refused DataRefused", "there is nothing to say");
    assert_eq!(said(&channel.deliver(text(NUMBER, &"é".repeat(1_601))).await).0, "refused DataRefused");
    let stopped = Envelope { permission: Permission::new(|| false), ..text(NUMBER, "Hello") };
    assert_eq!(said(&channel.deliver(stopped).await).0, "unsent");
    assert!(fake.taken().is_empty());
    assert_eq!(said(&channel.deliver(text(NUMBER, &"é".repeat(1_600))).await).0, "sent", "the longest");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_says_who_sends_and_where_to_tell_of_it() {
    let fake = Twilio::start().await.unwrap();
    let callback = Callback {
        public_url: "https://mail.example.com/".to_owned(),
        namespace: "shop".to_owned(),
        channel: "texts".to_owned(),
    };
    let first = Settings { callback: Some(callback), ..settings(&fake) };
    let Delivery::Sent { receipt } = channel(first).deliver(text(NUMBER, "Gate B22 + 5 € — à bientôt & 👋")).await
    else {
        panic!("not sent")
    };
    let second = Settings {
        login: (API_KEY.0.to_owned(), API_KEY.1.to_owned()),
        sender: Sender::Service("MG0123456789abcdef0123456789abcdef".to_owned()),
        ..settings(&fake)
    };
    assert_eq!(said(&channel(second).deliver(text(NUMBER, "again")).await).0, "sent");
    let taken = fake.taken();
    assert_eq!(taken[0]["Sid"], receipt);
    assert_eq!(taken[0]["Body"], "Gate B22 + 5 € — à bientôt & 👋");
    assert_eq!((taken[0]["From"].as_str(), taken[0]["To"].as_str()), ("Shop", NUMBER));
    assert_eq!(taken[0]["StatusCallback"], "https://mail.example.com/twilio/shop/texts/status?m=1.0.0.mark.sign");
    assert_eq!(taken[1]["MessagingServiceSid"], "MG0123456789abcdef0123456789abcdef");
    assert!(!taken[1].contains_key("From") && !taken[1].contains_key("StatusCallback"));
    let wrong = Settings { login: (ACCOUNT.to_owned(), "other".to_owned()), ..settings(&fake) };
    let delivery = channel(wrong).deliver(text(NUMBER, "x")).await;
    assert_eq!(said(&delivery).0, "later AuthFailed");
    let elsewhere = Settings { account: ACCOUNT.replace('0', "1"), ..settings(&fake) };
    assert_eq!(said(&channel(elsewhere).deliver(text(NUMBER, "x")).await).0, "later AuthFailed");
    let endpoint = format!("http://127.0.0.1:{}/", free_port()).parse().unwrap();
    let nobody = Settings { endpoint, ..settings(&fake) };
    assert_eq!(said(&channel(nobody).deliver(text(NUMBER, "x")).await).0, "later ConnectFailed", "nobody is there");
}

fn manifests(twilio: &Twilio, listens: u16) -> String {
    format!(
        r#"apiVersion: campanile.dev/v1alpha1
kind: Dataset
metadata: {{name: town}}
spec:
  entities:
  - name: person
    key: [id]
    fields:
    - {{name: id, type: Integer, reveal: true}}
    - {{name: phone, type: String}}
    - {{name: name, type: String}}
    - {{name: texts, type: Boolean}}
    source: {{files: {{url: data, format: CSV}}}}
  profile: {{entity: person, addresses: {{sms: phone}}}}
  topics:
  - {{name: news, category: Marketing, consent: {{sms: {{field: texts}}}}}}
---
apiVersion: campanile.dev/v1alpha1
kind: Channel
metadata: {{name: texts}}
spec:
  sms: {{twilio: {{accountSid: {ACCOUNT}, from: "+12025550123", secretRef: {{name: twilio}}, endpoint: "{}"}}}}
  publicUrl: http://127.0.0.1:{listens}
  callbacks: {{twilio: {{secretRef: {{name: twilio}}}}}}
---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {{name: hello}}
spec: {{sms: {{text: "Hi {{{{ person.name }}}}, 5 € off"}}}}
---
apiVersion: campanile.dev/v1alpha1
kind: Campaign
metadata: {{name: greet}}
spec:
  dataset: town
  topic: news
  steps:
  - {{name: all, audience: {{entity: person, where: "true"}}}}
  - {{name: text, sms: {{channel: texts, template: hello, once: {{ever: false}}}}}}
"#,
        twilio.url()
    )
}

const PEOPLE: &str = "id,phone,name,texts
1,+39 333 1234567,Ada,t
2,+447946000001,Bo,t
3,+15005550009,Cy,t
4,+15005550004,Di,t
5,+199920429030,Ed,t
6,+199920500001,Flo,t
7,+15551234567,Gus,f
";

fn live(place: &Place, twilio: &Twilio, args: &[&str]) -> std::process::Command {
    let url = twilio.url();
    let store = place.url.iter().flat_map(|url| ["--store", url]);
    let more = ["--deliver", "live", "--allow-url", &url];
    let args: Vec<&str> = args.iter().copied().chain(more).chain(store).collect();
    let mut command = place.home.command(&args);
    command.env("CAMPANILE_SECRET_TWILIO_AUTH_TOKEN", TOKEN);
    command
}

fn trigger(place: &Place, name: &str) {
    assert_eq!(place.call(&["trigger", "greet", "--name", name]).code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_sends_and_what_comes_back_is_recorded() {
    for place in Place::both().await {
        let fake = Twilio::start().await.unwrap();
        let listens = free_port();
        place.home.write("town/town.yaml", &manifests(&fake, listens));
        place.home.write("town/data/people.csv", PEOPLE);
        place.read();
        trigger(&place, "first");
        let ran = live(&place, &fake, &["run", "town", "--until-idle"]).output().unwrap();
        assert_eq!(ran.status.code(), Some(1), "one waits, one is in doubt: {}", String::from_utf8_lossy(&ran.stderr));
        let run = place.get("campaignrun", "first");
        assert_conserved(&run);
        let step = &run["status"]["channels"][0];
        let count = |name: &str| step[name].as_i64().unwrap();
        assert_eq!(["sent", "failed", "inDoubt", "waiting", "excluded"].map(count), [2, 2, 1, 1, 1], "{run}");
        let taken = fake.taken();
        let ada = taken.iter().find(|message| message["To"] == NUMBER).unwrap();
        assert_eq!(ada["Body"], "Hi Ada, 5 € off");

        // What becomes of them is told, signed, to whoever listens.
        let log = std::fs::File::create(place.home.path().join("log")).unwrap();
        let address = format!("127.0.0.1:{listens}");
        let mut command = place.home.command(&["inbound", "--listen", &address]);
        command.args(place.url.iter().flat_map(|url| ["--store", url]));
        command.env("CAMPANILE_SECRET_TWILIO_AUTH_TOKEN", TOKEN);
        let running = Running { child: command.stdout(std::process::Stdio::null()).stderr(log).spawn().unwrap() };
        until_true("the listener", PATIENCE, || place.home.read("log").contains("listening on")).await.unwrap();
        for (to, status, code) in [
            (NUMBER, "sent", ""),
            (NUMBER, "delivered", ""),
            (NUMBER, "delivered", ""),
            ("+447946000001", "undelivered", "30005"),
        ] {
            assert_eq!(fake.tell(to, status, code).unwrap(), 204, "{to} {status}");
        }
        drop(running);
        let events = "SELECT type || ' ' || coalesce(reason, '') FROM message_event ORDER BY 1";
        assert_eq!(place.ask(events).await, ["Bounced UnknownMailbox", "Delivered "]);
        assert!(place.ask("SELECT medium || reason FROM suppression").await.contains(&"smsHardBounce".to_owned()));

        // Who opted out at Twilio has withdrawn from this sender, under her key and under her number.
        let withdrawn =
            place.ask("SELECT profile || ' ' || channel || ' ' || state || ' ' || source FROM consent").await;
        assert!(withdrawn.contains(&"4 sms:texts Withdrawn sms.twilio".to_owned()), "{withdrawn:?}");
        assert_eq!(place.ask("SELECT channel FROM opt_out").await, ["sms:texts"]);

        // The next run knows it.
        trigger(&place, "second");
        live(&place, &fake, &["run", "town", "--until-idle"]).output().unwrap();
        let run = place.get("campaignrun", "second");
        let reasons = &run["status"]["channels"][0]["reasons"];
        // Bo's number has bounced, Di has opted out, and Gus never agreed.
        assert_eq!(reasons["NoConsent"], 2, "{run}");
        assert!(reasons["Suppressed"].as_i64() >= Some(1), "{run}");
        assert!(!fake.taken()[2..].iter().any(|message| message["To"] != NUMBER), "only Ada gets it again");
    }
}
