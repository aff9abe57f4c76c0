//! Google's and Apple's push services, as they publish their protocols: what they demand of a request is checked, and
//! what they answer has their words. Which answer a device gets, its token says.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use anyhow::{Context, Result, ensure};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use campanile::clock::Clock;
use http::Response;
use http_body_util::Full;
use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm};
use serde_json::{Value, json};

use super::http2::{Answered, Asked, Http2Server};

/// What Apple's service saw of a push that it took or refused.
#[derive(Clone, Debug)]
pub struct Seen {
    pub token: String,
    pub headers: BTreeMap<String, String>,
    pub body: Value,
}

pub struct Apple {
    pub server: Http2Server,
    pub seen: Arc<Mutex<Vec<Seen>>>,
    /// Provider tokens that were used.
    pub tokens: Arc<Mutex<Vec<String>>>,
}

/// Who may push, as Apple's console knows it.
#[derive(Clone)]
pub struct AppleAccount {
    pub team: &'static str,
    pub key_id: &'static str,
    pub topic: &'static str,
    /// Uncompressed, of P-256.
    pub public_key: Vec<u8>,
}

/// A token of 64 hexadecimal digits that begins with `first`.
pub fn device(first: &str) -> String {
    format!("{first:0<64}")
}

/// Which answer a device's token asks for, by its first digits.
const APPLE_ANSWERS: &[(&str, u16, &str)] = &[
    ("bad0", 400, "BadDeviceToken"),
    ("bad1", 400, "DeviceTokenNotForTopic"),
    ("bad2", 400, "TopicDisallowed"),
    ("bad3", 400, "BadCollapseId"),
    ("403a", 403, "InvalidProviderToken"),
    ("dead", 410, "Unregistered"),
    ("dea2", 410, "ExpiredToken"),
    ("4290", 429, "TooManyRequests"),
    ("4291", 429, "TooManyProviderTokenUpdates"),
    ("5000", 500, "InternalServerError"),
    ("5030", 503, "ServiceUnavailable"),
    ("5031", 503, "Shutdown"),
];

impl Apple {
    pub async fn start(account: AppleAccount, tls: Option<rustls::ServerConfig>) -> Result<Self> {
        let (seen, tokens) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (known, used) = (seen.clone(), tokens.clone());
        let expire_first = Arc::new(AtomicUsize::new(0));
        let server = Http2Server::start(tls, move |asked| {
            let (account, known, used, expired) = (account.clone(), known.clone(), used.clone(), expire_first.clone());
            async move { apple(&account, &asked, &known, &used, &expired) }
        });
        Ok(Self { server: server.await?, seen, tokens })
    }
}

fn apple(
    account: &AppleAccount,
    asked: &Asked,
    known: &Mutex<Vec<Seen>>,
    used: &Mutex<Vec<String>>,
    expired: &AtomicUsize,
) -> Answered {
    let header = |name: &str| asked.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let id = header("apns-id").to_owned();
    let refuse = |status: u16, reason: &str| {
        let mut body = json!({"reason": reason});
        if status == 410 {
            body["timestamp"] = 1_772_355_600_000_i64.into();
        }
        let mut answer = Response::builder().status(status).header("apns-id", &id);
        if status == 429 || status == 503 {
            answer = answer.header("retry-after", "300");
        }
        answer.body(Full::from(body.to_string())).unwrap()
    };
    let Some(token) = asked.uri().path().strip_prefix("/3/device/") else { return refuse(404, "BadPath") };
    if asked.method() != "POST" {
        return refuse(405, "MethodNotAllowed");
    }
    let Some(bearer) = header("authorization").strip_prefix("bearer ") else {
        return refuse(403, "MissingProviderToken");
    };
    let claims = match verified(bearer, "ES256", &ECDSA_P256_SHA256_FIXED, &account.public_key) {
        Ok((head, claims)) if head["kid"] == account.key_id && claims["iss"] == account.team => claims,
        _ => return refuse(403, "InvalidProviderToken"),
    };
    let age = Clock::system().now().as_second() - claims["iat"].as_i64().unwrap_or(0);
    if !(-60..3_600).contains(&age) {
        return refuse(403, "ExpiredProviderToken");
    }
    let mut tokens = used.lock().unwrap();
    if !tokens.iter().any(|known| known == bearer) {
        tokens.push(bearer.to_owned());
    }
    drop(tokens);
    if header("apns-topic") != account.topic {
        return refuse(400, if header("apns-topic").is_empty() { "MissingTopic" } else { "BadTopic" });
    }
    let is_uuid = id.len() == 36
        && id
            .char_indices()
            .all(|(at, c)| if [8, 13, 18, 23].contains(&at) { c == '-' } else { c.is_ascii_hexdigit() });
    if !is_uuid {
        return refuse(400, "BadMessageId");
    }
    if !["1", "5", "10"].contains(&header("apns-priority")) {
        return refuse(400, "BadPriority");
    }
    if header("apns-push-type") != "alert" {
        return refuse(400, "InvalidPushType");
    }
    if !header("apns-expiration").bytes().all(|b| b.is_ascii_digit()) {
        return refuse(400, "BadExpirationDate");
    }
    if header("apns-collapse-id").len() > 64 {
        return refuse(400, "BadCollapseId");
    }
    if asked.body().len() > 4_096 {
        return refuse(413, "PayloadTooLarge");
    }
    let body: Value = serde_json::from_slice(asked.body()).unwrap_or_default();
    if body["aps"].is_null() {
        return refuse(400, "PayloadEmpty");
    }
    if token.len() != 64 || !token.bytes().all(|b| b.is_ascii_hexdigit()) {
        return refuse(400, "BadDeviceToken");
    }
    let texts = asked.headers().iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap_or("").to_owned()));
    known.lock().unwrap().push(Seen { token: token.to_owned(), headers: texts.collect(), body });
    if token.starts_with("e8e8") && expired.fetch_add(1, SeqCst) == 0 {
        return refuse(403, "ExpiredProviderToken");
    }
    match APPLE_ANSWERS.iter().find(|(first, ..)| token.starts_with(first)) {
        Some((_, status, reason)) => refuse(*status, reason),
        None => Response::builder().status(200).header("apns-id", &id).body(Full::default()).unwrap(),
    }
}

pub struct Google {
    pub server: Http2Server,
    pub messages: Arc<Mutex<Vec<Value>>>,
    /// Access tokens that were given out, and for how many seconds the next one is.
    pub given: Arc<AtomicUsize>,
    pub valid_s: Arc<AtomicUsize>,
}

/// Which answer a registration token asks for: the HTTP status, Google's status, FCM's error code.
const GOOGLE_ANSWERS: &[(&str, u16, &str, &str)] = &[
    ("unregistered", 404, "NOT_FOUND", "UNREGISTERED"),
    ("invalid", 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
    ("mismatch", 403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH"),
    ("quota", 429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"),
    ("busy", 429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"),
    ("unavailable", 503, "UNAVAILABLE", "UNAVAILABLE"),
    ("internal", 500, "INTERNAL", "INTERNAL"),
    ("third", 401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"),
    ("unspecified", 500, "UNKNOWN", "UNSPECIFIED_ERROR"),
];

pub const PROJECT: &str = "campanile-test";
pub const ACCOUNT: &str = "push@campanile-test.iam.gserviceaccount.com";

impl Google {
    /// `public_key` is the service account's, PKCS #1 in DER.
    pub async fn start(public_key: Vec<u8>) -> Result<Self> {
        let (messages, given) = (Arc::<Mutex<Vec<Value>>>::default(), Arc::<AtomicUsize>::default());
        let valid_s = Arc::new(AtomicUsize::new(3_599));
        let (taken, count, valid) = (messages.clone(), given.clone(), valid_s.clone());
        let server = Http2Server::start(None, move |asked| {
            let (taken, count, valid, key) = (taken.clone(), count.clone(), valid.clone(), public_key.clone());
            async move {
                match asked.uri().path() {
                    "/token" => access(&asked, &key, (&count, valid.load(SeqCst))),
                    _ => google(&asked, &taken, &count),
                }
            }
        });
        Ok(Self { server: server.await?, messages, given, valid_s })
    }

    /// The file of the service account, with its private key in PEM.
    pub fn account(&self, private_key: &str) -> String {
        let token_uri = format!("http://127.0.0.1:{}/token", self.server.port);
        json!({"type": "service_account", "project_id": PROJECT, "private_key_id": "k1", "private_key": private_key,
               "client_email": ACCOUNT, "token_uri": token_uri})
        .to_string()
    }
}

fn answered(status: u16, body: &Value, headers: &[(&str, &str)]) -> Answered {
    let mut answer = Response::builder().status(status).header("content-type", "application/json; charset=UTF-8");
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    answer.body(Full::from(Bytes::from(body.to_string()))).unwrap()
}

/// RFC 7523, as Google's token endpoint takes it.
fn access(asked: &Asked, key: &[u8], (count, valid_s): (&AtomicUsize, usize)) -> Answered {
    let form: BTreeMap<String, String> = url::form_urlencoded::parse(asked.body()).into_owned().collect();
    let grant = form.get("grant_type").map(String::as_str);
    let refuse = |why: &str| answered(400, &json!({"error": "invalid_grant", "error_description": why}), &[]);
    if grant != Some("urn:ietf:params:oauth:grant-type:jwt-bearer") {
        return answered(400, &json!({"error": "unsupported_grant_type"}), &[]);
    }
    let assertion = form.get("assertion").map_or("", String::as_str);
    let Ok((head, claims)) = verified(assertion, "RS256", &RSA_PKCS1_2048_8192_SHA256, key) else {
        return refuse("Invalid JWT Signature.");
    };
    let (issued, ends) = (claims["iat"].as_i64().unwrap_or(0), claims["exp"].as_i64().unwrap_or(0));
    let now = Clock::system().now().as_second();
    let host = asked.uri().authority().map_or("", |a| a.as_str());
    let is_right = head["kid"] == "k1"
        && claims["iss"] == ACCOUNT
        && claims["aud"] == format!("http://{host}/token")
        && claims["scope"] == "https://www.googleapis.com/auth/firebase.messaging"
        && (now - 60..=now + 60).contains(&issued)
        && ends > now
        && ends - issued <= 3_600;
    if !is_right {
        return refuse("Invalid JWT.");
    }
    let token = format!("ya29.{}", count.fetch_add(1, SeqCst) + 1);
    answered(200, &json!({"access_token": token, "expires_in": valid_s, "token_type": "Bearer"}), &[])
}

fn google(asked: &Asked, taken: &Mutex<Vec<Value>>, count: &AtomicUsize) -> Answered {
    let error = |status: u16, word: &str, details: Value, headers: &[(&str, &str)]| {
        let error = json!({"error": {"code": status, "message": "no", "status": word, "details": details}});
        answered(status, &error, headers)
    };
    let violates = |field: &str| {
        json!([{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": "INVALID_ARGUMENT"},
               {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"field": field, "description": "no"}]}])
    };
    let newest = format!("Bearer ya29.{}", count.load(SeqCst));
    let bearer = asked.headers().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or("");
    let body: Value = serde_json::from_slice(asked.body()).unwrap_or_default();
    let message = &body["message"];
    let token = message["token"].as_str().unwrap_or("");
    // A token that was revoked, for as long as it is the first.
    if bearer != newest || (token.starts_with("revoked") && count.load(SeqCst) == 1) {
        return error(401, "UNAUTHENTICATED", json!([]), &[("www-authenticate", "Bearer realm=\"\"")]);
    }
    if asked.uri().path() != format!("/v1/projects/{PROJECT}/messages:send") || asked.method() != "POST" {
        return error(404, "NOT_FOUND", json!([]), &[]);
    }
    if token.is_empty() || token == "malformed" {
        return error(400, "INVALID_ARGUMENT", violates("message.token"), &[]);
    }
    let is_texts =
        |value: &Value| value.is_null() || value.as_object().is_some_and(|o| o.values().all(Value::is_string));
    let ttl = message["android"]["ttl"].as_str();
    let is_ttl = ttl.is_none_or(|ttl| ttl.strip_suffix('s').is_some_and(|n| n.parse::<u32>().is_ok()));
    let is_known = message.as_object().is_some_and(|m| {
        m.keys().all(|k| ["token", "notification", "data", "android", "apns", "webpush"].contains(&k.as_str()))
    });
    let priority = &message["android"]["priority"];
    if !is_texts(&message["data"]) || !is_ttl || !is_known || (priority != "HIGH" && priority != "NORMAL") {
        return error(400, "INVALID_ARGUMENT", violates("message"), &[]);
    }
    if let Some((_, status, word, code)) = GOOGLE_ANSWERS.iter().find(|(first, ..)| token.starts_with(first)) {
        let details = json!([{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}]);
        let pause = [("retry-after", "240")];
        let headers = if ["busy", "unavailable"].contains(&token) { pause.as_slice() } else { &[] };
        return error(*status, word, details, headers);
    }
    let mut taken = taken.lock().unwrap();
    taken.push(message.clone());
    answered(200, &json!({"name": format!("projects/{PROJECT}/messages/0:{}", taken.len())}), &[])
}

/// The header and the claims of a token that was signed with this key.
fn verified(
    token: &str,
    algorithm: &str,
    by: &'static dyn VerificationAlgorithm,
    key: &[u8],
) -> Result<(Value, Value)> {
    let (signed, signature) = token.rsplit_once('.').context("no signature")?;
    let (head, claims) = signed.split_once('.').context("no claims")?;
    let decoded = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text);
    let read = |text: &str| -> Result<Value> { Ok(serde_json::from_slice(&decoded(text)?)?) };
    let (head, claims) = (read(head)?, read(claims)?);
    ensure!(head["alg"] == algorithm, "{head}");
    let verified = UnparsedPublicKey::new(by, key).verify(signed.as_bytes(), &decoded(signature)?);
    ensure!(verified.is_ok(), "the signature is not of this key");
    Ok((head, claims))
}
