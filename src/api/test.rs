//! `Test`: what is expected of a campaign or an audience on a few rows of data, beside the manifests. It is no custom
//! resource: no cluster has it and no home reconciles it, only `campanile test` reads it.
//!
//! ```yaml
//! apiVersion: test.campanile.dev/v1alpha1
//! kind: Test
//! metadata: {name: reminders}
//! spec:
//!   campaign: overdue-reminders
//!   now: 2026-03-01T09:00:00Z
//!   data:
//!     customer: [{customer_id: 1, first_name: Zoë, email: zoe@example.com}]
//!     rental: {csv: fixtures/rental.csv}
//!   cases:
//!   - name: who has a film for too long is reminded
//!     steps: {overdue: {in: [11], out: [12]}}
//!     messages: [{step: mail, for: 11, subject: {contains: Alien}}]
//! ```

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{audience::Parameter, name::Label};

/// The group of what is expected; homes pass over what is not of ours.
pub const TEST_GROUP: &str = "test.campanile.dev";

#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "test.campanile.dev",
    version = "v1alpha1",
    kind = "Test",
    namespaced,
    derive = "PartialEq",
    doc = "What is expected of a campaign or an audience on a few rows of data."
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.campaign) != has(self.audience)", "a test is of exactly one of campaign, audience"))]
pub struct TestSpec {
    /// What is run in each case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaign: Option<Label>,
    /// What is evaluated in each case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<Label>,
    /// The run's nominal time, and the clock's.
    pub now: Time,
    /// Rows by entity, typed as the Dataset says; entities that are not named are empty.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub data: BTreeMap<String, Rows>,
    /// Keys of audiences that are filled from elsewhere: `saved`, `import` or `sql`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub audiences: BTreeMap<String, Keys>,
    #[schemars(length(min = 1, max = 1000))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub cases: Vec<Case>,
}

/// Expectations that share a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Case {
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// Another time than the test's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<Time>,
    /// Rows beside the test's; of one key these count, field by field.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub data: BTreeMap<String, Rows>,
    /// When the campaign ran before, for `once`, `incremental` and rules over what was sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub earlier: Vec<Time>,
    /// Values for an audience's parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub params: BTreeMap<String, Parameter>,
    /// Who is in the audience.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<Members>,
    /// Who is in the outputs of steps, such as `spend.gold`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 128))]
    pub steps: BTreeMap<String, Members>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub messages: Vec<Message>,
    /// How many messages of channel steps end how.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub counts: BTreeMap<String, Counts>,
    /// The next starts by the campaign's schedule after `now`, from the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub starts: Vec<Time>,
    /// The run fails, and what it says contains this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub fault: Option<String>,
    /// The run is held, and what it says contains this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub held: Option<String>,
}

/// Keys of a set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Members {
    /// They are in it.
    #[serde(default, rename = "in", skip_serializing_if = "Option::is_none")]
    pub inside: Option<Keys>,
    /// They are not in it.
    #[serde(default, rename = "out", skip_serializing_if = "Option::is_none")]
    pub outside: Option<Keys>,
    /// They are in it, and nobody else is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Keys>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub size: Option<i64>,
}

/// A message about one row: that it is sent, unless something else is said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    pub step: Label,
    /// The key of the row.
    #[serde(rename = "for")]
    pub of: Key,
    #[serde(default)]
    pub outcome: ExpectedOutcome,
    /// Why it is not sent, such as `NoConsent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub reason: Option<String>,
    /// The address that it goes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 320))]
    pub to: Option<String>,
    /// The template's variant that it is written in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub locale: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Words>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Words>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<Words>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExpectedOutcome {
    #[default]
    Sent,
    Excluded,
    Failed,
    /// There is none: the row does not come to the step.
    Absent,
}

impl ExpectedOutcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "Sent",
            Self::Excluded => "Excluded",
            Self::Failed => "Failed",
            Self::Absent => "Absent",
        }
    }
}

/// What a part of a message says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Words {
    /// It is exactly this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub is: Option<String>,
    /// One text, or several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<Texts>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacks: Option<Texts>,
}

/// How many messages of a step end how; what is not named is not looked at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub entered: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub sent: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub excluded: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub failed: Option<i64>,
}

/// Rows as they are, or a file beside the test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Rows {
    Listed(Vec<Map<String, Value>>),
    File(RowsFile),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowsFile {
    /// CSV with a header row, relative to the test.
    pub csv: String,
}

/// A key: one value, or the list of its parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(pub Value);

/// Keys, in a list. `[1, 2]`, or `[[a, 1], [a, 2]]` where a key has several fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Keys(pub Vec<Key>);

/// One text, or several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Texts {
    One(String),
    Several(Vec<String>),
}

impl Texts {
    pub fn all(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Several(texts) => texts,
        }
    }
}

untyped!(Rows);
untyped!(Key);
untyped!(Keys);
untyped!(Texts);
