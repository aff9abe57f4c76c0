//! What manifests declare, as specs in their types, by kind, namespace and name.
//!
//! An object that is wrong is still there, as far as it can be read: what refers to it is checked against that, so that
//! one mistake does not hide others.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use serde::Deserialize;
use serde_json::Value;

use super::{
    Key, Kind,
    catalog::{Catalog, InNamespace as InCatalog},
    manifest::{Loaded, Manifest},
};
use crate::{
    api::{
        AudienceSpec, CampaignRunSpec, CampaignSpec, ChannelSpec, ContactPolicySpec, DatasetSpec, MessageTemplateSpec,
    },
    plan::Library,
    send::enclosure::Enclosures,
};

/// A spec in its type.
#[derive(Clone, Debug)]
pub enum Spec {
    Dataset(Box<DatasetSpec>),
    Audience(Box<AudienceSpec>),
    Channel(Box<ChannelSpec>),
    MessageTemplate(Box<MessageTemplateSpec>),
    ContactPolicy(Box<ContactPolicySpec>),
    Campaign(Box<CampaignSpec>),
    CampaignRun(Box<CampaignRunSpec>),
}

impl Spec {
    fn read(kind: Kind, spec: &Value) -> Result<Self, serde_json::Error> {
        Ok(match kind {
            Kind::Dataset => Self::Dataset(Box::deserialize(spec)?),
            Kind::Audience => Self::Audience(Box::deserialize(spec)?),
            Kind::Channel => Self::Channel(Box::deserialize(spec)?),
            Kind::MessageTemplate => Self::MessageTemplate(Box::deserialize(spec)?),
            Kind::ContactPolicy => Self::ContactPolicy(Box::deserialize(spec)?),
            Kind::Campaign => Self::Campaign(Box::deserialize(spec)?),
            Kind::CampaignRun => Self::CampaignRun(Box::deserialize(spec)?),
        })
    }
}

/// One declared object.
#[derive(Debug)]
pub struct Entry {
    pub place: Place,
    /// None if it cannot be read.
    pub spec: Option<Spec>,
    /// Why it cannot be read, where its schema has nothing against it.
    pub problem: Option<String>,
    pub is_wrong: bool,
}

/// Where an object's manifest stands in a [`Loaded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Good(usize),
    Broken(usize),
}

impl Place {
    pub fn of(self, loaded: &Loaded) -> Option<&Manifest> {
        match self {
            Self::Good(index) => loaded.manifests.get(index),
            Self::Broken(index) => loaded.broken.get(index),
        }
    }
}

/// All that is declared.
#[derive(Debug, Default)]
pub struct Declared {
    entries: HashMap<Key, Entry>,
    enclosures: Enclosures,
}

impl Declared {
    pub fn of(loaded: &Loaded) -> Self {
        let mut entries = HashMap::new();
        for (index, manifest) in loaded.manifests.iter().enumerate() {
            let Some(key) = manifest.key() else { continue };
            let (spec, problem) = match Spec::read(key.kind, &manifest.object["spec"]) {
                Ok(spec) => (Some(spec), None),
                Err(error) => (None, Some(error.to_string())),
            };
            let entry = Entry { place: Place::Good(index), is_wrong: problem.is_some(), spec, problem };
            entries.insert(key, entry);
        }
        for (index, manifest) in loaded.broken.iter().enumerate() {
            let Some(key) = manifest.key() else { continue };
            let spec = as_far_as_readable(manifest, key.kind, loaded);
            entries.entry(key).or_insert(Entry { place: Place::Broken(index), spec, problem: None, is_wrong: true });
        }
        Self { entries, enclosures: loaded.enclosures.clone() }
    }

    pub fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub fn entries(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.iter()
    }

    pub(super) fn mark_wrong(&mut self, key: &Key) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.is_wrong = true;
        }
    }

    /// The specs of one namespace. What is wrong or not declared is taken from `last_good`.
    pub fn library<'a>(&'a self, namespace: &'a str, last_good: Option<&'a Catalog>) -> InNamespace<'a> {
        InNamespace { declared: self, namespace, last_good: last_good.map(|catalog| catalog.library(namespace)) }
    }
}

/// The spec without what its schema objects to: a list's item, or an entry of a mapping.
fn as_far_as_readable(manifest: &Manifest, kind: Kind, loaded: &Loaded) -> Option<Spec> {
    if let Ok(spec) = Spec::read(kind, &manifest.object["spec"]) {
        return Some(spec);
    }
    let mut object = manifest.object.clone();
    // From the back, so that the places in front of it stay what they are.
    let wrong: BTreeSet<String> = loaded
        .diagnostics
        .iter()
        .filter_map(|diagnostic| diagnostic.about.as_ref().filter(|about| about.is(manifest)))
        .filter_map(|about| pointer_to_part(&about.path))
        .collect();
    wrong.iter().rev().for_each(|pointer| cut(&mut object, pointer));
    Spec::read(kind, &object["spec"]).ok()
}

/// From `spec.entities[0].fields[12].type` to `/spec/entities/00000/fields/00012`: the innermost item of a list; without
/// one the last name. Its numbers are as long as each other, so that their order is that of the items.
fn pointer_to_part(path: &str) -> Option<String> {
    let part = path.rfind(']').map_or(path, |end| &path[..end]);
    let names = part.split(['.', '[']).map(|name| name.trim_end_matches(']'));
    let pointer = names.map(|name| match name.parse::<usize>() {
        Ok(index) => format!("/{index:05}"),
        Err(_) => format!("/{name}"),
    });
    part.starts_with("spec.").then(|| pointer.collect())
}

fn cut(object: &mut Value, pointer: &str) {
    let Some((parent, last)) = pointer.rsplit_once('/') else { return };
    let mut at = object;
    for name in parent.split('/').skip(1) {
        let next = match name.parse::<usize>() {
            Ok(index) => at.get_mut(index),
            Err(_) => at.get_mut(name),
        };
        let Some(next) = next else { return };
        at = next;
    }
    match (at, last.parse::<usize>()) {
        (Value::Array(items), Ok(index)) if index < items.len() => drop(items.remove(index)),
        (Value::Object(entries), _) => drop(entries.remove(last)),
        _ => {}
    }
}

/// The declared specs of one namespace by name.
pub struct InNamespace<'a> {
    declared: &'a Declared,
    namespace: &'a str,
    last_good: Option<InCatalog<'a>>,
}

impl InNamespace<'_> {
    fn find<T>(
        &self,
        (kind, name): (Kind, &str),
        take: impl Fn(&Spec) -> Option<T>,
        last_good: impl Fn(&InCatalog<'_>) -> Option<T>,
    ) -> Option<T> {
        let entry = self.declared.get(&Key::new(kind, self.namespace, name));
        if let Some(entry) = entry.filter(|entry| !entry.is_wrong) {
            return entry.spec.as_ref().and_then(take);
        }
        let last_good = self.last_good.as_ref().and_then(last_good);
        last_good.or_else(|| entry?.spec.as_ref().and_then(take))
    }
}

macro_rules! find {
    ($self:ident, $kind:ident, $name:ident, $ask:ident) => {
        $self.find(
            (Kind::$kind, $name),
            |spec| if let Spec::$kind(spec) = spec { Some((**spec).clone()) } else { None },
            |last_good| last_good.$ask($name),
        )
    };
}

impl Library for InNamespace<'_> {
    fn dataset(&self, name: &str) -> Option<DatasetSpec> {
        find!(self, Dataset, name, dataset)
    }

    fn audience(&self, name: &str) -> Option<AudienceSpec> {
        find!(self, Audience, name, audience)
    }

    fn channel(&self, name: &str) -> Option<ChannelSpec> {
        find!(self, Channel, name, channel)
    }

    fn template(&self, name: &str) -> Option<MessageTemplateSpec> {
        find!(self, MessageTemplate, name, template)
    }

    fn policy(&self, name: &str) -> Option<ContactPolicySpec> {
        find!(self, ContactPolicy, name, policy)
    }

    fn campaign(&self, name: &str) -> Option<CampaignSpec> {
        find!(self, Campaign, name, campaign)
    }

    fn enclosure(&self, sha256: &str) -> Option<Arc<str>> {
        self.declared.enclosures.get(sha256).cloned()
    }

    fn is_declared(&self, kind: &str, name: &str) -> bool {
        let key = Kind::named(kind).map(|kind| Key::new(kind, self.namespace, name));
        key.is_some_and(|key| self.declared.get(&key).is_some())
    }

    fn is_wrong(&self, kind: &str, name: &str) -> bool {
        let key = Kind::named(kind).map(|kind| Key::new(kind, self.namespace, name));
        key.and_then(|key| self.declared.get(&key)).is_some_and(|entry| entry.is_wrong)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_cut_is_the_innermost_item() {
        let mut object = json!({"spec": {"entities": [{"fields": [1, 2, 3]}], "retention": {"messages": 5}}});
        let paths = ["spec.entities[0].fields[1].type", "spec.entities[0].fields[2]", "spec.retention.messages"];
        let pointers: BTreeSet<String> = paths.into_iter().filter_map(pointer_to_part).collect();
        pointers.iter().rev().for_each(|pointer| cut(&mut object, pointer));
        assert_eq!(object, json!({"spec": {"entities": [{"fields": [1]}], "retention": {}}}));
        assert_eq!(pointer_to_part("metadata.name"), None);
    }
}
