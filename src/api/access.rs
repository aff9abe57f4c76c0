//! How an object store is reached, wherever a resource names one by a URL.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::channel::SecretRef;

/// Beside a `url`; flattened into the resource's own fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// Where an object store is reached that is not its provider's own, such as `https://minio.example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub endpoint: Option<String>,
    /// The region of an `s3://` bucket; `us-east-1` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub region: Option<String>,
    /// The Secret with which it is reached; without one only what is open to everybody. Keys: `access_key_id`,
    /// `secret_access_key`, `session_token` (s3); `service_account_key` (gs); `account`, `access_key` (az); `token` or
    /// `username`, `password` (https).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}
