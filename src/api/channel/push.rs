//! `push`: notices on phones and in browsers, over the service of whoever made them.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretRef;

/// Exactly one provider: a browser is reached over its maker's service, an app over Google's or Apple's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "[has(self.webPush), has(self.fcm), has(self.apns)].exists_one(is, is)",
    "push is exactly one of webPush, fcm, apns"
))]
pub struct PushChannel {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web_push: Option<WebPush>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fcm: Option<Fcm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apns: Option<Apns>,
}

/// Browsers (RFC 8030, RFC 8291). An address is a subscription as `JSON.stringify` writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebPush {
    /// Where a push service reaches who sends (RFC 8292): `mailto:push@example.com` or an `https:` URL.
    #[schemars(length(min = 8, max = 512), regex(pattern = r"^(mailto:[^\s@]+@[^\s@]+|https://\S+)$"))]
    pub subject: String,
    /// A Secret with the key pair that pages subscribe with (VAPID): its `key` is the private key over P-256 in PEM, or
    /// its `private` and `public` are the two halves in base64url.
    pub secret_ref: SecretRef,
}

/// Firebase Cloud Messaging, HTTP v1. An address is a registration token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fcm {
    /// A Secret whose `key` is the JSON file of a service account.
    pub secret_ref: SecretRef,
    /// Where messages go instead of to Google, such as a proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 512), regex(pattern = r"^https?://[^\s?#]+/$"))]
    pub endpoint: Option<String>,
}

/// Apple Push Notification service. An address is a device token, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Apns {
    /// The app's bundle id.
    #[schemars(length(min = 1, max = 255), regex(pattern = "^[A-Za-z0-9.-]+$"))]
    pub topic: String,
    /// The id of the key, as Apple shows it.
    #[schemars(length(equal = 10), regex(pattern = "^[A-Z0-9]+$"))]
    pub key_id: String,
    /// The id of the developer team.
    #[schemars(length(equal = 10), regex(pattern = "^[A-Z0-9]+$"))]
    pub team_id: String,
    /// A Secret whose `key` is the `.p8` file.
    pub secret_ref: SecretRef,
    /// Which of Apple's services knows the devices: an app that is installed from a developer's machine is in `Sandbox`.
    #[serde(default)]
    pub environment: ApnsEnvironment,
    /// Where messages go instead of to Apple, such as a proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 512), regex(pattern = r"^https?://[^\s?#]+/$"))]
    pub endpoint: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApnsEnvironment {
    #[default]
    Production,
    Sandbox,
}
