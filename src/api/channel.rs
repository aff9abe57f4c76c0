//! `Channel`: one way out, such as an SMTP relay, or a folder that takes what would be sent.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NEVER_OBSERVED, duration::Duration, medium::Medium, name::Label};

#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "campanile.dev",
    version = "v1alpha1",
    kind = "Channel",
    namespaced,
    status = "ChannelStatus",
    shortname = "chan",
    category = "campanile",
    derive = "PartialEq",
    doc = "One way out: an SMTP relay, or a folder that takes what would be sent.",
    printcolumn(name = "Provider", type_ = "string", json_path = ".status.provider"),
    printcolumn(name = "Delivers", type_ = "string", json_path = ".status.delivers"),
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
#[x_kube(validation = ("has(self.email) != has(self.outbox)", "a channel is exactly one of email, outbox"))]
pub struct ChannelSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<EmailChannel>,
    /// Takes any message and writes it to a folder, one file each: `.eml` for mail, `.txt` for a text, `.json` for the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbox: Option<Outbox>,
    /// How many connections to the provider may be open at once, over all campaigns.
    #[serde(default = "connections")]
    #[schemars(range(min = 1, max = 1000))]
    pub connections: u16,
    /// How many attempts may be under way for each connection. A crash leaves at most `connections × depth` messages
    /// in doubt; more of them keep a fast relay busy.
    #[serde(default = "depth")]
    #[schemars(range(min = 1, max = 1000))]
    pub depth: u16,
    /// How fast messages may go, over all campaigns and workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Where this process' `--listen` is reached from outside: marketing messages then carry a link by which people
    /// withdraw with one click (RFC 8058). HTTPS, but for this machine's own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 8, max = 512),
        regex(pattern = r"^(https://[^\s?#<>]+|http://(localhost|127\.0\.0\.1)(:[0-9]+)?)$")
    )]
    pub public_url: Option<String>,
    /// What is known of who opens a message and follows its links. Needs `publicUrl`; without it nothing is tracked.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tracking: Tracking,
    /// What the provider tells over HTTP of its messages. Needs `publicUrl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callbacks: Option<Callbacks>,
}

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

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "has(self.consentTopic) || (self.opens != 'Individual' && self.clicks != 'Individual')",
    "Individual tracking names the consentTopic under which a person allows it"
))]
pub struct Tracking {
    #[serde(default = "off")]
    pub opens: Tracks,
    #[serde(default)]
    pub clicks: Tracks,
    /// The topic of the dataset by which a person allows to be told apart by what she opens and clicks. Who has not is
    /// counted without her, as with `Aggregate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent_topic: Option<Label>,
}

impl Default for Tracking {
    fn default() -> Self {
        Self { opens: Tracks::Off, clicks: Tracks::Aggregate, consent_topic: None }
    }
}

fn off() -> Tracks {
    Tracks::Off
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Tracks {
    Off,
    /// Counted without the person.
    #[default]
    Aggregate,
    /// An event of the person's message, if she allows it.
    Individual,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100000))]
    pub per_second: Option<u32>,
    /// Of a day in UTC; what is above it goes on the next day, if it does not expire before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000000000))]
    pub per_day: Option<u32>,
    /// Slower ways for the domains of some recipients. The first that matches holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub domains: Vec<DomainRate>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DomainRate {
    /// Domains of recipients that share the rate, such as `gmail.com`.
    #[serde(rename = "match")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 253)))]
    pub matches: Vec<String>,
    #[schemars(range(min = 1, max = 100000))]
    pub per_second: u32,
}

impl ChannelSpec {
    /// Whether messages of the medium can go this way.
    pub fn carries(&self, medium: Medium) -> bool {
        self.outbox.is_some() || medium == Medium::Email && self.email.is_some()
    }

    /// What its messages are handed to, as its status says.
    pub fn provider(&self) -> &'static str {
        if self.email.is_some() { "email.smtp" } else { "outbox" }
    }

    /// The Secret that its provider is reached with.
    pub fn secret(&self) -> Option<&SecretRef> {
        self.email.as_ref()?.smtp.secret_ref.as_ref()
    }
}

fn connections() -> u16 {
    10
}

fn depth() -> u16 {
    16
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmailChannel {
    /// The author of the mail (RFC 5322 `From`), such as `Shop <shop@example.com>`.
    #[schemars(length(min = 3, max = 320))]
    pub from: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 320))]
    pub reply_to: Option<String>,
    /// Where bounces go, such as `bounces@mail.example.com`: each message is sent from an address that names it, as in
    /// `bounces+REFERENCE@mail.example.com`, so that `campanile inbound` knows what came back. Unless said, `from`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 254), regex(pattern = r"^[A-Za-z0-9._-]{1,16}@[A-Za-z0-9.-]+$"))]
    pub return_path: Option<String>,
    pub smtp: Smtp,
    /// Signs every message; absent where the relay signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dkim: Option<Dkim>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<Sender>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Smtp {
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    #[serde(default = "submission_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    #[serde(default)]
    pub tls: Tls,
    /// A Secret with the keys `username` and `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

/// RFC 6409, message submission.
fn submission_port() -> u16 {
    587
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Tls {
    /// STARTTLS, or nothing is sent.
    #[default]
    Required,
    /// STARTTLS where the server offers it.
    Opportunistic,
    /// TLS from the first byte (RFC 8314, port 465).
    Implicit,
    None,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretRef {
    pub name: Label,
}

/// A DKIM signature (RFC 6376).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dkim {
    /// The domain that vouches; aligned with that of `from`, if DMARC is to pass.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$"))]
    pub domain: String,
    /// The public key stands in DNS at `<selector>._domainkey.<domain>`.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$"))]
    pub selector: String,
    /// A Secret whose `key` is the private key in PEM, RSA or Ed25519.
    pub secret_ref: SecretRef,
}

/// Who stands behind the message, as `{{ sender.name }}` and `{{ sender.address }}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sender {
    #[schemars(length(max = 256))]
    pub name: String,
    #[schemars(length(max = 1024))]
    pub address: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Outbox {
    /// The author of the mail (RFC 5322 `From`).
    #[serde(default = "outbox_from")]
    #[schemars(length(min = 3, max = 320))]
    pub from: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 320))]
    pub reply_to: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<Sender>,
}

/// RFC 2606 reserves `.invalid`: an outbox' messages never leave, and must not look as if they could be answered.
fn outbox_from() -> String {
    "campanile@outbox.invalid".to_owned()
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChannelStatus {
    #[serde(default = "super::crd::never_observed")]
    pub observed_generation: i64,
    /// `email.smtp` or `outbox`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// What this process does with a message, whatever the manifest says: `outbox`, `live`, `redirect` or `allowlist`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivers: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl Default for ChannelStatus {
    fn default() -> Self {
        Self { observed_generation: NEVER_OBSERVED, provider: None, delivers: None, conditions: vec![] }
    }
}
