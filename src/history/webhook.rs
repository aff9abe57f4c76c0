//! Batches of CloudEvents to a webhook, signed as Standard Webhooks has it.
//!
//! A batch is told until it is answered with a `2xx`, however often that is: a receiver that takes it and says something
//! else, or nothing, gets it again, and knows it by its `webhook-id`.

use bytes::Bytes;
use http::{Request, header};
use jiff::{SignedDuration, Timestamp};
use ring::hmac;
use serde_json::Value as Json;

use super::hash;
use crate::{
    feedback::webhook,
    send::channel::exchange::{Exchange, Fault},
};

/// Receivers commonly refuse bodies of more than 1 MiB.
const BATCH_BYTES_MAX: usize = 512 * 1024;
const BATCH_EVENTS_MAX: usize = 500;

pub struct Webhook {
    url: String,
    key: hmac::Key,
    exchange: Exchange,
}

/// Why a batch was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untold {
    pub problem: String,
    /// When the receiver wants to be asked again, if it says so.
    pub after: Option<SignedDuration>,
}

impl From<String> for Untold {
    fn from(problem: String) -> Self {
        Self { problem, after: None }
    }
}

impl Webhook {
    /// `key` as it stands in a Secret: `whsec_` and Base64, or its own bytes.
    pub fn new(url: &str, key: &str, exchange: Exchange) -> Self {
        Self { url: url.to_owned(), key: webhook::key(key), exchange }
    }

    /// Tells events, batch after batch.
    ///
    /// # Errors
    /// Why one was not taken; those behind it are not told.
    pub async fn tell(&self, events: &[Json], now: Timestamp) -> Result<(), Untold> {
        let mut batch: Vec<String> = vec![];
        let mut bytes = 0;
        for event in events {
            let text = event.to_string();
            if batch.len() == BATCH_EVENTS_MAX || (!batch.is_empty() && bytes + text.len() > BATCH_BYTES_MAX) {
                self.post(&batch, now).await?;
                (batch, bytes) = (vec![], 0);
            }
            bytes += text.len() + 1;
            batch.push(text);
        }
        if batch.is_empty() { Ok(()) } else { self.post(&batch, now).await }
    }

    async fn post(&self, batch: &[String], now: Timestamp) -> Result<(), Untold> {
        let body = Bytes::from(format!("[{}]", batch.join(",")));
        let id = format!("msg_{}", hash(&body));
        let request = Request::post(&self.url)
            .header(header::CONTENT_TYPE, "application/cloudevents-batch+json; charset=UTF-8")
            .header("webhook-id", &id)
            .header("webhook-timestamp", now.as_second())
            .header("webhook-signature", webhook::sign(&self.key, &id, now, &body))
            .body(body)
            .map_err(|error| error.to_string())?;
        match self.exchange.ask(request).await {
            Ok(answer) if answer.status.is_success() => Ok(()),
            Ok(answer) => {
                let problem = format!("the webhook answered {}", answer.status.as_u16());
                Err(Untold { problem, after: answer.retry_after(now) })
            }
            Err(Fault::Unbegun(_, text) | Fault::Forbidden(text) | Fault::Lost(text)) => {
                Err(format!("the webhook was not reached: {text}").into())
            }
        }
    }
}
