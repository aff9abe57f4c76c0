//! TPC-H `lineitem` as CSV into PostgreSQL, against `psql \copy` into an equal table with the same key; then 1 % of it as
//! a change file, against `COPY` and `MERGE` written by hand.
//!
//! ```sh
//! cargo bench --bench ingest                # SCALE=1 (6 million rows) unless said, TURNS=3
//! ```
//!
//! Both load into the same PostgreSQL with its default durability, in turn; the ratio is that of the medians. Ours is a
//! process of its own (this program, called again), so that its memory is counted alone. It also checks every value,
//! would keep bad rows, notes that the file was read, and tells the planner about the table.

#[path = "../tests/it/world/mod.rs"]
mod world;

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use campanile::{
    api::DatasetSpec,
    files::{Arrivals, Site},
    ingest::Reader,
    rule::Dialect,
    store::{Store, entity::Place},
};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tpchgen::{csv::LineItemCsv, generators::LineItemGenerator};
use world::Postgres;

const DATASET: &str = "
entities:
- name: lineitem
  key: [l_orderkey, l_linenumber]
  fields:
  - {name: l_orderkey, type: Integer}
  - {name: l_partkey, type: Integer}
  - {name: l_suppkey, type: Integer}
  - {name: l_linenumber, type: Integer}
  - {name: l_quantity, type: Decimal, precision: 15, scale: 2}
  - {name: l_extendedprice, type: Decimal, precision: 15, scale: 2}
  - {name: l_discount, type: Decimal, precision: 15, scale: 2}
  - {name: l_tax, type: Decimal, precision: 15, scale: 2}
  - {name: l_returnflag, type: String}
  - {name: l_linestatus, type: String}
  - {name: l_shipdate, type: Date}
  - {name: l_commitdate, type: Date}
  - {name: l_receiptdate, type: Date}
  - {name: l_shipinstruct, type: String}
  - {name: l_shipmode, type: String}
  - {name: l_comment, type: String}
  source: {files: {url: FILE, format: CSV}}
profile: {entity: lineitem, addresses: {}}
topics:
- {name: service, category: Transactional}
";
const BY_HAND: &str = "CREATE TABLE by_hand (l_orderkey bigint, l_partkey bigint, l_suppkey bigint, l_linenumber bigint, \
    l_quantity numeric(15, 2), l_extendedprice numeric(15, 2), l_discount numeric(15, 2), l_tax numeric(15, 2), \
    l_returnflag text, l_linestatus text, l_shipdate date, l_commitdate date, l_receiptdate date, l_shipinstruct text, \
    l_shipmode text, l_comment text, PRIMARY KEY (l_orderkey, l_linenumber))";
const COLUMNS: [&str; 16] = [
    "l_orderkey",
    "l_partkey",
    "l_suppkey",
    "l_linenumber",
    "l_quantity",
    "l_extendedprice",
    "l_discount",
    "l_tax",
    "l_returnflag",
    "l_linestatus",
    "l_shipdate",
    "l_commitdate",
    "l_receiptdate",
    "l_shipinstruct",
    "l_shipmode",
    "l_comment",
];

fn number<T: std::str::FromStr>(name: &str, otherwise: T) -> T {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

/// Writes all of it, and a change file: each hundredth row with another comment, and each ten-thousandth under a new key.
fn write_files(folder: &Path, scale: f64) -> (u64, u64) {
    let create = |name: &str| BufWriter::with_capacity(1 << 20, File::create(folder.join(name)).expect("a file"));
    let (mut all, mut some) = (create("all.csv"), create("changes.csv"));
    for file in [&mut all, &mut some] {
        writeln!(file, "{}", LineItemCsv::header()).expect("a header");
    }
    let (mut rows, mut changes) = (0, 0);
    for item in LineItemGenerator::new(scale, 1, 1).iter() {
        rows += 1;
        let text = LineItemCsv::new(item).to_string();
        writeln!(all, "{text}").expect("rows");
        if rows % 100 == 0 {
            changes += 1;
            let key = if rows % 10_000 == 0 { "9" } else { "" };
            // Only the comment, the last column, may have commas of its own.
            let row: Vec<&str> = text.splitn(COLUMNS.len(), ',').take(COLUMNS.len() - 1).collect();
            writeln!(some, "{key}{},changed", row.join(",")).expect("rows");
        }
    }
    all.flush().and_then(|()| some.flush()).expect("files");
    (rows, changes)
}

/// What the child does: reads one file into the store, and says how long that took and how much memory it had.
async fn ingest(url: &str, file: &str) {
    let store = Store::open(url).await.expect("a store");
    let spec: DatasetSpec = serde_yaml::from_str(&DATASET.replace("FILE", file)).expect("a dataset");
    let entity = &spec.entities[0];
    let place = Place { namespace: "ns", dataset: "tpch", dialect: Dialect::Postgres };
    store.ensure_entity(place, entity).await.expect("a table");
    let folder = std::env::current_dir().expect("a folder");
    let site = Site::local(&folder, &folder, file);
    let found = site.look(&Arrivals::default()).await.expect("a file");
    let source = entity.source.as_ref().and_then(|s| s.files.as_ref()).expect("files");
    let reader = Reader { store: &store, place, dataset: &spec, entity, source, site: &site };
    let now = Timestamp::from_second(1_800_000_000).expect("a time");
    let begun = Instant::now();
    let notes = reader.read(&found, now).await.expect("a file that was read");
    let took = begun.elapsed();
    assert!(notes[0].problem.is_none() && notes[0].rejected == 0, "{notes:?}");
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    println!("{} {}", took.as_micros(), memory.trim().trim_end_matches("kB").trim());
}

/// The time that our child took, and its peak memory in kB.
fn ours(url: &str, folder: &Path, file: &str) -> (Duration, u64) {
    let this = std::env::current_exe().expect("this program");
    let ran = Command::new(this).current_dir(folder).env("INGEST", file).env("STORE", url).output().expect("a child");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let said = String::from_utf8_lossy(&ran.stdout);
    let (us, kb) = said.trim().split_once(' ').expect("two numbers");
    (Duration::from_micros(us.parse().expect("a time")), kb.parse().expect("a size"))
}

fn psql(url: &str, folder: &Path, script: &[String]) -> Duration {
    let program = world::program("psql", "postgresql").expect("psql");
    let mut command = Command::new(program);
    command.current_dir(folder).args(["--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", url]);
    script.iter().for_each(|line| {
        command.args(["-c", line]);
    });
    let begun = Instant::now();
    let ran = command.output().expect("psql");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    begun.elapsed()
}

fn merge_by_hand() -> Vec<String> {
    let sets: Vec<String> = COLUMNS
        .iter()
        .filter(|c| !["l_orderkey", "l_linenumber"].contains(c))
        .map(|c| format!("{c} = s.{c}"))
        .collect();
    let values: Vec<String> = COLUMNS.iter().map(|c| format!("s.{c}")).collect();
    vec![
        "BEGIN".to_owned(),
        "CREATE TEMP TABLE s (LIKE by_hand)".to_owned(),
        "\\copy s FROM 'changes.csv' WITH (FORMAT csv, HEADER)".to_owned(),
        format!(
            "MERGE INTO by_hand b USING s ON b.l_orderkey = s.l_orderkey AND b.l_linenumber = s.l_linenumber \
             WHEN MATCHED THEN UPDATE SET {} WHEN NOT MATCHED THEN INSERT ({}) VALUES ({})",
            sets.join(", "),
            COLUMNS.join(", "),
            values.join(", ")
        ),
        "COMMIT".to_owned(),
    ]
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

async fn execute(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.expect("a statement");
}

#[tokio::main]
async fn main() {
    if let (Ok(file), Ok(url)) = (std::env::var("INGEST"), std::env::var("STORE")) {
        return ingest(&url, &file).await;
    }
    let (scale, turns) = (number("SCALE", 1.0), number("TURNS", 3_usize));
    let folder = tempfile::tempdir().expect("a folder");
    let (rows, changes) = write_files(folder.path(), scale);
    let postgres = Postgres::durable().await.expect("PostgreSQL");
    let mut times: [Vec<Duration>; 4] = Default::default();
    let mut memory = 0;
    for turn in 0..turns {
        // Each turn has a database of its own; who comes first changes.
        let url = postgres.database().await.expect("a database");
        let mut connection = PgConnection::connect(&url).await.expect("a connection");
        execute(&mut connection, BY_HAND).await;
        drop(Store::open(&url).await.expect("a store"));
        let copy = ["\\copy by_hand FROM 'all.csv' WITH (FORMAT csv, HEADER)".to_owned()];
        for (step, file) in ["all.csv", "changes.csv"].into_iter().enumerate() {
            for half in 0..2 {
                execute(&mut connection, "CHECKPOINT").await;
                if (half + turn) % 2 == 0 {
                    let (took, kb) = ours(&url, folder.path(), file);
                    memory = memory.max(kb);
                    times[step * 2].push(took);
                } else {
                    let script = if step == 0 { copy.to_vec() } else { merge_by_hand() };
                    times[step * 2 + 1].push(psql(&url, folder.path(), &script));
                }
            }
        }
        let differ = "SELECT count(*) FROM (SELECT * FROM by_hand EXCEPT SELECT * FROM ns_tpch.lineitem) x";
        let differ: i64 = sqlx::query_scalar(differ).fetch_one(&mut connection).await.expect("a count");
        assert_eq!(differ, 0, "both tables hold the same");
        execute(&mut connection, "DROP TABLE by_hand; DROP SCHEMA ns_tpch CASCADE").await;
    }
    let [first, copy, change, merge] = times.each_mut().map(|times| median(times).as_secs_f64());
    println!("lineitem at scale {scale}: {rows} rows of which {changes} change, {turns} turns, medians");
    println!("  first load      campanile {first:>7.2} s   psql \\copy     {copy:>7.2} s   ratio {:.2}", first / copy);
    println!(
        "  changes         campanile {change:>7.2} s   COPY and MERGE {merge:>7.2} s   ratio {:.2}",
        change / merge
    );
    println!("  peak memory of campanile: {} MB", memory / 1024);
}
