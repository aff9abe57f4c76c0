//! A controller's data directory, watched: a file that arrives is read at once, not at the next poll.

use std::{sync::Arc, time::Duration};

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::World;
use crate::source::Kind;

/// What arrives within this time is one look.
const QUIET: Duration = Duration::from_millis(50);
/// Notifications wait here while datasets are woken; more of them say nothing new.
const WAITING: usize = 64;

/// Wakes the datasets, and the policies with lists, whenever something changes below the data directory, until the process ends.
///
/// # Errors
/// If the operating system cannot watch it.
pub async fn watch_data(world: Arc<World>) -> notify::Result<()> {
    let Some(data) = world.data.clone() else { return Ok(()) };
    let (sender, mut changes) = mpsc::channel(WAITING);
    let arrivals = world.arrivals.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else { return };
        if !event.kind.is_access() {
            arrivals.note(&event);
            // A full queue already means another look.
            let _ = sender.try_send(());
        }
    })?;
    watcher.watch(&data, RecursiveMode::Recursive)?;
    while changes.recv().await.is_some() {
        tokio::time::sleep(QUIET).await;
        while changes.try_recv().is_ok() {}
        for kind in [Kind::Dataset, Kind::ContactPolicy] {
            world.queue.wake(world.catalog.all(kind).iter().map(|o| o.key.clone()));
        }
    }
    Ok(())
}
