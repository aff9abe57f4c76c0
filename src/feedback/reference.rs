//! How a message is named where answers come from: in its Message-ID, its return path, its callbacks and links.
//!
//! ```text
//! STEP.SHARD.SEQ.MARK.SIGNATURE        1.3.42.0123456789ab.0123456789abcdef
//! ```
//! The mark is the run's, by its name and not its number: a store that was restored gives numbers anew. It is signed, so
//! that nobody who got one message can report bounces of another's. Small letters and digits only: a return path may be
//! written in capitals on its way back.

use ring::hmac;
use sha2::{Digest, Sha256};

/// Of the run's mark and of the signature, in bytes.
const MARK_BYTES: usize = 6;
const SIGNATURE_BYTES: usize = 8;
/// The longest there is: what is left of a local part of 64 is for the return path's own name.
pub const CHARS_MAX: usize = 47;

/// A message of a run, by its place in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub step_no: i64,
    pub shard: i64,
    pub seq: i64,
    /// As [`mark`] makes it.
    pub mark: String,
}

/// Signs and checks references.
#[derive(Clone)]
pub struct ReferenceKey(hmac::Key);

/// The mark of a run.
pub fn mark(namespace: &str, run: &str) -> String {
    hex(&Sha256::digest(format!("{namespace}/{run}"))[..MARK_BYTES])
}

impl ReferenceKey {
    /// Of the store's secret, apart from its other uses.
    pub fn new(secret: &[u8]) -> Self {
        let own = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"message");
        Self(hmac::Key::new(hmac::HMAC_SHA256, own.as_ref()))
    }

    pub fn text(&self, of: &Reference) -> String {
        let said = format!("{}.{}.{}.{}", of.step_no, of.shard, of.seq, of.mark);
        format!("{said}.{}", self.signature(&said))
    }

    fn signature(&self, said: &str) -> String {
        hex(&hmac::sign(&self.0, said.as_bytes()).as_ref()[..SIGNATURE_BYTES])
    }

    /// None: it was not made with this key.
    pub fn read(&self, text: &str) -> Option<Reference> {
        if text.len() > 2 * CHARS_MAX {
            return None;
        }
        let text = text.to_ascii_lowercase();
        let (said, signature) = text.rsplit_once('.')?;
        let right = self.signature(said);
        // Without a hint by the time it takes how much of a forgery is right.
        let differs = right.bytes().zip(signature.bytes()).fold(0, |differs, (a, b)| differs | (a ^ b));
        if differs != 0 || right.len() != signature.len() {
            return None;
        }
        let mut parts = said.split('.');
        let mut number = || parts.next()?.parse().ok();
        let (step_no, shard, seq) = (number()?, number()?, number()?);
        Some(Reference { step_no, shard, seq, mark: parts.next()?.to_owned() })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_read_again_and_a_changed_one_is_not() {
        let key = ReferenceKey::new(b"secret");
        let of = Reference { step_no: 63, shard: 15, seq: 999_999_999, mark: mark("default", "greet-1") };
        let text = key.text(&of);
        assert!(text.len() <= CHARS_MAX, "{}", text.len());
        assert_eq!(key.read(&text.to_uppercase()), Some(of));
        assert_eq!(ReferenceKey::new(b"other").read(&text), None);
        for at in 0..text.len() {
            let other = if text.as_bytes()[at] == b'1' { "2" } else { "1" };
            assert_eq!(key.read(&[&text[..at], other, &text[at + 1..]].concat()), None, "{at}");
        }
        for wrong in ["", ".", "1.2.3.4.5", &"1".repeat(500), &text[..text.len() - 1]] {
            assert_eq!(key.read(wrong), None);
        }
    }
}
