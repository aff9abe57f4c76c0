//! `examples/every-channel` runs as it is, into the outbox.

use crate::home::{Home, assert_conserved, copy, repository};

#[test]
fn the_example_runs_into_the_outbox() {
    let home = Home::new();
    copy(&repository().join("examples/every-channel"), &home.path().join("club"));
    let checked = home.call(&["validate", "club"]);
    assert_eq!(checked.code, 0, "{checked:?}");
    let ran = home.run(&["club"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let run = home.get("campaignrun", "evening-by-text-immediate");
    assert_conserved(&run);
    let step = &run["status"]["channels"][0];
    assert_eq!(step["sent"], 3, "{run}");
    assert_eq!(step["reasons"], serde_json::json!({"MalformedAddress": 1, "NoAddress": 1, "NoConsent": 1}));
    let texts = home.outbox().into_iter().filter(|path| path.extension().is_some_and(|e| e == "txt"));
    let texts: Vec<String> = texts.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    assert!(texts.iter().any(|text| text.starts_with("To: +393331234567\n\nCiao Ada")), "{texts:?}");
    // Two of them to Ada, who has two devices.
    let run = home.get("campaignrun", "evening-by-push-immediate");
    assert_conserved(&run);
    let step = &run["status"]["channels"][0];
    assert_eq!(
        (&step["sent"], &step["reasons"]),
        (&4.into(), &serde_json::json!({"NoAddress": 2, "NoConsent": 1})),
        "{run}"
    );
    let run = home.get("campaignrun", "evening-by-letter-immediate");
    assert_conserved(&run);
    let step = &run["status"]["channels"][0];
    assert_eq!((&step["sent"], &step["reasons"]), (&4.into(), &serde_json::json!({"NoConsent": 2})), "{run}");
    let file = home.read(".campanile/outbox/default/evening-by-letter/evening-by-letter-immediate/evening-by-letter-immediate.manifest.json");
    let manifest: serde_json::Value = serde_json::from_str(&file).unwrap();
    assert_eq!(
        (&manifest["rows"], &manifest["seeds"], &manifest["files"][0]["name"]),
        (&5.into(), &1.into(), &"evening-by-letter-immediate-1.csv.gz".into())
    );
}
