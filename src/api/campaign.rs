//! `Campaign`: when, to whom, through which steps.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NEVER_OBSERVED, campaign_run::Totals, duration::Duration, expect::Expect, name::Label, step::Step};

/// A run's name is the campaign's, a dash and fourteen digits; a label value ends at 63 characters.
pub const CAMPAIGN_NAME_CHARS_MAX: usize = 45;

#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "campanile.dev",
    version = "v1alpha1",
    kind = "Campaign",
    namespaced,
    status = "CampaignStatus",
    shortname = "camp",
    category = "campanile",
    derive = "PartialEq",
    doc = "When, to whom, through which steps: a planned, audience-based communication.",
    validation = ("self.metadata.name.size() <= 45", "a campaign's name has at most 45 characters"),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".status.schedule"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.next"),
    printcolumn(name = "Last Run", type_ = "string", json_path = ".status.lastRun"),
    printcolumn(name = "Sent", type_ = "integer", json_path = ".status.totals.sent"),
    printcolumn(name = "Excluded", type_ = "integer", json_path = ".status.totals.excluded"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct CampaignSpec {
    pub dataset: Label,
    /// The topic of the dataset that people must agree to.
    pub topic: Label,
    /// The ContactPolicies that it respects; of several the strictest holds. Without one the defaults hold, which
    /// suppress an address after a hard bounce, a complaint, or five soft bounces in thirty days.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub policies: Vec<Label>,
    /// Without a schedule runs are made by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// No new runs, and sending pauses within a second.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// What a run in flight does when its campaign is deleted.
    #[serde(default)]
    pub on_delete: OnDelete,
    /// Earlier names of this campaign, whose history and fences it takes over: a rename sends nothing again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub formerly: Vec<Label>,
    /// How many recipients a run has when nothing went wrong; outside, it is held and nothing is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
    #[serde(default)]
    pub history: History,
    #[schemars(length(min = 1, max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub steps: Vec<Step>,
}

impl CampaignSpec {
    /// What the store may know a campaign of this name by: its name, and those that it had before.
    pub fn names<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        [name].into_iter().chain(self.formerly.iter().map(|former| &**former))
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.cron) || has(self.timeZone)", "a cron schedule names its timeZone"))]
pub struct Schedule {
    #[serde(flatten)]
    pub start: Start,
    /// The zone of a cron schedule (IANA name).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// A start later than this is not made up but recorded as missed.
    #[serde(default = "starting_deadline")]
    pub starting_deadline: Duration,
    /// What happens when a run is due while an earlier one still has first attempts to make.
    #[serde(default)]
    pub overlap: Overlap,
}

fn starting_deadline() -> Duration {
    Duration::from_hours(1)
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Start {
    /// Five fields, or six with seconds first.
    Cron(String),
    /// One instant, with its offset.
    At(Time),
    Immediate(Immediate),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Immediate {
    /// After this instant the campaign does not start by itself; required at live delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Overlap {
    /// The new run is skipped, with an event.
    #[default]
    Forbid,
    /// The new run waits for the earlier one.
    Queue,
    /// The earlier run is cancelled.
    Replace,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnDelete {
    /// What waits stays waiting; a campaign of the same name takes it up again.
    #[default]
    Hold,
    /// What waits is cancelled.
    Cancel,
}

/// How many finished CampaignRun objects are kept; the store keeps the history of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct History {
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 100))]
    pub succeeded: u16,
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 100))]
    pub failed: u16,
}

fn three() -> u16 {
    3
}

impl Default for History {
    fn default() -> Self {
        Self { succeeded: three(), failed: three() }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CampaignStatus {
    #[serde(default = "super::crd::never_observed")]
    pub observed_generation: i64,
    /// The schedule in words: `0 9 * * * Europe/Rome`, `at …`, `immediate`, `by hand`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// The next start in the campaign's zone, or `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_start: Option<Time>,
    /// The newest run by name, or `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<String>,
    /// The runs that still work, newest first, at most ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub active: Vec<String>,
    /// Starts that were skipped: missed, overlapped, while suspended.
    #[serde(default)]
    pub skipped: i64,
    /// The revision that the next run would pin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Counts over all runs of this name.
    #[serde(default)]
    pub totals: Totals,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl Default for CampaignStatus {
    fn default() -> Self {
        Self {
            observed_generation: NEVER_OBSERVED,
            schedule: None,
            next: None,
            next_start: None,
            last_run: None,
            active: vec![],
            skipped: 0,
            revision: None,
            totals: Totals::default(),
            conditions: vec![],
        }
    }
}
