//! The columns of a printing house's file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a printing house gets of each letter.
///
/// ```yaml
/// directMail:
///   columns:
///   - {name: name, value: "{{ customer.first_name }} {{ customer.last_name }}", width: 40}
///   - {name: code, value: "{{ customer.id }}", width: 10}
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DirectMailTemplate {
    #[schemars(length(min = 1, max = 128))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub columns: Vec<DirectMailColumn>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DirectMailColumn {
    /// As it stands in the file's header.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[^\x00-\x1f]+$"))]
    pub name: String,
    #[schemars(length(max = 16_384))]
    pub value: String,
    /// In characters: how wide the column is in a file of a fixed width, where a longer value is a `RenderError`. Other
    /// files are as wide as what stands in them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub width: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DirectMailVariant {
    #[schemars(length(min = 1, max = 128))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub columns: Vec<DirectMailText>,
}

/// A column as it is in a locale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DirectMailText {
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
    #[schemars(length(max = 16_384))]
    pub value: String,
}
