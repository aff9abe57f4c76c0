//! One reconciler per kind, each in five verbs: dereference, validate, build, apply, update status.
//!
//! A reconciler takes no input but the object's name: why it was woken never matters, so there is one code path, and
//! a full scan finds nothing new.

mod arrive;
mod audience;
mod campaign;
mod campaign_run;
mod channel;
mod dataset;
mod history;
mod lawful;
mod policy;
pub mod queue;
mod remainder;
mod template;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{Notify, Semaphore};

use crate::{
    api::{
        access::Access,
        condition::{self, Reason, Standing},
    },
    clock::Clock,
    files::{
        Arrivals, Site, is_remote,
        reach::{AllowedUrl, Reach},
        remote::Remote,
        target::Target,
    },
    plan::Finding,
    send::{
        dispatch::{Secrets, Watch},
        gate::Gate,
        mailing::Places,
    },
    source::{
        Failure, Key, Kind, Source, Weight,
        catalog::{Catalog, Object},
        directory::Folder,
    },
    store::{self, Store},
};
pub use arrive::watch_data;
pub use campaign_run::cancel;
pub use history::Teller;
pub use queue::{Action, Queue};

/// Objects looked at at once: the store has few connections, and most looks are short.
const LOOKS_AT_ONCE: usize = 4;
/// Outcomes arrive in bursts; a status shows them at most so often.
const STATUS_EVERY: Duration = Duration::from_millis(250);

/// The longest a timer is set for: a machine that slept looks again soon after.
const LOOK_AHEAD_MAX: Duration = Duration::from_secs(3_600);

/// Where a reconciler lives.
pub struct World {
    pub catalog: Catalog,
    pub source: Arc<dyn Source>,
    pub store: Store,
    pub clock: Clock,
    pub gate: Gate,
    pub queue: Queue,
    /// Wakes the dispatcher: there may be something to send.
    pub sends: Notify,
    /// How long an object must have stood as it is before a run starts on it: a folder is read as a whole, a cluster is not.
    pub settle: Duration,
    /// Where relative file URLs begin and what they cannot leave; in the folder home the manifest's own folder.
    pub data: Option<PathBuf>,
    /// Where a cluster's audiences are exported to, a folder for each namespace; in the folder home the manifest's own.
    pub exports: Option<PathBuf>,
    /// Another home's store: read and planned, never claimed.
    pub not_mine: Option<String>,
    /// Datasets whose files this process has found to be in. What an earlier process wrote into a status says nothing
    /// about the files that are there now.
    pub loaded: Loaded,
    /// Files that were renamed into place.
    pub arrivals: Arrivals,
    /// What resources may reach outside of it.
    pub reach: Arc<Reach>,
    /// The Secrets that they name.
    pub secrets: Arc<dyn Secrets>,
}

/// The datasets that are loaded.
#[derive(Default)]
pub struct Loaded {
    keys: RwLock<BTreeSet<Key>>,
}

impl Loaded {
    fn contains(&self, namespace: &str, dataset: &str) -> bool {
        self.keys.read().is_ok_and(|keys| keys.contains(&Key::new(Kind::Dataset, namespace, dataset)))
    }

    /// Notes how a dataset stands; whether it has just become loaded.
    fn note(&self, key: &Key, is_loaded: bool) -> bool {
        let Ok(mut keys) = self.keys.write() else { return false };
        if is_loaded {
            return keys.insert(key.clone());
        }
        keys.remove(key);
        false
    }
}

/// What stopped a look; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Source(#[from] Failure),
    #[error("internal: {0}")]
    Internal(String),
}

impl World {
    /// Of a folder of manifests, which its owner starts and reads: nothing but what `urls` names lies outside of its reach.
    pub fn in_folder(
        folder: &Arc<Folder>,
        store: &Store,
        clock: Clock,
        gate: Gate,
        urls: Vec<AllowedUrl>,
    ) -> Arc<Self> {
        let world = Arc::new(Self {
            catalog: Catalog::default(),
            source: folder.clone(),
            store: store.clone(),
            clock,
            gate,
            queue: Queue::default(),
            sends: Notify::new(),
            settle: Duration::ZERO,
            data: None,
            exports: None,
            not_mine: None,
            loaded: Loaded::default(),
            arrivals: Arrivals::default(),
            reach: Arc::new(Reach { is_cluster: false, urls, tables: vec![] }),
            secrets: folder.clone(),
        });
        folder.attach(&world);
        world
    }

    /// Looks at objects until the process ends.
    pub async fn run(self: Arc<Self>) {
        let permits = Arc::new(Semaphore::new(LOOKS_AT_ONCE));
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else { return };
            let key = self.queue.next().await;
            let world = self.clone();
            tokio::spawn(async move {
                let outcome = world.look(&key).await;
                if let Err(error) = &outcome {
                    tracing::warn!(object = %key, %error, "the look failed and is tried again");
                }
                world.queue.done(&key, outcome.map_err(|_| ()));
                drop(permit);
            });
        }
    }

    async fn look(&self, key: &Key) -> Result<Action, Error> {
        let Some(object) = self.catalog.get(key) else { return Ok(Action::Await) };
        match key.kind {
            Kind::Dataset => dataset::reconcile(&object, self).await,
            Kind::Audience => audience::reconcile(&object, self).await,
            Kind::Channel => channel::reconcile(&object, self).await,
            Kind::MessageTemplate => template::reconcile(&object, self).await,
            Kind::ContactPolicy => policy::reconcile(&object, self).await,
            Kind::Campaign => campaign::reconcile(&object, self).await,
            Kind::CampaignRun => campaign_run::reconcile(&object, self).await,
        }
    }

    /// Where a resource's files are, as far as its namespace may reach. In the folder home a manifest reaches what lies
    /// beside and below it; in a cluster the data directory.
    async fn site(&self, object: &Object, url: &str, access: &Access) -> Result<Site, String> {
        if is_remote(url) {
            return self.remote(object, url, access).await.map(Site::Remote);
        }
        let base = object.folder().or_else(|| self.data.clone());
        let base = base.ok_or_else(|| format!("`{url}`: this controller has no --data directory"))?;
        Ok(Site::local(&base, &base, url))
    }

    /// Where a resource writes a file. In a cluster each namespace has a folder of its own: one must not write over
    /// another's files.
    async fn target(&self, object: &Object, url: &str, access: &Access) -> Result<Target, String> {
        if is_remote(url) {
            return self.remote(object, url, access).await?.target().map(Target::Object);
        }
        let exports = || self.exports.as_ref().map(|folder| folder.join(&object.key.namespace));
        let root = object.folder().or_else(exports);
        let root = root.ok_or_else(|| format!("`{url}`: this controller has no --exports directory"))?;
        let url = url.to_owned();
        let target = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&root).map_err(|e| format!("{}: {e}", root.display()))?;
            Target::local(&root, &url)
        });
        target.await.map_err(|e| e.to_string())?
    }

    async fn remote(&self, object: &Object, url: &str, access: &Access) -> Result<Remote, String> {
        let namespace = &object.key.namespace;
        let secret = match &access.secret_ref {
            Some(reference) => {
                let found = self.secrets.secret(namespace, &reference.name).await;
                Some(found.ok_or_else(|| format!("there is no Secret `{}`", reference.name))?)
            }
            None => None,
        };
        Remote::new((url, access), secret.as_ref(), self.reach.clone(), namespace)
    }

    /// Writes a status if it differs from what stands there.
    async fn write(&self, object: &Object, status: impl Serialize) -> Result<(), Error> {
        let status = serde_json::to_value(status).map_err(|e| Error::Internal(e.to_string()))?;
        if same(&status, &object.status) {
            return Ok(());
        }
        self.announce(object, &status).await;
        self.source.write_status(&object.key, status).await?;
        Ok(())
    }

    /// An event on each change of `Ready`'s reason: transitions, not repetitions.
    async fn announce(&self, object: &Object, status: &Value) {
        let ready = |status: &Value| {
            let found = status["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == "Ready");
            found.map(|c| {
                (c["reason"].as_str().unwrap_or("").to_owned(), c["message"].as_str().unwrap_or("").to_owned())
            })
        };
        let (before, after) = (ready(&object.status), ready(status));
        if let Some((reason, message)) = after.filter(|a| before.as_ref().map(|b| &b.0) != Some(&a.0))
            && let Some(reason) = Reason::ALL.into_iter().find(|r| r.as_str() == reason)
        {
            let stalled = status["conditions"].as_array().is_some_and(|c| c.iter().any(|c| c["type"] == "Stalled"));
            let weight = if stalled { Weight::Warning } else { Weight::Normal };
            self.source.event(&object.key, weight, reason, &message).await;
        }
    }
}

#[async_trait]
impl Places for World {
    async fn place(&self, (namespace, name): (&str, &str), url: &str, access: &Access) -> Result<Target, String> {
        let channel = self.catalog.get(&Key::new(Kind::Channel, namespace, name));
        let channel = channel.ok_or_else(|| format!("Channel `{name}` is not declared any more"))?;
        self.target(&channel, url, access).await
    }
}

impl Watch for World {
    fn progressed(&self, namespace: &str, run: &str) {
        self.queue.wake_after(Key::new(Kind::CampaignRun, namespace, run), STATUS_EVERY);
    }
}

/// Equal but for what the API server defaults or drops.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, value)| b.get(name).is_some_and(|other| same(value, other)))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        _ => a == b,
    }
}

/// Sets the kstatus conditions of an object.
fn stand(conditions: &mut Vec<Condition>, standing: &Standing, object: &Object, now: Timestamp) {
    condition::apply(conditions, standing, object.generation, now);
}

/// Findings as one sentence: the first, and how many more there are.
fn sentence(found: &[Finding], of: &Key) -> String {
    let Some(first) = found.first() else { return String::new() };
    let owner = if first.object.name == of.name && first.object.kind == of.kind.as_str() {
        String::new()
    } else {
        format!("{} `{}`, ", first.object.kind, first.object.name)
    };
    let hint = first.hint.as_ref().map_or(String::new(), |h| format!("; {h}"));
    let more = if found.len() > 1 { format!(" (and {} more)", found.len() - 1) } else { String::new() };
    format!("{owner}{}: {}{hint}{more}", first.path, first.message)
}
