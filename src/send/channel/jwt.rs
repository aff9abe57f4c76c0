//! JSON Web Tokens (RFC 7519) by which a sender says who it is: `ES256` towards browsers' push services and Apple's,
//! `RS256` towards Google's.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    rsa,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256},
};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use serde_json::Value;

/// Signs tokens. It says nothing of its key.
pub struct Signer {
    key: Key,
    random: SystemRandom,
}

enum Key {
    Es256(Box<EcdsaKeyPair>),
    Rs256(Box<rsa::KeyPair>),
}

impl Signer {
    /// Of a private key over P-256 in PEM (PKCS #8), as Apple hands it out.
    ///
    /// # Errors
    /// A sentence, which says nothing of the key.
    pub fn es256(pem: &str) -> Result<Self, String> {
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| "the key is not a private key in PEM")?;
        let PrivateKeyDer::Pkcs8(der) = &der else { return Err("the key is not in PKCS #8".to_owned()) };
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der(), &random);
        let key = key.map_err(|_| "the key is not one over P-256")?;
        Ok(Self { key: Key::Es256(Box::new(key)), random })
    }

    /// Of the two halves of a pair over P-256 in base64url, as tools for web push print them.
    ///
    /// # Errors
    /// A sentence, which says nothing of the key.
    pub fn es256_pair(private: &str, public: &str) -> Result<Self, String> {
        let decoded = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text.trim().trim_end_matches('='));
        let (Ok(private), Ok(public)) = (decoded(private), decoded(public)) else {
            return Err("the keys are not in base64url".to_owned());
        };
        let random = SystemRandom::new();
        let pair =
            EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_FIXED_SIGNING, &private, &public, &random);
        let pair = pair.map_err(|_| "the two keys are not a pair over P-256")?;
        Ok(Self { key: Key::Es256(Box::new(pair)), random })
    }

    /// Of an RSA key in PEM, as in the file of a Google service account.
    ///
    /// # Errors
    /// A sentence, which says nothing of the key.
    pub fn rs256(pem: &str) -> Result<Self, String> {
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| "the key is not a private key in PEM")?;
        let key = match &der {
            PrivateKeyDer::Pkcs8(der) => rsa::KeyPair::from_pkcs8(der.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(der) => rsa::KeyPair::from_der(der.secret_pkcs1_der()),
            _ => return Err("the key is not one of RSA".to_owned()),
        };
        let key = key.map_err(|_| "the key is not one of RSA with 2048 bits or more")?;
        Ok(Self { key: Key::Rs256(Box::new(key)), random: SystemRandom::new() })
    }

    /// The public key over P-256, uncompressed, in base64url; empty for RSA.
    pub fn public_key(&self) -> String {
        match &self.key {
            Key::Es256(key) => BASE64_URL_SAFE_NO_PAD.encode(key.public_key().as_ref()),
            Key::Rs256(_) => String::new(),
        }
    }

    /// A token with these claims, and the name of the key in its header where there is one.
    ///
    /// # Errors
    /// None that a key which was taken could cause.
    pub fn sign(&self, key_id: Option<&str>, claims: &Value) -> Result<String, String> {
        let algorithm = match self.key {
            Key::Es256(_) => "ES256",
            Key::Rs256(_) => "RS256",
        };
        let mut header = serde_json::json!({"alg": algorithm, "typ": "JWT"});
        if let Some(id) = key_id {
            header["kid"] = id.into();
        }
        let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let failed = |_| "a token cannot be signed".to_owned();
        let signature = match &self.key {
            Key::Es256(key) => key.sign(&self.random, signed.as_bytes()).map_err(failed)?.as_ref().to_vec(),
            Key::Rs256(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &self.random, signed.as_bytes(), &mut signature).map_err(failed)?;
                signature
            }
        };
        Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }
}
