//! The channel steps: what is sent to whom.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{
    duration::Duration,
    name::{Label, Word},
};

/// One message for each row of the set, or for each person: what all channels share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageStep {
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
    /// `Resend`: it is sent again under the same id (mail: Message-ID), and counted.
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
