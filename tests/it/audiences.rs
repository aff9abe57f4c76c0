//! Audiences as shared things: combined, asked about in rules, refreshed and kept, imported, exported, guarded; on both
//! stores, as somebody sees it who runs a folder.

use serde_json::Value;

use crate::{
    home::{Home, PATIENCE, assert_conserved, copy, people, repository},
    world::Postgres,
};

const DATASET: &str = r#"
kind: Dataset
metadata: {name: town}
spec:
  entities:
  - name: person
    key: [id]
    version: updated_at
    fields:
    - {name: id, type: Integer}
    - {name: email, type: String}
    - {name: name, type: String}
    - {name: news, type: Boolean}
    - {name: news_at, type: Timestamp}
    - {name: updated_at, type: Timestamp}
    source: {files: {url: data/people, format: CSV}}
  - name: order
    key: [person_id, nr]
    fields:
    - {name: person_id, type: Integer}
    - {name: nr, type: Integer}
    - {name: amount, type: Decimal, scale: 2}
    - {name: day, type: Date}
    - {name: friend_id, type: Integer}
    links:
    - {name: person, to: person, keys: {person_id: id}, inverse: orders}
    - {name: friend, to: person, keys: {friend_id: id}, inverse: gifts}
    source: {files: {url: data/orders, format: CSV}}
  profile: {entity: person, addresses: {email: email}}
  topics:
  - name: news
    category: Marketing
    consent: {email: {field: news, changedAt: news_at}}
---
kind: Channel
metadata: {name: out}
spec: {outbox: {}}
---
kind: MessageTemplate
metadata: {name: hello}
spec: {email: {subject: "Hello {{ person.name }}", text: "Dear {{ person.name }}"}}
"#;

/// Persons 1 to 10; persons 1 to 5 have an order each, numbered as they are, of ten times their number. Two are for a
/// friend, one for somebody who is not there.
fn fill(home: &Home, manifests: &str) {
    let manifests: Vec<String> = format!("{DATASET}---\n{}", manifests.trim_end().trim_end_matches("---"))
        .split("---\n")
        .map(|one| format!("apiVersion: campanile.dev/v1alpha1\n{}", one.trim_start()))
        .collect();
    home.write("town/town.yaml", &manifests.join("\n---\n"));
    home.write("town/data/people/all.csv", &people(10));
    let mut orders = "person_id,nr,amount,day,friend_id\n".to_owned();
    for (n, friend) in (1..).zip(["", "7", "2", "", "99"]) {
        orders.push_str(&format!("{n},{n},{n}0.50,2026-01-0{n},{friend}\n"));
    }
    home.write("town/data/orders/all.csv", &orders);
}

/// An Audience of persons, or of what `spec` says.
fn audience(name: &str, spec: &str) -> String {
    let entity = if spec.contains("entity:") { "" } else { "entity: person, " };
    format!("kind: Audience\nmetadata: {{name: {name}}}\nspec: {{dataset: town, {entity}{spec}}}\n---\n")
}

/// A campaign that reads each of the audiences, and writes to those of the last.
fn campaign(name: &str, schedule: &str, audiences: &[&str]) -> String {
    let mut steps = String::new();
    for (index, audience) in audiences.iter().enumerate() {
        let unused = if index + 1 < audiences.len() { ", unused: true" } else { "" };
        let (reference, params) = audience.split_once(' ').unwrap_or((audience, ""));
        let step = audience.replace([' ', '{', '}', ':'], "-");
        let step = step.trim_matches('-').replace("--", "-");
        let params = if params.is_empty() { String::new() } else { format!(", params: {params}") };
        steps.push_str(&format!("  - {{name: {step}{unused}, audience: {{ref: {reference}{params}}}}}\n"));
    }
    format!(
        "kind: Campaign\nmetadata: {{name: {name}}}\nspec:\n  dataset: town\n  topic: news\n  schedule: {schedule}\n  steps:\n{steps}  \
         - {{name: mail, email: {{channel: out, template: hello}}}}\n---\n"
    )
}

struct Town {
    home: Home,
    store: Option<String>,
}

impl Town {
    fn run(&self, args: &[&str]) -> crate::home::Ran {
        let mut all = vec!["town"];
        all.extend(args);
        if let Some(url) = &self.store {
            all.extend(["--store", url]);
        }
        self.home.run(&all)
    }

    fn get(&self, kind: &str, name: &str) -> Value {
        let mut args = vec!["get", kind, name, "-o", "json"];
        if let Some(url) = &self.store {
            args.extend(["--store", url]);
        }
        serde_json::from_str(&self.home.call(&args).out).unwrap_or(Value::Null)
    }

    fn condition(&self, kind: &str, name: &str, of: &str) -> (String, String, String) {
        let object = self.get(kind, name);
        let found = object["status"]["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == of);
        let text = |part: &str| found.map_or(String::new(), |c| c[part].as_str().unwrap_or_default().to_owned());
        (text("status"), text("reason"), text("message"))
    }

    fn status(&self, name: &str) -> Value {
        self.get("audience", name)["status"].clone()
    }

    /// How many rows a step of a run gave.
    fn outs(&self, run: &str) -> Vec<(String, i64)> {
        let run = self.get("campaignrun", run);
        assert_conserved(&run);
        let steps = run["status"]["steps"].as_array().unwrap().iter();
        steps.map(|s| (s["name"].as_str().unwrap().to_owned(), s["out"].as_i64().unwrap())).collect()
    }
}

/// The same on both stores.
async fn on_both(manifests: impl Fn(bool) -> String, test: impl Fn(&Town)) {
    let url = Postgres::shared().await.unwrap().database().await.unwrap();
    for store in [None, Some(url)] {
        let town = Town { home: Home::new(), store };
        fill(&town.home, &manifests(town.store.is_some()));
        test(&town);
    }
}

/// When an audience was refreshed; the home's clock goes on by itself from where it was set.
fn minute(status: &Value) -> &str {
    status["refreshedAt"].as_str().unwrap_or_default().get(..16).unwrap_or_default()
}

fn owned(outs: &[(&str, i64)]) -> Vec<(String, i64)> {
    outs.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
}

#[tokio::test]
async fn combined_and_asked_about_in_rules() {
    let manifests = |_| {
        [
            audience("low", r#"parameters: {max: 6}, where: "person.id <= params.max""#),
            audience("high", r#"where: "person.id >= 4""#),
            audience("either", "union: [{ref: low}, {ref: high}]"),
            audience("both", "intersect: [{ref: low}, {ref: high}]"),
            audience("only-low", "subtract: [{ref: low}, {ref: high}]"),
            audience("most", "subtract: [{ref: either}, {ref: low, params: {max: 2}}]"),
            audience("nested", "union: [{ref: only-low}, {ref: both}, {ref: only-low}]"),
            audience("outer", r#"where: "!(person in audience('both'))""#),
            audience("their-orders", r#"entity: order, where: "order.person in audience('both')""#),
            audience("late-orders", r#"entity: order, where: "order.nr > 3 && order.day > date('2026-01-01')""#),
            // A link without a row is in no audience, and its negation holds.
            audience("gifts", r#"entity: order, where: "order.friend in audience('low')""#),
            audience("no-gifts", r#"entity: order, where: "!(order.friend in audience('low'))""#),
            audience("late-buyers", r#"where: "person.orders.exists(o, o in audience('late-orders'))""#),
            audience("early-buyers", r#"where: "person.orders.exists(o, !(o in audience('late-orders')))""#),
            campaign(
                "greet",
                "{immediate: {}}",
                &[
                    "either",
                    "both",
                    "only-low",
                    "most",
                    "nested",
                    "outer",
                    "their-orders",
                    "gifts",
                    "no-gifts",
                    "late-buyers",
                    "early-buyers",
                    "low {max: 1}",
                    "low",
                ],
            )
            .replace(
                "  - {name: mail",
                "  - {name: parts, split: {branches: [{name: both, unused: true, where: \"person in audience('both')\"}], rest: rest}}\n  - {name: mail, from: parts.rest",
            ),
        ]
        .concat()
    };
    on_both(manifests, |town| {
        let ran = town.run(&[]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let wanted = [
            ("either", 10),
            ("both", 3),
            ("only-low", 3),
            ("most", 8),
            ("nested", 6),
            ("outer", 7),
            ("their-orders", 2),
            ("gifts", 1),
            ("no-gifts", 4),
            ("late-buyers", 2),
            ("early-buyers", 3),
            ("low-max-1", 1),
            ("low", 6),
            ("parts.both", 3),
            ("parts.rest", 3),
        ];
        assert_eq!(town.outs("greet-immediate"), owned(&wanted));
        let (status, table) = (town.status("both"), town.status("both")["table"].clone());
        assert_eq!((&status["size"], &status["profiles"], table), (&3.into(), &3.into(), Value::Null));
        // Two ways lead from an order to a person, so nobody can say whose profiles these are.
        assert_eq!(town.status("their-orders")["profiles"], Value::Null);
    })
    .await;
}

#[tokio::test]
async fn refreshed_by_a_schedule_and_read_as_of_then() {
    let manifests = |_| {
        [
            audience("late", r#"where: "person.id > 5", refresh: {cron: "0 * * * *", timeZone: Europe/Rome}"#)
                .replace("}\n---", ", export: {url: out/late.csv, format: CSV, fields: [id, email, updated_at]}}\n---"),
            // It is refreshed with what it builds on, and its parts are not kept of it.
            audience("rest", "subtract: [{ref: all}, {ref: late}]").replace(
                "}\n---",
                ", refresh: {cron: \"30 * * * *\", timeZone: UTC}, export: {url: out/rest.jsonl, format: JSONL}}\n---",
            ),
            audience("all", r#"where: "true""#),
            audience("buys", r#"entity: order, where: "order.person in audience('late')""#),
            campaign("greet", "{cron: \"20 * * * *\", timeZone: UTC}", &["late", "rest"]),
        ]
        .concat()
    };
    on_both(manifests, |town| {
        let ran = town.run(&["--now", "2026-03-01T09:10:00Z"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let status = town.status("late");
        assert_eq!((&status["size"], &status["change"], &status["profiles"]), (&5.into(), &"+5 -0".into(), &5.into()));
        assert_eq!((minute(&status), &status["next"]), ("2026-03-01T09:10", &"2026-03-01 11:00 CET".into()));
        assert!(status["table"].as_str().unwrap().starts_with("audience__default_late_person"), "{status}");
        assert_eq!(town.condition("audience", "late", "Ready").1, "Refreshed");
        let first = town.home.read("town/out/late.csv");
        assert_eq!(first.lines().next(), Some("id,email,updated_at"));
        assert_eq!(first.lines().last(), Some("10,p10@example.com,2026-01-01T00:00:00Z"));
        assert_eq!(
            town.home.read("town/out/rest.jsonl"),
            (1..=5).map(|n| format!("{{\"id\":{n}}}\n")).collect::<String>()
        );

        // Before the next refresh a run reads the keys as they were kept, whatever came since.
        town.home.write("town/data/people/more.csv", &people(12));
        assert_eq!(town.run(&["--now", "2026-03-01T09:50:00Z"]).code, 0);
        assert_eq!(town.status("late")["size"], 5);
        assert_eq!(town.home.read("town/out/late.csv"), first);
        // And of the times that passed meanwhile there is one refresh.
        assert_eq!(town.run(&["--now", "2026-03-01T12:21:00Z"]).code, 0);
        assert_eq!(town.outs("greet-20260301122000"), owned(&[("late", 7), ("rest", 5)]));
        let status = town.status("late");
        assert_eq!((&status["change"], minute(&status)), (&"+2 -0".into(), "2026-03-01T12:21"));
        assert_eq!(town.home.read("town/out/late.csv").lines().count(), 8);
    })
    .await;
}

#[tokio::test]
async fn imported_from_a_file_and_read_again_when_it_changes() {
    let manifests = |_| {
        [
            audience("vip", "import: {url: lists/vip.csv, key: customer}"),
            audience("orders", "entity: order, import: {url: lists/orders.jsonl}"),
            audience(
                "slow",
                "import: {url: lists/vip.csv, key: customer}, refresh: {cron: \"0 * * * *\", timeZone: UTC}",
            )
            .replace("}\n---", ", export: {url: data/people/all.csv/x.csv, format: CSV}}\n---"),
            audience("others", r#"where: "!(person in audience('vip'))""#),
            campaign("greet", "{immediate: {}}", &["others", "orders", "vip"]),
        ]
        .concat()
    };
    on_both(manifests, |town| {
        town.home.write("town/lists/vip.csv", "name,customer\nx,3\ny,4\nz,4\nnobody,99\nbroken,x\n");
        town.home.write("town/lists/orders.jsonl", "{\"nr\": 1, \"person_id\": 1}\n{\"nr\": 2, \"person_id\": 1}\n");
        let ran = town.run(&["--now", "2026-03-01T09:10:00Z"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_eq!(town.outs("greet-immediate"), owned(&[("others", 8), ("orders", 1), ("vip", 2)]));
        // Where a file cannot be written, that is said, and nothing waits for it.
        let (status, reason, message) = town.condition("audience", "slow", "Exported");
        assert!(status == "False" && reason == "ExportFailed" && message.contains("all.csv/x.csv"), "{message}");
        let status = town.status("vip");
        assert_eq!((&status["size"], &status["unmatched"], &status["change"]), (&2.into(), &1.into(), &"+3 -0".into()));
        assert_eq!(
            town.condition("audience", "vip", "Ready").2,
            "imported; 1 bad rows stand in table reject under audience/vip"
        );
        // Refreshed when it is due, though the file is the same.
        assert_eq!(town.run(&["--now", "2026-03-01T10:10:00Z"]).code, 0);
        assert_eq!(minute(&town.status("slow")), "2026-03-01T10:10");
        // The one reads the file when it changed, the other when it is due.
        town.home.write("town/lists/vip.csv", "customer\n4\n5\n6\n");
        assert_eq!(town.run(&["--now", "2026-03-01T10:20:00Z"]).code, 0);
        assert_eq!(
            (town.status("slow")["size"].clone(), town.condition("audience", "slow", "Ready").0),
            (2.into(), "True".to_owned())
        );
        let status = town.status("vip");
        assert_eq!(
            (&status["size"], &status["unmatched"], &status["change"]),
            (&3.into(), &Value::Null, &"+2 -2".into())
        );
        // A file that cannot be read leaves the keys that stood.
        town.home.write("town/lists/vip.csv", "id\n1\n");
        assert_eq!(town.run(&["--now", "2026-03-01T10:30:00Z"]).code, 1);
        assert_eq!(
            town.condition("audience", "vip", "Ready").2,
            "lists/vip.csv: line 1: the header has no column customer"
        );
        assert_eq!(town.status("vip")["size"], 3);
    })
    .await;
}

#[test]
fn an_import_is_read_within_moments_of_its_change() {
    let home = Home::new();
    fill(&home, &audience("vip", "import: {url: lists/vip.csv}"));
    home.write("town/lists/vip.csv", "id\n1\n");
    let _running = home.spawn(&["run", "town"], "log");
    for (file, size) in [("id\n1\n", 1), ("id\n1\n2\n3\n", 3)] {
        home.write("town/lists/vip.csv", file);
        let end = std::time::Instant::now() + PATIENCE;
        while home.get("audience", "vip")["status"]["size"] != size {
            assert!(std::time::Instant::now() < end, "{}", home.read("log"));
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

#[tokio::test]
async fn written_in_sql() {
    let manifests = |is_postgres| {
        let (person, order) =
            if is_postgres { ("person", "\\\"order\\\"") } else { ("default_town_person", "default_town_order") };
        [
            audience("even", &format!("sql: \"SELECT id FROM {person} WHERE id % 2 = 0 -- all of them\"")),
            audience("early", &format!("entity: order, sql: \"SELECT nr, person_id, day FROM {order} WHERE nr < 3;\"")),
            audience(
                "odd",
                &format!(
                    "sql: \"SELECT id FROM {person} WHERE id % 2 = 1\", refresh: {{cron: \"0 9 * * *\", timeZone: UTC}}"
                ),
            ),
            audience("low-even", r#"where: "person.id < 5 && person in audience('even')""#),
            campaign("greet", "{immediate: {}}", &["even", "early", "odd", "low-even"]),
        ]
        .concat()
    };
    on_both(manifests, |town| {
        let ran = town.run(&["--now", "2026-03-01T09:10:00Z"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_eq!(town.outs("greet-immediate"), owned(&[("even", 5), ("early", 2), ("odd", 5), ("low-even", 2)]));
        assert_eq!((&town.status("even")["size"], &town.status("odd")["size"]), (&5.into(), &5.into()));
    })
    .await;
}

#[tokio::test]
async fn statements_that_are_not_what_they_must_be() {
    let statements = |is_postgres: bool| -> Vec<(&str, &str)> {
        let mut all = vec![
            ("no-key", "SELECT email FROM PERSON"),
            ("no-table", "SELECT id FROM nowhere"),
            ("missing", "SELECT NULLIF(id, 3) AS id FROM PERSON ORDER BY 1"),
            ("wrong-type", "SELECT email AS id FROM PERSON"),
            ("writes", "SELECT id FROM PERSON WHERE id IN (DELETE FROM PERSON RETURNING id)"),
        ];
        if is_postgres {
            all.push(("a-fault", "SELECT CAST(email AS bigint) AS id FROM PERSON"));
            all.push(("a-sequence", "SELECT nextval('campanile.run_no_seq') AS id"));
        }
        all
    };
    let manifests = |is_postgres| {
        let person = if is_postgres { "person" } else { "default_town_person" };
        let one = |(name, text): &(&str, &str)| {
            let text = text.replace("PERSON", person);
            audience(name, &format!("sql: \"{text}\", refresh: {{cron: \"0 9 * * *\", timeZone: UTC}}"))
        };
        statements(is_postgres).iter().map(one).collect()
    };
    on_both(manifests, |town| {
        let is_postgres = town.store.is_some();
        assert_eq!(town.run(&["--now", "2026-03-01T09:10:00Z"]).code, 1);
        let mut said = String::new();
        for (name, text) in statements(is_postgres) {
            let (_, reason, message) = town.condition("audience", name, "Ready");
            said.push_str(&format!("# {text}\n{reason}: {message}\n\n"));
        }
        insta::with_settings!({snapshot_suffix => if is_postgres { "postgres" } else { "sqlite" }}, {
            insta::assert_snapshot!("statements", said);
        });
    })
    .await;
}

#[tokio::test]
async fn a_run_is_held_while_an_audience_is_outside_its_guard() {
    let manifests = |_| {
        [
            audience("few", r#"where: "person.id > 8", guard: {minSize: 3}"#),
            // What a run uses through another audience holds it, too.
            audience("fewer", r#"where: "person in audience('few')""#),
            audience("all", r#"where: "true", guard: {maxChange: 20%}, refresh: {cron: "0 * * * *", timeZone: UTC}"#),
            campaign("direct", "{immediate: {}}", &["few"]),
            campaign("indirect", "{immediate: {}}", &["fewer"]),
            campaign("steady", "{immediate: {}}", &["all"]),
        ]
        .concat()
    };
    on_both(manifests, |town| {
        let ran = town.run(&["--now", "2026-03-01T09:10:00Z"]);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert_eq!(
            town.condition("audience", "few", "WithinGuard"),
            (
                "False".to_owned(),
                "OutsideGuard".to_owned(),
                "2 rows are fewer than minSize 3; runs that use it are held; to let it pass, set annotation campanile.dev/accept-size: \"2\"".to_owned()
            )
        );
        // The audience itself is well: the campaign compiles, and its run waits.
        assert_eq!(town.condition("audience", "few", "Ready").0, "True");
        for run in ["direct-immediate", "indirect-immediate"] {
            let (status, reason, message) = town.condition("campaignrun", run, "Ready");
            let wanted = "audience `few` is outside its guard: 2 rows are fewer than minSize 3";
            assert_eq!((&*status, &*reason, &*message), ("False", "Held", wanted), "{run}");
        }
        assert_eq!(town.home.outbox().len(), 10);
        assert_eq!(town.condition("audience", "all", "WithinGuard").0, "True");

        // A person lets it pass, and the same runs go on; two more people are within 20 % of ten.
        let manifest = town.home.read("town/town.yaml");
        let accepted = manifest.replace("metadata: {name: few}", "metadata: {name: few, annotations: {campanile.dev/accept-size: \"2\"}}");
        town.home.write("town/town.yaml", &accepted);
        let ran = town.run(&["--now", "2026-03-01T09:20:00Z"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_eq!(town.home.outbox().len(), 14);

        town.home.write("town/town.yaml", &manifest);
        assert_eq!(town.run(&["--now", "2026-03-01T09:25:00Z"]).code, 0);

        // Inside again without a word of anybody: the guard itself was edited, or the rows came.
        let later = format!("{manifest}{}", campaign("later", "{immediate: {}}", &["few"]).replace("kind:", "---\napiVersion: campanile.dev/v1alpha1\nkind:"));
        town.home.write("town/town.yaml", later.trim_end_matches("---\n"));
        assert_eq!(town.run(&["--now", "2026-03-01T09:30:00Z"]).code, 1);
        town.home.write("town/data/people/more.csv", &people(13));
        let ran = town.run(&["--now", "2026-03-01T10:10:00Z"]);
        assert_eq!(town.outs("later-immediate"), owned(&[("few", 5)]), "{ran:?}");
        // But thirteen after ten are too many for the other one, and who uses it next is held.
        let (status, _, message) = town.condition("audience", "all", "WithinGuard");
        assert!(status == "False" && message.starts_with("13 rows, after 10, are a change of more than 20%"), "{message}");
    })
    .await;
}

#[tokio::test]
async fn a_campaign_fills_a_saved_audience_whole_and_others_read_it() {
    let fills = |rule: &str| {
        campaign("fill", "{cron: \"0 9 * * *\", timeZone: UTC}", &["ALL"]).replace(
            "  - {name: ALL, audience: {ref: ALL}}\n",
            &format!(
                "  - {{name: those, audience: {{entity: person, where: '{rule}'}}}}\n  - {{name: kept, saveAudience: {{ref: winter}}}}\n"
            ),
        )
    };
    let reads = campaign("greet", "{cron: \"0 10 * * *\", timeZone: UTC}", &["winter"]);
    let all = |rule: &str| [audience("winter", "saved: {}"), fills(rule), reads.clone()].concat();
    on_both(
        |_| all("person.id <= 4"),
        |town| {
            let at = |now: &str| {
                let ran = town.run(&["--now", now]);
                assert_eq!(ran.code, 0, "{ran:?}");
            };
            // A campaign that is seen for the first time starts at its next turn.
            at("2026-03-01T08:00:00Z");
            at("2026-03-01T09:00:00Z");
            let status = town.status("winter");
            assert_eq!((&status["size"], &status["profiles"]), (&4.into(), &4.into()), "{status}");
            // The set went on to the mail behind it.
            assert_eq!(town.outs("fill-20260301090000"), owned(&[("those", 4), ("kept", 4)]));
            at("2026-03-01T10:00:00Z");
            assert_eq!(town.outs("greet-20260301100000"), owned(&[("winter", 4)]));
            assert_eq!(town.home.outbox().len(), 8);
            // The next run takes the place of what was there.
            fill(&town.home, &all("person.id >= 9"));
            at("2026-03-02T09:00:00Z");
            at("2026-03-02T10:00:00Z");
            assert_eq!(town.status("winter")["size"], 2);
            assert_eq!(town.outs("greet-20260302100000"), owned(&[("winter", 2)]));
            assert_eq!(town.home.outbox().len(), 12);
        },
    )
    .await;
}

#[tokio::test]
async fn a_saved_audience_that_was_never_filled_holds_who_reads_it() {
    let manifests = |_| [audience("winter", "saved: {}"), campaign("greet", "{immediate: {}}", &["winter"])].concat();
    on_both(manifests, |town| {
        assert_eq!(town.run(&[]).code, 1);
        let held = town.condition("campaignrun", "greet-immediate", "Ready");
        assert_eq!((&*held.1, &*held.2), ("Held", "audience `winter` has not been filled yet"));
        assert_eq!(town.condition("audience", "winter", "Ready").2, "not filled yet; runs that read it are held");
    })
    .await;
}

#[tokio::test]
async fn the_example_counts_what_its_readme_says() {
    let url = Postgres::shared().await.unwrap().database().await.unwrap();
    for store in [None, Some(url)] {
        let town = Town { home: Home::new(), store };
        copy(&repository().join("examples/shared-audiences"), &town.home.path().join("town"));
        let ran = town.run(&[]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let size = |name: &str| town.status(name)["size"].clone();
        assert_eq!((size("book-club"), size("italians"), size("club-evening")), (4.into(), 5.into(), 4.into()));
        assert_eq!(town.status("book-club")["unmatched"], 1);
        let run = town.get("campaignrun", "club-evening-immediate");
        assert_eq!(run["status"]["channels"][0]["reasons"], serde_json::json!({"NoConsent": 1}));
        assert_eq!(town.home.outbox().len(), 3);
        let exported = "id,name,country\n1,Ada,IT\n2,Bruno,IT\n3,Carla,IT\n5,Enzo,IT\n7,Gaia,IT\n";
        assert_eq!(town.home.read("town/exports/italians.csv"), exported);
    }
}

#[test]
fn each_mistake_is_shown_at_its_place() {
    let good = [
        audience("a", r#"where: "person.id > 1""#),
        audience("b", "union: [{ref: a}, {ref: d}]"),
        audience("d", r#"where: "true""#),
        audience("sales", r#"entity: order, where: "true""#),
    ]
    .concat();
    let mistakes = [
        ("no form", r#"where: "person.id > 1""#, "guard: {minSize: 1}"),
        ("two forms", r#"where: "person.id > 1""#, r#"saved: {}, where: "person.id > 1""#),
        ("a circle", r#"where: "person.id > 1""#, "subtract: [{ref: b}, {ref: b}]"),
        ("a circle through a rule", r#"where: "person.id > 1""#, r#"where: "person in audience('b')""#),
        ("an audience of itself", r#"where: "person.id > 1""#, r#"where: "!(person in audience('a'))""#),
        ("an unknown part", "{ref: d}]", "{ref: c}]"),
        ("a part of another entity", "union: [{ref: a}, {ref: d}]", "entity: order, union: [{ref: a}, {ref: d}]"),
        ("one part only", "union: [{ref: a}, {ref: d}]", "union: [{ref: a}]"),
        ("an unknown parameter", "{ref: d}]", "{ref: d, params: {days: 3}}]"),
        ("an unknown audience in a rule", "person.id > 1", "person in audience('dd')"),
        ("an audience of another entity in a rule", "person.id > 1", "person.orders.exists(o, o in audience('d'))"),
        ("a field instead of a row", "person.id > 1", "person.id in audience('d')"),
        ("many rows instead of one", "person.id > 1", "person.orders in audience('sales')"),
        ("an audience without in", "person.id > 1", "audience('d')"),
        ("an audience whose name is no text", "person.id > 1", "person in audience(b)"),
        ("parameters without a rule", "union: [{ref: a}", "parameters: {days: 3}, union: [{ref: a}"),
        (
            "a saved one with a schedule",
            "union: [{ref: a}, {ref: d}]",
            "saved: {}, refresh: {cron: \"0 9 * * *\", timeZone: UTC}",
        ),
        ("an export of what is not kept", "union: [{ref: a}", "export: {url: x.csv, format: CSV}, union: [{ref: a}"),
        (
            "an export of an unknown field",
            "union: [{ref: a}",
            "refresh: {cron: \"0 9 * * *\", timeZone: UTC}, export: {url: x.csv, format: CSV, fields: [emial]}, union: [{ref: a}",
        ),
        (
            "a cron that never fires",
            "union: [{ref: a}",
            "refresh: {cron: \"0 9 31 2 *\", timeZone: UTC}, union: [{ref: a}",
        ),
        (
            "a time zone that is none",
            "union: [{ref: a}",
            "refresh: {cron: \"0 9 * * *\", timeZone: Rome}, union: [{ref: a}",
        ),
        ("a change that is no percent", "union: [{ref: a}", "guard: {maxChange: 20 %}, union: [{ref: a}"),
        ("a guard of nothing", "union: [{ref: a}", "guard: {}, union: [{ref: a}"),
        ("two statements", "union: [{ref: a}, {ref: d}]", "sql: \"SELECT 1; SELECT 2\""),
        ("a statement that writes", "union: [{ref: a}, {ref: d}]", "sql: \"DELETE FROM person\""),
        ("one column for a key of two", "union: [{ref: a}, {ref: d}]", "entity: order, import: {url: x.csv, key: id}"),
    ];
    let mut report = String::new();
    for (what, from, to) in mistakes {
        assert!(good.contains(from), "{what}");
        let changed = good.replacen(from, to, 1).replace("entity: person, entity: order", "entity: order");
        let home = Home::new();
        fill(&home, changed.trim_end_matches("---\n"));
        let ran = home.run(&["town"]);
        assert_eq!(ran.code, 2, "{what}: {ran:?}");
        let root = format!("{}/", home.path().canonicalize().unwrap().display());
        let said = ran.err.replace(&root, "");
        let shown: Vec<&str> = said.lines().filter(|l| !l.starts_with("not ready:") && !l.contains(" WARN ")).collect();
        report.push_str(&format!("# {what}\n{}\n\n", shown.join("\n")));
    }
    insta::assert_snapshot!(report);
}
