//! What was answered 200 is recorded, through `kill -9` under load, each event once; on both stores.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::hmac;
use sha2::{Digest, Sha256};

use crate::{
    either::Place,
    home::{PATIENCE, Running, people, people_manifests},
    world::{free_port, until_true},
};

const PEOPLE: usize = 20;
const CLIENTS: usize = 4;
const KILLS: usize = 3;
/// Events that are answered between two kills.
const BETWEEN: usize = 60;

fn store(place: &Place) -> String {
    place.url.clone().unwrap_or_else(|| "sqlite://.campanile/store.db".to_owned())
}

fn inbound(place: &Place, port: u16, log: &str) -> Running {
    let file = fs::File::create(place.home.path().join(log)).unwrap();
    let address = format!("127.0.0.1:{port}");
    let mut command = place.home.command(&["inbound", "--listen", &address, "--store", &store(place)]);
    command.env("CAMPANILE_SECRET_HOOK_SIGNING_KEY", "key");
    Running { child: command.stdout(Stdio::null()).stderr(file).spawn().unwrap() }
}

/// Sends one request; the answer's code, if there was one.
fn post(port: u16, id: &str, body: &str) -> Option<u16> {
    let at = campanile::clock::Clock::system().now().as_second();
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
    let signature = STANDARD.encode(hmac::sign(&key, format!("{id}.{at}.{body}").as_bytes()));
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let length = body.len();
    write!(
        stream,
        "POST /hooks/default/out HTTP/1.1\r\nHost: m\r\nConnection: close\r\nwebhook-id: {id}\r\nwebhook-timestamp: {at}\r\n\
         webhook-signature: v1,{signature}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_stands() {
    for place in Place::both().await {
        let channel = "spec: {outbox: {}, publicUrl: \"https://m.example.com\", callbacks: {webhook: {secretRef: {name: hook}, \
            message: /ref, id: /id, type: /event, events: {delivered: Delivered}}}}";
        let manifests = people_manifests("", "true").replace("spec: {outbox: {}}", channel);
        place.home.write("town/town.yaml", &manifests);
        place.home.write("town/data/people.csv", &people(PEOPLE));
        place.read();
        assert_eq!(place.home.call(&["trigger", "greet", "--name", "first", "--store", &store(&place)]).code, 0);
        place.read();
        let mails = place.home.outbox().into_iter().map(|path| fs::read_to_string(path).unwrap());
        let references: Arc<Vec<String>> = Arc::new(
            mails
                .map(|mail| {
                    mail.split_once("Message-ID:")
                        .unwrap()
                        .1
                        .split_once('<')
                        .unwrap()
                        .1
                        .split('@')
                        .next()
                        .unwrap()
                        .to_owned()
                })
                .collect(),
        );
        let port = free_port();
        let (answered, is_over) = (Arc::new(Mutex::new(BTreeSet::new())), Arc::new(AtomicBool::new(false)));
        let next = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (answered, is_over, next) = (answered.clone(), is_over.clone(), next.clone());
                let references = references.clone();
                std::thread::spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        let reference = &references[n % references.len()];
                        let body = format!("{{\"ref\":\"{reference}\",\"id\":\"{n}\",\"event\":\"delivered\"}}");
                        // As a provider does: again, newly signed, until it is taken.
                        for attempt in 0.. {
                            match post(port, &format!("m{n}-{attempt}"), &body) {
                                Some(200) => {
                                    answered.lock().unwrap().insert(n);
                                    break;
                                }
                                _ if is_over.load(Ordering::Relaxed) => break,
                                _ => std::thread::sleep(Duration::from_millis(20)),
                            }
                        }
                    }
                })
            })
            .collect();
        for kill in 0..KILLS {
            let mut running = inbound(&place, port, &format!("log{kill}"));
            let before = answered.lock().unwrap().len();
            let enough = || answered.lock().unwrap().len() >= before + BETWEEN;
            until_true("answers", PATIENCE, enough).await.unwrap();
            running.child.kill().unwrap();
            running.child.wait().unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().unwrap());
        let recorded: Vec<String> = place.ask("SELECT id FROM message_event").await;
        let once: BTreeSet<&String> = recorded.iter().collect();
        assert_eq!(once.len(), recorded.len(), "nothing twice");
        // The id of an event is a hash of the provider's word and its own id.
        let id = |n: &usize| {
            let hash = Sha256::digest(format!("delivered\n{n}"));
            format!("webhook-{}", hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect::<String>())
        };
        let lost: Vec<usize> = answered.lock().unwrap().iter().filter(|n| !once.contains(&id(n))).copied().collect();
        assert!(lost.is_empty(), "{lost:?} were answered and are not there");
        let messages = place.ask("SELECT CAST(sum(n) AS TEXT) FROM tally WHERE outcome = 'Delivered'").await;
        assert_eq!(messages, [PEOPLE.to_string()], "each message is counted once");
    }
}
