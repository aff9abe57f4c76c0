//! What a provider tells, taken over HTTP and recorded, against plain batched INSERTs of the same rows by hand.
//!
//! ```sh
//! cargo bench --bench feedback                # PEOPLE=100000 unless said
//! ```
//!
//! `campanile inbound` checks each signed request, finds the messages, records the events exactly once, counts them, and
//! suppresses after bounces; a request is answered when all of it is committed. The floor is the insertion of the same
//! events into a table of the same shape, with the same keys and as durable, as many rows a commit as events can be under
//! way, by one connection: it reads no request, and checks, finds, counts and suppresses nothing. Client, process and database share the machine's cores.

#[path = "../tests/it/world/mod.rs"]
mod world;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use campanile::{
    clock::Clock,
    feedback::reference::{self, Reference, ReferenceKey},
    store::{Sql, Store},
};
use ring::hmac;
use sqlx::{Connection, PgConnection, SqliteConnection};
use world::Postgres;

/// What is claimed, in a second.
const CLAIMED: f64 = 10_000.0;
const CONNECTIONS: usize = 32;
/// Events of a request, as providers gather them.
const BATCH: usize = 25;
/// Of a commit: as many as can be under way, for each is answered when it is on the disk.
const FLOOR_ROWS: usize = CONNECTIONS * BATCH;
const KEY: &str = "key";

fn people() -> usize {
    std::env::var("PEOPLE").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000)
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn write_town(folder: &Path, people: usize) {
    fs::create_dir_all(folder.join("town/data")).expect("a folder");
    let mut csv = std::io::BufWriter::new(fs::File::create(folder.join("town/data/people.csv")).expect("a file"));
    writeln!(csv, "id,email").expect("rows");
    (1..=people).for_each(|id| writeln!(csv, "{id},p{id}@example.com").expect("rows"));
    let manifest = r#"apiVersion: campanile.dev/v1alpha1
kind: Dataset
metadata: {name: town}
spec:
  entities:
  - name: person
    key: [id]
    fields: [{name: id, type: Integer}, {name: email, type: String}]
    source: {files: {url: data, format: CSV}}
  profile: {entity: person, addresses: {email: email}}
  topics: [{name: service, category: Transactional}]
---
apiVersion: campanile.dev/v1alpha1
kind: Channel
metadata: {name: out}
spec:
  outbox: {}
  publicUrl: https://mail.example.com
  callbacks: {webhook: {secretRef: {name: hook}, each: "", message: /r, id: /i, type: /t, recipient: /to,
    events: {d: Delivered, h: HardBounce, s: SoftBounce, c: Complained, o: Opened}}}
---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {name: hello}
spec: {email: {subject: Hello, text: Hello}}
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
  - {name: mail, email: {channel: out, template: hello}}
"#;
    fs::write(folder.join("town/town.yaml"), manifest).expect("a manifest");
}

fn campanile(folder: &Path, args: &[&str], log: &str) -> Process {
    let log = fs::File::create(folder.join(log)).expect("a log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_campanile"));
    command.current_dir(folder).args(args).env("CAMPANILE_SECRET_HOOK_SIGNING_KEY", KEY);
    Process(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("campanile"))
}

/// Everything that is told: of each message that it arrived, of some that they bounced, were opened or complained of.
async fn events(url: &str, folder: &Path) -> Vec<String> {
    let opened = if url.starts_with("sqlite") {
        format!("sqlite://{}", folder.join(".campanile/store.db").display())
    } else {
        url.to_owned()
    };
    let store = Store::open(&opened).await.expect("the store");
    let key = ReferenceKey::new(&store.secret().await.expect("the secret"));
    let sql =
        "SELECT r.namespace, r.name, l.step_no, l.shard, l.seq, l.item FROM ledger l JOIN run r ON r.no = l.run_no";
    let mut events = vec![];
    for (n, row) in store.fetch(Sql::new(sql)).await.expect("the ledger").iter().enumerate() {
        let (namespace, run): (String, String) = (row.get(0).expect("text"), row.get(1).expect("text"));
        let mark = reference::mark(&namespace, &run);
        let number = |at| row.get::<i64>(at).expect("a number");
        let of = key.text(&Reference { step_no: number(2), shard: number(3), seq: number(4), mark });
        let item: String = row.get(5).expect("text");
        let event = |word: &str| {
            format!("{{\"r\":\"{of}\",\"i\":\"{word}{n}\",\"t\":\"{word}\",\"to\":\"p{item}@example.com\"}}")
        };
        events.push(event(if n % 50 == 0 {
            "h"
        } else if n % 50 == 1 {
            "s"
        } else {
            "d"
        }));
        if n % 5 == 2 {
            events.push(event("o"));
        }
        if n % 1_000 == 3 {
            events.push(event("c"));
        }
    }
    store.close().await;
    events
}

/// Sends requests of so many events over some connections; events per second, all of them answered 200.
fn tell(port: u16, events: &Arc<Vec<String>>, batch: usize) -> f64 {
    let start = Instant::now();
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|own| {
            let events = events.clone();
            std::thread::spawn(move || {
                let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).expect("the listener"));
                let key = hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes());
                for (n, events) in events.chunks(batch).enumerate().skip(own).step_by(CONNECTIONS) {
                    let (body, at) = (format!("[{}]", events.join(",")), Clock::system().now().as_second());
                    let signed = hmac::sign(&key, format!("m{n}.{at}.{body}").as_bytes());
                    let head = format!(
                        "POST /hooks/default/out HTTP/1.1\r\nHost: m\r\nwebhook-id: m{n}\r\nwebhook-timestamp: {at}\r\nwebhook-signature: v1,{}\r\nContent-Length: {}\r\n\r\n",
                        STANDARD.encode(signed),
                        body.len()
                    );
                    stream.get_mut().write_all(&[head.as_bytes(), body.as_bytes()].concat()).expect("sent");
                    assert_eq!(answer(&mut stream), 200);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("a client"));
    rate(events.len(), start.elapsed())
}

fn answer(stream: &mut BufReader<TcpStream>) -> u16 {
    let (mut line, mut code, mut length) = (String::new(), 0, 0);
    loop {
        line.clear();
        stream.read_line(&mut line).expect("an answer");
        if let Some(text) = line.strip_prefix("HTTP/1.1 ") {
            code = text[..3].parse().expect("a code");
        }
        if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = text.trim().parse().expect("a length");
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a body");
    code
}

#[allow(clippy::cast_precision_loss, reason = "a count of events")]
fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// One row of the floor: shard, seq, id.
fn rows(events: &[String]) -> Vec<(i64, i64, String)> {
    let row = |(n, text): (usize, &String)| {
        let reference = text.split('"').nth(3).unwrap_or_default();
        let numbers: Vec<i64> = reference.split('.').take(3).filter_map(|text| text.parse().ok()).collect();
        (numbers[1], numbers[2], format!("webhook-{n:024x}"))
    };
    events.iter().enumerate().map(row).collect()
}

async fn floor_of_postgres(url: &str, events: &[String]) -> f64 {
    let mut connection = PgConnection::connect(url).await.expect("a connection");
    let make = "CREATE TABLE floor (LIKE campanile.message_event INCLUDING ALL)";
    sqlx::query(make).execute(&mut connection).await.expect("a table");
    let rows = rows(events);
    let start = Instant::now();
    for chunk in rows.chunks(FLOOR_ROWS) {
        let insert = "INSERT INTO floor (run_day, run_no, step_no, shard, seq, id, type, at_us, machine) \
                      SELECT 20000, 1, 1, u.shard, u.seq, u.id, 'Delivered', 0, 0 FROM unnest($1::bigint[], $2::bigint[], $3::text[]) u (shard, seq, id)";
        sqlx::query(insert)
            .bind(chunk.iter().map(|row| row.0).collect::<Vec<_>>())
            .bind(chunk.iter().map(|row| row.1).collect::<Vec<_>>())
            .bind(chunk.iter().map(|row| row.2.clone()).collect::<Vec<_>>())
            .execute(&mut connection)
            .await
            .expect("rows");
    }
    rate(rows.len(), start.elapsed())
}

async fn floor_of_sqlite(folder: &Path, events: &[String]) -> f64 {
    let path = folder.join("floor.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let options =
        options.journal_mode(sqlx::sqlite::SqliteJournalMode::Wal).synchronous(sqlx::sqlite::SqliteSynchronous::Full);
    let mut connection = SqliteConnection::connect_with(&options).await.expect("a database");
    let make = "CREATE TABLE floor (run_day BIGINT, run_no BIGINT, step_no BIGINT, shard BIGINT, seq BIGINT, id TEXT, type TEXT, at_us BIGINT, \
                machine BIGINT, PRIMARY KEY (run_day, run_no, step_no, shard, seq, id))";
    sqlx::query(make).execute(&mut connection).await.expect("a table");
    let rows = rows(events);
    let start = Instant::now();
    for chunk in rows.chunks(FLOOR_ROWS) {
        let insert = "INSERT INTO floor SELECT 20000, 1, 1, value->>0, value->>1, value->>2, 'Delivered', 0, 0 FROM json_each($1)";
        let json = serde_json::to_string(chunk).expect("JSON");
        sqlx::query(insert).bind(json).execute(&mut connection).await.expect("rows");
    }
    rate(rows.len(), start.elapsed())
}

async fn measure(name: &str, url: Option<String>, people: usize) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    write_town(folder, people);
    let store = url.clone().unwrap_or_else(|| "sqlite://.campanile/store.db".to_owned());
    let mut sending = campanile(folder, &["run", "town", "--until-idle", "--store", &store], "run.log");
    assert!(sending.0.wait().expect("it ends").success(), "{:?}", fs::read_to_string(folder.join("run.log")));
    let events = Arc::new(events(&store, folder).await);
    let _inbound = campanile(folder, &["inbound", "--listen", "127.0.0.1:0", "--store", &store], "log");
    let port = loop {
        let text = fs::read_to_string(folder.join("log")).unwrap_or_default();
        if let Some((_, rest)) = text.split_once("listening on http://127.0.0.1:")
            && let Some((port, _)) = rest.split_once('\n')
        {
            break port.parse().expect("a port");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    // The larger part in requests of several events, the rest one by one.
    let half = events.len() * 4 / 5;
    let (many, single) = (Arc::new(events[..half].to_vec()), Arc::new(events[half..].to_vec()));
    let ours = tell(port, &many, BATCH);
    let one_by_one = tell(port, &single, 1);
    let floor = match &url {
        Some(url) => floor_of_postgres(url, &many).await,
        None => floor_of_sqlite(folder, &many).await,
    };
    let opened = url.unwrap_or_else(|| format!("sqlite://{}", folder.join(".campanile/store.db").display()));
    let opened = Store::open(&opened).await.expect("the store");
    let sql =
        "SELECT (SELECT count(*) FROM message_event) + (SELECT CAST(coalesce(sum(n), 0) AS BIGINT) FROM link_count)";
    let recorded: i64 =
        opened.fetch_one(Sql::new(sql)).await.expect("the events").expect("a row").get(0).expect("a count");
    assert_eq!(usize::try_from(recorded), Ok(events.len()), "every event that was answered is recorded, once");
    opened.close().await;
    println!("{name}: {} events of {people} messages, {CONNECTIONS} connections", events.len());
    println!("  recorded          {ours:>9.0} events/s ({BATCH} a request)");
    println!("  one by one        {one_by_one:>9.0} events/s (one a request)");
    println!("  plain INSERTs     {floor:>9.0} rows/s ({FLOOR_ROWS} a commit)");
    println!("  ratio             {:>9.2}", ours / floor);
    ours >= CLAIMED
}

#[tokio::main]
async fn main() {
    let people = people();
    let postgres = Postgres::durable().await.expect("PostgreSQL");
    let url = postgres.database().await.expect("a database");
    let holds = [measure("PostgreSQL", Some(url), people).await, measure("SQLite", None, people).await];
    if holds.contains(&false) {
        eprintln!("fewer than {CLAIMED:.0} events a second");
        std::process::exit(1);
    }
}
