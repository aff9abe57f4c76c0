//! Who works on what: claims of ranges and of what is due again, and the work of those that died.

use jiff::Timestamp;

use super::{
    Bind, Error, Result, Row, Sql, Store, Tx,
    ledger::{Batch, Deferral, NOT_TRIED, OF_PART, OPEN, Part, Standing, Whose},
    micros,
};

/// What a worker has claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    Range(Batch),
    /// Deferred messages of one part that are due, leased where they stand.
    Due(Part, Vec<i64>),
}

impl Claim {
    pub fn part(&self) -> Part {
        match self {
            Self::Range(batch) => batch.part,
            Self::Due(part, _) => *part,
        }
    }
}

const OF_CHANNEL: &str = "r.namespace = $1 AND rc.channel = $2";

impl Store {
    /// Claims for a channel: first what is due again (at most `due_max`), then what another worker left behind, then the
    /// next range of at most `range_max` of the oldest run.
    ///
    /// # Errors
    /// [`Error::Refused`] if the store does not know this `beat` of the worker: an older store has taken its place.
    pub async fn claim(
        &self,
        of: (&str, &str),
        (worker, beat): (&str, i64),
        (due_max, range_max): (i64, i64),
        now: Timestamp,
    ) -> Result<Option<Claim>> {
        let mut tx = self.begin().await?;
        if !tx.has_beaten(worker, beat).await? {
            return Err(Error::Refused("the store went back in time".to_owned()));
        }
        let claim = match tx.claim_due(of, worker, due_max, now).await? {
            Some(claim) => Some(claim),
            None => match tx.claim_left(of, worker).await? {
                Some(batch) => Some(batch),
                None => tx.claim_next(of, worker, range_max).await?,
            }
            .map(Claim::Range),
        };
        tx.commit().await?;
        Ok(claim)
    }

    /// The channels (namespace, name) that have something to claim now.
    pub async fn channels_with_work(&self, now: Timestamp) -> Result<Vec<(String, String)>> {
        let sql = format!(
            "SELECT DISTINCT r.namespace, rc.channel FROM run r JOIN run_channel rc ON rc.run_no = r.no WHERE {OPEN} AND ( \
               EXISTS (SELECT 1 FROM claim_cursor c WHERE c.run_day = r.run_day AND c.run_no = r.no AND c.step_no = rc.step_no AND c.next_seq < c.planned) \
               OR EXISTS (SELECT 1 FROM batch b WHERE b.run_day = r.run_day AND b.run_no = r.no AND b.step_no = rc.step_no AND b.worker = '') \
               OR EXISTS (SELECT 1 FROM deferred d WHERE d.run_day = r.run_day AND d.run_no = r.no AND d.step_no = rc.step_no AND d.worker IS NULL AND d.due_us <= $1))"
        );
        let rows = self.fetch(Sql::composed(sql, vec![micros(now).into()])).await?;
        rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
    }

    /// The channel steps (run, step) of unfinished runs that may make no attempts now.
    pub async fn closed_steps(&self) -> Result<Vec<(i64, i64)>> {
        let sql = format!(
            "SELECT r.no, rc.step_no FROM run r JOIN run_channel rc ON rc.run_no = r.no WHERE r.state <> 'Done' AND NOT ({OPEN})"
        );
        let rows = self.fetch(Sql::composed(sql, vec![])).await?;
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

    /// The claims that nobody holds, as `is_held` says of a worker and the channel (namespace, name) it claimed for.
    pub async fn abandoned(
        &self,
        is_held: impl Fn(&str, &(String, String)) -> bool,
    ) -> Result<(Vec<Batch>, Vec<(Part, String)>)> {
        const CHANNEL: &str =
            "JOIN run r ON r.no = c.run_no JOIN run_channel rc ON rc.run_no = c.run_no AND rc.step_no = c.step_no";
        let sql = format!(
            "SELECT c.run_day, c.run_no, c.step_no, c.shard, c.first_seq, c.last_seq, c.worker, c.fence, r.namespace, rc.channel \
             FROM batch c {CHANNEL} WHERE c.worker <> '' ORDER BY c.run_no, c.step_no, c.shard, c.first_seq"
        );
        let mut batches = vec![];
        for row in self.fetch(Sql::composed(sql, vec![])).await? {
            let batch = batch(&row)?;
            if !is_held(&batch.worker, &(row.get(8)?, row.get(9)?)) {
                batches.push(batch);
            }
        }
        let sql = format!(
            "SELECT DISTINCT c.run_day, c.run_no, c.step_no, c.shard, c.worker, r.namespace, rc.channel \
             FROM deferred c {CHANNEL} WHERE c.worker IS NOT NULL"
        );
        let mut leases = vec![];
        for row in self.fetch(Sql::composed(sql, vec![])).await? {
            let worker: String = row.get(4)?;
            if !is_held(&worker, &(row.get(5)?, row.get(6)?)) {
                leases.push((Part::read(&row)?, worker));
            }
        }
        Ok((batches, leases))
    }

    /// The last seq of a batch that was attempted by whoever had it.
    pub async fn last_attempted(&self, batch: &Batch) -> Result<Option<i64>> {
        let sql = format!(
            "SELECT max(last_seq) FROM attempt WHERE {OF_PART} AND attempt = 1 AND first_seq >= $5 AND last_seq <= $6"
        );
        let binds = batch.part.keyed([batch.first_seq.into(), batch.last_seq.into()]);
        self.fetch_one(Sql::composed(sql, binds)).await?.map_or(Ok(None), |row| row.get(0))
    }

    /// Gives leased messages back that were surely not handed to a provider, even where an attempt may be committed.
    pub async fn give_back_untried(&self, part: Part, seqs: &[i64], worker: &str, now: Timestamp) -> Result<()> {
        let mut tx = self.begin().await?;
        let attempted = "EXISTS (SELECT 1 FROM attempt a WHERE a.run_day = d.run_day AND a.run_no = d.run_no AND a.step_no = d.step_no \
                         AND a.shard = d.shard AND a.first_seq = d.seq AND a.attempt = d.attempts + 1)";
        let of =
            "d.run_day = $1 AND d.run_no = $2 AND d.step_no = $3 AND d.shard = $4 AND d.seq = $5 AND d.worker = $6";
        let fail = format!(
            "INSERT INTO failure (run_day, run_no, step_no, shard, seq, attempt, reason, at_us) \
             SELECT d.run_day, d.run_no, d.step_no, d.shard, d.seq, d.attempts + 1, '{NOT_TRIED}', CAST($7 AS BIGINT) FROM deferred d \
             WHERE {of} AND {attempted}"
        );
        let count = format!("UPDATE deferred AS d SET attempts = d.attempts + 1 WHERE {of} AND {attempted}");
        for seq in seqs {
            let key = || part.keyed([(*seq).into(), worker.into()]);
            let failed = key().into_iter().chain([micros(now).into()]).collect();
            if tx.execute(Sql::composed(fail.clone(), failed)).await? > 0 {
                tx.execute(Sql::composed(count.clone(), key())).await?;
            }
        }
        tx.give_back(part, seqs, worker).await?;
        tx.commit().await
    }

    /// Whether every message of the run has had its first attempt or an outcome: only a tail of retries may be left.
    pub async fn has_first_attempts_left(&self, run_day: i64, run_no: i64) -> Result<bool> {
        let sql = "SELECT 1 FROM claim_cursor WHERE run_day = $1 AND run_no = $2 AND next_seq < planned \
                   UNION ALL SELECT 1 FROM batch WHERE run_day = $1 AND run_no = $2 \
                   UNION ALL SELECT 1 FROM mailing WHERE run_day = $1 AND run_no = $2 AND made_us IS NULL AND tries = 0 LIMIT 1";
        Ok(self.fetch_one(Sql::new(sql).bind(run_day).bind(run_no)).await?.is_some())
    }

    /// Whether anything of the run is claimed or can be claimed, now or later.
    pub async fn is_unfinished(&self, run_day: i64, run_no: i64) -> Result<bool> {
        let sql = "SELECT 1 FROM claim_cursor WHERE run_day = $1 AND run_no = $2 AND next_seq < planned \
                   UNION ALL SELECT 1 FROM batch WHERE run_day = $1 AND run_no = $2 \
                   UNION ALL SELECT 1 FROM deferred WHERE run_day = $1 AND run_no = $2 \
                   UNION ALL SELECT 1 FROM mailing WHERE run_day = $1 AND run_no = $2 AND made_us IS NULL LIMIT 1";
        Ok(self.fetch_one(Sql::new(sql).bind(run_day).bind(run_no)).await?.is_some())
    }
}

impl Tx {
    /// Who is alone on a store may claim before its first beat.
    async fn has_beaten(&mut self, worker: &str, beat: i64) -> Result<bool> {
        if beat == 0 {
            return Ok(true);
        }
        let sql = Sql::new("SELECT 1 FROM worker WHERE id = $1 AND beat >= $2").bind(worker).bind(beat);
        Ok(self.fetch_one(sql).await?.is_some())
    }

    /// Takes a dead worker's batch; none if somebody else did. The higher fence makes the old owner's commits fail.
    pub async fn take_over(&mut self, batch: &Batch, worker: &str) -> Result<Option<Batch>> {
        let sql = format!(
            "UPDATE batch SET worker = $8, fence = fence + 1 WHERE {OF_PART} AND first_seq = $5 AND worker = $6 AND fence = $7"
        );
        let binds = batch.held().into_iter().chain([worker.into()]).collect();
        let taken = self.execute(Sql::composed(sql, binds)).await? == 1;
        Ok(taken.then(|| Batch { worker: worker.to_owned(), fence: batch.fence + 1, ..batch.clone() }))
    }

    /// The deferred messages of a part that a worker leases, held until the transaction ends. Pairs are (seq, attempts).
    pub async fn leased(&mut self, part: Part, worker: &str) -> Result<Vec<(i64, i64)>> {
        let lock = self.row_lock("FOR UPDATE");
        let sql = format!("SELECT seq, attempts FROM deferred WHERE {OF_PART} AND worker = $5 ORDER BY seq{lock}");
        let rows = self.fetch(Sql::composed(sql, part.keyed([worker.into()]))).await?;
        rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
    }

    /// Gives leased messages back to whoever claims next.
    pub async fn give_back(&mut self, part: Part, seqs: &[i64], worker: &str) -> Result<()> {
        let sql = format!("UPDATE deferred SET worker = NULL WHERE {OF_PART} AND seq = $5 AND worker = $6");
        self.execute_each(&sql, seqs.iter().map(|seq| part.keyed([(*seq).into(), worker.into()])).collect()).await
    }

    async fn claim_due(
        &mut self,
        of: (&str, &str),
        worker: &str,
        due_max: i64,
        now: Timestamp,
    ) -> Result<Option<Claim>> {
        let sql = format!(
            "SELECT d.run_day, d.run_no, d.step_no, d.shard FROM deferred d JOIN run r ON r.no = d.run_no \
             JOIN run_channel rc ON rc.run_no = d.run_no AND rc.step_no = d.step_no \
             WHERE {OF_CHANNEL} AND d.due_us <= $3 AND d.worker IS NULL AND {OPEN} ORDER BY d.due_us LIMIT 1"
        );
        let binds = vec![of.0.into(), of.1.into(), micros(now).into()];
        let Some(row) = self.fetch_one(Sql::composed(sql, binds)).await? else { return Ok(None) };
        let part = Part::read(&row)?;
        let skip = self.row_lock("FOR UPDATE SKIP LOCKED");
        // Materialized: PostgreSQL may run a plain subquery with SKIP LOCKED again and again, each time with other rows.
        let take = format!(
            "WITH due AS MATERIALIZED (SELECT seq FROM deferred WHERE {OF_PART} AND due_us <= $6 AND worker IS NULL \
             ORDER BY due_us, seq LIMIT $7{skip}) \
             UPDATE deferred SET worker = $5 WHERE {OF_PART} AND seq IN (SELECT seq FROM due) RETURNING seq"
        );
        let binds = part.keyed([worker.into(), micros(now).into(), due_max.into()]);
        let mut seqs = vec![];
        for row in self.fetch(Sql::composed(take, binds)).await? {
            seqs.push(row.get::<i64>(0)?);
        }
        seqs.sort_unstable();
        Ok((!seqs.is_empty()).then_some(Claim::Due(part, seqs)))
    }

    async fn claim_left(&mut self, of: (&str, &str), worker: &str) -> Result<Option<Batch>> {
        let skip = self.row_lock("FOR UPDATE OF b SKIP LOCKED");
        let sql = format!(
            "SELECT b.run_day, b.run_no, b.step_no, b.shard, b.first_seq, b.last_seq, b.worker, b.fence FROM batch b \
             JOIN run r ON r.no = b.run_no JOIN run_channel rc ON rc.run_no = b.run_no AND rc.step_no = b.step_no \
             WHERE {OF_CHANNEL} AND b.worker = '' AND {OPEN} ORDER BY b.run_no, b.first_seq LIMIT 1{skip}"
        );
        match self.fetch_one(Sql::composed(sql, vec![of.0.into(), of.1.into()])).await? {
            Some(row) => self.take_over(&batch(&row)?, worker).await,
            None => Ok(None),
        }
    }

    async fn claim_next(&mut self, of: (&str, &str), worker: &str, size: i64) -> Result<Option<Batch>> {
        let skip = self.row_lock("FOR UPDATE OF c SKIP LOCKED");
        let sql = format!(
            "SELECT c.run_day, c.run_no, c.step_no, c.shard, c.next_seq, c.planned FROM claim_cursor c JOIN run r ON r.no = c.run_no \
             JOIN run_channel rc ON rc.run_no = c.run_no AND rc.step_no = c.step_no \
             WHERE {OF_CHANNEL} AND c.next_seq < c.planned AND {OPEN} ORDER BY c.run_no, c.next_seq LIMIT 1{skip}"
        );
        let Some(row) = self.fetch_one(Sql::composed(sql, vec![of.0.into(), of.1.into()])).await? else {
            return Ok(None);
        };
        let part = Part::read(&row)?;
        let (next, planned): (i64, i64) = (row.get(4)?, row.get(5)?);
        let end = std::cmp::min(planned, next + size);
        let take = format!("UPDATE claim_cursor SET next_seq = $6 WHERE {OF_PART} AND next_seq = $5");
        if self.execute(Sql::composed(take, part.keyed([next.into(), end.into()]))).await? == 0 {
            return Ok(None);
        }
        let batch = Batch { part, first_seq: next, last_seq: end - 1, worker: worker.to_owned(), fence: 1 };
        self.open_batch(&batch).await?;
        Ok(Some(batch))
    }

    async fn open_batch(&mut self, batch: &Batch) -> Result<()> {
        let sql = "INSERT INTO batch (run_day, run_no, step_no, shard, first_seq, last_seq, worker, fence) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let more: [Bind; 4] =
            [batch.first_seq.into(), batch.last_seq.into(), (&batch.worker).into(), batch.fence.into()];
        self.execute(Sql::composed(sql.to_owned(), batch.part.keyed(more))).await?;
        Ok(())
    }

    /// Shortens a batch to what was attempted of it and leaves the rest to whoever claims next. None if it is lost.
    pub async fn leave(&mut self, batch: &Batch, next_seq: i64) -> Result<bool> {
        let is_untouched = next_seq == batch.first_seq;
        let set = if is_untouched { "worker = ''" } else { "last_seq = $9" };
        // Asked again after a lost answer, it finds the batch shortened and does nothing.
        let sql = format!(
            "UPDATE batch SET {set} WHERE {OF_PART} AND first_seq = $5 AND worker = $6 AND fence = $7 AND last_seq = $8"
        );
        let shorter = (!is_untouched).then(|| Bind::from(next_seq - 1));
        let more = [Bind::from(batch.last_seq)].into_iter().chain(shorter);
        if self.execute(Sql::composed(sql, batch.held().into_iter().chain(more).collect())).await? == 0 {
            return Ok(false);
        }
        if !is_untouched && next_seq <= batch.last_seq {
            let rest = Batch { first_seq: next_seq, worker: String::new(), fence: batch.fence, ..batch.clone() };
            self.open_batch(&rest).await?;
        }
        Ok(true)
    }

    /// Takes back first attempts from `next_seq` on whose commit was not known to have come through: nothing of them was
    /// handed to a provider, and they wait among the deferred. The first seq behind them.
    pub async fn withdraw(&mut self, batch: &Batch, next_seq: i64, now: Timestamp) -> Result<i64> {
        if self.standing(batch).await? == Standing::Lost {
            return Ok(next_seq);
        }
        let rest = Batch { first_seq: next_seq, ..batch.clone() };
        let sql = format!(
            "SELECT max(last_seq) FROM attempt WHERE {OF_PART} AND attempt = 1 AND first_seq >= $5 AND last_seq <= $6 AND worker = $7"
        );
        let binds = rest.part.keyed([rest.first_seq.into(), rest.last_seq.into(), (&rest.worker).into()]);
        let last: Option<i64> = self.fetch_one(Sql::composed(sql, binds)).await?.map_or(Ok(None), |row| row.get(0))?;
        let Some(last) = last else { return Ok(next_seq) };
        let untried = self.unknown_fates(rest.part, (next_seq, last), Whose::Batch).await?;
        let deferral = |(seq, _, attempts)| Deferral { seq, attempts, due: now, reason: NOT_TRIED.to_owned() };
        let deferrals: Vec<Deferral> = untried.into_iter().map(deferral).collect();
        self.put_deferrals(rest.part, &deferrals, now).await?;
        Ok(last + 1)
    }

    /// Leaves a batch from `next_seq` on to whoever claims next: what stands before it has outcomes.
    pub async fn move_on(&mut self, batch: &Batch, next_seq: i64) -> Result<()> {
        let sql = format!(
            "UPDATE batch SET worker = '', first_seq = $8 WHERE {OF_PART} AND first_seq = $5 AND worker = $6 AND fence = $7"
        );
        self.execute(Sql::composed(sql, batch.held().into_iter().chain([next_seq.into()]).collect())).await?;
        Ok(())
    }

    /// The batch is finished: each of its messages has an outcome or waits among the deferred. False if it is lost.
    pub async fn close_batch(&mut self, batch: &Batch) -> Result<bool> {
        let sql = format!("DELETE FROM batch WHERE {OF_PART} AND first_seq = $5 AND worker = $6 AND fence = $7");
        Ok(self.execute(Sql::composed(sql, batch.held())).await? == 1)
    }
}

fn batch(row: &Row) -> Result<Batch> {
    Ok(Batch {
        part: Part::read(row)?,
        first_seq: row.get(4)?,
        last_seq: row.get(5)?,
        worker: row.get(6)?,
        fence: row.get(7)?,
    })
}
