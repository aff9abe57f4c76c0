//! Texts over a real SMPP server: each status has its outcome, segments arrive as one text, lost connections leave doubt
//! where there is some, and a whole run, on both stores, takes receipts and a `STOP`.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use campanile::send::channel::{
    Channel, Content, Delivery, Envelope, Permission, Text,
    smpp::{Receipt, Settings, Smpp, Timeouts, Told},
};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{
    either::Place,
    home::{PATIENCE, Running, assert_conserved},
    world::{
        free_port,
        smpp::{Centre, PASSWORD, SYSTEM_ID},
        until_true,
    },
};

const NUMBER: &str = "+393331234567";

fn settings(centre: &Centre) -> Settings {
    Settings {
        host: "127.0.0.1".to_owned(),
        port: centre.port,
        is_encrypted: false,
        system_id: SYSTEM_ID.to_owned(),
        password: PASSWORD.to_owned(),
        system_type: String::new(),
        from: "Shop".to_owned(),
        connections: 1,
        depth: 8,
        timeouts: Timeouts {
            open: Duration::from_secs(5),
            answer: Duration::from_secs(3),
            enquire: Duration::from_secs(30),
        },
        roots: vec![],
    }
}

fn text(to: &str, text: &str) -> Envelope {
    let content = Content::Text(Text { from: None, to: to.to_owned(), text: text.to_owned() });
    let (id, reference) = (format!("text-0-{to}"), String::new());
    Envelope { id, reference, content, folder: PathBuf::new(), permission: Permission::default() }
}

fn said(delivery: &Delivery) -> String {
    match delivery {
        Delivery::Sent { .. } => "sent".to_owned(),
        Delivery::Refused { reason, .. } => format!("refused {reason:?}"),
        Delivery::Later { reason, .. } => format!("later {reason:?}"),
        Delivery::InDoubt { .. } => "in doubt".to_owned(),
        Delivery::Unsent => "unsent".to_owned(),
    }
}

/// Passes on what a centre tells.
struct Heard(UnboundedSender<String>);

#[async_trait]
impl Told for Heard {
    async fn receipt(&self, receipt: Receipt) -> Result<(), String> {
        let number = if receipt.is_number_unknown { " of nobody" } else { "" };
        self.0.send(format!("{} {:?}{number}", receipt.id, receipt.state)).map_err(|e| e.to_string())
    }

    async fn text(&self, from: &str, text: &str) -> Result<(), String> {
        self.0.send(format!("{from}: {text}")).map_err(|e| e.to_string())
    }
}

fn heard() -> (Arc<dyn Told>, UnboundedReceiver<String>) {
    let (tell, told) = unbounded_channel();
    (Arc::new(Heard(tell)), told)
}

async fn next(told: &mut UnboundedReceiver<String>) -> String {
    tokio::time::timeout(PATIENCE, told.recv()).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_status_has_its_outcome() {
    let centre = Centre::start().await.unwrap();
    let channel = Smpp::new(settings(&centre), None);
    for (status, expected) in [
        (0x58, "later Throttled"),
        (0x14, "later Throttled"),
        (0x0b, "refused RecipientRefused"),
        (0x50, "refused RecipientRefused"),
        (0x51, "refused RecipientRefused"),
        (0x0a, "later SenderRefused"),
        (0x48, "later SenderRefused"),
        (0x49, "later SenderRefused"),
        (0x100, "later SenderRefused"),
        (0x101, "later SenderRefused"),
        (0x103, "later SenderRefused"),
        (0x08, "later Unavailable"),
        (0x45, "later Unavailable"),
        (0x64, "later Unavailable"),
        (0x102, "later Unavailable"),
        (0xff, "later Unavailable"),
        (0x04, "later ConnectFailed"),
        (0x01, "refused DataRefused"),
        (0x43, "refused DataRefused"),
        (0x65, "refused DataRefused"),
        (0x66, "refused DataRefused"),
        (0x104, "refused DataRefused"),
        (0x421, "refused DataRefused"),
    ] {
        let to = format!("+1999{status:05}");
        let delivery = channel.deliver(text(&to, "Hello")).await;
        assert_eq!(said(&delivery), expected, "{status:#x}: {delivery:?}");
        let shown = format!("{delivery:?}");
        assert!(shown.contains(&format!("0x{status:08x}")) && !shown.contains(&to[1..]), "the status, nobody: {shown}");
    }
    assert_eq!(centre.state()["binds"], 1, "all over one connection");
    let stopped = Envelope { permission: Permission::new(|| false), ..text(NUMBER, "Hello") };
    assert_eq!(said(&channel.deliver(stopped).await), "unsent");
    assert_eq!(said(&channel.deliver(text(NUMBER, &"ç".repeat(67 * 256))).await), "refused DataRefused");
    let quick = Timeouts { answer: Duration::from_millis(400), ..settings(&centre).timeouts };
    let impatient = Smpp::new(Settings { timeouts: quick, ..settings(&centre) }, None);
    assert_eq!(said(&impatient.deliver(text("+19980000001", "Hello")).await), "in doubt", "no answer");
    assert!(centre.messages().is_empty());
    let Delivery::Sent { receipt } = channel.deliver(text(NUMBER, "Hello")).await else { panic!("not sent") };
    assert_eq!(receipt, "00007F00");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_in_doubt_when_the_connection_is_lost_and_the_next_one_is_bound_anew() {
    let centre = Centre::start().await.unwrap();
    let channel = Smpp::new(settings(&centre), None);
    let delivery = channel.deliver(text("+19970000001", "Hello")).await;
    assert_eq!(said(&delivery), "in doubt", "{delivery:?}");
    assert_eq!(said(&channel.deliver(text(NUMBER, "Hello")).await), "sent");
    assert_eq!(centre.state()["binds"], 2);
    centre.make("drop");
    until_true("the end", PATIENCE, || centre.state()["bound"] == 0).await.unwrap();
    let delivery = channel.deliver(text(NUMBER, "Hello")).await;
    assert!(["sent", "later ConnectFailed"].contains(&said(&delivery).as_str()), "nothing was at stake: {delivery:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_not_taken_and_a_centre_that_is_not_there_are_nobodys_fault() {
    let centre = Centre::with(0, None).await.unwrap();
    for (wrong, expected) in [
        (Settings { password: "other".to_owned(), ..settings(&centre) }, "later AuthFailed"),
        (Settings { system_id: "nobody".to_owned(), ..settings(&centre) }, "later AuthFailed"),
        (Settings { password: "too long for it".to_owned(), ..settings(&centre) }, "later AuthFailed"),
        (settings(&centre), "later ConnectFailed"),
        (Settings { port: free_port(), ..settings(&centre) }, "later ConnectFailed"),
        (Settings { is_encrypted: true, ..settings(&centre) }, "later TlsFailed"),
    ] {
        let timeouts = Timeouts { open: Duration::from_secs(2), ..wrong.timeouts };
        let shown = format!("{wrong:?}");
        assert!(!shown.contains("password") && !shown.contains(PASSWORD), "{shown}");
        let channel = Smpp::new(Settings { timeouts, ..wrong }, None);
        let all = (0..20).map(|n| channel.deliver(text(&format!("+3933312345{n:02}"), "Hello")));
        for delivery in futures::future::join_all(all).await {
            let connects = said(&delivery) == "later ConnectFailed" && expected == "later TlsFailed";
            assert!(said(&delivery) == expected || connects, "{shown}: {expected}: {delivery:?}");
        }
    }
    assert!(centre.messages().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_arrive_as_they_were_written() {
    let centre = Centre::start().await.unwrap();
    let channel = Smpp::new(settings(&centre), None);
    let long_gsm = format!("Prezzo: 5 € {{à}} {}", "lungo ".repeat(40));
    let long_ucs = format!("ça va 👋 {}", "longue ".repeat(20));
    for words in ["Ciao @ $5 è", "ça va 👋", &long_gsm, &long_ucs] {
        let before = centre.messages().len();
        let delivery = channel.deliver(text(NUMBER, words)).await;
        let Delivery::Sent { receipt } = &delivery else { panic!("{delivery:?}") };
        let segments = centre.messages().split_off(before);
        let expected = campanile::send::segments::Extent::of(words);
        assert_eq!((segments.len(), receipt.split(' ').count()), (expected.segments, expected.segments), "{words}");
        let whole: String = segments.iter().map(|segment| segment["text"].as_str().unwrap()).collect();
        assert_eq!(whole, words);
        for (index, segment) in segments.iter().enumerate() {
            assert_eq!(segment["from"], json!([5, 0, "Shop"]));
            assert_eq!(segment["to"], json!([1, 1, "393331234567"]));
            assert_eq!(segment["coding"], if words.contains('ç') { 8 } else { 0 });
            let is_last = index + 1 == segments.len();
            assert_eq!(segment["registered"], if is_last { 1 } else { 2 }, "one receipt, and of each failure");
            let header = segment["udh"].as_str().unwrap();
            let part = format!("{:02x}{:02x}", segments.len(), index + 1);
            let fits = if segments.len() == 1 { header.is_empty() } else { header.ends_with(&part) };
            assert!(fits, "{segment}");
            assert_eq!(segment["esm"], if segments.len() == 1 { 0 } else { 0x40 });
        }
        let references: Vec<&str> = segments.iter().map(|s| s["udh"].as_str().unwrap()).collect();
        assert!(references.windows(2).all(|pair| pair[0][..pair[0].len() - 2] == pair[1][..pair[1].len() - 2]));
    }
    let number = Smpp::new(Settings { from: "+12025550123".to_owned(), ..settings(&centre) }, None);
    assert_eq!(said(&number.deliver(text(NUMBER, "Hello")).await), "sent");
    assert_eq!(centre.messages().last().unwrap()["from"], json!([1, 1, "12025550123"]));
    assert_eq!(centre.state()["version"], 0x34);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_was_begun_is_ended() {
    let centre = Centre::start().await.unwrap();
    let channel = Smpp::new(settings(&centre), None);
    let words = "a".repeat(400);
    assert_eq!(said(&channel.deliver(text("+19960000001", &words)).await), "later Throttled", "nothing has arrived");
    let words = "a".repeat(200);
    let delivery = channel.deliver(text("+19950000001", &words)).await;
    assert_eq!(said(&delivery), "sent", "the second segment went again: {delivery:?}");
    let texts: Vec<String> = centre.messages().iter().map(|m| m["text"].as_str().unwrap().to_owned()).collect();
    assert_eq!(texts, ["a".repeat(153), "a".repeat(47)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_under_way_than_declared_and_fewer_links_will_do() {
    let centre = Centre::with(2, None).await.unwrap();
    let channel = Smpp::new(Settings { connections: 4, depth: 2, ..settings(&centre) }, None);
    let all = (0..60).map(|n| channel.deliver(text(&format!("+3933312345{n:02}"), "Hello")));
    for delivery in futures::future::join_all(all).await {
        assert_eq!(said(&delivery), "sent", "{delivery:?}");
    }
    assert_eq!((centre.state()["most"].as_u64(), centre.messages().len()), (Some(2), 60));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_is_heard_answered_and_bound_anew() {
    let centre = Centre::start().await.unwrap();
    let (tell, mut told) = heard();
    let timeouts = Timeouts { enquire: Duration::from_millis(200), ..settings(&centre).timeouts };
    let channel = Smpp::new(Settings { timeouts, ..settings(&centre) }, Some(tell));
    until_true("the bind", PATIENCE, || centre.state()["bound"] == 1).await.unwrap();
    centre.text("393331234567", "stop");
    assert_eq!(next(&mut told).await, "+393331234567: stop");
    centre.make("garbage");
    assert_eq!(said(&channel.deliver(text(NUMBER, "Hello")).await), "sent", "what cannot be read costs no connection");
    assert_eq!(next(&mut told).await, "0000032512 Delivered");
    assert_eq!(said(&channel.deliver(text("+393331234506", "Hello")).await), "sent");
    assert_eq!(next(&mut told).await, "0000032513 Undeliverable of nobody");
    centre.make("enquire");
    until_true("questions and answers", PATIENCE, || {
        let state = centre.state();
        state["enquires"].as_u64() > Some(1) && state["told"].as_array().map_or(0, Vec::len) == 4
    })
    .await
    .unwrap();
    assert_eq!(centre.state()["told"], json!([0, 0, 0, 0]), "each is answered");
    centre.make("drop");
    until_true("the second bind", PATIENCE, || centre.state()["binds"] == 2).await.unwrap();
    centre.text("393331234567", "again");
    assert_eq!(next(&mut told).await, "+393331234567: again");
    drop(channel);
    until_true("the leave", PATIENCE, || centre.state()["unbinds"] == 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_centre_is_reached_by_tls() {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (key, certificate) = (folder.path().join("key"), folder.path().join("certificate"));
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    fs::write(&certificate, made.cert.pem()).unwrap();
    let centre = Centre::with(10, Some((&key, &certificate))).await.unwrap();
    let encrypted = Settings { is_encrypted: true, ..settings(&centre) };
    assert_eq!(said(&Smpp::new(encrypted.clone(), None).deliver(text(NUMBER, "x")).await), "later TlsFailed");
    let trusting = Settings { roots: vec![made.cert.pem().into_bytes()], ..encrypted };
    assert_eq!(said(&Smpp::new(trusting, None).deliver(text(NUMBER, "x")).await), "sent");
}

fn manifests(centre: &Centre) -> String {
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
  sms: {{smpp: {{host: 127.0.0.1, port: {}, tls: None, from: "+12025550123", secretRef: {{name: smpp}}}}}}
  connections: 2
  depth: 4
---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {{name: hello}}
spec: {{sms: {{text: "Hi {{{{ person.name }}}}, {}"}}}}
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
        centre.port,
        "5 € off ".repeat(20),
    )
}

const PEOPLE: &str = "id,phone,name,texts
1,+39 333 1234567,Ada,t
2,+447946000005,Bo,t
3,+447946000006,Cy,t
4,+393331230000,Di,t
5,+199900011,Ed,t
6,+15551234567,Gus,f
";

fn command(place: &Place, args: &[&str]) -> std::process::Command {
    let store = place.url.iter().flat_map(|url| ["--store", url]);
    let args: Vec<&str> = args.iter().copied().chain(["--deliver", "live"]).chain(store).collect();
    let mut command = place.home.command(&args);
    command.env("CAMPANILE_SECRET_SMPP_SYSTEM_ID", SYSTEM_ID).env("CAMPANILE_SECRET_SMPP_PASSWORD", PASSWORD);
    command
}

fn trigger(place: &Place, name: &str) {
    assert_eq!(place.call(&["trigger", "greet", "--name", name]).code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_sends_and_receipts_and_a_stop_are_recorded() {
    for place in Place::both().await {
        let centre = Centre::start().await.unwrap();
        place.home.write("town/town.yaml", &manifests(&centre));
        place.home.write("town/data/people.csv", PEOPLE);
        place.read();
        trigger(&place, "first");
        let log = fs::File::create(place.home.path().join("log")).unwrap();
        let mut command = command(&place, &["run", "town"]);
        let running = Running { child: command.stdout(std::process::Stdio::null()).stderr(log).spawn().unwrap() };
        let count = |run: &Value, name: &str| run["status"]["totals"][name].as_i64().unwrap_or(-1);
        until_true("the messages and their receipts", PATIENCE, || {
            let run = place.get("campaignrun", "first");
            count(&run, "waiting") == 0 && count(&run, "delivered") == 2 && count(&run, "bounced") == 2
        })
        .await
        .unwrap_or_else(|e| {
            panic!("{e}: {} {} {}", place.get("campaignrun", "first"), centre.state(), place.home.read("log"))
        });
        let run = place.get("campaignrun", "first");
        assert_conserved(&run);
        assert_eq!(["sent", "failed", "excluded"].map(|name| count(&run, name)), [4, 1, 1], "{run}");
        let events = "SELECT type || ' ' || coalesce(reason, '') FROM message_event ORDER BY 1";
        let expected = ["Bounced Undetermined", "Bounced UnknownMailbox", "Delivered ", "Delivered "];
        assert_eq!(place.ask(events).await, expected);
        assert_eq!(place.ask("SELECT medium || ' ' || reason FROM suppression").await, ["sms HardBounce"]);

        // Who writes STOP gets nothing more of this sender, under her key and under her number.
        until_true("a bind", PATIENCE, || centre.state()["bound"].as_u64() > Some(0)).await.unwrap();
        centre.text("393331230000", "Stop.");
        let stopped = "SELECT profile || ' ' || channel || ' ' || state || ' ' || source FROM consent";
        let mut consent = vec![];
        for _ in 0..600 {
            consent = place.ask(stopped).await;
            if consent.contains(&"4 sms:texts Withdrawn sms".to_owned()) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(consent.contains(&"4 sms:texts Withdrawn sms".to_owned()), "{consent:?}");
        let before = centre.messages().len();
        trigger(&place, "second");
        until_true("the second run", PATIENCE, || {
            let run = place.get("campaignrun", "second");
            count(&run, "waiting") == 0 && count(&run, "entered") == 6 && count(&run, "delivered") == 1
        })
        .await
        .unwrap_or_else(|e| panic!("{e}: {}", place.get("campaignrun", "second")));
        let reasons = &place.get("campaignrun", "second")["status"]["channels"][0]["reasons"];
        assert_eq!((&reasons["NoConsent"], &reasons["Suppressed"]), (&json!(2), &json!(1)), "{reasons}");
        let again = centre.messages().split_off(before);
        assert!(!again.iter().any(|message| message["to"][2] == "393331230000"), "{again:?}");
        drop(running);
    }
}
