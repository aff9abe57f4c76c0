//! What `incremental` steps have taken, kept under the campaign's and the step's names: it outlives runs and objects.
//!
//! A row belongs to the run that took it. While the run works, the row is reserved; when it has ended, processed; when
//! the run gave it back, gone. A row that a later run took again, because its field has risen, is there once for each.

use jiff::Timestamp;
use sea_query::{Alias, Expr, ExprTrait, Query, SelectStatement};

use super::{
    Bind, Result, Sql, Tx,
    campaign::{Owner, Run},
    micros,
};

const TABLE: &str = "incremental";

/// Whether the row `q.item` was taken, `since` an instant (microseconds since the epoch), and with a mark that is not
/// below its own.
pub fn is_taken(owner: Owner<'_>, since: Option<i64>, by_mark: bool) -> Expr {
    let column = |table: &str, name: &str| Expr::col((Alias::new(table), Alias::new(name)));
    let mut select = Query::select();
    select.expr(Expr::cust("1")).from_as(Alias::new(TABLE), Alias::new("p")).and_where(owner.owns("p"));
    select.and_where(column("p", "item").equals((Alias::new("q"), Alias::new("item"))));
    if let Some(since) = since {
        select.and_where(column("p", "at_us").gte(since));
    }
    if by_mark {
        select.and_where(column("p", "mark").gte(column("q", "mark")));
    }
    Expr::exists(select)
}

impl Tx {
    /// Lets no other run evaluate the step before this transaction ends: two that overlap must not take the same rows.
    pub async fn take_turn(&mut self, run: &Run, step: &str) -> Result<()> {
        let sql = "INSERT INTO incremental_turn (namespace, campaign, step, run_no) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (namespace, campaign, step) DO UPDATE SET run_no = excluded.run_no";
        let sql = Sql::new(sql).bind(&run.namespace).bind(&run.campaign).bind(step).bind(run.no);
        self.execute(sql).await?;
        Ok(())
    }

    /// Reserves the rows of `source` (`item`, `mark`) for a run.
    pub async fn reserve_rows(
        &mut self,
        run: &Run,
        step: &str,
        source: &SelectStatement,
        now: Timestamp,
    ) -> Result<()> {
        let binds: Vec<Bind> =
            vec![(&run.namespace).into(), (&run.campaign).into(), step.into(), run.no.into(), micros(now).into()];
        let insert = Sql::around(
            "INSERT INTO incremental (namespace, campaign, step, item, run_no, mark, at_us) WITH s AS (",
            source,
            ") SELECT @1, @2, @3, s.item, @4, s.mark, @5 FROM s",
            binds,
            self.dialect(),
        )?;
        self.execute(insert).await?;
        Ok(())
    }

    /// Says to which channel steps of a run the step's rows can come, and whether they are the items there.
    pub async fn put_scope(&mut self, run: &Run, step: &str, emails: &[(i64, bool)]) -> Result<()> {
        let scope = "INSERT INTO incremental_scope (run_no, step, step_no, by_item) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
        let rows = emails
            .iter()
            .map(|(no, by_item)| vec![Bind::from(run.no), step.into(), (*no).into(), i64::from(*by_item).into()]);
        self.execute_each(scope, rows.collect()).await
    }

    /// What a run leaves when it ends before its end: what it took and did not reach is free again, or goes to its
    /// successor. A row is reached when a message to it has another outcome than `Cancelled`; where the messages go to
    /// rows of another entity, when any of them has. Of a run that was planned to its end, also when it left no message.
    pub(super) async fn settle_rows(&mut self, run: &Run, successor: Option<i64>) -> Result<()> {
        let is_planned = run.planned.is_some() && run.resume.is_none();
        let steps = Sql::new("SELECT DISTINCT step FROM incremental WHERE run_no = $1").bind(run.no);
        for row in self.fetch(steps).await? {
            let binds =
                vec![run.no.into(), row.get::<String>(0)?.into(), run.run_day.into(), i64::from(is_planned).into()];
            let (change, binds) = match successor {
                Some(no) => ("UPDATE incremental SET run_no = $5", [binds, vec![no.into()]].concat()),
                None => ("DELETE FROM incremental", binds),
            };
            self.execute(Sql::composed(format!("{change} {UNREACHED}"), binds)).await?;
        }
        Ok(())
    }

    /// After a run that has ended well nobody asks for what its rows were before.
    pub(super) async fn forget_older_rows(&mut self, run_no: i64) -> Result<()> {
        let sql = "DELETE FROM incremental WHERE run_no < $1 AND EXISTS (SELECT 1 FROM incremental n WHERE n.run_no = $1 \
                   AND n.namespace = incremental.namespace AND n.campaign = incremental.campaign \
                   AND n.step = incremental.step AND n.item = incremental.item)";
        self.execute(Sql::new(sql).bind(run_no)).await?;
        Ok(())
    }
}

/// The rows that run $1 of day $3 took at step $2 and did not reach; $4 says that it was planned to its end.
const UNREACHED: &str = "WHERE run_no = $1 AND step = $2 AND item IN ( \
      SELECT item FROM incremental WHERE run_no = $1 AND step = $2 EXCEPT SELECT l.item FROM ledger l \
      JOIN incremental_scope c ON c.run_no = l.run_no AND c.step_no = l.step_no AND c.step = $2 AND c.by_item = 1 \
      LEFT JOIN outcome o ON o.run_day = l.run_day AND o.run_no = l.run_no AND o.step_no = l.step_no AND o.shard = l.shard AND o.seq = l.seq \
      WHERE l.run_day = $3 AND l.run_no = $1 AND COALESCE(o.outcome, '') <> 'Cancelled') \
    AND NOT EXISTS (SELECT 1 FROM ledger l \
      JOIN incremental_scope c ON c.run_no = l.run_no AND c.step_no = l.step_no AND c.step = $2 AND c.by_item = 0 \
      LEFT JOIN outcome o ON o.run_day = l.run_day AND o.run_no = l.run_no AND o.step_no = l.step_no AND o.shard = l.shard AND o.seq = l.seq \
      WHERE l.run_day = $3 AND l.run_no = $1 AND COALESCE(o.outcome, '') <> 'Cancelled') \
    AND ($4 = 0 OR item IN (SELECT l.item FROM ledger l \
      JOIN incremental_scope c ON c.run_no = l.run_no AND c.step_no = l.step_no AND c.step = $2 AND c.by_item = 1 \
      WHERE l.run_day = $3 AND l.run_no = $1) \
      OR EXISTS (SELECT 1 FROM ledger l \
      JOIN incremental_scope c ON c.run_no = l.run_no AND c.step_no = l.step_no AND c.step = $2 AND c.by_item = 0 \
      WHERE l.run_day = $3 AND l.run_no = $1))";
