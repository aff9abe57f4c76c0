//! Words of templates that stand in ConfigMaps.
//!
//! Only those that a template names are read; of all others a name passes by here and is forgotten, so that the ConfigMaps of a
//! large cluster take no memory. They are not watched before a template names one. The service account may `get`, `list`
//! and `watch` ConfigMaps.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt,
    core::PartialObjectMeta,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};

use super::{Cluster, bounded, failure};
use crate::{
    api::template::kept::{self, Lost},
    reconcile::World,
    send::enclosure::{Enclosures, enclosed},
    source::{Failure, Kind, catalog::Object, manifest},
};

/// What could not be read, because the API server did not answer or refused, is asked for again.
const AGAIN: Duration = Duration::from_secs(30);

impl Cluster {
    /// Puts the words of a template where they belong. Those that are known already are taken over, unless `anew`. Called in
    /// turn, so that no older words come after newer ones.
    pub(super) async fn fill(&self, world: &World, object: &mut Object, anew: bool) {
        let references = kept::references(&object.spec);
        if references.is_empty() {
            return;
        }
        let known = world.catalog.get(&object.key).filter(|known| {
            let is_lost = kept::references(&known.spec).iter().any(|(_, kept)| kept.lost.is_some());
            known.uid == object.uid && known.generation == object.generation && !is_lost && !anew
        });
        if let Some(known) = known {
            object.spec.clone_from(&known.spec);
            return;
        }
        let namespace = object.key.namespace.clone();
        let mut maps = BTreeMap::new();
        for name in names(&references) {
            let found = match self.map(&namespace, name).await {
                Ok(found) => found.ok_or_else(|| manifest::kept::no_map(name, &namespace)),
                Err(failure) => {
                    self.has_unread.store(true, Ordering::Relaxed);
                    Err(Lost::new(format!("ConfigMap `{name}` cannot be read: {failure}")))
                }
            };
            maps.insert(name.to_owned(), found);
        }
        kept::fill(&mut object.spec, &mut |_, kept| {
            let Some(at) = &kept.config_map else { return Err(manifest::kept::no_folder()) };
            let map = maps.get(&at.name).ok_or_else(|| manifest::kept::no_map(&at.name, &namespace))?;
            let map = map.as_ref().map_err(Clone::clone)?;
            let text = manifest::kept::entry(&at.name, &at.key, |part| map[part].as_object())?;
            manifest::kept::words(&at.key, text)
        });
        let mut enclosures = Enclosures::new();
        kept::pin(&mut object.spec, &mut |_, kept| {
            let Some(at) = &kept.config_map else { return Err(manifest::kept::no_folder()) };
            let map = maps.get(&at.name).ok_or_else(|| manifest::kept::no_map(&at.name, &namespace))?;
            let map = map.as_ref().map_err(Clone::clone)?;
            let bytes = manifest::kept::bytes(&at.name, &at.key, |part| map[part].as_object())?;
            let (pinned, body) = enclosed(&bytes);
            enclosures.insert(pinned.sha256.clone(), body);
            Ok(pinned)
        });
        // Before anybody reads the template, the store has what it attaches.
        for (sha256, body) in &enclosures {
            if let Err(error) = world.store.put_attachment(sha256, body, world.clock.now()).await {
                self.has_unread.store(true, Ordering::Relaxed);
                let lost = Lost::new(format!("what is attached could not be kept: {error}"));
                return kept::pin(&mut object.spec, &mut |_, _| Err(lost.clone()));
            }
        }
    }

    /// A ConfigMap as JSON.
    pub(super) async fn map(&self, namespace: &str, name: &str) -> Result<Option<Value>, Failure> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let map = bounded(api.get_opt(name)).await?.map_err(failure)?;
        Ok(map.map(|map| json!({"data": map.data, "binaryData": map.binary_data})))
    }

    /// Reads templates again whose ConfigMap changed: those that name it, or all.
    async fn refill(&self, world: &World, changed: Option<(&str, &str)>) {
        for template in world.catalog.all(Kind::MessageTemplate) {
            let references = kept::references(&template.spec);
            let is_meant = changed.is_none_or(|(namespace, name)| {
                template.key.namespace == namespace && names(&references).contains(name)
            });
            if !is_meant || references.is_empty() {
                continue;
            }
            let _turn = self.turn.lock().await;
            let Some(template) = world.catalog.get(&template.key) else { continue };
            let mut template = (*template).clone();
            self.fill(world, &mut template, true).await;
            world.queue.wake(world.catalog.put(template));
        }
    }

    /// Watches ConfigMaps, once a template names one, until the process ends.
    pub(super) fn watch_maps(self: &Arc<Self>) {
        if !self.watches_maps.swap(true, Ordering::Relaxed) {
            tokio::spawn(self.clone().look_at_maps());
        }
    }

    async fn look_at_maps(self: Arc<Self>) {
        let api: Api<PartialObjectMeta<ConfigMap>> = match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
        loop {
            let event = tokio::time::timeout(AGAIN, events.next()).await;
            let Some(world) = self.world() else { return };
            match event {
                Ok(None) => return,
                Err(_) => {
                    if self.has_unread.swap(false, Ordering::Relaxed) {
                        self.refill(&world, None).await;
                    }
                }
                Ok(Some(Ok(watcher::Event::Init | watcher::Event::InitApply(_)))) => {}
                // What changed while nobody watched is in none of the events.
                Ok(Some(Ok(watcher::Event::InitDone))) => self.refill(&world, None).await,
                Ok(Some(Ok(watcher::Event::Apply(map) | watcher::Event::Delete(map)))) => {
                    let namespace = map.namespace().unwrap_or_default();
                    self.refill(&world, Some((&namespace, &map.name_any()))).await;
                }
                Ok(Some(Err(error))) => {
                    tracing::warn!(%error, "the watch of ConfigMaps was lost and is taken up again");
                }
            }
        }
    }
}

/// The ConfigMaps that a template names.
pub(super) fn names(references: &[(String, kept::Kept)]) -> BTreeSet<&str> {
    references.iter().filter_map(|(_, kept)| Some(kept.config_map.as_ref()?.name.as_str())).collect()
}
