//! `Audience`: a named set of rows of one entity, described by a rule, used by campaigns.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    NEVER_OBSERVED,
    name::{Label, Word},
};

#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "campanile.dev",
    version = "v1alpha1",
    kind = "Audience",
    namespaced,
    status = "AudienceStatus",
    shortname = "aud",
    category = "campanile",
    derive = "PartialEq",
    doc = "A named set of rows of one entity, described by a rule. It is evaluated when a run reads it.",
    printcolumn(name = "Entity", type_ = "string", json_path = ".spec.entity"),
    printcolumn(name = "Size", type_ = "integer", json_path = ".status.size"),
    printcolumn(name = "Profiles", type_ = "integer", json_path = ".status.profiles", priority = 1),
    printcolumn(name = "Refreshed", type_ = "date", json_path = ".status.refreshedAt"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct AudienceSpec {
    pub dataset: Label,
    /// The entity whose rows these are: any one, not only people.
    pub entity: Word,
    /// Parameters of the rule with their defaults, read as `params.name`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub parameters: BTreeMap<String, Parameter>,
    /// The rule, in CEL: which rows are in.
    #[serde(rename = "where")]
    #[schemars(length(min = 1, max = 8192))]
    pub rule: String,
}

/// A value for a rule: text, a number or a truth value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Parameter {
    Boolean(bool),
    Integer(i64),
    Double(f64),
    String(String),
}

impl JsonSchema for Parameter {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Parameter".into()
    }

    fn inline_schema() -> bool {
        true
    }

    // A structural schema has no "any scalar": the type is checked where the rule is compiled.
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"x-kubernetes-preserve-unknown-fields": true})
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AudienceStatus {
    #[serde(default = "super::crd::never_observed")]
    pub observed_generation: i64,
    /// Rows in the audience when a run last read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    /// Distinct profiles behind those rows, where a path of to-one links leads to the profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profiles: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refreshed_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl Default for AudienceStatus {
    fn default() -> Self {
        Self { observed_generation: NEVER_OBSERVED, size: None, profiles: None, refreshed_at: None, conditions: vec![] }
    }
}
