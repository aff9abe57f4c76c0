//! The steps of a campaign: a name, an input and exactly one activity.
//!
//! ```yaml
//! steps:
//! - name: overdue
//!   audience: {ref: overdue-rentals}
//! - name: mail
//!   email: {channel: newsletter, template: reminder, per: rental}
//! ```

mod channel;
mod flow;
mod share;
mod targeting;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use channel::{MessageStep, OnDoubt, Once, Record, Throttle};
pub use flow::{Case, Choose, Join, TimeOfDay, Wait};
pub use share::Share;
pub use targeting::{
    AudienceStep, Branch, ChangeEntity, Deduplicate, Direction, Enrich, Incremental, Intersect, Keep, Match, Prefer,
    Progress, Random, SaveAudience, Shape, Split, Subtract, Unconfirmed, Union,
};

use super::{medium::Medium, name::Label};

/// A node of the graph. `from` names the input; without it the step before is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    pub name: Label,
    /// `step`, or `step.branch` where the step has several outputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 127))]
    pub from: Option<String>,
    /// Says that nobody reads this step's output on purpose.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unused: bool,
    #[serde(flatten)]
    pub activity: Activity,
}

/// What a step does. What an activity leaves out is counted, and is an output of its own where `rest` names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Activity {
    Audience(AudienceStep),
    Unconfirmed(Unconfirmed),
    Incremental(Incremental),
    Match(Match),
    ChangeEntity(ChangeEntity),
    Union(Union),
    Intersect(Intersect),
    Subtract(Subtract),
    Deduplicate(Deduplicate),
    Split(Split),
    Enrich(Enrich),
    SaveAudience(SaveAudience),
    Choose(Choose),
    Wait(Wait),
    Join(Join),
    Email(MessageStep),
    Sms(MessageStep),
    Push(MessageStep),
    DirectMail(MessageStep),
    Http(MessageStep),
}

impl Activity {
    /// The word that the author wrote.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Audience(_) => "audience",
            Self::Unconfirmed(_) => "unconfirmed",
            Self::Incremental(_) => "incremental",
            Self::Match(_) => "match",
            Self::ChangeEntity(_) => "changeEntity",
            Self::Union(_) => "union",
            Self::Intersect(_) => "intersect",
            Self::Subtract(_) => "subtract",
            Self::Deduplicate(_) => "deduplicate",
            Self::Split(_) => "split",
            Self::Enrich(_) => "enrich",
            Self::SaveAudience(_) => "saveAudience",
            Self::Choose(_) => "choose",
            Self::Wait(_) => "wait",
            Self::Join(_) => "join",
            Self::Email(_) => "email",
            Self::Sms(_) => "sms",
            Self::Push(_) => "push",
            Self::DirectMail(_) => "directMail",
            Self::Http(_) => "http",
        }
    }

    /// What a channel step sends, and by which medium.
    pub fn message(&self) -> Option<(Medium, &MessageStep)> {
        match self {
            Self::Email(message) => Some((Medium::Email, message)),
            Self::Sms(message) => Some((Medium::Sms, message)),
            Self::Push(message) => Some((Medium::Push, message)),
            Self::DirectMail(message) => Some((Medium::Postal, message)),
            Self::Http(message) => Some((Medium::Http, message)),
            _ => None,
        }
    }

    pub fn message_mut(&mut self) -> Option<&mut MessageStep> {
        match self {
            Self::Email(message)
            | Self::Sms(message)
            | Self::Push(message)
            | Self::DirectMail(message)
            | Self::Http(message) => Some(message),
            _ => None,
        }
    }

    /// The MessageTemplate of a channel step.
    pub fn template(&self) -> Option<&str> {
        self.message().map(|(_, message)| &*message.template)
    }
}
