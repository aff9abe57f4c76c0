//! `Channel`: one way out, such as an SMTP relay, or a folder that takes what would be sent.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NEVER_OBSERVED, medium::Medium, name::Label};

mod callbacks;
mod direct_mail;
mod email;
mod http;
mod price;
mod push;
mod sms;
mod tracking;

pub use self::{
    callbacks::{Callbacks, TwilioCallbacks, Webhook, WebhookEvent, WebhookSignature},
    direct_mail::{Compression, Delimiter, DirectMailChannel, MailFile, MailFormat, Seed},
    email::{Dkim, EmailChannel, Smtp, Tls},
    http::{Carries, HttpAnswer, HttpChannel, HttpField, HttpHeader, HttpMethod, HttpRequest},
    price::Price,
    push::{Apns, ApnsEnvironment, Fcm, PushChannel, WebPush},
    sms::{SmppCentre, SmppTls, SmsChannel, Twilio},
    tracking::{Tracking, Tracks},
};

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
    doc = "One way out: a provider of messages, or a folder that takes what would be sent.",
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
#[x_kube(
    validation = (
        "[has(self.email), has(self.sms), has(self.push), has(self.directMail), has(self.http), has(self.outbox)].filter(is, is).size() == 1",
        "a channel is exactly one of email, sms, push, directMail, http, outbox"
    ),
    validation = ("!has(self.directMail) || !has(self.rate)", "a file has no rate")
)]
pub struct ChannelSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<EmailChannel>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sms: Option<SmsChannel>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<PushChannel>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct_mail: Option<DirectMailChannel>,
    /// Any provider: a request, and how to read its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpChannel>,
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
    /// What a message costs: a plan says what a run comes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
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

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
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

/// Where a channel's messages are handed to.
#[derive(Clone, Copy, Debug)]
pub enum Way<'a> {
    Outbox(&'a Outbox),
    Smtp(&'a EmailChannel),
    Twilio(&'a Twilio),
    Smpp(&'a SmppCentre),
    WebPush(&'a WebPush),
    Fcm(&'a Fcm),
    Apns(&'a Apns),
    MailFile(&'a MailFile),
    Http(&'a HttpChannel),
}

impl Way<'_> {
    /// What it carries; anything, where it does not say.
    pub fn medium(self) -> Option<Medium> {
        match self {
            Self::Outbox(_) => None,
            Self::Smtp(_) => Some(Medium::Email),
            Self::Twilio(_) | Self::Smpp(_) => Some(Medium::Sms),
            Self::WebPush(_) | Self::Fcm(_) | Self::Apns(_) => Some(Medium::Push),
            Self::MailFile(_) => Some(Medium::Postal),
            Self::Http(http) => Some(http.carries.medium()),
        }
    }

    /// As a channel's status says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Outbox(_) => "outbox",
            Self::Smtp(_) => "email.smtp",
            Self::Twilio(_) => "sms.twilio",
            Self::Smpp(_) => "sms.smpp",
            Self::WebPush(_) => "push.webPush",
            Self::Fcm(_) => "push.fcm",
            Self::Apns(_) => "push.apns",
            Self::MailFile(_) => "directMail.file",
            Self::Http(_) => "http",
        }
    }
}

impl<'a> Way<'a> {
    /// The Secret that its provider is reached with.
    pub fn secret(self) -> Option<&'a SecretRef> {
        match self {
            Self::Outbox(_) => None,
            Self::Smtp(email) => email.smtp.secret_ref.as_ref(),
            Self::Twilio(twilio) => Some(&twilio.secret_ref),
            Self::Smpp(smpp) => Some(&smpp.secret_ref),
            Self::WebPush(push) => Some(&push.secret_ref),
            Self::Fcm(push) => Some(&push.secret_ref),
            Self::Apns(push) => Some(&push.secret_ref),
            Self::MailFile(file) => file.access.secret_ref.as_ref(),
            Self::Http(http) => http.secret_ref.as_ref(),
        }
    }
}

impl ChannelSpec {
    /// The one that is declared; an outbox' own, where an object that no API server checked has none.
    pub fn way(&self) -> Way<'_> {
        static OUTBOX: std::sync::LazyLock<Outbox> = std::sync::LazyLock::new(Outbox::default);
        match self {
            Self { email: Some(email), .. } => Way::Smtp(email),
            Self { sms: Some(SmsChannel { twilio: Some(twilio), .. }), .. } => Way::Twilio(twilio),
            Self { sms: Some(SmsChannel { smpp: Some(smpp), .. }), .. } => Way::Smpp(smpp),
            Self { push: Some(PushChannel { web_push: Some(push), .. }), .. } => Way::WebPush(push),
            Self { push: Some(PushChannel { fcm: Some(push), .. }), .. } => Way::Fcm(push),
            Self { push: Some(PushChannel { apns: Some(push), .. }), .. } => Way::Apns(push),
            Self { direct_mail: Some(mail), .. } => Way::MailFile(&mail.file),
            Self { http: Some(http), .. } => Way::Http(http),
            Self { outbox, .. } => Way::Outbox(outbox.as_ref().unwrap_or(&OUTBOX)),
        }
    }

    /// Whether its provider takes a message once, however often it is told.
    pub fn is_idempotent(&self) -> bool {
        matches!(self.way(), Way::Http(http) if http.idempotent)
    }

    /// Whether what becomes of its messages is told over the connections that they go out on.
    pub fn is_heard(&self) -> bool {
        matches!(self.way(), Way::Smpp(_))
    }

    /// Whether messages of the medium can go this way.
    pub fn carries(&self, medium: Medium) -> bool {
        self.way().medium().is_none_or(|carried| carried == medium)
    }
}

fn connections() -> u16 {
    10
}

fn depth() -> u16 {
    16
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretRef {
    pub name: Label,
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

impl Default for Outbox {
    fn default() -> Self {
        Self { from: outbox_from(), reply_to: None, sender: None }
    }
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
    /// Such as `email.smtp` or `outbox`.
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
