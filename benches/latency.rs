//! From a change file's appearance until a rule can use its rows, as somebody outside sees it.
//!
//! ```sh
//! cargo bench --bench latency               # FILES=200 of ROWS=1000, into a table of BASE=100000
//! ```
//!
//! `campanile run` watches a folder, on PostgreSQL with its default durability. Files arrive one after the other: half are
//! renamed into place, half are written where they are, which must stay unchanged for 500 ms first (the floor).
//! A query in another connection asks for the newest row until it is there.

#[path = "../tests/it/world/mod.rs"]
mod world;

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection};
use world::Postgres;

const FLOOR: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_secs(60);

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const TOWN: &str = "apiVersion: campanile.dev/v1alpha1
kind: Dataset
metadata: {name: town}
spec:
  entities:
  - name: person
    key: [id]
    version: seen
    fields:
    - {name: id, type: Integer}
    - {name: email, type: String}
    - {name: points, type: Integer}
    - {name: seen, type: Integer}
    source: {files: {url: data, format: CSV}}
  profile: {entity: person, addresses: {email: email}}
";

fn rows(first: usize, count: usize, seen: usize) -> String {
    let mut text = "id,email,points,seen\n".to_owned();
    for id in first..first + count {
        text.push_str(&format!("{id},p{id}@example.com,{},{seen}\n", id % 997));
    }
    text
}

async fn newest(connection: &mut PgConnection) -> Option<i64> {
    sqlx::query_scalar("SELECT max(seen) FROM default_town.person").fetch_one(connection).await.ok().flatten()
}

async fn wait(connection: &mut PgConnection, seen: usize, folder: &Path) -> Duration {
    let begun = Instant::now();
    while newest(connection).await.is_none_or(|found| found < i64::try_from(seen).unwrap_or(0)) {
        assert!(begun.elapsed() < LIMIT, "{}", fs::read_to_string(folder.join("log")).unwrap_or_default());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    begun.elapsed()
}

fn at(times: &[Duration], percent: usize) -> f64 {
    times[(times.len() * percent).div_ceil(100).max(1) - 1].as_secs_f64() * 1_000.0
}

#[tokio::main]
async fn main() {
    let (files, count, base) = (number("FILES", 200), number("ROWS", 1_000), number("BASE", 100_000));
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("town/data");
    fs::create_dir_all(&data).expect("a folder");
    fs::write(folder.path().join("town/town.yaml"), TOWN).expect("a manifest");
    fs::write(data.join("0.csv"), rows(0, base, 1)).expect("a file");
    let postgres = Postgres::durable().await.expect("PostgreSQL");
    let url = postgres.database().await.expect("a database");
    let log = fs::File::create(folder.path().join("log")).expect("a log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_campanile"));
    command.current_dir(folder.path()).args(["run", "town", "--store", &url]).stdin(Stdio::null());
    let _running = Running(command.stdout(Stdio::null()).stderr(log).spawn().expect("campanile"));
    let mut connection = PgConnection::connect(&url).await.expect("a connection");
    wait(&mut connection, 1, folder.path()).await;
    // The max above must not be what is measured.
    sqlx::query("CREATE INDEX ON default_town.person (seen)").execute(&mut connection).await.expect("an index");
    let (mut renamed, mut written) = (vec![], vec![]);
    for file in 0..files {
        let seen = file + 2;
        let text = rows(file * count % base, count, seen);
        let name = format!("{seen:06}.csv");
        if file % 2 == 0 {
            fs::write(data.join(format!(".{name}")), text).expect("a file");
            fs::rename(data.join(format!(".{name}")), data.join(&name)).expect("a file");
            renamed.push(wait(&mut connection, seen, folder.path()).await);
        } else {
            fs::write(data.join(&name), text).expect("a file");
            written.push(wait(&mut connection, seen, folder.path()).await);
        }
    }
    renamed.sort_unstable();
    written.sort_unstable();
    println!("{files} files of {count} rows into a table of {base}; milliseconds until a query finds them");
    for (what, times) in [("renamed into place", &renamed), ("written in place", &written)] {
        println!("  {what:<20} p50 {:>6.0}   p99 {:>6.0}   most {:>6.0}", at(times, 50), at(times, 99), at(times, 100));
    }
    let mut all = [renamed, written].concat();
    all.sort_unstable();
    println!(
        "  all, p99 against 2 s {:>6.2}; written in place, p50 against the floor of 500 ms {:>6.2}",
        at(&all, 99) / 2_000.0,
        at(&all[files / 2..], 50) / (FLOOR.as_secs_f64() * 1_000.0)
    );
}
