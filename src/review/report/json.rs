//! For machines: the report as it is, and its schema.

use serde_json::Value;

use super::Report;

/// The report as one document.
///
/// # Errors
/// If it cannot be written as JSON, which would be a fault of ours.
pub fn write(report: &Report) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(report).map(|text| text + "\n")
}

/// What such a document looks like (JSON Schema 2020-12).
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Report).to_value();
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("title".to_owned(), "What `campanile plan -o json` writes".into());
    }
    schema
}
