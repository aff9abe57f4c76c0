//! Any provider's callbacks, by a declared mapping.
//!
//! ```yaml
//! callbacks:
//!   webhook:
//!     secretRef: {name: provider-hook}          # its key `signing_key`
//!     each: /events
//!     message: /reference
//!     type: /event
//!     events: {delivered: Delivered, bounce: HardBounce, deferred: Ignored, spam: Complained}
//! ```

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use ring::hmac;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Callbacks, Refused, is_same};
use crate::{
    api::channel::{Webhook, WebhookEvent, WebhookSignature},
    feedback::{
        intake::{About, Answer, Fact, Happened, Once},
        mail::Class,
    },
};

const SOURCE: &str = "webhook";
/// Events of one request.
const EVENTS_MAX: usize = 1_000;
/// Signatures of one request: more than one only while keys are changed.
const SIGNATURES_MAX: usize = 8;
const TEXT_CHARS_MAX: usize = 400;

pub(super) async fn take(
    State(callbacks): State<Callbacks>,
    Path((namespace, channel)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match try_take(&callbacks, (&namespace, &channel), &headers, &body).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(refused) => callbacks.refused(SOURCE, refused).await.into_response(),
    }
}

async fn try_take(
    callbacks: &Callbacks,
    (namespace, name): (&str, &str),
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(), Refused> {
    let spec = callbacks.channel(namespace, name).await?;
    let webhook = spec.callbacks.as_ref().and_then(|callbacks| callbacks.webhook.as_ref()).ok_or(Refused::NoChannel)?;
    let key = callbacks.secret(namespace, &webhook.secret_ref, "signing_key").await?;
    let now = callbacks.intake.clock.now();
    let id = signed(&webhook.signature, &key, headers, body, now)?;
    let once = Once { source: format!("{SOURCE} {namespace}/{name}"), id };
    let facts = facts(webhook, &serde_json::from_slice(body).map_err(|_| Refused::Malformed)?, now)?;
    match callbacks.intake.tell_once(facts, once).await {
        Ok(Answer::Taken(_)) => Ok(()),
        Ok(Answer::Replayed) => Err(Refused::Replayed),
        Err(_) => Err(Refused::Unavailable),
    }
}

/// Whether a request is signed, and lately; what it is remembered by.
fn signed(
    by: &WebhookSignature,
    secret: &str,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<String, Refused> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).ok_or(Refused::Forged);
    let (at, signatures) = (text(&by.timestamp_header)?, text(&by.header)?);
    let mut head = String::new();
    if let Some(id) = &by.id_header {
        head = format!("{}.", text(id)?);
    }
    head += &format!("{at}.");
    // `whsec_` and Base64, or its own bytes.
    let coded = secret.trim().strip_prefix("whsec_").and_then(|coded| STANDARD.decode(coded).ok());
    let key = hmac::Key::new(hmac::HMAC_SHA256, &coded.unwrap_or_else(|| secret.trim().as_bytes().to_vec()));
    let mut context = hmac::Context::with_key(&key);
    context.update(head.as_bytes());
    context.update(body);
    let right = context.sign();
    let given = signatures.split([' ', ';']).take(SIGNATURES_MAX).filter_map(decoded);
    if !given.into_iter().any(|given| is_same(&given, right.as_ref())) {
        return Err(Refused::Forged);
    }
    let sent = at.parse().ok().and_then(|second| Timestamp::from_second(second).ok()).ok_or(Refused::Malformed)?;
    if now.duration_since(sent).abs() > by.tolerance.as_signed() {
        return Err(Refused::TooOld);
    }
    Ok(right.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    let text = ["v1,", "v1=", "sha256="].iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text);
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return (0..32).map(|at| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()).collect();
    }
    STANDARD.decode(text).ok()
}

fn facts(webhook: &Webhook, body: &Value, now: Timestamp) -> Result<Vec<Fact>, Refused> {
    let events = match &webhook.each {
        Some(at) => body.pointer(at).and_then(Value::as_array).ok_or(Refused::Malformed)?.iter().collect(),
        None => vec![body],
    };
    if events.len() > EVENTS_MAX {
        return Err(Refused::Malformed);
    }
    events.into_iter().map(|event| fact(webhook, event, now)).collect()
}

fn fact(webhook: &Webhook, event: &Value, now: Timestamp) -> Result<Fact, Refused> {
    let text = |at: &str| event.pointer(at).and_then(scalar);
    let word = text(&webhook.kind).ok_or(Refused::Malformed)?;
    let what = match webhook.events.get(&word) {
        Some(WebhookEvent::Delivered) => Happened::Delivered,
        Some(WebhookEvent::HardBounce) => Happened::Bounced(Class::UnknownMailbox),
        Some(WebhookEvent::SoftBounce) => Happened::Bounced(Class::Undetermined),
        Some(WebhookEvent::Complained) => Happened::Complained,
        Some(WebhookEvent::Opened) => Happened::Opened { is_machine: false },
        Some(WebhookEvent::Clicked) => Happened::Clicked { url: String::new(), is_machine: false },
        Some(WebhookEvent::Ignored) => Happened::Nothing("Ignored"),
        None => Happened::Nothing("UnknownWord"),
    };
    // A hash keeps what is long or odd, such as line ends, out of the key.
    let id = webhook.id.as_deref().and_then(text).unwrap_or_default();
    let hash: String =
        Sha256::digest(format!("{word}\n{id}")).iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    let at = webhook.at.as_deref().and_then(text).and_then(|text| {
        let seconds = || text.parse().ok().and_then(|second| Timestamp::from_second(second).ok());
        text.parse().ok().or_else(seconds)
    });
    let about = About::Message {
        references: text(&webhook.message).into_iter().collect(),
        id: format!("{SOURCE}-{hash}"),
        recipient: webhook.recipient.as_deref().and_then(text),
        medium: "email",
    };
    Ok(Fact { source: SOURCE, about, what, at: at.unwrap_or(now) })
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.chars().take(TEXT_CHARS_MAX).collect()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(is_true) => Some(is_true.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"{\"event\":\"delivered\"}";

    fn headers(all: &[(&'static str, String)]) -> HeaderMap {
        all.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect::<HeaderMap>()
    }

    fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
    }

    #[test]
    fn signatures_are_taken_in_their_usual_forms() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let plain = WebhookSignature {
            id_header: None,
            header: "x-signature".into(),
            timestamp_header: "x-at".into(),
            ..WebhookSignature::default()
        };
        let text = [b"1800000010.".as_slice(), BODY].concat();
        let hex: String = mac(b"key", &text).iter().map(|byte| format!("{byte:02x}")).collect();
        for value in [hex.clone(), format!("sha256={hex}"), format!("v1=00 v1={hex}")] {
            let of = headers(&[("x-at", "1800000010".to_owned()), ("x-signature", value)]);
            assert!(signed(&plain, "key", &of, BODY, now).is_ok());
            assert_eq!(signed(&plain, "other", &of, BODY, now), Err(Refused::Forged));
            assert_eq!(signed(&plain, "key", &of, b"{}", now), Err(Refused::Forged));
            let later = Timestamp::from_second(1_800_000_400).unwrap();
            assert_eq!(signed(&plain, "key", &of, BODY, later), Err(Refused::TooOld));
        }
        // As Standard Webhooks signs, with a key in Base64.
        let text = [b"msg_1.1800000000.".as_slice(), BODY].concat();
        let value = format!("v1,{}", STANDARD.encode(mac(b"bytes", &text)));
        let secret = format!("whsec_{}", STANDARD.encode(b"bytes"));
        let all = [
            ("webhook-id", "msg_1".to_owned()),
            ("webhook-timestamp", "1800000000".to_owned()),
            ("webhook-signature", value),
        ];
        assert!(signed(&WebhookSignature::default(), &secret, &headers(&all), BODY, now).is_ok());
        assert_eq!(signed(&WebhookSignature::default(), &secret, &headers(&all[1..]), BODY, now), Err(Refused::Forged));
    }
}
