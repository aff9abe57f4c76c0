//! A template's words in files beside the manifest and in ConfigMaps: read, watched, pinned and compared as if they were
//! written out, and wrong where they stand.

use std::{fs, process::Command};

use crate::{
    cluster::Cluster,
    home::{Home, PATIENCE, people, people_manifests},
    world::{Postgres, until_true},
};

const DAILY: &str = "  schedule: {cron: \"0 9 * * *\", timeZone: UTC}";

/// The manifests of a town, whose mail is `email`.
fn town(schedule: &str, email: &str) -> String {
    let written =
        r#"{email: {subject: "Hello {{ person.name }}", text: "Dear {{ person.name | default('friend') }}"}}"#;
    let text = people_manifests(schedule, "true");
    assert!(text.contains(written));
    text.replace(written, &format!("{{email: {email}}}"))
}

const IN_FILES: &str = "{subject: 'Hello', textFrom: {file: words/hello.txt}, \
    mjmlFrom: {configMap: {name: mails, key: hello.mjml}}}";

fn maps(words: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: mails, creationTimestamp: null}}\ndata:\n  hello.mjml: |\n    \
         <mjml><mj-body><mj-section><mj-column>\n    <mj-text>{words}</mj-text>\n    \
         </mj-column></mj-section></mj-body></mjml>\n"
    )
}

fn write(home: &Home) {
    home.write("town/town.yaml", &town(DAILY, IN_FILES));
    home.write("town/words/hello.txt", "Dear {{ person.name }},\r\nfrom a file\n");
    home.write("town/maps.yaml", &maps("Dear {{ person.name }} of a map"));
    home.write("town/data/people.csv", &people(1));
}

fn mail(home: &Home, run: &str) -> String {
    let path = home.outbox().into_iter().find(|path| path.to_string_lossy().contains(run)).unwrap();
    fs::read_to_string(path).unwrap()
}

fn read_and_pinned(home: &Home, url: &str) {
    write(home);
    let run = |now: &str| {
        let ran = home.run(&["town", "--store", url, "--now", now]);
        assert_eq!(ran.code, 0, "{ran:?}");
    };
    run("2026-03-01T08:59:00Z");
    run("2026-03-01T09:00:00Z");
    let first = mail(home, "20260301");
    assert!(first.contains("Dear Person 1,\r\nfrom a file\r\n") && first.contains("Dear Person 1 of a map"), "{first}");
    assert_eq!(first.matches("\r\r").count(), 0);

    home.write("town/words/hello.txt", "Other words\n");
    home.write("town/maps.yaml", &maps("Other words of a map"));
    run("2026-03-02T09:00:00Z");
    let second = mail(home, "20260302");
    assert!(second.contains("Other words\r\n") && second.contains("Other words of a map"), "{second}");
    fs::remove_file(home.path().join("town/words/hello.txt")).unwrap();
    fs::remove_file(home.path().join("town/maps.yaml")).unwrap();
    for (name, was) in [("greet-20260301090000", first), ("greet-20260302090000", second)] {
        let shown = home.command(&["render", "--run", name, "1", "--store", url]).output().unwrap();
        assert_eq!(String::from_utf8(shown.stdout).unwrap(), was, "{}", String::from_utf8_lossy(&shown.stderr));
    }
}

#[test]
fn a_run_keeps_the_words_that_it_read_on_sqlite() {
    read_and_pinned(&Home::new(), "sqlite://.campanile/store.db");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_keeps_the_words_that_it_read_on_postgres() {
    let postgres = Postgres::shared().await.unwrap();
    read_and_pinned(&Home::new(), &postgres.database().await.unwrap());
}

#[tokio::test]
async fn an_edited_file_reconciles_and_a_wrong_one_leaves_the_last_good_words() {
    let home = Home::new();
    write(&home);
    let _running = home.spawn(&["run", "town"], "log");
    let is_ready = || home.ready("campaign", "greet").0 == "True";
    until_true("the campaign is ready", PATIENCE, is_ready).await.unwrap();
    let revision = || home.get("campaign", "greet")["status"]["revision"].clone();
    let first = revision();
    // The object is as its author wrote it.
    let spec = home.get("messagetemplate", "hello")["spec"]["email"].clone();
    assert_eq!((&spec["text"], &spec["textFrom"]["file"]), (&serde_json::Value::Null, &"words/hello.txt".into()));

    home.write("town/words/hello.txt", "Words that were edited\n");
    until_true("the edit of the file is reconciled", PATIENCE, || revision() != first).await.unwrap();
    let second = revision();
    home.write("town/maps.yaml", &maps("Words that were edited"));
    until_true("the edit of the map is reconciled", PATIENCE, || revision() != second).await.unwrap();
    let third = revision();

    home.write("town/words/hello.txt", "Dear\n{{ person.nane }}\n");
    let says = |words: &str| home.read("log").contains(words);
    until_true("the error is reported", PATIENCE, || says("person has no field or link `nane`")).await.unwrap();
    assert!(says("town/words/hello.txt:2:4"), "{}", home.read("log"));
    fs::remove_file(home.path().join("town/words/hello.txt")).unwrap();
    until_true("the loss is reported", PATIENCE, || says("there is no file `words/hello.txt` beside the manifest"))
        .await
        .unwrap();
    assert_eq!((revision(), is_ready()), (third, true));
    home.write("town/words/hello.txt", "Dear {{ person.name }},\r\nfrom a file\n");
    home.write("town/maps.yaml", &maps("Dear {{ person.name }} of a map"));
    until_true("the first words are back", PATIENCE, || revision() == first).await.unwrap();
}

#[test]
fn what_is_wrong_is_said_where_the_words_stand() {
    let home = Home::new();
    write(&home);
    let (file, map) = (home.read("town/words/hello.txt"), home.read("town/maps.yaml"));
    assert_eq!(home.call(&["validate", "town"]).code, 0);
    for (path, text, wanted) in [
        ("town/words/hello.txt", "one\ntwo {{ person.nane }}", "words/hello.txt:2:8"),
        ("town/words/hello.txt", "one\n{% if %}", "words/hello.txt:2:"),
        ("town/maps.yaml", map.replace("Dear", "Dear {{ person.nane }}").as_str(), "maps.yaml:7:22"),
        ("town/maps.yaml", map.replace("mj-text", "mj-tex").as_str(), "did you mean `mj-text`?"),
        ("town/maps.yaml", map.replace("hello.mjml", "hallo.mjml").as_str(), "did you mean `hallo.mjml`?"),
        ("town/maps.yaml", map.replace("name: mails", "name: other").as_str(), "there is no ConfigMap `mails`"),
        ("town/town.yaml", town(DAILY, &IN_FILES.replace("words/", "../")).as_str(), "outside of the folder"),
        ("town/town.yaml", town(DAILY, &IN_FILES.replace("textFrom", "text: own, textFrom")).as_str(), "not both"),
        ("town/town.yaml", town(DAILY, "{subject: s, textFrom: {}}").as_str(), "exactly one of file, configMap"),
    ] {
        home.write("town/words/hello.txt", &file);
        home.write("town/maps.yaml", &map);
        home.write("town/town.yaml", &town(DAILY, IN_FILES));
        home.write(path, text);
        let said = home.call(&["validate", "town"]);
        let all = format!("{}{}", said.out, said.err);
        assert!(said.code == 2 && all.contains(wanted), "{wanted}: {all}");
        assert_eq!(all.matches("error[").count(), 1, "{all}");
    }
}

fn git(home: &Home, args: &[&str]) {
    let identity = ["-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "init.defaultBranch=main"];
    let done = Command::new("git").args(identity).args(args).current_dir(home.path()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn a_plan_compares_the_words_with_those_of_a_revision() {
    let home = Home::new();
    write(&home);
    assert_eq!(home.run(&["town", "--now", "2026-03-01T08:59:00Z"]).code, 0);
    git(&home, &["init", "-q"]);
    git(&home, &["add", "town"]);
    git(&home, &["commit", "-q", "-m", "base"]);
    let plan = || {
        let said = home.call(&["plan", "town", "--base", "HEAD", "--now", "2026-03-01T08:59:30Z"]);
        assert_eq!(said.code, 0, "{said:?}");
        said.out
    };
    assert!(!plan().contains("hello"), "{}", plan());
    home.write("town/words/hello.txt", "Dear {{ person.name }},\nfrom a file\nand more\n");
    let said = plan();
    assert!(said.contains("email.text: 1 lines more, 0 fewer") && said.contains("greet"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_takes_words_of_config_maps_and_no_files() {
    let cluster = Cluster::start("words-elsewhere", "no-such-folder").await;
    let (kubectl, home) = (&cluster.kubectl, &cluster.home);
    home.write("data/people.csv", &people(1));
    let apply = |text: &str| {
        let file = home.write("town.yaml", text);
        kubectl.call(&["apply", "-f", file.to_str().unwrap()])
    };
    let in_map = IN_FILES.replace("textFrom: {file: words/hello.txt}, ", "");
    let email = |spec: &str| town("  schedule: {immediate: {}}\n  suspend: true", spec);
    let standing = |kind: &str, name: &str| {
        let status = kubectl.json(kind, name)["status"]["conditions"].clone();
        let ready = status.as_array().and_then(|all| all.iter().find(|c| c["type"] == "Ready")).cloned();
        ready.unwrap_or_default()
    };
    let says =
        |words: &str| standing("messagetemplate", "hello")["message"].as_str().is_some_and(|m| m.contains(words));
    let (is_done, _, err) = apply(&email(&IN_FILES.replace("textFrom", "text: own, textFrom")));
    assert!(!is_done && err.contains("text or textFrom, not both"), "{err}");
    let (is_done, _, err) = apply(&email("{subject: s, textFrom: {file: a, configMap: {name: a, key: b}}}"));
    assert!(!is_done && err.contains("exactly one of file, configMap"), "{err}");

    assert!(apply(&email(IN_FILES)).0);
    until_true("the file is refused", PATIENCE, || says("a cluster has no such folder; keep it in a ConfigMap"))
        .await
        .unwrap();
    assert!(apply(&email(&in_map)).0);
    until_true("the map is missing", PATIENCE, || says("spec.email.mjmlFrom: there is no ConfigMap `mails`"))
        .await
        .unwrap();
    assert!(apply(&maps("Dear {{ person.nane }}")).0);
    let campaign = || standing("campaign", "greet")["message"].to_string();
    until_true("the map is read", PATIENCE, || campaign().contains("person has no field or link `nane`"))
        .await
        .unwrap();
    assert!(apply(&maps("Dear {{ person.name }} of a map")).0);
    kubectl.done(&["wait", "--for=condition=Ready", "campaign/greet", "--timeout=60s"]);
    let revision = || kubectl.json("campaign", "greet")["status"]["revision"].clone();
    let first = revision();
    assert!(apply(&maps("Dear {{ person.name }} of a map that was edited")).0);
    until_true("the edit is reconciled", PATIENCE, || revision() != first).await.unwrap();
    // Nothing of it is written to the object.
    assert_eq!(kubectl.json("messagetemplate", "hello")["spec"]["email"].get("mjml"), None);

    kubectl.done(&["patch", "campaign", "greet", "--type=merge", "-p", r#"{"spec":{"suspend":false}}"#]);
    let is_sent = || kubectl.json("campaign", "greet")["status"]["totals"]["sent"] == 1;
    until_true("the message is sent", PATIENCE, is_sent).await.unwrap();
    // A folder is compared with the words that the cluster has, whether or not it declares the map.
    let plan = || {
        let args = ["plan", "change", "--base", "cluster", "-n", &kubectl.namespace, "--store", &cluster.store];
        let said = home.command(&args).env("KUBECONFIG", &kubectl.config).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(said.status.success(), "{}{}", text(&said.stdout), text(&said.stderr));
        text(&said.stdout)
    };
    home.write("change/town.yaml", &email(&in_map).replace("  suspend: true", ""));
    assert!(!plan().contains("MessageTemplate"), "{}", plan());
    home.write("change/maps.yaml", &maps("Dear {{ person.name }} of a map that was edited again"));
    assert!(plan().contains("email.mjml: 1 lines more, 1 fewer"), "{}", plan());
    let mail = mail(home, "greet");
    assert!(mail.contains("Dear Person 1 of a map that was edited"), "{mail}");
}
