//! The manifests of some paths: what they declare, and all that is wrong with them.
//!
//! No store and no cluster is asked. What is wrong is found by the functions that the reconcilers call, so that a tree
//! without errors is one that every home takes.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::base;
use crate::{
    api::{AudienceSpec, CampaignSpec, ChannelSpec, DatasetSpec, MessageTemplateSpec},
    source::{
        Key, Kind,
        admission::{self, Sound},
        declared::{Declared, InNamespace, Spec},
        manifest::{self, Diagnostic, Loaded, Manifest},
    },
};

/// What some folders or files declare.
pub struct Tree {
    loaded: Loaded,
    declared: Declared,
    checked: BTreeMap<Key, Sound>,
}

impl Tree {
    /// Reads every manifest under the paths, folders or files.
    pub fn read(paths: &[impl AsRef<Path>]) -> Self {
        Self::of(manifest::load_all(paths.iter().map(AsRef::as_ref)))
    }

    /// Of files whose bytes somebody else has; an object of a cluster is one, too. They keep nothing in files beside them.
    pub fn of_files(files: impl IntoIterator<Item = (PathBuf, Vec<u8>)>) -> Self {
        Self::of(manifest::of_files(None, files))
    }

    /// What stands once `loaded` is applied to a cluster that has `objects`: those which it does not name stay as they are.
    pub fn applied(mut loaded: Loaded, objects: &[Value]) -> Self {
        for (path, object) in objects.iter().map(base::file) {
            let part = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            if !loaded.declares(part("/kind"), part("/metadata/namespace"), part("/metadata/name")) {
                loaded.take_file(path, object.to_string().into_bytes());
            }
        }
        Self::of(loaded)
    }

    /// Of what is read already.
    pub fn of(mut loaded: Loaded) -> Self {
        loaded.fill();
        let mut declared = Declared::of(&loaded);
        let checked = admission::check(&mut loaded, &mut declared, None).sound;
        loaded.diagnostics.sort_by_cached_key(|d| (d.file.as_ref().map(|file| file.path.clone()), d.span.start));
        Self { loaded, declared, checked }
    }

    /// All that is wrong, by file and place.
    pub fn errors(&self) -> &[Diagnostic] {
        &self.loaded.diagnostics
    }

    /// The objects that are well-formed, in the order of files and places.
    pub fn manifests(&self) -> &[Manifest] {
        &self.loaded.manifests
    }

    /// How many objects are declared, whether or not they are right.
    pub fn objects(&self) -> usize {
        self.loaded.manifests.len() + self.loaded.broken.len()
    }

    /// How many files declare something.
    pub fn files(&self) -> usize {
        let manifests = self.loaded.manifests.iter().chain(&self.loaded.broken);
        manifests.map(|manifest| &manifest.file.path).collect::<BTreeSet<_>>().len()
    }

    /// The manifest of an object, whether or not it is right.
    pub fn manifest(&self, key: &Key) -> Option<&Manifest> {
        self.declared.get(key)?.place.of(&self.loaded)
    }

    /// Whether an object is declared and nothing is wrong with it, nor with what it refers to.
    pub fn is_sound(&self, key: &Key) -> bool {
        self.declared.get(key).is_some_and(|entry| !entry.is_wrong)
    }

    /// The objects of a kind that are sound, by namespace and name.
    pub fn sound(&self, kind: Kind) -> Vec<&Key> {
        let sound = self.declared.entries().filter(|(key, entry)| key.kind == kind && !entry.is_wrong);
        let mut keys: Vec<&Key> = sound.map(|(key, _)| key).collect();
        keys.sort();
        keys
    }

    /// Whether campaign `name` says that it was called `former` before.
    pub fn takes_over(&self, name: &Key, former: &Key) -> bool {
        let spec = self.campaign(&name.namespace, &name.name).filter(|_| former.kind == Kind::Campaign);
        spec.is_some_and(|spec| former.namespace == name.namespace && spec.formerly.iter().any(|f| **f == *former.name))
    }

    /// The campaign that takes over from one that was called `former`.
    pub fn heir(&self, former: &Key) -> Option<&Key> {
        self.sound(Kind::Campaign).into_iter().find(|name| self.takes_over(name, former))
    }

    /// What was compiled of the audiences and campaigns that are right, by kind, namespace and name.
    pub fn checked(&self) -> &BTreeMap<Key, Sound> {
        &self.checked
    }

    /// Every spec that can be read; of what is wrong, as far as it can be.
    pub fn specs(&self) -> impl Iterator<Item = (&Key, &Spec)> {
        self.declared.entries().filter_map(|(key, entry)| Some((key, entry.spec.as_ref()?)))
    }

    /// The namespaces that have an object of one of these kinds which cannot be read at all.
    pub fn unreadable_namespaces(&self, kinds: &[Kind]) -> BTreeSet<&str> {
        let unreadable =
            self.declared.entries().filter(|(key, entry)| entry.spec.is_none() && kinds.contains(&key.kind));
        unreadable.map(|(key, _)| key.namespace.as_str()).collect()
    }

    /// The specs of one namespace; of what is wrong, as far as it can be read.
    pub fn library<'a>(&'a self, namespace: &'a str) -> InNamespace<'a> {
        self.declared.library(namespace, None)
    }

    pub fn dataset(&self, namespace: &str, name: &str) -> Option<&DatasetSpec> {
        match self.spec(Kind::Dataset, namespace, name)? {
            Spec::Dataset(spec) => Some(spec),
            _ => None,
        }
    }

    pub fn audience(&self, namespace: &str, name: &str) -> Option<&AudienceSpec> {
        match self.spec(Kind::Audience, namespace, name)? {
            Spec::Audience(spec) => Some(spec),
            _ => None,
        }
    }

    pub fn channel(&self, namespace: &str, name: &str) -> Option<&ChannelSpec> {
        match self.spec(Kind::Channel, namespace, name)? {
            Spec::Channel(spec) => Some(spec),
            _ => None,
        }
    }

    pub fn template(&self, namespace: &str, name: &str) -> Option<&MessageTemplateSpec> {
        match self.spec(Kind::MessageTemplate, namespace, name)? {
            Spec::MessageTemplate(spec) => Some(spec),
            _ => None,
        }
    }

    pub fn campaign(&self, namespace: &str, name: &str) -> Option<&CampaignSpec> {
        match self.spec(Kind::Campaign, namespace, name)? {
            Spec::Campaign(spec) => Some(spec),
            _ => None,
        }
    }

    fn spec(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Spec> {
        self.declared.get(&Key::new(kind, namespace, name))?.spec.as_ref()
    }
}

#[cfg(test)]
mod tests;
