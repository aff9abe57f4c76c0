//! SARIF 2.1.0, the format that code hosts show beside the lines of a change.
//!
//! <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>

use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Report, relative};
use crate::{review::rules::RULES, source::manifest::Diagnostic};

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// The report as one run of one tool; files below `base` are named relative to it.
///
/// # Errors
/// If it cannot be written as JSON, which would be a fault of ours.
pub fn write(report: &Report, base: &Path) -> Result<String, serde_json::Error> {
    let rules: Vec<Value> = RULES
        .iter()
        .map(|rule| {
            json!({
                "id": rule.id,
                "shortDescription": {"text": rule.about},
                "defaultConfiguration": {"level": rule.severity.as_str()},
            })
        })
        .collect();
    let said = report.found.iter().map(|diagnostic| result(diagnostic, base, false));
    let silenced = report.silenced.iter().map(|diagnostic| result(diagnostic, base, true));
    let results: Vec<Value> = said.chain(silenced).collect();
    let driver = json!({
        "name": "campanile",
        "semanticVersion": env!("CARGO_PKG_VERSION"),
        "informationUri": env!("CARGO_PKG_REPOSITORY"),
        "rules": rules,
    });
    let run = json!({
        "tool": {"driver": driver},
        // A column counts characters, not UTF-16 code units.
        "columnKind": "unicodeCodePoints",
        "invocations": [{"executionSuccessful": true}],
        "results": results,
    });
    serde_json::to_string_pretty(&json!({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}))
}

fn result(diagnostic: &Diagnostic, base: &Path, is_silenced: bool) -> Value {
    let hint = diagnostic.hint.as_ref().map_or(String::new(), |hint| format!("; {hint}"));
    let mut location = json!({});
    if let Some(file) = &diagnostic.file {
        let ((line, column), (end_line, end_column)) = (diagnostic.line_column(), diagnostic.end_line_column());
        location["physicalLocation"] = json!({
            "artifactLocation": {"uri": uri(&relative(&file.path, base))},
            "region": {"startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column},
        });
    }
    if let Some(about) = &diagnostic.about {
        let name = format!("{}/{}/{}", about.namespace, about.kind, about.name);
        location["logicalLocations"] = json!([
            {"name": about.path, "fullyQualifiedName": format!("{name}#{}", about.path), "kind": "member"}
        ]);
    }
    let mut result = json!({
        "ruleId": diagnostic.id,
        "level": diagnostic.severity.as_str(),
        "message": {"text": format!("{}{hint}", diagnostic.message)},
        "partialFingerprints": {"campanile/v1": fingerprint(diagnostic)},
    });
    if let Some(index) = RULES.iter().position(|rule| rule.id == diagnostic.id) {
        result["ruleIndex"] = json!(index);
    }
    if location.as_object().is_some_and(|parts| !parts.is_empty()) {
        result["locations"] = json!([location]);
    }
    if is_silenced {
        result["suppressions"] = json!([{"kind": "inSource"}]);
    }
    result
}

/// The same as long as it is the same thing, whatever lines come before it.
fn fingerprint(diagnostic: &Diagnostic) -> String {
    let about = diagnostic.about.as_ref();
    let about = about.map(|a| format!("{} {} {} {}", a.kind, a.namespace, a.name, a.path));
    let file = diagnostic.file.as_ref().map(|file| file.path.display().to_string());
    let what = about.or(file).unwrap_or_default();
    let hash = Sha256::digest(format!("{} {what} {}", diagnostic.id, diagnostic.message));
    hash.iter().take(16).map(|b| format!("{b:02x}")).collect()
}

/// A relative or absolute path as a URI (RFC 3986).
fn uri(path: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    let encode = |b: u8| if is_plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    let encoded: String = path.bytes().map(encode).collect();
    if path.starts_with('/') { format!("file://{encoded}") } else { encoded }
}
