//! A private store for `campanile plan --data`: the manifests' own files, read by the reconciler that reads them at home.
//!
//! Only Datasets are looked at: no campaign runs on it, no audience is exported from it. It is gone with the value.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::time::Instant;

use super::End;
use crate::{
    api::{DatasetStatus, condition},
    clock::Clock,
    reconcile::World,
    send::gate::Gate,
    source::{
        Key, Kind,
        directory::{Folder, Marks},
    },
    store::Store,
};

const LOOK: Duration = Duration::from_millis(20);
/// So many looks in a row must find nothing to do.
const LOOKS: u32 = 4;
/// Longer than a pipeline should wait for its own files.
pub const TIME_MAX: Duration = Duration::from_secs(300);

/// A store that is filled.
pub struct Private {
    folder: TempDir,
    /// Datasets that are not as they should be, each with its reason.
    pub problems: Vec<String>,
}

impl Private {
    /// Reads every file that the Datasets under the paths name; remote ones, too.
    pub async fn load(paths: &[PathBuf], clock: Clock) -> Result<Self, End> {
        let wrong = |error: std::io::Error| End::Wrong(format!("the private store: {error}"), None);
        let folder = tempfile::Builder::new().prefix("campanile-plan-").tempdir().map_err(wrong)?;
        let roots: Result<Vec<PathBuf>, _> = paths.iter().map(|path| path.canonicalize()).collect();
        let store = Store::open_scratch(&url(&folder)).await?;
        store.enter("plan", "plan").await?;
        let source = Arc::new(Folder::new(store.clone(), clock, roots.map_err(wrong)?, Marks::new(folder.path())));
        let world = World::in_folder(&source, &store, clock, Gate::Outbox, vec![]);
        source.load(true).await?;
        let others: Vec<Key> = world.catalog.keys().into_iter().filter(|key| key.kind != Kind::Dataset).collect();
        for key in others {
            world.catalog.remove(&key);
        }
        let looking = tokio::spawn(world.clone().run());
        let all_read = until_read(&world).await;
        looking.abort();
        // A look that was under way ends first: it holds a connection.
        let _ = looking.await;
        let problems = problems(&world);
        store.close().await;
        if !all_read {
            return Err(End::Wrong(format!("the files were not read within {} s", TIME_MAX.as_secs()), None));
        }
        Ok(Self { folder, problems })
    }

    pub fn url(&self) -> String {
        url(&self.folder)
    }
}

fn url(folder: &TempDir) -> String {
    format!("sqlite://{}", folder.path().join("store.db").display())
}

async fn until_read(world: &World) -> bool {
    let (began, mut quiet) = (Instant::now(), 0);
    while quiet < LOOKS {
        if began.elapsed() > TIME_MAX {
            return false;
        }
        tokio::time::sleep(LOOK).await;
        quiet = if world.queue.is_idle() { quiet + 1 } else { 0 };
    }
    true
}

fn problems(world: &World) -> Vec<String> {
    let datasets = world.catalog.all(Kind::Dataset);
    let unready = datasets.iter().filter(|object| !object.is_ready()).map(|object| {
        let status: DatasetStatus = object.status();
        let why = condition::find(&status.conditions, "Ready").map_or("it was not looked at", |c| c.message.as_str());
        format!("dataset `{}` is not ready: {why}", object.key.name)
    });
    unready.collect()
}
