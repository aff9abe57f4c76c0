//! `campanile proof`: it really arrives, says what it is, and leaves no trace in the store.

use std::fs;

use super::{Club, NOW};
use crate::world::SmtpSink;

/// What a send writes: how many rows each table has.
async fn traces(club: &Club) -> Vec<String> {
    let tables = [
        "ledger",
        "attempt",
        "outcome",
        "tally",
        "once_fence",
        "incremental",
        "consent",
        "run",
        "run_channel",
        "revision",
        "object",
        "event",
        "deferred",
        "batch",
    ];
    let mut counts = vec![];
    for table in tables {
        counts.push(club.text(&format!("SELECT CAST(count(*) AS TEXT) FROM {table}")).await);
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_goes_to_the_outbox_and_leaves_no_trace() {
    for club in Club::both().await {
        let before = traces(&club).await;
        let proof = ["proof", "letter", "club", "--to", "me@example.com", "--as"];
        let ran = club.look(&[&proof[..], &["s3cr3t-a", "--as", "missing:name", "--step", "mail-others"]].concat());
        assert_eq!((ran.code, ran.out.lines().count()), (0, 2), "{ran:?}");
        let mails: Vec<String> = club.outbox().iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        assert_eq!(mails.len(), 2);
        let to_her = mails.iter().find(|mail| mail.contains("Subject: [proof] Cara s3cr3t Anna")).unwrap();
        assert!(to_her.contains("To: me@example.com\r\n") && !to_her.contains("s3cr3t-a@"), "{to_her}");
        assert!(to_her.contains("X-Campanile-Proof: mail-others\r\n"), "{to_her}");
        assert!(to_her.contains("List-Unsubscribe: <https://mail.example.com/u/specimen>"), "{to_her}");
        assert!(mails.iter().any(|mail| mail.contains("Subject: [proof] Dear friend")), "{mails:?}");
        assert_eq!(traces(&club).await, before);

        // Everybody gets the message as if there had been no proof, and once.
        let ran = club.call(&["run", "club", "--until-idle", "--now", NOW]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let sent = club.outbox().iter().filter(|path| path.to_string_lossy().contains("letter-2026")).count();
        assert_eq!(sent, 1, "{:?}", club.outbox());
        assert_eq!(club.outbox().len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_nobody_named_is_found() {
    for club in Club::both().await {
        let mut said = String::new();
        let calls: [&[&str]; 8] = [
            &["receipts", "--as", "longest:visit.note"],
            &["receipts", "--as", "longest:member.name"],
            &["receipts", "--as", "missing:visit.note"],
            &["letter", "--as", "persona:zoe", "--step", "mail-gold"],
            &["letter", "--as", "longest:nmae"],
            &["letter", "--as", "longest:visits"],
            &["letter", "--as", "missing:tier"],
            &["letter", "--as", "visit=s3cr3t-y,98765784"],
        ];
        for args in calls {
            let (campaign, rest) = args.split_first().unwrap();
            let ran = club.look(&[&["proof", campaign, "club", "--to", "me@example.com"], rest].concat());
            let mail = ran.out.split(": ").nth(1).map(|path| club.home.read(path.trim()));
            let subject =
                mail.as_ref().and_then(|mail| mail.lines().find(|line| line.starts_with("Subject"))).unwrap_or("");
            said += &format!("{args:?}: {} {subject} {}\n", ran.code, ran.err.trim());
        }
        insta::assert_snapshot!("proof_whom", said);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_really_arrives_over_smtp_where_the_gate_is_open() {
    let [club, _] = Club::both().await;
    let sink = SmtpSink::start(&[]).await.unwrap();
    let channel = format!(
        "spec: {{email: {{from: \"Club <club@example.com>\", smtp: {{host: 127.0.0.1, port: {}, tls: None}}}}, publicUrl: \"https://mail.example.com\"}}",
        sink.port()
    );
    let text = club.home.read("club/club.yaml");
    let outbox = text.lines().find(|line| line.starts_with("spec: {outbox")).unwrap();
    club.home.write("club/club.yaml", &text.replace(outbox, &channel));
    let before = traces(&club).await;
    let proof = ["proof", "letter", "club", "--to", "me@example.com", "--as", "s3cr3t-a", "--step", "mail-others"];
    let closed = club.look(&proof);
    assert!(closed.code == 0 && sink.count() == 0, "the outbox is the default: {closed:?}");
    let held = club.look(&[&proof[..], &["--deliver", "allowlist=@test.example"]].concat());
    assert!(held.code == 2 && held.err.contains("does not allow"), "{held:?}");
    let ran = club.look(&[&proof[..], &["--deliver", "live"]].concat());
    assert_eq!((ran.code, ran.out.as_str()), (0, "mail-others, as •••: sent to me@example.com\n"), "{ran:?}");
    let mails = sink.wait_for(1, crate::home::PATIENCE).await.unwrap();
    assert_eq!(mails[0].to, ["me@example.com"]);
    assert_eq!(mails[0].header("X-Campanile-Proof").as_deref(), Some("mail-others"));
    assert_eq!(traces(&club).await, before);

    // What is stopped is stopped for proofs, too.
    assert_eq!(club.call(&["stop", "letter", "--reason", "a wrong link"]).code, 0);
    let stopped = club.look(&[&proof[..], &["--deliver", "live"]].concat());
    assert!(stopped.code == 2 && stopped.err.contains("a wrong link"), "{stopped:?}");
    drop(sink);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_refuses_is_an_error_that_names_nobody() {
    let [club, _] = Club::both().await;
    let channel = "spec: {email: {from: \"Club <club@example.com>\", smtp: {host: 127.0.0.1, port: 9, tls: None}}, publicUrl: \"https://mail.example.com\"}";
    let text = club.home.read("club/club.yaml");
    let outbox = text.lines().find(|line| line.starts_with("spec: {outbox")).unwrap();
    club.home.write("club/club.yaml", &text.replace(outbox, channel));
    let proof = ["proof", "letter", "club", "--to", "me@example.com", "--as", "s3cr3t-a", "--deliver", "live"];
    let ran = club.look(&proof);
    assert!(ran.code == 1 && ran.err.contains("ConnectFailed"), "{ran:?}");
}
