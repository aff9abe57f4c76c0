//! `http`: any provider, by a request as it is declared here and rules over its answer.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SecretRef, is_default};
use crate::api::{duration::Duration, medium::Medium};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpChannel {
    /// The steps that it carries.
    #[serde(default, skip_serializing_if = "is_default")]
    pub carries: Carries,
    /// A Secret, whose values the request reads as `secret.<key>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    pub request: HttpRequest,
    /// What an answer means.
    #[serde(default, skip_serializing_if = "is_default")]
    pub answer: HttpAnswer,
    /// The header with the message's key, which is the same for every attempt of it and another for every other message.
    #[serde(default = "idempotency_header", skip_serializing_if = "is_idempotency_header")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9-]+$"))]
    pub idempotency_header: String,
    /// The provider takes a message of the same key once, however often it is told: an attempt of which nobody knows what
    /// became is made again, and is never in doubt.
    #[serde(default, skip_serializing_if = "is_default")]
    pub idempotent: bool,
    /// How long an answer is waited for, at most five minutes; without one the message is in doubt.
    #[serde(default = "timeout", skip_serializing_if = "is_timeout")]
    pub timeout: Duration,
}

/// What a request carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Carries {
    /// What `http` steps say: the values of their template, as `values.<name>`.
    #[default]
    Http,
    /// Text messages, to a gateway: `to` and `values.text`.
    Sms,
}

impl Carries {
    pub fn medium(self) -> Medium {
        match self {
            Self::Http => Medium::Http,
            Self::Sms => Medium::Sms,
        }
    }

    /// The values that there are, where they are always the same.
    pub fn values(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Http => None,
            Self::Sms => Some(&["text"]),
        }
    }
}

/// A request, in Jinja. It reads `to`, `values.<name>`, `secret.<key>`, `key` (the message's idempotency key) and `reference`
/// (by which callbacks name the message). What a value holds never ends the text, the header or the part of the URL in
/// which it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "[has(self.json), has(self.form), has(self.xml), has(self.text)].filter(is, is).size() <= 1",
    "a body is one of json, form, xml, text"
))]
pub struct HttpRequest {
    #[serde(default, skip_serializing_if = "is_default")]
    pub method: HttpMethod,
    /// Scheme, host and port are written out; what a value puts behind them is encoded.
    #[schemars(length(min = 8, max = 2048), regex(pattern = "^https?://"))]
    pub url: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub headers: Vec<HttpHeader>,
    /// A body in JSON. A value within quotes is escaped; outside of them it is put as JSON, a text with its quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub json: Option<String>,
    /// A body as browsers send forms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub form: Option<Vec<HttpField>>,
    /// A body in XML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub xml: Option<String>,
    /// A body that is nothing but text: values stand in it as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub text: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HttpMethod {
    #[default]
    POST,
    PUT,
    PATCH,
    GET,
    DELETE,
}

impl HttpMethod {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::POST => "POST",
            Self::PUT => "PUT",
            Self::PATCH => "PATCH",
            Self::GET => "GET",
            Self::DELETE => "DELETE",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HttpHeader {
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9_-]+$"))]
    pub name: String,
    #[schemars(length(max = 4096))]
    pub value: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HttpField {
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    #[schemars(length(max = 16384))]
    pub value: String,
}

/// Rules in CEL over `status`, `headers` (by names in lower case), `body` (what JSON it holds) and `text` (the body as it
/// is). They are asked in this order, and the first that holds says what became of the message. Where none does: a `2xx` is
/// sent, unless `sent` is declared; `408`, `425`, `429` and `5xx` are later; `401` and `403` are the operator's to mend, later;
/// any other `4xx` is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpAnswer {
    /// The provider took the message. Where this is declared, no other answer says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub sent: Option<String>,
    /// The address is known, and leads to nobody any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub unregistered: Option<String>,
    /// The provider will never take the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub refused: Option<String>,
    /// It did not take the message, and may next time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub later: Option<String>,
    /// By what the provider names a message that it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub receipt: Option<String>,
    /// The provider's words on why it did not take one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub detail: Option<String>,
    /// After how many seconds it may be asked again, where it says so elsewhere than in `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub retry_after: Option<String>,
}

fn idempotency_header() -> String {
    "Idempotency-Key".to_owned()
}

fn is_idempotency_header(name: &String) -> bool {
    *name == idempotency_header()
}

fn timeout() -> Duration {
    Duration::from_secs(30)
}

fn is_timeout(timeout_s: &Duration) -> bool {
    *timeout_s == timeout()
}
