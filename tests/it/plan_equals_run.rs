//! A plan counts what the run then does: generated campaigns over generated people, on both stores, in two rounds.
//!
//! A failure prints the seed and the manifest. `PLAN_SEED=n` looks further.

use std::fmt::Write;

use campanile::store::{
    Store,
    suppression::{Cause, Suppressed},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::{
    home::{Home, Ran},
    world::Postgres,
};

const SEED: u64 = 20_261_125;
const CAMPAIGNS: usize = 14;

/// Small, seeded, and the same on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % n as u64).unwrap()
    }

    fn one_of<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn is(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

fn town(news_by_default: &str) -> String {
    format!(
        r#"apiVersion: campanile.dev/v1alpha1
kind: Dataset
metadata: {{name: town}}
spec:
  entities:
  - name: person
    key: [id]
    fields:
    - {{name: id, type: Integer}}
    - {{name: email, type: String}}
    - {{name: name, type: String}}
    - {{name: country, type: String}}
    - {{name: points, type: Integer}}
    - {{name: vip, type: Boolean}}
    - {{name: news, type: Boolean}}
    - {{name: news_at, type: Timestamp}}
    source: {{files: {{url: data/people.csv, format: CSV}}}}
  - name: visit
    key: [shop, number]
    fields:
    - {{name: shop, type: String}}
    - {{name: number, type: Integer}}
    - {{name: person_id, type: Integer}}
    - {{name: at, type: Timestamp}}
    - {{name: spent, type: Decimal, scale: 2}}
    links:
    - {{name: person, to: person, keys: {{person_id: id}}, inverse: visits}}
    source: {{files: {{url: data/visits.csv, format: CSV}}}}
  profile: {{entity: person, addresses: {{email: email}}}}
  topics:
  - name: news
    category: Marketing
    consent: {{email: {{field: news, changedAt: news_at, default: {news_by_default}}}}}
  - {{name: service, category: Transactional}}
---
apiVersion: campanile.dev/v1alpha1
kind: Channel
metadata: {{name: out}}
spec: {{outbox: {{}}}}
---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {{name: hello}}
spec: {{email: {{subject: "Hello {{{{ person.name }}}}", text: "Hello"}}}}
---
apiVersion: campanile.dev/v1alpha1
kind: Audience
metadata: {{name: regulars}}
spec:
  dataset: town
  entity: person
  parameters: {{times: 2}}
  where: person.visits.size() >= params.times
---
apiVersion: campanile.dev/v1alpha1
kind: Audience
metadata: {{name: abroad}}
spec: {{dataset: town, entity: person, where: 'person.country != "IT"', refresh: {{cron: "0 7 * * *", timeZone: UTC}}}}
---
apiVersion: campanile.dev/v1alpha1
kind: Audience
metadata: {{name: guests}}
spec: {{dataset: town, entity: person, intersect: [{{ref: regulars, params: {{times: 1}}}}, {{ref: abroad}}]}}
"#
    )
}

const PERSON_RULES: [&str; 8] = [
    "true",
    "person.country != 'IT'",
    "person.points > 10 || person.vip",
    "!(person.points < 30 && person.country == 'DE')",
    "person.visits.exists(v, v.spent > 20.0)",
    "person.visits.size() == 0",
    "has(person.email) && person in audience('guests')",
    "person.visits.filter(v, v.at > now - days(20)).size() > 0",
];
const VISIT_RULES: [&str; 4] =
    ["true", "visit.spent > 15.5", "visit.person.country != 'FR'", "!(visit.shop == 'a') && visit.at < now - days(3)"];

fn people(dice: &mut Dice, round: usize) -> String {
    let mut csv = "id,email,name,country,points,vip,news,news_at\n".to_owned();
    for id in 0..60 + 20 * round {
        let email = match dice.below(14) {
            0 | 1 => String::new(),
            2 => format!("no-at-{id}"),
            3 => format!("two@at@{id}.example"),
            4 => format!("ü{id}@example.com"),
            5 => format!("\" p{id}@example.com \""),
            6 => format!("{}@example.com", "x".repeat(60 + id % 10)),
            7 => format!("p{id}@-dash.example"),
            8 => "\"   \"".to_owned(),
            _ => format!("p{id}.{round}@example.com"),
        };
        let (country, points) = (dice.one_of(&["IT", "DE", "FR", ""]), dice.one_of(&["", "5", "12", "40"]));
        let (vip, news) = (dice.one_of(&["t", "f", ""]), dice.one_of(&["t", "t", "f", ""]));
        let at = format!("2026-04-{:02}T10:00:00Z", 1 + round * 10 + dice.below(9));
        let at = if news.is_empty() { String::new() } else { at };
        writeln!(csv, "{id},{email},Person {id},{country},{points},{vip},{news},{at}").unwrap();
    }
    csv
}

fn visits(dice: &mut Dice, round: usize) -> String {
    let mut csv = "shop,number,person_id,at,spent\n".to_owned();
    for number in 0..80 + 30 * round {
        let shop = dice.one_of(&["a", "b", "c"]);
        // Some lead to nobody.
        let person = if dice.is(10) { String::new() } else { dice.below(75).to_string() };
        let at = format!("2026-04-{:02}T12:30:00Z", 1 + dice.below(28));
        let spent = dice.one_of(&["", "3.50", "15.5", "22", "99.99"]);
        writeln!(csv, "{shop},{number},{person},{at},{spent}").unwrap();
    }
    csv
}

/// A campaign with two channel steps behind some steps of every kind.
fn campaign(dice: &mut Dice, name: &str) -> String {
    let mut steps = String::new();
    let mut outputs: Vec<(String, &str)> = vec![];
    let mut put = |name: &str, from: Option<&str>, body: &str| {
        let from = from.map(|from| format!("\n    from: {from}")).unwrap_or_default();
        writeln!(steps, "  - name: {name}{from}\n    unused: true\n    {body}").unwrap();
    };
    for (index, entity) in [(0, "person"), (1, dice.one_of(&["person", "visit"])), (2, "person")] {
        let body = match (entity, dice.below(4)) {
            ("person", 0) => "audience: {ref: regulars, params: {times: 1}}".to_owned(),
            ("person", 1) => format!("audience: {{ref: {}}}", dice.one_of(&["regulars", "abroad", "guests"])),
            ("person", _) => format!("audience: {{entity: person, where: \"{}\"}}", dice.one_of(&PERSON_RULES)),
            _ => format!("audience: {{entity: visit, where: \"{}\"}}", dice.one_of(&VISIT_RULES)),
        };
        put(&format!("s{index}"), None, &body);
        outputs.push((format!("s{index}"), entity));
    }
    for index in 3..3 + 2 + dice.below(5) {
        let step = format!("s{index}");
        let (from, entity) = outputs[dice.below(outputs.len())].clone();
        let same: Vec<String> = outputs.iter().filter(|(_, e)| *e == entity).map(|(name, _)| name.clone()).collect();
        let other = same[dice.below(same.len())].clone();
        let is_person = entity == "person";
        match dice.below(9) {
            0 if other != from => {
                put(&step, None, &format!("union: {{of: [{from}, {other}]}}"));
                outputs.push((step, entity));
            }
            1 if other != from => {
                put(&step, None, &format!("subtract: {{from: {from}, minus: [{other}], rest: both}}"));
                outputs.extend([(step.clone(), entity), (format!("{step}.both"), entity)]);
            }
            2 if other != from => {
                put(&step, None, &format!("intersect: {{of: [{from}, {other}]}}"));
                outputs.push((step, entity));
            }
            3 => {
                let by = if is_person { "country" } else { dice.one_of(&["person_id", "shop"]) };
                let keep = dice.one_of(&["first: number", "random: {seed: x}"]);
                let keep = if is_person { keep.replace("number", "points") } else { keep.to_owned() };
                put(&step, Some(&from), &format!("deduplicate: {{by: [{by}], keep: {{{keep}}}, count: 3}}"));
                outputs.push((step, entity));
            }
            4 => {
                let rules: &[&str] = if is_person { &PERSON_RULES } else { &VISIT_RULES };
                let (one, two) = (dice.one_of(rules), dice.one_of(rules));
                let body = format!(
                    "split: {{branches: [{{name: one, where: \"{one}\", unused: true}}, {{name: two, where: \"{two}\", \
                     atMost: {}, unused: true}}], rest: others}}",
                    dice.one_of(&["7", "30%"])
                );
                put(&step, Some(&from), &body);
                outputs.extend(["one", "two", "others"].map(|branch| (format!("{step}.{branch}"), entity)));
            }
            5 => {
                let (to, via) = if is_person { ("visit", "person.visits") } else { ("person", "visit.person") };
                put(&step, Some(&from), &format!("changeEntity: {{to: {to}, via: {via}}}"));
                outputs.push((step, to));
            }
            6 => {
                put(&step, Some(&from), "incremental: {by: Key}");
                outputs.push((step, entity));
            }
            7 if is_person => {
                let body = format!("enrich: {{as: last{index}, link: person.visits, top: 2, orderBy: at}}");
                put(&step, Some(&from), &body);
                outputs.push((step, entity));
            }
            8 => {
                let count = from.replace(['-', '.'], "_");
                let body = format!(
                    "choose: {{branches: [{{name: many, when: counts.{count} > 20, unused: true}}], rest: few}}"
                );
                put(&step, Some(&from), &body);
                outputs.extend(["many", "few"].map(|branch| (format!("{step}.{branch}"), entity)));
            }
            _ => {
                put(&step, Some(&from), "wait: {until: 2026-01-01T00:00:00Z}");
                outputs.push((step, entity));
            }
        }
    }
    for index in 0..2 {
        let (from, _) = &outputs[if index == 0 { outputs.len() - 1 } else { dice.below(outputs.len()) }];
        let per = dice.one_of(&["", ", per: profile"]);
        let once = dice.one_of(&["", ", once: {ever: true}", ", once: {within: 12h}", ", once: {within: 3d}"]);
        writeln!(
            steps,
            "  - name: mail-{index}\n    from: {from}\n    email: {{channel: out, template: hello{per}{once}}}"
        )
        .unwrap();
    }
    let topic = dice.one_of(&["news", "news", "service"]);
    format!(
        "apiVersion: campanile.dev/v1alpha1\nkind: Campaign\nmetadata: {{name: {name}}}\nspec:\n  dataset: town\n  \
         topic: {topic}\n  schedule: {{cron: \"0 9 * * *\", timeZone: UTC}}\n  steps:\n{steps}"
    )
}

struct Place {
    home: Home,
    url: Option<String>,
}

impl Place {
    fn call(&self, args: &[&str]) -> Ran {
        let store = self.url.iter().flat_map(|url| ["--store", url.as_str()]);
        let args: Vec<&str> = args.iter().copied().chain(store).collect();
        self.home.call(&args)
    }

    fn run_at(&self, now: &str) {
        let ran = self.call(&["run", "town", "--now", now, "--until-idle"]);
        assert_eq!(ran.code, 0, "{ran:?}");
    }
}

impl Place {
    /// Some people's addresses are suppressed: for good, for a while, until just now, elsewhere.
    async fn suppress(&self, dice: &mut Dice, round: usize, now: Timestamp) {
        let file = || format!("sqlite://{}", self.home.path().join(".campanile/store.db").display());
        let store = Store::open(&self.url.clone().unwrap_or_else(file)).await.unwrap();
        let key = store.address_key().await.unwrap();
        let mut all = vec![];
        for id in 0..60 {
            let until = match dice.below(9) {
                0 | 1 => None,
                2 => Some(now + SignedDuration::from_hours(1)),
                3 => Some(now),
                _ => continue,
            };
            let address =
                if dice.is(20) { format!(" P{id}@Example.com") } else { format!("p{id}.{round}@EXAMPLE.com") };
            all.push(Suppressed {
                namespace: dice.one_of(&["default", "default", "*", "elsewhere"]).to_owned(),
                medium: "email".to_owned(),
                hash: key.of_address(&address),
                cause: Cause::Complaint,
                since: Timestamp::UNIX_EPOCH,
                until,
            });
        }
        store.suppress(&all).await.unwrap();
        store.close().await;
    }
}

/// What is said of a campaign, in lines that a plan and a run have in common.
fn planned(view: &Value) -> Vec<String> {
    assert!(view["unknown"].is_null(), "{view:#}");
    assert_eq!(view["held"], Value::Array(vec![]), "{view:#}");
    let n = |tally: &Value| tally["now"]["exact"].as_i64().unwrap_or_else(|| panic!("{tally}"));
    let mut lines = vec![];
    for step in view["steps"].as_array().unwrap() {
        let name = step["name"].as_str().unwrap();
        for output in step["outputs"].as_array().unwrap() {
            let left = step.get("left").map_or(String::new(), |left| format!(" left {}", n(left)));
            lines.push(format!("{} {}{left}", output["name"].as_str().unwrap(), n(&output["rows"])));
        }
        if let Some(messages) = step.get("messages") {
            let excluded = messages["excluded"].as_array().unwrap().iter();
            let excluded: Vec<String> = excluded
                .filter(|e| n(&e["rows"]) > 0)
                .map(|e| format!("{} {}", e["reason"].as_str().unwrap(), n(&e["rows"])))
                .collect();
            let (entered, sent) = (n(&messages["entered"]), n(&messages["sent"]));
            lines.push(format!("{name}: {entered} entered, {sent} sent, {}", excluded.join(", ")));
        }
    }
    lines.sort();
    lines
}

fn ran(status: &Value) -> Vec<String> {
    let mut lines = vec![];
    for step in status["steps"].as_array().unwrap() {
        let left = step["left"].as_i64().map_or(String::new(), |left| format!(" left {left}"));
        lines.push(format!("{} {}{left}", step["name"].as_str().unwrap(), step["out"]));
    }
    for channel in status["channels"].as_array().unwrap() {
        let reasons = channel["reasons"].as_object().cloned().unwrap_or_default();
        let mut excluded: Vec<String> = reasons.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
        excluded.sort();
        let name = channel["step"].as_str().unwrap();
        lines.push(format!(
            "{name}: {} entered, {} sent, {}",
            channel["entered"],
            channel["sent"],
            excluded.join(", ")
        ));
    }
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_counts_what_the_run_then_does() {
    let seed = std::env::var("PLAN_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(SEED);
    let url = Postgres::shared().await.unwrap().database().await.unwrap();
    let mut seen = String::new();
    for place in [Place { home: Home::new(), url: None }, Place { home: Home::new(), url: Some(url) }] {
        // The same on both stores.
        let mut dice = Dice(seed);
        place.home.write("town/town.yaml", &town(dice.one_of(&["OptedIn", "OptedOut"])));
        let manifests: Vec<String> = (0..CAMPAIGNS).map(|n| campaign(&mut dice, &format!("c{n}"))).collect();
        for (n, manifest) in manifests.iter().enumerate() {
            place.home.write(&format!("town/c{n}.yaml"), manifest);
        }
        for round in 0..2 {
            place.home.write("town/data/people.csv", &people(&mut dice, round));
            place.home.write("town/data/visits.csv", &visits(&mut dice, round));
            let day = format!("2026-05-0{}", round + 1);
            place.run_at(&format!("{day}T08:00:00Z"));
            let now = format!("{day}T09:00:00Z");
            place.suppress(&mut dice, round, now.parse().unwrap()).await;
            let plan = place.call(&["plan", "town", "--now", &now, "-o", "json"]);
            assert_eq!(plan.code, 0, "{plan:?}");
            place.run_at(&now);
            let plan: Value = serde_json::from_str(&plan.out).unwrap();
            let views = plan["campaigns"].as_array().unwrap();
            assert_eq!(views.len(), CAMPAIGNS);
            for view in views {
                let name = view["name"].as_str().unwrap();
                let run = place.call(&[
                    "get",
                    "campaignrun",
                    &format!("{name}-{}090000", day.replace('-', "")),
                    "-o",
                    "json",
                ]);
                let run: Value = serde_json::from_str(&run.out).unwrap_or_else(|_| panic!("{run:?}"));
                crate::home::assert_conserved(&run);
                let (planned, ran) = (planned(view), ran(&run["status"]));
                let n: usize = name[1..].parse().unwrap();
                let on = if place.url.is_some() { "PostgreSQL" } else { "SQLite" };
                assert_eq!(planned, ran, "seed {seed}, {on}, round {round}\n{}", manifests[n]);
                seen += &planned.join("\n");
            }
        }
    }
    let reasons =
        ["NoConsent", "NoAddress", "MalformedAddress", "UnmatchedProfile", "Duplicate", "AlreadySent", "Suppressed"];
    for reason in reasons {
        assert!(seen.contains(reason), "no campaign had anybody who is left out for {reason}");
    }
}
