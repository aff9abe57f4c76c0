//! What templates attach, kept once by its hash, for as long as a run that sends it is kept.

use jiff::Timestamp;

use super::{Bind, Result, Sql, Store, Tx, micros};

impl Store {
    /// Keeps what is attached, as it travels; what is there already is as good as new.
    pub async fn put_attachment(&self, sha256: &str, body: &str, now: Timestamp) -> Result<()> {
        // The body is long: one that is known is not sent again.
        let known = "UPDATE attachment SET seen_us = $2 WHERE sha256 = $1";
        if self.execute(Sql::new(known).bind(sha256).bind(micros(now))).await? > 0 {
            return Ok(());
        }
        let put = "INSERT INTO attachment (sha256, seen_us, body) VALUES ($1, $2, $3) \
                   ON CONFLICT (sha256) DO UPDATE SET seen_us = excluded.seen_us";
        self.execute(Sql::new(put).bind(sha256).bind(micros(now)).bind(body)).await?;
        Ok(())
    }

    pub async fn attachment(&self, sha256: &str) -> Result<Option<String>> {
        let row = self.fetch_one(Sql::new("SELECT body FROM attachment WHERE sha256 = $1").bind(sha256)).await?;
        row.map(|row| row.get(0)).transpose()
    }

    /// Lets go what no template attaches any more (`declared` are those that do), what nobody has put since `before`, and what
    /// no run needs whose messages are kept; how many.
    pub async fn retire_attachments(&self, declared: &[String], before: Timestamp) -> Result<u64> {
        let places: Vec<String> = (2..declared.len() + 2).map(|n| format!("${n}")).collect();
        let declared_now =
            if places.is_empty() { String::new() } else { format!("AND sha256 NOT IN ({})", places.join(", ")) };
        let sql = format!(
            "DELETE FROM attachment WHERE seen_us < $1 {declared_now} AND NOT EXISTS (SELECT 1 FROM revision_attachment v \
             JOIN run r ON r.revision = v.revision WHERE v.sha256 = attachment.sha256 AND r.retired_us IS NULL)"
        );
        let binds =
            std::iter::once(Bind::from(micros(before))).chain(declared.iter().map(|sha| Bind::from(sha.as_str())));
        self.execute(Sql::composed(sql, binds.collect())).await
    }
}

impl Tx {
    /// Remembers what a revision attaches.
    pub(super) async fn put_revision_attachments(&mut self, revision: &str, content: &str) -> Result<()> {
        for sha256 in attached(content) {
            let put = "INSERT INTO revision_attachment (revision, sha256) VALUES ($1, $2) ON CONFLICT DO NOTHING";
            self.execute(Sql::new(put).bind(revision).bind(sha256)).await?;
        }
        Ok(())
    }
}

/// The hashes in a revision's text: every `pinned` attachment of its templates, whatever else they hold.
fn attached(content: &str) -> Vec<String> {
    fn put(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                found.extend(fields.get("pinned").and_then(|pinned| Some(pinned["sha256"].as_str()?.to_owned())));
                fields.values().for_each(|field| put(field, found));
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| put(item, found)),
            _ => {}
        }
    }
    let mut found = vec![];
    if content.contains("\"pinned\"") {
        let content: serde_json::Value = serde_json::from_str(content).unwrap_or_default();
        put(&content["templates"], &mut found);
    }
    found
}
