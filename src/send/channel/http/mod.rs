//! `http`: any provider that takes a message by one request, which the channel declares.
//!
//! ```yaml
//! http:
//!   secretRef: {name: gateway}
//!   request:
//!     url: https://api.example.com/v1/messages
//!     headers: [{name: Authorization, value: "Bearer {{ secret.token }}"}]
//!     json: '{"to": "{{ values.phone }}", "text": "{{ values.text }}", "reference": "{{ reference }}"}'
//!   answer: {sent: status == 202 && has(body.id), receipt: body.id, refused: body.code in [17, 21]}
//! ```
//!
//! | answer | where no rule holds |
//! |---|---|
//! | `2xx` | sent; refused where `sent` is declared, as the author says that it is not |
//! | `408`, `425`, `429`, `5xx` | later; `Retry-After` is heeded |
//! | `502`, `504` | in doubt: a gateway does not know what became of what it passed on; later if `idempotent` |
//! | `401`, `403` | later: a login is the operator's to mend |
//! | other `4xx` | refused |
//! | `3xx` | later: no redirect is followed, as what proves who asks would go with it; the URL is the operator's to mend |
//! | none, no connection stood | later |
//! | none behind the request | in doubt; later if `idempotent` |
//!
//! The key of a message goes in a header, and is the same at each attempt: see [`Envelope::key`].

mod answer;
mod composed;
mod request;

use std::collections::BTreeMap;

use async_trait::async_trait;
use http::{HeaderName, HeaderValue};
use minijinja::Value;
use url::Url;

pub use self::request::Wrong;
use self::{answer::Rules, composed::without_signs, request::Template};
use super::{Content, Delivery, Envelope, Refusal, detail, exchange::Exchange, posted::Post};
use crate::{
    api::{channel::HttpChannel, duration::Duration},
    clock::Clock,
};

/// An answer that takes longer holds up the messages behind.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// All that is wrong with what a channel declares.
pub fn check(spec: &HttpChannel) -> Vec<Wrong> {
    let mut found = Template::new(spec).err().unwrap_or_default();
    found.extend(Rules::new(&spec.answer).err().unwrap_or_default());
    if spec.timeout > TIMEOUT_MAX || spec.timeout.as_std().is_zero() {
        found.push(Wrong::at("timeout", format!("an answer is waited for at most {TIMEOUT_MAX}")));
    }
    found
}

/// The values that a channel's request reads by name, each with the field in which it does.
pub fn values_read(spec: &HttpChannel) -> Vec<(String, String)> {
    Template::new(spec).map(|template| template.values).unwrap_or_default()
}

/// A provider as a channel declares it.
pub struct Http {
    template: Template,
    rules: Rules,
    secret: BTreeMap<String, String>,
    key_header: HeaderName,
    is_idempotent: bool,
    exchange: Exchange,
    clock: Clock,
}

impl Http {
    /// # Errors
    /// What is wrong with the channel, or the key that its secret lacks.
    pub fn new(
        spec: &HttpChannel,
        secret: BTreeMap<String, String>,
        exchange: Exchange,
        clock: Clock,
    ) -> Result<Self, String> {
        let first = |wrong: Vec<Wrong>| wrong.into_iter().next().map_or_else(String::new, |wrong| wrong.message);
        let template = Template::new(spec).map_err(first)?;
        let rules = Rules::new(&spec.answer).map_err(first)?;
        if let Some(key) = template.secrets.iter().find(|key| !secret.contains_key(*key)) {
            return Err(format!("its secret has no key `{key}`"));
        }
        let key_header = spec.idempotency_header.parse().map_err(|_| "its idempotencyHeader is no header's name")?;
        let exchange = exchange.waiting(spec.timeout.min(TIMEOUT_MAX).as_std());
        Ok(Self { template, rules, secret, key_header, is_idempotent: spec.idempotent, exchange, clock })
    }

    fn request(&self, message: &Envelope) -> Result<http::Request<bytes::Bytes>, String> {
        let key = message.key();
        let one = |text: &str| Value::from(without_signs(text));
        let pairs = |pairs: Vec<(&str, &str)>| Value::from_pairs(pairs.into_iter().map(|(k, v)| (k, one(v))));
        let values = match &message.content {
            Content::Record(record) => record.values.iter().map(|(name, value)| (&**name, &**value)).collect(),
            Content::Text(text) => vec![("text", text.text.as_str())],
            Content::Mail(_) | Content::Push(_) => return Err("the channel carries no such message".to_owned()),
        };
        let secret = self.secret.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let context = Value::from_pairs([
            ("to", one(message.content.to())),
            ("key", one(&key)),
            ("reference", one(&message.reference)),
            ("values", pairs(values)),
            ("secret", pairs(secret)),
        ]);
        let mut request = self.template.request(&context)?;
        if let Ok(key) = HeaderValue::from_str(&key) {
            request.headers_mut().insert(self.key_header.clone(), key);
        }
        Ok(request)
    }
}

#[async_trait]
impl Post for Http {
    async fn post(&self, message: &Envelope) -> Delivery {
        let request = match self.request(message) {
            Ok(request) => request,
            Err(text) => return Delivery::Refused { reason: Refusal::DataRefused, detail: detail(&text) },
        };
        if !message.permission.is_given() {
            return Delivery::Unsent;
        }
        let delivery = match self.exchange.ask(request).await {
            Ok(answer) => self.rules.judge(&answer, message.content.to(), self.clock.now()),
            Err(fault) => fault.delivery(),
        };
        match delivery {
            // It knows the message again.
            Delivery::InDoubt { detail } if self.is_idempotent => Delivery::later(Refusal::Timeout, &detail),
            other => other,
        }
    }
}

/// Where a channel's messages go, as far as it does not depend on the message.
///
/// # Errors
/// If it is no URL, or depends on the message.
pub fn origin(spec: &HttpChannel) -> Result<Url, String> {
    request::origin(&spec.request.url)
}

#[cfg(test)]
mod tests;
