//! The steps of a campaign: a name, an input and exactly one activity.
//!
//! ```yaml
//! steps:
//! - name: overdue
//!   audience: {ref: overdue-rentals}
//! - name: mail
//!   email: {channel: newsletter, template: reminder, per: rental}
//! ```

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    audience::Parameter,
    duration::Duration,
    name::{Label, Word},
};

/// A node of the graph. `from` names the input; without it the step before is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    pub name: Label,
    /// `step`, or `step.branch` behind a split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 127))]
    pub from: Option<String>,
    /// Says that nobody reads this step's output on purpose.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unused: bool,
    #[serde(flatten)]
    pub activity: Activity,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Activity {
    Audience(AudienceStep),
    Split(Split),
    Deduplicate(Deduplicate),
    Union(SetOf),
    Intersect(SetOf),
    Subtract(Subtract),
    ChangeEntity(ChangeEntity),
    Email(Email),
}

impl Activity {
    /// The word that the author wrote.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Audience(_) => "audience",
            Self::Split(_) => "split",
            Self::Deduplicate(_) => "deduplicate",
            Self::Union(_) => "union",
            Self::Intersect(_) => "intersect",
            Self::Subtract(_) => "subtract",
            Self::ChangeEntity(_) => "changeEntity",
            Self::Email(_) => "email",
        }
    }
}

impl Activity {
    /// The MessageTemplate of a channel step.
    pub fn template(&self) -> Option<&str> {
        match self {
            Self::Email(email) => Some(&email.template),
            _ => None,
        }
    }
}

/// Starts from a named audience, or from a rule written here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.ref) != has(self.where)", "an audience step has either ref, or entity and where"),
    validation = ("has(self.where) == has(self.entity)", "an inline audience has both entity and where")
)]
pub struct AudienceStep {
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Label>,
    /// Values for the audience's parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub params: BTreeMap<String, Parameter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<Word>,
    #[serde(rename = "where", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8192))]
    pub rule: Option<String>,
}

/// Each row goes to the first branch whose rule holds, the others to `rest`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.rest) || !self.branches.exists(b, b.name == self.rest)", "rest must not have the name of a branch"))]
pub struct Split {
    #[schemars(length(min = 1, max = 32))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub branches: Vec<Branch>,
    /// The name of the output for those that no branch took. Without it they leave the campaign, counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<Label>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Branch {
    pub name: Label,
    #[serde(rename = "where")]
    #[schemars(length(min = 1, max = 8192))]
    pub rule: String,
    /// Says that nobody reads this branch on purpose.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unused: bool,
}

/// Keeps the first or last `count` rows of each group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deduplicate {
    /// The fields or to-one paths that make a group.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 256)))]
    pub by: Vec<String>,
    pub keep: Keep,
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub count: u16,
}

fn one() -> u16 {
    1
}

/// By which field or to-one path the rows of a group are ordered; ties go to the lower key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Keep {
    First(String),
    Last(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SetOf {
    /// The steps that are combined; all are sets of one entity.
    #[schemars(length(min = 2, max = 32), inner(length(min = 1, max = 127)))]
    pub of: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Subtract {
    #[schemars(length(min = 1, max = 127))]
    pub from: String,
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 127)))]
    pub minus: Vec<String>,
}

/// From a set of one entity to the rows of another that its links lead to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangeEntity {
    pub to: Word,
    /// The links, beginning with the set's entity: `inventory.rentals.customer`.
    #[schemars(length(min = 1, max = 512))]
    pub via: String,
}

/// One email for each row of the set, or for each person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Email {
    pub channel: Label,
    pub template: Label,
    /// The set's own entity (one message per row, the default) or `profile` (the first row by key; the others are `Duplicate`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per: Option<Word>,
    /// The to-one path to the profile; named only where there are none or several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub recipient: Option<String>,
    /// The field with the address; the profile's own unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub to: Option<String>,
    /// Never again for this item by this campaign, in any run. Default: ever for `at`, `immediate` and runs made by hand, off for `cron`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<Once>,
    /// No attempt starts later than this after the run was planned. Default: 24h for Marketing, 84h for Transactional.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_after: Option<Duration>,
    /// What happens to a message whose fate nobody knows. `Hold`: a person decides (`campanile get indoubt`).
    /// `Resend`: it is sent again with the same Message-ID, and counted.
    #[serde(default, skip_serializing_if = "OnDoubt::is_hold")]
    pub on_doubt: OnDoubt,
    /// How fast this step sends, over all workers; the channel's own rate holds beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<Throttle>,
    /// What is kept of each message beside its outcome. `Fields`: what it was written from, so that it can be shown again
    /// byte for byte. `Hash`: a keyed hash of that. `None`: nothing.
    #[serde(default, skip_serializing_if = "Record::is_fields")]
    pub record: Record,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Record {
    #[default]
    Fields,
    Hash,
    None,
}

impl Record {
    fn is_fields(&self) -> bool {
        *self == Self::Fields
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Throttle {
    #[schemars(range(min = 1, max = 100000))]
    pub per_second: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnDoubt {
    #[default]
    Hold,
    Resend,
}

impl OnDoubt {
    fn is_hold(&self) -> bool {
        *self == Self::Hold
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.within) != has(self.ever)", "once has exactly one of within, ever"))]
pub struct Once {
    /// Not again within this time of the last message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Duration>,
    /// `true`: never again. `false`: every run may send again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ever: Option<bool>,
}
