//! `campanile schema`: an editor takes every example, and underlines what both homes refuse.

use std::fs;

use serde::Deserialize;
use serde_json::Value;

use crate::home::{Home, people_manifests};

/// Whether a value fits a JSON Schema, as far as ours use it; why not, if not.
pub fn fits(value: &Value, schema: &Value, root: &Value) -> Result<(), String> {
    let Some(parts) = schema.as_object() else {
        return if schema == &Value::Bool(false) { Err("nothing may stand here".to_owned()) } else { Ok(()) };
    };
    let number = |word: &str| schema[word].as_f64();
    let wrong = |word: &str| Err(format!("{word}: {value}"));
    let is = |ty: &str| match ty {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("{other}"),
    };
    for (word, what) in parts {
        let each = || what.as_array().unwrap().iter();
        let is_right = match word.as_str() {
            "type" => what.as_str().map_or_else(|| each().any(|ty| is(ty.as_str().unwrap())), is),
            "const" => value == what,
            "enum" => each().any(|one| one == value),
            "required" => value.as_object().is_none_or(|v| each().all(|name| v.contains_key(name.as_str().unwrap()))),
            "pattern" => {
                value.as_str().is_none_or(|text| regex::Regex::new(what.as_str().unwrap()).unwrap().is_match(text))
            }
            "minLength" => value.as_str().is_none_or(|t| t.chars().count() as f64 >= number(word).unwrap()),
            "maxLength" => value.as_str().is_none_or(|t| t.chars().count() as f64 <= number(word).unwrap()),
            "minimum" => value.as_f64().is_none_or(|v| v >= number(word).unwrap()),
            "maximum" => value.as_f64().is_none_or(|v| v <= number(word).unwrap()),
            "minItems" => value.as_array().is_none_or(|v| v.len() as f64 >= number(word).unwrap()),
            "maxItems" => value.as_array().is_none_or(|v| v.len() as f64 <= number(word).unwrap()),
            "anyOf" => each().any(|one| fits(value, one, root).is_ok()),
            "oneOf" => each().filter(|one| fits(value, one, root).is_ok()).count() == 1,
            "allOf" => {
                each().try_for_each(|one| fits(value, one, root))?;
                true
            }
            "if" => {
                if fits(value, what, root).is_ok() {
                    fits(value, &schema["then"], root)?;
                }
                true
            }
            "$ref" => {
                fits(value, root.pointer(what.as_str().unwrap().trim_start_matches('#')).unwrap(), root)?;
                true
            }
            "items" => {
                value.as_array().into_iter().flatten().try_for_each(|item| fits(item, what, root))?;
                true
            }
            "properties" => {
                for (name, inner) in what.as_object().unwrap() {
                    value.get(name).map_or(Ok(()), |v| fits(v, inner, root)).map_err(|e| format!("{name}: {e}"))?;
                }
                true
            }
            "additionalProperties" => {
                let known = |name: &String| parts.get("properties").is_some_and(|known| known.get(name).is_some());
                for (name, inner) in value.as_object().into_iter().flatten().filter(|(name, _)| !known(name)) {
                    fits(inner, what, root).map_err(|e| format!("{name}: {e}"))?;
                }
                true
            }
            _ => true,
        };
        if !is_right {
            return wrong(word);
        }
    }
    Ok(())
}

fn schema(args: &[&str]) -> Value {
    let ran = Home::new().call(&[&["schema"], args].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    serde_json::from_str(&ran.out).unwrap()
}

fn documents(text: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(text).map(|document| Value::deserialize(document).unwrap()).collect()
}

#[test]
fn every_example_fits() {
    let all = schema(&[]);
    let mut count = 0;
    for folder in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap() {
        for file in fs::read_dir(folder.unwrap().path()).unwrap().map(|file| file.unwrap().path()) {
            if file.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            for document in documents(&fs::read_to_string(&file).unwrap()) {
                let version = document["apiVersion"].as_str().unwrap_or_default();
                let is_ours = version.starts_with("campanile.dev/") || version.starts_with("test.campanile.dev/");
                if is_ours {
                    fits(&document, &all, &all).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
                    count += 1;
                }
            }
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
fn what_both_homes_refuse_does_not_fit() {
    let all = schema(&[]);
    let good = people_manifests("  schedule: {cron: \"0 9 * * *\", timeZone: Europe/Rome}", "true");
    let wrong = |from: &str, to: &str| {
        let documents = documents(&good.replacen(from, to, 1));
        documents.iter().filter_map(|document| fits(document, &all, &all).err()).collect::<Vec<_>>()
    };
    assert_eq!(wrong("", ""), Vec::<String>::new());
    for (from, to) in [
        ("  topic: news", "  topik: news"),
        ("    key: [id]\n", ""),
        ("type: Integer", "type: Intger"),
        ("    email: {channel", "    emial: {channel"),
        ("kind: Campaign", "kind: Campain"),
        ("metadata: {name: greet}", "metadata: {name: Greet}"),
    ] {
        assert_eq!(wrong(from, to).len(), 1, "{to}");
    }
}

#[test]
fn one_kind_or_files_for_all() {
    assert_eq!(schema(&["campaign"])["title"], "Campaign");
    let ran = Home::new().call(&["schema", "Campain"]);
    assert!(ran.code == 2 && ran.err.contains("did you mean `Campaign`?"), "{}", ran.err);
    let home = Home::new();
    assert_eq!(home.call(&["schema", "--out", "schemas"]).code, 0);
    let names: std::collections::BTreeSet<_> = fs::read_dir(home.path().join("schemas"))
        .unwrap()
        .map(|f| f.unwrap().file_name().into_string().unwrap())
        .collect();
    let wanted = [
        "audience",
        "campaign",
        "campaignrun",
        "campanile",
        "channel",
        "contactpolicy",
        "dataset",
        "messagetemplate",
        "test",
    ]
    .map(|n| format!("{n}.json"));
    assert_eq!(names, wanted.into());
    let written: Value = serde_json::from_str(&home.read("schemas/campanile.json")).unwrap();
    assert_eq!(written, schema(&[]));
}
