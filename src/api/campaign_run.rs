//! `CampaignRun`: one execution of a campaign, made by the controller or by `kubectl create`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NEVER_OBSERVED, name::Label};

#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "campanile.dev",
    version = "v1alpha1",
    kind = "CampaignRun",
    namespaced,
    status = "CampaignRunStatus",
    shortname = "run",
    category = "campanile",
    derive = "PartialEq",
    doc = "One execution of a campaign. It pins the revision of everything it uses, so an edit never changes a run in flight.",
    printcolumn(name = "Campaign", type_ = "string", json_path = ".spec.campaign"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Entered", type_ = "integer", json_path = ".status.totals.entered"),
    printcolumn(name = "Sent", type_ = "integer", json_path = ".status.totals.sent"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.totals.failed"),
    printcolumn(name = "Excluded", type_ = "integer", json_path = ".status.totals.excluded"),
    printcolumn(name = "Waiting", type_ = "integer", json_path = ".status.totals.waiting"),
    printcolumn(name = "In Doubt", type_ = "integer", json_path = ".status.totals.inDoubt", priority = 1),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.campaign == oldSelf.campaign && self.mode == oldSelf.mode && has(self.scheduledTime) == has(oldSelf.scheduledTime) && (!has(self.scheduledTime) || self.scheduledTime == oldSelf.scheduledTime) && has(self.remainderOf) == has(oldSelf.remainderOf) && (!has(self.remainderOf) || self.remainderOf == oldSelf.remainderOf)", "a run is immutable but for cancel"),
    validation = ("self.cancel || !oldSelf.cancel", "a run that was cancelled stays cancelled")
)]
pub struct CampaignRunSpec {
    pub campaign: Label,
    pub mode: Mode,
    /// The nominal start, which rules and templates see as `now`; the run's creation where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_time: Option<Time>,
    /// A run of the same campaign: what waits there is cancelled, and goes to exactly those people as declared now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remainder_of: Option<Label>,
    /// From false to true: what waits is cancelled.
    #[serde(default)]
    pub cancel: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// Sends, as far as the process' delivery gate allows.
    Live,
    /// Evaluates and counts every step, sends nothing and reserves nothing.
    DryRun,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CampaignRunStatus {
    #[serde(default = "super::crd::never_observed")]
    pub observed_generation: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_time: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// When the sources of its data were last looked at, the oldest of them, as the run was planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_as_of: Option<Time>,
    /// The hash of everything the run uses; the store keeps the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// What the process did with the messages: `outbox`, `live`, `redirect` or `allowlist`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivers: Option<String>,
    #[serde(default)]
    pub totals: Totals,
    /// How far the store had come with this run; a store that is behind it was restored from a backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high_water: Option<HighWater>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub steps: Vec<StepStatus>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["step"]))]
    pub channels: Vec<ChannelStepStatus>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl Default for CampaignRunStatus {
    fn default() -> Self {
        Self {
            observed_generation: NEVER_OBSERVED,
            scheduled_time: None,
            started_at: None,
            completed_at: None,
            data_as_of: None,
            revision: None,
            delivers: None,
            totals: Totals::default(),
            high_water: None,
            steps: vec![],
            channels: vec![],
            conditions: vec![],
        }
    }
}

/// `entered = sent + failed + excluded + expired + cancelled + inDoubt + waiting`, always. What came back is counted
/// beside it: of how many messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    #[serde(default)]
    pub entered: i64,
    #[serde(default)]
    pub sent: i64,
    #[serde(default)]
    pub failed: i64,
    #[serde(default)]
    pub excluded: i64,
    #[serde(default)]
    pub expired: i64,
    #[serde(default)]
    pub cancelled: i64,
    #[serde(default)]
    pub in_doubt: i64,
    #[serde(default)]
    pub waiting: i64,
    #[serde(default, skip_serializing_if = "is_none")]
    pub delivered: i64,
    #[serde(default, skip_serializing_if = "is_none")]
    pub bounced: i64,
    #[serde(default, skip_serializing_if = "is_none")]
    pub complained: i64,
    #[serde(default, skip_serializing_if = "is_none")]
    pub opened: i64,
    #[serde(default, skip_serializing_if = "is_none")]
    pub clicked: i64,
}

/// A channel that tells nothing back has no counts of it.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_none(count: &i64) -> bool {
    *count == 0
}

impl Totals {
    /// Whether every recipient that entered is in exactly one of the other counts.
    pub fn is_conserved(&self) -> bool {
        self.entered
            == self.sent + self.failed + self.excluded + self.expired + self.cancelled + self.in_doubt + self.waiting
    }
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.entered += other.entered;
        self.sent += other.sent;
        self.failed += other.failed;
        self.excluded += other.excluded;
        self.expired += other.expired;
        self.cancelled += other.cancelled;
        self.in_doubt += other.in_doubt;
        self.waiting += other.waiting;
        self.delivered += other.delivered;
        self.bounced += other.bounced;
        self.complained += other.complained;
        self.opened += other.opened;
        self.clicked += other.clicked;
    }
}

/// Counts of a run that never fall.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HighWater {
    /// Messages that a worker has taken up.
    pub claimed: i64,
    /// Messages with an outcome that no person has to decide.
    pub settled: i64,
}

impl HighWater {
    pub fn is_behind(&self, mirrored: &Self) -> bool {
        self.claimed < mirrored.claimed || self.settled < mirrored.settled
    }
}

/// One output of one step: how many rows, and the table in which a person can read them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// `step`, or `step.branch`.
    pub name: String,
    pub out: i64,
    /// Rows that the step left out and no output of it has: duplicates, what matched nothing, what no branch took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    #[serde(default)]
    pub state: StepPhase,
    /// When a step that waits goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StepPhase {
    /// It was evaluated.
    #[default]
    Done,
    /// Its rows are there and go on later.
    Waiting,
    /// It stands behind a step that waits.
    Pending,
    /// The run ended before it.
    Cancelled,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChannelStepStatus {
    pub step: String,
    #[serde(flatten)]
    pub totals: Totals,
    /// Why messages were excluded or failed, counted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub reasons: BTreeMap<String, i64>,
    /// Messages sent again though they may have arrived (`onDoubt: Resend`).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub resent: i64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &i64) -> bool {
    *n == 0
}
