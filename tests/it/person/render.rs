//! `campanile render CAMPAIGN KEY`: as a person or a persona would get it, and naming nobody.

use serde_json::Value;

use super::{Club, NOW};

fn shown(club: &Club, args: &[&str]) -> String {
    let ran = club.look(&[&["render"], args].concat());
    assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
    format!("{}{}", ran.out, ran.err)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_and_a_persona_are_shown_alike_on_both_stores() {
    let [sqlite, postgres] = Club::both().await;
    let calls: [&[&str]; 6] = [
        &["letter", "s3cr3t-a", "club", "--step", "mail-others"],
        // Without a name and an address, in a language of which there is no variant, and who would get nothing.
        &["letter", "s3cr3t-f", "club", "--locale", "en", "--step", "mail-gold"],
        &["receipts", "s3cr3t-a", "club"],
        &["receipts", "visit=s3cr3t-x,98765771", "club"],
        &["letter", "--persona", "zoe", "club", "--step", "mail-gold"],
        &["letter", "--persona", "nobody", "club", "--locale", "it", "--step", "mail-gold"],
    ];
    let said: Vec<String> = calls.iter().map(|args| format!("== {args:?}\n{}", shown(&sqlite, args))).collect();
    insta::assert_snapshot!("render", said.join("\n"));
    for (args, said) in calls.iter().zip(said) {
        assert_eq!(format!("== {args:?}\n{}", shown(&postgres, args)), said);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_names_nobody_and_personas_need_no_store() {
    let [club, _] = Club::both().await;
    let one = ["letter", "s3cr3t-a", "club", "--step", "mail-others", "--locale", "it"];
    let eml = shown(&club, &[&one[..], &["-o", "eml"]].concat());
    assert!(eml.contains("\r\nTo: masked@example.invalid\r\n"), "{eml}");
    assert!(eml.contains("List-Unsubscribe: <https://mail.example.com/u/specimen>"), "{eml}");
    assert_eq!(shown(&club, &[&one[..], &["-o", "html"]].concat()), "<p>••• •••</p>");
    let json: Value = serde_json::from_str(&shown(&club, &[&one[..], &["-o", "json"]].concat())).unwrap();
    assert_eq!(json[0]["subject"], "Cara •••");
    assert_eq!(json[0]["sizeBytes"], eml.len());

    // What is written to a folder.
    let files = shown(&club, &[&one[..], &["--open"]].concat());
    for path in files.lines() {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(!text.to_lowercase().contains(super::MARK), "{text}");
        std::fs::remove_file(path).unwrap();
    }
    assert_eq!(files.lines().count(), 2, "{files}");

    let zoe = ["render", "letter", "--persona", "zoe", "club", "--step", "mail-gold", "--locale", "en", "--now", NOW];
    let ran = club.home.call(&[&zoe[..], &["--store", "sqlite://nowhere/store.db"]].concat());
    assert!(ran.code == 0 && ran.out.contains("Subject: Dear Zoë"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_of_lists_is_shown_byte_for_byte() {
    for club in Club::both().await {
        assert_eq!(club.call(&["run", "club", "--until-idle", "--now", NOW]).code, 0);
        let sent = club.home.outbox();
        assert_eq!(sent.len(), 1);
        let shown = club.call(&["render", "--run", "letter-20260501090000", "s3cr3t-a"]);
        assert_eq!(shown.out, std::fs::read_to_string(&sent[0]).unwrap());
        assert!(shown.out.contains("s3cr3t first 10.00 s3cr3t Anna;"), "{shown:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said() {
    let [club, _] = Club::both().await;
    let wrong: [&[&str]; 9] = [
        &["letter", "s3cr3t-zzz", "club"],
        &["letter", "club"],
        &["letter"],
        &["letter", "--persona", "max", "club"],
        &["receipts", "--persona", "max", "club"],
        &["letter", "s3cr3t-a", "club", "--step", "male"],
        &["letter", "s3cr3t-a", "club", "-o", "eml"],
        &["receipts", "s3cr3t-a", "club", "-o", "html"],
        &["letter", "s3cr3t-a", "club", "--reveal"],
    ];
    let mut said = String::new();
    for args in wrong {
        let ran = club.look(&[&["render"], args].concat());
        assert_eq!(ran.out, "", "{ran:?}");
        said += &format!("{args:?}\n{} {}\n", ran.code, ran.err);
    }
    insta::assert_snapshot!("render_wrong", said);
}
