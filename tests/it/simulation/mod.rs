//! A deterministic simulation of the run engine: the real controller steps and the real dispatcher, on a simulated
//! clock, with processes that die and are stopped, and a store whose answers get lost.
//!
//! One thread, one clock, one die per process: a seed is a schedule. `CAMPANILE_SIMULATE=SEED` plays one again, and
//! `CAMPANILE_SCHEDULES` says how many are played.

mod post;
mod process;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use campanile::{
    api::{AudienceSpec, CampaignSpec, ChannelSpec, DatasetSpec, MessageTemplateSpec},
    clock::Clock,
    plan::{Bundle, Library},
    rule::Dialect,
    run::advance::advance,
    send::{
        dispatch::{Dispatcher, Secrets, Watch},
        lease::Lease,
        providers::{Providers, Secret},
    },
    store::{
        Sql, Store,
        campaign::{NewRun, Origin, Run, State},
        entity::Place,
        home::Scope,
    },
};
use jiff::Timestamp;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::{
    runtime::Builder,
    sync::Semaphore,
    time::{Instant, sleep},
};

use self::{
    post::{CONNECTIONS, Carrier, Post},
    process::{Dice, Observer, Process, Weather},
};
use crate::home::people_manifests;

const PEOPLE: u64 = 14;
const DEPTH: usize = 2;
const LEASE: Duration = Duration::from_secs(3);
/// How long things go wrong.
const STORM: Duration = Duration::from_secs(8);
/// Retries take half a minute and more; a run that has not ended then never does.
const END: Duration = Duration::from_secs(3_600);
const SCHEDULES: u64 = 2_000;

struct Nobody;

#[async_trait::async_trait]
impl Secrets for Nobody {
    async fn secret(&self, _: &str, _: &str) -> Option<Secret> {
        None
    }
}

impl Watch for Nobody {
    fn progressed(&self, _: &str, _: &str) {}
}

/// The manifests of `people_manifests`, as a library.
struct Town(BTreeMap<String, serde_yaml::Value>);

impl Town {
    fn of(text: &str) -> Self {
        let documents = serde_yaml::Deserializer::from_str(text).map(|d| serde_yaml::Value::deserialize(d).unwrap());
        Self(documents.map(|d| (d["kind"].as_str().unwrap().to_owned(), d["spec"].clone())).collect())
    }

    fn spec<T: serde::de::DeserializeOwned>(&self, kind: &str) -> Option<T> {
        self.0.get(kind).map(|spec| serde_yaml::from_value(spec.clone()).unwrap())
    }
}

impl Library for Town {
    fn dataset(&self, _: &str) -> Option<DatasetSpec> {
        self.spec("Dataset")
    }
    fn audience(&self, _: &str) -> Option<AudienceSpec> {
        self.spec("Audience")
    }
    fn channel(&self, _: &str) -> Option<ChannelSpec> {
        self.spec("Channel")
    }
    fn template(&self, _: &str) -> Option<MessageTemplateSpec> {
        self.spec("MessageTemplate")
    }
}

fn bundle(subject: &str, on_doubt: &str) -> Bundle {
    let step = format!("template: hello, onDoubt: {on_doubt}, once: {{ever: false}}}}");
    let text = people_manifests("", "true")
        .replace("spec: {outbox: {}}", &format!("spec: {{outbox: {{}}, connections: {CONNECTIONS}, depth: {DEPTH}}}"))
        .replace("template: hello}", &step)
        .replace("topic: news", "topic: service")
        .replace("Hello", subject);
    let town = Town::of(&text);
    Bundle::gather("ns", "greet", &town.spec::<CampaignSpec>("Campaign").unwrap(), &town).unwrap()
}

/// A store with the people in it, which every schedule begins from.
async fn template(path: &Path) {
    let store = Store::open(&format!("sqlite://{}", path.display())).await.unwrap();
    let bundle = bundle("Hello", "Hold");
    let place = Place { namespace: "ns", dataset: "town", dialect: Dialect::Sqlite };
    store.ensure_entity(place, &bundle.dataset.entities[0]).await.unwrap();
    let insert = format!("INSERT INTO {} (id, email, name) VALUES ($1, $2, $3)", place.table_name("person"));
    let insert: &'static str = insert.leak();
    for id in 1..=PEOPLE {
        let (id, email) = (i64::try_from(id).unwrap(), address(id));
        store.execute(Sql::new(insert).bind(id).bind(email).bind(format!("Person {id}"))).await.unwrap();
    }
    store.close().await;
}

fn address(id: u64) -> String {
    format!("p{id}@example.com")
}

/// Everything of one schedule.
struct World {
    seed: u64,
    dice: Dice,
    clock: Clock,
    /// Without faults: what the test itself sees.
    store: Store,
    post: Arc<Post>,
    processes: std::sync::Mutex<Vec<Arc<Process>>>,
    weather: Weather,
    resends: bool,
    begun: Instant,
}

impl World {
    fn new(seed: u64, store: Store) -> Self {
        let dice = Dice::new(seed);
        let calm = dice.chance(150);
        let stormy = Weather {
            lost_call: dice.below(30),
            lost_commit: dice.below(30),
            lost_answer: dice.below(30),
            death: dice.below(8),
            stop: dice.below(8),
            stop_ms_max: 2 * u64::try_from(LEASE.as_millis()).unwrap(),
        };
        Self {
            seed,
            clock: Clock::starting_at(Timestamp::from_second(1_800_000_000).unwrap()),
            store,
            post: Arc::default(),
            processes: std::sync::Mutex::default(),
            weather: if calm { Weather::CALM } else { stormy },
            resends: dice.chance(300),
            begun: Instant::now(),
            dice,
        }
    }

    fn is_stormy(&self) -> bool {
        self.begun.elapsed() < STORM
    }

    fn process(&self) -> (Arc<Process>, Store) {
        let weather = if self.is_stormy() { self.weather } else { Weather::CALM };
        let process = Arc::new(Process::new(self.dice.next(), weather));
        self.processes.lock().unwrap().push(process.clone());
        (process.clone(), self.store.clone().with_faults(process))
    }

    async fn pause(&self, ms_max: u64) {
        sleep(Duration::from_millis(1 + self.dice.below(ms_max))).await;
    }

    /// A worker, and whoever follows it when it dies; one is enough when the storm is over.
    async fn work(self: Arc<Self>, index: u64) {
        while self.is_stormy() || index == 0 {
            self.pause(300).await;
            let (process, store) = self.process();
            let carrier = Carrier {
                post: self.post.clone(),
                process: process.clone(),
                is_smooth: self.weather.death == 0,
                slots: Arc::new(Semaphore::new(CONNECTIONS * DEPTH)),
            };
            let providers = Providers::only(Arc::new(carrier));
            let lease = Lease::new(LEASE, false);
            let nobody = Arc::new(Nobody);
            let dispatcher = Dispatcher::new(store, self.clock, providers, nobody.clone(), nobody, lease);
            tokio::spawn(Arc::new(dispatcher).run());
            while !process.is_dead() {
                sleep(Duration::from_millis(200)).await;
            }
            self.pause(2_000).await;
        }
    }

    /// A controller that believes it leads, and whoever follows it when it dies.
    async fn control(self: Arc<Self>, index: u64) {
        while self.is_stormy() || index == 0 {
            self.pause(300).await;
            let (process, store) = self.process();
            let world = self.clone();
            let task = tokio::spawn(async move {
                loop {
                    // What is lost is tried again, as a reconciler does.
                    let _ = world.reconcile(&store).await;
                    sleep(if world.is_stormy() { Duration::from_millis(500) } else { Duration::from_secs(5) }).await;
                }
            });
            while !process.is_dead() {
                sleep(Duration::from_millis(200)).await;
            }
            task.abort();
            self.pause(2_000).await;
        }
    }

    async fn reconcile(&self, store: &Store) -> campanile::store::Result<()> {
        let (hash, text) = self.bundle("Wrong").revision().unwrap();
        let new = NewRun {
            namespace: "ns",
            name: "first",
            campaign: "greet",
            dataset: "d",
            mode: "Live",
            origin: Origin::Schedule,
            scheduled: Timestamp::from_second(1_800_000_000).unwrap(),
            predecessor: None,
            revision: (&hash, &text),
        };
        store.create_run(&new, self.clock.now()).await?;
        for run in store.runs("ns", "greet", 10).await? {
            advance(store, &run, self.clock.now()).await?;
        }
        Ok(())
    }

    fn bundle(&self, subject: &str) -> Bundle {
        bundle(subject, if self.resends { "Resend" } else { "Hold" })
    }

    /// What people do meanwhile: stop and start, cancel, send the rest as it should be.
    async fn meddle(self: Arc<Self>) {
        self.pause(6_000).await;
        match self.dice.below(4) {
            0 => self.stop_for_a_while().await,
            1 => {
                if let Some(run) = self.store.run("ns", "first").await.unwrap()
                    && matches!(run.state, State::Pending | State::Sending)
                {
                    let now = self.clock.now();
                    self.store.move_run(run.no, run.state, State::Cancelling, "Cancelled", "test", now).await.unwrap();
                }
            }
            2 => self.rerun().await,
            _ => {}
        }
    }

    async fn stop_for_a_while(&self) {
        let scope = Scope::Campaign("ns".to_owned(), "greet".to_owned());
        self.store.stop(&scope, "test", self.clock.now()).await.unwrap();
        let stopped = Instant::now();
        self.pause(6_000).await;
        let started = Instant::now();
        self.store.start(&scope).await.unwrap();
        if self.weather.death == 0 && self.weather.stop == 0 && self.weather.lost_call == 0 {
            let late = |at: Instant| at > stopped + Duration::from_secs(1) && at < started;
            let arrivals = self.post.all();
            assert!(!arrivals.values().flatten().any(|a| late(a.at)), "{}: sent a second after a stop", self.seed);
        }
    }

    async fn rerun(&self) {
        let Some(run) = self.store.run("ns", "first").await.unwrap() else { return };
        if run.state == State::Pending {
            return;
        }
        let (hash, text) = self.bundle("Right").revision().unwrap();
        for name in ["second", "third"] {
            let new = NewRun {
                namespace: "ns",
                name,
                campaign: "greet",
                dataset: "d",
                mode: "Live",
                origin: run.origin,
                scheduled: run.scheduled,
                predecessor: None,
                revision: (&hash, &text),
            };
            let made = self.store.supersede(&run, &new, self.clock.now()).await.unwrap();
            assert_eq!(made.is_some(), name == "second", "{}: a run has one successor", self.seed);
        }
    }

    /// Attempts of one worker without an outcome are never more than its connections times their depth.
    async fn check_doubts(&self) {
        let sql = "SELECT a.worker, count(*) FROM attempt a JOIN ledger l ON l.run_no = a.run_no AND l.step_no = a.step_no \
                     AND l.shard = a.shard AND l.seq BETWEEN a.first_seq AND a.last_seq \
                   WHERE NOT EXISTS (SELECT 1 FROM outcome o WHERE o.run_no = l.run_no AND o.step_no = l.step_no AND o.shard = l.shard AND o.seq = l.seq) \
                     AND NOT EXISTS (SELECT 1 FROM failure f WHERE f.run_no = l.run_no AND f.step_no = l.step_no AND f.shard = l.shard AND f.seq = l.seq AND f.attempt = a.attempt) \
                   GROUP BY a.worker";
        for row in self.store.fetch(Sql::new(sql)).await.unwrap() {
            let open: i64 = row.get(1).unwrap();
            assert!(open <= i64::try_from(CONNECTIONS * DEPTH).unwrap(), "{}: {open} attempts are open", self.seed);
        }
    }

    async fn has_ended(&self) -> bool {
        let runs = self.store.runs("ns", "greet", 10).await.unwrap();
        !runs.is_empty() && runs.iter().all(|run| run.state == State::Done)
    }

    async fn play(self: Arc<Self>) {
        for index in 0..=self.dice.below(2) {
            tokio::spawn(self.clone().control(index));
        }
        for index in 0..=self.dice.below(3) {
            tokio::spawn(self.clone().work(index));
        }
        let meddling = tokio::spawn(self.clone().meddle());
        while self.is_stormy() {
            self.check_doubts().await;
            self.pause(250).await;
        }
        meddling.await.unwrap();
        // Nobody is left but those who come after the storm.
        self.processes.lock().unwrap().iter().for_each(|process| process.kill());
        while !self.has_ended().await {
            assert!(self.begun.elapsed() < END, "{}: a run does not end: {:?}", self.seed, self.standing().await);
            sleep(Duration::from_secs(5)).await;
        }
        self.check().await;
    }

    async fn standing(&self) -> Vec<(Run, i64)> {
        let mut standing = vec![];
        for run in self.store.runs("ns", "greet", 10).await.unwrap() {
            let waiting = self.store.counts(&run).await.unwrap().iter().map(|(_, c)| c.totals.waiting).sum();
            standing.push((run, waiting));
        }
        standing
    }

    /// What must hold of the ledger and of what arrived.
    async fn check(&self) {
        let seed = self.seed;
        let mut resent = 0;
        for run in self.store.runs("ns", "greet", 10).await.unwrap() {
            for (step, counts) in self.store.counts(&run).await.unwrap() {
                let t = counts.totals;
                resent += counts.resent;
                let sum = t.sent + t.failed + t.excluded + t.expired + t.cancelled + t.in_doubt;
                assert_eq!((t.entered, t.waiting), (sum, 0), "{seed}: {} {step}: {counts:?}", run.name);
            }
        }
        let sql = "SELECT r.name, l.item, o.outcome, (SELECT count(*) FROM outcome p WHERE p.run_no = l.run_no AND p.step_no = l.step_no \
                     AND p.shard = l.shard AND p.seq = l.seq) FROM ledger l JOIN run r ON r.no = l.run_no \
                   LEFT JOIN outcome o ON o.run_no = l.run_no AND o.step_no = l.step_no AND o.shard = l.shard AND o.seq = l.seq ORDER BY r.no";
        let mut reached = BTreeMap::<u64, Vec<String>>::new();
        for row in self.store.fetch(Sql::new(sql)).await.unwrap() {
            let (run, item): (String, String) = (row.get(0).unwrap(), row.get(1).unwrap());
            let (outcome, n): (Option<String>, i64) = (row.get(2).unwrap(), row.get(3).unwrap());
            let outcome = outcome.unwrap_or_default();
            let id: u64 = item.parse().unwrap();
            let arrived = self.post.of(&address(id)).iter().filter(|a| a.run == run).count();
            let said = format!("{seed}: {item} in {run}: {outcome}, arrived {arrived} times");
            assert_eq!(n, 1, "{said}, {n} outcomes");
            match outcome.as_str() {
                "Sent" if self.resends => assert!(arrived >= 1, "{said}"),
                "Sent" => assert_eq!(arrived, 1, "{said}"),
                "InDoubt" => assert!(arrived <= 1 && !self.resends, "{said}"),
                // A message in doubt that is sent again may be refused or cancelled the second time.
                _ if self.resends => {}
                _ => assert_eq!(arrived, 0, "{said}"),
            }
            if outcome != "Cancelled" {
                reached.entry(id).or_default().push(run);
            }
        }
        let all: usize = self.post.all().values().map(Vec::len).sum();
        let people = usize::try_from(PEOPLE).unwrap();
        assert!(all <= people + usize::try_from(resent).unwrap(), "{seed}: {all} arrived, {resent} were sent again");
        assert!(reached.values().all(|runs| runs.len() == 1), "{seed}: somebody is in both revisions: {reached:?}");
    }
}

/// What arrived where and when, to compare two plays of one seed.
fn play(seed: u64, template: &Path) -> String {
    let folder = folder();
    let path = folder.path().join("store.db");
    std::fs::copy(template, &path).unwrap();
    let store = block_on(async {
        let store = Store::open(&format!("sqlite://{}", path.display())).await.unwrap();
        store.enter("simulation", "test").await.unwrap();
        store.with_faults(Arc::new(Observer))
    });
    // The clock stands from the very beginning: its ticks are the same in each play.
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = Arc::new(World::new(seed, store));
        world.clone().play().await;
        let arrived = world.post.all();
        let since = |at: Instant| (at - world.begun).as_micros();
        let lines = arrived.iter().flat_map(|(to, all)| all.iter().map(move |a| (to, a)));
        lines.map(|(to, a)| format!("{to} {} {}\n", a.run, since(a.at))).collect()
    })
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// In memory, where there is such a place: a simulated crash loses no file.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

fn with_template<T>(test: impl FnOnce(&Path) -> T) -> T {
    let folder = folder();
    let path = folder.path().join("template.db");
    block_on(template(&path));
    test(&path)
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn thousands_of_schedules_keep_every_promise() {
    let (first, count) = match setting("CAMPANILE_SIMULATE") {
        Some(seed) => {
            tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_test_writer().init();
            (seed, 1)
        }
        None => (1, setting("CAMPANILE_SCHEDULES").unwrap_or(SCHEDULES)),
    };
    with_template(|template| {
        std::thread::scope(|scope| {
            for half in 0..2 {
                scope.spawn(move || {
                    for seed in (first..first + count).filter(|seed| seed % 2 == half) {
                        play(seed, template);
                    }
                });
            }
        });
    });
}

#[test]
fn a_seed_is_a_schedule() {
    with_template(|template| {
        for seed in [3, 4] {
            let first = play(seed, template);
            assert!(first.lines().count() > 2, "{first}");
            assert_eq!(first, play(seed, template));
        }
    });
}
