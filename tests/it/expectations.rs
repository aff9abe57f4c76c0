//! `campanile test`: what authors expect, run by the code of a home, and told with its reasons where it does not hold.

use std::{fmt::Write, fs, path::Path, time::Instant};

use serde_json::Value;

use crate::home::{Home, copy, repository};

/// A home with the example in it.
fn workshop() -> Home {
    let home = Home::new();
    copy(&repository().join("examples/review-test"), &home.path().join("shop"));
    home
}

fn files(folder: &Path) -> Vec<String> {
    let mut found: Vec<String> =
        fs::read_dir(folder).unwrap().map(|f| f.unwrap().file_name().to_string_lossy().into_owned()).collect();
    found.sort();
    found
}

#[test]
fn the_example_holds_and_leaves_nothing_behind() {
    let home = workshop();
    let temp = home.path().join("temp");
    fs::create_dir(&temp).unwrap();
    let test = |args: &[&str]| {
        let mut command = home.command(&[&["test"], args].concat());
        let output = command.env("TMPDIR", &temp).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap(), output.stderr)
    };
    let (code, text, errors) = test(&["shop"]);
    assert_eq!((code, errors.as_slice()), (0, &b""[..]), "{text}");
    assert!(text.ends_with(" s\n") && text.contains("2 tests, 8 cases, none failed, "), "{text}");
    // A test by itself: its manifests stand beside it.
    assert_eq!(test(&["shop/service-due.test.yaml"]).0, 0);
    let json: Value = serde_json::from_str(&test(&["shop", "-o", "json"]).1).unwrap();
    assert_eq!(json[0]["cases"].as_array().unwrap().len(), 7, "{json}");
    assert_eq!((files(home.path()), files(&temp)), (vec!["shop".to_owned(), "temp".to_owned()], vec![]));
}

#[test]
fn homes_pass_over_tests() {
    let home = workshop();
    let ran = home.run(&["shop", "--now", "2026-05-04T06:00:00Z"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
}

#[test]
fn what_does_not_hold_is_told_with_its_reason() {
    let home = workshop();
    let rule = home.read("shop/service-due.yaml");
    home.write("shop/service-due.yaml", &rule.replace("days(365)", "days(730)").replace("never been", "not been"));
    let ran = home.call(&["test", "shop"]);
    assert_eq!((ran.code, ran.err.as_str()), (1, ""), "{ran:?}");
    let words = ran.out.lines().filter(|line| !line.contains("case")).map(|line| format!("{line}\n"));
    insta::assert_snapshot!("failures", words.collect::<String>());

    // Jenkins and GitLab read what failed of the attributes of each element, and GitLab the failure's text.
    let xml = home.call(&["test", "shop", "-o", "junit"]).out;
    assert!(xml.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites "), "{xml}");
    assert!(xml.contains("tests=\"8\" failures=\"6\" errors=\"0\""), "{xml}");
    assert_eq!(xml.matches("<testcase ").count(), 8);
    assert_eq!(xml.matches("<failure message=\"").count(), 6);
    assert_eq!((xml.matches("</failure>").count(), xml.matches("</testcase>").count()), (6, 6));
}

const WRONG: &str = r#"apiVersion: test.campanile.dev/v1alpha1
kind: Test
metadata: {name: wrong}
spec:
  campaign: service-due
  now: 2026-05-04T07:00:00Z
  data:
    owner: [{id: 1, nmae: Ada}, {id: seven, name: Bo}, {name: Cy}, {id: 2}]
    bicycel: []
    bicycle: {csv: fixtures/none.csv}
  audiences: {service-due: [1]}
  cases:
  - name: one
    data: {bicycle: [{id: 1, price: 1.234, serviced_at: soon}]}
    steps: {due: {in: [one]}, kinds: {in: [1]}}
    messages: [{step: male, for: 1}, {step: mail, for: [1, 2]}]
    counts: {fresh: {sent: 1}}
    members: {in: [1]}
---
apiVersion: test.campanile.dev/v1alpha1
kind: Test
metadata: {name: lost}
spec: {campaign: service-deu, now: 2026-05-04T07:00:00Z, cases: [{name: a}]}
---
apiVersion: test.campanile.dev/v1alpha1
kind: Test
metadata: {name: audience}
spec:
  audience: service-due
  now: 2026-05-04T07:00:00Z
  cases:
  - {name: a, params: {days: 3}, members: {in: [x]}}
  - {name: b, steps: {due: {size: 1}}}
  - {name: b}
---
apiVersion: test.campanile.dev/v1alpha1
kind: Test
metadata: {name: shape}
spec: {campaign: service-due, now: tomorrow, case: [], cases: []}
---
apiVersion: test.campanile.dev/v1
kind: Test
metadata: {name: version}
"#;

#[test]
fn a_wrong_test_is_pointed_at() {
    let home = workshop();
    home.write("shop/wrong.yaml", WRONG);
    let mut said = home.call(&["test", "shop"]);
    assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:?}");
    insta::assert_snapshot!("wrong_shape", said.err);
    let right_shape = WRONG.split("---\n").take(2).collect::<Vec<_>>().join("---\n");
    home.write("shop/wrong.yaml", &right_shape);
    said = home.call(&["test", "shop"]);
    insta::assert_snapshot!("wrong_names", said.err);
    let audience = WRONG.split("---\n").nth(2).unwrap().replace("  - {name: b}\n", "");
    home.write("shop/wrong.yaml", &audience);
    insta::assert_snapshot!("wrong_audience", home.call(&["test", "shop"]).err);
    let none = home.call(&["test", "shop/data"]);
    assert!(none.code == 2 && none.err.contains("there are no tests"), "{none:?}");
}

const ENDS: &str = r#"apiVersion: campanile.dev/v1alpha1
kind: Audience
metadata: {name: given}
spec: {dataset: workshop, entity: owner, saved: {}}
---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {name: hello}
spec: {email: {subject: "{{ many }} of {{ owner.name }}", text: "{% for b in bikes %}{{ b.model }};{% endfor %}"}}
---
apiVersion: campanile.dev/v1alpha1
kind: Campaign
metadata: {name: ends}
spec:
  dataset: workshop
  topic: service
  schedule: {immediate: {}}
  steps:
  - name: who
    audience: {ref: given}
  - name: many
    enrich: {as: many, aggregate: "100 / owner.bicycles.size()"}
  - name: bikes
    enrich: {as: bikes, link: owner.bicycles, top: 2, orderBy: id}
  - name: later
    wait: {for: 3d}
  - name: mail
    email: {channel: desk, template: hello, expiresAfter: 1h}
---
apiVersion: test.campanile.dev/v1alpha1
kind: Test
metadata: {name: ends}
spec:
  campaign: ends
  now: 2026-05-04T07:00:00Z
  data:
    owner: [{id: 1, name: Ada, email: ada@example.com, news: true}, {id: 2, name: Bo, email: bo@example.com, news: true}]
    bicycle: [{id: 1, owner_id: 1, model: A}, {id: 2, owner_id: 1, model: B}, {id: 3, owner_id: 1, model: C}]
  audiences: {given: [1]}
  cases:
  - name: behind a wait
    steps: {later: {only: [1]}}
    messages: [{step: mail, for: 1, subject: {is: 33 of Ada}, text: {is: "A;B;"}}]
    starts: [2026-05-04T07:00:00Z]
  - name: once
    earlier: [2026-05-03T07:00:00Z]
    messages: [{step: mail, for: 1, reason: AlreadySent}]
---
apiVersion: test.campanile.dev/v1alpha1
kind: Test
metadata: {name: faults}
spec:
  campaign: ends
  now: 2026-05-04T07:00:00Z
  data: {owner: [{id: 2, name: Bo}]}
  audiences: {given: [2]}
  cases:
  - {name: a rule faults, fault: divides by zero}
  - {name: it is not what was said, fault: overflows}
  - {name: it was not expected}
---
apiVersion: test.campanile.dev/v1alpha1
kind: Test
metadata: {name: held}
spec:
  campaign: ends
  now: 2026-05-04T07:00:00Z
  cases:
  - {name: an audience is not there, held: "`given` has not been filled"}
  - {name: it was not expected, steps: {who: {size: 0}}}
"#;

#[test]
fn waits_faults_and_holds_are_expected_too() {
    let home = workshop();
    home.write("shop/ends.yaml", ENDS);
    let json: Value = serde_json::from_str(&home.call(&["test", "shop", "-o", "json"]).out).unwrap();
    let mut said = String::new();
    for suite in json.as_array().unwrap() {
        for case in suite["cases"].as_array().unwrap() {
            writeln!(said, "{}: {} {:#}", suite["name"], case["name"], case["failures"]).unwrap();
        }
    }
    insta::assert_snapshot!("ends", said);
}

#[test]
fn a_thousand_cases_share_a_run() {
    let home = workshop();
    let mut text = "apiVersion: test.campanile.dev/v1alpha1\nkind: Test\nmetadata: {name: many}\nspec:\n  \
                    campaign: service-due\n  now: 2026-05-04T07:00:00Z\n  data:\n    \
                    owner: [{id: 1, name: Ada, email: ada@example.com, news: true}]\n    \
                    bicycle: [{id: 1, owner_id: 1, model: A}, {id: 2, owner_id: 1, serviced_at: 2026-05-01T00:00:00Z}]\n  cases:\n"
        .to_owned();
    for n in 0..1_000 {
        writeln!(
            text,
            "  - {{name: c{n}, steps: {{due: {{in: [1], out: [2]}}}}, messages: [{{step: mail, for: 1, text: {{contains: Ada}}}}]}}"
        )
        .unwrap();
    }
    home.write("shop/many.test.yaml", &text);
    let began = Instant::now();
    let ran = home.call(&["test", "shop/many.test.yaml"]);
    assert!(ran.code == 0 && ran.out.contains("1000 cases, none failed"), "{ran:?}");
    // Seconds on a busy machine; a run for each case would take minutes.
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
}
