//! Bad servers: one that refuses, closes, stalls, talks nonsense or breaks TLS. Each has its outcome, none stops the others.
//!
//! The scripted server counts its connections and keeps what it was given; the real one is Postfix's `smtp-sink`.

mod pipelining;

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::SeqCst},
    thread,
    time::Duration,
};

use campanile::{
    api::channel::Tls,
    send::channel::{
        self as mail, Channel, Content, Delivery, Envelope, Refusal,
        smtp::{Settings, Smtp, Timeouts},
    },
};

use crate::world::{
    SmtpSink,
    scripted_smtp::{Act, Hangup, Say, Script, Server, Stall},
};

const SHORT: Duration = Duration::from_millis(400);

fn settings(port: u16) -> Settings {
    Settings {
        host: "localhost".into(),
        port,
        tls: Tls::None,
        login: None,
        connections: 5,
        timeouts: Timeouts { connect: SHORT, command: SHORT, data: SHORT },
        roots: vec![],
    }
}

fn message(n: usize) -> Envelope {
    envelope(n, words(n))
}

fn words(n: usize) -> Vec<u8> {
    format!("From: <a@example.com>\r\nSubject: {n}\r\n\r\n.dots\r\n..\r\nend").into_bytes()
}

fn envelope(n: usize, bytes: Vec<u8>) -> Envelope {
    of(mail::Mail { from: "a@example.com".into(), to: format!("mary.smith{n}@example.org"), bytes })
}

fn of(mail: mail::Mail) -> Envelope {
    let permission = campanile::send::channel::Permission::default();
    let (id, content) = ("1-0-1".to_owned(), Content::Mail(mail));
    Envelope { id, reference: String::new(), content, folder: PathBuf::new(), permission }
}

/// A delivery that must come to an end: nothing may stall for ever.
async fn deliver(smtp: &Smtp, message: Envelope) -> Delivery {
    tokio::time::timeout(Duration::from_secs(5), smtp.deliver(message)).await.expect("the delivery stalls")
}

async fn outcome(script: Script) -> Delivery {
    let server = Server::start(script);
    deliver(&Smtp::new(settings(server.port)), message(1)).await
}

fn later(delivery: &Delivery) -> Option<Refusal> {
    match delivery {
        Delivery::Later { reason, .. } => Some(*reason),
        _ => None,
    }
}

fn refused(delivery: &Delivery) -> Option<Refusal> {
    match delivery {
        Delivery::Refused { reason, .. } => Some(*reason),
        _ => None,
    }
}

#[tokio::test]
async fn a_message_arrives_as_it_was_written() {
    let server = Server::start(Script::default());
    let smtp = Smtp::new(settings(server.port));
    let delivery = deliver(&smtp, message(7)).await;
    assert!(matches!(&delivery, Delivery::Sent { receipt } if receipt.contains("queued as 1")), "{delivery:?}");
    let expected = [words(7).as_slice(), b"\r\n"].concat();
    assert_eq!(server.seen.messages.lock().unwrap().as_slice(), [expected]);
}

#[tokio::test]
async fn a_bare_line_feed_cannot_end_a_message() {
    let server = Server::start(Script::default());
    let smuggled = b"Subject: x\r\n\r\none\n.\nMAIL FROM:<evil@example.com>\r\n\rtwo\r.\r\nthree\r\n".to_vec();
    let delivery = deliver(&Smtp::new(settings(server.port)), envelope(1, smuggled)).await;
    assert!(matches!(delivery, Delivery::Sent { .. }), "{delivery:?}");
    let messages = server.seen.messages.lock().unwrap();
    let text = String::from_utf8(messages[0].clone()).unwrap();
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count(), "{text:?}");
    assert_eq!(text.matches('\r').count(), text.matches("\r\n").count(), "{text:?}");
    assert!(text.contains("three") && messages.len() == 1);
}

#[tokio::test]
async fn four_hundreds_are_tried_again_and_five_hundreds_are_not() {
    let base = Script::default;
    let cases: [(Script, Option<Refusal>, Option<Refusal>); 8] = [
        (Script { mail: Say("451 slow down"), ..base() }, Some(Refusal::SenderRefused), None),
        (Script { mail: Say("553 no"), ..base() }, None, Some(Refusal::SenderRefused)),
        (Script { mail: Say("530 authentication required"), ..base() }, Some(Refusal::AuthFailed), None),
        (Script { rcpt: Say("450 greylisted"), ..base() }, Some(Refusal::RecipientRefused), None),
        (Script { rcpt: Say("550 no such user"), ..base() }, None, Some(Refusal::RecipientRefused)),
        (Script { data: Say("451 no"), ..base() }, Some(Refusal::DataRefused), None),
        (Script { dot: Say("452 full"), ..base() }, Some(Refusal::DataRefused), None),
        (Script { dot: Say("554 spam"), ..base() }, None, Some(Refusal::DataRefused)),
    ];
    for (script, passing, last) in cases {
        let told = format!("{:?} {:?} {:?} {:?}", script.mail, script.rcpt, script.data, script.dot);
        let delivery = outcome(script).await;
        assert_eq!((later(&delivery), refused(&delivery)), (passing, last), "{told}: {delivery:?}");
    }
}

#[tokio::test]
async fn one_that_closes_with_421_is_left() {
    for script in [
        Script { greeting: Say("421 too busy"), ..Script::default() },
        Script { mail: Say("421 bye"), ..Script::default() },
        Script { rcpt: Say("421 bye"), ..Script::default() },
        Script { dot: Say("421 bye"), ..Script::default() },
    ] {
        let server = Server::start(script);
        let smtp = Smtp::new(settings(server.port));
        for n in 0..3 {
            let delivery = deliver(&smtp, message(n)).await;
            assert!(later(&delivery).is_some(), "{delivery:?}");
        }
        assert_eq!(server.seen.accepted.load(SeqCst), 3, "each message gets a connection of its own");
    }
}

#[tokio::test]
async fn lost_before_the_dot_is_later_and_behind_it_in_doubt() {
    for script in [
        Script { greeting: Hangup, ..Script::default() },
        Script { ehlo: Hangup, ..Script::default() },
        Script { mail: Hangup, ..Script::default() },
        Script { rcpt: Hangup, ..Script::default() },
        Script { data: Hangup, ..Script::default() },
    ] {
        let delivery = outcome(script).await;
        assert_eq!(later(&delivery), Some(Refusal::ConnectFailed), "{delivery:?}");
    }
    for script in [
        Script { dot: Hangup, ..Script::default() },
        Script { dot: Stall, ..Script::default() },
        Script { dot: Say("what was that?"), ..Script::default() },
        Script { dot: Say("354 more"), ..Script::default() },
    ] {
        let delivery = outcome(script).await;
        assert!(matches!(delivery, Delivery::InDoubt { .. }), "{delivery:?}");
    }
}

/// More than the sockets' buffers hold, so that the end of the content cannot have been handed over.
fn large() -> Envelope {
    let line = [b"x".repeat(70).as_slice(), b"\r\n"].concat();
    envelope(1, [b"Subject: x\r\n\r\n".as_slice(), &line.repeat(400_000)].concat())
}

#[tokio::test]
async fn lost_within_the_content_is_later() {
    let delivery = outcome_of(Script { cut: Some(100_000), ..Script::default() }, Tls::None, large()).await;
    assert_eq!(later(&delivery), Some(Refusal::ConnectFailed), "{delivery:?}");
}

#[tokio::test]
async fn a_server_that_stops_reading_is_later() {
    // It says 354 and reads no more.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for text in ["220 x", "250 x", "250 x", "250 x", "354 x"] {
            stream.write_all(format!("{text}\r\n").as_bytes()).unwrap();
            if text != "354 x" {
                let _ = stream.read(&mut [0; 512]);
            }
        }
        thread::sleep(Duration::from_secs(20));
        drop(stream);
    });
    let delivery = deliver(&Smtp::new(settings(port)), large()).await;
    assert_eq!(later(&delivery), Some(Refusal::Timeout), "{delivery:?}");
}

#[tokio::test]
async fn stalls_end_at_their_deadline() {
    for script in [
        Script { greeting: Stall, ..Script::default() },
        Script { ehlo: Stall, ..Script::default() },
        Script { mail: Stall, ..Script::default() },
        Script { rcpt: Stall, ..Script::default() },
        Script { data: Stall, ..Script::default() },
    ] {
        let delivery = outcome(script).await;
        assert_eq!(later(&delivery), Some(Refusal::Timeout), "{delivery:?}");
    }
}

#[tokio::test]
async fn nonsense_is_a_protocol_error() {
    for script in [
        Script { greeting: Say("SSH-2.0-OpenSSH_9.2"), ..Script::default() },
        Script { greeting: Say("HTTP/1.1 400 Bad Request"), ..Script::default() },
        Script { mail: Say("2x0 \u{fffd}"), ..Script::default() },
        Script { data: Say("250 why not"), ..Script::default() },
    ] {
        let delivery = outcome(script).await;
        assert_eq!(later(&delivery), Some(Refusal::ProtocolError), "{delivery:?}");
    }
    // Endless, and without a line's end.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        while stream.write_all(&[b'2'; 8192]).is_ok() {}
    });
    let delivery = deliver(&Smtp::new(settings(port)), message(1)).await;
    assert_eq!(later(&delivery), Some(Refusal::ProtocolError), "{delivery:?}");
}

#[tokio::test]
async fn nobody_listens() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let delivery = deliver(&Smtp::new(settings(port)), message(1)).await;
    assert_eq!(later(&delivery), Some(Refusal::ConnectFailed), "{delivery:?}");
}

#[tokio::test]
async fn details_name_no_person() {
    for text in [
        "550 5.1.1 <mary.smith1@example.org>: Recipient address rejected",
        "550 mary.smith1 is unknown here, mail to=mary.smith1@example.org",
        "550 no mailbox for 'Mary.Smith1'\u{1b}[31m\0!",
    ] {
        let delivery = outcome(Script { rcpt: Say(text), ..Script::default() }).await;
        let Delivery::Refused { detail, .. } = &delivery else { panic!("{delivery:?}") };
        assert!(!detail.to_lowercase().contains("mary.smith1"), "{detail}");
        assert!(detail.starts_with("550") && !detail.chars().any(char::is_control), "{detail:?}");
    }
}

#[tokio::test]
async fn a_refused_recipient_does_not_cost_the_connection() {
    let server = Server::start(Script { rcpt: Say("550 no"), ..Script::default() });
    let smtp = Smtp::new(settings(server.port));
    for n in 0..4 {
        assert_eq!(refused(&deliver(&smtp, message(n)).await), Some(Refusal::RecipientRefused));
    }
    assert_eq!(server.seen.accepted.load(SeqCst), 1);
    assert_eq!(server.said("RSET"), 3, "the refused transaction is taken back before the next");
}

#[tokio::test]
async fn a_connection_that_went_stale_is_replaced_unseen() {
    let server = Server::start(Script { messages_max: 1, ..Script::default() });
    let smtp = Smtp::new(settings(server.port));
    for n in 0..5 {
        let delivery = deliver(&smtp, message(n)).await;
        assert!(matches!(delivery, Delivery::Sent { .. }), "{n}: {delivery:?}");
    }
    assert_eq!((server.messages(), server.seen.accepted.load(SeqCst)), (5, 5));
}

async fn all(smtp: &Arc<Smtp>, count: usize) -> Vec<Delivery> {
    let tasks: Vec<_> = (0..count)
        .map(|n| {
            let smtp = smtp.clone();
            tokio::spawn(async move { smtp.deliver(message(n)).await })
        })
        .collect();
    let mut deliveries = vec![];
    for task in tasks {
        deliveries.push(task.await.unwrap());
    }
    deliveries
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connection_limit_holds() {
    let server = Server::start(Script { think: Duration::from_millis(5), ..Script::default() });
    let smtp = Arc::new(Smtp::new(settings(server.port)));
    let deliveries = all(&smtp, 200).await;
    assert!(deliveries.iter().all(|d| matches!(d, Delivery::Sent { .. })), "{deliveries:?}");
    assert_eq!(server.messages(), 200);
    assert_eq!((server.seen.open_max.load(SeqCst), server.seen.accepted.load(SeqCst)), (5, 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connection_limit_holds_while_connections_are_replaced() {
    // A server that closes after every third message, and a client that leaves after its hundredth.
    let server = Server::start(Script { messages_max: 3, ..Script::default() });
    let smtp = Arc::new(Smtp::new(settings(server.port)));
    let deliveries = all(&smtp, 200).await;
    assert!(deliveries.iter().all(|d| matches!(d, Delivery::Sent { .. })), "{deliveries:?}");
    assert_eq!(server.messages(), 200);
    assert!(server.seen.open_max.load(SeqCst) <= 5, "{}", server.seen.open_max.load(SeqCst));

    let server = Server::start(Script::default());
    let smtp = Arc::new(Smtp::new(Settings { connections: 2, ..settings(server.port) }));
    let deliveries = all(&smtp, 500).await;
    assert!(deliveries.iter().all(|d| matches!(d, Delivery::Sent { .. })));
    assert!(server.seen.accepted.load(SeqCst) > 2, "no connection carries more than its share");
    assert!(server.seen.open_max.load(SeqCst) <= 2, "{}", server.seen.open_max.load(SeqCst));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_stalls_does_not_stop_the_others() {
    let stalling = Server::start(Script { dot: Stall, ..Script::default() });
    let smtp = Arc::new(Smtp::new(settings(stalling.port)));
    let deliveries = tokio::time::timeout(Duration::from_secs(10), all(&smtp, 20)).await.expect("stalled for ever");
    assert!(deliveries.iter().all(|d| matches!(d, Delivery::InDoubt { .. })), "{deliveries:?}");
}

// ---- login and TLS

#[tokio::test]
async fn a_login_that_fails_is_the_operators_to_mend() {
    let server = Server::start(Script::default());
    let with = |password: &str| Settings { login: Some(("me".into(), password.into())), ..settings(server.port) };
    assert!(matches!(deliver(&Smtp::new(with("secret")), message(1)).await, Delivery::Sent { .. }));
    let delivery = deliver(&Smtp::new(with("wrong")), message(1)).await;
    assert_eq!(later(&delivery), Some(Refusal::AuthFailed), "{delivery:?}");
    assert!(!format!("{:?}", with("wrong")).contains("wrong"), "a password must not be printed");
}

/// A password is not given away because somebody on the way took STARTTLS out of the offer.
#[tokio::test]
async fn no_login_in_the_clear_unless_declared() {
    let server = Server::start(Script::default());
    let smtp = Smtp::new(Settings {
        tls: Tls::Opportunistic,
        login: Some(("me".into(), "secret".into())),
        ..settings(server.port)
    });
    let delivery = deliver(&smtp, message(1)).await;
    assert_eq!(later(&delivery), Some(Refusal::AuthFailed), "{delivery:?}");
    assert_eq!(server.said("AUTH"), 0);
}

fn certificate() -> (Arc<rustls::ServerConfig>, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (Arc::new(config), made.cert.pem().into_bytes())
}

const STARTTLS: Act = Say("250-test\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN");

async fn outcome_of(script: Script, tls: Tls, message: Envelope) -> Delivery {
    let server = Server::start(script);
    deliver(&Smtp::new(Settings { tls, ..settings(server.port) }), message).await
}

#[tokio::test]
async fn tls_is_used_and_the_certificate_is_checked() {
    let (tls, root) = certificate();
    for (mode, is_implicit) in [(Tls::Required, false), (Tls::Opportunistic, false), (Tls::Implicit, true)] {
        let server = Server::start(Script { ehlo: STARTTLS, tls: Some(tls.clone()), is_implicit, ..Script::default() });
        let trusting = Settings {
            tls: mode,
            login: Some(("me".into(), "secret".into())),
            roots: vec![root.clone()],
            ..settings(server.port)
        };
        let smtp = Smtp::new(trusting);
        for n in 0..2 {
            let delivery = deliver(&smtp, message(n)).await;
            assert!(matches!(delivery, Delivery::Sent { .. }), "{mode:?}: {delivery:?}");
        }
        assert_eq!((server.messages(), server.seen.accepted.load(SeqCst)), (2, 1));
        let delivery = deliver(&Smtp::new(Settings { tls: mode, ..settings(server.port) }), message(1)).await;
        assert_eq!(later(&delivery), Some(Refusal::TlsFailed), "{mode:?}: {delivery:?}");
        assert_eq!(server.messages(), 2);
    }
}

#[tokio::test]
async fn the_dot_is_told_apart_under_tls_too() {
    let (tls, root) = certificate();
    for (mode, is_implicit) in [(Tls::Required, false), (Tls::Implicit, true)] {
        let base = || Script { ehlo: STARTTLS, tls: Some(tls.clone()), is_implicit, ..Script::default() };
        let smtp = |script| {
            Smtp::new(Settings { tls: mode, roots: vec![root.clone()], ..settings(Server::start(script).port) })
        };
        let delivery = deliver(&smtp(Script { dot: Hangup, ..base() }), message(1)).await;
        assert!(matches!(delivery, Delivery::InDoubt { .. }), "{delivery:?}");
        let delivery = deliver(&smtp(Script { cut: Some(100_000), ..base() }), large()).await;
        assert_eq!(later(&delivery), Some(Refusal::ConnectFailed), "{delivery:?}");
    }
}

#[tokio::test]
async fn starttls_that_fails_is_not_passed_over() {
    for mode in [Tls::Required, Tls::Opportunistic] {
        // Refused; begun and broken off; answered with nonsense instead of a handshake.
        for starttls in [Say("454 not now"), Hangup, Say("220 go on\r\nnonsense")] {
            let server = Server::start(Script { ehlo: STARTTLS, starttls, ..Script::default() });
            let delivery = deliver(&Smtp::new(Settings { tls: mode, ..settings(server.port) }), message(1)).await;
            assert_eq!(later(&delivery), Some(Refusal::TlsFailed), "{mode:?} {starttls:?}: {delivery:?}");
            assert_eq!(server.messages(), 0);
        }
    }
    let delivery = outcome_of(Script::default(), Tls::Required, message(1)).await;
    assert_eq!(later(&delivery), Some(Refusal::TlsFailed), "{delivery:?}");
    let delivery = outcome_of(Script::default(), Tls::Opportunistic, message(1)).await;
    assert!(matches!(delivery, Delivery::Sent { .. }), "not offered: {delivery:?}");
}

/// What somebody on the way puts behind the answer to STARTTLS must not be taken for the server's words under TLS.
#[tokio::test]
async fn words_before_the_handshake_are_not_believed_after_it() {
    let (tls, root) = certificate();
    let starttls = Say("220 go on\r\n250-evil\r\n250 AUTH LOGIN");
    let server = Server::start(Script { ehlo: STARTTLS, starttls, tls: Some(tls), ..Script::default() });
    let smtp = Smtp::new(Settings { tls: Tls::Required, roots: vec![root], ..settings(server.port) });
    let delivery = deliver(&smtp, message(1)).await;
    assert_eq!(later(&delivery), Some(Refusal::TlsFailed), "{delivery:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sink_takes_all() {
    let sink = SmtpSink::start(&[]).await.unwrap();
    let host = "127.0.0.1".to_owned();
    let smtp =
        Arc::new(Smtp::new(Settings { host, connections: 10, timeouts: Timeouts::default(), ..settings(sink.port()) }));
    let deliveries = all(&smtp, 2000).await;
    assert!(
        deliveries.iter().all(|d| matches!(d, Delivery::Sent { .. })),
        "{:?}",
        deliveries.iter().find(|d| !matches!(d, Delivery::Sent { .. }))
    );
    sink.wait_for(2000, Duration::from_secs(30)).await.unwrap();
}

#[tokio::test]
async fn the_sink_refuses_as_told() {
    let host = || "127.0.0.1".to_owned();
    for (options, is_passing) in [(["-q", "rcpt"], true), (["-r", "rcpt"], true), (["-f", "rcpt"], false)] {
        let sink = SmtpSink::start(&options).await.unwrap();
        let smtp = Smtp::new(Settings { host: host(), ..settings(sink.port()) });
        let delivery = deliver(&smtp, message(1)).await;
        assert_eq!(later(&delivery).is_some(), is_passing, "{options:?} {delivery:?}");
    }
    let sink = SmtpSink::start(&["-q", "."]).await.unwrap();
    let delivery = deliver(&Smtp::new(Settings { host: host(), ..settings(sink.port()) }), message(1)).await;
    assert!(matches!(delivery, Delivery::InDoubt { .. } | Delivery::Later { .. }), "{delivery:?}");
}
