//! What a provider tells over HTTP of its messages.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretRef;
use crate::api::duration::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.twilio) != has(self.webhook)", "callbacks are exactly one of twilio, webhook"))]
pub struct Callbacks {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub twilio: Option<TwilioCallbacks>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
}

/// Twilio's status callbacks, at `PUBLIC_URL/twilio/NAMESPACE/CHANNEL/status`, and what people answer, at `…/messages`:
/// `STOP` and the words that mean the same withdraw every topic of this channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TwilioCallbacks {
    /// A Secret whose `auth_token` signs them.
    pub secret_ref: SecretRef,
}

/// Any provider's, as JSON by `POST` to `PUBLIC_URL/hooks/NAMESPACE/CHANNEL`. Places in the JSON are pointers (RFC 6901).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// A Secret whose `signing_key` is that of the HMAC-SHA256.
    pub secret_ref: SecretRef,
    #[serde(default)]
    pub signature: WebhookSignature,
    /// Where the list of events is, if one request tells several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = "^(/.*)?$"))]
    pub each: Option<String>,
    /// Of an event: the message's reference, as it was given to the provider.
    #[schemars(length(max = 256), regex(pattern = "^/.+$"))]
    pub message: String,
    /// Of an event: its own id. Unless said, a message has one event of each type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = "^/.+$"))]
    pub id: Option<String>,
    /// Of an event: when it happened, in RFC 3339 or in seconds since 1970. Unless said, when it is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = "^/.+$"))]
    pub at: Option<String>,
    /// Of an event: whom the message was for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = "^/.+$"))]
    pub recipient: Option<String>,
    /// Of an event: what happened, in the provider's word.
    #[serde(rename = "type")]
    #[schemars(length(max = 256), regex(pattern = "^/.+$"))]
    pub kind: String,
    /// What the provider's words mean. A word that is not here is counted and nothing more.
    #[schemars(extend("maxProperties" = 64))]
    pub events: BTreeMap<String, WebhookEvent>,
}

/// How a request is signed. The defaults are those of Standard Webhooks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookSignature {
    /// The header with the HMAC-SHA256 in hexadecimal or Base64, behind `v1,`, `v1=`, `sha256=` or nothing.
    #[serde(default = "webhook_signature")]
    #[schemars(length(min = 1, max = 128))]
    pub header: String,
    /// The header with the seconds since 1970 at which it was sent, which is signed, too.
    #[serde(default = "webhook_timestamp")]
    #[schemars(length(min = 1, max = 128))]
    pub timestamp_header: String,
    /// What is signed: `ID.TIMESTAMP.BODY` with the header of the id; without one, `TIMESTAMP.BODY`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub id_header: Option<String>,
    /// How old a request may be, and how far ahead the sender's clock.
    #[serde(default = "tolerance")]
    pub tolerance: Duration,
}

fn webhook_signature() -> String {
    "webhook-signature".to_owned()
}

fn webhook_timestamp() -> String {
    "webhook-timestamp".to_owned()
}

fn tolerance() -> Duration {
    Duration::from_secs(300)
}

impl Default for WebhookSignature {
    fn default() -> Self {
        Self {
            header: webhook_signature(),
            timestamp_header: webhook_timestamp(),
            id_header: Some("webhook-id".to_owned()),
            tolerance: tolerance(),
        }
    }
}

/// What an event of a provider means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WebhookEvent {
    Delivered,
    /// For good: the address is suppressed.
    HardBounce,
    SoftBounce,
    Complained,
    Opened,
    Clicked,
    Ignored,
}
