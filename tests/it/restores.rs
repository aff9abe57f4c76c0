//! A backup sends nothing: not beside the store it was made of, and not in its place.

use std::{collections::BTreeSet, fs};

use crate::{
    home::{Home, PATIENCE, Running, assert_conserved, lawful, people, people_manifests},
    world::{Postgres, SmtpSink, until_true},
};

const PEOPLE: usize = 1_500;
/// The backup is made when so many have been mailed; the store goes on until as many more have.
const PART: usize = 300;

struct Scene {
    home: Home,
    sink: SmtpSink,
    postgres: &'static Postgres,
    url: String,
}

impl Scene {
    /// A campaign over PostgreSQL and SMTP that takes some seconds.
    async fn begin() -> Self {
        let postgres = Postgres::shared().await.unwrap();
        let url = postgres.database().await.unwrap();
        let sink = SmtpSink::start(&[]).await.unwrap();
        let home = Home::new();
        let channel = format!(
            "spec: {{email: {{from: a@example.com, smtp: {{host: 127.0.0.1, port: {}, tls: None}}}}, rate: {{perSecond: 300}}}}",
            sink.port()
        );
        let manifest = people_manifests("  schedule: {immediate: {notAfter: 2099-01-01T00:00:00Z}}", "true")
            .replace("spec: {outbox: {}}", &channel);
        home.write("town/town.yaml", &lawful(&manifest));
        home.write("town/data/people.csv", &people(PEOPLE));
        Self { home, sink, postgres, url }
    }

    fn args<'a>(&'a self, url: &'a str) -> [&'a str; 8] {
        ["run", "town", "--store", url, "--deliver", "live", "--lease-ms", "1000"]
    }

    fn start(&self) -> Running {
        self.home.spawn(&self.args(&self.url), "engine.log")
    }

    async fn until_mailed(&self, count: usize) {
        until_true("the mails", PATIENCE, || self.sink.mails().unwrap().len() >= count).await.unwrap();
    }

    /// Fails if somebody got the message twice; how many got it.
    fn mailed_once(&self) -> usize {
        let mails = self.sink.mails().unwrap();
        let all: BTreeSet<String> = mails.iter().flat_map(|mail| mail.to.clone()).collect();
        assert_eq!(all.len(), mails.len(), "somebody got the message twice");
        all.len()
    }

    fn until_idle(&self, url: &str) -> crate::home::Ran {
        let args: Vec<&str> = self.args(url).into_iter().chain(["--until-idle"]).collect();
        self.home.call(&args)
    }

    /// The way back that a person takes; nobody gets the message twice on it.
    fn recover(&self) {
        let refused = self.until_idle(&self.url);
        let mailed = self.mailed_once();
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.err.contains("StoreRegressed") && refused.err.contains("store recover"), "{}", refused.err);
        let worker = self.home.call(&["worker", "--store", &self.url]);
        assert!(worker.code == 1 && worker.err.contains("StoreRegressed"), "{worker:?}");

        let recovered = self.home.call(&["store", "recover", "--store", &self.url]);
        assert_eq!(recovered.code, 0, "{recovered:?}");
        assert_eq!(self.until_idle(&self.url).code, 1, "messages are in doubt");
        assert_eq!(self.mailed_once(), mailed, "what may have left is not sent again");
        let run = self.home.call(&["get", "run", "greet-immediate", "-o", "json", "--store", &self.url]);
        let run: serde_json::Value = serde_json::from_str(&run.out).unwrap();
        assert_conserved(&run);
        let n = |part: &str| usize::try_from(run["status"]["totals"][part].as_i64().unwrap()).unwrap();
        assert_eq!((n("waiting"), n("sent") + n("inDoubt")), (0, PEOPLE), "{run}");
        assert!(n("inDoubt") >= PART, "{run}");
        assert!(recovered.out.contains(&format!("now in doubt: {} ", n("inDoubt"))), "{}", recovered.out);
        assert_eq!(run["status"]["conditions"][0]["reason"], "CompletedWithDoubt", "{run}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_beside_the_store_sends_nothing() {
    let scene = Scene::begin().await;
    let mut engine = scene.start();
    scene.until_mailed(PART).await;
    let dump = scene.postgres.dump(&scene.url).unwrap();
    engine.child.kill().unwrap();
    engine.child.wait().unwrap();
    let copy = scene.postgres.database().await.unwrap();
    scene.postgres.restore(&dump, &copy).unwrap();
    let mailed = scene.mailed_once();
    let beside = scene.until_idle(&copy);
    assert!(beside.code == 1 && beside.err.contains("StoreNotMine") && beside.err.contains("copy"), "{beside:?}");
    assert_eq!(scene.home.call(&["worker", "--store", &copy]).code, 1);
    assert_eq!(scene.mailed_once(), mailed);
    assert_eq!(scene.until_idle(&scene.url).code, if mailed == PEOPLE { 0 } else { scene.in_doubt_code() });
}

impl Scene {
    /// The kill may have left messages in doubt: then the end is no success.
    fn in_doubt_code(&self) -> i32 {
        let listed = self.home.call(&["get", "indoubt", "--store", &self.url]);
        i32::from(listed.out.lines().count() > 1)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_over_the_store_doubles_nothing() {
    let scene = Scene::begin().await;
    let mut engine = scene.start();
    scene.until_mailed(PART).await;
    let dump = scene.postgres.dump(&scene.url).unwrap();
    scene.until_mailed(PART * 2 + scene.sink.mails().unwrap().len()).await;
    engine.child.kill().unwrap();
    engine.child.wait().unwrap();
    scene.postgres.restore(&dump, &scene.url).unwrap();
    scene.recover();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_over_the_store_of_a_running_home_ends_its_sending() {
    let scene = Scene::begin().await;
    let mut engine = scene.start();
    scene.until_mailed(PART).await;
    let dump = scene.postgres.dump(&scene.url).unwrap();
    scene.until_mailed(PART * 2 + scene.sink.mails().unwrap().len()).await;
    scene.postgres.restore(&dump, &scene.url).unwrap();
    until_true("the engine's word", PATIENCE, || scene.home.read("engine.log").contains("StoreRegressed"))
        .await
        .unwrap();
    engine.child.kill().unwrap();
    engine.child.wait().unwrap();
    scene.recover();
}

#[test]
fn an_old_file_in_the_place_of_the_store_starts_no_run_again() {
    let home = Home::new();
    home.write("town/town.yaml", &people_manifests("  schedule: {immediate: {}}", "true"));
    home.write("town/data/people.csv", &people(20));
    assert_eq!(home.run(&["town"]).code, 0);
    let store = home.path().join(".campanile/store.db");
    let backup = home.path().join("backup.db");
    fs::copy(&store, &backup).unwrap();
    home.write("town/data/people.csv", &people(25).replace("2026-01-01T00:00:00Z\n", "2026-01-02T00:00:00Z\n"));
    assert_eq!(home.call(&["trigger", "greet", "--name", "second"]).code, 0);
    assert_eq!(home.run(&["town"]).code, 0);
    assert_eq!(home.outbox().len(), 25);

    for journal in ["store.db-wal", "store.db-shm"] {
        let _ = fs::remove_file(home.path().join(".campanile").join(journal));
    }
    fs::copy(&backup, &store).unwrap();
    fs::remove_dir_all(home.path().join(".campanile/outbox")).unwrap();
    let refused = home.run(&["town"]);
    assert!(refused.code == 1 && refused.err.contains("StoreRegressed"), "{refused:?}");
    let recovered = home.call(&["store", "recover"]);
    assert!(recovered.code == 0 && recovered.out.contains("lost, ended for good: 1\n"), "{recovered:?}");
    assert_eq!(home.call(&["trigger", "greet", "--name", "second"]).code, 0);
    home.run(&["town"]);
    assert_eq!(home.outbox().len(), 0);
    assert_eq!(home.ready("campaignrun", "second").1, "StoreRegressed");
    let again = home.call(&["store", "recover"]);
    assert!(
        again.out.starts_with("runs that had come further than the store knows: 0\n"),
        "a recovered store is behind nothing: {again:?}"
    );
}
