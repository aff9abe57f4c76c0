//! A plan says what a run comes to, and in how many segments a text goes and why, in each of its faces.

use serde_json::{Value, json};

use crate::home::{Home, copy, repository};

#[test]
fn a_plan_counts_segments_and_money() {
    let home = Home::new();
    copy(&repository().join("examples/every-channel"), &home.path().join("club"));
    let plan = |format: &str| {
        let ran = home.call(&["plan", "club", "--data", "-o", format]);
        assert!(ran.code <= 1, "{ran:?}");
        ran.out
    };
    let report: Value = serde_json::from_str(&plan("json")).unwrap();
    let view = report["campaigns"].as_array().unwrap().iter().find(|view| view["name"] == "evening-by-text").unwrap();
    let extents: Vec<&Value> = view["samples"].as_array().unwrap().iter().map(|sample| &sample["extent"]).collect();
    assert_eq!(extents[0], &json!({"alphabet": "GSM-7", "segments": 1, "units": extents[0]["units"]}));
    assert_eq!(
        (&extents[1]["alphabet"], &extents[1]["segments"], &extents[1]["decidedBy"]),
        (&json!("UCS-2"), &json!(2), &json!("ç"))
    );
    let cost = &view["steps"][1]["messages"]["cost"];
    // Three people get it: one segment each, or two.
    assert_eq!((&cost["least"], &cost["most"], &cost["currency"]), (&json!("0.0225"), &json!("0.045"), &json!("USD")));
    for format in ["text", "markdown", "html"] {
        let said = plan(format);
        for expected in
            ["≈0.0225 to 0.045 USD", "0.0075 USD for a segment, 1 to 2 in the samples", "2 segments of UCS-2, by “ç”"]
        {
            assert!(said.contains(expected), "{format}: {expected}: {said}");
        }
    }
}

#[test]
fn a_price_is_one_and_fits_its_channel() {
    let home = Home::new();
    copy(&repository().join("examples/every-channel"), &home.path().join("club"));
    let manifest = home.read("club/sms.yaml");
    let priced = |price: &str| manifest.replace("{perSegment: \"0.0075\", currency: USD}", price);
    for (text, said) in [
        (
            priced("{perSegment: \"0.01\", perMessage: \"0.01\", currency: USD}"),
            "exactly one of perMessage, perSegment",
        ),
        (priced("{perSegment: \"-1\", currency: USD}"), "perSegment"),
        (priced("{perMessage: \"0.01\", currency: dollars}"), "currency"),
        (manifest.replace("from: \"+12025550123\"", "from: \"A name that is too long\""), "from"),
        (manifest.replace("from: \"+12025550123\"", "from: \"(202) 555\""), "this is no sender of texts"),
    ] {
        home.write("club/sms.yaml", &text);
        let checked = home.call(&["validate", "club"]);
        let all = format!("{}{}", checked.out, checked.err);
        assert!(checked.code != 0 && all.contains(said), "{said}: {all}");
    }
}
