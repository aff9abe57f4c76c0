//! Data that is too old holds runs, or warns; a source that is lost for a while does neither.

use crate::{
    either::Place,
    home::{Home, people, people_manifests},
};

fn declare(place: &Place, when_stale: &str) {
    place.declare(&format!(
        "    key: [id]\n    fields:\n    - {{name: id, type: Integer}}\n    - {{name: name, type: String}}\n    \
         source: {{files: {{url: data, format: CSV, every: 1m}}}}\n    freshness: {{maxAge: 2h{when_stale}}}\n"
    ));
}

#[tokio::test]
async fn a_lost_source_is_borne_until_its_data_is_too_old() {
    for place in Place::both().await {
        declare(&place, "");
        place.home.write("town/data/people.csv", "id,name\n1,Ann\n");
        assert_eq!(place.run(&["--now", "2026-05-01T00:00:00Z"]).code, 0);
        let data = place.home.path().join("town/data");
        std::fs::rename(&data, data.with_extension("gone")).unwrap();
        assert_eq!(place.run(&["--now", "2026-05-01T01:00:00Z"]).code, 0);
        assert!(
            place.message().starts_with("Loaded: every file is in; not looked at now: `data`"),
            "{}",
            place.message()
        );
        assert_eq!(place.run(&["--now", "2026-05-01T03:00:00Z"]).code, 1);
        let message = place.message();
        assert!(
            message.starts_with("Stale: person was last looked at 2026-05-01T00:00:00Z, more than 2h ago; `data`"),
            "{message}"
        );
        declare(&place, ", whenStale: Warn");
        assert_eq!(place.run(&["--now", "2026-05-01T03:00:00Z"]).code, 0);
        let conditions = place.status()["conditions"].as_array().cloned().unwrap();
        let fresh = conditions.iter().find(|c| c["type"] == "Fresh").unwrap();
        assert_eq!((&fresh["status"], &fresh["reason"]), (&"False".into(), &"Stale".into()));
        std::fs::rename(data.with_extension("gone"), &data).unwrap();
        assert_eq!(place.run(&["--now", "2026-05-01T03:00:00Z"]).code, 0);
        assert_eq!(place.message(), "Loaded: every file is in");
    }
}

#[test]
fn a_run_says_how_old_its_data_was() {
    let home = Home::new();
    home.write(
        "town/town.yaml",
        &people_manifests("  schedule: {immediate: {notAfter: 2099-01-01T00:00:00Z}}", "true"),
    );
    home.write("town/data/people.csv", &people(2));
    assert_eq!(home.run(&["town", "--now", "2026-05-01T00:00:00Z"]).code, 0);
    let as_of = home.get("campaignrun", "greet-immediate")["status"]["dataAsOf"].clone();
    assert_eq!(as_of, home.get("dataset", "town")["status"]["entities"][0]["lookedAt"]);
    assert!(as_of.as_str().is_some_and(|at| at.starts_with("2026-05-01T00:00")), "{as_of}");
}
