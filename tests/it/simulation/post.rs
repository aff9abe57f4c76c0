//! A mail system in which every fate happens: taken, refused, put off, and cut off before or behind the final dot.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use campanile::send::channel::{Channel, Delivery, Done, Envelope, Refusal};
use tokio::{
    sync::{Semaphore, mpsc::UnboundedSender},
    time::{Instant, sleep},
};

use super::process::Process;

pub const CONNECTIONS: usize = 2;

/// One message that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    pub run: String,
    pub at: Instant,
}

/// What arrived, by address.
#[derive(Default)]
pub struct Post {
    arrived: Mutex<BTreeMap<String, Vec<Arrival>>>,
}

impl Post {
    pub fn of(&self, to: &str) -> Vec<Arrival> {
        self.arrived.lock().unwrap().get(to).cloned().unwrap_or_default()
    }

    pub fn all(&self) -> BTreeMap<String, Vec<Arrival>> {
        self.arrived.lock().unwrap().clone()
    }

    fn take(&self, message: &Envelope) {
        let run = message.folder.file_name().unwrap().to_string_lossy().into_owned();
        let arrival = Arrival { run, at: Instant::now() };
        self.arrived.lock().unwrap().entry(message.content.to().to_owned()).or_default().push(arrival);
    }
}

/// One process' way to the mail system.
pub struct Carrier {
    pub post: Arc<Post>,
    pub process: Arc<Process>,
    pub is_smooth: bool,
    pub slots: Arc<Semaphore>,
}

#[async_trait]
impl Channel for Carrier {
    async fn submit(&self, tag: u64, message: Envelope, done: &UnboundedSender<Done>) {
        let slot = self.slots.clone().acquire_owned().await.unwrap();
        let (post, process, is_smooth, done) = (self.post.clone(), self.process.clone(), self.is_smooth, done.clone());
        tokio::spawn(async move {
            sleep(Duration::from_millis(process.dice.below(150))).await;
            process.breathe().await;
            let delivery = deliver(&message, &post, &process, is_smooth);
            sleep(Duration::from_millis(process.dice.below(50))).await;
            process.breathe().await;
            let _ = done.send(Done { tag, delivery });
            drop(slot);
        });
    }

    fn may_doubt(&self) -> bool {
        true
    }

    fn connections(&self) -> usize {
        CONNECTIONS
    }
}

/// From the question whether it may go to the last byte: nothing happens between.
fn deliver(message: &Envelope, post: &Post, process: &Process, is_smooth: bool) -> Delivery {
    if !message.permission.is_given() {
        return Delivery::Unsent;
    }
    let detail = String::new;
    match if is_smooth { 99 } else { process.dice.below(100) } {
        0..5 => Delivery::Later { reason: Refusal::RecipientRefused, detail: detail(), after: None },
        5..7 => Delivery::Later { reason: Refusal::ConnectFailed, detail: detail(), after: None },
        7..11 => Delivery::Refused { reason: Refusal::RecipientRefused, detail: detail() },
        11..13 => Delivery::InDoubt { detail: detail() },
        13..16 => {
            post.take(message);
            Delivery::InDoubt { detail: detail() }
        }
        _ => {
            post.take(message);
            Delivery::Sent { receipt: detail() }
        }
    }
}
