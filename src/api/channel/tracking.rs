//! What is known of who opens a message and follows its links.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::name::Label;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "has(self.consentTopic) || (self.opens != 'Individual' && self.clicks != 'Individual')",
    "Individual tracking names the consentTopic under which a person allows it"
))]
pub struct Tracking {
    #[serde(default = "off")]
    pub opens: Tracks,
    #[serde(default)]
    pub clicks: Tracks,
    /// The topic of the dataset by which a person allows to be told apart by what she opens and clicks. Who has not is
    /// counted without her, as with `Aggregate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent_topic: Option<Label>,
}

impl Default for Tracking {
    fn default() -> Self {
        Self { opens: Tracks::Off, clicks: Tracks::Aggregate, consent_topic: None }
    }
}

fn off() -> Tracks {
    Tracks::Off
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Tracks {
    Off,
    /// Counted without the person.
    #[default]
    Aggregate,
    /// An event of the person's message, if she allows it.
    Individual,
}
