//! JSON Schemas of the kinds, for editors: the CRDs' own schemas in the dialect that editors read (draft 7).
//!
//! ```yaml
//! # yaml-language-server: $schema=schemas/campanile.json
//! ```
//!
//! An unknown field is an error here as it is in both homes. What only the API server's CEL can check stands in the
//! description, where an editor shows it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use super::{Test, VERSION, crd};

const DIALECT: &str = "http://json-schema.org/draft-07/schema#";

/// Each kind with its schema, in the order in which they refer to each other; and `Test`, which stands beside them.
pub fn schemas() -> Vec<(String, Value)> {
    let one = |crd: CustomResourceDefinition| {
        let kind = &crd.spec.names.kind;
        Some((kind.clone(), of_kind(&crd.spec.group, kind, &crd::schema_of(&crd)?)))
    };
    crd::all().into_iter().chain([Test::crd()]).filter_map(one).collect()
}

/// One schema for files with objects of all kinds: which one holds is told by `kind`.
pub fn all() -> Value {
    let schemas = schemas();
    let kinds: Vec<&str> = schemas.iter().map(|(kind, _)| kind.as_str()).collect();
    let choices = kinds.iter().map(|kind| {
        json!({
            "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
            "then": {"$ref": format!("#/definitions/{kind}")},
        })
    });
    let mut all = json!({
        "$schema": DIALECT,
        "title": "Campanile",
        "type": "object",
        "required": ["apiVersion", "kind"],
        "properties": {"kind": {"enum": kinds}},
        "allOf": choices.collect::<Vec<_>>(),
    });
    let definitions = schemas.iter().map(|(kind, schema)| {
        let mut schema = schema.clone();
        schema.as_object_mut().map(|parts| parts.remove("$schema"));
        (kind.clone(), schema)
    });
    all["definitions"] = Value::Object(definitions.collect());
    all
}

fn of_kind(group: &str, kind: &str, schema: &Value) -> Value {
    json!({
        "$schema": DIALECT,
        "title": kind,
        "description": schema["description"],
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": false,
        "properties": {
            "apiVersion": {"const": format!("{group}/{VERSION}")},
            "kind": {"const": kind},
            "metadata": metadata(),
            "spec": converted(&schema["properties"]["spec"]),
            "status": {"description": "Written by the controller.", "type": "object"},
        },
    })
}

/// What Kubernetes has for every object, as far as a manifest says it.
fn metadata() -> Value {
    let texts = json!({"type": "object", "additionalProperties": {"type": "string"}});
    json!({
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "maxLength": 253, "pattern": "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"},
            "namespace": {"type": "string", "maxLength": 63, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"},
            "labels": texts,
            "annotations": texts,
        },
    })
}

/// A structural schema in JSON Schema's words.
fn converted(schema: &Value) -> Value {
    let Some(parts) = schema.as_object() else { return schema.clone() };
    let mut converted = Map::new();
    for (word, value) in parts {
        match word.as_str() {
            "properties" => {
                let properties = value.as_object().into_iter().flatten();
                let properties = properties.map(|(name, inner)| (name.clone(), self::converted(inner)));
                converted.insert(word.clone(), Value::Object(properties.collect()));
            }
            "items" | "additionalProperties" => {
                converted.insert(word.clone(), self::converted(value));
            }
            "oneOf" | "anyOf" | "allOf" => {
                let choices = value.as_array().into_iter().flatten().map(self::converted);
                converted.insert(word.clone(), Value::Array(choices.collect()));
            }
            "nullable" => {}
            word if word.starts_with("x-kubernetes-") => {}
            word => {
                converted.insert(word.to_owned(), value.clone());
            }
        }
    }
    if schema["x-kubernetes-int-or-string"] == true {
        converted.remove("anyOf");
        converted.insert("type".to_owned(), json!(["integer", "string"]));
    }
    if schema["nullable"] == true
        && let Some(ty) = converted.remove("type")
    {
        let mut types = if let Value::Array(types) = ty { types } else { vec![ty] };
        types.push(json!("null"));
        converted.insert("type".to_owned(), Value::Array(types));
    }
    let is_closed = parts.contains_key("properties") && schema["x-kubernetes-preserve-unknown-fields"] != true;
    if is_closed && !converted.contains_key("additionalProperties") {
        converted.insert("additionalProperties".to_owned(), json!(false));
    }
    if schema["x-kubernetes-list-type"] == "set" {
        converted.insert("uniqueItems".to_owned(), json!(true));
    }
    if let Some(description) = described(schema) {
        converted.insert("description".to_owned(), json!(description));
    }
    Value::Object(converted)
}

/// The description, and what must hold that JSON Schema cannot say.
fn described(schema: &Value) -> Option<String> {
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    // What an edit may not change is no matter of the file.
    let rules = rules.filter(|rule| !rule["rule"].as_str().is_some_and(|text| text.contains("oldSelf")));
    let messages = rules.filter_map(|rule| rule["message"].as_str()).map(|message| format!("- {message}"));
    let own = schema["description"].as_str().map(str::to_owned);
    let lines: Vec<String> = own.into_iter().chain(messages).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every word that a schema uses.
    fn words(schema: &Value, found: &mut std::collections::BTreeSet<String>) {
        let Some(parts) = schema.as_object() else { return };
        for (word, value) in parts {
            found.insert(word.clone());
            match word.as_str() {
                "properties" | "definitions" => value.as_object().unwrap().values().for_each(|v| words(v, found)),
                "items" | "additionalProperties" | "if" | "then" => words(value, found),
                "oneOf" | "anyOf" | "allOf" => value.as_array().unwrap().iter().for_each(|v| words(v, found)),
                _ => {}
            }
        }
    }

    #[test]
    fn only_words_of_draft_7_are_used() {
        const KNOWN: [&str; 28] = [
            "$schema",
            "$ref",
            "title",
            "description",
            "type",
            "required",
            "properties",
            "additionalProperties",
            "items",
            "enum",
            "const",
            "default",
            "format",
            "pattern",
            "minLength",
            "maxLength",
            "minimum",
            "maximum",
            "minItems",
            "maxItems",
            "uniqueItems",
            "minProperties",
            "maxProperties",
            "oneOf",
            "allOf",
            "if",
            "then",
            "definitions",
        ];
        let mut found = std::collections::BTreeSet::new();
        words(&all(), &mut found);
        let strange: Vec<&String> = found.iter().filter(|word| !KNOWN.contains(&word.as_str())).collect();
        assert_eq!(strange, Vec::<&String>::new());
    }

    #[test]
    fn a_step_is_closed_and_has_one_activity() {
        let schemas = schemas();
        let (_, campaign) = schemas.iter().find(|(kind, _)| kind == "Campaign").unwrap();
        let step = &campaign["properties"]["spec"]["properties"]["steps"]["items"];
        assert_eq!(step["additionalProperties"], false);
        assert!(step["oneOf"].as_array().unwrap().contains(&json!({"required": ["email"]})));
        let schedule = &campaign["properties"]["spec"]["properties"]["schedule"];
        assert!(schedule["description"].as_str().unwrap().contains("- a cron schedule names its timeZone"));
    }
}
