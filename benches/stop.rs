//! How long messages still arrive after a stop, and after `suspend`, while three processes send as fast as they can.
//!
//! ```sh
//! cargo bench --bench stop              # ROUNDS=5 unless said
//! ```
//!
//! Counted from the moment that the command has returned, or that the manifest is written, to the last arrival at the
//! mail server; the ratio is to the one second that is promised.

mod clock_server;
#[path = "../tests/it/world/mod.rs"]
mod world;

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use clock_server::{Arrivals, campanile, server, write_town};
use world::Postgres;

const WORKERS: usize = 2;
const PEOPLE: u64 = 1_000_000;
/// Sending is in full swing after so many.
const SWING: usize = 10_000;
/// Nothing came for so long: it has ended.
const QUIET: Duration = Duration::from_secs(4);
const PROMISED: Duration = Duration::from_secs(1);

fn manifest(port: u16, suspend: bool) -> String {
    format!(
        r#"apiVersion: campanile.dev/v1alpha1
kind: Channel
metadata: {{name: mail}}
spec:
  email: {{from: town@example.com, smtp: {{host: 127.0.0.1, port: {port}, tls: None}}}}
  connections: 20
  depth: 64
---
apiVersion: campanile.dev/v1alpha1
kind: Campaign
metadata: {{name: hello}}
spec:
  dataset: town
  topic: service
  suspend: {suspend}
  schedule: {{immediate: {{notAfter: 2099-01-01T00:00:00Z}}}}
  steps:
  - name: all
    audience: {{entity: person, where: 'person.id > 0'}}
  - name: mail
    email: {{channel: mail, template: hello}}
"#
    )
}

fn call(folder: &Path, args: &[&str]) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_campanile")).current_dir(folder).args(args).output().expect("campanile");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// How long messages still came after `since`, once none has come for long.
async fn tail(arrivals: &Arrivals, since: Instant) -> (Duration, usize) {
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let arrivals = arrivals.lock().expect("a lock");
        let last = arrivals.last().copied().unwrap_or(since);
        if last.max(since).elapsed() >= QUIET {
            let late = arrivals.iter().filter(|at| **at > since).count();
            return (last.saturating_duration_since(since), late);
        }
    }
}

async fn until_in_swing(arrivals: &Arrivals, log: &Path) {
    let before = arrivals.lock().expect("a lock").len();
    let begun = Instant::now();
    while arrivals.lock().expect("a lock").len() < before + SWING {
        let log = || fs::read_to_string(log).unwrap_or_default();
        assert!(begun.elapsed() < Duration::from_secs(120), "nothing is sent\n{}", log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::main]
async fn main() {
    let rounds: usize = std::env::var("ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(5);
    let arrivals = Arrivals::default();
    let port = server(arrivals.clone()).await;
    let home = tempfile::tempdir().expect("a folder");
    let folder = home.path();
    write_town(folder, PEOPLE);
    let write = |suspend| fs::write(folder.join("town/hello.yaml"), manifest(port, suspend)).expect("a manifest");
    write(false);
    let postgres = Postgres::durable().await.expect("PostgreSQL");
    let url = postgres.database().await.expect("a database");
    let deliver = ["--deliver", "live", "--store", &url];
    let log = folder.join("engine.log");
    let _engine = campanile(folder, &[&["run", "town"], &deliver[..]].concat(), "engine.log");
    until_in_swing(&arrivals, &log).await;
    let _workers: Vec<_> = (0..WORKERS)
        .map(|n| campanile(folder, &[&["worker"], &deliver[..]].concat(), &format!("worker-{n}.log")))
        .collect();
    println!("{} processes, {rounds} times each", WORKERS + 1);
    for what in ["stop", "suspend"] {
        let mut tails = vec![];
        for _ in 0..rounds {
            until_in_swing(&arrivals, &log).await;
            if what == "stop" {
                call(folder, &["stop", "hello", "--reason", "a benchmark", "--store", &url]);
            } else {
                write(true);
            }
            tails.push(tail(&arrivals, Instant::now()).await);
            if what == "stop" {
                call(folder, &["start", "hello", "--store", &url]);
            } else {
                write(false);
            }
        }
        tails.sort_unstable();
        let (median, longest) = (tails[rounds / 2], tails[rounds - 1]);
        println!(
            "  {what:<8} messages still came for {:>4} ms (median), {:>4} ms at most ({} messages)   ratio to 1 s {:.2}",
            median.0.as_millis(),
            longest.0.as_millis(),
            longest.1,
            longest.0.as_secs_f64() / PROMISED.as_secs_f64()
        );
    }
}
