//! The beats of workers: who lives raises its own, who watches compares them and asks no clock of another machine.

use super::{Result, Sql, Store};

impl Store {
    /// Raises a worker's beat and returns it. It falls only if the store went back in time.
    pub async fn beat(&self, worker: &str) -> Result<i64> {
        let sql = "INSERT INTO worker (id, beat) VALUES ($1, 1) ON CONFLICT (id) DO UPDATE SET beat = worker.beat + 1 RETURNING beat";
        let mut tx = self.begin().await?;
        let row = tx.fetch_one(Sql::new(sql).bind(worker)).await?;
        tx.commit().await?;
        row.map_or(Ok(0), |row| row.get(0))
    }

    pub async fn beats(&self) -> Result<Vec<(String, i64)>> {
        let rows = self.fetch(Sql::new("SELECT id, beat FROM worker")).await?;
        rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
    }

    pub async fn forget_worker(&self, worker: &str) -> Result<()> {
        self.execute(Sql::new("DELETE FROM worker WHERE id = $1").bind(worker)).await?;
        Ok(())
    }
}
