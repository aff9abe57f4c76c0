//! `push.fcm`: Android devices, and others, over Firebase Cloud Messaging, HTTP v1.
//!
//! ```yaml
//! push: {fcm: {secretRef: {name: firebase}}}      # the Secret's `key` is the file of a service account, JSON
//! ```
//! The service account signs for an access token (OAuth 2.0, RFC 7523), which is kept until shortly before it ends; a
//! token that is not taken is made anew.
//!
//! | answer | |
//! |---|---|
//! | `200` | sent; the receipt is the message's name |
//! | `UNREGISTERED` | the token is dead, and marked |
//! | `INVALID_ARGUMENT` | refused: the message, or the token where the answer names it |
//! | `SENDER_ID_MISMATCH` | refused: the token was made for another project |
//! | `THIRD_PARTY_AUTH_ERROR` | later: the project's own key for Apple or for the web is not taken |
//! | `QUOTA_EXCEEDED` | later; `Retry-After` is heeded, a minute where there is none |
//! | `UNAVAILABLE`, `INTERNAL`, other `5xx` | later; `Retry-After` is heeded |
//! | `401`, `403` | our access token is not taken: the operator's to mend, later |

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use url::{Url, form_urlencoded};

use super::{
    Content, Delivery, Envelope, Notice, Permission, Refusal, Urgency, detail,
    exchange::{Answer, Exchange, Fault},
    jwt::Signer,
    posted::Post,
};
use crate::clock::Clock;

/// Where messages go, unless the channel says so.
pub const ENDPOINT: &str = "https://fcm.googleapis.com/";
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// The most that Google lets an assertion be valid.
const ASSERTION_VALID: SignedDuration = SignedDuration::from_hours(1);
/// An access token is renewed so long before it ends.
const RENEWED: SignedDuration = SignedDuration::from_mins(5);
/// The documented pause where `QUOTA_EXCEEDED` comes without one.
const QUOTA_PAUSE: SignedDuration = SignedDuration::from_secs(60);
/// The documented size of a message.
const MESSAGE_BYTES_MAX: usize = 4096;

/// A service account, as its file says.
#[derive(Deserialize)]
struct Account {
    project_id: String,
    client_email: String,
    private_key: String,
    private_key_id: Option<String>,
    token_uri: String,
}

/// Who sends, and where to.
pub struct Settings {
    account: Account,
    signer: Signer,
    endpoint: Url,
    clock: Clock,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Settings {{ {}, {} }}", self.account.project_id, self.endpoint)
    }
}

impl Settings {
    /// `file` is what the console gives for a service account.
    ///
    /// # Errors
    /// A sentence, which says nothing of the key.
    pub fn new(file: &str, endpoint: &str, clock: Clock) -> Result<Self, String> {
        let account: Account =
            serde_json::from_str(file).map_err(|_| "its secret's `key` is not the JSON file of a service account")?;
        let signer = Signer::rs256(&account.private_key)?;
        let endpoint = Url::parse(endpoint).map_err(|e| format!("`{endpoint}` is not a URL: {e}"))?;
        Ok(Self { account, signer, endpoint, clock })
    }
}

pub struct Fcm {
    settings: Settings,
    exchange: Exchange,
    /// Held while a new one is fetched: many messages wait for one token.
    access: Mutex<Option<Access>>,
}

#[derive(Clone)]
struct Access {
    token: Arc<str>,
    ends: Timestamp,
}

impl Fcm {
    pub fn new(settings: Settings, exchange: Exchange) -> Self {
        Self { settings, exchange, access: Mutex::default() }
    }

    /// The access token. `refused` is one that the service did not take.
    async fn access(&self, refused: Option<&str>) -> Result<Arc<str>, Delivery> {
        let mut access = self.access.lock().await;
        let now = self.settings.clock.now();
        if let Some(known) = &*access
            && known.ends > now + RENEWED
            && refused != Some(&known.token)
        {
            return Ok(known.token.clone());
        }
        *access = None;
        let fetched = self.fetch(now).await?;
        let token = fetched.token.clone();
        *access = Some(fetched);
        Ok(token)
    }

    async fn fetch(&self, now: Timestamp) -> Result<Access, Delivery> {
        let Settings { account, signer, .. } = &self.settings;
        let claims = json!({
            "iss": account.client_email, "scope": SCOPE, "aud": account.token_uri,
            "iat": now.as_second(), "exp": (now + ASSERTION_VALID).as_second(),
        });
        let unfit = |text: String| Delivery::later(Refusal::AuthFailed, &text);
        let assertion = signer.sign(account.private_key_id.as_deref(), &claims).map_err(unfit)?;
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("grant_type", GRANT), ("assertion", &assertion)])
            .finish();
        let request = Request::post(&account.token_uri)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.into())
            .map_err(|e| unfit(e.to_string()))?;
        // No message has been handed over: without an answer nothing is in doubt.
        let lost = |_| Delivery::later(Refusal::ConnectFailed, "no answer where access tokens are given");
        let answer = self.exchange.ask(request).await.map_err(lost)?;
        let body = answer.json();
        match (answer.status, body["access_token"].as_str(), body["expires_in"].as_i64()) {
            (StatusCode::OK, Some(token), Some(seconds)) => {
                let ends = now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
                Ok(Access { token: token.into(), ends })
            }
            (status, ..) if status.is_client_error() => {
                let why = body["error"].as_str().unwrap_or("refused");
                Err(unfit(format!("no access token: {} {why}", status.as_u16())))
            }
            (status, ..) => Err(Delivery::Later {
                reason: Refusal::ConnectFailed,
                detail: format!("no access token: {}", status.as_u16()),
                after: answer.retry_after(now),
            }),
        }
    }

    async fn send(&self, body: &Bytes, access: &str) -> Result<Answer, Delivery> {
        let Settings { account, endpoint, .. } = &self.settings;
        let unfit = |text: String| Delivery::Refused { reason: Refusal::ProtocolError, detail: detail(&text) };
        let url = endpoint
            .join(&format!("v1/projects/{}/messages:send", account.project_id))
            .map_err(|e| unfit(e.to_string()))?;
        let request = Request::post(url.as_str())
            .header(header::AUTHORIZATION, format!("Bearer {access}"))
            .header(header::CONTENT_TYPE, "application/json; charset=UTF-8")
            .body(body.clone())
            .map_err(|e| unfit(e.to_string()))?;
        self.exchange.ask(request).await.map_err(Fault::delivery)
    }

    /// Pushes one notice; `permission` is asked right before.
    pub async fn push(&self, notice: &Notice, permission: &Permission) -> Delivery {
        self.deliver(notice, permission).await.unwrap_or_else(|other| other)
    }

    async fn deliver(&self, notice: &Notice, permission: &Permission) -> Result<Delivery, Delivery> {
        let body = Bytes::from(payload(notice, self.settings.clock.now()).to_string());
        if body.len() > MESSAGE_BYTES_MAX + notice.to.len() {
            let detail = format!("the message has more than {MESSAGE_BYTES_MAX} bytes");
            return Err(Delivery::Refused { reason: Refusal::DataRefused, detail });
        }
        let access = self.access(None).await?;
        if !permission.is_given() {
            return Err(Delivery::Unsent);
        }
        let answer = self.send(&body, &access).await?;
        let answer = if answer.status == StatusCode::UNAUTHORIZED && error_code(&answer.json()).is_none() {
            // It may have been revoked before its time; once more with another.
            let access = self.access(Some(&access)).await?;
            self.send(&body, &access).await?
        } else {
            answer
        };
        Ok(judge(&answer, self.settings.clock.now()))
    }
}

#[async_trait]
impl Post for Fcm {
    async fn post(&self, message: &Envelope) -> Delivery {
        match &message.content {
            Content::Push(notice) => self.push(notice, &message.permission).await,
            _ => Delivery::foreign(),
        }
    }
}

fn payload(notice: &Notice, now: Timestamp) -> Value {
    let is_high = notice.urgency == Urgency::High;
    let mut android = json!({"priority": if is_high { "HIGH" } else { "NORMAL" }});
    let mut apple = json!({"apns-priority": super::apns::priority(notice.urgency)});
    let mut web = json!({"Urgency": notice.urgency.word()});
    if let Some(ttl_s) = notice.ttl_s {
        android["ttl"] = format!("{ttl_s}s").into();
        apple["apns-expiration"] = (now.as_second() + i64::from(ttl_s)).to_string().into();
        web["TTL"] = ttl_s.to_string().into();
    }
    if let Some(collapse) = &notice.collapse {
        android["collapse_key"] = collapse.as_str().into();
        apple["apns-collapse-id"] = super::apns::collapse_id(collapse).into();
        web["Topic"] = super::web_push::topic(collapse).into();
    }
    let mut message = json!({
        "token": notice.to,
        "notification": {"title": notice.title, "body": notice.body},
        "android": android,
        "apns": {"headers": apple},
        "webpush": {"headers": web},
    });
    if !notice.data.is_empty() {
        message["data"] = json!(notice.data);
    }
    json!({"message": message})
}

/// FCM's own word for an error, which stands among the details of Google's.
fn error_code(body: &Value) -> Option<&str> {
    let details = body["error"]["details"].as_array()?;
    details.iter().find_map(|detail| detail["errorCode"].as_str())
}

fn judge(answer: &Answer, now: Timestamp) -> Delivery {
    let body = answer.json();
    if answer.status.is_success() {
        // projects/P/messages/ID
        let name = body["name"].as_str().and_then(|name| name.rsplit('/').next()).unwrap_or("");
        return Delivery::Sent { receipt: detail(name) };
    }
    let code = error_code(&body);
    let word = code.or_else(|| body["error"]["status"].as_str()).unwrap_or("no error code");
    let text = detail(&format!("{} {word}", answer.status.as_u16()));
    let refused = |reason| Delivery::Refused { reason, detail: text.clone() };
    let later = |reason, pause: Option<SignedDuration>| {
        let after = answer.retry_after(now).or(pause);
        Delivery::Later { reason, detail: text.clone(), after }
    };
    let names_token = || {
        let fields = body["error"]["details"].as_array().into_iter().flatten();
        let mut fields = fields.flat_map(|detail| detail["fieldViolations"].as_array().into_iter().flatten());
        fields.any(|violation| violation["field"] == "message.token")
    };
    match (code, answer.status) {
        (Some("UNREGISTERED"), _) => refused(Refusal::Unregistered),
        (Some("INVALID_ARGUMENT"), _) if names_token() => refused(Refusal::RecipientRefused),
        (Some("INVALID_ARGUMENT"), _) => refused(Refusal::DataRefused),
        (Some("SENDER_ID_MISMATCH"), _) => refused(Refusal::SenderRefused),
        // Other devices can be reached all the same.
        (Some("THIRD_PARTY_AUTH_ERROR"), _) => later(Refusal::SenderRefused, None),
        (Some("QUOTA_EXCEEDED"), _) | (_, StatusCode::TOO_MANY_REQUESTS) => {
            later(Refusal::Throttled, Some(QUOTA_PAUSE))
        }
        (_, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => later(Refusal::AuthFailed, None),
        (_, status) if status.is_server_error() => later(Refusal::Unavailable, None),
        // The project itself is not there.
        (None, StatusCode::NOT_FOUND) => later(Refusal::SenderRefused, None),
        (_, status) if status.is_client_error() && names_token() => refused(Refusal::RecipientRefused),
        (_, status) if status.is_client_error() => refused(Refusal::DataRefused),
        _ => later(Refusal::ProtocolError, None),
    }
}
