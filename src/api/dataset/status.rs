//! What is in a dataset, and how it comes in.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ExportStatus;
use crate::api::NEVER_OBSERVED;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatasetStatus {
    #[serde(default = "crate::api::crd::never_observed")]
    pub observed_generation: i64,
    #[serde(default)]
    pub entity_count: i64,
    /// Rows in all entities.
    #[serde(default)]
    pub rows: i64,
    /// Rows in all files that were kept as rejects.
    #[serde(default)]
    pub rejected: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub entities: Vec<EntityStatus>,
    /// How the exports of the history stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub history: Vec<ExportStatus>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl Default for DatasetStatus {
    fn default() -> Self {
        Self {
            observed_generation: NEVER_OBSERVED,
            entity_count: 0,
            rows: 0,
            rejected: 0,
            entities: vec![],
            history: vec![],
            conditions: vec![],
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntityStatus {
    pub name: String,
    /// The table a person can query.
    pub table: String,
    pub rows: i64,
    pub files: i64,
    pub rejected: i64,
    /// Rows in all files that were left out, because they were erased on request (`campanile forget`).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub erased: i64,
    /// The table that holds the rejected rows with file, line and reason; there if any are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejects: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ingested_at: Option<Time>,
    /// When the source was last looked at and found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_at: Option<Time>,
    /// From a file's appearance until its rows could be used by a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<LatencyStatus>,
    /// What is wrong with the newest file that was refused: file, line and reason, never a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &i64) -> bool {
    *count == 0
}

/// In milliseconds, of the newest files, at most 1,000.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LatencyStatus {
    pub last_ms: i64,
    pub p50_ms: i64,
    pub p99_ms: i64,
    /// Files among which the percentiles are.
    pub files: i64,
}
