//! What message centres tell over the connections that texts go out on: receipts become events, and a `STOP` withdraws.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use rusmpp_core::values::MessageState;

use super::{
    intake::{About, Fact, Happened, Intake},
    mail::Class,
    stop::{Stopped, Word, keyword, withdraw_sender},
};
use crate::{
    api::medium::Medium,
    clock::Clock,
    send::channel::smpp::{Receipt, Told},
    store::{self, Store},
};

const SOURCE: &str = "smpp";
/// A receipt may come before the message that it is of is recorded as sent: it is looked for again, so often.
const LOOKS: u32 = 25;
const LOOK: Duration = Duration::from_millis(200);
const TEXT_CHARS_MAX: usize = 160;

/// Takes what all of a home's message centres tell. Cloning shares it.
#[derive(Clone)]
pub struct Texts {
    intake: Intake,
}

impl Texts {
    /// # Errors
    /// Of the store.
    pub async fn begin(store: Store, clock: Clock) -> store::Result<Self> {
        Ok(Self { intake: Intake::begin(store, clock).await? })
    }

    /// What is told to one channel.
    pub fn of(&self, namespace: &str, channel: &str) -> Arc<dyn Told> {
        Arc::new(Of { intake: self.intake.clone(), namespace: namespace.to_owned(), channel: channel.to_owned() })
    }
}

struct Of {
    intake: Intake,
    namespace: String,
    channel: String,
}

#[async_trait]
impl Told for Of {
    async fn receipt(&self, receipt: Receipt) -> Result<(), String> {
        let what = happened(&receipt);
        let mut references = vec![];
        // Of what is no event nobody asks which message it is about.
        if !matches!(what, Happened::Nothing(_)) {
            references.extend(self.reference(&receipt.id).await.map_err(|e| e.to_string())?);
        }
        // A centre that has no answer tells it again: of one message each state is one event.
        let id = format!("{SOURCE}-{:?}", receipt.state);
        self.tell(About::Message { references, id, recipient: receipt.to, medium: Medium::Sms.word() }, what).await
    }

    async fn text(&self, from: &str, text: &str) -> Result<(), String> {
        let (word, now) = (keyword(text), self.intake.clock.now());
        if word == Word::Stop {
            let text: String = text.chars().filter(|c| !c.is_control()).take(TEXT_CHARS_MAX).collect();
            let said = Stopped {
                namespace: &self.namespace,
                channel: &self.channel,
                medium: Medium::Sms,
                address: from,
                source: Medium::Sms.word(),
                text: Some(&text),
                at: now,
            };
            withdraw_sender(&self.intake.store, &said, now).await.map_err(|e| e.to_string())?;
        }
        let about =
            About::Message { references: vec![], id: String::new(), recipient: None, medium: Medium::Sms.word() };
        self.tell(about, Happened::Nothing(word.as_str())).await
    }
}

impl Of {
    async fn reference(&self, id: &str) -> store::Result<Option<String>> {
        for _ in 0..LOOKS {
            let found = self.intake.store.receipt((&self.namespace, &self.channel), id).await?;
            if found.is_some() {
                return Ok(found);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(None)
    }

    async fn tell(&self, about: About, what: Happened) -> Result<(), String> {
        let fact = Fact { source: SOURCE, about, what, at: self.intake.clock.now() };
        self.intake.tell(vec![fact]).await.map(|_| ())
    }
}

/// A state is no proof that nobody has the number, unless the network says so: phones are off for weeks.
fn happened(receipt: &Receipt) -> Happened {
    match receipt.state {
        MessageState::Delivered => Happened::Delivered,
        MessageState::Undeliverable if receipt.is_number_unknown => Happened::Bounced(Class::UnknownMailbox),
        MessageState::Expired => Happened::Bounced(Class::Unreachable),
        MessageState::Rejected => Happened::Bounced(Class::Blocked),
        MessageState::Undeliverable | MessageState::Deleted | MessageState::Skipped => {
            Happened::Bounced(Class::Undetermined)
        }
        _ => Happened::Nothing("Underway"),
    }
}
