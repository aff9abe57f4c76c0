//! `history`: who else is told what became of messages.
//!
//! ```yaml
//! history:
//!   exports:
//!   - {name: warehouse, files: {url: s3://lake/campanile, format: Parquet, secretRef: {name: lake}}, every: 15m}
//!   - {name: crm, webhook: {url: https://crm.example.com/events, secretRef: {name: crm-hook}}}
//! ```

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FileFormat;
use crate::api::{access::Access, channel::SecretRef, duration::Duration, name::Label};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct History {
    #[schemars(length(min = 1, max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub exports: Vec<HistoryExport>,
}

/// Tells every outcome and every event of messages at least once, those of before it was declared, too; each has an `id`
/// that stays the same. There is no address in it: persons and items go by their keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.files) != has(self.webhook)", "an export is exactly one of files, webhook"))]
pub struct HistoryExport {
    pub name: Label,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<HistoryFiles>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<HistoryWebhook>,
    /// How often what is new is told: 15m unless said into files, 5s to a webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,
}

/// Files by the day (UTC) of what they tell, as `URL/date=2026-03-01/…`; what comes late makes another file of its day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryFiles {
    /// A folder below the manifest's own (in a cluster: below the namespace's of `--exports`), or `s3://`, `gs://`, `az://`.
    #[schemars(length(min = 1, max = 1024))]
    pub url: String,
    #[serde(flatten)]
    pub access: Access,
    pub format: FileFormat,
}

/// CloudEvents 1.0 in batches (`application/cloudevents-batch+json`), signed as Standard Webhooks has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryWebhook {
    #[schemars(length(min = 8, max = 1024), regex(pattern = "^https?://"))]
    pub url: String,
    /// A Secret whose `signing_key` signs each batch.
    pub secret_ref: SecretRef,
}

/// How an export stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExportStatus {
    pub name: String,
    /// Lines that were told, those told again among them.
    pub told: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_at: Option<Time>,
    /// Since when the oldest of what is not told yet stands there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_since: Option<Time>,
    /// Why it does not go on; it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
