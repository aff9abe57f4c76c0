//! The cluster home: objects are watched, statuses go back by server-side apply.
//!
//! A malformed object is an error on that object, never a dead watch: objects are read untyped.

mod maps;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock, Weak, atomic::AtomicBool},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, ObjectReference, Secret as KubeSecret};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    runtime::{
        WatchStreamExt,
        events::{Event, EventType, Recorder, Reporter},
        watcher,
    },
};
use serde_json::{Value, json};

use super::{Failure, Key, Kind, Source, Weight, catalog::Object, mark_of};
use crate::{
    api::{
        Audience, Campaign, CampaignRun, CampaignRunSpec, Channel, ContactPolicy, Dataset, GROUP, MessageTemplate,
        VERSION, condition::Reason, template::kept,
    },
    reconcile::World,
    send::{dispatch::Secrets, providers::Secret},
    store::recovery::Mark,
};

/// Our fields in an object's `managedFields`.
const MANAGER: &str = "campanile";
/// The finalizer has a manager of its own, so that applying a status never touches it.
const FINALIZER_MANAGER: &str = "campanile-finalizer";
const FINALIZER: &str = "campanile.dev/cleanup";
/// A request that hangs must not hold a reconciler for ever.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// A connection to an API server.
pub struct Cluster {
    client: Client,
    recorder: Recorder,
    /// The one namespace that is this home's; none: all.
    namespace: Option<String>,
    world: OnceLock<Weak<World>>,
    watches_maps: AtomicBool,
    /// Whether a ConfigMap could not be read and must be asked for again.
    has_unread: AtomicBool,
    /// One template at a time is read with what it keeps in ConfigMaps.
    turn: tokio::sync::Mutex<()>,
}

impl Cluster {
    pub fn new(client: Client, namespace: Option<String>) -> Self {
        let reporter = Reporter { controller: MANAGER.to_owned(), instance: None };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            namespace,
            world: OnceLock::new(),
            watches_maps: AtomicBool::new(false),
            has_unread: AtomicBool::new(false),
            turn: tokio::sync::Mutex::default(),
        }
    }

    pub fn attach(&self, world: &Arc<World>) {
        let _ = self.world.set(Arc::downgrade(world));
    }

    /// The home's id: the UID of the cluster's `kube-system` namespace, which lives as long as the cluster, and the
    /// namespace, where the home is one of several in a cluster.
    ///
    /// # Errors
    /// If the API server does not answer or refuses.
    pub async fn id(&self) -> Result<String, Failure> {
        let namespace = Api::<Namespace>::all(self.client.clone()).get("kube-system").await.map_err(failure)?;
        let part = self.namespace.as_ref().map(|name| format!(" namespace {name}")).unwrap_or_default();
        Ok(format!("cluster {}{part}", namespace.uid().unwrap_or_default()))
    }

    /// How far each run had come, by the status of its object.
    ///
    /// # Errors
    /// If the API server does not answer or refuses.
    pub async fn marks(&self) -> Result<Vec<Mark>, Failure> {
        let runs = bounded(self.all(Kind::CampaignRun).list(&ListParams::default())).await?.map_err(failure)?;
        let mark = |object| {
            let object = object_of(Kind::CampaignRun, object);
            mark_of(&object.key, &object.spec, &object.status)
        };
        Ok(runs.into_iter().filter_map(mark).collect())
    }

    /// All that is declared there, as manifests: without status, and without what only a server adds. Of ConfigMaps those
    /// that a template names, and those of its namespace in `maps`.
    ///
    /// # Errors
    /// If the API server does not answer or refuses.
    pub async fn declared(&self, maps: BTreeSet<String>) -> Result<Vec<Value>, Failure> {
        let here = self.namespace.clone().unwrap_or_default();
        let mut maps: BTreeSet<_> = maps.into_iter().map(|name| (here.clone(), name)).collect();
        let mut found = vec![];
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::CampaignRun) {
            let objects = bounded(self.all(kind).list(&ListParams::default())).await?.map_err(failure)?;
            for object in objects.iter().filter(|_| kind == Kind::MessageTemplate) {
                let references = kept::references(&object.data["spec"]);
                let namespace = object.namespace().unwrap_or_default();
                maps.extend(maps::names(&references).into_iter().map(|name| (namespace.clone(), name.to_owned())));
            }
            found.extend(objects.into_iter().map(|object| {
                let annotations = object.annotations().iter().filter(|(name, _)| name.starts_with("campanile.dev/"));
                let annotations: BTreeMap<_, _> = annotations.collect();
                json!({
                    "apiVersion": format!("{GROUP}/{VERSION}"),
                    "kind": kind.as_str(),
                    "metadata": {"name": object.name_any(), "namespace": object.namespace(), "annotations": annotations},
                    "spec": object.data["spec"],
                })
            }));
        }
        for (namespace, name) in maps {
            // Of one that is not there the template says so.
            let Some(mut map) = self.map(&namespace, &name).await? else { continue };
            map["apiVersion"] = "v1".into();
            map["kind"] = "ConfigMap".into();
            map["metadata"] = json!({"name": name, "namespace": namespace});
            found.push(map);
        }
        Ok(found)
    }

    fn all(&self, kind: Kind) -> Api<DynamicObject> {
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource(kind)),
            None => Api::all_with(self.client.clone(), &resource(kind)),
        }
    }

    fn world(&self) -> Option<Arc<World>> {
        self.world.get().and_then(Weak::upgrade)
    }

    fn api(&self, key: &Key) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &key.namespace, &resource(key.kind))
    }

    /// Watches one kind until the process ends; a lost connection is taken up again with backoff.
    pub async fn watch(self: Arc<Self>, kind: Kind) {
        let mut events = std::pin::pin!(watcher(self.all(kind), watcher::Config::default()).default_backoff());
        let mut listed = BTreeSet::new();
        while let Some(event) = events.next().await {
            let Some(world) = self.world() else { return };
            match event {
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitApply(object)) => {
                    listed.insert(self.take_watched(&world, kind, object).await);
                }
                Ok(watcher::Event::InitDone) => {
                    // What was not listed again was deleted while nobody watched.
                    for object in world.catalog.all(kind) {
                        if !listed.contains(&object.key) {
                            world.queue.wake(world.catalog.remove(&object.key));
                        }
                    }
                }
                Ok(watcher::Event::Apply(object)) => {
                    self.take_watched(&world, kind, object).await;
                }
                Ok(watcher::Event::Delete(object)) => {
                    let key = Key::new(kind, &object.namespace().unwrap_or_default(), &object.name_any());
                    world.queue.wake(world.catalog.remove(&key));
                }
                Err(error) => tracing::warn!(%kind, %error, "the watch was lost and is taken up again"),
            }
        }
    }

    async fn take_watched(self: &Arc<Self>, world: &World, kind: Kind, object: DynamicObject) -> Key {
        if kind == Kind::MessageTemplate && !kept::references(&object.data["spec"]).is_empty() {
            self.watch_maps();
        }
        self.take(world, kind, object).await
    }

    async fn take(&self, world: &World, kind: Kind, object: DynamicObject) -> Key {
        let mut object = object_of(kind, object);
        let key = object.key.clone();
        let is_template = kind == Kind::MessageTemplate;
        let _turn = if is_template { Some(self.turn.lock().await) } else { None };
        if is_template {
            self.fill(world, &mut object, false).await;
        }
        world.queue.wake(world.catalog.put(object));
        key
    }
}

fn object_of(kind: Kind, object: DynamicObject) -> Object {
    let meta = &object.metadata;
    Object {
        key: Key::new(kind, meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default()),
        uid: meta.uid.clone().unwrap_or_default(),
        generation: meta.generation.unwrap_or(0),
        is_deleting: meta.deletion_timestamp.is_some(),
        is_held: meta.finalizers.as_ref().is_some_and(|f| f.iter().any(|f| f == FINALIZER)),
        created: meta.creation_timestamp.as_ref().map_or(jiff::Timestamp::UNIX_EPOCH, |t| t.0),
        annotations: meta.annotations.clone().unwrap_or_default(),
        spec: object.data["spec"].clone(),
        status: object.data["status"].clone(),
        origin: None,
        seen: Instant::now(),
    }
}

fn resource(kind: Kind) -> ApiResource {
    match kind {
        Kind::Dataset => ApiResource::erase::<Dataset>(&()),
        Kind::Audience => ApiResource::erase::<Audience>(&()),
        Kind::Channel => ApiResource::erase::<Channel>(&()),
        Kind::MessageTemplate => ApiResource::erase::<MessageTemplate>(&()),
        Kind::ContactPolicy => ApiResource::erase::<ContactPolicy>(&()),
        Kind::Campaign => ApiResource::erase::<Campaign>(&()),
        Kind::CampaignRun => ApiResource::erase::<CampaignRun>(&()),
    }
}

fn failure(error: kube::Error) -> Failure {
    Failure(format!("the API server: {error}"))
}

/// An object that is gone needs nothing more.
fn unless_gone<T>(answer: Result<T, kube::Error>) -> Result<(), Failure> {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop).map_err(failure),
    }
}

async fn bounded<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<Result<T, kube::Error>, Failure> {
    tokio::time::timeout(REQUEST_TIMEOUT, request)
        .await
        .map_err(|_| Failure("the API server does not answer".to_owned()))
}

fn header(key: &Key) -> Value {
    json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": key.kind.as_str(), "metadata": {"name": key.name, "namespace": key.namespace}})
}

#[async_trait]
impl Source for Cluster {
    async fn write_status(&self, key: &Key, status: Value) -> Result<(), Failure> {
        let mut body = header(key);
        body["status"] = status;
        let params = PatchParams::apply(MANAGER).force();
        let api = self.api(key);
        match bounded(api.patch_status(&key.name, &params, &Patch::Apply(&body))).await? {
            Ok(object) => {
                if let Some(world) = self.world() {
                    self.take(&world, key.kind, object).await;
                }
                Ok(())
            }
            Err(error) => unless_gone::<()>(Err(error)),
        }
    }

    async fn create_run(&self, namespace: &str, name: &str, spec: &CampaignRunSpec) -> Result<(), Failure> {
        let mut run = CampaignRun::new(name, spec.clone());
        run.metadata.namespace = Some(namespace.to_owned());
        let campaign = Key::new(Kind::Campaign, namespace, &spec.campaign);
        if let Some(owner) = self.world().and_then(|w| w.catalog.get(&campaign)) {
            let mut reference = Campaign::new(&spec.campaign, owner.spec().map_err(Failure)?);
            reference.metadata.uid = Some(owner.uid.clone());
            run.metadata.owner_references = reference.controller_owner_ref(&()).map(|r| vec![r]);
        }
        let api: Api<CampaignRun> = Api::namespaced(self.client.clone(), namespace);
        match bounded(api.create(&PostParams::default(), &run)).await? {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            other => other.map(drop).map_err(failure),
        }
    }

    async fn delete_run(&self, namespace: &str, name: &str) -> Result<(), Failure> {
        let api: Api<CampaignRun> = Api::namespaced(self.client.clone(), namespace);
        unless_gone(bounded(api.delete(name, &DeleteParams::default())).await?)
    }

    async fn hold(&self, key: &Key, is_held: bool) -> Result<(), Failure> {
        let known = self.world().and_then(|w| w.catalog.get(key));
        if known.is_some_and(|o| o.is_held == is_held) {
            return Ok(());
        }
        let mut body = header(key);
        // Applying without the entry lets go of it and leaves the finalizers of others.
        body["metadata"]["finalizers"] = if is_held { json!([FINALIZER]) } else { json!([]) };
        let params = PatchParams::apply(FINALIZER_MANAGER).force();
        unless_gone(bounded(self.api(key).patch(&key.name, &params, &Patch::Apply(&body))).await?)
    }

    async fn event(&self, key: &Key, weight: Weight, reason: Reason, message: &str) {
        let uid = self.world().and_then(|w| w.catalog.get(key)).map(|o| o.uid.clone());
        let reference = ObjectReference {
            api_version: Some(format!("{GROUP}/{VERSION}")),
            kind: Some(key.kind.as_str().to_owned()),
            name: Some(key.name.clone()),
            namespace: Some(key.namespace.clone()),
            uid,
            ..ObjectReference::default()
        };
        let event = Event {
            type_: if weight == Weight::Warning { EventType::Warning } else { EventType::Normal },
            reason: reason.as_str().to_owned(),
            note: Some(message.chars().take(1_000).collect()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        // An event is a courtesy: losing one must not stop the work.
        match tokio::time::timeout(REQUEST_TIMEOUT, self.recorder.publish(&event, &reference)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(object = %key, %error, "an event was not published"),
            Err(_) => tracing::warn!(object = %key, "an event was not published in time"),
        }
        tracing::info!(object = %key, reason = reason.as_str(), "{message}");
    }
}

#[async_trait]
impl Secrets for Cluster {
    async fn secret(&self, namespace: &str, name: &str) -> Option<Secret> {
        let api: Api<KubeSecret> = Api::namespaced(self.client.clone(), namespace);
        let secret = bounded(api.get(name)).await.ok()?.ok()?;
        let entries = secret.data.unwrap_or_default().into_iter();
        Some(entries.filter_map(|(key, value)| Some((key, String::from_utf8(value.0).ok()?))).collect())
    }
}
