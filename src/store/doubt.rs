//! Messages whose fate nobody knows: listed for a person, and ended as the person decides.

use jiff::Timestamp;

use super::{
    Bind, Error, Result, Row, Sql, Store, Tx, instant,
    ledger::{Deferral, Outcome, Part, Recorded},
};

/// One message in doubt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InDoubt {
    pub namespace: String,
    pub run: String,
    pub step: String,
    /// The key of the row it was about.
    pub item: String,
    pub since: Timestamp,
    pub detail: String,
    part: Part,
    seq: i64,
}

/// What a person decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It arrived.
    Sent,
    /// It did not, and is not sent again.
    Failed,
    /// It is sent again, with the same Message-ID.
    Resend,
}

const LIST: &str = "SELECT o.run_day, o.run_no, o.step_no, o.shard, o.seq, r.namespace, r.name, rc.step, l.item, o.at_us, coalesce(o.detail, '') \
    FROM outcome o JOIN run r ON r.no = o.run_no JOIN run_channel rc ON rc.run_no = o.run_no AND rc.step_no = o.step_no \
    JOIN ledger l ON l.run_day = o.run_day AND l.run_no = o.run_no AND l.step_no = o.step_no AND l.shard = o.shard AND l.seq = o.seq \
    WHERE o.outcome = 'InDoubt'";

impl Store {
    /// The messages in doubt of a namespace, or of one run of it; the oldest first, at most `limit`.
    pub async fn in_doubt(&self, namespace: &str, run: Option<&str>, limit: i64) -> Result<Vec<InDoubt>> {
        let (of_run, binds): (&str, Vec<Bind>) = match run {
            Some(run) => ("AND r.name = $3", vec![namespace.into(), limit.into(), run.into()]),
            None => ("", vec![namespace.into(), limit.into()]),
        };
        let sql = format!("{LIST} AND r.namespace = $1 {of_run} ORDER BY o.at_us, o.run_no, o.shard, o.seq LIMIT $2");
        self.fetch(Sql::composed(sql, binds)).await?.iter().map(in_doubt).collect()
    }

    /// Ends the doubt about one message.
    ///
    /// # Errors
    /// [`Error::Refused`] if it is not in doubt any more.
    pub async fn resolve(&self, message: &InDoubt, verdict: Verdict, now: Timestamp) -> Result<()> {
        let mut tx = self.begin().await?;
        let gone = "DELETE FROM outcome WHERE run_day = $1 AND run_no = $2 AND step_no = $3 AND shard = $4 AND seq = $5 AND outcome = 'InDoubt'";
        if tx.execute(Sql::composed(gone.to_owned(), message.part.keyed([message.seq.into()]))).await? == 0 {
            return Err(Error::Refused(format!("the message about {} is not in doubt", message.item)));
        }
        tx.put_tally(message.part, &[("InDoubt", "InDoubt", -1)]).await?;
        let record = |outcome| Recorded {
            seq: message.seq,
            item: message.item.clone(),
            outcome,
            reason: (outcome == Outcome::Failed).then(|| "Resolved".to_owned()),
            detail: Some("a person decided".to_owned()),
        };
        match verdict {
            Verdict::Sent => tx.put_outcomes(message.part, &[record(Outcome::Sent)], now).await?,
            Verdict::Failed => tx.put_outcomes(message.part, &[record(Outcome::Failed)], now).await?,
            Verdict::Resend => {
                let sql = "SELECT max(attempt) FROM attempt WHERE run_day = $1 AND run_no = $2 AND step_no = $3 AND shard = $4 AND first_seq <= $5 AND last_seq >= $5";
                let row = tx.fetch_one(Sql::composed(sql.to_owned(), message.part.keyed([message.seq.into()]))).await?;
                let attempts = row.map(|row| row.get::<Option<i64>>(0)).transpose()?.flatten().unwrap_or(1);
                tx.put_resends(message.part, &[(message.seq, attempts)], now).await?;
                let open = "UPDATE run SET state = 'Sending', completed_us = NULL WHERE no = $1 AND state = 'Done'";
                tx.execute(Sql::new(open).bind(message.part.run_no)).await?;
            }
        }
        tx.commit().await
    }
}

impl Tx {
    /// Puts messages in doubt aside to be sent again, and counts them as `Resent`. Pairs are (seq, attempts made).
    pub async fn put_resends(&mut self, part: Part, again: &[(i64, i64)], now: Timestamp) -> Result<()> {
        let deferral = |&(seq, attempts)| Deferral { seq, attempts, due: now, reason: "InDoubt".to_owned() };
        let deferrals: Vec<Deferral> = again.iter().map(deferral).collect();
        self.put_deferrals(part, &deferrals, now).await
    }
}

fn in_doubt(row: &Row) -> Result<InDoubt> {
    Ok(InDoubt {
        part: Part::read(row)?,
        seq: row.get(4)?,
        namespace: row.get(5)?,
        run: row.get(6)?,
        step: row.get(7)?,
        item: row.get(8)?,
        since: instant(row.get(9)?),
        detail: row.get(10)?,
    })
}
