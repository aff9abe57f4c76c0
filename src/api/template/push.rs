//! What a push says: what the device shows, and what its app gets with it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NamedValue;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PushTemplate {
    #[schemars(length(min = 1, max = 998))]
    pub title: String,
    #[schemars(length(min = 1, max = 4096))]
    pub body: String,
    /// What the app gets beside it, by name, such as where a tap leads to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub data: Vec<NamedValue>,
    /// A later push of the same word takes the place of one that still waits for its device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 998))]
    pub collapse: Option<String>,
    #[serde(default, skip_serializing_if = "PushUrgency::is_normal")]
    pub urgency: PushUrgency,
}

/// How much the device's battery is worth to the message (RFC 8030, section 5.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PushUrgency {
    VeryLow,
    Low,
    #[default]
    Normal,
    High,
}

impl PushUrgency {
    fn is_normal(&self) -> bool {
        *self == Self::Normal
    }
}

/// The parts that differ in this locale.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PushVariant {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 998))]
    pub title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub body: Option<String>,
    /// The values that differ; each is one of the base's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub data: Vec<NamedValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 998))]
    pub collapse: Option<String>,
}
