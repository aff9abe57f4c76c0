//! Where desired state comes from and status goes to: a folder or a cluster.
//!
//! Both fill one [`catalog::Catalog`] and wake whoever depends on what changed; both take statuses, runs and events
//! back through [`Source`]. The reconcilers know nothing else of where they live.

pub mod admission;
pub mod catalog;
pub mod cluster;
pub mod declared;
pub mod directory;
pub mod manifest;

use std::fmt;

use async_trait::async_trait;
use serde_json::Value;

use crate::{
    api::{CampaignRunSpec, condition::Reason},
    send::providers::Secret,
    store::recovery::Mark,
};

/// Our kinds, in the order in which they refer to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Dataset,
    Audience,
    Channel,
    MessageTemplate,
    ContactPolicy,
    Campaign,
    CampaignRun,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::Dataset,
        Self::Audience,
        Self::Channel,
        Self::MessageTemplate,
        Self::ContactPolicy,
        Self::Campaign,
        Self::CampaignRun,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dataset => "Dataset",
            Self::Audience => "Audience",
            Self::Channel => "Channel",
            Self::MessageTemplate => "MessageTemplate",
            Self::ContactPolicy => "ContactPolicy",
            Self::Campaign => "Campaign",
            Self::CampaignRun => "CampaignRun",
        }
    }

    /// The kind of that name, exactly as manifests write it.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One object's identity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub kind: Kind,
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// None if the kind is not one of ours.
    pub fn named(kind: &str, namespace: &str, name: &str) -> Option<Self> {
        Kind::named(kind).map(|kind| Self::new(kind, namespace, name))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// An event's weight, as Kubernetes has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    Normal,
    Warning,
}

impl Weight {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// What the source could not do; it is asked again.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

/// A home's way back: statuses, runs and events.
#[async_trait]
pub trait Source: Send + Sync {
    /// Writes an object's status; the caller has seen that it changed.
    async fn write_status(&self, key: &Key, status: Value) -> Result<(), Failure>;
    /// Makes a run's object, owned by its campaign; one that is there already stays.
    async fn create_run(&self, namespace: &str, name: &str, spec: &CampaignRunSpec) -> Result<(), Failure>;
    /// Deletes a run's object whose history is full; the store keeps the run.
    async fn delete_run(&self, namespace: &str, name: &str) -> Result<(), Failure>;
    /// Holds an object that is deleted until its reconciler has cleaned up, or lets it go.
    async fn hold(&self, key: &Key, is_held: bool) -> Result<(), Failure>;
    async fn event(&self, key: &Key, weight: Weight, reason: Reason, message: &str);
}

/// How far a run had come, by its object; none before it was planned.
pub(crate) fn mark_of(key: &Key, spec: &Value, status: &Value) -> Option<Mark> {
    let water = status.get("highWater").filter(|_| key.kind == Kind::CampaignRun)?;
    let scheduled = status["scheduledTime"].as_str().and_then(|text| text.parse().ok());
    Some(Mark {
        namespace: key.namespace.clone(),
        run: key.name.clone(),
        campaign: spec["campaign"].as_str()?.to_owned(),
        scheduled: scheduled.unwrap_or(jiff::Timestamp::UNIX_EPOCH),
        water: serde_json::from_value(water.clone()).ok()?,
    })
}

/// A Secret with what the environment says of it: `CAMPANILE_SECRET_<NAME>_<KEY>` wins. None if nothing is known.
pub fn secret_of_environment(name: &str, mut secret: Secret) -> Option<Secret> {
    let prefix = format!("CAMPANILE_SECRET_{}_", name.to_ascii_uppercase().replace(['-', '.'], "_"));
    for (variable, value) in std::env::vars() {
        if let Some(key) = variable.strip_prefix(&prefix) {
            secret.insert(key.to_ascii_lowercase(), value);
        }
    }
    (!secret.is_empty()).then_some(secret)
}
