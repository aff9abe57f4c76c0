//! What travels with mail: files and images, encoded once and then copied into each message.
//!
//! A revision names them by hash, the store keeps them once (`attachment`), and a process holds those of the runs that it
//! sends now. They are kept as they travel: base64 in lines (RFC 2045, section 6.8), so that nobody encodes them twice.

use std::{collections::BTreeMap, sync::Arc};

use sha2::{Digest, Sha256};

use super::mime;
use crate::{api::template::attachment::Pinned, plan::Bundle, store::Store};

/// Postfix takes messages of up to 10,240,000 bytes unless it is told otherwise, and it is the strictest of the common ones.
pub const MESSAGE_BYTES_MAX: usize = 10_000_000;
/// Of one attachment: as many as fill a message once they are base64.
pub const ATTACHMENT_BYTES_MAX: usize = MESSAGE_BYTES_MAX / mime::BASE64_LINE_TRAVELS * mime::BASE64_LINE_BYTES;
/// Of all that the manifests of a home attach, and of what a process that sends remembers, as they travel.
pub const ATTACHED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Encoded bodies by the SHA-256 of what they hold.
pub type Enclosures = BTreeMap<String, Arc<str>>;

/// The hash of some bytes, and the bytes as they travel.
pub fn enclosed(bytes: &[u8]) -> (Pinned, Arc<str>) {
    let sha256: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    (Pinned { sha256, size_bytes: bytes.len() }, mime::base64_lines(bytes).into())
}

/// How long some bytes are as they travel.
pub fn travels(size_bytes: usize) -> usize {
    let (lines, rest) = (size_bytes / mime::BASE64_LINE_BYTES, size_bytes % mime::BASE64_LINE_BYTES);
    lines * mime::BASE64_LINE_TRAVELS + if rest > 0 { rest.div_ceil(3) * 4 + 2 } else { 0 }
}

/// Fetches what the templates of a bundle attach.
///
/// # Errors
/// [`crate::store::Error::Internal`] if the store has lost one: a message without it is another message.
pub async fn fetch(store: &Store, bundle: &mut Bundle) -> crate::store::Result<()> {
    for sha256 in bundle.attached() {
        if bundle.enclosures.contains_key(&sha256) {
            continue;
        }
        let body = store.attachment(&sha256).await?;
        let body = body.ok_or_else(|| crate::store::Error::Internal(format!("attachment {sha256} is gone")))?;
        bundle.enclosures.insert(sha256, body.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_travels_is_as_long_as_is_said_and_in_short_lines() {
        for size in [0, 1, 2, 3, 56, 57, 58, 59, 60, 114, 1_000] {
            let (pinned, body) = enclosed(&vec![7; size]);
            assert_eq!((pinned.size_bytes, body.len()), (size, travels(size)));
            assert!(body.split("\r\n").all(|line| line.len() <= 76));
        }
        assert!(travels(ATTACHMENT_BYTES_MAX) <= MESSAGE_BYTES_MAX);
        let (pinned, _) = enclosed(b"abc");
        assert_eq!(
            pinned.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "FIPS 180-2, B.1"
        );
    }
}
