//! A cluster that has never heard of Campanile: the definitions and an example in one call, and who cleans up after a
//! deletion.

use std::process::Stdio;

use serde_json::Value;

use crate::{
    cluster::Kubectl,
    home::{Home, PATIENCE, Running, repository},
    world::{ApiServer, Postgres, until_true},
};

#[tokio::test(flavor = "multi_thread")]
async fn one_call_brings_all_and_a_deleted_campaign_takes_its_runs_along() {
    let api = ApiServer::start().await.unwrap();
    let kubectl = Kubectl { config: api.kubeconfig().to_owned(), namespace: "default".to_owned() };
    let [crds, hello] = ["crds", "examples/hello"].map(|p| repository().join(p).display().to_string());
    // kubectl looks the kinds up before it applies anything, so what it has just defined it finds at the second call.
    let apply = ["apply", "-f", crds.as_str(), "-f", hello.as_str()];
    let (is_done, out, err) = kubectl.call(&apply);
    assert!(is_done || err.contains("ensure CRDs are installed first"), "{out}{err}");
    kubectl.done(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]);
    kubectl.done(&apply);
    // The collector looks for new kinds only now and then: it starts when they are there.
    let _collector = api.start_controller_manager().await.unwrap();

    let home = Home::new();
    let url = Postgres::shared().await.unwrap().database().await.unwrap();
    let log = std::fs::File::create(home.path().join("log")).unwrap();
    let mut command = home.command(&["controller", "--store", &url, "--environment", "test", "--settle-ms", "100"]);
    command.arg("--data").arg(&hello).env("KUBECONFIG", api.kubeconfig()).stderr(log).stdout(Stdio::null());
    let _controller = Running { child: command.spawn().unwrap() };
    kubectl.done(&["wait", "--for=condition=Ready", "campaign/hello", "--timeout=60s"]);
    kubectl.done(&["wait", "--for=create", "campaignrun/hello-immediate", "--timeout=60s"]);
    kubectl.done(&["wait", "--for=condition=Succeeded", "campaignrun/hello-immediate", "--timeout=60s"]);
    assert_eq!(home.outbox().len(), 2);

    kubectl.done(&["delete", "campaign", "hello", "--timeout=60s"]);
    let is_gone = || kubectl.json("campaignrun", "hello-immediate") == Value::Null;
    until_true("the run to be collected", PATIENCE, is_gone).await.unwrap();
    // Made again under its name it has run: names are identity.
    kubectl.done(&apply);
    kubectl.done(&["wait", "--for=condition=Ready", "campaign/hello", "--timeout=60s"]);
    let knows = || kubectl.json("campaign", "hello")["status"]["lastRun"] == "hello-immediate";
    until_true("the campaign to know its run", PATIENCE, knows).await.unwrap();
    assert_eq!(home.outbox().len(), 2);
}
