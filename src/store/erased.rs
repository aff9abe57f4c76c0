//! Who was erased on request: keyed hashes of keys, by which no file and no other system brings the rows back.

use super::{Result, Sql, Store, Tx};

/// What stands before the hash where a key stood.
const ERASED: &str = "erased:";

/// What stands in the place of a key that was erased; `hash` is its keyed hash.
pub fn text(hash: &str) -> String {
    format!("{ERASED}{hash}")
}

const IS_ERASED: &str = "SELECT 1 FROM erased WHERE namespace = $1 AND dataset = $2 AND entity = $3 AND key = $4";

impl Store {
    /// Whether the row of an entity was erased; `key` is the keyed hash of its key. `of`: namespace and dataset.
    pub async fn is_erased(&self, of: (&str, &str), entity: &str, key: &str) -> Result<bool> {
        Ok(self.fetch_one(Sql::new(IS_ERASED).bind(of.0).bind(of.1).bind(entity).bind(key)).await?.is_some())
    }
}

impl Tx {
    /// As [`Store::is_erased`].
    pub async fn is_erased(&mut self, of: (&str, &str), entity: &str, key: &str) -> Result<bool> {
        Ok(self.fetch_one(Sql::new(IS_ERASED).bind(of.0).bind(of.1).bind(entity).bind(key)).await?.is_some())
    }
}
