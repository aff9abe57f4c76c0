//! Receipts that providers name messages by, where they do not take a name of ours.

use jiff::Timestamp;

use super::{Bind, Result, Sql, Store, Tx, micros};

impl Tx {
    /// Remembers of which messages (reference) a channel's receipts are (id). An id that a provider gives again is the
    /// newer message's.
    pub async fn put_receipts(
        &mut self,
        (namespace, channel): (&str, &str),
        receipts: &[(String, String)],
        now: Timestamp,
    ) -> Result<()> {
        let sql = "INSERT INTO receipt (namespace, channel, id, reference, at_us) VALUES ($1, $2, $3, $4, $5) \
                   ON CONFLICT (namespace, channel, id) DO UPDATE SET reference = excluded.reference, at_us = excluded.at_us";
        let row = |(id, reference): &(String, String)| -> Vec<Bind> {
            vec![namespace.into(), channel.into(), plain(id).into(), reference.into(), micros(now).into()]
        };
        self.execute_each(sql, receipts.iter().map(row).collect()).await
    }
}

impl Store {
    /// The reference of the message that a receipt is of. Message centres that have their ids as numbers write them in
    /// hexadecimal when they take a message and in decimal when they tell of it, or the other way round.
    pub async fn receipt(&self, (namespace, channel): (&str, &str), id: &str) -> Result<Option<String>> {
        let sql = "SELECT reference FROM receipt WHERE namespace = $1 AND channel = $2 AND id = $3";
        let id = plain(id);
        for id in [Some(id.clone()), in_decimal(&id), in_hexadecimal(&id)].into_iter().flatten() {
            let found = self.fetch_one(Sql::new(sql).bind(namespace).bind(channel).bind(id)).await?;
            if let Some(row) = found {
                return row.get(0).map(Some);
            }
        }
        Ok(None)
    }

    /// Forgets receipts of which no message centre tells any more.
    pub async fn forget_receipts(&self, before: Timestamp) -> Result<u64> {
        self.execute(Sql::new("DELETE FROM receipt WHERE at_us < $1").bind(micros(before))).await
    }
}

/// Numbers are padded or not, and letters are small or not, as a centre likes.
fn plain(id: &str) -> String {
    let id = id.trim().to_ascii_lowercase();
    let bare = id.trim_start_matches('0');
    if bare.is_empty() { id } else { bare.to_owned() }
}

fn in_decimal(id: &str) -> Option<String> {
    u64::from_str_radix(id, 16).ok().map(|number| number.to_string())
}

fn in_hexadecimal(id: &str) -> Option<String> {
    id.parse::<u64>().ok().map(|number| format!("{number:x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_same_however_they_are_written() {
        assert_eq!(plain("000000007F3A"), "7f3a");
        assert_eq!(plain(" 0 "), "0");
        assert_eq!(in_decimal("7f3a").as_deref(), Some("32570"));
        assert_eq!(in_hexadecimal("32570").as_deref(), Some("7f3a"));
        assert_eq!((in_decimal("7g"), in_hexadecimal("7f")), (None, None));
    }
}
