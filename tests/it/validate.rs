//! `campanile validate`: what is said, in which form, and with which exit code; nothing is written.

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::{Value, json};

use crate::home::{Home, people_manifests};

const CRON: &str = "  schedule: {cron: \"0 9 * * *\", timeZone: Europe/Rome}";

/// A home with a folder of sound manifests in which `from` was replaced by `to`.
fn town(from: &str, to: &str) -> Home {
    let home = Home::new();
    let manifests = people_manifests(CRON, "person.id > 0");
    assert!(manifests.contains(from), "{from}");
    home.write("town/town.yaml", &manifests.replacen(from, to, 1));
    home
}

#[test]
fn the_exit_code_says_whether_something_is_wrong() {
    let sound = town("topic: news", "topic: service");
    let ran = sound.call(&["validate", "town"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("4 objects in 1 file: 1 warning"), "{}", ran.out);
    // Something is always suspect here: nobody keeps this from writing to the same people every day.
    assert_eq!(sound.call(&["validate", "town", "--warnings-as-errors"]).code, 2);
    let wrong = town("template: hello}", "template: helo}");
    let ran = wrong.call(&["validate", "town"]);
    assert_eq!(ran.code, 2);
    assert!(ran.out.contains("error[missing-reference]: there is no MessageTemplate `helo`"), "{}", ran.out);
    assert_eq!(wrong.call(&["validate", "nowhere"]).code, 2);
    assert_eq!(wrong.call(&["validate"]).code, 2);
}

#[test]
fn it_leaves_no_trace() {
    let home = town("person.id > 0", "person.nam > 0");
    let folders = ["", "town"].map(|name| home.path().join(name));
    let allow = |mode: u32| {
        folders.iter().for_each(|path| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap())
    };
    allow(0o555);
    assert_eq!(home.call(&["validate", "town"]).code, 2);
    allow(0o755);
    let names: Vec<_> = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["town"]);
    assert_eq!(fs::read_dir(home.path().join("town")).unwrap().count(), 1);
}

#[test]
fn json_has_the_shape_that_the_docs_say() {
    let home = town("person.id > 0", "person.nam > 0");
    let ran = home.call(&["validate", "town", "-o", "json", "--now", "2026-01-01T00:00:00Z"]);
    assert_eq!(ran.code, 2);
    let said: Value = serde_json::from_str(&ran.out).unwrap();
    let finding = said["findings"].as_array().unwrap().iter().find(|f| f["severity"] == "error").unwrap();
    let wanted = json!({
        "severity": "error", "id": "unknown-name", "message": "person has no field or link `nam`",
        "hint": "did you mean `name`?", "file": "town/town.yaml",
        "line": 43, "column": 47, "endLine": 43, "endColumn": 50,
        "kind": "Campaign", "namespace": "default", "name": "greet", "path": "spec.steps[0].audience.where",
    });
    assert_eq!(*finding, wanted);
    assert_eq!(
        (&said["version"], &said["errors"], &said["objects"], &said["files"]),
        (&1.into(), &1.into(), &4.into(), &1.into())
    );
    let docs = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/review.md")).unwrap();
    for field in said.as_object().unwrap().keys().chain(finding.as_object().unwrap().keys()) {
        assert!(docs.contains(&format!("`{field}`")) || docs.contains(&format!("`{field}[]`")), "{field}");
    }
}

/// What SARIF 2.1.0 asks of the objects that are there; the numbers are its sections.
fn check_sarif(log: &Value) {
    let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    // 3.13
    assert_eq!(log["version"], "2.1.0");
    assert!(log["$schema"].as_str().unwrap().starts_with("https://"));
    for run in log["runs"].as_array().unwrap() {
        // 3.14, 3.18, 3.19
        let driver = &run["tool"]["driver"];
        assert!(is_text(&driver["name"]));
        assert_eq!(run["columnKind"], "unicodeCodePoints");
        assert!(run["invocations"][0]["executionSuccessful"].is_boolean());
        let rules = driver["rules"].as_array().unwrap();
        for rule in rules {
            // 3.49
            assert!(is_text(&rule["id"]) && is_text(&rule["shortDescription"]["text"]));
            assert!(
                ["none", "note", "warning", "error"].contains(&rule["defaultConfiguration"]["level"].as_str().unwrap())
            );
        }
        for result in run["results"].as_array().unwrap() {
            // 3.27
            let rule = &rules[usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
            assert_eq!(rule["id"], result["ruleId"]);
            assert!(["warning", "error"].contains(&result["level"].as_str().unwrap()));
            assert!(is_text(&result["message"]["text"]));
            assert_eq!(result["partialFingerprints"]["campanile/v1"].as_str().unwrap().len(), 32);
            for location in result["locations"].as_array().unwrap() {
                // 3.4, 3.30: a region begins at 1 and its end is not before its start.
                let place = &location["physicalLocation"];
                let uri = place["artifactLocation"]["uri"].as_str().unwrap();
                assert!(!uri.is_empty() && !uri.contains([' ', '\\']), "{uri}");
                let at = |name: &str| place["region"][name].as_u64().unwrap();
                let (start, end) = ((at("startLine"), at("startColumn")), (at("endLine"), at("endColumn")));
                assert!(start.0 >= 1 && start.1 >= 1 && start <= end, "{place}");
                assert!(is_text(&location["logicalLocations"][0]["fullyQualifiedName"]));
            }
            for suppression in result["suppressions"].as_array().into_iter().flatten() {
                // 3.35
                assert_eq!(suppression["kind"], "inSource");
            }
        }
    }
}

#[test]
fn sarif_is_sarif() {
    let home = town("person.id > 0", "person.nam > 0");
    let silenced = people_manifests(CRON, "person.name != \"x\"")
        .replace("  steps:", "  # campanile: ignore includes-missing, same-people-again\n  steps:");
    home.write("with space/town.yaml", &silenced);
    let ran = home.call(&["validate", "town", "with space", "-o", "sarif"]);
    let log: Value = serde_json::from_str(&ran.out).unwrap();
    check_sarif(&log);
    let results = log["runs"][0]["results"].as_array().unwrap();
    let uris: Vec<&str> = results
        .iter()
        .map(|r| r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].as_str().unwrap())
        .collect();
    assert!(uris.contains(&"town/town.yaml") && uris.contains(&"with%20space/town.yaml"), "{uris:?}");
}

#[test]
fn every_example_is_right() {
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap() {
        let path = entry.unwrap().path();
        let ran = Home::new().call(&["validate", path.to_str().unwrap()]);
        assert_eq!(ran.code, 0, "{}: {}", path.display(), ran.out);
    }
}
