//! Nothing personal gets into a plan: every text and every key of the data is marked, and no report, no error and no log
//! holds a mark, however it is asked for.

use std::{fmt::Write, fs, path::Path, process::Stdio};

use crate::{either::Place, home::Home};

/// Stands in every text and key of the data.
const MARK: &str = "MARKED";
const PEOPLE: usize = 120;

const TOWN: &str = r#"apiVersion: campanile.dev/v1alpha1
kind: Dataset
metadata: {name: town}
spec:
  entities:
  - name: person
    key: [code]
    fields:
    - {name: code, type: String}
    - {name: email, type: String}
    - {name: name, type: String}
    - {name: country, type: String}
    - {name: language, type: String}
    - {name: points, type: Integer}
    - {name: news, type: Boolean}
    - {name: news_at, type: Timestamp}
    source: {files: {url: data/people.csv, format: CSV}}
  - name: visit
    key: [shop, number]
    fields:
    - {name: shop, type: String}
    - {name: number, type: Integer}
    - {name: person_code, type: String}
    - {name: note, type: String}
    links:
    - {name: person, to: person, keys: {person_code: code}, inverse: visits}
    source: {files: {url: data/visits.csv, format: CSV}}
  profile: {entity: person, locale: language, addresses: {email: email}}
  topics:
  - name: news
    category: Marketing
    consent: {email: {field: news, changedAt: news_at, default: OptedIn}}
---
apiVersion: campanile.dev/v1alpha1
kind: Channel
metadata: {name: out}
spec: {outbox: {}}
---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {name: hello}
spec:
  email: {subject: "Hello {{ person.name }}", text: "Your country is {{ person.country }}"}
  personas: [{name: zoe, values: {person: {name: Zoë, country: IT}}}]
---
apiVersion: campanile.dev/v1alpha1
kind: Audience
metadata: {name: foreign}
spec: {dataset: town, entity: person, where: 'person.country != "IT" && !person.name.startsWith("X")', guard: {maxSize: 5}}
---
apiVersion: campanile.dev/v1alpha1
kind: Campaign
metadata: {name: people}
spec:
  dataset: town
  topic: news
  schedule: {cron: "0 9 * * *", timeZone: UTC}
  steps:
  - {name: all, audience: {entity: person, where: 'person.country != "IT" && !person.name.startsWith("X")'}}
  - {name: parts, split: {branches: [{name: rich, where: person.points > 50, atMost: 40%}], rest: others}}
  - {name: one-each, from: parts.others, deduplicate: {by: [name], keep: {first: points}}}
  - {name: both, union: {of: [parts.rich, one-each]}}
  - {name: seen, enrich: {as: seen, link: person.visits, top: 2, orderBy: number}}
  - {name: mail, email: {channel: out, template: hello, once: {ever: true}}}
---
apiVersion: campanile.dev/v1alpha1
kind: Campaign
metadata: {name: visits}
spec:
  dataset: town
  topic: news
  schedule: {cron: "0 9 * * *", timeZone: UTC}
  steps:
  - {name: all, audience: {entity: visit, where: "true"}}
  - {name: mail, email: {channel: out, template: hello, per: profile}}
---
apiVersion: campanile.dev/v1alpha1
kind: Campaign
metadata: {name: guarded}
spec:
  dataset: town
  topic: news
  steps:
  - {name: all, audience: {ref: foreign}}
  - {name: mail, email: {channel: out, template: hello}}
---
apiVersion: campanile.dev/v1alpha1
kind: Campaign
metadata: {name: faulty}
spec:
  dataset: town
  topic: news
  steps:
  - {name: all, audience: {entity: person, where: 100 / person.points > 1}}
  - {name: mail, email: {channel: out, template: hello}}
"#;

fn people() -> String {
    let mut rows = String::from("code,email,name,country,language,points,news,news_at\n");
    for n in 0..PEOPLE {
        let email = match n % 9 {
            0 => String::new(),
            1 => format!("{MARK}{n}@@nowhere"),
            _ => format!("{MARK}{n}@example.com"),
        };
        let (country, points) = if n % 7 == 0 { (String::new(), 0) } else { (format!("{MARK}-land{n}"), n) };
        let news = if n % 5 == 0 { "false" } else { "true" };
        writeln!(rows, "{MARK}-{n},{email},{MARK} {n},{country},{MARK}x{n},{points},{news},2026-04-01T00:00:00Z")
            .unwrap();
    }
    // Rows that cannot be read.
    rows + &format!("{MARK}-bad,a@b.c,{MARK},,{MARK},{MARK},true,2026-04-01T00:00:00Z\n{MARK}-short,{MARK}\n")
}

fn visits() -> String {
    let mut rows = String::from("shop,number,person_code,note\n");
    for n in 0..PEOPLE * 2 {
        let person = if n % 11 == 0 { format!("{MARK}-nobody{n}") } else { format!("{MARK}-{}", n % PEOPLE) };
        writeln!(rows, "{MARK}-shop{},{n},{person},{MARK} note {n}", n % 4).unwrap();
    }
    rows
}

/// How often the mark stands in the files below a folder.
fn marks(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let count = |path: &Path| {
        let text = fs::read(path).unwrap_or_default();
        String::from_utf8_lossy(&text).matches(MARK).count()
    };
    entries.flatten().map(|e| if e.path().is_dir() { marks(&e.path()) } else { count(&e.path()) }).sum()
}

/// What `campanile plan` says, in all: the report, the errors and the log.
fn said(home: &Home, args: &[&str]) -> String {
    let all: Vec<&str> = ["plan", "town", "--now", "2026-05-02T09:00:00Z"].iter().chain(args).copied().collect();
    let done = home.command(&all).env("CAMPANILE_LOG", "debug").stdin(Stdio::null()).output().unwrap();
    [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_report_holds_a_persons_value_however_it_is_asked_for() {
    for place in Place::both().await {
        let home = &place.home;
        home.write("town/town.yaml", TOWN);
        home.write("town/data/people.csv", &people());
        home.write("town/data/visits.csv", &visits());
        // A run was, with messages full of it.
        place.run(&["--now", "2026-05-01T08:59:59Z"]);
        place.run(&["--now", "2026-05-01T09:00:00Z"]);
        assert!(marks(&home.path().join(".campanile/outbox")) > PEOPLE, "nobody was written to");
        home.write(
            "before/town.yaml",
            &TOWN.replace("Your country is", "You live in").replace("points > 50", "points > 60"),
        );
        let store: Vec<&str> = place.url.iter().flat_map(|url| ["--store", url.as_str()]).collect();
        let of_store = [&[][..], &["--base", "before"], &["--untrusted", "--base", "before"], &["--sample", "50%"]];
        let real = &["--real-samples"][..];
        let wrong = [&["--timeout", "1ms"][..], &["--max-rows", "1"], real];
        for format in ["text", "markdown", "html", "json"] {
            for more in of_store.iter().chain(&wrong) {
                let report = said(home, &[&["-o", format], *more, &store].concat());
                assert!(!report.contains(MARK), "-o {format} {more:?} holds a mark:\n{report}");
            }
            let report = said(home, &["-o", format, "--data", "--base", "before"]);
            assert!(!report.contains(MARK), "-o {format} --data holds a mark:\n{report}");
        }
        // What was looked through says something of these people.
        let report = said(home, &[&["-o", "markdown"], &store[..]].concat());
        for word in ["NoConsent", "MalformedAddress", "UnmatchedProfile", "Zoë", "outside its guard", "divides by zero"]
        {
            assert!(report.contains(word), "{word} is not in it:\n{report}");
        }
    }
}
