//! Marketing mail without a link to unsubscribe or the sender's address is held at live delivery, and nowhere else.

use crate::{
    home::{Home, PATIENCE, assert_conserved, lawful, people, people_manifests},
    world::{SmtpSink, until_true},
};

const SCHEDULE: &str = "  schedule: {immediate: {notAfter: 2099-01-01T00:00:00Z}}";

fn town(port: u16) -> String {
    let smtp = format!("spec: {{email: {{from: a@example.com, smtp: {{host: 127.0.0.1, port: {port}, tls: None}}}}}}");
    people_manifests(SCHEDULE, "true").replace("spec: {outbox: {}}", &smtp)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_held_until_its_mail_says_what_it_must() {
    let home = Home::new();
    let sink = SmtpSink::start(&[]).await.unwrap();
    let lacking = town(sink.port());
    let whole = lawful(&lacking);
    home.write("town/data/people.csv", &people(3));
    home.write("town/town.yaml", &lacking);
    let _running = home.spawn(&["run", "town", "--deliver", "live"], "log");
    let why = || home.ready("campaignrun", "greet-immediate");
    for (text, wanted) in [
        (
            lacking.clone(),
            "MessageTemplate `hello`, spec.email.text: Marketing mail without a link to unsubscribe: text",
        ),
        // A header that mail programs may or may not show is none of the words.
        (whole.replace(" {{ unsubscribe_url }}", ""), "Marketing mail without a link to unsubscribe: text"),
        (whole.replace("{{ sender.address }} ", ""), "Marketing mail without the sender's address: text"),
        (whole.replace("address: 'Via Roma 1, Milano'", "address: ' '"), "{{ sender.address }} of `hello` is empty"),
    ] {
        home.write("town/town.yaml", &text);
        until_true(wanted, PATIENCE, || why().2.contains(wanted)).await.unwrap();
        let (ready, reason, message) = why();
        assert_eq!((ready.as_str(), reason.as_str()), ("False", "Held"), "{message}");
        assert!(message.starts_with("nothing is sent at live delivery: "), "{message}");
    }
    let campaign = || home.ready("campaign", "greet").2;
    until_true("the campaign says so, too", PATIENCE, || campaign().contains("of `hello` is empty")).await.unwrap();
    assert_eq!((sink.count(), home.outbox().len()), (0, 0));

    // Mended, the run that waited goes by the new words.
    home.write("town/town.yaml", &whole);
    let mails = sink.wait_for(3, PATIENCE).await.unwrap();
    let text = &mails[0].text;
    assert!(text.contains("Via Roma 1, Milano https://mail.example.com/"), "{text}");
    let is_done = || home.ready("campaignrun", "greet-immediate").0 == "True";
    until_true("the run ends", PATIENCE, is_done).await.unwrap();
    let run = home.get("campaignrun", "greet-immediate");
    assert_eq!(run["status"]["totals"]["sent"], 3);
    assert_eq!(run["status"]["revision"], home.get("campaign", "greet")["status"]["revision"]);
    assert_conserved(&run);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_marketing_and_what_does_not_go_out_is_not_held() {
    let sink = SmtpSink::start(&[]).await.unwrap();
    let lacking = town(sink.port());
    for (text, mode, sent) in [
        (lacking.clone(), "outbox", 0),
        (lacking.clone(), "redirect=me@example.com", 2),
        (lacking.replace("topic: news", "topic: service"), "live", 4),
        (people_manifests(SCHEDULE, "true"), "live", 4),
    ] {
        let home = Home::new();
        home.write("town/data/people.csv", &people(2));
        home.write("town/town.yaml", &text);
        let ran = home.run(&["town", "--deliver", mode]);
        assert_eq!(ran.code, 0, "{mode}: {ran:?}");
        assert_eq!(home.get("campaignrun", "greet-immediate")["status"]["totals"]["sent"], 2, "{mode}");
        assert_eq!(sink.count(), sent, "{mode}");
    }
}
