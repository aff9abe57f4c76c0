//! What is declared now, in memory: one entry per object, as last seen.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, RwLock},
    time::Instant,
};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Key, Kind};
use crate::{
    api::{AudienceSpec, CampaignSpec, ChannelSpec, ContactPolicySpec, DatasetSpec, MessageTemplateSpec},
    plan::Library,
};

/// An object as last seen.
#[derive(Clone, Debug)]
pub struct Object {
    pub key: Key,
    pub uid: String,
    pub generation: i64,
    pub is_deleting: bool,
    /// Whether its deletion waits for us.
    pub is_held: bool,
    pub created: Timestamp,
    pub annotations: BTreeMap<String, String>,
    pub spec: Value,
    pub status: Value,
    /// The manifest's file, in the folder home.
    pub origin: Option<PathBuf>,
    /// When this generation was first seen, on this process' monotonic clock.
    pub seen: Instant,
}

impl Object {
    /// The spec in its type. A malformed object is an error on that object, never of the watch.
    pub fn spec<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_value(self.spec.clone()).map_err(|e| format!("the spec cannot be read: {e}"))
    }

    /// The status in its type; what cannot be read counts as never written.
    pub fn status<T: DeserializeOwned + Default>(&self) -> T {
        serde_json::from_value(self.status.clone()).unwrap_or_default()
    }

    /// Where its manifest lies, in the folder home.
    pub fn folder(&self) -> Option<PathBuf> {
        self.origin.as_ref().and_then(|file| file.parent().map(PathBuf::from))
    }

    /// Whether its `Ready` condition is true for the generation that is declared.
    pub fn is_ready(&self) -> bool {
        let conditions = self.status["conditions"].as_array();
        let ready = conditions.into_iter().flatten().find(|c| c["type"] == "Ready");
        ready.is_some_and(|c| c["status"] == "True" && c["observedGeneration"] == self.generation)
    }
}

/// All objects that are declared.
#[derive(Debug, Default)]
pub struct Catalog {
    objects: RwLock<BTreeMap<Key, Arc<Object>>>,
}

impl Catalog {
    pub fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.objects.read().ok()?.get(key).cloned()
    }

    /// Takes what was seen; the objects that may stand differently because of it.
    pub fn put(&self, mut object: Object) -> Vec<Key> {
        let Ok(mut objects) = self.objects.write() else { return vec![] };
        let key = object.key.clone();
        let old = objects.get(&key);
        if let Some(old) =
            old.filter(|old| old.generation == object.generation && old.uid == object.uid && old.spec == object.spec)
        {
            object.seen = old.seen;
        }
        let is_same = old.is_some_and(|old| {
            old.generation == object.generation
                && old.uid == object.uid
                && old.is_deleting == object.is_deleting
                && old.annotations == object.annotations
                && old.is_ready() == object.is_ready()
                // What a template keeps in a ConfigMap changes without the template.
                && old.spec == object.spec
        });
        objects.insert(key.clone(), Arc::new(object));
        if is_same { vec![] } else { affected(&objects, &key) }
    }

    pub fn remove(&self, key: &Key) -> Vec<Key> {
        let Ok(mut objects) = self.objects.write() else { return vec![] };
        let found = affected(&objects, key);
        objects.remove(key);
        found
    }

    /// The objects that may stand differently when this one does, itself among them.
    pub fn dependents(&self, key: &Key) -> Vec<Key> {
        self.objects.read().map(|objects| affected(&objects, key)).unwrap_or_default()
    }

    /// The objects of one kind, in order.
    pub fn all(&self, kind: Kind) -> Vec<Arc<Object>> {
        let Ok(objects) = self.objects.read() else { return vec![] };
        objects.values().filter(|o| o.key.kind == kind).cloned().collect()
    }

    pub fn keys(&self) -> Vec<Key> {
        self.objects.read().map(|objects| objects.keys().cloned().collect()).unwrap_or_default()
    }

    /// The runs of one campaign.
    pub fn runs_of(&self, namespace: &str, campaign: &str) -> Vec<Arc<Object>> {
        let runs = self.all(Kind::CampaignRun).into_iter();
        runs.filter(|o| o.key.namespace == namespace && o.spec["campaign"] == campaign).collect()
    }

    pub fn library<'a>(&'a self, namespace: &'a str) -> InNamespace<'a> {
        InNamespace { catalog: self, namespace }
    }
}

/// The object itself and those that may refer to it: in one namespace all are few, so nothing finer is tracked.
fn affected(objects: &BTreeMap<Key, Arc<Object>>, key: &Key) -> Vec<Key> {
    let depends = |other: &Key| match key.kind {
        Kind::Dataset => matches!(other.kind, Kind::Audience | Kind::Campaign | Kind::CampaignRun),
        Kind::Audience => matches!(other.kind, Kind::Audience | Kind::Campaign | Kind::CampaignRun),
        Kind::Channel | Kind::ContactPolicy => matches!(other.kind, Kind::Campaign | Kind::CampaignRun),
        // Templates include fragments of others.
        Kind::MessageTemplate => matches!(other.kind, Kind::MessageTemplate | Kind::Campaign | Kind::CampaignRun),
        Kind::Campaign => other.kind == Kind::CampaignRun,
        Kind::CampaignRun => other.kind == Kind::Campaign,
    };
    let others = objects.keys().filter(|other| other.namespace == key.namespace && depends(other));
    std::iter::once(key).chain(others).cloned().collect()
}

/// The specs of one namespace by name.
pub struct InNamespace<'a> {
    catalog: &'a Catalog,
    namespace: &'a str,
}

impl InNamespace<'_> {
    fn spec<T: DeserializeOwned>(&self, kind: Kind, name: &str) -> Option<T> {
        let object = self.catalog.get(&Key::new(kind, self.namespace, name))?;
        if object.is_deleting { None } else { object.spec().ok() }
    }
}

impl Library for InNamespace<'_> {
    fn dataset(&self, name: &str) -> Option<DatasetSpec> {
        self.spec(Kind::Dataset, name)
    }

    fn audience(&self, name: &str) -> Option<AudienceSpec> {
        self.spec(Kind::Audience, name)
    }

    fn channel(&self, name: &str) -> Option<ChannelSpec> {
        self.spec(Kind::Channel, name)
    }

    fn template(&self, name: &str) -> Option<MessageTemplateSpec> {
        self.spec(Kind::MessageTemplate, name)
    }

    fn policy(&self, name: &str) -> Option<ContactPolicySpec> {
        self.spec(Kind::ContactPolicy, name)
    }

    fn campaign(&self, name: &str) -> Option<CampaignSpec> {
        self.spec(Kind::Campaign, name)
    }
}
