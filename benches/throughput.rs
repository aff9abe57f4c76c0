//! A million personal messages from PostgreSQL to an SMTP server, against what `smtp-source -d` alone can do.
//!
//! ```sh
//! cargo bench --bench throughput              # PEOPLE=1000000 unless said
//! ```
//!
//! Engine, PostgreSQL and `smtp-sink` share the machine's cores, and so do `smtp-source` and its sink, in the same run.
//! Sending is counted from the moment the run is planned to the moment its last outcome is committed.

#[path = "../tests/it/world/mod.rs"]
mod world;

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection};
use world::Postgres;

const SESSIONS: usize = 20;
const DEPTH: usize = 128;

fn people() -> u64 {
    std::env::var("PEOPLE").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000)
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sink() -> (Server, u16) {
    let port = world::free_port();
    let mut command = Command::new("/usr/sbin/smtp-sink");
    command.args(["-u", "nobody", &format!("127.0.0.1:{port}"), "1000"]).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("smtp-sink of Postfix");
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
    (Server(child), port)
}

/// User and system time of a process, and of its ended children, in microseconds.
fn cpu_us(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or("");
    // Fields 14 to 17 of proc(5), in clock ticks of 10 ms.
    after.split_whitespace().skip(11).take(4).filter_map(|n| n.parse::<u64>().ok()).sum::<u64>() * 10_000
}

/// The same of every process of PostgreSQL below a postmaster.
fn postgres_cpu_us() -> u64 {
    let mut sum = 0;
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        if fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "postgres") {
            sum += cpu_us(pid);
        }
    }
    sum
}

fn memory_kb_max(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|text| text.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
}

fn write_town(folder: &Path, port: u16, people: u64) {
    fs::create_dir_all(folder.join("town/data")).expect("a folder");
    let mut csv = std::io::BufWriter::new(fs::File::create(folder.join("town/data/people.csv")).expect("a file"));
    writeln!(csv, "id,email,name,town,points").expect("rows");
    for id in 1..=people {
        writeln!(csv, "{id},p{id}@example.com,Person {id},Town {},{}", id % 997, id % 5000).expect("rows");
    }
    let line = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt.";
    let text = format!("Dear {{{{ person.name }}}} of {{{{ person.town }}}},\\n{}", format!("{line}\\n").repeat(8));
    let html = format!(
        "<html><body><p>Dear <b>{{{{ person.name }}}}</b>, you have {{{{ person.points }}}} points.</p>{}</body></html>",
        format!("<p>{line}</p>\\n").repeat(8)
    );
    let manifest = format!(
        r#"apiVersion: campanile.dev/v1alpha1
kind: Dataset
metadata: {{name: town}}
spec:
  entities:
  - name: person
    key: [id]
    fields:
    - {{name: id, type: Integer}}
    - {{name: email, type: String}}
    - {{name: name, type: String}}
    - {{name: town, type: String}}
    - {{name: points, type: Integer}}
    source: {{files: {{url: data, format: CSV}}}}
  profile: {{entity: person, addresses: {{email: email}}}}
  topics:
  - {{name: service, category: Transactional}}
---
apiVersion: campanile.dev/v1alpha1
kind: Channel
metadata: {{name: out}}
spec: {{email: {{from: "Town <town@example.com>", smtp: {{host: 127.0.0.1, port: {port}, tls: None}}}}, connections: {SESSIONS}, depth: {DEPTH}}}
---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {{name: hello}}
spec: {{email: {{subject: "News for {{{{ person.name }}}}", text: "{text}", html: "{html}"}}}}
---
apiVersion: campanile.dev/v1alpha1
kind: Campaign
metadata: {{name: greet}}
spec:
  dataset: town
  topic: service
  schedule: {{immediate: {{notAfter: 2099-01-01T00:00:00Z}}}}
  steps:
  - name: all
    audience: {{entity: person, where: 'person.id > 0'}}
  - name: mail
    email: {{channel: out, template: hello}}
"#
    );
    fs::write(folder.join("town/town.yaml"), manifest).expect("a manifest");
}

struct Sent {
    seconds: f64,
    engine_us: u64,
    postgres_us: u64,
    sink_us: u64,
    memory_kb_max: u64,
}

async fn campanile(people: u64) -> Sent {
    let (server, port) = sink();
    let folder = tempfile::tempdir().expect("a folder");
    write_town(folder.path(), port, people);
    let postgres = Postgres::durable().await.expect("PostgreSQL");
    let url = postgres.database().await.expect("a database");
    let log = fs::File::create(folder.path().join("log")).expect("a log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_campanile"));
    command.current_dir(folder.path()).args(["run", "town", "--until-idle", "--deliver", "live", "--store", &url]);
    let child = Server(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("campanile"));
    let mut store = PgConnection::connect(&url).await.expect("a connection");
    let begun = Instant::now();
    let state = async |store: &mut PgConnection| -> Option<String> {
        sqlx::query_scalar("SELECT state FROM campanile.run").fetch_optional(store).await.ok().flatten()
    };
    while state(&mut store).await.is_none_or(|s| s == "Pending") {
        assert!(begun.elapsed() < Duration::from_secs(600), "{}", log_of(folder.path()));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("  ingested and planned after {:.1} s", begun.elapsed().as_secs_f64());
    let (start, before) = (Instant::now(), (cpu_us(child.0.id()), postgres_cpu_us(), cpu_us(server.0.id())));
    let mut memory = 0;
    let done = async |store: &mut PgConnection| -> i64 {
        let sql = "SELECT coalesce(sum(n), 0)::bigint FROM campanile.tally WHERE outcome <> 'Entered'";
        sqlx::query_scalar(sql).fetch_one(store).await.unwrap_or(0)
    };
    while done(&mut store).await < i64::try_from(people).unwrap_or(i64::MAX) {
        assert!(start.elapsed() < Duration::from_secs(1200), "{}", log_of(folder.path()));
        memory = memory_kb_max(child.0.id()).max(memory);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let seconds = start.elapsed().as_secs_f64();
    let sent: i64 = sqlx::query_scalar("SELECT sum(n)::bigint FROM campanile.tally WHERE outcome = 'Sent'")
        .fetch_one(&mut store)
        .await
        .expect("the counts");
    assert_eq!(u64::try_from(sent), Ok(people), "{}", log_of(folder.path()));
    Sent {
        seconds,
        engine_us: cpu_us(child.0.id()) - before.0,
        postgres_us: postgres_cpu_us() - before.1,
        sink_us: cpu_us(server.0.id()) - before.2,
        memory_kb_max: memory,
    }
}

fn log_of(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}

/// Messages per second of `smtp-source -d` with as many sessions, over a message of the same size.
fn peer(messages: u64) -> f64 {
    let (_server, port) = sink();
    let start = Instant::now();
    let status = Command::new("/usr/sbin/smtp-source")
        .args(["-d", "-s", &SESSIONS.to_string(), "-m", &messages.to_string(), "-l", "2000"])
        .args(["-f", "a@example.com", "-t", "b@example.com", &format!("127.0.0.1:{port}")])
        .status()
        .expect("smtp-source of Postfix");
    assert!(status.success());
    #[allow(clippy::cast_precision_loss, reason = "a count of messages")]
    let messages = messages as f64;
    messages / start.elapsed().as_secs_f64()
}

#[tokio::main]
#[allow(clippy::cast_precision_loss, reason = "counts and times")]
async fn main() {
    let people = people();
    println!(
        "{people} messages of about 2 kB, {SESSIONS} connections, at most {} in doubt after a crash",
        SESSIONS * DEPTH
    );
    let peer_before = peer(people);
    let ours = campanile(people).await;
    let peer_after = peer(people);
    let peer = f64::midpoint(peer_before, peer_after);
    let rate = people as f64 / ours.seconds;
    let each = |us: u64| us as f64 / people as f64;
    println!("  campanile      {rate:>9.0} messages/s");
    println!("  smtp-source -d {peer:>9.0} messages/s ({peer_before:.0} before, {peer_after:.0} after)");
    println!("  ratio          {:>9.2}", rate / peer);
    println!(
        "  CPU microseconds per message: engine {:.1}, PostgreSQL {:.1}, sink {:.1}",
        each(ours.engine_us),
        each(ours.postgres_us),
        each(ours.sink_us)
    );
    println!("  peak memory of the engine: {} MB", ours.memory_kb_max / 1024);
}
