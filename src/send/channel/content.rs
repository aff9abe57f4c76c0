//! What a message holds, by medium, and the file that an outbox makes of it.

use std::borrow::Cow;

use serde_json::{Value as Json, json};

use super::{Notice, Urgency};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Mail(Mail),
    Text(Text),
    Push(Notice),
    Record(Record),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// RFC 5321 addresses, without names.
    pub from: String,
    pub to: String,
    /// As it leaves, headers included.
    pub bytes: Vec<u8>,
}

/// A text message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// A number or a name; the provider's own where there is none.
    pub from: Option<String>,
    /// As E.164 writes it, with its `+`.
    pub to: String,
    pub text: String,
}

/// Named values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Empty where the step has no address.
    pub to: String,
    /// In the template's order.
    pub values: Vec<(String, String)>,
}

impl Content {
    pub fn to(&self) -> &str {
        match self {
            Self::Mail(mail) => &mail.to,
            Self::Text(text) => &text.to,
            Self::Push(notice) => &notice.to,
            Self::Record(record) => &record.to,
        }
    }

    /// A file of it: its extension and its bytes.
    pub fn file(&self) -> (&'static str, Cow<'_, [u8]>) {
        match self {
            Self::Mail(mail) => ("eml", Cow::Borrowed(&mail.bytes)),
            Self::Text(text) => ("txt", Cow::Owned(text.file().into_bytes())),
            Self::Push(notice) => ("json", Cow::Owned(bytes_of(&shown(notice)))),
            Self::Record(record) => ("json", Cow::Owned(bytes_of(&record.json()))),
        }
    }
}

impl Text {
    /// Headers as mail has them, so that a reader sees to whom it goes.
    fn file(&self) -> String {
        let from = self.from.as_ref().map_or_else(String::new, |from| format!("From: {from}\n"));
        format!("{from}To: {}\n\n{}\n", self.to, self.text)
    }
}

impl Record {
    fn json(&self) -> Json {
        let values = self.values.iter().map(|(name, value)| (name.clone(), Json::from(value.as_str())));
        let mut whole = serde_json::Map::new();
        if !self.to.is_empty() {
            whole.insert("to".to_owned(), self.to.as_str().into());
        }
        whole.insert("values".to_owned(), values.collect::<serde_json::Map<_, _>>().into());
        whole.into()
    }
}

/// What a device would show, and how it is asked to.
fn shown(notice: &Notice) -> Json {
    let mut shown = json!({"to": notice.to, "title": notice.title, "body": notice.body});
    if !notice.data.is_empty() {
        shown["data"] = json!(notice.data);
    }
    if let Some(collapse) = &notice.collapse {
        shown["collapse"] = collapse.as_str().into();
    }
    if notice.urgency != Urgency::default() {
        shown["urgency"] = notice.urgency.word().into();
    }
    shown
}

fn bytes_of(of: &Json) -> Vec<u8> {
    // Texts under names that are texts: there is nothing that JSON cannot say.
    let mut bytes = serde_json::to_vec_pretty(of).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &Content) -> (&'static str, String) {
        let (extension, bytes) = content.file();
        (extension, String::from_utf8(bytes.into_owned()).unwrap())
    }

    #[test]
    fn each_medium_has_its_file() {
        let text = Text { from: Some("Shop".into()), to: "+393331234567".into(), text: "Ciao".into() };
        assert_eq!(file(&Content::Text(text)), ("txt", "From: Shop\nTo: +393331234567\n\nCiao\n".to_owned()));
        let values = vec![("b".to_owned(), "1".to_owned()), ("a".to_owned(), "\"x\"".to_owned())];
        let record = Content::Record(Record { to: String::new(), values });
        let expected = "{\n  \"values\": {\n    \"b\": \"1\",\n    \"a\": \"\\\"x\\\"\"\n  }\n}\n";
        assert_eq!(file(&record), ("json", expected.to_owned()), "in the order of the template");
    }
}
