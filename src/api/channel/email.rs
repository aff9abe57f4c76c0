//! `email.smtp`: mail over a relay.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SecretRef, Sender};

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
