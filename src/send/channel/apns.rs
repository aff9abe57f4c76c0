//! `push.apns`: Apple's devices over the Apple Push Notification service, HTTP/2, by a provider token.
//!
//! ```yaml
//! push: {apns: {topic: com.example.shop, keyId: ABC123DEFG, teamId: ABCDE12345, secretRef: {name: apple}}}
//! ```
//! The Secret's `key` is the `.p8` file. Apple wants a token that is between 20 and 60 minutes old: one serves for 40
//! minutes, and one that ended before its time is made anew at once.
//!
//! | answer | |
//! |---|---|
//! | `200` | sent; the receipt is the `apns-id`, which is the same for every attempt of a message |
//! | `410` (`Unregistered`, `ExpiredToken`) | the token is dead, and marked |
//! | `BadDeviceToken`, `DeviceTokenNotForTopic` | refused, and not marked: a wrong `environment` or `topic` says the same |
//! | `PayloadTooLarge` and other `4xx` | refused |
//! | `BadTopic`, `TopicDisallowed`, `MissingTopic` | later: the operator's to mend |
//! | `ExpiredProviderToken` | once more with another token, then later |
//! | other `403`, `TooManyProviderTokenUpdates` | our token is not taken: the operator's to mend, later |
//! | `TooManyRequests`, `5xx`, `IdleTimeout` | later; `Retry-After` is heeded |

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sha2::{Digest, Sha256};
use url::Url;

use super::{
    Content, Delivery, Envelope, Notice, Permission, Refusal, Urgency, detail,
    exchange::{Answer, Exchange, Fault},
    jwt::Signer,
    posted::Post,
};
use crate::clock::Clock;

pub const PRODUCTION: &str = "https://api.push.apple.com/";
pub const SANDBOX: &str = "https://api.sandbox.push.apple.com/";
/// Between 20 minutes, before which Apple takes no other, and 60, at which it ends.
const TOKEN_SERVES: SignedDuration = SignedDuration::from_mins(40);
/// A token that was refused is not replaced earlier: Apple counts them.
const TOKEN_SERVES_MIN: SignedDuration = SignedDuration::from_mins(20);
/// The documented size of a payload.
const PAYLOAD_BYTES_MAX: usize = 4096;
/// Of an `apns-collapse-id`.
const COLLAPSE_BYTES_MAX: usize = 64;
/// Device tokens have 32 bytes; Apple says that this may grow.
const DEVICE_CHARS_MAX: usize = 200;

/// Who sends, and where to.
pub struct Settings {
    pub team: String,
    pub key_id: String,
    pub topic: String,
    pub endpoint: Url,
    pub signer: Signer,
    pub clock: Clock,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Settings {{ {}, {}, {}, {} }}", self.team, self.key_id, self.topic, self.endpoint)
    }
}

pub struct Apns {
    settings: Settings,
    exchange: Exchange,
    token: Mutex<Option<(Arc<str>, Timestamp)>>,
}

impl Apns {
    pub fn new(settings: Settings, exchange: Exchange) -> Self {
        Self { settings, exchange, token: Mutex::default() }
    }

    /// The provider token. `refused` is one that Apple calls expired.
    fn token(&self, refused: Option<&str>) -> Result<Arc<str>, String> {
        let now = self.settings.clock.now();
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, made)) = &*token {
            let serves = if refused == Some(known) { TOKEN_SERVES_MIN } else { TOKEN_SERVES };
            if now.duration_since(*made) < serves {
                return Ok(known.clone());
            }
        }
        let claims = json!({"iss": self.settings.team, "iat": now.as_second()});
        let made: Arc<str> = self.settings.signer.sign(Some(&self.settings.key_id), &claims)?.into();
        *token = Some((made.clone(), now));
        Ok(made)
    }

    fn request(&self, key: &str, notice: &Notice, token: &str) -> Result<Request<Bytes>, Delivery> {
        let refused = |reason, text: &str| Delivery::Refused { reason, detail: detail(text) };
        let is_token = notice.to.len() <= DEVICE_CHARS_MAX && notice.to.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_token || notice.to.is_empty() {
            return Err(refused(Refusal::RecipientRefused, "the address is not a device token: it is not hexadecimal"));
        }
        let body = payload(notice);
        if body.len() > PAYLOAD_BYTES_MAX {
            let text = format!("the payload has {} bytes, and {PAYLOAD_BYTES_MAX} fit", body.len());
            return Err(refused(Refusal::DataRefused, &text));
        }
        let unfit = |text: String| refused(Refusal::ProtocolError, &text);
        let url = self.settings.endpoint.join(&format!("3/device/{}", notice.to)).map_err(|e| unfit(e.to_string()))?;
        let mut request = Request::post(url.as_str())
            .header(header::AUTHORIZATION, format!("bearer {token}"))
            .header("apns-topic", &self.settings.topic)
            .header("apns-push-type", "alert")
            .header("apns-id", id(key))
            .header("apns-priority", priority(notice.urgency));
        if let Some(ttl_s) = notice.ttl_s {
            let ends = self.settings.clock.now().as_second() + i64::from(ttl_s);
            request = request.header("apns-expiration", ends);
        }
        if let Some(collapse) = &notice.collapse {
            request = request.header("apns-collapse-id", collapse_id(collapse));
        }
        request.body(body.into()).map_err(|e| unfit(e.to_string()))
    }

    /// Pushes one notice; `key` is the same for every attempt of a message. `permission` is asked right before.
    pub async fn push(&self, key: &str, notice: &Notice, permission: &Permission) -> Delivery {
        self.deliver(key, notice, permission).await.unwrap_or_else(|other| other)
    }

    async fn deliver(&self, key: &str, notice: &Notice, permission: &Permission) -> Result<Delivery, Delivery> {
        let unsigned = |text: String| Delivery::later(Refusal::AuthFailed, &text);
        let token = self.token(None).map_err(unsigned)?;
        let request = self.request(key, notice, &token)?;
        if !permission.is_given() {
            return Err(Delivery::Unsent);
        }
        let mut answer = self.exchange.ask(request).await.map_err(Fault::delivery)?;
        if answer.json()["reason"] == "ExpiredProviderToken" {
            let other = self.token(Some(&token)).map_err(unsigned)?;
            if other != token {
                answer = self.exchange.ask(self.request(key, notice, &other)?).await.map_err(Fault::delivery)?;
            }
        }
        Ok(judge(&answer, self.settings.clock.now()))
    }
}

#[async_trait]
impl Post for Apns {
    async fn post(&self, message: &Envelope) -> Delivery {
        match &message.content {
            Content::Push(notice) => self.push(&message.key(), notice, &message.permission).await,
            _ => Delivery::foreign(),
        }
    }
}

fn payload(notice: &Notice) -> String {
    let mut payload = serde_json::Map::new();
    // What is Apple's own is not the author's to write.
    let data = notice.data.iter().filter(|(name, _)| *name != "aps");
    payload.extend(data.map(|(name, value)| (name.clone(), value.as_str().into())));
    payload.insert("aps".to_owned(), json!({"alert": {"title": notice.title, "body": notice.body}}));
    serde_json::Value::Object(payload).to_string()
}

/// A message's key as a UUID of the kind whose bits its maker chooses (RFC 9562, section 5.8).
fn id(key: &str) -> String {
    let digest = Sha256::digest(key);
    let mut bytes: [u8; 16] = std::array::from_fn(|at| digest[at]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// 10 at once, 5 as the battery allows, 1 when the device wakes anyway.
pub(super) fn priority(urgency: Urgency) -> &'static str {
    match urgency {
        Urgency::VeryLow => "1",
        Urgency::Low => "5",
        Urgency::Normal | Urgency::High => "10",
    }
}

/// What is too long is told apart by its hash.
pub(super) fn collapse_id(collapse: &str) -> String {
    let is_fit = collapse.len() <= COLLAPSE_BYTES_MAX && collapse.bytes().all(|b| b.is_ascii_graphic());
    if is_fit {
        return collapse.to_owned();
    }
    Sha256::digest(collapse).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn judge(answer: &Answer, now: Timestamp) -> Delivery {
    if answer.status.is_success() {
        let id = answer.headers.get("apns-id").and_then(|id| id.to_str().ok()).unwrap_or("");
        return Delivery::Sent { receipt: detail(id) };
    }
    let body = answer.json();
    let word = body["reason"].as_str().unwrap_or("no reason");
    let text = detail(&format!("{} {word}", answer.status.as_u16()));
    let refused = |reason| Delivery::Refused { reason, detail: text.clone() };
    let later = |reason| Delivery::Later { reason, detail: text.clone(), after: answer.retry_after(now) };
    match (answer.status, word) {
        (StatusCode::GONE, _) => refused(Refusal::Unregistered),
        (_, "BadDeviceToken" | "DeviceTokenNotForTopic" | "MissingDeviceToken") => refused(Refusal::RecipientRefused),
        (_, "BadTopic" | "TopicDisallowed" | "MissingTopic") => later(Refusal::SenderRefused),
        (StatusCode::FORBIDDEN, _) | (_, "TooManyProviderTokenUpdates") => later(Refusal::AuthFailed),
        (StatusCode::TOO_MANY_REQUESTS, _) => later(Refusal::Throttled),
        (_, "IdleTimeout") => later(Refusal::Unavailable),
        (status, _) if status.is_server_error() => later(Refusal::Unavailable),
        (StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED, _) => refused(Refusal::ProtocolError),
        (status, _) if status.is_client_error() => refused(Refusal::DataRefused),
        _ => later(Refusal::ProtocolError),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ring::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
    };

    use super::*;
    use crate::files::{http::Permit, reach::Reach};
    use crate::send::channel::exchange::Speaks;

    fn apns() -> Apns {
        let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let key = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, pair);
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n");
        let permit = Permit { reach: Arc::new(Reach::default()), namespace: String::new(), authorization: None };
        let settings = Settings {
            team: "T".into(),
            key_id: "K".into(),
            topic: "t".into(),
            endpoint: PRODUCTION.parse().unwrap(),
            signer: Signer::es256(&pem).unwrap(),
            clock: Clock::starting_at("2026-03-01T09:00:00Z".parse().unwrap()),
        };
        Apns::new(settings, Exchange::new(permit, &[], Speaks::Http2).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_serves_for_forty_minutes() {
        let apns = apns();
        let minutes = |minutes: u64| tokio::time::advance(std::time::Duration::from_secs(minutes * 60));
        let first = apns.token(None).unwrap();
        minutes(19).await;
        assert_eq!(apns.token(Some(&first)).unwrap(), first, "Apple takes no other within 20 minutes");
        minutes(20).await;
        assert_eq!(apns.token(None).unwrap(), first);
        let second = apns.token(Some(&first)).unwrap();
        assert_ne!(second, first, "Apple calls it expired");
        assert_eq!(apns.token(Some(&first)).unwrap(), second, "once for all that were refused");
        minutes(41).await;
        assert_ne!(apns.token(None).unwrap(), second, "before an hour has passed");
    }

    #[test]
    fn an_id_is_a_uuid_and_stays() {
        let one = id("shop/trips/1");
        assert_eq!((one.len(), one.as_bytes()[14], one == id("shop/trips/1")), (36, b'8', true));
        assert_ne!(one, id("shop/trips/2"));
    }

    #[test]
    fn what_is_too_long_to_collapse_by_is_told_apart() {
        assert_eq!(collapse_id("trip-7"), "trip-7");
        assert_eq!(collapse_id(&"x".repeat(65)).len(), 64);
        assert_ne!(collapse_id("à"), collapse_id("é"));
    }
}
