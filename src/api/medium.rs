//! By what a message reaches a person, whoever carries it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// By what people are written to, where an author says it in a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Written {
    #[default]
    Email,
    /// Numbers as E.164 writes them.
    Sms,
}

impl From<Written> for Medium {
    fn from(by: Written) -> Self {
        match by {
            Written::Email => Self::Email,
            Written::Sms => Self::Sms,
        }
    }
}

/// People consent to a topic by medium, and have an address for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Medium {
    Email,
    Sms,
    Push,
    Postal,
    /// What is told to a system, about a person.
    Http,
}

impl Medium {
    pub const ALL: [Self; 5] = [Self::Email, Self::Sms, Self::Push, Self::Postal, Self::Http];

    /// As consent and addresses are kept under.
    pub fn word(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Sms => "sms",
            Self::Push => "push",
            Self::Postal => "postal",
            Self::Http => "http",
        }
    }

    /// As a step, a section of a template, and a channel are called.
    pub fn step(self) -> &'static str {
        match self {
            Self::Postal => "directMail",
            other => other.word(),
        }
    }
}
