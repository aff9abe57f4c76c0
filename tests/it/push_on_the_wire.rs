//! Pushes as providers get them: a browser opens what was sealed for it, Google's and Apple's services take the requests,
//! and each of their errors has its outcome.

use std::{collections::BTreeMap, process::Command, sync::Arc, sync::atomic::Ordering::SeqCst};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use campanile::{
    clock::Clock,
    files::{http::Permit, reach::Reach},
    send::channel::{
        Delivery, Notice, Permission, Refusal, Urgency,
        apns::{self, Apns},
        exchange::{Exchange, Speaks},
        fcm::{self, Fcm},
        jwt::Signer,
        web_push::{self, WebPush},
    },
};
use jiff::SignedDuration;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};

use crate::world::{
    Browsers, program,
    push_services::{Apple, AppleAccount, Google, PROJECT, device},
};

fn permit(urls: &[String]) -> Permit {
    let urls = urls.iter().map(|url| url.parse().unwrap()).collect();
    let reach = Arc::new(Reach { urls, ..Reach::default() });
    Permit { reach, namespace: "shop".to_owned(), authorization: None }
}

fn exchange(url: &str, speaks: Speaks) -> Exchange {
    Exchange::new(permit(&[url.to_owned()]), &[], speaks).unwrap()
}

fn notice(to: &str) -> Notice {
    Notice {
        to: to.to_owned(),
        title: "Your trip".to_owned(),
        body: "Gate B22 — à bientôt".to_owned(),
        data: BTreeMap::from([("url".to_owned(), "https://example.com/trip".to_owned())]),
        ttl_s: Some(3_600),
        urgency: Urgency::High,
        collapse: Some("trip 7".to_owned()),
    }
}

/// A channel that takes pushes, as the dispatcher would hand them over.
trait Push {
    async fn deliver(&self, id: &str, notice: Notice) -> Delivery;
}

impl Push for WebPush {
    async fn deliver(&self, _: &str, notice: Notice) -> Delivery {
        self.push(&notice, &Permission::default()).await
    }
}

impl Push for Fcm {
    async fn deliver(&self, _: &str, notice: Notice) -> Delivery {
        self.push(&notice, &Permission::default()).await
    }
}

impl Push for Apns {
    async fn deliver(&self, id: &str, notice: Notice) -> Delivery {
        self.push(id, &notice, &Permission::default()).await
    }
}

async fn push(channel: &impl Push, id: String, to: String) -> Delivery {
    channel.deliver(&id, notice(&to)).await
}

pub fn key_pair() -> (String, String, Vec<u8>) {
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let pair =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &SystemRandom::new()).unwrap();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        base64::prelude::BASE64_STANDARD.encode(document.as_ref())
    );
    let public = pair.public_key().as_ref().to_vec();
    (pem, BASE64_URL_SAFE_NO_PAD.encode(&public), public)
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

fn web_push(url: &str, pem: &str) -> WebPush {
    let signer = Signer::es256(pem).unwrap();
    let settings = web_push::Settings { subject: "mailto:push@example.com".to_owned(), signer, clock: Clock::system() };
    WebPush::new(settings, exchange(url, Speaks::Either))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_opens_what_was_sealed_for_it() {
    let browsers = Browsers::start().await.unwrap();
    let (pem, public, _) = key_pair();
    let channel = web_push(&browsers.url(), &pem);
    for name in ["ann", "bob"] {
        let delivery = channel.deliver(name, notice(&browsers.subscription(name).unwrap())).await;
        assert_eq!(said(&delivery).0, "sent", "{delivery:?}");
    }
    let received = browsers.received().unwrap();
    assert_eq!(received.len(), 2);
    let expected = serde_json::json!({
        "title": "Your trip", "body": "Gate B22 — à bientôt", "data": {"url": "https://example.com/trip"}
    });
    for (name, push) in ["ann", "bob"].into_iter().zip(&received) {
        assert_eq!((push["browser"].as_str(), &push["message"]), (Some(name), &expected));
        assert_eq!((push["ttl"].as_i64(), push["urgency"].as_str()), (Some(3_600), Some("high")));
        assert_eq!(push["topic"].as_str().unwrap().len(), 32);
        assert_eq!(push["key"].as_str(), Some(&*public), "the key that the page subscribed with");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_of_a_push_service_has_its_outcome() {
    let browsers = Browsers::start().await.unwrap();
    let (pem, ..) = key_pair();
    let channel = web_push(&browsers.url(), &pem);
    let expected = [
        ("gone-410", ("refused Unregistered", None)),
        ("gone-404", ("refused Unregistered", None)),
        ("other-403", ("refused SenderRefused", None)),
        ("bad-400", ("refused DataRefused", None)),
        ("large-413", ("refused DataRefused", None)),
        ("token-401", ("later AuthFailed", None)),
        ("later-429", ("later Throttled", Some(120))),
        ("later-503", ("later Unavailable", Some(120))),
        ("broken-500", ("later Unavailable", None)),
        ("moved-307", ("later ProtocolError", None)),
        ("x-lost", ("in doubt", None)),
    ];
    for (name, (word, after)) in expected {
        let delivery = channel.deliver(name, notice(&browsers.subscription(name).unwrap())).await;
        assert_eq!(said(&delivery), (word.to_owned(), after), "{name}: {delivery:?}");
    }
    let inside = r#"{"endpoint": "https://169.254.169.254/x", "keys": {"p256dh": "P", "auth": "A"}}"#;
    let (private, good) = (inside.replace("\"P\"", "\"\""), browsers.subscription("ann").unwrap());
    let moved = good.replace(&browsers.url(), "https://10.0.0.1/");
    let long = Notice { body: "x".repeat(4_000), ..notice(&good) };
    for (what, notice, reason) in [
        ("no subscription", notice("0123"), Refusal::RecipientRefused),
        ("no keys", notice(&private), Refusal::RecipientRefused),
        ("a private address", notice(&moved), Refusal::RecipientRefused),
        ("too long", long, Refusal::DataRefused),
    ] {
        let delivery = channel.deliver("x", notice).await;
        assert_eq!(said(&delivery).0, format!("refused {reason:?}"), "{what}: {delivery:?}");
    }
    assert!(browsers.received().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_begin_goes_later() {
    let browsers = Browsers::start().await.unwrap();
    let subscription = browsers.subscription("ann").unwrap();
    let url = browsers.url();
    drop(browsers);
    let channel = web_push(&url, &key_pair().0);
    let delivery = channel.deliver("x", notice(&subscription)).await;
    assert_eq!(said(&delivery).0, "later ConnectFailed", "{delivery:?}");
    assert_eq!(channel.push(&notice(&subscription), &Permission::new(|| false)).await, Delivery::Unsent);
}

fn openssl(args: &[&str]) -> Vec<u8> {
    let done = Command::new(program("openssl", "openssl").unwrap()).args(args).output().unwrap();
    assert!(done.status.success(), "{args:?}");
    done.stdout
}

/// A private key in PEM, and the public one as PKCS #1 in DER.
pub fn rsa_pair() -> (String, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.pem");
    let file = file.to_str().unwrap();
    openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", file]);
    let public = openssl(&["rsa", "-in", file, "-RSAPublicKey_out", "-outform", "DER"]);
    (std::fs::read_to_string(file).unwrap(), public)
}

fn fcm(google: &Google, private_key: &str, clock: Clock) -> Fcm {
    let url = format!("http://127.0.0.1:{}/", google.server.port);
    let settings = fcm::Settings::new(&google.account(private_key), &url, clock).unwrap();
    Fcm::new(settings, exchange(&url, Speaks::Http2))
}

#[tokio::test(flavor = "multi_thread")]
async fn google_takes_a_push_and_gives_one_token_for_many() {
    let (private, public) = rsa_pair();
    let google = Google::start(public).await.unwrap();
    let channel = fcm(&google, &private, Clock::system());
    let many = (0..20).map(|n| push(&channel, format!("{n}"), format!("device-{n}")));
    for delivery in futures::future::join_all(many).await {
        let Delivery::Sent { receipt } = &delivery else { panic!("{delivery:?}") };
        assert!(receipt.starts_with("0:"), "{receipt}");
    }
    assert_eq!(google.given.load(SeqCst), 1, "one access token");
    assert_eq!(google.server.connections.load(SeqCst), 1, "one connection");
    let messages = google.messages.lock().unwrap().clone();
    assert_eq!(messages.len(), 20);
    let one = messages.iter().find(|m| m["token"] == "device-7").unwrap();
    assert_eq!(one["notification"]["body"], "Gate B22 — à bientôt");
    assert_eq!(one["data"]["url"], "https://example.com/trip");
    assert_eq!((&one["android"]["priority"], &one["android"]["ttl"]), (&"HIGH".into(), &"3600s".into()));
    assert_eq!(
        (&one["android"]["collapse_key"], &one["webpush"]["headers"]["TTL"]),
        (&"trip 7".into(), &"3600".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_error_of_google_has_its_outcome() {
    let (private, public) = rsa_pair();
    let google = Google::start(public).await.unwrap();
    let channel = fcm(&google, &private, Clock::system());
    let expected = [
        ("unregistered", ("refused Unregistered", None)),
        ("malformed", ("refused RecipientRefused", None)),
        ("invalid", ("refused DataRefused", None)),
        ("mismatch", ("refused SenderRefused", None)),
        ("third", ("later SenderRefused", None)),
        ("quota", ("later Throttled", Some(60))),
        ("busy", ("later Throttled", Some(240))),
        ("unavailable", ("later Unavailable", Some(240))),
        ("internal", ("later Unavailable", None)),
        ("unspecified", ("later Unavailable", None)),
    ];
    for (token, (word, after)) in expected {
        let delivery = channel.deliver(token, notice(token)).await;
        assert_eq!(said(&delivery), (word.to_owned(), after), "{token}: {delivery:?}");
        assert!(!format!("{delivery:?}").contains("Gate"), "{delivery:?}");
    }
    assert!(google.messages.lock().unwrap().is_empty());
    let (other, _) = rsa_pair();
    let delivery = fcm(&google, &other, Clock::system()).deliver("x", notice("x")).await;
    assert_eq!(
        said(&delivery),
        ("later AuthFailed".to_owned(), None),
        "an account that Google does not know: {delivery:?}"
    );
    assert!(format!("{delivery:?}").contains("invalid_grant"), "{delivery:?}");
    let long = Notice { body: "x".repeat(5_000), ..notice("device") };
    assert_eq!(said(&channel.deliver("x", long).await).0, "refused DataRefused");
    assert_eq!(PROJECT, "campanile-test");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_token_is_renewed_when_it_ends_and_when_it_is_refused() {
    let (private, public) = rsa_pair();
    let google = Google::start(public).await.unwrap();
    let channel = fcm(&google, &private, Clock::system());
    let delivery = channel.deliver("1", notice("revoked-device")).await;
    assert_eq!(said(&delivery).0, "sent", "{delivery:?}");
    assert_eq!(google.given.load(SeqCst), 2, "the first one was refused");
    google.valid_s.store(200, SeqCst);
    let channel = fcm(&google, &private, Clock::system());
    for n in 0..2 {
        assert_eq!(said(&channel.deliver("2", notice(&format!("device-{n}"))).await).0, "sent");
    }
    assert_eq!(google.given.load(SeqCst), 4, "what ends within five minutes is not used");
}

pub fn apple_account(public_key: Vec<u8>) -> AppleAccount {
    AppleAccount { team: "ABCDE12345", key_id: "ABC123DEFG", topic: "com.example.shop", public_key }
}

fn certificate() -> (rustls::ServerConfig, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (config, made.cert.pem().into_bytes())
}

/// A channel to an Apple that is reached at `port` over TLS, if a root is given.
fn apns(port: u16, pem: &str, root: Option<Vec<u8>>, clock: Clock) -> Apns {
    let url = format!("{}://127.0.0.1:{port}/", if root.is_some() { "https" } else { "http" });
    let roots: Vec<Vec<u8>> = root.into_iter().collect();
    let exchange = Exchange::new(permit(std::slice::from_ref(&url)), &roots, Speaks::Http2).unwrap();
    let settings = apns::Settings {
        team: "ABCDE12345".to_owned(),
        key_id: "ABC123DEFG".to_owned(),
        topic: "com.example.shop".to_owned(),
        endpoint: url.parse().unwrap(),
        signer: Signer::es256(pem).unwrap(),
        clock,
    };
    Apns::new(settings, exchange)
}

#[tokio::test(flavor = "multi_thread")]
async fn apple_takes_pushes_over_one_connection() {
    let (pem, _, public) = key_pair();
    let (tls, root) = certificate();
    let apple = Apple::start(apple_account(public), Some(tls)).await.unwrap();
    let channel = apns(apple.server.port, &pem, Some(root), Clock::system());
    let many = (0..20).map(|n| push(&channel, format!("mail-0-{n}"), device(&format!("ab{n:02}"))));
    for delivery in futures::future::join_all(many).await {
        assert_eq!(said(&delivery).0, "sent", "{delivery:?}");
    }
    assert_eq!((apple.server.connections.load(SeqCst), apple.tokens.lock().unwrap().len()), (1, 1));
    let seen = apple.seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 20);
    let one = seen.iter().find(|seen| seen.token == device("ab07")).unwrap();
    let alert = serde_json::json!({"alert": {"title": "Your trip", "body": "Gate B22 — à bientôt"}});
    assert_eq!((&one.body["aps"], &one.body["url"]), (&alert, &"https://example.com/trip".into()));
    let header = |name: &str| one.headers[name].clone();
    assert_eq!((header("apns-priority"), header("apns-push-type")), ("10".into(), "alert".into()));
    assert_eq!(header("apns-collapse-id").len(), 64, "a text with a blank is told apart by its hash");
    let left = header("apns-expiration").parse::<i64>().unwrap() - Clock::system().now().as_second();
    assert!((3_500..=3_600).contains(&left), "{left}");
    let again = channel.deliver("mail-0-7", notice(&device("ab07"))).await;
    let Delivery::Sent { receipt } = &again else { panic!("{again:?}") };
    assert_eq!(*receipt, header("apns-id"), "the same message has the same id");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_error_of_apple_has_its_outcome() {
    let (pem, _, public) = key_pair();
    let apple = Apple::start(apple_account(public), None).await.unwrap();
    let channel = apns(apple.server.port, &pem, None, Clock::system());
    let expected = [
        ("dead", ("refused Unregistered", None)),
        ("dea2", ("refused Unregistered", None)),
        ("bad0", ("refused RecipientRefused", None)),
        ("bad1", ("refused RecipientRefused", None)),
        ("bad2", ("later SenderRefused", None)),
        ("bad3", ("refused DataRefused", None)),
        ("403a", ("later AuthFailed", None)),
        ("4290", ("later Throttled", Some(300))),
        ("4291", ("later AuthFailed", Some(300))),
        ("5000", ("later Unavailable", None)),
        ("5030", ("later Unavailable", Some(300))),
        ("5031", ("later Unavailable", Some(300))),
    ];
    for (first, (word, after)) in expected {
        let delivery = channel.deliver(first, notice(&device(first))).await;
        assert_eq!(said(&delivery), (word.to_owned(), after), "{first}: {delivery:?}");
    }
    let asked = apple.seen.lock().unwrap().len();
    for (what, notice) in [
        ("not hexadecimal", notice("../../x")),
        ("too long", Notice { body: "x".repeat(4_100), ..notice(&device("aa")) }),
    ] {
        let delivery = channel.deliver("x", notice).await;
        assert!(matches!(delivery, Delivery::Refused { .. }), "{what}: {delivery:?}");
    }
    assert_eq!(apple.seen.lock().unwrap().len(), asked, "nothing was asked");
    let stranger = apns(apple.server.port, &key_pair().0, None, Clock::system());
    let delivery = stranger.deliver("x", notice(&device("aa"))).await;
    assert_eq!(said(&delivery).0, "later AuthFailed", "a key that Apple does not know: {delivery:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_token_is_renewed_when_apple_calls_it_expired_and_not_more_often_than_apple_lets() {
    let (pem, _, public) = key_pair();
    let apple = Apple::start(apple_account(public), None).await.unwrap();
    let at = |minutes: i64| Clock::starting_at(Clock::system().now() - SignedDuration::from_mins(minutes));
    let channel = apns(apple.server.port, &pem, None, at(0));
    let delivery = channel.deliver("1", notice(&device("e8e8"))).await;
    assert_eq!(said(&delivery).0, "later AuthFailed", "it is new: Apple would count another, {delivery:?}");
    assert_eq!(said(&channel.deliver("2", notice(&device("e8e8"))).await).0, "sent");
    assert_eq!(apple.tokens.lock().unwrap().len(), 1);
    let late = apns(apple.server.port, &pem, None, at(61));
    let delivery = late.deliver("1", notice(&device("aa"))).await;
    assert_eq!(said(&delivery).0, "later AuthFailed", "a clock that is an hour off: {delivery:?}");
}
