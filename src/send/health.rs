//! Whether a channel's provider answers at all. While it does not, nobody is tried: no recipient is at fault.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::channel::{Delivery, Refusal};

/// The first pause; each further one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Namespace and name.
pub type ChannelName = (String, String);

#[derive(Debug, Default)]
pub struct Health {
    /// Failures in a row, and until when the channel rests.
    ill: Mutex<HashMap<ChannelName, (u32, Instant)>>,
}

impl Health {
    /// What the deliveries of a group say of their channel.
    pub fn note<'a>(&self, channel: &ChannelName, deliveries: impl Iterator<Item = &'a Delivery>) {
        let (mut answered, mut silent) = (false, false);
        for delivery in deliveries {
            match delivery {
                Delivery::Later { reason, .. } if is_the_providers(*reason) => silent = true,
                Delivery::Unsent => {}
                _ => answered = true,
            }
        }
        let mut ill = self.ill();
        if answered {
            ill.remove(channel);
        } else if silent {
            let (failures, until) = ill.entry(channel.clone()).or_insert((0, Instant::now()));
            // The rest of what was under way when it broke is the same failure.
            if *until <= Instant::now() {
                *until = Instant::now() + PAUSE_FIRST.saturating_mul(2_u32.saturating_pow(*failures)).min(PAUSE_MAX);
                *failures = failures.saturating_add(1);
            }
        }
    }

    pub fn is_resting(&self, channel: &ChannelName) -> bool {
        self.ill().get(channel).is_some_and(|(_, until)| *until > Instant::now())
    }

    fn ill(&self) -> MutexGuard<'_, HashMap<ChannelName, (u32, Instant)>> {
        self.ill.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The operator's to mend, or the provider's.
pub(super) fn is_the_providers(reason: Refusal) -> bool {
    matches!(reason, Refusal::ConnectFailed | Refusal::TlsFailed | Refusal::AuthFailed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_rests_while_nobody_answers() {
        let health = Health::default();
        let channel = ("shop".to_owned(), "mail".to_owned());
        let later = |reason| Delivery::later(reason, "");
        health.note(&channel, [later(Refusal::RecipientRefused)].iter());
        assert!(!health.is_resting(&channel), "a person's mailbox may be full");
        health.note(&channel, [later(Refusal::ConnectFailed), Delivery::Unsent].iter());
        assert!(health.is_resting(&channel));
        assert!(!health.is_resting(&("shop".to_owned(), "other".to_owned())));
        health.note(&channel, [later(Refusal::ConnectFailed), Delivery::Sent { receipt: String::new() }].iter());
        assert!(!health.is_resting(&channel), "it answers again");
    }
}
