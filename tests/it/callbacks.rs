//! What providers tell over HTTP, on both stores: signed it is recorded, once; forged, changed, old or sent again it is
//! refused, and counted.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::Stdio,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::hmac;

use crate::{
    either::Place,
    home::{PATIENCE, Running, people, people_manifests},
    world::until_true,
};

const WEBHOOK: &str = "webhook: {secretRef: {name: hook}, each: /events, message: /ref, id: /id, type: /event, recipient: /to, \
    events: {delivered: Delivered, bounce: HardBounce, soft: SoftBounce, spam: Complained, open: Opened, deferred: Ignored}}";
const TWILIO: &str = "twilio: {secretRef: {name: twilio}}";
const BASE: &str = "https://mail.example.com";

fn store(place: &Place) -> String {
    place.url.clone().unwrap_or_else(|| "sqlite://.campanile/store.db".to_owned())
}

/// Sends to three people over a channel with callbacks; the references of the messages, by person.
fn sent(place: &Place, callbacks: &str) -> Vec<String> {
    let channel = format!("spec: {{outbox: {{}}, publicUrl: \"{BASE}\", callbacks: {{{callbacks}}}}}");
    let manifests = people_manifests("", "true").replace("spec: {outbox: {}}", &channel);
    place.home.write("town/town.yaml", &manifests);
    place.home.write("town/data/people.csv", &people(3));
    place.read();
    assert_eq!(place.home.call(&["trigger", "greet", "--name", "first", "--store", &store(place)]).code, 0);
    place.read();
    let mails: Vec<String> = place.home.outbox().iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let reference = |n: usize| {
        let mail = mails.iter().find(|mail| mail.contains(&format!("p{n}@example.com"))).unwrap();
        mail.split_once("Message-ID:").unwrap().1.split_once('<').unwrap().1.split('@').next().unwrap().to_owned()
    };
    (1..=3).map(reference).collect()
}

async fn listening(place: &Place, log: &str) -> (Running, u16) {
    let file = fs::File::create(place.home.path().join(log)).unwrap();
    let mut command = place.home.command(&["inbound", "--listen", "127.0.0.1:0", "--store", &store(place)]);
    command.env("CAMPANILE_SECRET_HOOK_SIGNING_KEY", "key").env("CAMPANILE_SECRET_TWILIO_AUTH_TOKEN", "token");
    let running = Running { child: command.stdout(Stdio::null()).stderr(file).spawn().unwrap() };
    until_true("the listener", PATIENCE, || place.home.read(log).contains("listening on")).await.unwrap();
    let text = place.home.read(log);
    (running, text.rsplit("127.0.0.1:").next().unwrap().lines().next().unwrap().parse().unwrap())
}

fn post(port: u16, path: &str, headers: &[(&str, &str)], body: &str) -> u16 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n{more}Content-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

fn hook(port: u16, key: &str, id: &str, age_s: i64, body: &str) -> u16 {
    let at = campanile::clock::Clock::system().now().as_second() - age_s;
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let signature = format!("v1,{}", STANDARD.encode(hmac::sign(&key, format!("{id}.{at}.{body}").as_bytes())));
    let at = at.to_string();
    let headers = [("webhook-id", id), ("webhook-timestamp", &at), ("webhook-signature", &signature)];
    post(port, "/hooks/default/out", &headers, body)
}

async fn events(place: &Place) -> Vec<String> {
    place.ask("SELECT type || ' ' || coalesce(reason, '') FROM message_event ORDER BY 1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_taken_as_declared() {
    for place in Place::both().await {
        let of = sent(&place, WEBHOOK);
        let (running, port) = listening(&place, "log").await;
        let event = |n: usize, id: &str, word: &str| {
            format!("{{\"ref\":\"{}\",\"id\":\"{id}\",\"event\":\"{word}\",\"to\":\"x@example.com\"}}", of[n])
        };
        let all = [
            event(0, "1", "delivered"),
            event(0, "2", "open"),
            event(1, "3", "bounce"),
            event(2, "4", "spam"),
            event(2, "5", "deferred"),
            event(2, "6", "what"),
        ];
        let body = format!("{{\"events\":[{}]}}", all.join(","));
        assert_eq!(hook(port, "key", "m1", 0, &body), 200);
        assert_eq!(events(&place).await, ["Bounced UnknownMailbox", "Complained ", "Delivered "]);
        // Nobody agreed to be told apart, so an opening is only counted.
        assert_eq!(place.ask("SELECT type FROM link_count").await, ["Opened"]);
        assert_eq!(place.ask("SELECT reason FROM suppression ORDER BY 1").await, ["Complaint", "HardBounce"]);
        // The address is the one that it was sent to, whatever the request says.
        let soft = format!("{{\"events\":[{}]}}", event(0, "7", "soft"));
        assert_eq!(hook(port, "other", "m2", 0, &soft), 403, "forged");
        assert_eq!(hook(port, "key", "m3", 1_000, &soft), 400, "too old");
        assert_eq!(hook(port, "key", "m4", -1_000, &soft), 400, "from the future");
        assert_eq!(post(port, "/hooks/default/out", &[], &soft), 403, "not signed");
        assert_eq!(hook(port, "key", "m5", 0, "{\"events\":7}"), 400, "malformed");
        assert_eq!(hook(port, "key", "m6", 0, "nothing"), 400, "malformed");
        assert_eq!(post(port, "/hooks/default/other", &[], &soft), 404);
        assert_eq!(post(port, "/hooks/elsewhere/out", &[], &soft), 404);
        assert_eq!(events(&place).await.len(), 3);
        // The very same request again, by another process, too.
        let at = campanile::clock::Clock::system().now().as_second();
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
        let signature = format!("v1,{}", STANDARD.encode(hmac::sign(&key, format!("m7.{at}.{soft}").as_bytes())));
        let at = at.to_string();
        let headers = [("webhook-id", "m7"), ("webhook-timestamp", &*at), ("webhook-signature", &*signature)];
        let again = |port| post(port, "/hooks/default/out", &headers, &soft);
        assert_eq!((again(port), again(port)), (200, 409));
        drop(running);
        let (_running, port) = listening(&place, "log2").await;
        assert_eq!(again(port), 409);
        assert_eq!(events(&place).await.len(), 4);
        // Signed, and about a message whose reference is made up.
        let forged = body.replace(&of[0], &of[0].replace('.', ".1"));
        assert_eq!(hook(port, "key", "m8", 0, &forged), 200);
        let refused = place.ask("SELECT reason || ' ' || CAST(sum(n) AS TEXT) FROM feedback_count WHERE reason <> '' GROUP BY reason ORDER BY reason").await;
        assert_eq!(
            refused,
            ["Forged 2", "ForgedReference 2", "Malformed 2", "NoChannel 2", "Replayed 2", "TooOld 2"],
            "{refused:?}"
        );
    }
}

fn twilio(port: u16, token: &str, path: &str, form: &[(&str, &str)]) -> u16 {
    let mut sorted = form.to_vec();
    sorted.sort_unstable();
    let signed: String = sorted.iter().map(|(name, value)| format!("{name}{value}")).collect();
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, token.as_bytes());
    let signature = STANDARD.encode(hmac::sign(&key, format!("{BASE}{path}{signed}").as_bytes()));
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let headers = [("Content-Type", "application/x-www-form-urlencoded"), ("X-Twilio-Signature", &*signature)];
    post(port, path, &headers, &body)
}

#[tokio::test(flavor = "multi_thread")]
async fn twilio_tells_statuses_and_stops() {
    for place in Place::both().await {
        let of = sent(&place, TWILIO);
        let (_running, port) = listening(&place, "log").await;
        let path = |n: usize| format!("/twilio/default/out/status?m={}", of[n]);
        let status = |n: usize, status: &str, code: &str| {
            let form = [("MessageSid", "SM1"), ("MessageStatus", status), ("ErrorCode", code), ("To", "+12025550100")];
            twilio(port, "token", &path(n), &form)
        };
        assert_eq!(status(0, "sent", ""), 204);
        assert_eq!((status(0, "delivered", ""), status(0, "delivered", "")), (204, 204));
        assert_eq!((status(1, "undelivered", "30005"), status(2, "failed", "30007")), (204, 204));
        assert_eq!(events(&place).await, ["Bounced Blocked", "Bounced UnknownMailbox", "Delivered "]);
        assert_eq!(place.ask("SELECT medium || ' ' || reason FROM suppression").await, ["sms HardBounce"]);
        assert_eq!(twilio(port, "wrong", &path(0), &[("MessageStatus", "failed")]), 403);
        // A signature is of its URL: that of one message does not serve for another's.
        let body = "MessageStatus=failed&ErrorCode=30005";
        assert_eq!(post(port, &path(0), &[("X-Twilio-Signature", "AAAA")], body), 403);
        assert_eq!(events(&place).await.len(), 3);

        let says = |sid: &str, text: &str| {
            let form = [("MessageSid", sid), ("From", "+12025550101"), ("To", "+12025550199"), ("Body", text)];
            twilio(port, "token", "/twilio/default/out/messages", &form)
        };
        assert_eq!((says("SM2", "Hello"), says("SM3", "please do not stop"), says("SM4", "HELP")), (200, 200, 200));
        let opted_out = "SELECT topic || ' ' || channel || ' ' || source FROM opt_out";
        assert_eq!(place.ask(opted_out).await, [""; 0]);
        assert_eq!(says("SM5", " Stop. "), 200);
        assert_eq!(place.ask(opted_out).await, ["* sms:out sms"]);
        assert_eq!(says("SM5", " Stop. "), 409, "replayed");
        let kept = place.ask("SELECT address FROM opt_out").await;
        assert!(!kept[0].contains("2025550101"), "{kept:?}");
    }
}
