//! `campanile why`: the same words on both stores, and they say what a run does.

use super::{Club, NOW};

const PEOPLE: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

fn walks(club: &Club, campaign: &str) -> String {
    let of = |person: &&str| {
        let ran = club.steadily(&["why", campaign, &format!("s3cr3t-{person}"), "club"]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
        format!("-- {person}\n{}", ran.out)
    };
    PEOPLE.iter().map(of).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_clause_is_told_with_its_values_alike_on_both_stores() {
    let [sqlite, postgres] = Club::both().await;
    for campaign in ["letter", "receipts", "flow"] {
        let said = walks(&sqlite, campaign);
        insta::assert_snapshot!(format!("why_{campaign}"), said);
        assert_eq!(walks(&postgres, campaign), said);
    }
    // A row of another entity on the way.
    let visit = ["why", "receipts", "visit=s3cr3t-x,98765772", "club"];
    let said = sqlite.look(&visit).out;
    insta::assert_snapshot!("why_visit", said);
    assert_eq!(postgres.look(&visit).out, said);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_says_is_what_the_run_does() {
    for club in Club::both().await {
        let told: Vec<_> =
            PEOPLE.iter().map(|p| club.json(&["why", "letter", &format!("s3cr3t-{p}"), "club"])).collect();
        let ran = club.call(&["run", "club", "--until-idle", "--now", NOW]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let run = "letter-20260501090000";
        for (person, told) in PEOPLE.iter().zip(told) {
            let key = format!("s3cr3t-{person}");
            let after = club.json(&["why", "letter", &key, "--run", run]);
            assert_eq!(after["steps"], told["steps"], "{person}: the run's own tables say the same");
            let fates = after["fates"].as_array().unwrap();
            let ends = told["ends"].as_array().unwrap();
            assert_eq!(fates.is_empty(), ends.iter().all(|end| !end["leftAt"].is_null()), "{person}: {after:#}");
            for fate in fates {
                let end = ends.iter().find(|end| end["step"] == fate["step"]).unwrap();
                let (outcome, messages) = if fate["outcome"] == "Sent" { ("Sent", 1) } else { ("Excluded", 0) };
                assert_eq!(
                    (fate["outcome"].as_str(), end["messages"].as_u64()),
                    (Some(outcome), Some(messages)),
                    "{person}"
                );
                if outcome == "Excluded" {
                    assert_eq!(end["reasons"][0], fate["reason"], "{person}");
                }
            }
        }
        // The next run: who got it is known.
        let next = club.look(&["why", "letter", "s3cr3t-a", "club"]).out;
        assert!(next.contains("member 1  out: run letter-20260501090000 took it at 2026-05-01T09:00:0"), "{next}");
        assert!(
            next.contains("run letter-20260501090000: mail-others, member 1: Sent at 2026-05-01T09:00:0"),
            "{next}"
        );
        // Once by its schedule.
        let held = club.look(&["why", "receipts", "s3cr3t-a", "club"]).out;
        assert!(held.contains("nothing is sent now: the campaign is suspended"), "{held}");
        club.suspend("receipts", false);
        assert_eq!(club.call(&["run", "club", "--until-idle", "--now", "2026-05-01T10:00:00Z"]).code, 0);
        let again = club.look(&["why", "receipts", "s3cr3t-a", "club"]).out;
        assert!(again.contains("AlreadySent: run receipts-immediate sent it at 2026-05-01T10:00:0"), "{again}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_says_how_far_it_has_come() {
    for club in Club::both().await {
        assert_eq!(club.call(&["trigger", "flow"]).code, 0);
        let ran = club.call(&["run", "club", "--until-idle", "--now", NOW]);
        assert!(ran.code == 1 && ran.err.contains("Waiting: goes on at"), "{ran:?}");
        let sql = "SELECT name FROM run WHERE campaign = 'flow'";
        let run = club.text(sql).await;
        let said = club.look(&["why", "flow", "s3cr3t-e", "--run", &run]).out.replace(&run, "RUN");
        let said = said.lines().skip(1).map(|line| format!("{line}\n")).collect::<String>();
        insta::assert_snapshot!("why_waiting", said);
    }
}

/// A rule that faults for somebody is told as one, also where the rule lets nobody else see it.
#[tokio::test(flavor = "multi_thread")]
async fn a_clause_that_faults_is_told() {
    let mut said = vec![];
    for club in Club::both().await {
        let text = club.home.read("club/club.yaml");
        let rule = "where: '100 / member.points > 1 && member.tier == \"gold\"'";
        let text = text.replace("where: 'member.country != \"IT\"'", rule);
        club.home.write("club/club.yaml", &text.replace("audience: {ref: guests}", "audience: {ref: abroad}"));
        let of = |key: &str| club.look(&["why", "receipts", key, "club"]).out;
        said.push([of("s3cr3t-e"), of("s3cr3t-g")].join("\n"));
    }
    insta::assert_snapshot!("why_faults", said[0]);
    assert_eq!(said[0], said[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_without_the_key() {
    let [club, _] = Club::both().await;
    let mut said = String::new();
    let wrong: [&[&str]; 8] = [
        &["why", "letter", "s3cr3t-nobody", "club"],
        &["why", "letter", "visit=s3cr3t-x", "club"],
        &["why", "letter", "visit=s3cr3t-x,s3cr3t", "club"],
        &["why", "letter", "memmber=s3cr3t-a", "club"],
        &["why", "lettre", "s3cr3t-a", "club"],
        &["why", "letter", "s3cr3t-a", "--run", "letter-1"],
        &["why", "letter", "s3cr3t-a", "club", "--reveal"],
        &["why", "letter", "s3cr3t-a", "nowhere"],
    ];
    for args in wrong {
        let ran = club.look(args);
        said += &format!("{} {}{}\n", ran.code, ran.out.lines().take(2).collect::<Vec<_>>().join("\n"), ran.err);
    }
    insta::assert_snapshot!("why_wrong", said);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_she_is_shown() {
    let [club, _] = Club::both().await;
    // `script` gives it a terminal.
    let call = format!("{} why letter s3cr3t-a club --reveal --now {NOW}", env!("CARGO_BIN_EXE_campanile"));
    let mut script = std::process::Command::new("script");
    let output = script.args(["-qec", &call, "/dev/null"]).current_dir(club.home.path()).output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(out.contains("member s3cr3t-a") && out.contains("member.country = DE-s3cr3t"), "{out}");
}
