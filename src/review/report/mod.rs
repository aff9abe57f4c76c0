//! What `campanile plan` says, as one value that every face is written from.
//!
//! | file | what |
//! | --- | --- |
//! | [`compose`] | makes the report: trees, a store and a moment go in |
//! | [`figure`] | numbers that may be unknown, or not for everybody |
//! | `lines` | the sentences that text, Markdown and HTML share |
//! | [`text`] | for a terminal |
//! | [`markdown`] | for a comment on a pull request, within its limit |
//! | [`html`] | one page that needs nothing else, with the graph drawn |
//! | [`json`] | for machines, with a published schema |
//!
//! Nothing personal gets into it: figures, words of authors, and messages for declared personas or masked people.

pub mod compose;
pub mod figure;
mod graph;
pub mod html;
pub mod json;
mod lines;
pub mod markdown;
pub mod text;

use schemars::JsonSchema;
use serde::Serialize;

use crate::send::segments::Extent;

pub use figure::{Figure, Tally};

/// Raised when a field changes its meaning or goes; fields may be added.
pub const VERSION: u32 = 1;

/// All that is said of a change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub version: u32,
    /// `now` of the rules, RFC 3339.
    pub now: String,
    /// What the change is compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Where the rows were counted.
    pub counted: String,
    /// For a pull request of strangers: no count is exact.
    pub untrusted: bool,
    /// Objects that differ from base.
    pub objects: Vec<ObjectChange>,
    /// The campaigns that the change touches; without a base all of them.
    pub campaigns: Vec<CampaignView>,
    /// What `campanile validate` says.
    pub findings: Vec<FindingView>,
    /// What a report has a place for and the program does not have yet.
    pub not_built: Vec<NotBuilt>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    Added,
    Changed,
    Removed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectChange {
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub change: Change,
    /// What changed, a sentence for each field.
    pub words: Vec<String>,
    /// The campaigns that are touched by it.
    pub campaigns: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CampaignView {
    pub namespace: String,
    pub name: String,
    pub topic: String,
    /// Why it is here, such as `audience vip changed`.
    pub because: Vec<String>,
    /// What the change means for it beside its figures.
    pub notes: Vec<String>,
    pub schedule: ScheduleView,
    /// Why its rows are unknown, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// Why a run would be held: guards, audiences that are due.
    pub held: Vec<String>,
    pub steps: Vec<StepView>,
    pub negations: Vec<NegationView>,
    pub samples: Vec<SampleView>,
    /// Others that reach the same people within a week.
    pub overlaps: Vec<OverlapView>,
    /// The run that `last` figures are of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleView {
    pub words: String,
    /// In the campaign's zone, as a person reads them.
    pub next: Vec<String>,
    /// The same instants, RFC 3339.
    pub next_at: Vec<String>,
    /// It starts no more by itself: figures are those of a run that is made by hand.
    pub is_over: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepView {
    pub name: String,
    /// The word of its activity.
    pub activity: String,
    /// The outputs that it works on.
    pub reads: Vec<String>,
    pub outputs: Vec<OutputView>,
    /// Rows that it leaves out, where no output has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<Tally>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<MessagesView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputView {
    pub name: String,
    pub entity: String,
    pub rows: Tally,
}

/// What comes of a channel step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessagesView {
    pub channel: String,
    pub template: String,
    /// Of letters: the file that they make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<FileView>,
    pub entered: Tally,
    pub excluded: Vec<ExcludedView>,
    /// Messages that nothing holds back when it is counted.
    pub sent: Tally,
    /// What they come to, if their channel declares a price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<CostView>,
}

/// What the messages of a step come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CostView {
    /// Of one message or segment, a decimal.
    pub price: String,
    pub currency: String,
    /// `message` or `segment`.
    pub per: String,
    /// Segments of the samples, where the price is for each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segments_least: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segments_most: Option<usize>,
    /// Of all messages; absent where nobody knows how many they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most: Option<String>,
    /// `≈12.30 to 24.60 EUR`
    pub amount: String,
    pub words: String,
}

/// What a printing house would get, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileView {
    /// `{run}` stands for the run's name.
    pub url: String,
    pub format: String,
    pub columns: Vec<String>,
    /// Rows of the sender's own behind those that are counted.
    pub seeds: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExcludedView {
    /// One of the reasons that a run counts.
    pub reason: String,
    pub words: String,
    pub rows: Tally,
}

/// Rows that are in only because a field is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NegationView {
    pub output: String,
    pub clause: String,
    pub fields: Vec<String>,
    pub rows: Figure,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SampleView {
    pub step: String,
    pub channel: String,
    /// The persona's name, or a masked key.
    pub who: String,
    pub is_persona: bool,
    pub locale: String,
    /// Why it cannot be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    pub subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Of the whole message as it leaves, without a signature.
    pub size_bytes: usize,
    /// Of a text: its alphabet, its segments, and the character that decides for the alphabet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extent: Option<Extent>,
    /// Against base: lines that begin with a space, `-` or `+`. Absent without a base.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OverlapView {
    pub campaign: String,
    /// When it starts, in its zone.
    pub starts: String,
    /// People whom both would write to.
    pub people: Figure,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FindingView {
    /// `error` or `warning`.
    pub severity: String,
    pub id: String,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotBuilt {
    pub what: String,
    pub note: String,
}

impl CampaignView {
    /// Messages of all channel steps.
    pub fn sent(&self) -> Tally {
        Tally::sum(self.steps.iter().filter_map(|step| step.messages.as_ref()).map(|messages| &messages.sent))
    }

    /// With the namespace, where that is not the usual one.
    pub fn called(&self) -> String {
        called(&self.namespace, &self.name)
    }
}

pub fn called(namespace: &str, name: &str) -> String {
    if namespace == "default" { name.to_owned() } else { format!("{namespace}/{name}") }
}
