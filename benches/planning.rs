//! A million ledger rows planned from an audience, against the `INSERT … SELECT` that a person would write.
//!
//! ```sh
//! cargo bench --bench planning              # PEOPLE=1000000 unless said
//! ```
//!
//! Both fill a table with the ledger's two unique keys, on the same PostgreSQL with its default durability, in turn and
//! five times each; the ratio is that of the medians. Ours also has what the person would do next: the work table that
//! can be queried, exclusions, counts and the cursors of the workers.

#[path = "../tests/it/world/mod.rs"]
mod world;

use std::time::{Duration, Instant};

use campanile::{
    api::{AudienceSpec, CampaignSpec, ChannelSpec, DatasetSpec, MessageTemplateSpec},
    plan::{Bundle, Library},
    rule::Dialect,
    run::engine,
    store::{
        Store,
        campaign::{NewRun, Origin},
        entity::Place,
    },
};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use world::Postgres;

const TURNS: usize = 5;

fn people() -> u64 {
    std::env::var("PEOPLE").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000)
}

const DATASET: &str = "
entities:
- name: person
  key: [id]
  fields:
  - {name: id, type: Integer}
  - {name: email, type: String}
  - {name: points, type: Integer}
  source: {files: {url: data, format: CSV}}
profile: {entity: person, addresses: {email: email}}
topics:
- {name: service, category: Transactional}
";
const CAMPAIGN: &str = "
dataset: town
topic: service
steps:
- {name: all, audience: {entity: person, where: 'person.points >= 0'}}
- {name: mail, email: {channel: out, template: hello, once: {ever: false}}}
";

struct Town;

impl Library for Town {
    fn dataset(&self, _: &str) -> Option<DatasetSpec> {
        serde_yaml::from_str(DATASET).ok()
    }
    fn audience(&self, _: &str) -> Option<AudienceSpec> {
        None
    }
    fn channel(&self, _: &str) -> Option<ChannelSpec> {
        serde_yaml::from_str("outbox: {}").ok()
    }
    fn template(&self, _: &str) -> Option<MessageTemplateSpec> {
        serde_yaml::from_str("email: {subject: Hello, text: Hello}").ok()
    }
}

/// What a person would write who knows the data: nobody is excluded, everybody is their own item.
const BY_HAND: &str = "INSERT INTO by_hand (run_day, run_no, step_no, shard, seq, item, address, profile, reason) \
    SELECT 20000, $1, 1, shard, row_number() OVER (PARTITION BY shard ORDER BY id) - 1, id::text, 0, id::text, NULL \
    FROM (SELECT id, ('x' || substr(md5(id::text), 1, 7))::bit(28)::int % 16 AS shard FROM ns_town.person WHERE points >= 0) p";

async fn execute(sql: &str, connection: &mut PgConnection) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.expect(sql);
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::main]
async fn main() {
    let people = people();
    let postgres = Postgres::durable().await.expect("PostgreSQL");
    let url = postgres.database().await.expect("a database");
    let store = Store::open(&url).await.expect("a store");
    store.enter("bench", "bench").await.expect("a home");
    let spec: CampaignSpec = serde_yaml::from_str(CAMPAIGN).expect("a campaign");
    let bundle = Bundle::gather("ns", "greet", &spec, &Town).expect("a bundle");
    let plan = bundle.compile(Dialect::Postgres).expect("a plan");
    let place = Place { namespace: "ns", dataset: "town", dialect: Dialect::Postgres };
    store.ensure_entity(place, &bundle.dataset.entities[0]).await.expect("a table");
    let mut by_hand = PgConnection::connect(&url).await.expect("a connection");
    let fill = format!(
        "INSERT INTO ns_town.person (id, email, points) SELECT n, 'p' || n || '@example.com', n % 5000 FROM generate_series(1, {people}) n; \
         ANALYZE ns_town.person; CREATE TABLE by_hand (LIKE campanile.ledger INCLUDING ALL); CHECKPOINT"
    );
    execute(&fill, &mut by_hand).await;
    println!("{people} ledger rows planned from an audience, {TURNS} times each");
    let (mut ours, mut theirs) = (vec![], vec![]);
    let (hash, text) = bundle.revision().expect("a revision");
    for turn in 0..TURNS {
        execute("CHECKPOINT", &mut by_hand).await;
        let begun = Instant::now();
        let no = i64::try_from(turn).expect("few") + 1;
        sqlx::query(BY_HAND).bind(no).execute(&mut by_hand).await.expect("the statement by hand");
        theirs.push(begun.elapsed());
        execute("CHECKPOINT", &mut by_hand).await;
        let new = NewRun {
            namespace: "ns",
            name: &format!("run-{turn}"),
            campaign: "greet",
            dataset: "d",
            mode: "Live",
            origin: Origin::Hand,
            scheduled: Timestamp::from_second(1_800_000_000).expect("a time"),
            predecessor: None,
            revision: (&hash, &text),
        };
        let (run, _) = store.create_run(&new, new.scheduled).await.expect("a run");
        let begun = Instant::now();
        engine::plan_run(&store, &bundle, &plan, &run, new.scheduled).await.expect("a planned run");
        ours.push(begun.elapsed());
    }
    let (ours, theirs) = (median(ours), median(theirs));
    println!("  campanile          {:>6.2} s", ours.as_secs_f64());
    println!("  INSERT … SELECT    {:>6.2} s", theirs.as_secs_f64());
    println!("  ratio              {:>6.2}", ours.as_secs_f64() / theirs.as_secs_f64());
}
