//! What an email says: its words by part.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{Attachment, Kept};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "has(self.text) || has(self.textFrom) || has(self.html) || has(self.htmlFrom) || has(self.mjml) || has(self.mjmlFrom)",
    "an email has text, html or mjml"
))]
#[x_kube(validation = ("!(has(self.text) && has(self.textFrom))", "text or textFrom, not both"))]
#[x_kube(validation = ("!(has(self.html) && has(self.htmlFrom))", "html or htmlFrom, not both"))]
#[x_kube(validation = ("!(has(self.mjml) && has(self.mjmlFrom))", "mjml or mjmlFrom, not both"))]
#[x_kube(validation = (
    "!((has(self.html) || has(self.htmlFrom)) && (has(self.mjml) || has(self.mjmlFrom)))",
    "html or mjml, not both"
))]
#[x_kube(validation = (
    "!has(self.preheader) || has(self.html) || has(self.htmlFrom) || has(self.mjml) || has(self.mjmlFrom)",
    "a preheader is hidden in HTML, and there is none"
))]
pub struct EmailTemplate {
    #[schemars(length(min = 1, max = 998))]
    pub subject: String,
    /// What mail programs show behind the subject: hidden in front of the HTML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 998))]
    pub preheader: Option<String>,
    /// Absent, it is made of the HTML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 262_144))]
    pub text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_from: Option<Kept>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 262_144))]
    pub html: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html_from: Option<Kept>,
    /// MJML, which becomes the HTML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 262_144))]
    pub mjml: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mjml_from: Option<Kept>,
    /// Files and images that travel with every message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub attachments: Vec<Attachment>,
}

/// The parts that differ in this locale.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!(has(self.text) && has(self.textFrom))", "text or textFrom, not both"))]
#[x_kube(validation = ("!(has(self.html) && has(self.htmlFrom))", "html or htmlFrom, not both"))]
#[x_kube(validation = ("!(has(self.mjml) && has(self.mjmlFrom))", "mjml or mjmlFrom, not both"))]
#[x_kube(validation = (
    "!((has(self.html) || has(self.htmlFrom)) && (has(self.mjml) || has(self.mjmlFrom)))",
    "html or mjml, not both"
))]
pub struct EmailVariant {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 998))]
    pub subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 998))]
    pub preheader: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 262_144))]
    pub text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_from: Option<Kept>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 262_144))]
    pub html: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html_from: Option<Kept>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 262_144))]
    pub mjml: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mjml_from: Option<Kept>,
    /// Each takes the place of the one with its name, or comes to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub attachments: Vec<Attachment>,
}
