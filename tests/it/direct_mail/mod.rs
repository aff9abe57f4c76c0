//! Letters: one file for each run and step, whole or not at all, in every format, to a folder and to an object store.

mod pressed;

use std::{collections::BTreeMap, fs, io::Read, path::Path};

use parquet::{
    file::reader::{FileReader, SerializedFileReader},
    record::RowAccessor,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    either::Place,
    home::{PATIENCE, assert_conserved},
    world::{S3, free_port},
};

pub const MANIFEST: &str = r#"apiVersion: campanile.dev/v1alpha1
kind: Dataset
metadata: {name: town}
spec:
  entities:
  - name: person
    key: [id]
    fields:
    - {name: id, type: Integer}
    - {name: name, type: String}
    - {name: street, type: String}
    - {name: extra, type: String}
    - {name: city, type: String}
    - {name: language, type: String}
    - {name: letters, type: Boolean}
    source: {files: {url: data, format: CSV}}
  profile: {entity: person, locale: language, addresses: {postal: [name, street, "extra?", city]}}
  topics:
  - {name: news, category: Marketing, consent: {postal: {field: letters}}}
---
apiVersion: campanile.dev/v1alpha1
kind: Channel
metadata: {name: printer}
spec:
  directMail:
    file: {url: PLACE, FILE, seeds: [{values: {name: "Seed, Ada", city: Milano}}]}
    sender: {name: Shop, address: "Via Roma 1"}
---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {name: offer}
spec:
  directMail:
    columns:
    - {name: name, value: "{{ person.name }}", width: 12}
    - {name: city, value: "{{ person.city }}", width: 8}
    - {name: text, value: "Dear {{ person.name }}", width: 20}
    - {name: from, value: "{{ sender.name }}", width: 5}
  locales:
    it: {directMail: {columns: [{name: text, value: "Cara {{ person.name }}"}]}}
  personas:
  - {name: zoe, values: {person: {id: 9, name: Zoë, city: Roma, language: it}}}
---
apiVersion: campanile.dev/v1alpha1
kind: Campaign
metadata: {name: letters}
spec:
  dataset: town
  topic: news
  schedule: {immediate: {notAfter: 2099-01-01T00:00:00Z}}
  steps:
  - {name: all, audience: {entity: person, where: "true"}}
  - {name: post, directMail: {channel: printer, template: offer}}
"#;

/// Behind the first pause after a try that failed.
const LATER: &str = "2026-03-01T09:05:00Z";
const NOW: &str = "2026-03-01T09:00:00Z";

/// By what is wrong with each of them.
const PEOPLE: &str = "id,name,street,extra,city,language,letters
1,Ada,Via Roma 1,,Roma,it,t
2,\"Bo; \"\"B\"\"\",High St 2,Flat 3,Leeds,en,t
3,Cy,,,Paris,fr,t
4,Di,Rue 4,,Lyon,fr,f
5,Ed,Rue 5,, ,fr,t
6,Zoë,Weg 6,,Wien,de,t
";

pub fn manifest(place: &str, file: &str) -> String {
    MANIFEST.replace("PLACE", place).replace("FILE", file)
}

/// What stands in a folder, by name; what is hidden, too.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let all = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap());
    all.map(|entry| (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).unwrap())).collect()
}

/// The lines of all files below a folder.
fn told_lines(folder: &Path, lines: &mut Vec<Value>) {
    for entry in fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            told_lines(&entry, lines);
        } else {
            let text = fs::read_to_string(entry).unwrap();
            lines.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        }
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unpacked(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    match name.rsplit('.').next() {
        Some("gz") => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap()),
        Some("zst") => drop(zstd::Decoder::new(bytes).unwrap().read_to_end(&mut out).unwrap()),
        _ => out.extend_from_slice(bytes),
    }
    out
}

/// The rows of a file, whatever its format, each as the texts of its columns.
fn rows(name: &str, bytes: &[u8]) -> Vec<Vec<String>> {
    let plain = unpacked(name, bytes);
    let text = || String::from_utf8(plain.clone()).unwrap();
    if name.contains(".csv") {
        let mut reader = csv::ReaderBuilder::new().delimiter(b';').from_reader(plain.as_slice());
        assert_eq!(reader.headers().unwrap().iter().collect::<Vec<_>>(), ["name", "city", "text", "from"]);
        return reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect();
    }
    if name.contains(".jsonl") {
        let object = |line: &str| serde_json::from_str::<serde_json::Map<String, Value>>(line).unwrap();
        let cells = |line| object(line).values().map(|value| value.as_str().unwrap().to_owned()).collect();
        return text().lines().map(cells).collect();
    }
    if name.contains(".txt") {
        let field = |line: &str, from: usize, to: usize| {
            line.chars().skip(from).take(to - from).collect::<String>().trim_end().to_owned()
        };
        let text = text();
        assert!(text.lines().all(|line| line.chars().count() == 45), "{text}");
        let cells = |line| [(0, 12), (12, 20), (20, 40), (40, 45)].map(|(from, to)| field(line, from, to)).to_vec();
        return text.lines().map(cells).collect();
    }
    let reader = SerializedFileReader::new(bytes::Bytes::from(plain)).unwrap();
    let rows = reader.get_row_iter(None).unwrap();
    rows.map(|row| (0..4).map(|i| row.as_ref().unwrap().get_string(i).unwrap().clone()).collect()).collect()
}

/// What the printing house must get of [`PEOPLE`], in the order of the names; the seed is the last row.
fn expected() -> Vec<[&'static str; 4]> {
    vec![
        ["Ada", "Roma", "Cara Ada", "Shop"],
        ["Bo; \"B\"", "Leeds", "Dear Bo; \"B\"", "Shop"],
        ["Zoë", "Wien", "Dear Zoë", "Shop"],
    ]
}

fn assert_rows(mut found: Vec<Vec<String>>) {
    assert_eq!(found.pop().unwrap(), ["Seed, Ada", "Milano", "", ""]);
    found.sort();
    assert_eq!(found, expected());
}

/// The manifest says what its files are; they are all in one.
fn assert_manifest(found: &BTreeMap<String, Vec<u8>>, base: &str) -> Value {
    let manifest: Value = serde_json::from_slice(&found[&format!("{base}.manifest.json")]).unwrap();
    let files = manifest["files"].as_array().unwrap();
    assert_eq!(files.len() + 1, found.len(), "{:?}", found.keys());
    let mut all = 0;
    for file in files {
        let (name, bytes) = found.get_key_value(file["name"].as_str().unwrap()).unwrap();
        assert_eq!(
            (file["bytes"].as_u64().unwrap(), file["sha256"].as_str().unwrap()),
            (bytes.len() as u64, &*sha256(bytes))
        );
        assert_eq!(file["rows"], rows(name, bytes).len());
        all += rows(name, bytes).len();
    }
    assert_eq!((&manifest["rows"], &manifest["seeds"]), (&all.into(), &1.into()));
    assert_eq!(
        (&manifest["run"], &manifest["step"], &manifest["campaign"]),
        (&json!("letters-immediate"), &json!("post"), &json!("letters"))
    );
    manifest
}

fn assert_counts(place: &Place) {
    let run = place.get("campaignrun", "letters-immediate");
    assert_conserved(&run);
    let post = &run["status"]["channels"][0];
    assert_eq!((&post["sent"], &post["reasons"]), (&3.into(), &json!({"NoAddress": 2, "NoConsent": 1})), "{run}");
    assert_eq!(run["status"]["totals"]["waiting"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_format_says_the_same_and_its_manifest_says_so() {
    for (file, name, columns) in [
        (
            "format: CSV, delimiter: Semicolon, compression: Gzip",
            "letters-immediate-post.csv.gz",
            json!({"name": "name"}),
        ),
        ("format: JSONL, compression: Zstd", "letters-immediate-post.jsonl.zst", json!({"name": "name"})),
        ("format: FixedWidth", "letters-immediate-post.txt", json!({"name": "name", "width": 12})),
        ("format: Parquet", "letters-immediate-post.parquet", json!({"name": "name"})),
    ] {
        for place in Place::both().await {
            place.home.write("town/town.yaml", &manifest("out/letters", file));
            place.home.write("town/data/people.csv", PEOPLE);
            let ran = place.run(&["--deliver", "live"]);
            assert_eq!(ran.code, 0, "{ran:?}");
            assert_counts(&place);
            let found = files(&place.home.path().join("town/out/letters"));
            let manifest = assert_manifest(&found, "letters-immediate-post");
            assert_eq!((manifest["files"][0]["name"].as_str().unwrap(), &manifest["columns"][0]), (name, &columns));
            assert_rows(rows(name, &found[name]));
            assert!(place.home.outbox().is_empty());
            assert_eq!(place.ask("SELECT count(*) || '' FROM mailing_row").await, ["0"], "no address is kept");

            // Nothing is written again, and each letter is shown as it was.
            let again = place.run(&["--deliver", "live"]);
            assert!(again.code == 0 && files(&place.home.path().join("town/out/letters")) == found, "{again:?}");
            let shown = place.call(&["render", "--run", "letters-immediate", "1", "--step", "post"]);
            let shown: Value = serde_json::from_str(&shown.out).unwrap_or_else(|e| panic!("{e}: {shown:?}"));
            assert_eq!(shown["values"], json!({"name": "Ada", "city": "Roma", "text": "Cara Ada", "from": "Shop"}));
            assert_eq!(shown["to"], "Ada\nVia Roma 1\nRoma", "the lines of an address, without those that are missing");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_store_gets_the_same_files() {
    let s3 = S3::start().await.unwrap();
    s3.put("printer", b"").unwrap();
    let endpoint = s3.endpoint();
    for place in Place::both().await {
        let folder = if place.url.is_some() { "postgres" } else { "sqlite" };
        let reached = format!(
            "endpoint: '{endpoint}', secretRef: {{name: login}}, format: CSV, delimiter: Semicolon, rowsMax: 3"
        );
        place.home.write("town/town.yaml", &manifest(&format!("s3://printer/{folder}"), &reached));
        place.home.write("town/secret.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: login}\nstringData: {access_key_id: a, secret_access_key: b}\n");
        place.home.write("town/data/people.csv", PEOPLE);
        // Where the endpoint is not allowed nothing is reached; it waits.
        let refused = place.run(&["--deliver", "live", "--now", NOW]);
        assert!(refused.code == 1 && refused.err.contains("is not encrypted"), "{refused:?}");
        let ran = place.run(&["--deliver", "live", "--allow-url", &endpoint, "--now", LATER]);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_counts(&place);
        let found: BTreeMap<String, Vec<u8>> =
            ["letters-immediate-post-1.csv", "letters-immediate-post-2.csv", "letters-immediate-post.manifest.json"]
                .map(|name| (name.to_owned(), s3.get(&format!("printer/{folder}/{name}")).unwrap()))
                .into();
        let manifest = assert_manifest(&found, "letters-immediate-post");
        assert_eq!(manifest["files"].as_array().unwrap().iter().map(|file| &file["rows"]).collect::<Vec<_>>(), [3, 1]);
        let all = found.iter().filter(|(name, _)| name.ends_with(".csv")).flat_map(|(name, bytes)| rows(name, bytes));
        assert_rows(all.collect());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_is_closed_leaves_the_file_in_the_outbox_and_others_let_nobody_through() {
    for place in Place::both().await {
        let text = manifest("out", "format: CSV, delimiter: Semicolon");
        place.home.write("town/town.yaml", text.split("---").next().unwrap());
        place.home.write("town/data/people.csv", PEOPLE);
        place.read();
        place.home.write("town/town.yaml", &text);
        let planned = place.call(&["plan", "town"]);
        place.read();
        assert_counts(&place);
        let folder = place.home.path().join(".campanile/outbox/default/letters/letters-immediate");
        let found = files(&folder);
        assert_manifest(&found, "letters-immediate-post");
        assert_rows(rows("letters-immediate-post.csv", &found["letters-immediate-post.csv"]));
        assert!(!place.home.path().join("town/out").exists());
        assert!(planned.out.contains("file out/{run}-post.csv (CSV: name, city, text, from, 1 seed)"), "{planned:?}");
    }
    for gate in ["redirect=me@example.com", "allowlist=me@example.com"] {
        let home = crate::home::Home::new();
        home.write("town/town.yaml", &manifest("out", "format: CSV"));
        home.write("town/data/people.csv", PEOPLE);
        assert_eq!(home.run(&["town", "--deliver", gate]).code, 0);
        let run = home.get("campaignrun", "letters-immediate");
        assert_eq!(run["status"]["channels"][0]["reasons"], json!({"NoAddress": 2, "NoConsent": 1, "NotAllowed": 3}));
        assert!(!home.path().join("town/out").exists() && !home.path().join(".campanile/outbox").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_in_the_way_is_tried_again_and_one_that_never_answers_fails() {
    for place in Place::both().await {
        place.home.write("town/town.yaml", &manifest("out", "format: JSONL"));
        place.home.write("town/data/people.csv", PEOPLE);
        // What a step of letters records is told, too, whoever looks at its history.
        let told = "history: {exports: [{name: lake, files: {url: told, format: JSONL}, every: 1s}]}\n  profile:";
        let text = manifest("out", "format: JSONL").replacen("profile:", told, 1);
        place.home.write("town/town.yaml", &text);
        let blocked = place.home.write("town/out", "a file where the folder should be");
        let ran = place.run(&["--deliver", "live", "--now", NOW]);
        assert_eq!(ran.code, 1, "{ran:?}");
        let run = place.get("campaignrun", "letters-immediate");
        assert_eq!(
            (&run["status"]["totals"]["waiting"], &run["status"]["totals"]["sent"]),
            (&3.into(), &0.into()),
            "{run}"
        );
        let (_, reason, message) = place.condition("campaignrun", "letters-immediate", "Ready");
        assert!(reason == "Sending" && message.contains("; the file of `post` is not written: `out/"), "{message}");
        fs::remove_file(blocked).unwrap();
        let ran = place.run(&["--deliver", "live", "--now", LATER]);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_counts(&place);
        assert_manifest(&files(&place.home.path().join("town/out")), "letters-immediate-post");
        let mut lines: Vec<Value> = vec![];
        told_lines(&place.home.path().join("town/told"), &mut lines);
        let sent = lines.iter().filter(|line| line["type"].as_str().is_some_and(|kind| kind.ends_with(".sent")));
        let mut ids: Vec<&str> = sent.map(|line| line["id"].as_str().unwrap()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 3, "{lines:?}");
    }
    for place in Place::both().await {
        let nowhere = format!("http://127.0.0.1:{}/", free_port());
        let text = manifest("s3://printer/x", &format!("endpoint: '{nowhere}', format: CSV"));
        let text = text.replace("template: offer}", "template: offer, expiresAfter: 20s}");
        place.home.write("town/town.yaml", &text);
        place.home.write("town/data/people.csv", PEOPLE);
        let ran = place.run(&["--deliver", "live", "--allow-url", &nowhere]);
        let run = place.get("campaignrun", "letters-immediate");
        assert_conserved(&run);
        let post = &run["status"]["channels"][0];
        assert_eq!((&post["failed"], &post["reasons"]["WriteFailed"]), (&3.into(), &3.into()), "{run} {ran:?}");
        let why = place.ask("SELECT detail FROM outcome WHERE outcome = 'Failed' LIMIT 1").await;
        assert_eq!(why, ["the object store did not answer as it should"]);
    }
}

/// `n` people who all want letters.
pub fn crowd(n: usize) -> String {
    let mut text = "id,name,street,extra,city,language,letters\n".to_owned();
    (1..=n).for_each(|id| text.push_str(&format!("{id},P{id},Road {id},,Roma,,t\n")));
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_at_any_moment_leaves_one_whole_file() {
    const MANY: usize = 6_000;
    for place in Place::both().await {
        place.home.write("town/town.yaml", &manifest("out", "format: CSV, delimiter: Semicolon, compression: Gzip"));
        place.home.write("town/data/people.csv", &crowd(MANY));
        let out = place.home.path().join("town/out");
        let mut seen = 0;
        // Killed when so much has been done: rows collected, and the file begun.
        for sql in [
            "SELECT count(*) || '' FROM mailing_row HAVING count(*) > 0",
            "SELECT count(*) || '' FROM mailing_row HAVING count(*) > 3000",
            "SELECT '1' FROM mailing WHERE sealed_us IS NOT NULL",
            "SELECT '1' FROM mailing WHERE file IS NOT NULL",
        ] {
            let mut running = place.spawn_with("log", &["--deliver", "live", "--lease-ms", "1000"]);
            let begun = std::time::Instant::now();
            while begun.elapsed() < PATIENCE {
                if place.home.path().join(".campanile").exists() || place.url.is_some() {
                    let reached = place.try_ask(sql).await;
                    if reached.is_ok_and(|rows| !rows.is_empty()) {
                        break;
                    }
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            running.child.kill().unwrap();
            running.child.wait().unwrap();
            let found = files(&out);
            // A file that can be seen is whole, whether its manifest is there or not.
            for (name, bytes) in found.iter().filter(|(name, _)| !name.starts_with('.') && name.ends_with(".gz")) {
                assert_eq!(rows(name, bytes).len(), MANY + 1);
                seen += 1;
            }
        }
        let ran = place.run(&["--deliver", "live", "--lease-ms", "1000"]);
        assert_eq!(ran.code, 0, "{ran:?} {seen}");
        let run = place.get("campaignrun", "letters-immediate");
        assert_conserved(&run);
        assert_eq!(run["status"]["totals"]["sent"], MANY, "{run}");
        let found = files(&out);
        assert_eq!(found.len(), 2, "nothing that was begun is left: {:?}", found.keys());
        assert_manifest(&found, "letters-immediate-post");
        let mut names: Vec<String> =
            rows("x.csv.gz", &found["letters-immediate-post.csv.gz"]).into_iter().map(|row| row[0].clone()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), MANY + 1, "each person once, and the seed");
    }
}

#[test]
fn a_file_of_another_run_is_never_written_over() {
    let home = crate::home::Home::new();
    home.write("town/town.yaml", &manifest("out", "format: CSV, name: 'letters.{run}'"));
    home.write("town/data/people.csv", PEOPLE);
    home.write("town/out/letters.letters-immediate.csv", "theirs");
    home.write("town/out/letters.letters-immediate.manifest.json", "{\"id\": \"theirs\"}");
    let ran = home.run(&["town", "--deliver", "live"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(home.read("town/out/letters.letters-immediate.csv"), "theirs");
    let manifest: Value =
        serde_json::from_str(&home.read("town/out/letters.letters-immediate-2.manifest.json")).unwrap();
    assert_eq!(manifest["files"][0]["name"], "letters.letters-immediate-2.csv");
    assert!(home.read("town/out/letters.letters-immediate-2.csv").contains("Ada"));
}

#[test]
fn what_cannot_be_a_file_is_said_before_it_is_one() {
    let home = crate::home::Home::new();
    let whole = manifest("out", "format: FixedWidth");
    for (from, to, said) in [
        (", width: 8}", "}", "column `city` has no width, and channel `printer` writes FixedWidth"),
        ("city: Milano", "citi: Milano", "template `offer` has no column `citi`"),
        ("city: Milano", "city: Milano Lambrate", "the value of column `city` has 15 characters, and its width is 8"),
        ("url: out", "url: ../out", "`../out` is not a file below the manifest"),
        ("format: FixedWidth", "format: FixedWidth, name: letters", "it lacks `{run}`"),
        (
            "format: FixedWidth",
            "format: FixedWidth, name: '{run}-{day}'",
            "in braces stands one of namespace, campaign, run, step",
        ),
        ("postal: [name, ", "postal: [nam, ", "did you mean `name`?"),
        (
            "addresses: {postal: [name, street, \"extra?\", city]}",
            "addresses: {}",
            "dataset `town` has no postal address for the profile",
        ),
        (
            "template: offer}",
            "template: offer, throttle: {perSecond: 3}}",
            "letters leave together, in the file of a run",
        ),
        ("format: FixedWidth", "format: Parquet, compression: Gzip", "Parquet is compressed inside"),
        ("directMail: {channel", "email: {channel", "channel `printer` is directMail.file, which carries no email"),
    ] {
        assert!(whole.contains(from), "{from}");
        home.write("town/town.yaml", &whole.replace(from, to));
        let checked = home.call(&["validate", "town"]);
        assert!(checked.code != 0 && format!("{}{}", checked.out, checked.err).contains(said), "{said}: {checked:?}");
    }
    home.write("town/town.yaml", &whole);
    home.write(
        "town/data/people.csv",
        "id,name,street,extra,city,language,letters\n1,Ada,Via 1,,Roma,it,t\n2,Bo,Via 2,,Cernusco sul Naviglio,it,t\n",
    );
    let ran = home.run(&["town", "--deliver", "live"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let run = home.get("campaignrun", "letters-immediate");
    let post = &run["status"]["channels"][0];
    assert_eq!((&post["sent"], &post["reasons"]), (&1.into(), &json!({"RenderError": 1})), "{run}");
    let shown = home.call(&["render", "letters", "--persona", "zoe", "town"]);
    assert!(shown.out.contains("name: Zoë\ncity: Roma\ntext: Cara Zoë\n"), "{shown:?}");
    let why = home.call(&["why", "letters", "2", "town"]);
    assert_eq!(why.code, 0, "{why:?}");
}
