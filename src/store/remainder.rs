//! What a run leaves to its successor: those who waited when it was superseded.

use jiff::Timestamp;
use sea_query::{Alias, Expr, ExprTrait, JoinType, Query, SelectStatement};

use super::{
    Result, Sql, Store,
    campaign::{NewRun, Run, State},
    entity as tables, erased,
    ledger::same,
};
use crate::{api::dataset::Entity, rule::Dialect};

impl Store {
    /// Starts a run that takes over what waits in `of`, which begins to end in the same transaction. None if another run
    /// has taken it over already.
    pub async fn supersede(&self, of: &Run, new: &NewRun<'_>, now: Timestamp) -> Result<Option<Run>> {
        let mut tx = self.begin().await?;
        let taken = "SELECT name FROM run WHERE predecessor = $1";
        if let Some(row) = tx.fetch_one(Sql::new(taken).bind(of.no)).await?
            && row.get::<String>(0)? != new.name
        {
            return Ok(None);
        }
        if tx.insert_run(&NewRun { predecessor: Some(of.no), ..new.clone() }, now).await? {
            let message = format!("what waited goes on in {}", new.name);
            tx.move_run(of.no, State::Sending, State::Cancelling, "Superseded", &message, now).await?;
        }
        tx.commit().await?;
        Ok(self.run(new.namespace, new.name).await?.filter(|run| run.predecessor == Some(of.no)))
    }
}

/// The keys of those whom a channel step of a run left out because the run was cancelled.
pub fn left_by(run_no: i64, step: &str, entity: &Entity, dialect: Dialect) -> SelectStatement {
    keys_at(run_no, step, entity, dialect)
        .join_as(JoinType::InnerJoin, Alias::new("outcome"), Alias::new("o"), Expr::cust(same("o")))
        .and_where(Expr::col((Alias::new("o"), Alias::new("outcome"))).eq("Cancelled"))
        // Who was erased since is not sent to anew.
        .and_where(Expr::cust(format!("l.item NOT LIKE '{}'", erased::PATTERN)))
        // Once, however many devices were left.
        .distinct()
        .to_owned()
}

/// The `item` and the `device` of all messages that a channel step of a run did not leave to its successor.
pub(super) fn reached_by(run_no: i64, step: &str) -> SelectStatement {
    let column = |table: &str, name: &str| Expr::col((Alias::new(table), Alias::new(name)));
    let channel = "rc.run_no = l.run_no AND rc.step_no = l.step_no";
    Query::select()
        .column((Alias::new("l"), Alias::new("item")))
        .column((Alias::new("l"), Alias::new("device")))
        .from_as(Alias::new("ledger"), Alias::new("l"))
        .join_as(JoinType::InnerJoin, Alias::new("run_channel"), Alias::new("rc"), Expr::cust(channel))
        .join_as(JoinType::LeftJoin, Alias::new("outcome"), Alias::new("o"), Expr::cust(same("o")))
        .and_where(column("l", "run_no").eq(run_no))
        .and_where(column("rc", "step").eq(step))
        .and_where(column("l", "device").is_not_null())
        .and_where(Expr::cust("coalesce(o.outcome, '') <> 'Cancelled'"))
        .to_owned()
}

/// The keys of all ledger rows `l` of a channel step of a run.
pub(super) fn keys_at(run_no: i64, step: &str, entity: &Entity, dialect: Dialect) -> SelectStatement {
    let column = |table: &str, name: &str| Expr::col((Alias::new(table), Alias::new(name)));
    let channel = "rc.run_no = l.run_no AND rc.step_no = l.step_no";
    let mut select = Query::select();
    for (index, name) in entity.key.iter().enumerate() {
        let value = tables::key_part(dialect, entity, index, "l.item");
        select.expr_as(Expr::cust(value), Alias::new(&**name));
    }
    select
        .from_as(Alias::new("ledger"), Alias::new("l"))
        .join_as(JoinType::InnerJoin, Alias::new("run_channel"), Alias::new("rc"), Expr::cust(channel))
        .and_where(column("l", "run_no").eq(run_no))
        .and_where(column("rc", "step").eq(step))
        .to_owned()
}
