//! A file of letters before and behind its seal: who changes their mind, who cancels, what nobody can look at.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use campanile::{
    api::{AudienceSpec, CampaignSpec, ChannelSpec, DatasetSpec, MessageTemplateSpec, access::Access},
    clock::Clock,
    files::target::Target,
    plan::{Bundle, Library},
    run::advance::advance,
    send::{
        dispatch::{Dispatcher, Secrets, Watch},
        gate::Gate,
        lease::Lease,
        mailing::Places,
        providers::{Providers, Secret},
    },
    store::{
        Sql, Store,
        campaign::{NewRun, Origin, Run, State},
        entity,
        home::Scope,
        ledger::Topic,
        tally::Counts,
    },
};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::{files, manifest, rows};
use crate::{home::PATIENCE, world::Postgres};

const PEOPLE: i64 = 40;
/// Who comes later is alone, and waits for nobody's lease.
const LEASE: Duration = Duration::from_secs(15);

/// Runs that do not know of each other.
const AGAIN: &str = ", once: {ever: false}";

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

struct Nobody;

#[async_trait]
impl Secrets for Nobody {
    async fn secret(&self, _: &str, _: &str) -> Option<Secret> {
        None
    }
}

impl Watch for Nobody {
    fn progressed(&self, _: &str, _: &str) {}
}

/// A folder that can be reached, or cannot.
struct Printer {
    folder: PathBuf,
    is_away: AtomicBool,
}

#[async_trait]
impl Places for Printer {
    async fn place(&self, _: (&str, &str), url: &str, _: &Access) -> Result<Target, String> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err("nobody answers".to_owned());
        }
        Target::local(&self.folder, url)
    }
}

/// A run of letters whose people are in the store.
struct Scene {
    store: Store,
    run: Run,
    printer: Arc<Printer>,
    clock: Clock,
    _folder: tempfile::TempDir,
}

impl Scene {
    /// A run of a step with more settings.
    async fn on(url: &str, name: &str, step: &str) -> Self {
        let store = Store::open(url).await.unwrap();
        store.enter("test", "test").await.unwrap();
        let text = manifest("out", "format: CSV, delimiter: Semicolon");
        let town = Town::of(&text.replace("template: offer}", &format!("template: offer{step}}}")));
        let bundle = Bundle::gather("ns", "letters", &town.spec::<CampaignSpec>("Campaign").unwrap(), &town).unwrap();
        let place = entity::Place { namespace: "ns", dataset: "town", dialect: store.dialect() };
        store.ensure_entity(place, &bundle.dataset.entities[0]).await.unwrap();
        let table = place.table_name("person");
        let insert = format!(
            "INSERT INTO {table} (id, name, street, city) VALUES ($1, $2, 'Road', 'Roma') ON CONFLICT DO NOTHING"
        );
        let insert: &'static str = insert.leak();
        for id in 1..=PEOPLE {
            store.execute(Sql::new(insert).bind(id).bind(format!("P{id}"))).await.unwrap();
        }
        let clock = Clock::starting_at(Timestamp::from_second(1_800_000_000).unwrap());
        let (hash, text) = bundle.revision().unwrap();
        let new = NewRun {
            namespace: "ns",
            name,
            campaign: "letters",
            dataset: "town",
            mode: "Live",
            origin: Origin::Schedule,
            scheduled: clock.now(),
            predecessor: None,
            revision: (&hash, &text),
        };
        // The newest consent of everybody; the manifest asks for one.
        let mut tx = store.begin().await.unwrap();
        for id in 1..=PEOPLE {
            let sql = "INSERT INTO consent (namespace, dataset, profile, topic, channel, at_us, state, source, recorded_us) \
                       VALUES ('ns', 'town', $1, 'news', 'postal', 1, 'Granted', 'test', 1) ON CONFLICT DO NOTHING";
            tx.execute(Sql::new(sql).bind(id.to_string())).await.unwrap();
        }
        tx.commit().await.unwrap();
        let (run, _) = store.create_run(&new, clock.now()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let printer = Printer { folder: folder.path().to_owned(), is_away: AtomicBool::new(false) };
        let mut scene = Self { store, run, printer: Arc::new(printer), clock, _folder: folder };
        scene.advance().await;
        assert_eq!(scene.run.state, State::Sending, "{:?}", scene.run);
        scene
    }

    fn out(&self) -> PathBuf {
        self.printer.folder.join("out")
    }

    async fn advance(&mut self) {
        self.run = self.store.run("ns", &self.run.name).await.unwrap().unwrap();
        advance(&self.store, &self.run, self.clock.now()).await.unwrap();
        self.run = self.store.run("ns", &self.run.name).await.unwrap().unwrap();
    }

    fn body(&self) -> Body {
        Body { printer: self.printer.clone(), clock: self.clock }
    }

    fn process(&self, store: Store, writes: bool) -> Arc<Dispatcher> {
        self.body().process(store, writes)
    }

    async fn counts(&self) -> Counts {
        let counts = self.store.counts(&self.run).await.unwrap().remove(0).1;
        assert!(counts.totals.is_conserved(), "{counts:?}");
        counts
    }

    async fn number(&self, sql: &'static str) -> i64 {
        self.store.fetch_one(Sql::new(sql).bind(self.run.no)).await.unwrap().unwrap().get(0).unwrap()
    }

    /// All rows are collected, and nobody has sealed them.
    async fn collected(&self) {
        let collector = tokio::spawn(self.process(self.store.clone(), false).run());
        self.wait(async || self.number("SELECT count(*) FROM mailing_row WHERE run_no = $1").await == PEOPLE).await;
        self.wait(async || self.number("SELECT count(*) FROM batch WHERE run_no = $1").await == 0).await;
        collector.abort();
    }

    async fn wait(&self, is_there: impl AsyncFn() -> bool) {
        let begun = std::time::Instant::now();
        while !is_there().await {
            assert!(begun.elapsed() < PATIENCE, "{:?} {:?}", self.run, self.counts().await);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Works until every letter of the run has an outcome.
    async fn finish(&mut self) -> Counts {
        let process = self.process(self.store.clone(), true);
        let working = tokio::spawn(process.clone().run());
        self.wait(async || self.counts().await.totals.waiting == 0).await;
        process.finish().await.unwrap();
        working.abort();
        self.advance().await;
        self.counts().await
    }
}

/// What a process needs beside a store.
struct Body {
    printer: Arc<Printer>,
    clock: Clock,
}

impl Body {
    /// A process that sends; `writes` says whether it writes files, too.
    fn process(&self, store: Store, writes: bool) -> Arc<Dispatcher> {
        let nobody = Arc::new(Nobody);
        let outbox = self.printer.folder.join("outbox");
        let providers = Providers::new(Gate::Live, outbox, vec![], Arc::default(), self.clock);
        let dispatcher = Dispatcher::new(store, self.clock, providers, nobody.clone(), nobody, Lease::new(LEASE, true));
        let dispatcher = if writes { dispatcher.with_places(self.printer.clone()) } else { dispatcher };
        Arc::new(dispatcher)
    }
}

async fn urls() -> Vec<(tempfile::TempDir, String)> {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = format!("sqlite://{}", folder.path().join("store.db").display());
    let postgres = Postgres::shared().await.unwrap().database().await.unwrap();
    vec![(folder, sqlite), (tempfile::tempdir().unwrap(), postgres)]
}

fn names(found: &BTreeMap<String, Vec<u8>>, file: &str) -> Vec<String> {
    let mut names: Vec<String> = rows(file, &found[file]).into_iter().map(|mut row| row.swap_remove(0)).collect();
    assert_eq!(names.pop().unwrap(), "Seed, Ada");
    names.sort();
    names
}

fn topic() -> Topic<'static> {
    Topic { namespace: "ns", dataset: "town", topic: "news", channel: "postal" }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_withdraws_or_is_suppressed_before_the_seal_is_not_in_the_file() {
    for (_folder, url) in urls().await {
        let mut scene = Scene::on(&url, "run", "").await;
        scene.collected().await;
        assert_eq!(scene.counts().await.totals.waiting, PEOPLE);
        scene.store.withdraw(topic(), ("7", ""), None, "link", scene.clock.now()).await.unwrap();
        let place = entity::Place { namespace: "ns", dataset: "town", dialect: scene.store.dialect() };
        let gone: &'static str = format!("UPDATE {} SET street = NULL WHERE id = 9", place.table_name("person")).leak();
        scene.store.execute(Sql::new(gone)).await.unwrap();
        let counts = scene.finish().await;
        assert_eq!((counts.totals.sent, counts.totals.excluded), (PEOPLE - 2, 2), "{counts:?}");
        assert_eq!(counts.reasons, BTreeMap::from([("NoAddress".to_owned(), 1), ("NoConsent".to_owned(), 1)]));
        let fenced = scene.number("SELECT count(*) FROM once_fence WHERE run_no = $1").await;
        assert_eq!(fenced, PEOPLE - 2, "who got none may get one from another run");
        let found = files(&scene.out());
        let names = names(&found, "run-post.csv");
        assert!(
            names.len() as i64 == PEOPLE - 2 && !names.contains(&"P7".to_owned()) && !names.contains(&"P9".to_owned())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_before_the_seal_makes_no_file() {
    for (_folder, url) in urls().await {
        let mut scene = Scene::on(&url, "run", "").await;
        scene.collected().await;
        let now = scene.clock.now();
        assert!(
            scene.store.move_run(scene.run.no, State::Sending, State::Cancelling, "Cancelled", "", now).await.unwrap()
        );
        scene.advance().await;
        let counts = scene.finish().await;
        assert_eq!((counts.totals.cancelled, scene.run.state), (PEOPLE, State::Done), "{counts:?}");
        assert!(files(&scene.out()).is_empty());
        assert_eq!(scene.number("SELECT count(*) FROM mailing_row WHERE run_no = $1").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_holds_the_file_and_a_cancellation_ends_what_cannot_be_written() {
    for (_folder, url) in urls().await {
        let mut scene = Scene::on(&url, "run", "").await;
        scene.collected().await;
        let scope = Scope::Channel("ns".to_owned(), "printer".to_owned());
        scene.store.stop(&scope, "test", scene.clock.now()).await.unwrap();
        let working = tokio::spawn(scene.process(scene.store.clone(), true).run());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(files(&scene.out()).is_empty() && scene.counts().await.totals.waiting == PEOPLE);
        // Started again it is sealed; the printer is away, and the run is cancelled meanwhile.
        scene.printer.is_away.store(true, Ordering::SeqCst);
        scene.store.start(&scope).await.unwrap();
        scene
            .wait(async || {
                scene.number("SELECT count(*) FROM mailing WHERE run_no = $1 AND problem IS NOT NULL").await == 1
            })
            .await;
        let now = scene.clock.now();
        assert!(
            scene.store.move_run(scene.run.no, State::Sending, State::Cancelling, "Cancelled", "", now).await.unwrap()
        );
        scene
            .store
            .execute(Sql::new("UPDATE mailing SET due_us = 0 WHERE run_no = $1").bind(scene.run.no))
            .await
            .unwrap();
        scene
            .wait(async || {
                scene.number("SELECT count(*) FROM mailing WHERE run_no = $1 AND sealed_us IS NOT NULL").await == 0
            })
            .await;
        working.abort();
        scene.advance().await;
        let counts = scene.counts().await;
        assert_eq!((counts.totals.cancelled, scene.run.state), (PEOPLE, State::Done), "{counts:?}");
        assert!(files(&scene.out()).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announced_file_that_nobody_can_look_at_is_in_doubt_when_it_expires() {
    for (_folder, url) in urls().await {
        for is_there in [true, false] {
            let mut scene = Scene::on(&url, &format!("run-{is_there}"), AGAIN).await;
            scene.collected().await;
            // Sealed, placed, announced by a process that died then; the printer is away ever since.
            let sql = "UPDATE mailing SET sealed_us = 1, file = 'out/x', announced_us = 2 WHERE run_no = $1";
            scene.store.execute(Sql::new(sql).bind(scene.run.no)).await.unwrap();
            if is_there {
                fs::create_dir_all(scene.out()).unwrap();
                let id = format!("ns/{}/post/1", scene.run.name);
                fs::write(scene.out().join("x.manifest.json"), serde_json::json!({"id": id}).to_string()).unwrap();
            } else {
                scene.printer.is_away.store(true, Ordering::SeqCst);
            }
            scene.clock = Clock::starting_at(scene.clock.now() + SignedDuration::from_hours(24 * 5));
            let counts = scene.finish().await;
            let expected = if is_there { (PEOPLE, 0) } else { (0, PEOPLE) };
            assert_eq!((counts.totals.sent, counts.totals.in_doubt), expected, "{counts:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_sealed_before_it_expires_is_expired() {
    for (_folder, url) in urls().await {
        let mut scene = Scene::on(&url, "run", "").await;
        scene.collected().await;
        scene.clock = Clock::starting_at(scene.clock.now() + SignedDuration::from_hours(24 * 5));
        let counts = scene.finish().await;
        assert_eq!(counts.totals.expired, PEOPLE, "{counts:?}");
        assert!(files(&scene.out()).is_empty());
    }
}
