//! What travels with every message: files, and images that its HTML shows.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{
    MessageTemplateSpec,
    kept::{ConfigMapKey, Lost},
};

/// ```yaml
/// attachments:
/// - {name: terms.pdf, file: files/terms.pdf}
/// - {name: logo.png, inline: logo, configMap: {name: art, key: logo.png}}     # <img src="cid:logo">
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.file) != has(self.configMap)", "it is kept in exactly one of file, configMap"))]
pub struct Attachment {
    /// The file's name as it arrives; it says nothing of the person.
    #[schemars(length(min = 1, max = 128), regex(pattern = r#"^[^\x00-\x1f\x7f"/\\]+$"#))]
    pub name: String,
    /// Its media type; unless said, by the ending of its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 3, max = 127),
        regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9.+-]*/[A-Za-z0-9][A-Za-z0-9.+-]*$")
    )]
    pub content_type: Option<String>,
    /// The name by which the HTML shows it: `cid:NAME`. It is no attachment to be saved then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?$"))]
    pub inline: Option<String>,
    /// A file, from the manifest's own folder on. A cluster has no such folder: there it is a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[^\x00-\x1f/\\][^\x00-\x1f\\]*$"))]
    pub file: Option<String>,
    /// Under `binaryData` or `data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapKey>,
    /// What stood there when it was read. The home writes it; no author can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub pinned: Option<Pinned>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub lost: Option<Lost>,
}

/// The bytes that are sent, by their hash: so a revision says which, and does not hold them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pinned {
    /// In hexadecimal.
    pub sha256: String,
    pub size_bytes: usize,
}

/// By the ending of a name; of others a mail program asks what to do with them.
const MEDIA_TYPES: [(&str, &str); 16] = [
    ("csv", "text/csv"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("gif", "image/gif"),
    ("html", "text/html"),
    ("ics", "text/calendar"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("json", "application/json"),
    ("pdf", "application/pdf"),
    ("pkpass", "application/vnd.apple.pkpass"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("txt", "text/plain"),
    ("webp", "image/webp"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("zip", "application/zip"),
];

impl Attachment {
    pub fn media_type(&self) -> &str {
        let ending = self.name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default();
        let known = MEDIA_TYPES.iter().find(|(known, _)| *known == ending).map(|(_, media_type)| *media_type);
        self.content_type.as_deref().or(known).unwrap_or("application/octet-stream")
    }
}

impl MessageTemplateSpec {
    /// All that it attaches, in any locale.
    pub fn attachments(&self) -> impl Iterator<Item = &Attachment> {
        let base = self.email.iter().flat_map(|email| &email.attachments);
        let variants = self.locales.values().filter_map(|variant| variant.email.as_ref());
        base.chain(variants.flat_map(|email| &email.attachments))
    }
}
