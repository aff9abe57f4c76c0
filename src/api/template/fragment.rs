//! Fragments: words that several parts, and several templates, have in common.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::name::Label;

/// ```yaml
/// fragments:
/// - {name: footer, text: "{{ sender.address }}", mjml: "<mj-section>…</mj-section>"}
/// ```
/// A part of plain text includes a fragment's `text`, HTML its `html`, MJML its `mjml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "has(self.text) || has(self.html) || has(self.mjml)",
    "a fragment has text, html or mjml"
))]
pub struct Fragment {
    pub name: Label,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65_536))]
    pub text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65_536))]
    pub html: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65_536))]
    pub mjml: Option<String>,
}
