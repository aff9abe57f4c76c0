//! Keyed hashes: what is remembered of an address or a key whose owner must not be told from it.
//!
//! HMAC-SHA256 (RFC 2104) under the store's own secret, one label for each use, of which 16 bytes are kept. Both databases
//! compute it, too (`campanile_keyed`), so that a set of addresses is compared where it stands.

use ring::hmac;
use sea_query::Expr;
use sha2::{Digest, Sha256};

use super::{Error, Result, Sql, Store};
use crate::rule::Dialect;

const HASH_BYTES: usize = 16;
/// Of SHA-256.
const BLOCK_BYTES: usize = 64;

/// What is hashed; the same text has another hash under another label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// An address of a person, such as a mailbox or a telephone number.
    Address,
    /// The key of a row.
    Key,
}

impl Label {
    fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Address => b"address",
            Self::Key => b"key",
        }
    }
}

/// A key for hashes of one kind.
#[derive(Clone)]
pub struct Keyed {
    key: hmac::Key,
    /// The key for the databases: padded and mixed with both of HMAC's constants, in hex.
    pads: String,
}

/// No mail system tells cases apart any more, and two spellings must not be two addresses.
fn normal(address: &str) -> String {
    address.trim_matches(' ').to_ascii_lowercase()
}

impl Keyed {
    pub fn new(secret: &[u8], label: Label) -> Self {
        let own = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), label.as_bytes());
        let pad = |mix: u8| {
            let mut block = [mix; BLOCK_BYTES];
            block.iter_mut().zip(own.as_ref()).for_each(|(byte, key)| *byte ^= key);
            hex(&block)
        };
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, own.as_ref()), pads: format!("{}{}", pad(0x36), pad(0x5c)) }
    }

    pub fn hash(&self, text: &str) -> String {
        hex(&hmac::sign(&self.key, text.as_bytes()).as_ref()[..HASH_BYTES])
    }

    /// Of an address, however it is written.
    pub fn of_address(&self, address: &str) -> String {
        self.hash(&normal(address))
    }

    /// What `campanile_keyed` takes first.
    pub fn pads(&self) -> &str {
        &self.pads
    }

    /// The hash of an address that stands in a column, as [`Self::of_address`] gives it.
    pub fn address_expr(&self, address: Expr, dialect: Dialect) -> Expr {
        let pads = Expr::val(self.pads.clone());
        match dialect {
            Dialect::Sqlite => Expr::cust_with_exprs("campanile_keyed(?, lower(trim(?)))".to_owned(), [pads, address]),
            // By its own locale PostgreSQL would change more than ASCII.
            Dialect::Postgres => {
                Expr::cust_with_exprs("campanile_keyed($, lower(trim($) COLLATE \"C\"))".to_owned(), [pads, address])
            }
        }
    }
}

/// The hash of an address in SQL, where no [`Keyed`] is at hand; `?` stands for the address, once. NULL while the store has
/// no hash yet, see [`Store::address_key`].
pub(super) fn hash_sql(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => {
            "campanile_keyed((SELECT kept.address_pads FROM home kept WHERE kept.id = 1), lower(trim(?)))"
        }
        Dialect::Postgres => {
            "campanile_keyed((SELECT kept.address_pads FROM home kept WHERE kept.id = 1), lower(trim(?) COLLATE \"C\"))"
        }
    }
}

/// As SQLite calls it.
pub(super) fn hash_with(pads: &str, text: &str) -> Option<String> {
    let bytes: Option<Vec<u8>> =
        (0..pads.len() / 2).map(|at| u8::from_str_radix(pads.get(2 * at..2 * at + 2)?, 16).ok()).collect();
    let bytes = bytes.filter(|bytes| bytes.len() == 2 * BLOCK_BYTES)?;
    let (inner, outer) = bytes.split_at(BLOCK_BYTES);
    let within = Sha256::new().chain_update(inner).chain_update(text).finalize();
    Some(hex(&Sha256::new().chain_update(outer).chain_update(within).finalize()[..HASH_BYTES]))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Store {
    /// The key for hashes of one kind, under the store's own secret.
    pub async fn keyed(&self, label: Label) -> Result<Keyed> {
        Ok(Keyed::new(&self.secret().await?, label))
    }

    /// The key for hashes of addresses. From then on the databases know it, too: whoever keeps the first hash asks here.
    pub async fn address_key(&self) -> Result<Keyed> {
        let keyed = self.keyed(Label::Address).await?;
        let known = self.fetch_one(Sql::new("SELECT 1 FROM home WHERE id = 1 AND address_pads IS NOT NULL")).await?;
        let put = || Sql::new("UPDATE home SET address_pads = $1 WHERE id = 1").bind(keyed.pads());
        if known.is_none() && self.execute(put()).await? == 0 {
            return Err(Error::Internal("a store without a home".to_owned()));
        }
        Ok(keyed)
    }

    /// The hash of an address, from a store that may only be read. None while it has no key, and so no hashes.
    pub async fn address_hash(&self, address: &str) -> Result<Option<String>> {
        let row = self.fetch_one(Sql::new("SELECT address_pads FROM home WHERE id = 1")).await?;
        let pads = row.map(|row| row.get::<Option<String>>(0)).transpose()?.flatten();
        Ok(pads.and_then(|pads| hash_with(&pads, &normal(address))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_databases_are_given_all_that_the_hash_takes() {
        let keyed = Keyed::new(b"secret", Label::Address);
        for text in ["", "ann@example.com", "Ärger", &"x".repeat(300)] {
            assert_eq!(hash_with(keyed.pads(), text), Some(keyed.hash(text)));
        }
        assert_eq!(hash_with("00", "a"), None);
        assert_eq!(keyed.of_address(" Ann@Example.COM "), keyed.hash("ann@example.com"));
        assert_ne!(keyed.hash("7"), Keyed::new(b"secret", Label::Key).hash("7"));
    }
}
