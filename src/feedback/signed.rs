//! Texts in links, signed: whoever brings one back brings what was said here, and nothing else.
//!
//! A token needs no memory of ours: it holds what it says. It works for as long as the store's secret lives. Each use has a
//! label of its own, so that a token for one is none for another.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use serde::{Serialize, de::DeserializeOwned};

/// Of the signature: half of SHA-256's, as RFC 2104, section 5 allows.
const MARK_BYTES: usize = 16;
/// A longer token was not made here.
const TOKEN_CHARS_MAX: usize = 4_096;

/// Signs and reads the tokens of one use.
#[derive(Clone)]
pub struct Signer(hmac::Key);

impl Signer {
    /// `label` tells this use of the store's secret from others.
    pub fn new(secret: &[u8], label: &str) -> Self {
        let own = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), label.as_bytes());
        Self(hmac::Key::new(hmac::HMAC_SHA256, own.as_ref()))
    }

    /// Fit for a path; empty if `said` cannot be written as JSON, which would be a fault of ours.
    pub fn token(&self, said: &impl Serialize) -> String {
        let said = serde_json::to_vec(said).unwrap_or_default();
        let mark = hmac::sign(&self.0, &said);
        URL_SAFE_NO_PAD.encode([&mark.as_ref()[..MARK_BYTES], &said].concat())
    }

    /// What a token says. None: it was not made here.
    pub fn read<T: DeserializeOwned>(&self, token: &str) -> Option<T> {
        if token.len() > TOKEN_CHARS_MAX {
            return None;
        }
        let signed = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (mark, said) = signed.split_at_checked(MARK_BYTES)?;
        let whole = hmac::sign(&self.0, said);
        if !is_same(&whole.as_ref()[..MARK_BYTES], mark) {
            return None;
        }
        serde_json::from_slice(said).ok()
    }
}

/// Without a hint by the time it takes how much of a forgery is right.
pub fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_what_was_said_and_only_for_its_use() {
        let signer = Signer::new(b"secret", "one");
        let token = signer.token(&("a", 7));
        assert_eq!(signer.read(&token), Some(("a".to_owned(), 7)));
        assert_eq!(Signer::new(b"secret", "two").read::<(String, i64)>(&token), None);
        assert_eq!(Signer::new(b"other", "one").read::<(String, i64)>(&token), None);
        for wrong in ["", "A", "%%%", &"A".repeat(10_000), &token[1..]] {
            assert_eq!(signer.read::<(String, i64)>(wrong), None);
        }
    }
}
