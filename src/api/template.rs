//! `MessageTemplate`: what is said, in Jinja syntax, with variants by locale.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    NEVER_OBSERVED,
    name::{Label, Word},
};

pub mod attachment;
mod direct_mail;
mod email;
mod fragment;
pub mod kept;
mod push;

pub use self::{
    attachment::Attachment,
    direct_mail::{DirectMailColumn, DirectMailTemplate, DirectMailText, DirectMailVariant},
    email::{EmailTemplate, EmailVariant},
    fragment::Fragment,
    kept::Kept,
    push::{PushTemplate, PushUrgency, PushVariant},
};

/// Of a persona's values, as JSON.
pub const PERSONA_BYTES_MAX: usize = 65_536;

#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "campanile.dev",
    version = "v1alpha1",
    kind = "MessageTemplate",
    namespaced,
    status = "MessageTemplateStatus",
    shortname = "mt",
    category = "campanile",
    derive = "PartialEq",
    doc = "What is said, in Jinja syntax, with variants by locale.",
    printcolumn(name = "Locales", type_ = "string", json_path = ".status.locales"),
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
#[x_kube(validation = (
    "has(self.email) || has(self.sms) || has(self.push) || has(self.directMail) || has(self.http) || has(self.fragments)",
    "a template has at least one of email, sms, push, directMail, http, fragments"
))]
pub struct MessageTemplateSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<EmailTemplate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sms: Option<TextTemplate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<PushTemplate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct_mail: Option<DirectMailTemplate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<ValuesTemplate>,
    /// Pieces of words that parts of this template, and of others, include by name: `{% include "footer" %}` here,
    /// `{% include "TEMPLATE/footer" %}` in others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub fragments: Vec<Fragment>,
    /// Variants by locale, such as `it` or `it-CH`; a part that a variant does not have falls back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub locales: BTreeMap<String, LocaleVariant>,
    /// People who do not exist: previews show the message as they would get it. No run reads them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub personas: Vec<Persona>,
}

/// ```yaml
/// personas:
/// - name: zoe
///   locale: it
///   values: {customer: {first_name: Zoë, tier: gold}, booking: {departure: 2026-12-24T08:00:00Z}, films: [{title: Alien}]}
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Persona {
    pub name: Label,
    /// Whose variant is shown, such as `it-CH`; unless said, the one that the profile's own locale field names in `values`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub locale: Option<String>,
    /// What the template reads, under the names that it uses; what is not there is missing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub values: BTreeMap<String, PersonaValue>,
}

/// A row of fields, a single value, or a list of rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PersonaValue(pub serde_json::Value);

// Its type is that of the field, which is in the Dataset: it is checked where a campaign uses the template.
untyped!(PersonaValue);

/// What a text message says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.text) != has(self.textFrom)", "exactly one of text, textFrom"))]
pub struct TextTemplate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16_384))]
    pub text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_from: Option<Kept>,
}

/// What an `http` channel is told, by name: its request reads `values.<name>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ValuesTemplate {
    #[schemars(length(min = 1, max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub values: Vec<NamedValue>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.value) != has(self.valueFrom)", "exactly one of value, valueFrom"))]
pub struct NamedValue {
    pub name: Word,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16_384))]
    pub value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<Kept>,
}

/// The sections that differ in this locale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocaleVariant {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<EmailVariant>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sms: Option<TextTemplate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<PushVariant>,
    /// The columns that differ; each is one of the base's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct_mail: Option<DirectMailVariant>,
    /// The values that differ; each is one of the base's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<ValuesTemplate>,
    /// Fragments of this template as they are in this locale.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub fragments: Vec<Fragment>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageTemplateStatus {
    #[serde(default = "super::crd::never_observed")]
    pub observed_generation: i64,
    /// The locales that have variants, or `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locales: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl Default for MessageTemplateStatus {
    fn default() -> Self {
        Self { observed_generation: NEVER_OBSERVED, locales: None, conditions: vec![] }
    }
}
