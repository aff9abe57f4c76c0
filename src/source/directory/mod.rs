//! The folder home: manifests in a directory are the desired state, the store keeps what an API server would.
//!
//! Objects are remembered with the root that declares them: those of other roots are dormant, not deleted. A manifest
//! that is gone for [`GONE`], or gone at the next start, is a deletion. A broken edit is reported with its place, and
//! the last good state keeps running.

mod marks;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, Weak},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{
    Failure, Key, Kind, Source, Weight, admission,
    catalog::Object,
    declared::Declared,
    manifest::{self, Diagnostic, Loaded, Manifest, kept::Roots},
    mark_of,
};
use crate::{
    api::{CampaignRunSpec, condition::Reason},
    clock::Clock,
    reconcile::World,
    send::{dispatch::Secrets, enclosure::Enclosures, providers::Secret},
    store::{self, Store, object::Stored},
};

pub use marks::Marks;
pub use watch::watch;

/// Editors replace a file by deleting and creating it; a longer absence is meant.
pub const GONE: Duration = Duration::from_secs(5);

/// A folder of manifests with a store beside it.
pub struct Folder {
    store: Store,
    clock: Clock,
    roots: Vec<PathBuf>,
    secrets: Mutex<BTreeMap<(String, String), Secret>>,
    missing: Mutex<HashMap<Key, Instant>>,
    diagnostics: Mutex<Vec<Diagnostic>>,
    /// The hashes of what is attached, and is in the store.
    attached: Mutex<BTreeSet<String>>,
    marks: Marks,
    world: OnceLock<Weak<World>>,
    /// One change at a time: each reads an object, changes a part of it and writes it whole.
    turn: tokio::sync::Mutex<()>,
}

impl Folder {
    pub fn new(store: Store, clock: Clock, roots: Vec<PathBuf>, marks: Marks) -> Self {
        Self {
            store,
            clock,
            roots,
            secrets: Mutex::default(),
            missing: Mutex::default(),
            diagnostics: Mutex::default(),
            attached: Mutex::default(),
            marks,
            world: OnceLock::new(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    pub fn attach(&self, world: &Arc<World>) {
        let _ = self.world.set(Arc::downgrade(world));
    }

    pub fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// What is wrong with the manifests as they are now.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        self.diagnostics.lock().map(|d| d.clone()).unwrap_or_default()
    }

    fn world(&self) -> Result<Arc<World>, Failure> {
        self.world.get().and_then(Weak::upgrade).ok_or_else(|| Failure("the process is ending".to_owned()))
    }

    /// Fills the catalog with what the store remembers of these roots.
    pub async fn restore(&self) -> store::Result<()> {
        let Ok(world) = self.world() else { return Ok(()) };
        for stored in self.store.objects().await? {
            if self.is_ours(&stored.root)
                && let Some(object) = object_of(&stored)
            {
                world.queue.wake(world.catalog.put(object));
            }
        }
        Ok(())
    }

    fn is_ours(&self, root: &str) -> bool {
        self.roots.iter().any(|r| r.to_string_lossy() == root)
    }

    /// Reads the folder as a whole and takes what changed. `is_start` says that what is missing was deleted meanwhile.
    /// New problems are returned once; whether a manifest is missing and must be looked for again, too.
    pub async fn load(&self, is_start: bool) -> store::Result<(Vec<Diagnostic>, bool)> {
        let Ok(world) = self.world() else { return Ok((vec![], false)) };
        let mut loaded = Loaded::default();
        let mut by_root = BTreeMap::new();
        for root in &self.roots {
            let read_root = root.clone();
            let read = tokio::task::spawn_blocking(move || manifest::load(&read_root)).await;
            let read = read.map_err(|e| store::Error::Internal(e.to_string()))?;
            for m in &read.manifests {
                by_root
                    .insert((m.kind.clone(), m.namespace.clone(), m.name.clone()), root.to_string_lossy().into_owned());
            }
            loaded.manifests.extend(read.manifests);
            loaded.diagnostics.extend(read.diagnostics);
            loaded.broken.extend(read.broken);
            loaded.unreadable.extend(read.unreadable);
        }
        let mut loaded = loaded.beside(Roots::of(self.roots.iter().map(PathBuf::as_path)));
        loaded.fill();
        let mut declared = Declared::of(&loaded);
        let refused = admission::check(&mut loaded, &mut declared, Some(&world.catalog)).refused;
        self.take_secrets(&loaded.manifests);
        self.keep_attachments(&loaded.enclosures).await?;
        let _turn = self.turn.lock().await;
        for (index, manifest) in loaded.manifests.iter().enumerate() {
            let Some(key) = manifest.key() else { continue };
            let old = world.catalog.get(&key);
            // A broken edit leaves the last good state; what was never good is taken, so that its status says why.
            if old.is_none() || !refused.contains(&index) {
                let root = by_root.get(&(manifest.kind.clone(), manifest.namespace.clone(), manifest.name.clone()));
                self.take(&world, key, manifest, root.cloned().unwrap_or_default(), old).await?;
            }
        }
        let has_missing = self.remove_missing(&world, &loaded, is_start).await?;
        Ok((self.keep_diagnostics(loaded.diagnostics), has_missing))
    }

    /// Only what was not said before is said.
    fn keep_diagnostics(&self, found: Vec<Diagnostic>) -> Vec<Diagnostic> {
        let Ok(mut known) = self.diagnostics.lock() else { return vec![] };
        let old: BTreeSet<String> = known.iter().map(Diagnostic::one_line).collect();
        known.clone_from(&found);
        found.into_iter().filter(|d| !old.contains(&d.one_line())).collect()
    }

    async fn take(
        &self,
        world: &World,
        key: Key,
        manifest: &Manifest,
        root: String,
        old: Option<Arc<Object>>,
    ) -> store::Result<()> {
        let (spec, meta) = (manifest.object["spec"].clone(), manifest::meta_of(&manifest.object));
        let stored = self.find(&key).await?;
        let origin = manifest.file.path.to_string_lossy().into_owned();
        let next = match stored {
            Some(s)
                if s.spec == spec
                    && same_meta(&s.meta, &meta)
                    && !s.is_deleting
                    && s.root == root
                    && s.origin.as_ref() == Some(&origin)
                    && old.is_some() =>
            {
                return Ok(());
            }
            Some(s) => {
                let generation = s.generation + i64::from(s.spec != spec);
                let meta = with_hold(meta, is_held(&s.meta));
                Stored {
                    root,
                    origin: Some(origin),
                    generation,
                    version: s.version + 1,
                    is_deleting: false,
                    meta,
                    spec,
                    ..s
                }
            }
            None => self.new_object(&key, root, Some(origin), meta, spec),
        };
        self.write(world, &next).await
    }

    fn new_object(&self, key: &Key, root: String, origin: Option<String>, meta: Value, spec: Value) -> Stored {
        let created = self.clock.now();
        Stored {
            kind: key.kind.as_str().to_owned(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            root,
            origin,
            uid: uid(key, created),
            generation: 1,
            version: 1,
            created: crate::api::condition::whole_seconds(created),
            is_deleting: false,
            meta,
            spec,
            status: json!({"observedGeneration": crate::api::NEVER_OBSERVED}),
        }
    }

    async fn write(&self, world: &World, stored: &Stored) -> store::Result<()> {
        self.store.put_object(stored).await?;
        if let Some(object) = object_of(stored) {
            world.queue.wake(world.catalog.put(object));
        }
        Ok(())
    }

    async fn find(&self, key: &Key) -> store::Result<Option<Stored>> {
        let all = self.store.objects().await?;
        Ok(all.into_iter().find(|s| s.kind == key.kind.as_str() && s.namespace == key.namespace && s.name == key.name))
    }

    async fn remove_missing(&self, world: &World, loaded: &Loaded, is_start: bool) -> store::Result<bool> {
        let declared: BTreeSet<Key> = loaded.manifests.iter().chain(&loaded.broken).filter_map(Manifest::key).collect();
        let mut waits = false;
        for key in world.catalog.keys() {
            let Some(object) = world.catalog.get(&key) else { continue };
            let is_read = object.origin.as_ref().is_some_and(|file| !loaded.unreadable.contains(file));
            if declared.contains(&key) || !is_read || object.is_deleting {
                self.missing.lock().map(|mut m| m.remove(&key)).ok();
                continue;
            }
            let since = self
                .missing
                .lock()
                .map(|mut m| *m.entry(key.clone()).or_insert_with(Instant::now))
                .unwrap_or_else(|_| Instant::now());
            if is_start || since.elapsed() >= GONE {
                self.delete(world, &key).await?;
            } else {
                waits = true;
            }
        }
        Ok(waits)
    }

    /// Deletes an object; one that is held first lets its reconciler clean up.
    async fn delete(&self, world: &World, key: &Key) -> store::Result<()> {
        let Some(stored) = self.find(key).await? else { return Ok(()) };
        if is_held(&stored.meta) {
            return self.write(world, &Stored { is_deleting: true, version: stored.version + 1, ..stored }).await;
        }
        self.forget(world, key).await
    }

    async fn forget(&self, world: &World, key: &Key) -> store::Result<()> {
        self.store.delete_object(key.kind.as_str(), &key.namespace, &key.name).await?;
        let affected = world.catalog.remove(key);
        world.queue.wake(affected);
        if key.kind == Kind::Campaign {
            // What an owner reference does in a cluster.
            for run in world.catalog.runs_of(&key.namespace, &key.name) {
                Box::pin(self.delete(world, &run.key)).await?;
            }
        }
        Ok(())
    }

    /// What is attached is in the store before anything that names it is declared.
    async fn keep_attachments(&self, enclosures: &Enclosures) -> store::Result<()> {
        let is_known = |sha256: &str| self.attached.lock().is_ok_and(|known| known.contains(sha256));
        for (sha256, body) in enclosures.iter().filter(|(sha256, _)| !is_known(sha256)) {
            self.store.put_attachment(sha256, body, self.clock.now()).await?;
        }
        if let Ok(mut known) = self.attached.lock() {
            *known = enclosures.keys().cloned().collect();
        }
        Ok(())
    }

    fn take_secrets(&self, manifests: &[Manifest]) {
        let mut found = BTreeMap::new();
        for manifest in manifests.iter().filter(|m| m.kind == "Secret") {
            found.insert((manifest.namespace.clone(), manifest.name.clone()), manifest::secret_of(manifest));
        }
        if let Ok(mut secrets) = self.secrets.lock() {
            *secrets = found;
        }
    }
}

#[async_trait]
impl Secrets for Folder {
    /// A Secret manifest, or `CAMPANILE_SECRET_<NAME>_<KEY>` in the environment, which wins.
    async fn secret(&self, namespace: &str, name: &str) -> Option<Secret> {
        let known = self.secrets.lock().ok().and_then(|s| s.get(&(namespace.to_owned(), name.to_owned())).cloned());
        crate::source::secret_of_environment(name, known.unwrap_or_default())
    }
}

#[async_trait]
impl Source for Folder {
    async fn write_status(&self, key: &Key, status: Value) -> Result<(), Failure> {
        let _turn = self.turn.lock().await;
        let world = self.world()?;
        let Some(stored) = self.find(key).await.map_err(failure)? else { return Ok(()) };
        if let Some(mark) = mark_of(key, &stored.spec, &status) {
            self.marks.put(&mark).map_err(|e| Failure(format!("the mirror of a run's progress: {e}")))?;
        }
        self.write(&world, &Stored { status, version: stored.version + 1, ..stored }).await.map_err(failure)
    }

    async fn create_run(&self, namespace: &str, name: &str, spec: &CampaignRunSpec) -> Result<(), Failure> {
        let _turn = self.turn.lock().await;
        let world = self.world()?;
        let key = Key::new(Kind::CampaignRun, namespace, name);
        if world.catalog.get(&key).is_some() {
            return Ok(());
        }
        let campaign = self.find(&Key::new(Kind::Campaign, namespace, &spec.campaign)).await.map_err(failure)?;
        let root = campaign.as_ref().map(|c| c.root.clone()).unwrap_or_default();
        let spec = serde_json::to_value(spec).map_err(|e| Failure(e.to_string()))?;
        let mut meta = json!({});
        if let Some(owner) = campaign {
            let reference = json!({"apiVersion": "campanile.dev/v1alpha1", "kind": "Campaign", "name": owner.name, "uid": owner.uid, "controller": true});
            meta = json!({"ownerReferences": [reference]});
        }
        let stored = self.new_object(&key, root, None, meta, spec);
        self.write(&world, &stored).await.map_err(failure)
    }

    async fn delete_run(&self, namespace: &str, name: &str) -> Result<(), Failure> {
        let _turn = self.turn.lock().await;
        let world = self.world()?;
        self.forget(&world, &Key::new(Kind::CampaignRun, namespace, name)).await.map_err(failure)
    }

    async fn hold(&self, key: &Key, wanted: bool) -> Result<(), Failure> {
        let _turn = self.turn.lock().await;
        let world = self.world()?;
        let Some(stored) = self.find(key).await.map_err(failure)? else { return Ok(()) };
        if is_held(&stored.meta) != wanted {
            let meta = with_hold(stored.meta.clone(), wanted);
            self.write(&world, &Stored { meta, version: stored.version + 1, ..stored.clone() })
                .await
                .map_err(failure)?;
        }
        if stored.is_deleting && !wanted {
            self.forget(&world, key).await.map_err(failure)?;
        }
        Ok(())
    }

    async fn event(&self, key: &Key, weight: Weight, reason: Reason, message: &str) {
        let of = (key.kind.as_str(), key.namespace.as_str(), key.name.as_str());
        let written = self.store.put_event(of, weight.as_str(), reason.as_str(), message, self.clock.now()).await;
        match weight {
            Weight::Warning => tracing::warn!(object = %key, reason = reason.as_str(), "{message}"),
            Weight::Normal => tracing::info!(object = %key, reason = reason.as_str(), "{message}"),
        }
        if let Err(error) = written {
            tracing::warn!(%error, "an event was not recorded");
        }
    }
}

fn failure(error: store::Error) -> Failure {
    Failure(error.to_string())
}

const HELD: &str = "campanile.dev/cleanup";

fn is_held(meta: &Value) -> bool {
    meta["finalizers"].as_array().is_some_and(|f| f.iter().any(|f| f == HELD))
}

fn with_hold(mut meta: Value, wanted: bool) -> Value {
    if let Some(entries) = meta.as_object_mut() {
        entries.remove("finalizers");
        if wanted {
            entries.insert("finalizers".to_owned(), json!([HELD]));
        }
    }
    meta
}

fn same_meta(a: &Value, b: &Value) -> bool {
    ["labels", "annotations"].iter().all(|part| a[*part] == b[*part])
}

/// Stable for an object's life, different in its next one.
fn uid(key: &Key, created: jiff::Timestamp) -> String {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(format!("{key} {}", created.as_nanosecond()));
    let hex: String = hash.iter().take(16).map(|b| format!("{b:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32])
}

fn object_of(stored: &Stored) -> Option<Object> {
    let annotations = stored.meta["annotations"].as_object();
    Some(Object {
        key: Key::new(Kind::named(&stored.kind)?, &stored.namespace, &stored.name),
        uid: stored.uid.clone(),
        generation: stored.generation,
        is_deleting: stored.is_deleting,
        is_held: is_held(&stored.meta),
        created: stored.created,
        annotations: annotations
            .into_iter()
            .flatten()
            .filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())))
            .collect(),
        spec: stored.spec.clone(),
        status: stored.status.clone(),
        origin: stored.origin.as_ref().map(PathBuf::from),
        seen: Instant::now(),
    })
}
