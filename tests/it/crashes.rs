//! Everything dies at random points: engine, worker, PostgreSQL, the SMTP server. Nobody is lost and nobody gets a
//! message twice; what nobody can know is counted in doubt, and is never more than the bound.
//!
//! A failure prints its seed; `CAMPANILE_SEEDS=50` runs the full set, `CAMPANILE_SEED=n` one of them.

use std::{
    collections::BTreeMap,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::{
    home::{Home, PATIENCE, Running, assert_conserved, lawful, people, people_manifests},
    world::{Postgres, SmtpSink, until_true},
};

const PEOPLE: usize = 20_000;
const CONNECTIONS: usize = 4;
const DEPTH: usize = 8;
/// Short, so that a takeover is soon; long beside the time that a beat takes on a busy machine.
const LEASE_MS: u64 = 1_500;
const SEEDS: u64 = 5;

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }
}

/// The processes of one home.
struct Scene {
    home: Home,
    url: String,
    postgres: Postgres,
    sink: SmtpSink,
    engine: Option<Running>,
    workers: Vec<Option<Running>>,
    /// Processes that died, or slept past their lease, with attempts under way.
    deaths: usize,
    /// Deaths of the SMTP server: every connection of every process may be behind its final dot.
    breaks: usize,
}

impl Scene {
    async fn begin(on_doubt: &str) -> Self {
        let postgres = Postgres::start().await.unwrap();
        let url = postgres.database().await.unwrap();
        let sink = SmtpSink::start(&[]).await.unwrap();
        let home = Home::new();
        let channel = format!(
            "spec: {{email: {{from: a@example.com, smtp: {{host: 127.0.0.1, port: {}, tls: None}}}}, connections: {CONNECTIONS}, depth: {DEPTH}}}",
            sink.port()
        );
        let manifest = people_manifests("  schedule: {immediate: {notAfter: 2099-01-01T00:00:00Z}}", "true")
            .replace("spec: {outbox: {}}", &channel)
            .replace(
                "    email: {channel: out, template: hello}",
                &format!("    email: {{channel: out, template: hello{on_doubt}}}"),
            );
        home.write("town/town.yaml", &lawful(&manifest));
        home.write("town/data/people.csv", &people(PEOPLE));
        let mut scene =
            Self { home, url, postgres, sink, engine: None, workers: vec![None, None], deaths: 0, breaks: 0 };
        scene.revive();
        scene
    }

    fn args(&self, command: &str) -> Vec<String> {
        let lease = LEASE_MS.to_string();
        let mut args = vec![command];
        if command == "run" {
            args.push("town");
        }
        args.extend(["--store", &self.url, "--deliver", "live", "--lease-ms", &lease]);
        args.into_iter().map(str::to_owned).collect()
    }

    /// Starts whoever is dead or has ended.
    fn revive(&mut self) {
        let is_dead =
            |running: &mut Option<Running>| running.as_mut().is_none_or(|r| r.child.try_wait().unwrap().is_some());
        let spawn = |home: &Home, args: Vec<String>, log: &str| {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            Some(home.spawn(&args, log))
        };
        if is_dead(&mut self.engine) {
            self.engine = spawn(&self.home, self.args("run"), "engine.log");
        }
        // A worker finds its home only once the engine has made it; until then it ends, and is started again.
        for index in 0..self.workers.len() {
            if is_dead(&mut self.workers[index]) {
                self.workers[index] = spawn(&self.home, self.args("worker"), &format!("worker-{index}.log"));
            }
        }
    }

    async fn harm(&mut self, dice: &mut Dice) -> String {
        let victim = dice.below(3);
        match dice.below(10) {
            0..3 => {
                if let Some(mut engine) = self.engine.take() {
                    engine.child.kill().unwrap();
                }
                self.deaths += 1;
                "the engine is killed".to_owned()
            }
            3..6 => {
                let index = usize::try_from(victim % 2).unwrap();
                if let Some(mut worker) = self.workers[index].take() {
                    worker.child.kill().unwrap();
                }
                self.deaths += 1;
                format!("worker {index} is killed")
            }
            6 => {
                self.postgres.restart().await.unwrap();
                // Who had committed attempts and could not record outcomes goes on asking; nobody dies of it, but a
                // beat may fail for longer than the lease.
                self.deaths += 1 + self.workers.len();
                "PostgreSQL crashes and comes back".to_owned()
            }
            7..9 => {
                self.sink.restart().await.unwrap();
                self.breaks += 1;
                "the SMTP server crashes and comes back".to_owned()
            }
            _ => {
                let index = usize::try_from(victim % 2).unwrap();
                if let Some(worker) = &self.workers[index] {
                    let pid = worker.child.id().to_string();
                    signal("-STOP", &pid);
                    tokio::time::sleep(Duration::from_millis(LEASE_MS * 2)).await;
                    signal("-CONT", &pid);
                }
                self.deaths += 1;
                format!("worker {index} sleeps past its lease and wakes")
            }
        }
    }

    fn done(&self) -> Option<Value> {
        let run = self.home.call(&["get", "run", "greet-immediate", "-o", "json", "--store", &self.url]);
        serde_json::from_str(&run.out).ok()
    }
}

fn signal(name: &str, pid: &str) {
    Command::new("kill").args([name, pid]).stderr(Stdio::null()).status().unwrap();
}

/// How often each address got the message.
fn received(sink: &SmtpSink) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for mail in sink.mails().unwrap() {
        for to in mail.to {
            *counts.entry(to).or_default() += 1;
        }
    }
    counts
}

fn total(run: &Value, part: &str) -> usize {
    usize::try_from(run["status"]["totals"][part].as_i64().unwrap_or(0)).unwrap()
}

async fn one_seed(seed: u64) {
    println!("CAMPANILE_SEED={seed}");
    let begun = std::time::Instant::now();
    let mut dice = Dice(seed);
    // Every other one sends again what is in doubt.
    let resends = seed.is_multiple_of(2);
    let mut scene = Scene::begin(if resends { ", onDoubt: Resend" } else { "" }).await;
    let mut story = vec![];
    until_true("the first messages", PATIENCE, || scene.sink.count() > 0).await.unwrap();
    while scene.sink.count() < PEOPLE * 9 / 10 && story.len() < 12 {
        let share = scene.sink.count() + usize::try_from(dice.below(2_500)).unwrap();
        let due =
            until_true("more messages", Duration::from_secs(20), || scene.sink.count() >= share.min(PEOPLE * 9 / 10));
        // A story in which everybody died goes on with the next harm: revive below.
        let _ = due.await;
        let seen = scene.sink.count();
        let harm = scene.harm(&mut dice).await;
        story.push(format!("{:?} {seen}: {harm}", begun.elapsed()));
        scene.revive();
    }
    let finished = |scene: &mut Scene| {
        scene.revive();
        scene.done().is_some_and(|run| {
            run["status"]["completedAt"].is_string() || total(&run, "waiting") == 0 && total(&run, "entered") == PEOPLE
        })
    };
    let end = std::time::Instant::now() + PATIENCE * 3;
    while !finished(&mut scene) {
        assert!(std::time::Instant::now() < end, "seed {seed}: {story:?}\n{:?}", scene.done());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let run = scene.done().unwrap();
    assert_conserved(&run);
    assert_eq!(total(&run, "entered"), PEOPLE);
    let (sent, in_doubt) = (total(&run, "sent"), total(&run, "inDoubt"));
    let counts = received(&scene.sink);
    let resent = usize::try_from(run["status"]["channels"][0]["resent"].as_i64().unwrap_or(0)).unwrap();
    // Who got it more than once was in doubt as often, and that is counted.
    let again: usize = counts.values().map(|n| n - 1).sum();
    assert!(again <= resent, "seed {seed}: {again} came again, {resent} were sent again\n{story:#?}");
    assert!(resends || resent == 0, "seed {seed}: {run}");
    assert!(!resends || in_doubt == 0, "seed {seed}: {run}");
    assert_eq!(sent + in_doubt, PEOPLE, "seed {seed}: {run}\n{story:#?}");
    assert!(counts.len() >= sent && counts.len() <= sent + in_doubt, "seed {seed}: {} {sent} {in_doubt}", counts.len());
    let bound = (scene.deaths + scene.breaks * 3) * CONNECTIONS * DEPTH;
    let doubted = in_doubt + resent;
    assert!(doubted <= bound, "seed {seed}: {doubted} in doubt, at most {bound}\n{story:#?}");
    println!(
        "seed {seed}: {sent} sent, {in_doubt} in doubt, {resent} sent again (at most {bound}), {again} came twice, {} harms: {story:?}",
        story.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_lost_and_nobody_gets_it_twice() {
    if let Some(seed) = std::env::var("CAMPANILE_SEED").ok().and_then(|n| n.parse().ok()) {
        return one_seed(seed).await;
    }
    let seeds = std::env::var("CAMPANILE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(SEEDS);
    for seed in 1..=seeds {
        one_seed(seed).await;
    }
}
