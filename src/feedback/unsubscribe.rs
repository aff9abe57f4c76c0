//! One-click unsubscribe (RFC 8058): a link that says who withdraws from what, signed, and needs nothing else.
//!
//! The token holds the subscription, the person's key and a keyed hash of the address that it went to, so that it works for
//! as long as the store lives: it never expires and survives its campaign. Only a POST withdraws; whatever merely looks at a link, such as a mail scanner,
//! changes nothing.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use ring::hmac;

use crate::store::{
    self, Store,
    keyed::{Keyed, Label},
};

/// Of the signature: half of SHA-256's, as RFC 2104, section 5 allows.
const MARK_BYTES: usize = 16;
/// A longer token was not made here.
const TOKEN_CHARS_MAX: usize = 2_048;

/// The token of previews and proofs: its link answers, and withdraws nobody.
pub const SPECIMEN: &str = "specimen";

/// What a person withdraws from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub namespace: String,
    pub dataset: String,
    pub topic: String,
    pub channel: String,
}

/// Makes the links of one subscription.
pub struct Links {
    base: String,
    of: Subscription,
    key: hmac::Key,
    addresses: Keyed,
}

/// Who withdraws from what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    pub of: Subscription,
    pub profile: String,
    /// The keyed hash of the address that the link went to; the first links had none.
    pub address: Option<String>,
}

impl Links {
    /// `public_url` is where the listener is reached from outside.
    pub fn new(public_url: &str, of: Subscription, secret: &[u8]) -> Self {
        let addresses = Keyed::new(secret, Label::Address);
        Self { base: format!("{}/u/", public_url.trim_end_matches('/')), of, key: signing_key(secret), addresses }
    }

    /// The link of one person, in a message to this address.
    pub fn to(&self, profile: &str, address: &str) -> String {
        let of = &self.of;
        let address = self.addresses.of_address(address);
        let said = serde_json::json!([of.namespace, of.dataset, of.topic, of.channel, profile, address]).to_string();
        let mark = hmac::sign(&self.key, said.as_bytes());
        let signed = [&mark.as_ref()[..MARK_BYTES], said.as_bytes()].concat();
        format!("{}{}", self.base, URL_SAFE_NO_PAD.encode(signed))
    }

    /// The link of a message that is only looked at.
    pub fn specimen(&self) -> String {
        format!("{}{SPECIMEN}", self.base)
    }
}

/// Who withdraws from what, as a token says. None: it was not made with this secret.
pub fn read(token: &str, secret: &[u8]) -> Option<Withdrawal> {
    if token.len() > TOKEN_CHARS_MAX {
        return None;
    }
    let signed = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (mark, said) = signed.split_at_checked(MARK_BYTES)?;
    let whole = hmac::sign(&signing_key(secret), said);
    // Without a hint by the time it takes how much of a forgery is right.
    let differs = whole.as_ref()[..MARK_BYTES].iter().zip(mark).fold(0, |differs, (a, b)| differs | (a ^ b));
    if differs != 0 {
        return None;
    }
    let mut said = serde_json::from_slice::<Vec<String>>(said).ok()?;
    let address = if said.len() == 6 { said.pop() } else { None };
    let [namespace, dataset, topic, channel, profile]: [String; 5] = said.try_into().ok()?;
    Some(Withdrawal { of: Subscription { namespace, dataset, topic, channel }, profile, address })
}

/// Records that a person withdraws; it holds at the very next attempt to send.
pub async fn withdraw(store: &Store, said: &Withdrawal, now: Timestamp) -> store::Result<()> {
    let of = &said.of;
    let topic =
        store::ledger::Topic { namespace: &of.namespace, dataset: &of.dataset, topic: &of.topic, channel: &of.channel };
    store.withdraw(topic, &said.profile, said.address.as_deref(), "unsubscribe", now).await
}

/// Apart from the other uses of the store's secret.
fn signing_key(secret: &[u8]) -> hmac::Key {
    let own = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"unsubscribe");
    hmac::Key::new(hmac::HMAC_SHA256, own.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news() -> Subscription {
        let [namespace, dataset, topic, channel] = ["shop", "town", "news", "email"].map(str::to_owned);
        Subscription { namespace, dataset, topic, channel }
    }

    #[test]
    fn a_link_says_who_and_what() {
        let link = Links::new("https://mail.example.com/", news(), b"secret").to("[\"a\",7]", "Ann@example.com");
        let token = link.strip_prefix("https://mail.example.com/u/").unwrap();
        let address = Some(Keyed::new(b"secret", Label::Address).of_address("ann@example.com"));
        let said = Withdrawal { of: news(), profile: "[\"a\",7]".to_owned(), address };
        assert_eq!(read(token, b"secret"), Some(said));
        assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
    }

    #[test]
    fn a_link_that_was_changed_says_nothing() {
        let link = Links::new("https://m.example", news(), b"secret").to("7", "a@b.c");
        let token = link.rsplit('/').next().unwrap();
        assert_eq!(read(token, b"another"), None);
        for at in 0..token.len() {
            let other = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
            let forged = [&token[..at], other, &token[at + 1..]].concat();
            // The last character may carry bits that mean nothing.
            assert!(at + 1 == token.len() || read(&forged, b"secret").is_none(), "{at}");
        }
        for wrong in ["", "A", "%%%", SPECIMEN, &"A".repeat(5_000)] {
            assert_eq!(read(wrong, b"secret"), None);
        }
    }
}
