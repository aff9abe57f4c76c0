//! Several messages under way over one connection, each with an end of its own.
//!
//! All of these run on one thread: what is submitted before the first wait is in the queue before the first connection.

use std::time::Duration;

use campanile::send::channel::Done;
use tokio::sync::mpsc::unbounded_channel;

use super::*;
use crate::world::scripted_smtp::Command::{self, Data, Dot, Mail, Rcpt};

const COUNT: usize = 8;

fn one_connection(port: u16) -> Smtp {
    Smtp::new(Settings { connections: 1, ..settings(port) })
}

/// Submits messages and gives their deliveries in their order; each is told, and told once.
async fn submitted(smtp: &Smtp, count: usize) -> Vec<Delivery> {
    let (done, mut ended) = unbounded_channel();
    let mut deliveries = vec![None; count];
    for n in 0..count {
        smtp.submit(n as u64, message(n), &done).await;
    }
    drop(done);
    let hearing = async {
        while let Some(Done { tag, delivery }) = ended.recv().await {
            let before = deliveries[tag as usize].replace(delivery);
            assert_eq!(before, None, "told twice");
        }
    };
    tokio::time::timeout(Duration::from_secs(20), hearing).await.expect("a delivery stalls");
    deliveries.into_iter().map(|d| d.expect("not told")).collect()
}

fn is_sent(delivery: &Delivery) -> bool {
    matches!(delivery, Delivery::Sent { .. })
}

fn is_doubt(delivery: &Delivery) -> bool {
    matches!(delivery, Delivery::InDoubt { .. })
}

/// The messages that were sent have arrived, each once and whole; of the others at most those in doubt.
fn assert_arrived(server: &Server, deliveries: &[Delivery]) {
    let mut arrived = server.seen.messages.lock().unwrap().clone();
    for (n, delivery) in deliveries.iter().enumerate() {
        let expected = [words(n).as_slice(), b"\r\n"].concat();
        let count = arrived.iter().filter(|m| **m == expected).count();
        match delivery {
            Delivery::Sent { .. } => assert_eq!(count, 1, "message {n}"),
            Delivery::InDoubt { .. } => assert!(count <= 1, "message {n}"),
            _ => {}
        }
        arrived.retain(|m| *m != expected);
    }
    assert!(arrived.is_empty(), "not what was sent: {arrived:?}");
}

fn at(has_chunks: bool, at: &[(usize, Command, Act)]) -> Script {
    Script { at: at.to_vec(), ..Script::pipelining(has_chunks) }
}

/// The outcomes of eight messages over one connection, and the server.
async fn over_one(script: Script) -> (Vec<Delivery>, Server) {
    let server = Server::start(script);
    let deliveries = submitted(&one_connection(server.port), COUNT).await;
    assert_arrived(&server, &deliveries);
    (deliveries, server)
}

/// All are sent but the one of that number, which is returned.
fn all_but(number: usize, deliveries: &[Delivery]) -> &Delivery {
    for (n, delivery) in deliveries.iter().enumerate() {
        assert!(n == number || is_sent(delivery), "{n}: {delivery:?}");
    }
    &deliveries[number]
}

#[tokio::test]
async fn the_next_envelope_comes_with_the_dot_before() {
    let (deliveries, server) = over_one(Script::pipelining(false)).await;
    assert!(deliveries.iter().all(is_sent), "{deliveries:?}");
    assert_eq!((server.seen.pipelined.load(SeqCst), server.seen.accepted.load(SeqCst)), (COUNT - 1, 1));
    assert_eq!(server.said("BDAT") + server.said("RSET"), 0);
}

#[tokio::test]
async fn chunks_do_not_wait() {
    let (deliveries, server) = over_one(Script::pipelining(true)).await;
    assert!(deliveries.iter().all(is_sent), "{deliveries:?}");
    assert_eq!((server.said("DATA"), server.said("BDAT"), server.seen.accepted.load(SeqCst)), (0, COUNT, 1));
    assert!(server.seen.pipelined.load(SeqCst) > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_messages_arrive_once_and_whole() {
    for has_chunks in [false, true] {
        let server = Server::start(Script::pipelining(has_chunks));
        let deliveries = submitted(&Smtp::new(settings(server.port)), 1000).await;
        assert!(deliveries.iter().all(is_sent), "{:?}", deliveries.iter().find(|d| !is_sent(d)));
        assert_arrived(&server, &deliveries);
        assert!(server.seen.open_max.load(SeqCst) <= 5);
        assert!(server.seen.accepted.load(SeqCst) >= 10, "no connection carries more than its share");
    }
}

/// RFC 2920, section 3.1: the server that took DATA wants content, and gets an empty one.
#[tokio::test]
async fn a_recipient_refused_before_a_taken_data_costs_only_its_message() {
    let (deliveries, server) = over_one(at(false, &[(3, Rcpt, Say("550 no such user"))])).await;
    assert_eq!(refused(all_but(2, &deliveries)), Some(Refusal::RecipientRefused));
    assert_eq!((server.messages(), server.said("RSET"), server.seen.accepted.load(SeqCst)), (COUNT - 1, 0, 1));
}

#[tokio::test]
async fn a_refusal_costs_only_its_message() {
    let no_data = (3, Data, Say("503 no recipient"));
    let cases: [(&[_], Option<Refusal>, Option<Refusal>); 4] = [
        (&[(3, Rcpt, Say("450 greylisted")), no_data], Some(Refusal::RecipientRefused), None),
        (&[(3, Mail, Say("553 no")), (3, Rcpt, Say("503 no")), no_data], None, Some(Refusal::SenderRefused)),
        (&[(3, Data, Say("451 no"))], Some(Refusal::DataRefused), None),
        (&[(3, Dot, Say("554 spam"))], None, Some(Refusal::DataRefused)),
    ];
    for (script, passing, last) in cases {
        for has_chunks in [false, true] {
            let is_of_data = matches!(script, [(_, Data, _)]);
            if has_chunks && is_of_data {
                continue;
            }
            let (deliveries, server) = over_one(at(has_chunks, script)).await;
            let delivery = all_but(2, &deliveries);
            assert_eq!((later(delivery), refused(delivery)), (passing, last), "{script:?}: {delivery:?}");
            assert_eq!(server.seen.accepted.load(SeqCst), 1, "{script:?}");
        }
    }
}

#[tokio::test]
async fn lost_behind_the_dot_only_that_message_is_in_doubt() {
    for act in [Hangup, Stall, Say("what was that?"), Say("354 more")] {
        let (deliveries, server) = over_one(at(false, &[(3, Dot, act)])).await;
        assert!(is_doubt(all_but(2, &deliveries)), "{act:?}: {deliveries:?}");
        assert_eq!(server.seen.accepted.load(SeqCst), 2, "{act:?}");
    }
}

#[tokio::test]
async fn a_message_whose_envelope_was_lost_is_sent_again_once() {
    for command in [Mail, Rcpt, Data] {
        for act in [Hangup, Say("421 bye")] {
            let (deliveries, server) = over_one(at(false, &[(3, command, act)])).await;
            assert!(deliveries.iter().all(is_sent), "{command:?} {act:?}: {deliveries:?}");
            assert_eq!(server.seen.accepted.load(SeqCst), 2);

            let (deliveries, _) = over_one(at(false, &[(3, command, act), (4, command, act)])).await;
            assert!(later(all_but(2, &deliveries)).is_some(), "{command:?} {act:?}: {deliveries:?}");
        }
    }
}

#[tokio::test]
async fn nobody_suffers_from_anothers_421() {
    for has_chunks in [false, true] {
        let (deliveries, _) = over_one(at(has_chunks, &[(3, Dot, Say("421 bye"))])).await;
        assert_eq!(later(all_but(2, &deliveries)), Some(Refusal::DataRefused), "{has_chunks} {deliveries:?}");
    }
    let (deliveries, _) = over_one(at(true, &[(3, Mail, Say("421 bye"))])).await;
    assert!(deliveries.iter().all(is_sent), "the envelope was refused, so the chunk was not read: {deliveries:?}");
}

#[tokio::test]
async fn chunks_without_an_answer_are_in_doubt() {
    for act in [Hangup, Stall, Say("what was that?")] {
        let (deliveries, _) = over_one(at(true, &[(3, Dot, act)])).await;
        let doubts: Vec<usize> = (0..COUNT).filter(|n| is_doubt(&deliveries[*n])).collect();
        // The one that was dropped and those under way behind it.
        assert_eq!(doubts, (2..2 + doubts.len()).collect::<Vec<_>>(), "{act:?}: {deliveries:?}");
        assert!((1..=4).contains(&doubts.len()), "{act:?}: {deliveries:?}");
        assert!(deliveries.iter().all(|d| is_doubt(d) || is_sent(d)), "{act:?}: {deliveries:?}");
    }
}

#[tokio::test]
async fn a_chunk_that_was_cut_is_later() {
    let delivery = outcome_of(Script { cut: Some(100_000), ..Script::pipelining(true) }, Tls::None, large()).await;
    assert_eq!(later(&delivery), Some(Refusal::ConnectFailed), "{delivery:?}");
}

#[tokio::test]
async fn a_connection_that_went_stale_leaves_no_doubt() {
    for has_chunks in [false, true] {
        let server = Server::start(Script { messages_max: 1, ..Script::pipelining(has_chunks) });
        let smtp = Smtp::new(settings(server.port));
        for n in 0..5 {
            let delivery = deliver(&smtp, message(n)).await;
            assert!(is_sent(&delivery), "{has_chunks} {n}: {delivery:?}");
        }
        assert_eq!((server.messages(), server.seen.accepted.load(SeqCst)), (5, 5));
    }
}

#[tokio::test]
async fn the_next_envelope_is_told_apart_under_tls() {
    let (tls, root) = certificate();
    let ehlo = Say("250-test\r\n250-STARTTLS\r\n250 PIPELINING");
    // Larger than a record of TLS, so that content and envelope cannot go out in one.
    let long = |n: usize| envelope(n, format!("Subject: {n}\r\n\r\n{}", "x\r\n".repeat(10_000)).into());
    let script = Script { ehlo, tls: Some(tls), at: vec![(2, Dot, Hangup)], ..Script::default() };
    let server = Server::start(script);
    let settings = Settings { tls: Tls::Required, roots: vec![root], connections: 1, ..settings(server.port) };
    let smtp = Smtp::new(settings);
    let deliveries = futures::future::join_all((0..4).map(|n| smtp.deliver(long(n)))).await;
    assert!(is_doubt(all_but(1, &deliveries)), "{deliveries:?}");
    assert_eq!((server.messages(), server.seen.accepted.load(SeqCst)), (4, 2));
}

/// Waits until the server has so many connections.
async fn until_open(server: &Server, count: usize) {
    let looking = async {
        while server.seen.open.load(SeqCst) != count {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let looked = tokio::time::timeout(Duration::from_secs(5), looking).await;
    looked.unwrap_or_else(|_| panic!("{} are open, not {count}", server.seen.open.load(SeqCst)));
}

#[tokio::test]
async fn a_relay_that_asks_for_less_gets_half_the_connections_and_more_again_later() {
    let server = Server::start(at(false, &[(5, Mail, Say("451 too much")), (5, Rcpt, Say("503 no"))]));
    let smtp = Smtp::new(Settings { connections: 4, ..settings(server.port) });
    assert!(submitted(&smtp, 4).await.iter().all(is_sent));
    until_open(&server, 4).await;
    assert_eq!(later(&deliver(&smtp, message(5)).await), Some(Refusal::SenderRefused));
    until_open(&server, 2).await;
    server.seen.open_max.store(2, SeqCst);
    assert!(submitted(&smtp, 10).await.iter().all(is_sent));
    assert_eq!(server.seen.open_max.load(SeqCst), 2, "it has not yet taken enough");
    assert!(submitted(&smtp, 200).await.iter().all(is_sent));
    until_open(&server, 4).await;
    assert_eq!(server.seen.open_max.load(SeqCst), 4);
}

#[tokio::test]
async fn a_relay_that_takes_few_connections_gets_every_message() {
    let server = Server::start(Script { connections_max: 2, ..Script::pipelining(false) });
    let deliveries = submitted(&Smtp::new(settings(server.port)), 100).await;
    assert!(deliveries.iter().all(is_sent), "{:?}", deliveries.iter().find(|d| !is_sent(d)));
    assert_arrived(&server, &deliveries);
}

#[tokio::test]
async fn a_domain_that_asks_for_less_gets_less_and_the_others_do_not() {
    let script =
        Script { domain_max: Some(("slow.example", 2)), think: Duration::from_millis(2), ..Script::pipelining(false) };
    let server = Server::start(script);
    let smtp = Smtp::new(Settings { connections: 8, ..settings(server.port) });
    let (done, mut ended) = unbounded_channel();
    const EACH: u64 = 200;
    let submitting = async {
        for n in 0..EACH * 2 {
            let domain = if n % 2 == 0 { "slow.example" } else { "fast.example" };
            let (from, to, bytes) = ("a@example.com".to_owned(), format!("p{n}@{domain}"), words(n as usize));
            let message = of(mail::Mail { from, to, bytes });
            smtp.submit(n, message, &done).await;
        }
    };
    let hearing = async {
        let mut refused = 0;
        for _ in 0..EACH * 2 {
            let Done { tag, delivery } = ended.recv().await.unwrap();
            if tag % 2 == 1 {
                assert!(is_sent(&delivery), "{delivery:?}");
            } else if !is_sent(&delivery) {
                assert_eq!(later(&delivery), Some(Refusal::RecipientRefused));
                refused += 1;
            }
        }
        refused
    };
    let both = async { tokio::join!(submitting, hearing).1 };
    let refused = tokio::time::timeout(Duration::from_secs(30), both).await.expect("a delivery stalls");
    assert!(refused > 0, "nothing was asked of it");
    assert!(refused < EACH / 4, "{refused} of {EACH} were tried where they had no place");
    assert_eq!(server.seen.open_max.load(SeqCst), 8, "the relay itself asked for nothing");
}
