//! A channel whose every message is a request of its own: a task each, and never more at once than declared.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{Semaphore, mpsc::UnboundedSender};

use super::{Channel, Delivery, Done, Envelope};

/// A provider that takes one message by one request.
#[async_trait]
pub trait Post: Send + Sync + 'static {
    /// Asks [`Envelope::permission`] right before the request.
    async fn post(&self, message: &Envelope) -> Delivery;
}

/// Messages on their way to such a provider.
pub struct Posted<P> {
    provider: Arc<P>,
    places: Arc<Semaphore>,
    at_once: usize,
}

impl<P: Post> Posted<P> {
    pub fn new(provider: P, at_once: usize) -> Self {
        let at_once = at_once.max(1);
        Self { provider: Arc::new(provider), places: Arc::new(Semaphore::new(at_once)), at_once }
    }
}

#[async_trait]
impl<P: Post> Channel for Posted<P> {
    async fn submit(&self, tag: u64, message: Envelope, done: &UnboundedSender<Done>) {
        let place = self.places.clone().acquire_owned().await;
        let (provider, done) = (self.provider.clone(), done.clone());
        tokio::spawn(async move {
            let delivery = provider.post(&message).await;
            drop(place);
            // Nobody may be left to hear of it.
            let _ = done.send(Done { tag, delivery });
        });
    }

    fn may_doubt(&self) -> bool {
        true
    }

    fn connections(&self) -> usize {
        self.at_once
    }
}
