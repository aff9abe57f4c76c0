//! `campanile simulate`: the calendar of a folder, alone and beside the store of a home that ran.

use serde_json::Value;

use crate::{
    either::Place,
    home::{Home, people, people_manifests},
};

const NIGHT: &str = "  schedule: {cron: \"30 2 * * *\", timeZone: Europe/Rome}";

fn calendar(home: &Home, args: &[&str]) -> Value {
    let ran = home.call(&[&["simulate", "town", "-o", "json"], args].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    serde_json::from_str(&ran.out).unwrap()
}

#[test]
fn days_are_days_of_the_zone_that_is_asked_for() {
    let home = Home::new();
    home.write("town/town.yaml", &people_manifests(NIGHT, "true"));
    let starts = |args: &[&str]| -> Vec<String> {
        let entries = calendar(&home, args)["entries"].as_array().unwrap().clone();
        entries.iter().map(|entry| entry["at"].as_str().unwrap().to_owned()).collect()
    };
    let days = ["--from", "2026-03-29", "--to", "2026-03-29"];
    assert_eq!(starts(&days), ["2026-03-29T01:00:00Z"]);
    let west = [&days[..], &["--time-zone", "America/Los_Angeles"]].concat();
    assert_eq!(starts(&west), ["2026-03-30T00:30:00Z"]);
    assert_eq!(
        starts(&["--from", "2026-03-29T00:00:00+01:00", "--to", "2026-03-31T00:00:00Z"]),
        ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
    );
    for wrong in [["--from", "yesterday", "--to", "2026-03-29"], ["--from", "2026-03-29", "--to", "2026-03-01"]] {
        assert_eq!(home.call(&[&["simulate", "town"][..], &wrong].concat()).code, 2);
    }
}

#[test]
fn what_is_wrong_is_not_in_the_calendar_and_that_is_said() {
    let home = Home::new();
    let wrong = people_manifests(NIGHT, "person.nam > 0");
    home.write("town/town.yaml", &wrong);
    let ran = home.call(&["simulate", "town", "--from", "2026-01-01", "--to", "2026-01-02"]);
    assert_eq!(ran.code, 2);
    assert!(!ran.out.contains("greet") && ran.err.contains("the manifests have one error"), "{ran:?}");
}

#[test]
fn each_form_shows_the_same_starts() {
    let home = Home::new();
    home.write("town/town.yaml", &people_manifests(NIGHT, "true"));
    let ran =
        |form: &str| home.call(&["simulate", "town", "--from", "2026-03-28", "--to", "2026-03-30", "-o", form]).out;
    let text = ran("text");
    insta::assert_snapshot!(text, @r"
    TIME                        CAMPAIGN   WHAT     CHANNELS   SIZE      NOTE
    Sat 2026-03-28 02:30 CET    greet      starts   out        unknown
    Sun 2026-03-29 03:00 CEST   greet      starts   out        unknown   02:30 does not exist on this day
    Mon 2026-03-30 02:30 CEST   greet      starts   out        unknown

    Sizes:
      greet: unknown, as no store was asked

    A run is taken to send as long as its last one did, or 1h. What is stopped by hand or comes late is not foreseen.
    ");
    assert_eq!(ran("ical").matches("BEGIN:VEVENT\r\n").count(), 3);
    let page = ran("html");
    assert_eq!(page.matches("<i class=\"start\" style").count(), 3);
    assert!(page.contains("<td>Sun 2026-03-29 03:00 CEST</td>"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_store_sizes_are_counted_or_those_of_the_last_run() {
    for place in Place::both().await {
        let home = &place.home;
        let store = place.url.clone().unwrap_or_else(|| "sqlite://.campanile/store.db".to_owned());
        home.write("town/town.yaml", &people_manifests("  schedule: {immediate: {}}", "person.id > 1"));
        home.write("town/data/people.csv", &people(5));
        assert_eq!(place.run(&[]).code, 0);
        let days = ["--from", "2026-01-01", "--to", "2026-01-02", "--store", &store];
        // It starts once, and has.
        let found = calendar(home, &days);
        assert_eq!(found["quiet"][0]["why"], "has run, and starts once", "{found}");
        home.write("town/town.yaml", &people_manifests(NIGHT, "person.id > 1"));
        let found = calendar(home, &days);
        let first = &found["entries"][0];
        assert_eq!((&first["size"], &first["sizeNote"]), (&4.into(), &"counted now".into()));
        // What cannot be counted is taken from the last run.
        let saved = "---\napiVersion: campanile.dev/v1alpha1\nkind: Audience\nmetadata: {name: empty}\nspec: {dataset: town, entity: person, saved: {}}\n";
        let unfilled = people_manifests(NIGHT, "person in audience(\"empty\")") + saved;
        home.write("town/town.yaml", &unfilled);
        let first = calendar(home, &days)["entries"][0].clone();
        assert_eq!((&first["size"], &first["sizeNote"]), (&4.into(), &"as many as run greet-immediate had".into()));
    }
}
