//! For machines:
//!
//! ```json
//! {"version": 1, "objects": 12, "files": 3, "errors": 1, "warnings": 0, "findings": [
//!   {"severity": "error", "id": "unknown-name", "message": "customer has no field or link `contry`",
//!    "hint": "did you mean `country`?", "file": "audiences.yaml", "line": 8, "column": 22, "endLine": 8, "endColumn": 28,
//!    "kind": "Audience", "namespace": "default", "name": "gold", "path": "spec.where"}], "silenced": []}
//! ```
//!
//! Lines and columns count from 1, columns in characters; the end is behind the last one. What a finding does not have
//! (a hint, a place, an object) is absent.

use std::path::Path;

use serde::Serialize;

use super::{Report, relative};
use crate::source::manifest::{Diagnostic, Severity};

/// Raised when a field changes its meaning or goes; fields may be added.
pub const VERSION: u32 = 1;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    version: u32,
    objects: usize,
    files: usize,
    errors: usize,
    warnings: usize,
    findings: Vec<Finding>,
    silenced: Vec<Finding>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    severity: &'static str,
    id: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(flatten)]
    place: Option<Place>,
    #[serde(flatten)]
    object: Option<Object>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    file: String,
    line: usize,
    column: usize,
    end_line: usize,
    end_column: usize,
}

#[derive(Serialize)]
struct Object {
    kind: String,
    namespace: String,
    name: String,
    path: String,
}

/// The report as one document; files below `base` are named relative to it.
///
/// # Errors
/// If it cannot be written as JSON, which would be a fault of ours.
pub fn write(report: &Report, base: &Path) -> Result<String, serde_json::Error> {
    let findings = |found: &[Diagnostic]| found.iter().map(|diagnostic| finding(diagnostic, base)).collect();
    let document = Document {
        version: VERSION,
        objects: report.objects,
        files: report.files,
        errors: report.count(Severity::Error),
        warnings: report.count(Severity::Warning),
        findings: findings(&report.found),
        silenced: findings(&report.silenced),
    };
    serde_json::to_string_pretty(&document)
}

fn finding(diagnostic: &Diagnostic, base: &Path) -> Finding {
    let place = diagnostic.file.as_ref().map(|file| {
        let ((line, column), (end_line, end_column)) = (diagnostic.line_column(), diagnostic.end_line_column());
        Place { file: relative(&file.path, base), line, column, end_line, end_column }
    });
    let object = diagnostic.about.as_ref().map(|about| Object {
        kind: about.kind.clone(),
        namespace: about.namespace.clone(),
        name: about.name.clone(),
        path: about.path.clone(),
    });
    Finding {
        severity: diagnostic.severity.as_str(),
        id: diagnostic.id,
        message: diagnostic.message.clone(),
        hint: diagnostic.hint.clone(),
        place,
        object,
    }
}
