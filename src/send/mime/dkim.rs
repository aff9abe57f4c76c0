//! DKIM signatures: RFC 6376 with relaxed canonicalization on both sides, `rsa-sha256` and `ed25519-sha256` (RFC 8463).
//!
//! ```yaml
//! dkim: {domain: example.com, selector: s1, secretRef: {name: dkim}}   # the Secret's `key`, in PEM
//! ```
//!
//! Every header of the message is signed, `List-Unsubscribe` among them as RFC 8058, section 4 asks, and `From` once more
//! than it stands there, so that nobody adds a second author. Bodies are 7-bit: no relay has a reason to rewrite them.
//! An RSA signature of 2048 bits takes about a millisecond of processor time, Ed25519 a fiftieth of it.

use ring::{
    rand::SystemRandom,
    rsa,
    signature::{Ed25519KeyPair, RSA_PKCS1_SHA256},
};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use sha2::{Digest, Sha256};

use super::base64;

/// Receivers ignore shorter RSA keys (RFC 8301, section 3.2).
const RSA_BYTES_MIN: usize = 1024 / 8;
/// Of one folded line of base64.
const FOLD_CHARS: usize = 70;

/// Why a key cannot sign. It says nothing of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    #[error("the DKIM key is not a private key in PEM")]
    NotPem,
    #[error("the DKIM key is neither RSA nor Ed25519")]
    NotSupported,
    #[error("the DKIM key has fewer than 1024 bits")]
    TooShort,
}

enum Key {
    Rsa(Box<rsa::KeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

/// Signs for one domain.
pub struct Signer {
    domain: String,
    selector: String,
    key: Key,
    random: SystemRandom,
}

impl Signer {
    /// # Errors
    /// What is wrong with the key.
    pub fn new(domain: &str, selector: &str, pem: &str) -> Result<Self, KeyProblem> {
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyProblem::NotPem)?;
        let rsa = |key: Result<rsa::KeyPair, ring::error::KeyRejected>| match key {
            Ok(key) if key.public().modulus_len() >= RSA_BYTES_MIN => Ok(Key::Rsa(Box::new(key))),
            Ok(_) => Err(KeyProblem::TooShort),
            Err(rejected) if rejected.to_string() == "TooSmall" => Err(KeyProblem::TooShort),
            Err(_) => Err(KeyProblem::NotSupported),
        };
        let key = match &der {
            PrivateKeyDer::Pkcs1(der) => rsa(rsa::KeyPair::from_der(der.secret_pkcs1_der()))?,
            PrivateKeyDer::Pkcs8(der) => match Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()) {
                Ok(key) => Key::Ed25519(Box::new(key)),
                Err(_) => rsa(rsa::KeyPair::from_pkcs8(der.secret_pkcs8_der()))?,
            },
            _ => return Err(KeyProblem::NotSupported),
        };
        Ok(Self { domain: domain.to_owned(), selector: selector.to_owned(), key, random: SystemRandom::new() })
    }

    /// The message with its signature before it.
    ///
    /// # Errors
    /// None that a key which was taken could cause.
    pub fn sign(&self, message: &[u8], at: jiff::Timestamp) -> Result<Vec<u8>, String> {
        let text = std::str::from_utf8(message).map_err(|_| "a message that is not 7-bit cannot be signed")?;
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let headers = unfolded(head);
        let mut names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
        names.push("From");
        let algorithm = match self.key {
            Key::Rsa(_) => "rsa-sha256",
            Key::Ed25519(_) => "ed25519-sha256",
        };
        let unsigned = format!(
            "v=1; a={algorithm}; c=relaxed/relaxed; d={}; s={};\r\n t={};\r\n h={};\r\n bh={};\r\n b=",
            self.domain,
            self.selector,
            at.as_second(),
            names.join(":\r\n "),
            base64(Sha256::digest(relaxed_body(body)))
        );
        let mut signed = String::with_capacity(head.len() + unsigned.len());
        for (name, value) in &headers {
            put_relaxed(name, value, &mut signed);
            signed.push_str("\r\n");
        }
        put_relaxed("DKIM-Signature", &unsigned, &mut signed);
        let signature = base64(&self.signature(signed.as_bytes())?);
        let lines: Vec<&str> = chunks(&signature).collect();
        let header = format!("DKIM-Signature: {unsigned}{}\r\n", lines.join("\r\n "));
        Ok([header.as_bytes(), message].concat())
    }

    fn signature(&self, data: &[u8]) -> Result<Vec<u8>, String> {
        match &self.key {
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &self.random, data, &mut signature)
                    .map_err(|_| "the message could not be signed")?;
                Ok(signature)
            }
            // RFC 8463, section 3: what is signed is the hash.
            Key::Ed25519(key) => Ok(key.sign(&Sha256::digest(data)).as_ref().to_vec()),
        }
    }
}

/// ASCII in pieces that fit a line.
fn chunks(text: &str) -> impl Iterator<Item = &str> {
    (0..text.len()).step_by(FOLD_CHARS).map(move |start| &text[start..text.len().min(start + FOLD_CHARS)])
}

/// Names and values, each value with its folds.
fn unfolded(head: &str) -> Vec<(&str, String)> {
    let mut headers: Vec<(&str, String)> = vec![];
    for line in head.split("\r\n") {
        match (line.starts_with([' ', '\t']), headers.last_mut()) {
            (true, Some((_, value))) => value.push_str(line),
            _ => headers.extend(line.split_once(':').map(|(name, value)| (name, value.to_owned()))),
        }
    }
    headers
}

/// RFC 6376, section 3.4.2.
fn put_relaxed(name: &str, value: &str, out: &mut String) {
    out.push_str(&name.trim_end().to_ascii_lowercase());
    out.push(':');
    for (index, word) in value.split([' ', '\t', '\r', '\n']).filter(|word| !word.is_empty()).enumerate() {
        if index > 0 {
            out.push(' ');
        }
        out.push_str(word);
    }
}

/// RFC 6376, section 3.4.4.
fn relaxed_body(body: &str) -> String {
    let mut out = String::with_capacity(body.len() + 2);
    let mut empty_lines = 0;
    for line in body.split("\r\n") {
        let line = line.trim_end_matches([' ', '\t']);
        if line.is_empty() {
            empty_lines += 1;
            continue;
        }
        (0..std::mem::take(&mut empty_lines)).for_each(|_| out.push_str("\r\n"));
        let mut was_space = false;
        for c in line.chars() {
            let is_space = matches!(c, ' ' | '\t');
            if !(is_space && was_space) {
                out.push(if is_space { ' ' } else { c });
            }
            was_space = is_space;
        }
        out.push_str("\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms_are_those_of_the_rfc() {
        // RFC 6376, section 3.4.5, example 1.
        let headers = unfolded("A: X\r\nB : Y\t\r\n\tZ  ");
        let mut out = String::new();
        headers.iter().for_each(|(name, value)| {
            put_relaxed(name, value, &mut out);
            out.push_str("\r\n");
        });
        assert_eq!(out, "a:X\r\nb:Y Z\r\n");
        assert_eq!(relaxed_body(" C \r\nD \t E\r\n\r\n\r\n"), " C\r\nD E\r\n");
        assert_eq!(relaxed_body(""), "");
        assert_eq!(relaxed_body("\r\n\r\n"), "");
        assert_eq!(relaxed_body("a\r\n\r\nb"), "a\r\n\r\nb\r\n");
    }

    #[test]
    fn what_is_no_key_is_told_without_showing_it() {
        let of = |pem: &str| Signer::new("example.com", "s1", pem).err();
        assert_eq!(of("secret"), Some(KeyProblem::NotPem));
        let curve = rcgen::KeyPair::generate().unwrap().serialize_pem();
        assert_eq!(of(&curve), Some(KeyProblem::NotSupported), "P-256 is no key of DKIM");
        let edwards = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
        assert_eq!(of(&edwards), None);
    }
}
