//! Signed HTTP messages, as the specification "Standard Webhooks" (1.0) has them: taken from others and sent to them.
//!
//! `webhook-id`, `webhook-timestamp` (seconds) and `webhook-signature`: `v1,` and the HMAC-SHA256 in Base64 of
//! `id.timestamp.body`. A message that is older or newer than the tolerance is refused, so that one that was overheard is of
//! no use later; within it the receiver tells a repetition by its id.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::HeaderMap;
use jiff::{SignedDuration, Timestamp};
use ring::hmac;

use super::signed::is_same;

/// How far the sender's clock may be from ours.
pub const TOLERANCE: SignedDuration = SignedDuration::from_mins(5);
/// Signatures of one message: more than one only while keys are changed.
const SIGNATURES_MAX: usize = 8;

/// The key in a Secret: `whsec_` and Base64, or its own bytes.
pub fn key(text: &str) -> hmac::Key {
    let bytes = text.trim().strip_prefix("whsec_").and_then(|coded| STANDARD.decode(coded).ok());
    hmac::Key::new(hmac::HMAC_SHA256, &bytes.unwrap_or_else(|| text.trim().as_bytes().to_vec()))
}

/// The header `webhook-signature` of a message.
pub fn sign(key: &hmac::Key, id: &str, at: Timestamp, body: &[u8]) -> String {
    format!("v1,{}", STANDARD.encode(tag(key, id, at.as_second(), body).as_ref()))
}

fn tag(key: &hmac::Key, id: &str, second: i64, body: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(format!("{id}.{second}.").as_bytes());
    context.update(body);
    context.sign()
}

/// Whether a message is signed with one of the keys, and lately.
pub fn is_signed(keys: &[hmac::Key], headers: &HeaderMap, body: &[u8], now: Timestamp) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(id), Some(at), Some(signatures)) =
        (text("webhook-id"), text("webhook-timestamp"), text("webhook-signature"))
    else {
        return false;
    };
    let at = at.parse().ok().and_then(|second| Timestamp::from_second(second).ok());
    let Some(at) = at.filter(|at| now.duration_since(*at).abs() <= TOLERANCE) else { return false };
    let given = signatures.split(' ').filter_map(|part| part.strip_prefix("v1,")).take(SIGNATURES_MAX);
    let given: Vec<Vec<u8>> = given.filter_map(|coded| STANDARD.decode(coded).ok()).collect();
    keys.iter().any(|key| {
        let tag = tag(key, id, at.as_second(), body);
        given.iter().any(|given| is_same(given, tag.as_ref()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_signed_as_the_specification_shows() {
        // Its own example.
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let at = Timestamp::from_second(1_614_265_330).unwrap();
        let body = br#"{"test": 2432232314}"#;
        let signature = sign(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");

        let headers = |id: &str, at: i64, signature: &str| {
            let pairs = [
                ("webhook-id", id.to_owned()),
                ("webhook-timestamp", at.to_string()),
                ("webhook-signature", signature.to_owned()),
            ];
            pairs
                .into_iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .collect::<HeaderMap>()
        };
        let of = |id: &str, at: i64, body: &[u8], now: i64| {
            let now = Timestamp::from_second(now).unwrap();
            is_signed(std::slice::from_ref(&key), &headers(id, at, &format!("v1,AAAA {signature}")), body, now)
        };
        let (id, at) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", at.as_second());
        assert!(of(id, at, body, at + 299));
        assert!(!of(id, at, body, at + 301) && !of(id, at, body, at - 301), "overheard and brought later");
        assert!(!of("other", at, body, at) && !of(id, at + 1, body, at) && !of(id, at, b"{}", at));
    }
}
