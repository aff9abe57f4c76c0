//! Watches the folder: an edit is reconciled within a second.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::Folder;
use crate::{
    reconcile::World,
    source::{Kind, manifest::Diagnostic},
};

/// Editors write a file in several steps; what comes within this time is one change.
const QUIET: Duration = Duration::from_millis(50);
const QUIET_MAX: Duration = Duration::from_millis(250);
/// Notifications wait here while a load is under way; more of them say nothing new.
const WAITING: usize = 64;
/// Where no notification arrives (some network file systems), the folder is still looked at.
const LOOK: Duration = Duration::from_secs(60);
const LOOK_MISSING: Duration = Duration::from_secs(1);

/// Loads the folder again whenever something in it changes, until the process ends.
///
/// # Errors
/// If the operating system cannot watch the folder.
pub async fn watch(folder: Arc<Folder>, world: Arc<World>, report: impl Fn(&[Diagnostic])) -> notify::Result<()> {
    let (sender, mut changes) = mpsc::channel(WAITING);
    let roots = folder.roots().to_vec();
    let arrivals = world.arrivals.clone();
    let first_look = sender.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if let Ok(event) = &event {
            arrivals.note(event);
        }
        let is_ours = event.is_ok_and(|e| !e.kind.is_access() && e.paths.iter().any(|p| is_watched(p, &roots)));
        if is_ours {
            // A full queue already means another load.
            let _ = sender.try_send(());
        }
    })?;
    for root in folder.roots() {
        watcher.watch(root, RecursiveMode::Recursive)?;
    }
    // What was edited between the load at the start and this line raised no notification.
    let _ = first_look.try_send(());
    let mut is_missing = false;
    loop {
        let wait = if is_missing { LOOK_MISSING } else { LOOK };
        let changed = tokio::time::timeout(wait, changes.recv()).await;
        let calm = async { while tokio::time::timeout(QUIET, changes.recv()).await.is_ok_and(|c| c.is_some()) {} };
        // Files may arrive all the time.
        let _ = tokio::time::timeout(QUIET_MAX, calm).await;
        match folder.load(false).await {
            Ok((new, missing)) => {
                is_missing = missing;
                report(&new);
            }
            Err(error) => tracing::warn!(%error, "the folder was not loaded"),
        }
        if changed.is_ok() {
            // A file of rows, or of an imported audience's keys, may be what changed.
            for kind in [Kind::Dataset, Kind::Audience, Kind::ContactPolicy] {
                world.queue.wake(world.catalog.all(kind).iter().map(|o| o.key.clone()));
            }
        }
    }
}

/// Hidden files and folders inside a root are not ours to read, `.campanile` least of all.
fn is_watched(path: &Path, roots: &[PathBuf]) -> bool {
    let inside = roots.iter().find_map(|root| path.strip_prefix(root).ok()).unwrap_or(path);
    !inside.components().any(|part| part.as_os_str().to_str().is_some_and(|name| name.starts_with('.')))
}
