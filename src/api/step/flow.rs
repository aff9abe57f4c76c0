//! The steps that say when, and whether, a run goes on.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{duration::Duration, name::Label};

/// The whole set goes to the first branch whose condition on counts holds; the other branches are empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Choose {
    #[schemars(length(min = 1, max = 32))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub branches: Vec<Case>,
    /// The output where no condition holds. Without it the set leaves the campaign, counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<Label>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Case {
    pub name: Label,
    /// A rule over the counts of earlier outputs, such as `counts.trips >= 1000`. In their names `-` and `.` are `_`.
    #[schemars(length(min = 1, max = 1024))]
    pub when: String,
    /// Says that nobody reads this branch on purpose.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unused: bool,
}

/// The run goes on with the set later. What is sent beside it is not held up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Wait {
    /// So long after the set was there.
    For(Duration),
    /// Until an instant; one that is past is not waited for.
    Until(Time),
    /// Until it is next so late in a time zone.
    TimeOfDay(TimeOfDay),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimeOfDay {
    /// Hours and minutes: `09:00`.
    #[schemars(length(max = 5), regex(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub at: String,
    /// An IANA name.
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
}

/// Goes on with the first set once all of them are there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Join {
    /// The steps that are waited for. The rows are those of the first; the others may be of other entities.
    #[schemars(length(min = 2, max = 32), inner(length(min = 1, max = 127)))]
    pub of: Vec<String>,
}
