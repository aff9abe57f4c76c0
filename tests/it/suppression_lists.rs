//! The list of a previous tool, by reference: hashes only, in every format, read once, and before anybody is written to.

use serde_json::{Value, json};

use crate::{
    either::Place,
    home::{assert_conserved, people, people_manifests},
    world::S3,
};

fn policy(import: &str) -> String {
    format!(
        "---\napiVersion: campanile.dev/v1alpha1\nkind: ContactPolicy\nmetadata: {{name: careful}}\nspec: {{suppression: {{import: {import}}}}}\n"
    )
}

fn write_town(place: &Place, import: &str) {
    let town = people_manifests("  policies: [careful]\n", "true").replace("topic: news", "topic: service");
    let town = town.replace("template: hello}", "template: hello, once: {ever: false}}");
    place.home.write("town/town.yaml", &format!("{town}{}", policy(import)));
    place.home.write("town/data/people.csv", &people(5));
}

fn imported(place: &Place) -> Value {
    place.get("contactpolicy", "careful")["status"]["import"].clone()
}

fn suppressed(place: &Place, run: &str) -> (i64, i64) {
    assert_eq!(place.call(&["trigger", "greet", "--name", run]).code, 0);
    place.read();
    let run = place.get("run", run);
    assert_conserved(&run);
    let n = |value: &Value| value.as_i64().unwrap_or(0);
    (n(&run["status"]["totals"]["sent"]), n(&run["status"]["channels"][0]["reasons"]["Suppressed"]))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_on_the_list_of_another_tool_is_not_written_to() {
    for place in Place::both().await {
        write_town(&place, "{url: lists, format: CSV, column: \"E-Mail\"}");
        place.home.write("town/lists/1.csv", "E-Mail,reason\n");
        place.home.write(
            "town/lists/2.csv",
            "reason,E-Mail\nbounced, P1@Example.COM \nleft,p2@example.com\nleft,p2@example.com\n,\nodd,not an address\nodd,p3@exam ple.com\n",
        );
        place.read();
        assert_eq!(suppressed(&place, "first"), (3, 2));
        let status = imported(&place);
        assert_eq!(
            (&status["files"], &status["rows"], &status["rejected"]),
            (&json!(2), &json!(3), &json!(3)),
            "{status}"
        );
        assert_eq!(status["reasons"], json!({"it is no address": 2, "there is no address": 1}), "{status}");
        let lines =
            place.ask("SELECT CAST(line AS TEXT) FROM reject WHERE dataset = 'policy/careful' ORDER BY line").await;
        assert_eq!(lines, ["5", "6", "7"]);
        let kept = place
            .ask("SELECT hash FROM suppression UNION ALL SELECT reason FROM suppression UNION ALL SELECT reason FROM reject")
            .await;
        assert!(kept.iter().all(|text| !text.contains('@') && !text.contains("p2")), "{kept:?}");
        let shown = place.call(&["suppression", "show", "p1@example.com"]);
        assert!(shown.code == 0 && shown.out.contains("Imported"), "{shown:?}");

        // Read once: who was lifted by a person stays lifted until the list is written anew; what is no longer on it holds.
        assert_eq!(place.call(&["suppression", "lift", "p2@example.com"]).code, 0);
        place.read();
        assert_eq!(suppressed(&place, "lifted"), (4, 1));
        place.home.write("town/lists/2.csv", "reason,E-Mail\nleft,p2@example.com\nnew,p4@example.com\n");
        place.read();
        assert_eq!(suppressed(&place, "anew"), (2, 3));
        let status = imported(&place);
        assert_eq!((&status["rows"], &status["rejected"]), (&json!(2), &json!(0)), "{status}");

        // A list that is not there holds nothing that was imported, and a wrong one says why.
        std::fs::remove_dir_all(place.home.path().join("town/lists")).unwrap();
        place.read();
        let (ready, _, message) = place.condition("contactpolicy", "careful", "Ready");
        assert!(ready == "True" && message.contains("not looked at now"), "{message}");
        place.home.write("town/lists/3.csv", "mail\np5@example.com\n");
        assert_eq!(place.run(&[]).code, 1);
        let (ready, reason, message) = place.condition("contactpolicy", "careful", "Ready");
        assert_eq!((ready.as_str(), reason.as_str()), ("False", "FileRefused"));
        assert!(message.contains("the header has no column E-Mail"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_comes_from_an_object_store_and_holds_in_the_whole_store() {
    let s3 = S3::start().await.unwrap();
    s3.put("lists", b"").unwrap();
    s3.put("lists/old.jsonl", b"{\"email\": \"p1@example.com\"}\n{\"email\": null}\n{\"email\": 7}\n").unwrap();
    let endpoint = s3.endpoint();
    for place in Place::both().await {
        let import = format!(
            "{{url: 's3://lists/old.jsonl', format: JSONL, endpoint: '{endpoint}', secretRef: {{name: login}}}}, scope: Store"
        );
        write_town(&place, &import);
        // What it may not reach is said, and whoever names the policy waits.
        assert_eq!(place.run(&[]).code, 1);
        let (_, reason, _) = place.condition("contactpolicy", "careful", "Ready");
        assert_eq!(reason, "SourceUnreadable");
        let (_, reason, _) = place.condition("campaign", "greet", "Ready");
        assert_eq!(reason, "DependencyNotReady");
        place.home.write(
            "town/secret.yaml",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: login}\nstringData: {access_key_id: a, secret_access_key: b}\n",
        );
        let ran = place.run(&["--allow-url", &endpoint]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let status = imported(&place);
        assert_eq!((&status["rows"], &status["rejected"]), (&json!(1), &json!(2)), "{status}");
        assert_eq!(
            place.ask("SELECT namespace || ' ' || medium || ' ' || reason FROM suppression").await,
            ["* email Imported"]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_on_lists_too_however_they_are_written() {
    for place in Place::both().await {
        write_town(&place, "{url: numbers.csv, format: CSV, column: phone, medium: sms}");
        place.home.write("town/numbers.csv", "phone\n+39 333-123 45.67\n3331234567\n");
        place.read();
        let shown = place.call(&["suppression", "show", "+393331234567", "--medium", "sms"]);
        assert!(shown.code == 0 && shown.out.contains("Imported"), "{shown:?}");
        assert_eq!(imported(&place)["rejected"], 1);
    }
}

#[test]
fn a_list_that_is_named_wrong_is_an_error_at_its_field() {
    let home = crate::home::Home::new();
    home.write("town/town.yaml", &(people_manifests("", "true") + &policy("{url: ../../lists.csv, format: CSV}")));
    let ran = home.call(&["validate", "town"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    let said = format!("{}{}", ran.out, ran.err);
    assert!(said.contains("url: ../../lists.csv") || said.contains("leads out"), "{said}");
}
