//! What people agree to, and where a file says that they did.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{
    medium::Medium,
    name::{Label, Word},
};

/// What a person agrees to hear about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.category == 'Transactional' || has(self.consent)", "a Marketing topic says where consent is read from"),
    validation = ("self.category == 'Marketing' || !has(self.requires)", "a Transactional topic requires nothing"))]
pub struct Topic {
    pub name: Label,
    pub category: Category,
    /// The topic's title by locale.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub title: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<TopicConsent>,
    /// `Confirmed`: what a file or another system says is `Pending` until the person confirms it herself (double opt-in).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires: Option<Requires>,
}

/// What it takes beside a person's consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Requires {
    Confirmed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Category {
    Marketing,
    /// Needs no opt-in.
    Transactional,
}

/// Consent per medium.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopicConsent {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<ConsentField>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sms: Option<ConsentField>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<ConsentField>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postal: Option<ConsentField>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<ConsentField>,
}

impl TopicConsent {
    /// Where consent stands for each medium that says so.
    pub fn all(&self) -> impl Iterator<Item = (Medium, &ConsentField)> {
        let all = [
            (Medium::Email, &self.email),
            (Medium::Sms, &self.sms),
            (Medium::Push, &self.push),
            (Medium::Postal, &self.postal),
            (Medium::Http, &self.http),
        ];
        all.into_iter().filter_map(|(medium, field)| Some((medium, field.as_ref()?)))
    }

    pub fn of(&self, medium: Medium) -> Option<&ConsentField> {
        self.all().find(|(of, _)| *of == medium).map(|(_, field)| field)
    }
}

/// Where consent stands in the files: a Boolean field of the profile, and when it last changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsentField {
    pub field: Word,
    /// The field that says when `field` changed. Without it a file may withdraw but never grant again after an opt-out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Word>,
    /// A Boolean field that says whether the person has confirmed already, where the topic `requires: Confirmed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<Word>,
    /// What holds where the field is missing and nothing is recorded.
    #[serde(default)]
    pub default: ConsentDefault,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConsentDefault {
    #[default]
    OptedOut,
    OptedIn,
}
