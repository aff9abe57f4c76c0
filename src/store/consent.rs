//! What a person says of her own consent, outside of the files.

use jiff::Timestamp;

use super::{Result, Sql, Store, ledger::Topic, micros};

impl Store {
    /// Appends a withdrawal to the consent log. The newest entry wins, so a file that was written before does not undo it.
    pub async fn withdraw(&self, topic: Topic<'_>, profile: &str, source: &str, now: Timestamp) -> Result<()> {
        let sql = "INSERT INTO consent (namespace, dataset, topic, channel, profile, at_us, granted, source, recorded_us) \
                   VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $6) ON CONFLICT DO NOTHING";
        let sql = Sql::new(sql)
            .bind(topic.namespace)
            .bind(topic.dataset)
            .bind(topic.topic)
            .bind(topic.channel)
            .bind(profile)
            .bind(micros(now))
            .bind(source);
        self.execute(sql).await?;
        Ok(())
    }
}
