//! What holds a campaign back: the emergency stop, `suspend`, the gate, a past start, an overlap.

use std::time::Duration;

use sqlx::{Connection, Executor, PgConnection};

use crate::{
    either::Place,
    home::{Home, PATIENCE, lawful, people, people_manifests},
    world::{
        SmtpSink,
        scripted_smtp::{Script, Server},
        until, until_true,
    },
};

fn home(schedule: &str) -> Home {
    let home = Home::new();
    home.write("town/town.yaml", &people_manifests(schedule, "true"));
    home.write("town/data/people.csv", &people(5));
    home
}

#[test]
fn a_stopped_campaign_sends_nothing_until_started() {
    let home = home("");
    assert_eq!(home.run(&["town"]).code, 0);
    assert_eq!(home.call(&["stop", "greet", "--reason", "wrong link"]).code, 0);
    assert_eq!(home.call(&["trigger", "greet", "--name", "held"]).code, 0);
    let ran = home.run(&["town"]);
    assert_eq!((ran.code, home.outbox().len()), (1, 0), "{ran:?}");
    let (status, reason, message) = home.ready("campaign", "greet");
    assert_eq!((status.as_str(), reason.as_str(), message.as_str()), ("True", "Stopped", "stopped: wrong link"));
    assert_eq!(home.ready("campaignrun", "held").1, "Held");
    assert_eq!(home.call(&["start", "greet"]).out, "started\n");
    assert_eq!(home.run(&["town"]).code, 0);
    assert_eq!(home.outbox().len(), 5);
}

#[test]
fn a_suspended_start_is_counted_and_not_made_up() {
    let home = home("  schedule: {cron: \"0 9 * * *\", timeZone: UTC}\n  suspend: true");
    assert_eq!(home.run(&["town", "--now", "2026-05-01T08:00:00Z"]).code, 0);
    assert_eq!(home.run(&["town", "--now", "2026-05-01T09:10:00Z"]).code, 0);
    assert_eq!(home.get("campaign", "greet")["status"]["skipped"], 1);
    home.write("town/town.yaml", &people_manifests("  schedule: {cron: \"0 9 * * *\", timeZone: UTC}", "true"));
    assert_eq!(home.run(&["town", "--now", "2026-05-01T09:20:00Z"]).code, 0);
    assert!(home.outbox().is_empty());
    let status = home.get("campaign", "greet")["status"].clone();
    assert_eq!((&status["next"], &status["lastRun"]), (&"2026-05-02 09:00 UTC".into(), &"none".into()));
}

#[test]
fn a_cron_campaign_starts_in_time_and_a_late_start_is_missed() {
    let home = home("  schedule: {cron: \"0 9 * * *\", timeZone: Europe/Rome}");
    assert_eq!(home.run(&["town", "--now", "2026-05-01T06:00:00Z"]).code, 0);
    assert_eq!(home.run(&["town", "--now", "2026-05-01T07:30:00Z"]).code, 0);
    assert_eq!(home.get("campaign", "greet")["status"]["lastRun"], "greet-20260501070000");
    assert_eq!(home.outbox().len(), 5);
    // Down from the second to the fourth, and up an hour and a half too late.
    assert_eq!(home.run(&["town", "--now", "2026-05-04T08:31:00Z"]).code, 0);
    let status = home.get("campaign", "greet")["status"].clone();
    assert_eq!((&status["skipped"], &status["lastRun"]), (&3.into(), &"greet-20260501070000".into()));
    assert_eq!(status["next"], "2026-05-05 09:00 CEST");
}

#[test]
fn an_edit_does_not_send_again_and_an_at_in_the_past_is_missed() {
    let home = home("  schedule: {at: \"2026-05-01T09:00:00Z\"}");
    assert_eq!(home.run(&["town", "--now", "2026-05-01T08:00:00Z"]).code, 0);
    assert_eq!(home.run(&["town", "--now", "2026-05-01T09:00:30Z"]).code, 0);
    assert_eq!(home.outbox().len(), 5);
    home.write("town/town.yaml", &people_manifests("  schedule: {at: \"2026-05-01T09:00:20Z\"}", "person.id > 0"));
    assert_eq!(home.run(&["town", "--now", "2026-05-01T09:01:00Z"]).code, 0);
    assert_eq!(home.outbox().len(), 5);
    let late = self::home("  schedule: {at: \"2026-05-01T09:00:00Z\"}");
    assert_eq!(late.run(&["town", "--now", "2026-05-01T09:00:01Z"]).code, 0);
    assert!(late.outbox().is_empty());
}

#[tokio::test]
async fn only_live_delivery_reaches_the_relay() {
    let sink = SmtpSink::start(&[]).await.unwrap();
    let home = home("");
    let smtp = format!(
        "spec: {{email: {{from: a@example.com, smtp: {{host: 127.0.0.1, port: {}, tls: None}}}}, connections: 2}}",
        sink.port()
    );
    home.write(
        "town/town.yaml",
        &lawful(&people_manifests("", "true").replace("spec: {outbox: {}}", &smtp))
            .replace("template: hello}", "template: hello, once: {ever: false}}"),
    );
    let run = |name: &str, deliver: &[&str]| {
        assert_eq!(home.run(&["town"]).code, 0);
        assert_eq!(home.call(&["trigger", "greet", "--name", name]).code, 0);
        let args: Vec<&str> = ["town"].into_iter().chain(deliver.iter().copied()).collect();
        assert_eq!(home.run(&args).code, 0);
        home.get("campaignrun", name)["status"].clone()
    };
    let by_default = run("default", &[]);
    assert_eq!((sink.mails().unwrap().len(), home.outbox().len()), (0, 5));
    assert_eq!((&by_default["delivers"], &by_default["totals"]["sent"]), (&"outbox".into(), &5.into()));

    run("redirected", &["--deliver", "redirect=me@example.org"]);
    let mails = sink.wait_for(5, PATIENCE).await.unwrap();
    assert!(mails.iter().all(|m| m.header("To").is_some_and(|to| to.contains("me@example.org"))));

    let listed = run("listed", &["--deliver", "allowlist=p1@example.com"]);
    assert_eq!((&listed["totals"]["sent"], &listed["channels"][0]["reasons"]["NotAllowed"]), (&1.into(), &4.into()));
    run("live", &["--deliver", "live"]);
    sink.wait_for(11, PATIENCE).await.unwrap();
    assert_eq!(home.outbox().len(), 5);
}

#[tokio::test]
async fn a_deleted_campaign_holds_or_cancels_what_waits() {
    for (on_delete, wanted) in [("Cancel", "Cancelled"), ("Hold", "")] {
        let home = home("");
        let manifest = people_manifests(&format!("  onDelete: {on_delete}"), "true");
        home.write("town/town.yaml", &manifest);
        let running = home.spawn(&["run", "town"], "log");
        until_true("ready", PATIENCE, || home.ready("campaign", "greet").0 == "True").await.unwrap();
        // A stopped channel: the run is planned and waits.
        assert_eq!(home.call(&["stop", "--channel", "out", "--reason", "test"]).code, 0);
        assert_eq!(home.call(&["trigger", "greet", "--name", "waits"]).code, 0);
        let waiting = || home.get("campaignrun", "waits")["status"]["totals"]["waiting"] == 5;
        until_true("the run waits", PATIENCE, waiting).await.unwrap();
        drop(running);
        home.write(
            "town/town.yaml",
            manifest.split("---\napiVersion: campanile.dev/v1alpha1\nkind: Campaign").next().unwrap(),
        );
        assert_eq!(home.run(&["town"]).code, 0);
        assert!(home.get("campaign", "greet").is_null() && home.get("campaignrun", "waits").is_null());
        assert_eq!(home.call(&["start", "--channel", "out"]).code, 0);
        // The name comes back: what was held goes on, what was cancelled stays so.
        home.write("town/town.yaml", &manifest);
        assert_eq!(home.run(&["town"]).code, 0);
        assert_eq!(home.outbox().len(), if wanted.is_empty() { 5 } else { 0 }, "{on_delete}");
        assert_eq!(
            home.get("campaign", "greet")["status"]["totals"]["cancelled"],
            if wanted.is_empty() { 0 } else { 5 }
        );
    }
}

#[test]
fn an_overlapping_start_is_skipped_waits_or_replaces() {
    for (overlap, runs, cancelled) in [("Forbid", 1, 0), ("Queue", 1, 0), ("Replace", 2, 5)] {
        let home = home(&format!("  schedule: {{cron: \"0 * * * *\", timeZone: UTC, overlap: {overlap}}}"));
        assert_eq!(home.run(&["town", "--now", "2026-05-01T08:30:00Z"]).code, 0);
        // A stopped channel keeps the first run open.
        assert_eq!(home.call(&["stop", "--channel", "out", "--reason", "test"]).code, 0);
        assert_eq!(home.run(&["town", "--now", "2026-05-01T09:00:01Z"]).code, 1);
        assert_eq!(home.run(&["town", "--now", "2026-05-01T10:00:01Z"]).code, 1);
        let status = home.get("campaign", "greet")["status"].clone();
        assert_eq!(status["totals"]["entered"], runs * 5, "{overlap}: {status}");
        assert_eq!(status["totals"]["cancelled"], cancelled, "{overlap}");
        assert_eq!(status["skipped"], i32::from(overlap == "Forbid"), "{overlap}");
        assert_eq!(home.call(&["start", "--channel", "out"]).code, 0);
        let ran = home.run(&["town", "--now", "2026-05-01T10:00:05Z"]);
        // What waited for its turn comes now; what was skipped does not.
        let sent = if overlap == "Queue" { 10 } else { 5 };
        assert_eq!(home.outbox().len(), sent, "{overlap}: {ran:?}");
    }
}

#[test]
fn an_edit_does_not_change_a_run_that_has_started() {
    let home = home("");
    assert_eq!(home.run(&["town"]).code, 0);
    assert_eq!(home.call(&["stop", "greet", "--reason", "a look first"]).code, 0);
    assert_eq!(home.call(&["trigger", "greet", "--name", "first"]).code, 0);
    assert_eq!(home.run(&["town"]).code, 1);
    let pinned = home.get("campaignrun", "first")["status"]["revision"].clone();
    home.write("town/town.yaml", &people_manifests("", "person.id == 1").replace("Hello", "Goodbye"));
    assert_eq!(home.run(&["town"]).code, 1);
    assert_ne!(home.get("campaign", "greet")["status"]["revision"], pinned);
    assert_eq!(home.call(&["start", "greet"]).code, 0);
    assert_eq!(home.run(&["town"]).code, 0);
    assert_eq!(home.get("campaignrun", "first")["status"]["revision"], pinned);
    let subjects =
        home.outbox().iter().filter(|p| std::fs::read_to_string(p).unwrap().contains("Subject: Hello")).count();
    assert_eq!((home.outbox().len(), subjects), (5, 5), "the run keeps the revision it began with");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_what_stands_in_the_queue_and_a_start_sends_it_once() {
    const PEOPLE: usize = 300;
    let slow = Server::start(Script { think: Duration::from_millis(20), ..Script::default() });
    let home = Home::new();
    // Every message is attempted at once; they go one by one.
    let smtp = format!(
        "spec: {{email: {{from: a@example.com, smtp: {{host: 127.0.0.1, port: {}, tls: None}}}}, connections: 1, depth: 1000}}",
        slow.port
    );
    let schedule = "  schedule: {immediate: {notAfter: 2099-01-01T00:00:00Z}}";
    home.write("town/town.yaml", &lawful(&people_manifests(schedule, "true").replace("spec: {outbox: {}}", &smtp)));
    home.write("town/data/people.csv", &people(PEOPLE));
    let _running = home.spawn(&["run", "town", "--deliver", "live"], "log");
    until_true("the first messages", PATIENCE, || slow.messages() > 3).await.unwrap();
    assert_eq!(home.call(&["stop", "--all", "--reason", "wrong link"]).code, 0);
    let counts = || {
        let totals = home.get("campaignrun", "greet-immediate")["status"]["totals"].clone();
        let n = |part: &str| usize::try_from(totals[part].as_i64().unwrap_or(0)).unwrap();
        (n("sent"), n("waiting"), n("inDoubt"))
    };
    let is_held = || home.ready("campaignrun", "greet-immediate").1 == "Held" && counts().0 == slow.messages();
    until_true("the run to be held", PATIENCE, is_held).await.unwrap();
    let (sent, waiting, in_doubt) = counts();
    assert!(sent < PEOPLE && sent + waiting == PEOPLE && in_doubt == 0, "{sent} {waiting} {in_doubt}");
    assert_eq!(home.call(&["start", "--all"]).code, 0);
    until_true("the rest", PATIENCE, || counts() == (PEOPLE, 0, 0)).await.unwrap();
    assert_eq!(slow.messages(), PEOPLE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_outrun_while_it_is_planned_is_planned_at_once() {
    let [_, place] = Place::both().await;
    place.home.write("town/town.yaml", &people_manifests("", "true"));
    place.home.write("town/data/people.csv", &people(5));
    let url = place.url.as_deref().unwrap();
    assert_eq!(place.run(&[]).code, 0);
    for args in [["stop", "greet", "--reason", "later"], ["trigger", "greet", "--name", "held"]] {
        assert_eq!(place.home.call(&[&args[..], &["--store", url]].concat()).code, 0);
    }
    assert_eq!(place.run(&[]).code, 1, "a stopped run waits");
    assert_eq!(place.home.call(&["start", "greet", "--store", url]).code, 0);

    // Somebody writes to the run's row, and is not done when its planning comes to it.
    let mut other = PgConnection::connect(url).await.unwrap();
    other.execute("BEGIN").await.unwrap();
    let touched = other.execute("UPDATE run SET message = message WHERE name = 'held'").await.unwrap();
    assert_eq!(touched.rows_affected(), 1);
    let mut running = place.spawn_with("log", &["--until-idle"]);
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' \
                 AND query LIKE '%run SET%'";
    until("the planning to wait", PATIENCE, || async {
        let mut look = PgConnection::connect(url).await?;
        let waiting: i64 = sqlx::query_scalar(waits).fetch_one(&mut look).await?;
        anyhow::ensure!(waiting > 0, "nobody waits");
        Ok(())
    })
    .await
    .unwrap();
    other.execute("COMMIT").await.unwrap();
    let ended = running.child.wait().unwrap();
    let log = place.home.read("log");
    assert!(ended.success() && !log.contains("could not serialize"), "{log}");
    assert_eq!(place.home.outbox().len(), 5);
}
