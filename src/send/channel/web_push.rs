//! `push.webPush`: browsers, each over the push service of its maker (RFC 8030), sealed so that only the browser reads it
//! (RFC 8291), from a sender who proves who it is (VAPID, RFC 8292).
//!
//! ```yaml
//! push: {webPush: {subject: "mailto:push@example.com", secretRef: {name: vapid}}}
//! ```
//! The address is the subscription as `JSON.stringify(subscription)` gives it in the browser: `{"endpoint": …, "keys":
//! {"p256dh": …, "auth": …}}`. What the page's service worker gets is JSON: `{"title", "body", "data"}`.
//!
//! | answer | |
//! |---|---|
//! | `2xx` | sent: the push service has it |
//! | `404`, `410` | the subscription is dead, and marked |
//! | `403` | it was made for another key pair than ours: refused |
//! | `413`, other `4xx` | refused |
//! | `401` | our token is not taken: the operator's to mend, later |
//! | `429`, `5xx` | later; `Retry-After` is heeded |

mod sealing;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use url::Url;

use self::sealing::{AUTH_BYTES, Keys, POINT_BYTES};
use super::{
    Content, Delivery, Envelope, Notice, Permission, Refusal, detail,
    exchange::{Answer, Exchange, Fault},
    jwt::Signer,
    posted::Post,
};
use crate::clock::Clock;

/// RFC 8292, section 2 allows a day; a clock that is an hour off does no harm.
const TOKEN_VALID: SignedDuration = SignedDuration::from_hours(12);
/// A token is renewed so long before it ends.
const TOKEN_RENEWED: SignedDuration = SignedDuration::from_hours(1);
/// Browsers come from a handful of makers; a list of more origins than this is begun anew.
const ORIGINS_MAX: usize = 1_000;
/// RFC 8030, section 5.4.
const TOPIC_CHARS: usize = 32;
/// How long a message waits for its browser, where nobody says it: four weeks, the most that services keep it.
const TTL_DEFAULT_S: u32 = 28 * 86_400;

/// What the push services are told of the sender.
pub struct Settings {
    /// A `mailto:` or `https:` URL at which a push service reaches who sends.
    pub subject: String,
    pub signer: Signer,
    pub clock: Clock,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Settings {{ {} }}", self.subject)
    }
}

pub struct WebPush {
    settings: Settings,
    exchange: Exchange,
    /// By origin, with their ends.
    tokens: Mutex<HashMap<String, (Arc<str>, Timestamp)>>,
}

/// A subscription as browsers write it.
#[derive(Deserialize)]
struct Subscription {
    endpoint: String,
    keys: SubscriptionKeys,
}

#[derive(Deserialize)]
struct SubscriptionKeys {
    p256dh: String,
    auth: String,
}

impl WebPush {
    pub fn new(settings: Settings, exchange: Exchange) -> Self {
        Self { settings, exchange, tokens: Mutex::default() }
    }

    /// Pushes one notice; `permission` is asked right before.
    pub async fn push(&self, notice: &Notice, permission: &Permission) -> Delivery {
        let request = match self.request(notice) {
            Ok(request) => request,
            Err(refused) => return refused,
        };
        if !permission.is_given() {
            return Delivery::Unsent;
        }
        match self.exchange.ask(request).await {
            Ok(answer) => judge(&answer, self.settings.clock.now()),
            // Its browser leads there.
            Err(Fault::Forbidden(text)) => {
                Delivery::Refused { reason: Refusal::RecipientRefused, detail: detail(&text) }
            }
            Err(fault) => fault.delivery(),
        }
    }

    /// # Errors
    /// Why it cannot be asked for.
    fn request(&self, notice: &Notice) -> Result<Request<Bytes>, Delivery> {
        let (endpoint, keys) = subscription(&notice.to)
            .map_err(|text| Delivery::Refused { reason: Refusal::RecipientRefused, detail: text.to_owned() })?;
        let refused = |text: String| Delivery::Refused { reason: Refusal::DataRefused, detail: text };
        let body = sealing::seal(&keys, payload(notice).as_bytes()).map_err(refused)?;
        let token = self.token(&endpoint.origin().ascii_serialization()).map_err(refused)?;
        let authorization = format!("vapid t={token}, k={}", self.settings.signer.public_key());
        let mut request = Request::post(endpoint.as_str())
            .header(header::AUTHORIZATION, authorization)
            .header(header::CONTENT_ENCODING, "aes128gcm")
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header("TTL", notice.ttl_s.unwrap_or(TTL_DEFAULT_S))
            .header("Urgency", notice.urgency.word());
        if let Some(collapse) = &notice.collapse {
            request = request.header("Topic", topic(collapse));
        }
        request.body(body.into()).map_err(|error| refused(error.to_string()))
    }

    /// The token for a push service; made once for many messages.
    fn token(&self, origin: &str) -> Result<Arc<str>, String> {
        let now = self.settings.clock.now();
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((token, end)) = tokens.get(origin)
            && *end > now + TOKEN_RENEWED
        {
            return Ok(token.clone());
        }
        let end = now + TOKEN_VALID;
        let claims = serde_json::json!({"aud": origin, "exp": end.as_second(), "sub": self.settings.subject});
        let token: Arc<str> = self.settings.signer.sign(None, &claims)?.into();
        if tokens.len() >= ORIGINS_MAX {
            tokens.clear();
        }
        tokens.insert(origin.to_owned(), (token.clone(), end));
        Ok(token)
    }
}

#[async_trait]
impl Post for WebPush {
    async fn post(&self, message: &Envelope) -> Delivery {
        match &message.content {
            Content::Push(notice) => self.push(notice, &message.permission).await,
            _ => Delivery::foreign(),
        }
    }
}

/// What the service worker of the page gets.
fn payload(notice: &Notice) -> String {
    serde_json::json!({"title": notice.title, "body": notice.body, "data": notice.data}).to_string()
}

/// 32 characters of an alphabet of its own: what the author wrote is made fit for it.
pub(super) fn topic(collapse: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(collapse)).chars().take(TOPIC_CHARS).collect()
}

fn subscription(text: &str) -> Result<(Url, Keys), &'static str> {
    let subscription: Subscription =
        serde_json::from_str(text).map_err(|_| "the address is not a push subscription in JSON")?;
    let endpoint = Url::parse(&subscription.endpoint).map_err(|_| "the subscription's endpoint is not a URL")?;
    let decoded = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
    let (Ok(p256dh), Ok(auth)) = (decoded(&subscription.keys.p256dh), decoded(&subscription.keys.auth)) else {
        return Err("the subscription's keys are not in base64url");
    };
    if p256dh.len() != POINT_BYTES || auth.len() != AUTH_BYTES {
        return Err("the subscription's keys have other lengths");
    }
    Ok((endpoint, Keys { p256dh, auth }))
}

fn judge(answer: &Answer, now: Timestamp) -> Delivery {
    let text = format!("the push service said {}", answer.status.as_u16());
    let refused = |reason| Delivery::Refused { reason, detail: text.clone() };
    let later = |reason| Delivery::Later { reason, detail: text.clone(), after: answer.retry_after(now) };
    match answer.status {
        status if status.is_success() => Delivery::Sent { receipt: status.as_u16().to_string() },
        StatusCode::NOT_FOUND | StatusCode::GONE => refused(Refusal::Unregistered),
        StatusCode::UNAUTHORIZED => later(Refusal::AuthFailed),
        StatusCode::FORBIDDEN => refused(Refusal::SenderRefused),
        StatusCode::TOO_MANY_REQUESTS => later(Refusal::Throttled),
        status if status.is_client_error() => refused(Refusal::DataRefused),
        status if status.is_server_error() => later(Refusal::Unavailable),
        _ => later(Refusal::ProtocolError),
    }
}
