//! Rates and quotas that hold over all workers together: a worker reserves slots before it sends.

use super::{Result, Sql, Tx};

impl Tx {
    /// Reserves `count` slots of `name`, each `slot_us` long, none before `now_us`. Returns when the first begins, in
    /// microseconds since the epoch.
    ///
    /// Slots follow each other without a gap while somebody waits for them, so a worker whose clock is off shifts the
    /// schedule once and changes no rate.
    pub async fn reserve(&mut self, namespace: &str, name: &str, count: i64, slot_us: i64, now_us: i64) -> Result<i64> {
        let sql = "INSERT INTO pace (namespace, name, free_us) VALUES ($1, $2, $3 + $4) ON CONFLICT (namespace, name) DO UPDATE \
                   SET free_us = CASE WHEN pace.free_us > $3 THEN pace.free_us ELSE $3 END + $4 RETURNING free_us";
        let length = count.saturating_mul(slot_us);
        let sql = Sql::new(sql).bind(namespace).bind(name).bind(now_us).bind(length);
        let row = self.fetch_one(sql).await?;
        row.map_or(Ok(now_us), |row| Ok(row.get::<i64>(0)? - length))
    }

    /// Takes up to `count` messages of a channel's quota for a day; how many there were.
    pub async fn take_quota(&mut self, of: (&str, &str), day: i64, count: i64, quota: i64) -> Result<i64> {
        let make = "INSERT INTO quota (namespace, channel, day, used) VALUES ($1, $2, $3, 0) ON CONFLICT (namespace, channel, day) DO NOTHING";
        self.execute(Sql::new(make).bind(of.0).bind(of.1).bind(day)).await?;
        let lock = self.row_lock("FOR UPDATE");
        let look = format!("SELECT used FROM quota WHERE namespace = $1 AND channel = $2 AND day = $3{lock}");
        let binds = vec![of.0.into(), of.1.into(), day.into()];
        let used: i64 = self.fetch_one(Sql::composed(look, binds)).await?.map_or(Ok(0), |row| row.get(0))?;
        let taken = count.min(quota - used).max(0);
        let take = "UPDATE quota SET used = used + $4 WHERE namespace = $1 AND channel = $2 AND day = $3";
        self.execute(Sql::new(take).bind(of.0).bind(of.1).bind(day).bind(taken)).await?;
        Ok(taken)
    }
}
