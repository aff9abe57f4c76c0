//! `sms.twilio`, `sms.smpp`: texts.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretRef;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.twilio) != has(self.smpp)", "sms is exactly one of twilio, smpp"))]
pub struct SmsChannel {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub twilio: Option<Twilio>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smpp: Option<SmppCentre>,
}

impl SmsChannel {
    /// Who its texts are from, and where that stands, if it is not the provider's to choose.
    pub fn from(&self) -> Option<(&str, &'static str)> {
        let twilio = self.twilio.as_ref().and_then(|twilio| twilio.from.as_deref());
        let smpp = self.smpp.as_ref().map(|smpp| smpp.from.as_str());
        twilio.map(|from| (from, "spec.sms.twilio.from")).or(smpp.map(|from| (from, "spec.sms.smpp.from")))
    }
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

/// A message centre that speaks SMPP 3.4. `connections` are bound as transceivers, with `depth` messages under way over
/// each. What people answer comes in over them, too: `STOP` and the words that mean the same withdraw every topic of this
/// channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SmppCentre {
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// Unless said, 3550 with TLS and 2775 without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    #[serde(default)]
    pub tls: SmppTls,
    /// A number as E.164 writes it, a short code, or a name of at most eleven letters and digits.
    #[schemars(length(min = 1, max = 16))]
    pub from: String,
    /// What the centre calls this kind of client, if it asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 12))]
    pub system_type: Option<String>,
    /// A Secret with the keys `system_id` and `password`.
    pub secret_ref: SecretRef,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SmppTls {
    /// From the first byte.
    #[default]
    Implicit,
    /// In the clear: over a tunnel, or a line of one's own.
    None,
}
