//! The end of a run: all is done, or it is cancelled and what waits becomes `Cancelled`.

use jiff::Timestamp;

use super::{
    Bind, Result, Sql, Store,
    campaign::{Run, State},
    micros,
};

impl Store {
    /// Ends a run that has nothing more to do; false if it was ended otherwise.
    pub async fn complete_run(&self, run: &Run, reason: &str, message: &str, now: Timestamp) -> Result<bool> {
        let mut tx = self.begin().await?;
        let moved = tx.move_run(run.no, State::Sending, State::Done, reason, message, now).await?;
        tx.forget_older_rows(run.no).await?;
        tx.commit().await?;
        Ok(moved)
    }

    /// Ends a cancelled run, once no worker holds a part of it: what waits becomes `Cancelled`, for the run's own
    /// reason. False if a worker still does.
    pub async fn cancel_waiting(&self, run: &Run, now: Timestamp) -> Result<bool> {
        let mut tx = self.begin().await?;
        let key = || vec![Bind::from(run.run_day), run.no.into()];
        let held = "SELECT 1 FROM batch WHERE run_day = $1 AND run_no = $2 AND worker <> '' \
                    UNION ALL SELECT 1 FROM deferred WHERE run_day = $1 AND run_no = $2 AND worker IS NOT NULL LIMIT 1";
        if tx.fetch_one(Sql::composed(held.to_owned(), key())).await?.is_some() {
            return Ok(false);
        }
        // A file that is being written is there, or its writer says that it is not.
        if tx.has_sealed_mailing(run.run_day, run.no).await? {
            return Ok(false);
        }
        tx.drop_mailings(run.no).await?;
        let reason = if run.reason.is_empty() { "Cancelled" } else { &run.reason };
        let cancel = key().into_iter().chain([reason.into(), micros(now).into()]);
        tx.execute(Sql::composed(CANCEL.to_owned(), cancel.collect())).await?;
        for text in [
            TALLY_CANCELLED,
            FREE_CANCELLED,
            UNASK_CANCELLED,
            "DELETE FROM deferred WHERE run_day = $1 AND run_no = $2",
            "DELETE FROM batch WHERE run_day = $1 AND run_no = $2",
            "UPDATE claim_cursor SET next_seq = planned WHERE run_day = $1 AND run_no = $2",
        ] {
            tx.execute(Sql::composed(text.to_owned(), key())).await?;
        }
        tx.note_outcomes_of_run((run.no, None), "Cancelled", now).await?;
        let successor = "SELECT no FROM run WHERE predecessor = $1";
        let successor = tx.fetch_one(Sql::new(successor).bind(run.no)).await?.map(|row| row.get(0)).transpose()?;
        tx.settle_rows(run, successor).await?;
        let moved = tx.move_run(run.no, State::Cancelling, State::Done, reason, &run.message, now).await?;
        tx.commit().await?;
        Ok(moved)
    }
}

const CANCEL: &str = "INSERT INTO outcome (run_day, run_no, step_no, shard, seq, outcome, reason, at_us) \
    SELECT l.run_day, l.run_no, l.step_no, l.shard, l.seq, 'Cancelled', CAST($3 AS TEXT), CAST($4 AS BIGINT) FROM ledger l \
    WHERE l.run_day = $1 AND l.run_no = $2 AND NOT EXISTS (SELECT 1 FROM outcome o WHERE o.run_day = l.run_day \
      AND o.run_no = l.run_no AND o.step_no = l.step_no AND o.shard = l.shard AND o.seq = l.seq)";

const TALLY_CANCELLED: &str = "INSERT INTO tally (run_day, run_no, step_no, shard, outcome, reason, n) \
    SELECT run_day, run_no, step_no, shard, 'Cancelled', reason, count(*) FROM outcome \
    WHERE run_day = $1 AND run_no = $2 AND outcome = 'Cancelled' GROUP BY run_day, run_no, step_no, shard, reason";

/// Who got it at another device keeps it.
const FREE_CANCELLED: &str = "DELETE FROM once_fence WHERE run_no = $2 AND EXISTS (SELECT 1 FROM ledger l \
    JOIN run_channel rc ON rc.run_no = l.run_no AND rc.step_no = l.step_no \
    JOIN outcome o ON o.run_day = l.run_day AND o.run_no = l.run_no AND o.step_no = l.step_no AND o.shard = l.shard AND o.seq = l.seq \
    WHERE l.run_day = $1 AND l.run_no = $2 AND l.item = once_fence.item AND rc.step = once_fence.step AND o.outcome = 'Cancelled') \
    AND NOT EXISTS (SELECT 1 FROM ledger l \
    JOIN run_channel rc ON rc.run_no = l.run_no AND rc.step_no = l.step_no \
    JOIN outcome o ON o.run_day = l.run_day AND o.run_no = l.run_no AND o.step_no = l.step_no AND o.shard = l.shard AND o.seq = l.seq \
    WHERE l.run_day = $1 AND l.run_no = $2 AND l.item = once_fence.item AND rc.step = once_fence.step AND l.address > 0 \
      AND o.outcome IN ('Sent', 'InDoubt'))";

/// Who was not asked to confirm after all.
const UNASK_CANCELLED: &str = "DELETE FROM confirmation WHERE run_no = $2 AND EXISTS (SELECT 1 FROM ledger l \
    JOIN outcome o ON o.run_day = l.run_day AND o.run_no = l.run_no AND o.step_no = l.step_no AND o.shard = l.shard AND o.seq = l.seq \
    WHERE l.run_day = $1 AND l.run_no = $2 AND l.profile = confirmation.profile AND o.outcome = 'Cancelled')";
