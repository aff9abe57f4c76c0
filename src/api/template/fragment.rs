//! Fragments: words that several parts, and several templates, have in common.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::Kept;
use crate::api::name::Label;

/// ```yaml
/// fragments:
/// - {name: footer, text: "{{ sender.address }}", mjml: "<mj-section>…</mj-section>"}
/// ```
/// A part of plain text includes a fragment's `text`, HTML its `html`, MJML its `mjml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "has(self.text) || has(self.textFrom) || has(self.html) || has(self.htmlFrom) || has(self.mjml) || has(self.mjmlFrom)",
    "a fragment has text, html or mjml"
))]
#[x_kube(validation = ("!(has(self.text) && has(self.textFrom))", "text or textFrom, not both"))]
#[x_kube(validation = ("!(has(self.html) && has(self.htmlFrom))", "html or htmlFrom, not both"))]
#[x_kube(validation = ("!(has(self.mjml) && has(self.mjmlFrom))", "mjml or mjmlFrom, not both"))]
pub struct Fragment {
    pub name: Label,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65_536))]
    pub text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_from: Option<Kept>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65_536))]
    pub html: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html_from: Option<Kept>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65_536))]
    pub mjml: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mjml_from: Option<Kept>,
}
