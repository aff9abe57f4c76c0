//! A message that only one browser can open: RFC 8291 (the keys) over RFC 8188 (`aes128gcm`), in one record.

use ring::{
    aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    agreement::{self, ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey},
    hkdf::{self, HKDF_SHA256, KeyType},
    rand::{SecureRandom, SystemRandom},
};

const SALT_BYTES: usize = 16;
const KEY_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;
/// An uncompressed point of P-256.
pub const POINT_BYTES: usize = 65;
/// RFC 8291, section 3.2.
pub const AUTH_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;
/// What every push service takes (RFC 8030, section 7.2).
const BODY_BYTES_MAX: usize = 4096;
/// Salt, record size, length of the key, the key.
const HEAD_BYTES: usize = SALT_BYTES + 4 + 1 + POINT_BYTES;
/// The delimiter of the last record, and AES-GCM's tag.
const TAIL_BYTES: usize = 1 + 16;
/// The most that a sealed message holds.
pub const PLAIN_BYTES_MAX: usize = BODY_BYTES_MAX - HEAD_BYTES - TAIL_BYTES;

/// The keys of a subscription, as its browser made them.
#[derive(Clone, Debug)]
pub struct Keys {
    pub p256dh: Vec<u8>,
    pub auth: Vec<u8>,
}

/// A key pair and a salt that are used once.
struct Once<'a> {
    public: &'a [u8],
    shared: &'a [u8],
    salt: [u8; SALT_BYTES],
}

/// Seals a message for the owner of the keys; each time with a new key pair.
///
/// # Errors
/// If the keys are none, or the message is too long.
pub fn seal(keys: &Keys, message: &[u8]) -> Result<Vec<u8>, String> {
    let random = SystemRandom::new();
    let failed = |_| "no key can be made".to_owned();
    let own = EphemeralPrivateKey::generate(&ECDH_P256, &random).map_err(failed)?;
    let public = own.compute_public_key().map_err(failed)?;
    let mut salt = [0; SALT_BYTES];
    random.fill(&mut salt).map_err(failed)?;
    let theirs = UnparsedPublicKey::new(&ECDH_P256, &keys.p256dh);
    let sealed = agreement::agree_ephemeral(own, &theirs, |shared| {
        seal_with(keys, &Once { public: public.as_ref(), shared, salt }, message)
    });
    sealed.map_err(|_| "the subscription's key is not a point of P-256".to_owned())?
}

fn seal_with(keys: &Keys, once: &Once<'_>, message: &[u8]) -> Result<Vec<u8>, String> {
    if message.len() > PLAIN_BYTES_MAX {
        return Err(format!("the message has {} bytes, and {PLAIN_BYTES_MAX} fit", message.len()));
    }
    let failed = |_| "the message cannot be sealed".to_owned();
    let secret = hkdf::Salt::new(HKDF_SHA256, &keys.auth).extract(once.shared);
    let secret = expand::<SECRET_BYTES>(&secret, &[b"WebPush: info\0", &keys.p256dh, once.public]).map_err(failed)?;
    let secret = hkdf::Salt::new(HKDF_SHA256, &once.salt).extract(&secret);
    let key = expand::<KEY_BYTES>(&secret, &[b"Content-Encoding: aes128gcm\0"]).map_err(failed)?;
    let nonce = expand::<NONCE_BYTES>(&secret, &[b"Content-Encoding: nonce\0"]).map_err(failed)?;
    // One record, whose delimiter says that it is the last one.
    let mut record = [message, &[2]].concat();
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).map_err(failed)?);
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut record).map_err(failed)?;
    let size = u32::try_from(BODY_BYTES_MAX).unwrap_or(u32::MAX).to_be_bytes();
    let length = u8::try_from(once.public.len()).unwrap_or(u8::MAX);
    Ok([&once.salt, size.as_slice(), &[length], once.public, &record].concat())
}

fn expand<const N: usize>(secret: &hkdf::Prk, info: &[&[u8]]) -> Result<[u8; N], ring::error::Unspecified> {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let mut out = [0; N];
    secret.expand(info, Length(N))?.fill(&mut out)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

    use super::*;

    fn decoded(text: &str) -> Vec<u8> {
        BASE64_URL_SAFE_NO_PAD.decode(text.split_whitespace().collect::<String>()).unwrap()
    }

    /// RFC 8291, appendix A; its shared secret stands there, too, so that no private key has to be taken in.
    #[test]
    fn the_example_of_the_rfc() {
        let keys = Keys {
            p256dh: decoded("BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"),
            auth: decoded("BTBZMqHH6r4Tts7J_aSIgg"),
        };
        let once = Once {
            public: &decoded("BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8"),
            shared: &decoded("kyrL1jIIOHEzg3sM2ZWRHDRB62YACZhhSlknJ672kSs"),
            salt: decoded("DGv6ra1nlYgDCS1FRnbzlw").try_into().unwrap(),
        };
        let sealed = seal_with(&keys, &once, b"When I grow up, I want to be a watermelon").unwrap();
        let expected =
            "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6Tlz
            AC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN";
        assert_eq!(BASE64_URL_SAFE_NO_PAD.encode(sealed), BASE64_URL_SAFE_NO_PAD.encode(decoded(expected)));
    }

    #[test]
    fn what_is_too_long_or_for_nobody_is_not_sealed() {
        let point = decoded("BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4");
        let keys = Keys { p256dh: point, auth: vec![7; AUTH_BYTES] };
        assert_eq!(seal(&keys, &[b'x'; PLAIN_BYTES_MAX]).unwrap().len(), BODY_BYTES_MAX, "all that a service takes");
        let said = seal(&keys, &[b'x'; PLAIN_BYTES_MAX + 1]).unwrap_err();
        assert_eq!(said, "the message has 3994 bytes, and 3993 fit");
        let nobody = Keys { p256dh: vec![4; POINT_BYTES], ..keys };
        assert_eq!(seal(&nobody, b"x").unwrap_err(), "the subscription's key is not a point of P-256");
    }
}
