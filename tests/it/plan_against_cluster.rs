//! `campanile diff`: what `kubectl apply` of some manifests would change in a cluster, seen by who may only look.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, Kubectl},
    home::{PATIENCE, people, people_manifests},
    world::until_true,
};

const CRON: &str = "  schedule: {cron: \"0 9 * * *\", timeZone: Europe/Rome}";

/// A kubeconfig of who may read our objects in one namespace and nothing else; manifests of hers are of that namespace.
fn reviewer(kubectl: &Kubectl, folder: &Path) {
    let namespace = &kubectl.namespace;
    kubectl.done(&["create", "role", "look", "--verb=get,list", "--resource=*.campanile.dev"]);
    kubectl.done(&["create", "rolebinding", "look", "--role=look", "--user=reviewer"]);
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&kubectl.config).unwrap()).unwrap();
    config["users"][0]["user"]["as"] = json!("reviewer");
    config["contexts"][0]["context"]["namespace"] = json!(namespace);
    fs::write(folder.join("reviewer"), config.to_string()).unwrap();
}

fn diff(cluster: &Cluster, args: &[&str]) -> Value {
    let home = &cluster.home;
    let mut command = home.command(&["diff"]);
    command.args(args).args(["--store", &cluster.store, "-o", "json"]);
    let done = command.env("KUBECONFIG", home.path().join("reviewer")).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

fn changed(report: &Value) -> Vec<String> {
    let objects = report["objects"].as_array().unwrap().iter();
    objects
        .map(|o| {
            format!("{} {} {}", o["change"].as_str().unwrap(), o["kind"].as_str().unwrap(), o["name"].as_str().unwrap())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_apply_would_change_is_told_to_who_may_only_look() {
    let cluster = Cluster::start("diff", "no-such-folder").await;
    let (kubectl, home) = (&cluster.kubectl, &cluster.home);
    home.write("data/people.csv", &people(10));
    home.write("town/town.yaml", &people_manifests(CRON, "person.id <= 4"));
    let town = home.path().join("town/town.yaml");
    kubectl.done(&["apply", "-f", town.to_str().unwrap()]);
    let is_ready = || kubectl.json("campaign", "greet")["status"]["conditions"][0]["status"] == "True";
    until_true("the campaign", PATIENCE, is_ready).await.unwrap();
    reviewer(kubectl, home.path());

    // What the API server adds is no change, and neither is what somebody stopped by hand.
    kubectl.done(&["annotate", "campaign", "greet", "campanile.dev/stop=looking"]);
    let same = diff(&cluster, &["town"]);
    assert_eq!(changed(&same), Vec::<String>::new(), "{same:#}");
    assert_eq!(same["base"], "the cluster");

    // One file: what it refers to is in the cluster, and what it does not name stays there.
    let whole = people_manifests(CRON, "person.id <= 7");
    let (_, campaign) = whole.rsplit_once("---\n").unwrap();
    home.write("one/greet.yaml", campaign);
    let one = diff(&cluster, &["one"]);
    assert_eq!(changed(&one), ["changed Campaign greet"], "{one:#}");
    assert_eq!(
        one["objects"][0]["words"],
        json!(["steps.all.audience.where was `person.id <= 4`, and is `person.id <= 7`"])
    );
    let rows = &one["campaigns"][0]["steps"][0]["outputs"][0]["rows"];
    assert_eq!((&rows["now"], &rows["base"]), (&json!({"exact": 7}), &json!({"exact": 4})), "{one:#}");

    // As GitOps with pruning would do it, all else goes, and the campaign misses what it needs.
    home.write("two/greet.yaml", &whole.replace("name: greet", "name: salute"));
    let two = diff(&cluster, &["two", "--prune"]);
    assert_eq!(changed(&two), ["removed Campaign greet", "added Campaign salute"], "{two:#}");

    let plugin = home.path().join("kubectl-campanile");
    symlink(env!("CARGO_BIN_EXE_campanile"), &plugin).unwrap();
    let path = format!("{}:{}", home.path().display(), std::env::var("PATH").unwrap());
    let plugged = Command::new("kubectl")
        .args(["campanile", "diff", "one", "--store", &cluster.store])
        .current_dir(home.path())
        .env("PATH", path)
        .env("KUBECONFIG", home.path().join("reviewer"))
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&plugged.stdout), String::from_utf8_lossy(&plugged.stderr));
    assert!(plugged.status.success() && out.contains("person.id <= 7"), "{out}{err}");

    let elsewhere = home
        .command(&["diff", "one", "-n", "default"])
        .env("KUBECONFIG", home.path().join("reviewer"))
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&elsewhere.stderr);
    assert!(elsewhere.status.code() == Some(2) && err.contains("the cluster: "), "{err}");
}
