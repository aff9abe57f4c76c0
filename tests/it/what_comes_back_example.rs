//! The example `what-comes-back` does what its README says.

use std::{fs, process::Command};

use crate::{
    home::{Home, PATIENCE, copy, repository},
    world::until_true,
};

#[tokio::test(flavor = "multi_thread")]
async fn it_does_what_it_says() {
    let home = Home::new();
    copy(&repository().join("examples/what-comes-back"), &home.path().join("example"));
    let run = |name: &str| {
        assert_eq!(home.run(&["example"]).code, 0);
        assert_eq!(home.call(&["trigger", "notice", "--name", name]).code, 0);
        let ran = home.run(&["example"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        home.get("run", name)["status"].clone()
    };
    assert_eq!(run("first")["totals"]["sent"], 3);
    let outbox = home.outbox().into_iter();
    let mail = outbox.clone().find(|path| fs::read_to_string(path).unwrap().contains("bruno")).unwrap();
    let bounce = Command::new("sh").arg(home.path().join("example/bounce.sh")).arg(mail).output().unwrap();
    assert!(bounce.status.success(), "{bounce:?}");
    home.deliver("example/mail/new/1", &bounce.stdout);
    {
        let _running = home.spawn(&["inbound", "--maildir", "example/mail"], "log");
        let read = home.path().join("example/mail/cur/1:2,S");
        until_true("the bounce", PATIENCE, || read.exists()).await.unwrap();
    }
    let shown = home.call(&["suppression", "show", "bruno@example.com"]);
    assert!(shown.out.starts_with("suppressed in the whole store") && shown.out.contains("HardBounce"), "{shown:?}");
    let why = home.call(&["why", "notice", "2", "example"]);
    assert!(why.out.contains("Suppressed"), "{why:?}");
    let second = run("second");
    assert_eq!(second["totals"]["sent"], 2, "{second}");
    assert_eq!(second["channels"][0]["reasons"]["Suppressed"], 1, "{second}");
    assert_eq!(home.get("run", "first")["status"]["totals"]["bounced"], 1);
}
