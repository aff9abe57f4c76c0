//! A manifest against its CustomResourceDefinition, as the API server would check it: defaults are filled in, and
//! every error is found, not the first. Also the CEL rules of the CRD, from the same source as in a cluster.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use serde_json::{Map, Value};

use crate::rule::nearest;

pub(super) const UNKNOWN_FIELD: &str = "unknown-field";
const MISSING_FIELD: &str = "missing-field";
const WRONG_TYPE: &str = "wrong-type";
const WRONG_VALUE: &str = "wrong-value";
const SCHEMA_RULE: &str = "schema-rule";

/// More are not read by anyone.
const ERRORS_MAX: usize = 100;

/// What is wrong at one path of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    pub id: &'static str,
    /// Such as `spec.steps[2].audience.where`.
    pub path: String,
    pub message: String,
    pub hint: Option<String>,
}

/// Fills in defaults and finds what is wrong with `object` under `schema` (OpenAPI v3, structural).
pub fn check(object: &mut Value, schema: &Value) -> Vec<Invalid> {
    let mut found = vec![];
    for part in ["spec"] {
        if let Some(inner) = schema.pointer(&format!("/properties/{part}")) {
            match object.get_mut(part) {
                Some(value) => walk(value, inner, part, &mut found),
                None => found.push(invalid(MISSING_FIELD, part, format!("`{part}` is required"))),
            }
        }
    }
    if found.is_empty() {
        rules(object, schema, "", &mut found);
    }
    found
}

fn invalid(id: &'static str, path: &str, message: impl Into<String>) -> Invalid {
    Invalid { id, path: path.to_owned(), message: message.into(), hint: None }
}

fn walk(value: &mut Value, schema: &Value, path: &str, found: &mut Vec<Invalid>) {
    if found.len() >= ERRORS_MAX {
        return;
    }
    if value.is_null() && schema["nullable"] != true {
        found.push(invalid(MISSING_FIELD, path, format!("`{}` has no value", last(path))));
        return;
    }
    if !has_type(value, schema) {
        let wanted = if schema["x-kubernetes-int-or-string"] == true {
            "a number or a text".to_owned()
        } else {
            type_words(&schema["type"])
        };
        found.push(invalid(WRONG_TYPE, path, format!("`{}` must be {wanted}, not {}", last(path), value_words(value))));
        return;
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let words: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
        let mut problem = invalid(WRONG_VALUE, path, format!("`{}` must be one of {}", last(path), words.join(", ")));
        let near = value.as_str().and_then(|text| nearest(text, words.iter().copied()));
        problem.hint = near.map(|near| format!("did you mean `{near}`?"));
        found.push(problem);
    }
    match value {
        Value::String(text) => text_limits(text, schema, path, found),
        Value::Number(number) => number_limits(number.as_f64().unwrap_or(0.0), schema, path, found),
        Value::Array(items) => list(items, schema, path, found),
        Value::Object(entries) => object(entries, schema, path, found),
        _ => {}
    }
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

fn has_type(value: &Value, schema: &Value) -> bool {
    if schema["x-kubernetes-int-or-string"] == true {
        return value.is_i64() || value.is_u64() || value.is_string();
    }
    match schema["type"].as_str() {
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => true,
    }
}

fn type_words(ty: &Value) -> String {
    match ty.as_str() {
        Some("string") => "a text",
        Some("integer") => "a whole number",
        Some("number") => "a number",
        Some("boolean") => "true or false",
        Some("array") => "a list",
        _ => "a mapping",
    }
    .to_owned()
}

fn value_words(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

fn text_limits(text: &str, schema: &Value, path: &str, found: &mut Vec<Invalid>) {
    let chars = text.chars().count() as u64;
    let name = last(path);
    if schema["minLength"].as_u64().is_some_and(|min| chars < min) {
        found.push(invalid(WRONG_VALUE, path, format!("`{name}` must not be empty")));
    } else if let Some(max) = schema["maxLength"].as_u64().filter(|max| chars > *max) {
        let message = format!("`{name}` has {chars} characters, and at most {max} are allowed");
        found.push(invalid(WRONG_VALUE, path, message));
    } else if let Some(pattern) = schema["pattern"].as_str()
        && !matches(pattern, text)
    {
        found.push(invalid(WRONG_VALUE, path, format!("`{name}` must match {pattern}")));
    }
    if schema["format"] == "date-time" && text.parse::<jiff::Timestamp>().is_err() {
        let mut problem = invalid(WRONG_VALUE, path, format!("`{name}` must be an instant with its offset"));
        problem.hint = Some("write it as in 2026-03-31T09:00:00+02:00".to_owned());
        found.push(problem);
    }
}

/// Whether a text has the form of one of the CRDs' patterns. A cluster reads them by RE2, whose syntax this is.
fn matches(pattern: &str, text: &str) -> bool {
    PATTERNS.with_borrow_mut(|known| {
        if !known.contains_key(pattern) {
            known.insert(pattern.to_owned(), regex::Regex::new(pattern).ok());
        }
        known.get(pattern).and_then(Option::as_ref).is_some_and(|known| known.is_match(text))
    })
}

fn number_limits(number: f64, schema: &Value, path: &str, found: &mut Vec<Invalid>) {
    if let Some(min) = schema["minimum"].as_f64().filter(|min| number < *min) {
        found.push(invalid(WRONG_VALUE, path, format!("`{}` must be at least {min}", last(path))));
    }
    if let Some(max) = schema["maximum"].as_f64().filter(|max| number > *max) {
        found.push(invalid(WRONG_VALUE, path, format!("`{}` must be at most {max}", last(path))));
    }
}

fn list(items: &mut [Value], schema: &Value, path: &str, found: &mut Vec<Invalid>) {
    if schema["x-kubernetes-preserve-unknown-fields"] == true {
        return;
    }
    let count = items.len() as u64;
    if let Some(max) = schema["maxItems"].as_u64().filter(|max| count > *max) {
        let message = format!("`{}` has {count} items, and at most {max} are allowed", last(path));
        found.push(invalid(WRONG_VALUE, path, message));
        return;
    }
    if let Some(min) = schema["minItems"].as_u64().filter(|min| count < *min) {
        found.push(invalid(WRONG_VALUE, path, format!("`{}` needs at least {min}", last(path))));
    }
    for (index, item) in items.iter_mut().enumerate() {
        walk(item, &schema["items"], &format!("{path}[{index}]"), found);
    }
    let keys: Vec<&str> =
        schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let is_set = schema["x-kubernetes-list-type"] == "set";
    for index in 1..items.len() {
        let same = |other: &Value| {
            if is_set { *other == items[index] } else { keys.iter().all(|k| other[*k] == items[index][*k]) }
        };
        if (is_set || !keys.is_empty()) && items[..index].iter().any(same) {
            let name = keys.first().and_then(|k| items[index][*k].as_str()).or(items[index].as_str()).unwrap_or("");
            let message = format!("`{name}` stands twice in `{}`", last(path));
            found.push(invalid(WRONG_VALUE, &format!("{path}[{index}]"), message));
        }
    }
}

fn object(entries: &mut Map<String, Value>, schema: &Value, path: &str, found: &mut Vec<Invalid>) {
    if schema["x-kubernetes-preserve-unknown-fields"] == true {
        return;
    }
    if let Some(values) = schema.get("additionalProperties").filter(|v| v.is_object()) {
        let max = schema["maxProperties"].as_u64().unwrap_or(u64::MAX);
        if entries.len() as u64 > max {
            found.push(invalid(WRONG_VALUE, path, format!("`{}` has at most {max} entries", last(path))));
        }
        for (name, value) in entries.iter_mut() {
            walk(value, values, &format!("{path}.{name}"), found);
        }
        return;
    }
    let empty = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&empty);
    for (name, inner) in properties {
        if let Some(default) = inner.get("default").filter(|_| !entries.contains_key(name)) {
            entries.insert(name.clone(), default.clone());
        }
    }
    let wrong_choice = choice(entries, schema, path, found);
    for (name, value) in entries.iter_mut() {
        match properties.get(name) {
            Some(inner) => walk(value, inner, &format!("{path}.{name}"), found),
            None if wrong_choice.as_deref() == Some(name) => {}
            None => {
                let mut problem = invalid(UNKNOWN_FIELD, &format!("{path}.{name}"), format!("unknown field `{name}`"));
                problem.hint =
                    nearest(name, properties.keys().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
                found.push(problem);
            }
        }
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !entries.contains_key(name) {
            found.push(invalid(MISSING_FIELD, path, format!("`{name}` is missing in `{}`", last(path))));
        }
    }
}

/// A flattened enum is a `oneOf` of required fields: exactly one of them must stand there. Names the entry that was meant as one.
fn choice(entries: &Map<String, Value>, schema: &Value, path: &str, found: &mut Vec<Invalid>) -> Option<String> {
    let choices: Vec<&str> = schema["oneOf"].as_array()?.iter().filter_map(|c| c["required"][0].as_str()).collect();
    let chosen: Vec<&str> = choices.iter().copied().filter(|c| entries.contains_key(*c)).collect();
    if chosen.len() == 1 || choices.is_empty() {
        return None;
    }
    if chosen.len() > 1 {
        found.push(invalid(WRONG_VALUE, path, format!("only one of {} may stand here", chosen.join(", "))));
        return None;
    }
    let properties = schema["properties"].as_object()?;
    let unknown = entries.keys().find(|name| !properties.contains_key(*name));
    let mut problem = match unknown {
        Some(name) => invalid(
            UNKNOWN_FIELD,
            &format!("{path}.{name}"),
            format!("unknown field `{name}`; one of {} must stand here", choices.join(", ")),
        ),
        None => invalid(MISSING_FIELD, path, format!("one of {} must stand here", choices.join(", "))),
    };
    problem.hint =
        unknown.and_then(|name| nearest(name, choices.iter().copied())).map(|near| format!("did you mean `{near}`?"));
    found.push(problem);
    unknown.cloned()
}

/// Evaluates `x-kubernetes-validations` from the leaves up. Rules about a change (`oldSelf`) are the API server's.
fn rules(value: &Value, schema: &Value, path: &str, found: &mut Vec<Invalid>) {
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(child) = value.get(name).filter(|_| name != "status") {
            let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            rules(child, inner, &at, found);
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        rules(item, &schema["items"], &format!("{path}[{index}]"), found);
    }
    if let Some(values) = schema.get("additionalProperties").filter(|v| v.is_object()) {
        for (name, child) in value.as_object().into_iter().flatten() {
            rules(child, values, &format!("{path}.{name}"), found);
        }
    }
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let text = rule["rule"].as_str().unwrap_or_default();
        if text.contains("oldSelf") || found.len() >= ERRORS_MAX {
            continue;
        }
        match holds(text, value) {
            Ok(true) => {}
            Ok(false) => found.push(invalid(SCHEMA_RULE, path, rule["message"].as_str().unwrap_or(text))),
            // Never passed over in silence: a rule that cannot be evaluated is a fault of ours, and is said.
            Err(error) => {
                let message = format!("internal: the rule `{text}` could not be evaluated: {error}");
                found.push(invalid(SCHEMA_RULE, path, message));
            }
        }
    }
}

fn holds(rule: &str, value: &Value) -> Result<bool, String> {
    let program = RULES.with_borrow_mut(|known| {
        if let Some(known) = known.get(rule) {
            return known.clone();
        }
        let compiled = cel::Program::compile(rule).map(Rc::new).map_err(|e| e.to_string());
        known.insert(rule.to_owned(), compiled.clone());
        compiled
    })?;
    LIBRARY.with(|library| {
        let mut context = library.new_inner_scope();
        context.add_variable("self", value).map_err(|e| e.to_string())?;
        match program.execute(&context).map_err(|e| e.to_string())? {
            cel::Value::Bool(holds) => Ok(holds),
            other => Err(format!("it gives {other:?}")),
        }
    })
}

thread_local! {
    // A thousand manifests ask the same few dozen patterns and rules, and to compile one costs more than to ask it.
    static PATTERNS: RefCell<HashMap<String, Option<regex::Regex>>> = RefCell::default();
    static LIBRARY: cel::Context<'static, 'static> = cel::Context::default();
    static RULES: RefCell<HashMap<String, Result<Rc<cel::Program>, String>>> = RefCell::default();
}
