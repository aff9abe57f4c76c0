//! The history goes to whom a dataset declares, at least once, under ids that stay: to a webhook that fails, hangs up and
//! is late, and into files by day, of a folder and of an object store.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use anyhow::ensure;
use campanile::{clock::Clock, feedback::webhook};
use http::{HeaderMap, HeaderName};
use serde_json::Value;

use crate::{
    either::Place,
    home::{PATIENCE, people, people_manifests, repository},
    metrics::scrape,
    world::{
        S3,
        any_provider::{Asked, Provider, Reply},
        free_port, until, until_true,
    },
};

const KEY: &str = "a key of ours";
const IMMEDIATE: &str = "  schedule: {immediate: {notAfter: 2099-01-01T00:00:00Z}}";

/// Four people, of whom one has no address.
fn declare(place: &Place, exports: &str) {
    let history = format!("  history: {{exports: [{exports}]}}\n  profile:");
    let history = if exports.is_empty() { "  profile:".to_owned() } else { history };
    place.home.write("town/town.yaml", &people_manifests(IMMEDIATE, "true").replacen("  profile:", &history, 1));
    place.home.write("town/data/people.csv", &people(4).replace("p4@example.com", ""));
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: NAME}\nstringData: ";
    let hook = secret.replace("NAME", "hook") + &format!("{{signing_key: {KEY}}}\n---\n");
    let lake = secret.replace("NAME", "lake") + "{access_key_id: a, secret_access_key: b}\n";
    place.home.write("town/secret.yaml", &(hook + &lake));
}

/// The events of requests, by id.
fn told(asked: &[Asked]) -> BTreeMap<String, Value> {
    let events = asked.iter().flat_map(|asked| asked.json().as_array().cloned().unwrap_or_default());
    events.map(|event| (event["id"].as_str().unwrap().to_owned(), event)).collect()
}

fn kinds(events: &BTreeMap<String, Value>) -> Vec<String> {
    let kind = |event: &Value| event["type"].as_str().unwrap().rsplit('.').next().unwrap().to_owned();
    let mut kinds: Vec<String> = events.values().map(kind).collect();
    kinds.sort();
    kinds
}

fn is_signed(asked: &Asked) -> bool {
    let header = |(name, value): (&String, &String)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    let headers: HeaderMap = asked.headers.iter().map(header).collect();
    webhook::is_signed(&[webhook::key(KEY)], &headers, asked.body.as_bytes(), Clock::system().now())
}

/// A bounce of the message to `to`, as its server writes it.
fn bounce(place: &Place, to: &str) {
    let mails = place.home.outbox().into_iter();
    let mail = mails.clone().find(|mail| fs::read_to_string(mail).unwrap().contains(to)).unwrap();
    let script = repository().join("examples/what-comes-back/bounce.sh");
    let bounce = Command::new("sh").arg(script).arg(mail).output().unwrap();
    assert!(bounce.status.success(), "{bounce:?}");
    place.home.deliver("mail/new/1", &bounce.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_told_until_it_has_taken_everything() {
    for place in Place::both().await {
        let turn = Arc::new(AtomicUsize::new(0));
        let seen = turn.clone();
        let provider = Provider::start(move |_| match seen.fetch_add(1, SeqCst) {
            0 => Reply::of(500, ""),
            // It has it, and nobody knows.
            1 => Reply::HangUp,
            2 => Reply::Answer(429, vec![("retry-after", "0".to_owned())], String::new()),
            _ => Reply::of(204, ""),
        });
        let provider = provider.await.unwrap();
        let url = provider.url();
        declare(&place, &format!("{{name: crm, webhook: {{url: '{url}/in', secretRef: {{name: hook}}}}, every: 1s}}"));
        let ran = place.run(&[]);
        assert!(ran.code != 0 && ran.err.contains("is not encrypted"), "an address inside is not reached: {ran:?}");
        assert!(provider.asked().is_empty());

        let ran = place.run(&["--allow-url", &url]);
        assert!(ran.code != 0 && ran.err.contains("is not told to crm: the webhook"), "{ran:?}");
        let status = place.status()["history"][0].clone();
        assert!(status["problem"].is_string() && status["waitsSince"].is_string(), "{status}");
        for folder in ["cur", "new", "tmp"] {
            fs::create_dir_all(place.home.path().join("mail").join(folder)).unwrap();
        }
        {
            let port = free_port();
            let args = ["--allow-url", &url, "--maildir", "mail", "--metrics", &format!("127.0.0.1:{port}")];
            let _running = place.spawn_with("log", &args);
            until_true("all outcomes", PATIENCE, || turn.load(SeqCst) > 3 && told(&provider.asked()).len() == 4)
                .await
                .unwrap();
            bounce(&place, "p2@example.com");
            until_true("what comes late", PATIENCE, || told(&provider.asked()).len() == 5).await.unwrap();
            until("that it is noted", PATIENCE, || async {
                ensure!(place.ask("SELECT CAST(count(*) AS TEXT) FROM history_due").await == ["0"]);
                Ok(())
            })
            .await
            .unwrap();
            let page = scrape(port);
            let of = "{namespace=\"default\",dataset=\"town\",export=\"crm\"}";
            assert!(page.contains(&format!("campanile_history_export_lag_seconds{of} 0.0\n")), "{page}");
            assert!(page.contains(&format!("campanile_history_export_lines_total{of} ")), "{page}");
        }
        let asked = provider.asked();
        let events = told(&asked);
        assert_eq!(kinds(&events), ["bounced", "excluded", "sent", "sent", "sent"]);
        assert!(asked.iter().all(is_signed) && asked.iter().all(|asked| !asked.body.contains('@')), "{asked:?}");
        let content = |asked: &Asked| asked.headers["content-type"].starts_with("application/cloudevents-batch+json");
        assert!(asked.iter().all(content));
        assert_eq!(asked[0].headers["webhook-id"], asked[1].headers["webhook-id"], "told again it is the same batch");
        let bounced = events.values().find(|event| event["type"] == "dev.campanile.message.bounced").unwrap();
        assert_eq!((&bounced["data"]["item"], &bounced["data"]["profile"]), (&"2".into(), &"2".into()), "{bounced}");
        assert_eq!(
            (&bounced["data"]["reason"], &bounced["source"]),
            (&"UnknownMailbox".into(), &"/campanile/local/default/town".into())
        );
        let excluded = events.values().find(|event| event["type"] == "dev.campanile.message.excluded").unwrap();
        assert_eq!(excluded["data"]["reason"], "NoAddress");

        // What was told is not told again, and what nobody gets is no history.
        assert_eq!(place.call(&["trigger", "greet", "--dry-run"]).code, 0);
        let ran = place.run(&["--allow-url", &url]);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_eq!(provider.asked().len(), asked.len());
        let status = place.status()["history"][0].clone();
        assert!(status["told"].as_i64() >= Some(5), "{status}");
        assert!(status["problem"].is_null() && status["waitsSince"].is_null(), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_in_between_leaves_nothing_out() {
    for place in Place::both().await {
        let turn = Arc::new(AtomicUsize::new(0));
        let seen = turn.clone();
        let provider = Provider::start(move |_| match seen.fetch_add(1, SeqCst) {
            0 => Reply::Nothing,
            _ => Reply::of(200, ""),
        });
        let provider = provider.await.unwrap();
        let url = provider.url();
        declare(&place, &format!("{{name: crm, webhook: {{url: '{url}', secretRef: {{name: hook}}}}, every: 1s}}"));
        {
            // It is killed while the webhook holds the first batch.
            let _running = place.spawn_with("log", &["--allow-url", &url]);
            until_true("the first batch", PATIENCE, || turn.load(SeqCst) == 1).await.unwrap();
        }
        let ran = place.run(&["--allow-url", &url]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let later = &provider.asked()[1..];
        assert_eq!(kinds(&told(later)), ["excluded", "sent", "sent", "sent"], "{later:?}");
        let status = place.status()["history"][0].clone();
        assert!(status["told"] == 4 && status["waitsSince"].is_null(), "{status}");
    }
}

/// What stands in the lines of all files of a folder's days.
fn lines(folder: &Path) -> Vec<Value> {
    let mut found = vec![];
    for day in fs::read_dir(folder).into_iter().flatten() {
        let day = day.unwrap().path();
        assert!(day.file_name().unwrap().to_string_lossy().starts_with("date=2"), "{}", day.display());
        for file in fs::read_dir(&day).unwrap() {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            let all: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let date = day.file_name().unwrap().to_string_lossy().replace("date=", "");
            assert!(all.iter().all(|line| line["time"].as_str().unwrap().starts_with(&date)));
            found.extend(all);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn files_hold_all_that_was_before_and_what_a_person_cancelled() {
    let s3 = S3::start().await.unwrap();
    s3.put("lake", b"").unwrap();
    let endpoint = s3.endpoint();
    for place in Place::both().await {
        let store = if place.url.is_some() { "postgres" } else { "sqlite" };
        declare(&place, "");
        place.run(&[]);
        let reached = format!("endpoint: '{endpoint}', secretRef: {{name: lake}}");
        declare(
            &place,
            &format!(
                "{{name: folder, files: {{url: told, format: JSONL}}}}, \
                 {{name: lake, files: {{url: 's3://lake/{store}', {reached}, format: Parquet}}}}"
            ),
        );
        let allow = ["--allow-url", &endpoint];
        let ran = place.run(&allow);
        assert_eq!(ran.code, 0, "{ran:?}");
        let folder = place.home.path().join("town/told");
        let before = lines(&folder);
        let mut kinds: Vec<&str> = before.iter().map(|line| line["what"].as_str().unwrap()).collect();
        kinds.sort_unstable();
        assert_eq!(kinds, ["Excluded", "Sent", "Sent", "Sent"], "{before:?}");

        // What waits and is cancelled is told, too; what was told is not told again.
        assert_eq!(place.call(&["stop", "--channel", "out", "--reason", "test"]).code, 0);
        assert_eq!(place.call(&["trigger", "greet", "--name", "again"]).code, 0);
        place.run(&allow);
        assert_eq!(place.call(&["cancel", "again"]).code, 0);
        place.run(&allow);
        let after = lines(&folder);
        let ids: BTreeSet<&str> = after.iter().map(|line| line["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), after.len(), "nothing twice");
        let of_again = after.iter().filter(|line| line["run"] == "again");
        let mut kinds: Vec<&str> = of_again.map(|line| line["what"].as_str().unwrap()).collect();
        kinds.sort_unstable();
        assert_eq!(kinds.first(), Some(&"Cancelled"), "{after:?}");
        assert!(!format!("{after:?}").contains('@'));

        // A warehouse, which is another home here, reads the same from the object store.
        let warehouse =
            Place::both().await.into_iter().find(|other| other.url.is_some() == place.url.is_some()).unwrap();
        let day = after[0]["time"].as_str().unwrap()[..10].to_owned();
        let source = format!(
            "    key: [id]\n    fields: [{{name: id, type: String}}, {{name: what, type: String}}, {{name: time, type: Timestamp}}, \
             {{name: profile, type: String}}, {{name: machine, type: Boolean}}]\n    \
             source: {{files: {{url: 's3://lake/{store}/date={day}', {reached}, format: Parquet}}}}\n"
        );
        warehouse.declare(&source);
        let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: lake}\nstringData: {access_key_id: a, secret_access_key: b}\n";
        warehouse.home.write("town/secret.yaml", secret);
        let ran = warehouse.run(&allow);
        assert_eq!(ran.code, 0, "{ran:?} {}", warehouse.message());
        let of_day = |line: &&Value| line["time"].as_str().unwrap().starts_with(&day);
        let mut expected: Vec<String> =
            after.iter().filter(of_day).map(|line| line["id"].as_str().unwrap().to_owned()).collect();
        expected.sort();
        let mut read = warehouse.ask("SELECT id FROM PERSON").await;
        read.sort();
        assert_eq!(read, expected);
    }
}

#[test]
fn what_cannot_be_told_is_said_at_its_field() {
    let place = Place { home: crate::home::Home::new(), url: None };
    for (export, said) in [
        ("{name: a, files: {url: '../out', format: JSONL}}", "is not a file below the manifest"),
        ("{name: a, files: {url: 's3://lake', format: Parquet}}", "names a bucket and no object"),
        ("{name: a, webhook: {url: 'https://', secretRef: {name: x}}}", "is not a URL"),
        ("{name: a}", "an export is exactly one of files, webhook"),
    ] {
        declare(&place, export);
        let checked = place.home.call(&["validate", "town"]);
        assert!(checked.code != 0 && format!("{}{}", checked.out, checked.err).contains(said), "{said}: {checked:?}");
    }
}
