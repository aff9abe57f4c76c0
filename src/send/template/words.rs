//! A message's words for one person.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Words {
    Mail {
        subject: String,
        text: Option<String>,
        html: Option<String>,
    },
    Text(String),
    Push {
        title: String,
        body: String,
        data: BTreeMap<String, String>,
        /// What takes the place of what.
        collapse: Option<String>,
    },
    /// Named values, in the template's order.
    Record(Vec<(String, String)>),
}

impl Words {
    /// What stands above the message, if its medium has such a line.
    pub fn subject(&self) -> &str {
        match self {
            Self::Mail { subject, .. } => subject,
            Self::Push { title, .. } => title,
            Self::Text(_) | Self::Record(_) => "",
        }
    }

    /// The message as text; mail may have none.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Mail { text, .. } => text.as_deref().map(Cow::Borrowed),
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::Push { body, data, .. } if data.is_empty() => Some(Cow::Borrowed(body)),
            Self::Push { body, data, .. } => Some(Cow::Owned(format!("{body}\n{}", lines(data)))),
            Self::Record(values) => Some(Cow::Owned(lines(values.iter().map(|(name, value)| (name, value))))),
        }
    }

    pub fn html(&self) -> Option<&str> {
        match self {
            Self::Mail { html, .. } => html.as_deref(),
            _ => None,
        }
    }
}

fn lines<'a>(values: impl IntoIterator<Item = (&'a String, &'a String)>) -> String {
    values.into_iter().fold(String::new(), |mut out, (name, value)| {
        // Writing to a text cannot fail.
        let _ = writeln!(out, "{name}: {value}");
        out
    })
}
