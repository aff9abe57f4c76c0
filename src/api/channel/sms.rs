//! `sms.twilio`: texts.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretRef;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SmsChannel {
    pub twilio: Twilio,
}

/// Twilio's Messages API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "has(self.from) != has(self.messagingServiceSid)",
    "a sender is exactly one of from, messagingServiceSid"
))]
pub struct Twilio {
    #[schemars(regex(pattern = "^AC[0-9a-fA-F]{32}$"))]
    pub account_sid: String,
    /// A number as E.164 writes it, a short code, or a name of at most eleven letters and digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub from: Option<String>,
    /// The Messaging Service that chooses the sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^MG[0-9a-fA-F]{32}$"))]
    pub messaging_service_sid: Option<String>,
    /// A Secret with the account's `auth_token`, or with `api_key` and `api_key_secret`.
    pub secret_ref: SecretRef,
    /// Where the API is, if not at Twilio itself: a proxy, or a stand-in of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 512), regex(pattern = r"^https?://[^\s?#<>]+$"))]
    pub endpoint: Option<String>,
}
