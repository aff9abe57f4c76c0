//! Words that are kept elsewhere: in a file beside the manifest, or in a ConfigMap.
//!
//! ```yaml
//! email:
//!   textFrom: {file: pre-trip.txt}
//!   mjmlFrom: {configMap: {name: mails, key: pre-trip.mjml}}
//! ```
//! The home reads them and puts them where they would stand if they were written out: `text` beside `textFrom`. So a changed
//! file is a changed spec, and the revision of a run holds the words themselves. [`declared`] takes them out again.

use std::borrow::Cow;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::attachment::Pinned;

/// The parts whose words may be kept elsewhere, under their name with [`FROM`] behind it.
const WORDS: [&str; 4] = ["text", "html", "mjml", "value"];
pub const FROM: &str = "From";
/// What the home adds where there is nothing to be read.
const LOST: &str = "lost";
const PINNED: &str = "pinned";
/// Their items are kept elsewhere themselves.
const ATTACHMENTS: &str = "attachments";
/// They hold anything, and nothing of them is read elsewhere.
const PERSONAS: &str = "personas";

/// Where something is kept that is not written out in the manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.file) != has(self.configMap)", "it is kept in exactly one of file, configMap"))]
pub struct Kept {
    /// A file, from the manifest's own folder on. It cannot leave the folder that is run. A cluster has no such folder: there it is
    /// a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[^\x00-\x1f/\\][^\x00-\x1f\\]*$"))]
    pub file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapKey>,
    /// Why it could not be read. The home writes it; no author can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub lost: Option<Lost>,
}

/// An entry of a ConfigMap in the object's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct ConfigMapKey {
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// A sentence for the author, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Lost {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// Puts the words of a template's spec where they belong; `read` is asked by the path of the field that names them, such as
/// `spec.email.textFrom`.
pub fn fill(spec: &mut Value, read: &mut dyn FnMut(&str, &Kept) -> Result<String, Lost>) {
    visit(spec, "spec", &mut |at, fields| {
        for part in WORDS {
            let from = format!("{part}{FROM}");
            let Some(kept) = fields.get(&from).and_then(kept) else { continue };
            fields.shift_remove(part);
            let lost = match read(&format!("{at}.{from}"), &kept) {
                Ok(text) => {
                    fields.insert(part.to_owned(), text.into());
                    None
                }
                Err(lost) => serde_json::to_value(lost).ok(),
            };
            if let Some(Value::Object(kept)) = fields.get_mut(&from) {
                kept.shift_remove(LOST);
                kept.extend(lost.map(|lost| (LOST.to_owned(), lost)));
            }
        }
    });
}

/// Says of each attachment of a template's spec what stands where it is kept; `read` is asked by its path, such as
/// `spec.email.attachments[0]`.
pub fn pin(spec: &mut Value, read: &mut dyn FnMut(&str, &Kept) -> Result<Pinned, Lost>) {
    visit(spec, "spec", &mut |at, fields| {
        let Some(kept) = is_attachment(at).then(|| Kept::deserialize(&*fields).ok()).flatten() else { return };
        let (name, said) = match read(at, &kept) {
            Ok(pinned) => (PINNED, serde_json::to_value(pinned)),
            Err(lost) => (LOST, serde_json::to_value(lost)),
        };
        fields.shift_remove(PINNED);
        fields.shift_remove(LOST);
        fields.extend(said.ok().map(|said| (name.to_owned(), said)));
    });
}

fn is_attachment(at: &str) -> bool {
    at.rsplit('.').next().is_some_and(|last| last.strip_prefix(ATTACHMENTS).is_some_and(|rest| rest.starts_with('[')))
}

/// All that a template's spec keeps elsewhere, by the path of the field that names it.
pub fn references(spec: &Value) -> Vec<(String, Kept)> {
    let mut found = vec![];
    // The walk changes nothing here; a spec is looked at seldom, and is small.
    visit(&mut spec.clone(), "spec", &mut |at, fields| {
        let named = WORDS.iter().map(|part| format!("{part}{FROM}"));
        found.extend(named.filter_map(|from| Some((format!("{at}.{from}"), fields.get(&from).and_then(kept)?))));
        if is_attachment(at) {
            found.extend(Kept::deserialize(&*fields).ok().map(|kept| (at.to_owned(), kept)));
        }
    });
    found
}

/// A template's spec as its author wrote it: without what the home has put there.
pub fn declared(spec: &mut Value) {
    forget_lost(spec);
    visit(spec, "spec", &mut |at, fields| {
        if is_attachment(at) {
            fields.shift_remove(PINNED);
        }
        for part in WORDS {
            let from = format!("{part}{FROM}");
            if fields.get(&from).is_some_and(Value::is_object) {
                fields.shift_remove(part);
            }
        }
    });
}

/// Without why something could not be read: what differs between two specs is what their authors wrote.
pub fn forget_lost(spec: &mut Value) {
    visit(spec, "spec", &mut |at, fields| {
        if is_attachment(at) {
            fields.shift_remove(LOST);
        }
        for part in WORDS {
            if let Some(Value::Object(kept)) = fields.get_mut(&format!("{part}{FROM}")) {
                kept.shift_remove(LOST);
            }
        }
    });
}

fn kept(value: &Value) -> Option<Kept> {
    value.is_object().then(|| Kept::deserialize(value).ok()).flatten()
}

/// Each mapping of a spec, with its path.
fn visit(value: &mut Value, at: &str, with: &mut dyn FnMut(&str, &mut Map<String, Value>)) {
    match value {
        Value::Object(fields) => {
            with(at, fields);
            for (name, field) in fields.iter_mut().filter(|(name, _)| *name != PERSONAS) {
                visit(field, &format!("{at}.{name}"), with);
            }
        }
        Value::Array(items) => {
            items.iter_mut().enumerate().for_each(|(index, item)| visit(item, &format!("{at}[{index}]"), with));
        }
        _ => {}
    }
}

/// The path of a part as its author finds it.
pub fn path_of(part: &str, is_kept: bool) -> Cow<'_, str> {
    if is_kept { Cow::Owned(format!("{part}{FROM}")) } else { Cow::Borrowed(part) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_come_to_where_they_would_stand_and_go_again() {
        let written = json!({
            "email": {
                "subject": "s", "textFrom": {"file": "a.txt"}, "html": "own",
                "attachments": [{"name": "a", "file": "a.pdf"}],
            },
            "http": {"values": [{"name": "v", "valueFrom": {"file": "gone"}}]},
            "locales": {"it": {"fragments": [{"name": "f", "mjmlFrom": {"configMap": {"name": "m", "key": "k"}}}]}},
            "personas": [{"name": "p", "values": {"a": {"textFrom": {"file": "b"}}}}],
        });
        let mut spec = written.clone();
        let mut asked = vec![];
        fill(&mut spec, &mut |at, kept| {
            asked.push(at.to_owned());
            if kept.file.as_deref() == Some("gone") { Err(Lost::new("it is gone")) } else { Ok("words".to_owned()) }
        });
        let paths = ["spec.email.textFrom", "spec.http.values[0].valueFrom", "spec.locales.it.fragments[0].mjmlFrom"];
        assert_eq!(asked, paths);
        let all = [paths[0], "spec.email.attachments[0]", paths[1], paths[2]];
        assert_eq!(references(&written).into_iter().map(|(path, _)| path).collect::<Vec<_>>(), all);
        assert_eq!(
            (&spec["email"]["text"], &spec["locales"]["it"]["fragments"][0]["mjml"]),
            (&json!("words"), &json!("words"))
        );
        assert_eq!(spec["http"]["values"][0]["valueFrom"]["lost"]["message"], "it is gone");
        assert!(spec["http"]["values"][0].get("value").is_none());
        // Read anew, what is found again is no longer lost.
        fill(&mut spec, &mut |_, _| Ok("words".to_owned()));
        let is_one = |at: &str| at == "spec.email.attachments[0]";
        pin(&mut spec, &mut |at, kept| match kept.file.as_deref().filter(|_| is_one(at)) {
            Some(_) => Ok(Pinned { sha256: "00".to_owned(), size_bytes: 1 }),
            None => Err(Lost::new("it is gone")),
        });
        assert_eq!(spec["email"]["attachments"][0]["pinned"], json!({"sha256": "00", "sizeBytes": 1}));
        assert_eq!(spec["http"]["values"][0], json!({"name": "v", "valueFrom": {"file": "gone"}, "value": "words"}));
        declared(&mut spec);
        assert_eq!(spec, written);
    }
}
