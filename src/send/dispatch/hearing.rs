//! Channels that tell of their messages over the connection that those went out on: they stay open while nothing is sent.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::Dispatcher;
use crate::{api::ChannelSpec, feedback::texts::Texts, plan::Bundle, store};

/// Looked at as often for channels that others began to send over.
const EVERY: Duration = Duration::from_secs(30);

/// By channel, the newest run that sent over it when it was opened.
type Known = BTreeMap<(String, String), i64>;

impl Dispatcher {
    pub(super) async fn keep_hearing(self: Arc<Self>) {
        let mut known = Known::new();
        while self.providers.can_hear() && !self.lease.is_halted() {
            if let Err(error) = self.open_heard(&mut known).await {
                tracing::warn!(%error, "what message centres tell waits there");
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// A channel is as the newest run that sent over it had it: nothing else is at hand where no manifest is.
    async fn open_heard(&self, known: &mut Known) -> store::Result<()> {
        for (namespace, channel, newest) in self.store.channels_used().await? {
            let key = (namespace, channel);
            if known.get(&key) == Some(&newest) {
                continue;
            }
            let text = self.store.newest_revision(&key.0, &key.1).await?;
            let bundle = text.and_then(|text| serde_json::from_str::<Bundle>(&text).ok());
            let spec = bundle.and_then(|mut bundle| bundle.channels.remove(&*key.1));
            if let Some(spec) = spec.filter(ChannelSpec::is_heard) {
                self.hear().await?;
                let secret = match spec.way().secret() {
                    Some(reference) => self.secrets.secret(&key.0, &reference.name).await,
                    None => None,
                };
                if let Err(problem) = self.providers.provider(&key.0, &key.1, &spec, secret.as_ref()) {
                    tracing::warn!(channel = key.1, problem, "a message centre is not heard");
                    continue;
                }
            }
            known.insert(key, newest);
        }
        Ok(())
    }

    /// Has what message centres tell recorded, from now on.
    pub(super) async fn hear(&self) -> store::Result<()> {
        if self.providers.can_hear() {
            let begin = || Texts::begin(self.store.clone(), self.clock);
            let texts = self.texts.get_or_try_init(begin).await?;
            self.providers.hear(texts);
        }
        Ok(())
    }
}
