//! The cluster home: a real API server, PostgreSQL, kubectl, and the controller as its own process.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::Value;
use tokio::sync::OnceCell;

use crate::{
    home::{Home, PATIENCE, Running, assert_conserved, people, people_manifests, repository},
    world::{ApiServer, Postgres, until_true},
};

/// kubectl as the administrator.
pub struct Kubectl {
    pub config: PathBuf,
    pub namespace: String,
}

impl Kubectl {
    pub fn call(&self, args: &[&str]) -> (bool, String, String) {
        let output = Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(&self.config)
            .args(["-n", &self.namespace])
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    }

    pub fn done(&self, args: &[&str]) -> String {
        let (is_done, out, err) = self.call(args);
        assert!(is_done, "kubectl {args:?}: {out}{err}");
        out
    }

    pub fn json(&self, kind: &str, name: &str) -> Value {
        let (_, out, _) = self.call(&["get", kind, name, "-o", "json"]);
        serde_json::from_str(&out).unwrap_or(Value::Null)
    }
}

/// One API server with our CRDs; a namespace, a database and a controller for each test.
pub struct Cluster {
    pub kubectl: Kubectl,
    pub home: Home,
    /// The store's URL.
    pub store: String,
    _controller: Running,
}

async fn api() -> &'static ApiServer {
    static APPLIED: OnceCell<()> = OnceCell::const_new();
    let api = ApiServer::shared().await.unwrap();
    APPLIED
        .get_or_init(|| async {
            let kubectl = Kubectl { config: api.kubeconfig().to_owned(), namespace: "default".to_owned() };
            kubectl.done(&["apply", "-f", repository().join("crds").to_str().unwrap()]);
            kubectl.done(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]);
        })
        .await;
    api
}

impl Cluster {
    pub async fn start(test: &str, data: &str) -> Self {
        Self::start_with(test, data, |_, _| vec![]).await
    }

    /// With more arguments for the controller, made from the namespace and the store's URL.
    async fn start_with(test: &str, data: &str, more: impl Fn(&str, &str) -> Vec<String>) -> Self {
        let api = api().await;
        let namespace = api.namespace(test).await.unwrap();
        let url = Postgres::shared().await.unwrap().database().await.unwrap();
        let home = Home::new();
        let data = repository().join(data);
        let data = if data.exists() { data } else { home.path().to_owned() };
        let log = std::fs::File::create(home.path().join("log")).unwrap();
        let child = home
            .command(&["controller", "--store", &url, "--environment", "test", "--settle-ms", "100"])
            .args(["--watch-namespace", &namespace])
            .arg("--data")
            .arg(data)
            .args(more(&namespace, &url))
            .env("KUBECONFIG", api.kubeconfig())
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let kubectl = Kubectl { config: api.kubeconfig().to_owned(), namespace };
        Self { kubectl, home, store: url, _controller: Running { child } }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hello_from_apply_to_status() {
    let cluster = Cluster::start("hello", "examples/hello").await;
    let kubectl = &cluster.kubectl;
    kubectl.done(&["apply", "-f", repository().join("examples/hello").to_str().unwrap()]);
    kubectl.done(&["wait", "--for=condition=Ready", "campaign/hello", "--timeout=60s"]);
    until_true("the run", PATIENCE, || kubectl.json("campaign", "hello")["status"]["lastRun"] == "hello-immediate")
        .await
        .unwrap();
    kubectl.done(&["wait", "--for=condition=Succeeded", "campaignrun/hello-immediate", "--timeout=60s"]);
    let filled = || kubectl.json("campaign", "hello")["status"]["totals"]["sent"] == 2;
    until_true("the campaign's counts", PATIENCE, filled).await.unwrap();

    let table = kubectl.done(&["get", "campaigns"]);
    let lines: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "SCHEDULE", "NEXT", "LAST", "RUN", "SENT", "EXCLUDED", "READY", "AGE"]);
    assert_eq!(lines[1][..7], ["hello", "immediate", "none", "hello-immediate", "2", "2", "True"]);
    assert_eq!(lines[1].len(), 8, "{table}");

    let run = kubectl.json("campaignrun", "hello-immediate");
    assert_conserved(&run);
    assert_eq!(run["status"]["totals"]["entered"], 4);
    assert_eq!(run["status"]["channels"][0]["reasons"], serde_json::json!({"NoAddress": 1, "NoConsent": 1}));
    assert_eq!(run["metadata"]["ownerReferences"][0]["kind"], "Campaign");
    assert_eq!(cluster.home.outbox().len(), 2);

    // kstatus: observed, and nothing under way.
    for kind in ["dataset", "audience", "channel", "messagetemplate", "campaign"] {
        let (_, out, _) = kubectl.call(&["get", kind, "-o", "json"]);
        let list: Value = serde_json::from_str(&out).unwrap();
        for object in list["items"].as_array().unwrap() {
            assert_eq!(object["status"]["observedGeneration"], object["metadata"]["generation"], "{object}");
            let conditions = object["status"]["conditions"].as_array().unwrap();
            let types: Vec<&str> = conditions.iter().map(|c| c["type"].as_str().unwrap()).collect();
            assert!(
                types.contains(&"Ready") && !types.contains(&"Reconciling") && !types.contains(&"Stalled"),
                "{types:?}"
            );
        }
    }
    let managers = run["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    assert!(kubectl.done(&["get", "events"]).contains("Completed"), "{managers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_objects_columns_and_json_as_the_folder_home() {
    let cluster = Cluster::start("alike", "examples/hello").await;
    let kubectl = &cluster.kubectl;
    let example = repository().join("examples/hello");
    kubectl.done(&["apply", "-f", example.to_str().unwrap()]);
    until_true("the run", PATIENCE, || kubectl.json("campaign", "hello")["status"]["totals"]["sent"] == 2)
        .await
        .unwrap();
    let folder = Home::new();
    assert_eq!(folder.run(&[example.to_str().unwrap()]).code, 0);
    for kind in ["datasets", "channels", "messagetemplates", "campaigns", "campaignruns"] {
        let shape = |text: &str| -> Vec<Vec<String>> {
            // Ages differ by a second.
            let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            text.lines()
                .map(cells)
                .map(|mut row| {
                    row.pop();
                    row
                })
                .collect()
        };
        assert_eq!(shape(&kubectl.done(&["get", kind])), shape(&folder.call(&["get", kind]).out), "{kind}");
    }
    for (kind, name) in [("campaign", "hello"), ("campaignrun", "hello-immediate"), ("dataset", "hello")] {
        let (mut ours, mut theirs) = (folder.get(kind, name), kubectl.json(kind, name));
        for object in [&mut ours, &mut theirs] {
            strip(object);
        }
        assert_eq!(ours, theirs, "{kind}");
    }
}

/// Takes away what cannot be alike: identities, times, the tables' home.
fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.remove("metadata");
            map.retain(|name, _| {
                !name.ends_with("Time")
                    && !name.ends_with("At")
                    && !["table", "revision", "dataAsOf"].contains(&name.as_str())
            });
            map.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_by_hand_a_stop_and_a_deletion() {
    let cluster = Cluster::start("by-hand", "no-such-folder").await;
    let kubectl = &cluster.kubectl;
    cluster.home.write("data/people.csv", &people(5));
    let manifest = people_manifests("  onDelete: Cancel", "true");
    let file = cluster.home.write("town.yaml", &manifest);
    kubectl.done(&["apply", "-f", file.to_str().unwrap()]);
    kubectl.done(&["wait", "--for=condition=Ready", "campaign/greet", "--timeout=60s"]);
    let run = "apiVersion: campanile.dev/v1alpha1\nkind: CampaignRun\nmetadata: {name: NAME}\nspec: {campaign: greet, mode: Live}\n";
    let first = cluster.home.write("first.yaml", &run.replace("NAME", "first"));
    kubectl.done(&["create", "-f", first.to_str().unwrap()]);
    kubectl.done(&["wait", "--for=condition=Succeeded", "campaignrun/first", "--timeout=60s"]);
    assert_eq!(cluster.home.outbox().len(), 5);
    // A run is immutable, and the API server says so.
    let (is_done, _, err) =
        kubectl.call(&["patch", "campaignrun", "first", "--type=merge", "-p", r#"{"spec":{"mode":"DryRun"}}"#]);
    assert!(!is_done && err.contains("a run is immutable but for cancel"), "{err}");

    // Stopped by annotation: the next run waits.
    kubectl.done(&["annotate", "campaign", "greet", "campanile.dev/stop=wrong link"]);
    let reason = || {
        let campaign = kubectl.json("campaign", "greet");
        let conditions = campaign["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|c| c["reason"] == "Stopped")
    };
    until_true("the stop", PATIENCE, reason).await.unwrap();
    let second = cluster.home.write("second.yaml", &run.replace("NAME", "second"));
    kubectl.done(&["create", "-f", second.to_str().unwrap()]);
    let held = || kubectl.json("campaignrun", "second")["status"]["conditions"].to_string().contains("Held");
    until_true("the held run", PATIENCE, held).await.unwrap();

    // Deleting the campaign cancels what waits, and lets it go.
    kubectl.done(&["delete", "campaign", "greet", "--timeout=60s"]);
    assert_eq!(kubectl.json("campaign", "greet"), Value::Null);
    assert_eq!(cluster.home.outbox().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_refuses_what_the_folder_refuses() {
    let api = api().await;
    let kubectl = Kubectl { config: api.kubeconfig().to_owned(), namespace: api.namespace("refuse").await.unwrap() };
    let home = Home::new();
    let good = people_manifests("  schedule: {cron: \"0 9 * * *\", timeZone: Europe/Rome}", "true");
    for (from, to, words) in [
        ("  topic: news", "  topik: news", "unknown field"),
        ("timeZone: Europe/Rome", "overlap: Queue", "a cron schedule names its timeZone"),
        ("    email: {channel: out, template: hello}", "    unused: true", "spec.steps[1]"),
        ("spec: {outbox: {}}", "spec: {}", "a channel is exactly one of email"),
        ("key: [id]", "key: [idd]", "key must name fields of this entity"),
        ("type: Integer", "type: Integr", "Unsupported value"),
    ] {
        assert!(good.contains(from), "{from}");
        let file = home.write("bad.yaml", &good.replacen(from, to, 1));
        let (is_done, _, err) = kubectl.call(&["apply", "--dry-run=server", "-f", file.to_str().unwrap()]);
        assert!(!is_done && err.contains(words), "{to}: {err}");
        let bad = Home::new();
        bad.write("town/town.yaml", &good.replacen(from, to, 1));
        assert_eq!(bad.run(&["town"]).code, 2, "{to}");
    }
    let file = home.write("good.yaml", &good);
    kubectl.done(&["apply", "--dry-run=server", "-f", file.to_str().unwrap()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_object_is_an_error_on_that_object() {
    let cluster = Cluster::start("malformed", "no-such-folder").await;
    let kubectl = &cluster.kubectl;
    cluster.home.write("data/people.csv", &people(2));
    let manifest = people_manifests("  schedule: {cron: \"0 9 * * *\", timeZone: Europe/Roma}", "person.nam == \"x\"");
    let file = cluster.home.write("town.yaml", &manifest);
    kubectl.done(&["apply", "-f", file.to_str().unwrap()]);
    let said = |words: &str| kubectl.json("campaign", "greet")["status"]["conditions"].to_string().contains(words);
    until_true("the time zone's error", PATIENCE, || said("`Europe/Roma` is not a time zone")).await.unwrap();
    cluster.home.write("town.yaml", &manifest.replace("Europe/Roma", "Europe/Rome"));
    kubectl.done(&["apply", "-f", file.to_str().unwrap()]);
    until_true("the rule's error", PATIENCE, || said("did you mean `name`?")).await.unwrap();
    let stalled = kubectl.call(&["wait", "--for=condition=Stalled", "campaign/greet", "--timeout=30s"]);
    assert!(stalled.0, "{stalled:?}");
    cluster.home.write(
        "town.yaml",
        &people_manifests("  schedule: {cron: \"0 9 * * *\", timeZone: Europe/Rome}", "person.name == \"x\""),
    );
    kubectl.done(&["apply", "-f", file.to_str().unwrap()]);
    kubectl.done(&["wait", "--for=condition=Ready", "campaign/greet", "--timeout=60s"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn audiences_are_refused_alike_and_kept_in_a_cluster() {
    let cluster = Cluster::start_with("audiences", "no-such-folder", |namespace, url| {
        vec!["--exports".into(), "exports".into(), "--sql".into(), format!("{namespace}={url}")]
    })
    .await;
    let kubectl = &cluster.kubectl;
    cluster.home.write("data/people.csv", &people(5));
    cluster.home.write("vip.csv", "id\n2\n3\n9\n");
    let audience = |name: &str, form: &str| {
        format!(
            "---\napiVersion: campanile.dev/v1alpha1\nkind: Audience\nmetadata: {{name: {name}}}\nspec: {{dataset: town, entity: person, {form}}}\n"
        )
    };
    let hourly = "refresh: {cron: \"0 * * * *\", timeZone: UTC}, export: {url: out/rest.csv, format: CSV}";
    let good = [
        people_manifests("", "person in audience(\"rest\")"),
        audience("vip", "import: {url: vip.csv, key: id}"),
        audience("all", "sql: 'SELECT id FROM person'"),
        audience("rest", &format!("subtract: [{{ref: odd}}, {{ref: vip}}], {hourly}")),
        audience("odd", "sql: 'SELECT id FROM person WHERE id % 2 = 1', refresh: {cron: \"0 * * * *\", timeZone: UTC}"),
        audience("winter", "saved: {}, guard: {minSize: 1, maxChange: 20%}"),
    ]
    .concat();
    // The API server says what the folder says.
    for (from, to, words) in [
        ("saved: {}", "saved: {}, sql: 'SELECT 1'", "an audience is exactly one of where, union"),
        ("saved: {}, ", "", "an audience is exactly one of where, union"),
        ("saved: {}", "saved: {}, refresh: {cron: \"0 9 * * *\", timeZone: UTC}", "takes no refresh"),
        ("{minSize: 1, maxChange: 20%}", "{}", "a guard has at least one of minSize, maxSize, maxChange"),
        ("{minSize: 1, maxChange: 20%}", "{minSize: 2, maxSize: 1}", "minSize must not exceed maxSize"),
        (
            "subtract: [{ref: odd}, {ref: vip}], refresh: {cron: \"0 * * * *\", timeZone: UTC}, ",
            "where: \"true\", ",
            "an export is written when the audience is refreshed",
        ),
    ] {
        assert!(good.contains(from), "{from}");
        let bad = good.replacen(from, to, 1);
        let file = cluster.home.write("bad.yaml", &bad);
        let (is_done, _, err) = kubectl.call(&["apply", "--dry-run=server", "-f", file.to_str().unwrap()]);
        assert!(!is_done && err.contains(words), "{to}: {err}");
        let folder = Home::new();
        folder.write("town/town.yaml", &bad);
        let ran = folder.run(&["town"]);
        assert!(ran.code == 2 && ran.err.contains(words), "{to}: {}", ran.err);
    }
    let file = cluster.home.write("good.yaml", &good);
    kubectl.done(&["apply", "-f", file.to_str().unwrap()]);
    for name in ["vip", "all", "rest", "odd", "winter"] {
        kubectl.done(&["wait", "--for=condition=Ready", &format!("audience/{name}"), "--timeout=60s"]);
    }
    let (vip, rest) =
        (kubectl.json("audience", "vip")["status"].clone(), kubectl.json("audience", "rest")["status"].clone());
    assert_eq!((&vip["size"], &vip["unmatched"], &rest["size"]), (&2.into(), &1.into(), &2.into()));
    let table = kubectl.done(&["get", "audiences", "rest"]);
    let lines: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "ENTITY", "SIZE", "CHANGE", "REFRESHED", "READY", "GUARD", "AGE"]);
    assert_eq!(lines[1][..4], ["rest", "person", "2", "+2"], "{table}");
    // Each namespace has a folder of its own below --exports.
    let exported = cluster.home.read(&format!("exports/{}/out/rest.csv", kubectl.namespace));
    assert_eq!(exported, "id\n1\n5\n");

    // Where the controller allows it to nobody, a statement is refused.
    let other = Cluster::start("no-sql", "no-such-folder").await;
    other.home.write("data/people.csv", &people(1));
    let manifest = people_manifests("", "true") + &audience("all", "sql: 'SELECT id FROM person'");
    let file = other.home.write("town.yaml", &manifest);
    other.kubectl.done(&["apply", "-f", file.to_str().unwrap()]);
    let refused = || other.kubectl.json("audience", "all")["status"]["conditions"].to_string().contains("NotAllowed");
    until_true("the refusal", PATIENCE, refused).await.unwrap();
}
