//! `campanile plan`: what is said of a change, compared with what, and what is not known.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use campanile::store::{Error, Sql, Store};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::{
    editor_schemas::fits,
    either::Place,
    home::{Home, people, people_manifests},
    world::Postgres,
};

const CRON: &str = "  schedule: {cron: \"0 9 * * *\", timeZone: Europe/Rome}";
const NOW: &str = "2026-05-01T06:00:00Z";

fn manifests(rule: &str) -> String {
    let end = "default('friend') }}\"}";
    let personas = "\n  personas: [{name: zoe, values: {person: {name: Zo\u{eb}}}}]";
    let template = people_manifests(CRON, rule).replace("spec: {email: {subject", "spec:\n  email: {subject");
    template.replace(&format!("{end}}}"), &format!("{end}{personas}"))
}

/// A home in which ten people are loaded, and nothing was sent.
fn loaded(place: &Place, rule: &str) {
    place.home.write("town/town.yaml", &manifests(rule));
    place.home.write("town/data/people.csv", &people(10));
    let ran = place.run(&["--now", NOW]);
    assert_eq!(ran.code, 0, "{ran:?}");
}

fn plan(place: &Place, more: &[&str]) -> Value {
    let store = place.url.iter().flat_map(|url| ["--store", url.as_str()]);
    let args: Vec<&str> = ["plan", "town", "--now", NOW, "-o", "json"].into_iter().chain(store).collect();
    let ran = place.home.call(&[&args[..], more].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    serde_json::from_str(&ran.out).unwrap()
}

fn git(home: &Home, args: &[&str]) {
    let done = Command::new("git")
        .args(["-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "init.defaultBranch=main"])
        .args(args)
        .current_dir(home.path())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_told_against_a_revision_or_a_folder() {
    for place in Place::both().await {
        loaded(&place, "person.id <= 4");
        let home = &place.home;
        git(home, &["init", "-q"]);
        git(home, &["add", "town/town.yaml"]);
        git(home, &["commit", "-q", "-m", "base"]);
        home.write("before/town.yaml", &home.read("town/town.yaml"));
        let changed = home.read("town/town.yaml").replace("person.id <= 4", "person.id != 4").replace("Hello", "Dear");
        home.write("town/town.yaml", &changed);
        for base in ["HEAD", "before"] {
            let report = plan(&place, &["--base", base]);
            let said = report["base"].as_str().unwrap();
            assert_eq!(said, if base == "HEAD" { "revision HEAD" } else { "folder before" });
            let objects = report["objects"].as_array().unwrap();
            let names: Vec<&str> = objects.iter().map(|o| o["name"].as_str().unwrap()).collect();
            assert_eq!(names, ["hello", "greet"], "{report:#}");
            assert_eq!(
                objects[1]["words"],
                json!(["steps.all.audience.where was `person.id <= 4`, and is `person.id != 4`"])
            );
            let view = &report["campaigns"][0];
            assert_eq!(view["because"], json!(["it changed", "MessageTemplate `hello` changed"]));
            let mail = &view["steps"][1]["messages"];
            assert_eq!(mail["sent"], json!({"now": {"exact": 9}, "base": {"exact": 4}}), "{view:#}");
            let sample = &view["samples"][0];
            assert_eq!(sample["difference"][0], "-Subject: Hello Zo\u{eb}");
            assert_eq!(sample["difference"][1], "+Subject: Dear Zo\u{eb}");
            assert_eq!(view["schedule"]["next"][0], "2026-05-01 09:00 CEST");
        }
        // What is not touched is not told; without a base all of it is.
        home.write("town/other.yaml", &renamed(&home.read("town/town.yaml"), "other"));
        let report = plan(&place, &["--base", "before"]);
        assert_eq!(report["campaigns"].as_array().unwrap().len(), 2);
        fs::write(home.path().join("before/town.yaml"), home.read("town/town.yaml")).unwrap();
        let report = plan(&place, &["--base", "before"]);
        assert_eq!(report["campaigns"].as_array().unwrap().len(), 1, "{report:#}");
        assert_eq!(report["campaigns"][0]["name"], "other");
        let same = &report["campaigns"][0]["overlaps"][0];
        assert_eq!((&same["campaign"], &same["people"]), (&json!("greet"), &json!({"exact": 9})));
        assert_eq!(plan(&place, &[])["campaigns"].as_array().unwrap().len(), 2);
        let wrong = home.call(&["plan", "town", "--base", "nowhere"]);
        assert!(wrong.code == 2 && wrong.err.contains("revision `nowhere`"), "{wrong:?}");
    }
}

/// The campaign of the manifests under another name.
fn renamed(manifests: &str, name: &str) -> String {
    let (_, campaign) = manifests.rsplit_once("---\n").unwrap();
    campaign.replace("name: greet", &format!("name: {name}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_edit_means_for_runs_is_told() {
    for place in Place::both().await {
        loaded(&place, "true");
        let home = &place.home;
        let town = home.read("town/town.yaml");
        home.write("before/town.yaml", &town);
        // A campaign that starts once and has run; one whose time is past; one that is renamed; one that never ends.
        let once = |name: &str, start: &str| {
            renamed(&town, name).replace("{cron: \"0 9 * * *\", timeZone: Europe/Rome}", start)
        };
        home.write("town/once.yaml", &once("once", "{immediate: {}}"));
        home.write("town/past.yaml", &once("past", "{at: 2026-04-01T00:00:00Z}"));
        let report = plan(&place, &["--base", "before"]);
        let notes = |report: &Value, name: &str| -> String {
            let all = report["campaigns"].as_array().unwrap();
            let view = all.iter().find(|view| view["name"] == name).unwrap();
            let notes: Vec<&str> = view["notes"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
            notes.join("; ")
        };
        assert!(notes(&report, "once").contains("also on a store that is new; live delivery needs `notAfter`"));
        assert!(notes(&report, "past").contains("its time is past: it is missed, also on a store that is new"));
        assert_eq!(place.run(&["--now", "2026-05-01T06:00:00Z"]).code, 0);
        let report = plan(&place, &["--base", "before"]);
        assert!(
            notes(&report, "once").contains("it has run, and starts once: this edit sends to nobody"),
            "{report:#}"
        );
        assert_eq!(report["campaigns"][0]["schedule"]["isOver"], true);
        let mail = &report["campaigns"][0]["steps"][1]["messages"];
        assert_eq!(mail["sent"], json!({"now": {"exact": 0}, "last": {"exact": 10}}));
        assert_eq!(mail["excluded"][0]["reason"], "AlreadySent");
        fs::rename(home.path().join("town/once.yaml"), home.path().join("before/once.yaml")).unwrap();
        home.write("town/twice.yaml", &once("twice", "{immediate: {}}"));
        let report = plan(&place, &["--base", "before"]);
        assert!(notes(&report, "twice").contains("it looks like `once` under another name"), "{report:#}");
        let removed = report["objects"].as_array().unwrap().iter().find(|o| o["change"] == "removed").unwrap();
        assert_eq!(removed["words"], json!(["it looks as if it is called twice now", "no run of it is in flight"]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_does_not_hold_is_unknown_and_never_0() {
    for place in Place::both().await {
        loaded(&place, "true");
        let town = place.home.read("town/town.yaml");
        let unknown = |text: &str| {
            place.home.write("town/town.yaml", text);
            let view = plan(&place, &[])["campaigns"][0].clone();
            let sent = &view["steps"][1]["messages"]["sent"]["now"]["unknown"];
            assert_eq!(sent, &view["unknown"], "{view:#}");
            view["unknown"].as_str().unwrap().to_owned()
        };
        let field = town.replace("    - {name: news, ", "    - {name: age, type: Integer}\n    - {name: news, ");
        let field = field.replace("where: 'true'", "where: 'person.age > 18'");
        assert_eq!(unknown(&field), "the store's table of person has no column for its new field age yet");
        let dataset = town.replace("name: town}", "name: city}").replace("dataset: town", "dataset: city");
        assert_eq!(unknown(&dataset), "the store has no table of person of dataset `city` yet");
        let audience = "---\napiVersion: campanile.dev/v1alpha1\nkind: Audience\nmetadata: {name: vip}\nspec: \
                        {dataset: town, entity: person, saved: {}}\n";
        let saved = town.replace("where: 'true'", "where: 'person in audience(\"vip\")'") + audience;
        assert_eq!(unknown(&saved), "audience `vip` has not been filled yet");
        place.home.write("town/town.yaml", &town);
        let report = plan(&place, &["--max-rows", "3"]);
        let why = report["campaigns"][0]["unknown"].as_str().unwrap().to_owned();
        assert!(why.ends_with("rows, more than the 3 that it may"), "{why}");
    }
    let home = Home::new();
    home.write("town/town.yaml", &manifests("true"));
    let ran = home.call(&["plan", "town", "--now", NOW]);
    assert!(ran.code == 0 && ran.out.contains("is unknown: no store was named"), "{ran:?}");
    let ran = home.call(&["plan", "town", "--store", "sqlite://nowhere.db"]);
    assert!(ran.code == 2 && ran.err.contains("there is no store at nowhere.db"), "{ran:?}");
    assert!(!home.path().join("nowhere.db").exists() && !home.path().join(".campanile").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_holds_in_the_plan_what_it_then_holds() {
    for place in Place::both().await {
        let audience = "---\napiVersion: campanile.dev/v1alpha1\nkind: Audience\nmetadata: {name: all}\nspec: {dataset: \
                        town, entity: person, where: 'true', guard: {maxSize: 9}}\n";
        let town = manifests("true").replace("audience: {entity: person, where: 'true'}", "audience: {ref: all}");
        place.home.write("town/town.yaml", &(town + audience));
        place.home.write("town/data/people.csv", &people(10));
        assert_eq!(place.run(&["--now", NOW]).code, 0);
        let held = plan(&place, &[])["campaigns"][0]["held"].clone();
        let why = "audience `all` is outside its guard: 10 rows are more than maxSize 9";
        assert_eq!(held, json!([why]));
        let ran = place.run(&["--now", "2026-05-01T07:00:00Z"]);
        assert!(ran.err.contains(why), "{ran:?}");
        // Of a set that a person let pass.
        let text = place.home.read("town/town.yaml");
        let accepted = "metadata: {name: all, annotations: {campanile.dev/accept-size: \"10\"}}";
        place.home.write("town/town.yaml", &text.replace("metadata: {name: all}", accepted));
        assert_eq!(plan(&place, &[])["campaigns"][0]["held"], json!([]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_told_no_small_count_and_run_no_statement() {
    for place in Place::both().await {
        loaded(&place, "person.id <= 4");
        let report = plan(&place, &["--untrusted"]);
        assert_eq!(report["campaigns"][0]["steps"][1]["messages"]["sent"]["now"], json!({"below": 10}));
        let ran = place.home.call(&["plan", "town", "--untrusted", "--now", NOW, "-o", "markdown"]);
        if place.url.is_none() {
            assert!(ran.out.contains("&lt;10 messages"), "{}", ran.out);
        }
        let town = place
            .home
            .read("town/town.yaml")
            .replace("where: 'person.id <= 4'", "where: 'person in audience(\"own\")'");
        let audience = |sql: &str| {
            format!(
                "---\napiVersion: campanile.dev/v1alpha1\nkind: Audience\nmetadata: {{name: own}}\nspec: {{dataset: town, \
                 entity: person, sql: '{sql}'}}\n"
            )
        };
        place.home.write("before/town.yaml", &(town.clone() + &audience("SELECT id FROM person")));
        place.home.write("town/town.yaml", &(town + &audience("SELECT id FROM person WHERE id > 1")));
        let report = plan(&place, &["--untrusted", "--base", "before"]);
        let why = "audience `own` is a statement that differs from base, and none of a stranger's is run";
        assert_eq!(report["campaigns"][0]["unknown"], why);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_store_of_the_manifests_own_files_counts_the_same() {
    let [place, _] = Place::both().await;
    loaded(&place, "person.id != 4");
    let counts = |report: &Value| report["campaigns"][0]["steps"].clone();
    let own = plan(&place, &[]);
    let before = hashes(place.home.path());
    let private = plan(&place, &["--data"]);
    assert_eq!(counts(&own), counts(&private));
    assert_eq!(private["counted"], "in a private store with the manifests' own files");
    assert_eq!(hashes(place.home.path()), before);
    place.home.write("town/data/people.csv", "id,email\n1,a@example.com\n");
    let report = plan(&place, &["--data"]);
    assert!(report["counted"].as_str().unwrap().contains("dataset `town` is not ready"), "{}", report["counted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_json_is_as_its_schema_says_and_a_sample_is_about_right() {
    let [place, _] = Place::both().await;
    place.home.write("town/town.yaml", &manifests("person.id != 4"));
    place.home.write("town/data/people.csv", &people(2_000));
    assert_eq!(place.run(&["--now", NOW]).code, 0);
    place.home.write("before/town.yaml", &place.home.read("town/town.yaml").replace("id != 4", "id > 4"));
    let schema: Value = serde_json::from_str(&place.home.call(&["plan", "--schema"]).out).unwrap();
    for more in [&["--base", "before"][..], &["--untrusted"], &["--sample", "20%"]] {
        let report = plan(&place, more);
        fits(&report, &schema, &schema).unwrap();
    }
    assert!(fits(&json!({"version": 1}), &schema, &schema).is_err());
    let about =
        plan(&place, &["--sample", "20%"])["campaigns"][0]["steps"][1]["messages"]["sent"]["now"]["about"].clone();
    assert!((1_600..2_400).contains(&about.as_i64().unwrap()), "{about}");
}

#[test]
fn the_markdown_is_no_longer_than_a_comment_may_be() {
    let home = Home::new();
    home.write("town/town.yaml", &manifests("true"));
    for n in 0..300 {
        home.write(&format!("town/c{n}.yaml"), &renamed(&manifests("true"), &format!("campaign-{n}")));
    }
    let ran = home.call(&["plan", "town", "--now", NOW, "-o", "markdown", "--out", "plan.md"]);
    assert!(ran.code == 0 && ran.out.is_empty(), "{ran:?}");
    let text = home.read("plan.md");
    let length = text.chars().count();
    assert!((30_000..65_536).contains(&length), "{length}");
    assert!(text.contains("*Left out, as a comment may not be longer:"));
    assert_eq!(text.matches("```").count() % 2, 0);
}

#[test]
fn what_is_wrong_is_told_and_the_rest_is_planned() {
    let home = Home::new();
    home.write("town/town.yaml", &manifests("true"));
    home.write("town/wrong.yaml", &renamed(&manifests("person.nam == \"x\""), "wrong"));
    let ran = home.call(&["plan", "town", "--now", NOW]);
    assert_eq!(ran.code, 2);
    assert!(ran.out.contains("Campaign greet\n") && !ran.out.contains("Campaign wrong\n"), "{}", ran.out);
    assert!(ran.out.contains("town/wrong.yaml:") && ran.out.contains("error[unknown-name]"), "{}", ran.out);
}

/// Every file below a folder, and what is in it.
fn hashes(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            found.extend(hashes(&entry.path()));
            found.insert(entry.path(), vec![]);
        } else {
            found.insert(entry.path(), fs::read(entry.path()).unwrap());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_writes_nothing() {
    let [sqlite, postgres] = Place::both().await;
    loaded(&sqlite, "true");
    let before = hashes(sqlite.home.path());
    assert_eq!(plan(&sqlite, &[])["campaigns"][0]["steps"][0]["outputs"][0]["rows"]["now"], json!({"exact": 10}));
    assert_eq!(hashes(sqlite.home.path()), before);
    // As somebody who may write nowhere.
    let program = sqlite.home.path().join("campanile");
    fs::copy(env!("CARGO_BIN_EXE_campanile"), &program).unwrap();
    let done = Command::new("chmod").args(["-R", "a+rX,a-w"]).arg(sqlite.home.path()).status().unwrap();
    assert!(done.success());
    let done = crate::world::unprivileged(&program)
        .args(["plan", "town", "--now", NOW, "-o", "json"])
        .current_dir(sqlite.home.path())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(report["campaigns"][0]["steps"][1]["messages"]["sent"]["now"], json!({"exact": 10}));
    let done = Command::new("chmod").args(["-R", "u+w"]).arg(sqlite.home.path()).status().unwrap();
    assert!(done.success());

    // As a role that has nothing but SELECT.
    loaded(&postgres, "true");
    let url = postgres.url.clone().unwrap();
    let mut owner = PgConnection::connect(&url).await.unwrap();
    let database = url.rsplit_once('/').unwrap().1.to_owned();
    let role = format!("reader_{database}");
    let mut grants = format!("CREATE ROLE {role} LOGIN;");
    for schema in ["campanile", "default_town"] {
        grants += &format!(
            "GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role};"
        );
    }
    owner.execute(AssertSqlSafe(grants)).await.unwrap();
    let reader = Place { home: postgres.home, url: Some(url.replace("campanile@", &format!("{role}@"))) };
    let written = "SELECT CAST(sum(n_tup_ins + n_tup_upd + n_tup_del) AS BIGINT) FROM pg_stat_user_tables";
    let before: i64 = sqlx::query_scalar(written).fetch_one(&mut owner).await.unwrap();
    let report = plan(&reader, &[]);
    assert_eq!(report["campaigns"][0]["steps"][1]["messages"]["sent"]["now"], json!({"exact": 10}));
    let after: i64 = sqlx::query_scalar(written).fetch_one(&mut owner).await.unwrap();
    assert_eq!(before, after);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_only_read_ends_long_statements_and_refuses_to_write() {
    let place = Place { home: Home::new(), url: None };
    loaded(&place, "true");
    let postgres = Postgres::shared().await.unwrap().database().await.unwrap();
    Store::open(&postgres).await.unwrap().close().await;
    for url in [format!("sqlite://{}", place.home.path().join(".campanile/store.db").display()), postgres] {
        let store = Store::open_readonly_within(&url, Duration::from_millis(300)).await.unwrap();
        let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i % 1000 + 1 FROM n) SELECT count(*) FROM n";
        let ended = store.fetch(Sql::new(endless)).await;
        assert!(matches!(ended, Err(Error::TooLong(_))), "{:?}", ended.err());
        assert!(store.begin().await.is_err());
        assert!(store.fetch(Sql::new("INSERT INTO stop (scope) VALUES ('All')")).await.is_err());
        // It goes on being read.
        assert_eq!(store.fetch(Sql::new("SELECT no FROM run")).await.unwrap().len(), 0);
        store.close().await;
    }
}
