//! Connections that wait for the next message, and the bound on all there are.
//!
//! Who wants a connection holds a permit first: while connecting, while sending, while taking leave. Connections in
//! the pool hold none, but a new one is opened only when the pool is empty or in place of the caller's own, so those
//! held and those waiting together are never more than the permits.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::connection::Connection;

/// Relays close idle connections after a minute or more; leaving first spares the next message a vain attempt.
const IDLE_MAX: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_secs(10);
/// Postfix and others refuse a hundred or more messages on one connection.
const MESSAGES_PER_CONNECTION_MAX: u32 = 100;

pub(super) struct Pool {
    permits: Arc<Semaphore>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// The one that waits longest first.
    connections: Vec<(Instant, Connection)>,
    /// A task closes those that wait too long.
    is_watched: bool,
}

impl Pool {
    pub fn new(connections: usize) -> Arc<Self> {
        // None at all would wait for ever.
        Arc::new(Self { permits: Arc::new(Semaphore::new(connections.max(1))), waiting: Mutex::default() })
    }

    pub async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        self.permits.clone().acquire_owned().await.ok()
    }

    /// The connection used last, so that those not needed grow old. The caller holds a permit.
    pub async fn take(&self) -> Option<Connection> {
        loop {
            let (since, connection) = self.waiting().connections.pop()?;
            if since.elapsed() < IDLE_MAX {
                return Some(connection);
            }
            connection.quit().await;
        }
    }

    /// Keeps a connection for the next message. The caller still holds its permit.
    pub async fn put(self: &Arc<Self>, connection: Connection) {
        if connection.messages >= MESSAGES_PER_CONNECTION_MAX {
            return connection.quit().await;
        }
        let mut waiting = self.waiting();
        waiting.connections.push((Instant::now(), connection));
        if !waiting.is_watched {
            waiting.is_watched = true;
            tokio::spawn(watch(Arc::downgrade(self)));
        }
    }

    /// One that waited too long, with a permit to close it under.
    fn expired(&self) -> Option<(OwnedSemaphorePermit, Connection)> {
        let permit = self.permits.clone().try_acquire_owned().ok()?;
        let mut waiting = self.waiting();
        let is_old = waiting.connections.first().is_some_and(|(since, _)| since.elapsed() >= IDLE_MAX);
        is_old.then(|| (permit, waiting.connections.remove(0).1))
    }

    /// Whether the watch ends here: nothing waits, and who puts the next one starts another.
    fn is_watched_no_more(&self) -> bool {
        let mut waiting = self.waiting();
        waiting.is_watched = !waiting.connections.is_empty();
        !waiting.is_watched
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn watch(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(pool) = pool.upgrade() else { return };
        while let Some((_permit, connection)) = pool.expired() {
            connection.quit().await;
        }
        if pool.is_watched_no_more() {
            return;
        }
    }
}
