//! How exactly a throttle holds that three processes share: over any 10 s, from 10 to 5,000 messages per second.
//!
//! ```sh
//! cargo bench --bench throttle              # RATES=10,100,1000,5000 unless said
//! ```
//!
//! A mail server of a few lines notes when each message has arrived. The ratio is that of the declared rate and of what
//! arrived in the worst 10 s: of all windows that begin with a message and end while messages still come.

mod clock_server;
#[path = "../tests/it/world/mod.rs"]
mod world;

use std::{
    fs,
    time::{Duration, Instant},
};

use clock_server::{Arrivals, campanile, server, write_town};
use world::Postgres;

const WORKERS: usize = 2;
const WINDOW: Duration = Duration::from_secs(10);
/// Long enough for many windows.
const SECONDS: u64 = 20;

/// A campaign to the first people, as fast as `what` allows.
fn campaign(what: What, per_second: u64, port: u16) -> String {
    let (channel, rate, throttle) = match what {
        What::Channel => {
            (format!("paced-{per_second}"), format!("\n  rate: {{perSecond: {per_second}}}"), String::new())
        }
        What::Step => (format!("open-{per_second}"), String::new(), format!(", throttle: {{perSecond: {per_second}}}")),
    };
    format!(
        r"apiVersion: campanile.dev/v1alpha1
kind: Channel
metadata: {{name: {channel}}}
spec:
  email: {{from: town@example.com, smtp: {{host: 127.0.0.1, port: {port}, tls: None}}}}
  connections: 20
  depth: 64{rate}
---
apiVersion: campanile.dev/v1alpha1
kind: Campaign
metadata: {{name: to-{channel}}}
spec:
  dataset: town
  topic: service
  schedule: {{immediate: {{notAfter: 2099-01-01T00:00:00Z}}}}
  steps:
  - name: some
    audience: {{entity: person, where: 'person.id <= {}'}}
  - name: mail
    email: {{channel: {channel}, template: hello{throttle}}}
",
        per_second * SECONDS
    )
}

#[derive(Clone, Copy, Debug)]
enum What {
    Channel,
    Step,
}

/// The fewest and the most messages that arrived within any window.
fn extremes(arrivals: &[Instant]) -> (usize, usize) {
    let Some(last) = arrivals.last().copied() else { return (0, 0) };
    let starts = arrivals.iter().enumerate().take_while(|(_, at)| **at + WINDOW <= last);
    let counts = starts.map(|(first, at)| arrivals.partition_point(|other| *other < *at + WINDOW) - first);
    counts.fold((usize::MAX, 0), |(fewest, most), count| (fewest.min(count), most.max(count)))
}

#[tokio::main]
#[allow(clippy::cast_precision_loss, reason = "counts of messages")]
async fn main() {
    let rates = std::env::var("RATES").unwrap_or_else(|_| "10,100,1000,5000".to_owned());
    let rates: Vec<u64> = rates.split(',').map(|rate| rate.trim().parse().expect("a rate")).collect();
    let arrivals = Arrivals::default();
    let port = server(arrivals.clone()).await;
    let folder = tempfile::tempdir().expect("a folder");
    write_town(folder.path(), rates.iter().max().expect("a rate") * SECONDS);
    let postgres = Postgres::durable().await.expect("PostgreSQL");
    let url = postgres.database().await.expect("a database");
    let deliver = ["--deliver", "live", "--store", &url];
    let _engine = campanile(folder.path(), &[&["run", "town"], &deliver[..]].concat(), "engine.log");
    // A worker finds its home only once the engine has made it.
    while !folder.path().join(".campanile").exists() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let workers: Vec<_> = (0..WORKERS)
        .map(|n| campanile(folder.path(), &[&["worker"], &deliver[..]].concat(), &format!("worker-{n}.log")))
        .collect();
    println!("{} processes, messages within any {} s of {SECONDS} s", workers.len() + 1, WINDOW.as_secs());
    for per_second in rates {
        for what in [What::Channel, What::Step] {
            arrivals.lock().expect("a lock").clear();
            let name = format!("{what:?}-{per_second}.yaml").to_lowercase();
            fs::write(folder.path().join("town").join(name), campaign(what, per_second, port)).expect("a manifest");
            let begun = Instant::now();
            let count = || arrivals.lock().expect("a lock").len() as u64;
            while count() < per_second * SECONDS {
                let log = || fs::read_to_string(folder.path().join("engine.log")).unwrap_or_default();
                assert!(begun.elapsed() < Duration::from_secs(5 * SECONDS), "{} arrived\n{}", count(), log());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let (fewest, most) = extremes(&arrivals.lock().expect("a lock"));
            let declared = (per_second * WINDOW.as_secs()) as f64;
            let (low, high) = (fewest as f64 / declared, most as f64 / declared);
            println!(
                "  {:<8} {per_second:>5}/s   {fewest:>6} to {most:>6}   ratio {low:.3} to {high:.3}",
                format!("{what:?}")
            );
        }
    }
    drop(workers);
}
