//! Who works on what: claims of ranges, batches of workers that died, and the beats that tell.

use jiff::Timestamp;

use super::{
    Bind, Result, Row, Sql, Store, Tx,
    ledger::{Batch, OF_STEP, OPEN},
    micros,
};

impl Store {
    /// Claims the next range of at most `size` messages of a channel, oldest run first; those that are due again come first.
    pub async fn claim(&self, of: (&str, &str), worker: &str, size: i64, now: Timestamp) -> Result<Option<Batch>> {
        let mut tx = self.begin().await?;
        let batch = match tx.claim_deferred(of, worker, now).await? {
            Some(batch) => Some(batch),
            None => tx.claim_next(of, worker, size).await?,
        };
        tx.commit().await?;
        Ok(batch)
    }

    /// The channels (namespace, name) that have something to claim now.
    pub async fn channels_with_work(&self, now: Timestamp) -> Result<Vec<(String, String)>> {
        let sql = format!(
            "SELECT DISTINCT r.namespace, rc.channel FROM run r JOIN run_channel rc ON rc.run_no = r.no WHERE {OPEN} AND ( \
               EXISTS (SELECT 1 FROM claim_cursor c WHERE c.run_day = r.run_day AND c.run_no = r.no AND c.step_no = rc.step_no AND c.next_seq < c.planned) \
               OR EXISTS (SELECT 1 FROM deferred d WHERE d.run_day = r.run_day AND d.run_no = r.no AND d.step_no = rc.step_no AND d.due_us <= $1))"
        );
        let rows = self.fetch(Sql::composed(sql, vec![micros(now).into()])).await?;
        rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
    }

    /// When the next deferred message of an open run is due.
    pub async fn next_due(&self) -> Result<Option<Timestamp>> {
        let sql = format!(
            "SELECT min(d.due_us) FROM deferred d JOIN run r ON r.no = d.run_no JOIN run_channel rc ON rc.run_no = r.no AND rc.step_no = d.step_no WHERE {OPEN}"
        );
        let row = self.fetch_one(Sql::composed(sql, vec![])).await?;
        Ok(row.map(|row| row.get::<Option<i64>>(0)).transpose()?.flatten().map(super::instant))
    }

    /// Batches of runs that may go on or are being cancelled, whose worker is not among `alive`.
    pub async fn abandoned(&self, alive: &[String]) -> Result<Vec<Batch>> {
        let sql = format!(
            "SELECT b.run_day, b.run_no, b.step_no, b.shard, b.first_seq, b.last_seq, b.worker, b.fence FROM batch b \
             JOIN run r ON r.no = b.run_no JOIN run_channel rc ON rc.run_no = b.run_no AND rc.step_no = b.step_no \
             WHERE r.state = 'Cancelling' OR ({OPEN}) ORDER BY b.run_no, b.step_no, b.shard, b.first_seq"
        );
        let batches: Vec<Batch> =
            self.fetch(Sql::composed(sql, vec![])).await?.iter().map(batch).collect::<Result<_>>()?;
        Ok(batches.into_iter().filter(|b| !alive.contains(&b.worker)).collect())
    }

    /// Takes a dead worker's batch; none if somebody else did. The higher fence makes the old owner's commits fail.
    pub async fn take_over(&self, batch: &Batch, worker: &str) -> Result<Option<Batch>> {
        let sql = format!(
            "UPDATE batch SET worker = $8, fence = fence + 1 WHERE {OF_STEP} AND first_seq = $5 AND worker = $6 AND fence = $7"
        );
        let binds = batch.keyed([batch.first_seq.into(), (&batch.worker).into(), batch.fence.into(), worker.into()]);
        let taken = self.execute(Sql::composed(sql, binds)).await? == 1;
        Ok(taken.then(|| Batch { worker: worker.to_owned(), fence: batch.fence + 1, ..batch.clone() }))
    }

    /// Raises this worker's beat; other workers watch it.
    pub async fn beat(&self, worker: &str) -> Result<()> {
        let sql = "INSERT INTO worker (id, beat) VALUES ($1, 1) ON CONFLICT (id) DO UPDATE SET beat = worker.beat + 1";
        self.execute(Sql::new(sql).bind(worker)).await?;
        Ok(())
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

impl Tx {
    async fn claim_deferred(&mut self, of: (&str, &str), worker: &str, now: Timestamp) -> Result<Option<Batch>> {
        // A row stays out of reach while the batch that put it aside is open: its takeover would count it twice.
        let sql = format!(
            "SELECT d.run_day, d.run_no, d.step_no, d.shard, d.seq FROM deferred d JOIN run r ON r.no = d.run_no \
             JOIN run_channel rc ON rc.run_no = d.run_no AND rc.step_no = d.step_no \
             WHERE r.namespace = $1 AND rc.channel = $2 AND d.due_us <= $3 AND {OPEN} \
             AND NOT EXISTS (SELECT 1 FROM batch b WHERE b.run_day = d.run_day AND b.run_no = d.run_no AND b.step_no = d.step_no \
               AND b.shard = d.shard AND b.first_seq <= d.seq AND b.last_seq >= d.seq) ORDER BY d.due_us LIMIT 1"
        );
        let binds = vec![of.0.into(), of.1.into(), micros(now).into()];
        let Some(row) = self.fetch_one(Sql::composed(sql, binds)).await? else { return Ok(None) };
        let key: Vec<i64> = (0..5).map(|i| row.get(i)).collect::<Result<_>>()?;
        let delete = format!("DELETE FROM deferred WHERE {OF_STEP} AND seq = $5");
        if self.execute(Sql::composed(delete, key.iter().map(|k| Bind::from(*k)).collect())).await? == 0 {
            return Ok(None);
        }
        self.open_batch(&key[..4], key[4], key[4], worker).await.map(Some)
    }

    async fn claim_next(&mut self, of: (&str, &str), worker: &str, size: i64) -> Result<Option<Batch>> {
        let sql = format!(
            "SELECT c.run_day, c.run_no, c.step_no, c.shard, c.next_seq, c.planned FROM claim_cursor c JOIN run r ON r.no = c.run_no \
             JOIN run_channel rc ON rc.run_no = c.run_no AND rc.step_no = c.step_no \
             WHERE r.namespace = $1 AND rc.channel = $2 AND c.next_seq < c.planned AND {OPEN} ORDER BY c.run_no, c.next_seq LIMIT 1"
        );
        let Some(row) = self.fetch_one(Sql::composed(sql, vec![of.0.into(), of.1.into()])).await? else {
            return Ok(None);
        };
        let key: Vec<i64> = (0..6).map(|i| row.get(i)).collect::<Result<_>>()?;
        let (next, planned) = (key[4], key[5]);
        let end = std::cmp::min(planned, next + size);
        let take = format!("UPDATE claim_cursor SET next_seq = $6 WHERE {OF_STEP} AND next_seq = $5");
        let binds = key[..4].iter().copied().chain([next, end]).map(Bind::from).collect();
        // Another worker was faster: the caller asks again.
        if self.execute(Sql::composed(take, binds)).await? == 0 {
            return Ok(None);
        }
        self.open_batch(&key[..4], next, end - 1, worker).await.map(Some)
    }

    async fn open_batch(&mut self, key: &[i64], first_seq: i64, last_seq: i64, worker: &str) -> Result<Batch> {
        let sql = "INSERT INTO batch (run_day, run_no, step_no, shard, first_seq, last_seq, worker, fence) VALUES ($1, $2, $3, $4, $5, $6, $7, 1)";
        let binds = key.iter().copied().chain([first_seq, last_seq]).map(Bind::from).chain([worker.into()]).collect();
        self.execute(Sql::composed(sql.to_owned(), binds)).await?;
        Ok(Batch {
            run_day: key[0],
            run_no: key[1],
            step_no: key[2],
            shard: key[3],
            first_seq,
            last_seq,
            worker: worker.to_owned(),
            fence: 1,
        })
    }
}

fn batch(row: &Row) -> Result<Batch> {
    Ok(Batch {
        run_day: row.get(0)?,
        run_no: row.get(1)?,
        step_no: row.get(2)?,
        shard: row.get(3)?,
        first_seq: row.get(4)?,
        last_seq: row.get(5)?,
        worker: row.get(6)?,
        fence: row.get(7)?,
    })
}
