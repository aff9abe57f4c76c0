//! What a campaign expects of its runs, and how many recipients they have.

use sea_query::{Alias, Expr, ExprTrait, SelectStatement};

use super::{
    Error, Result, Sql, Store, Tx,
    campaign::Run,
    ledger::{DEVICE, Topic, granted},
    remainder::keys_at,
    tally::ENTERED,
};
use crate::{
    api::{dataset::Entity, expect::Expect},
    rule::Dialect,
};

/// What is declared of a campaign's runs now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    pub expect: Option<Expect>,
    /// A number of recipients that a person let pass.
    pub accepted: Option<i64>,
}

/// The recipients of the last run of a campaign that ended well: what entered its channel steps and was not excluded. A
/// successor has only a part of them, and is none.
const LAST: &str = "SELECT CAST(sum(CASE WHEN t.outcome = $3 THEN t.n WHEN t.outcome = 'Excluded' THEN -t.n ELSE 0 END) AS BIGINT) \
    FROM tally t JOIN (SELECT no, run_day FROM run WHERE namespace = $1 AND campaign = $2 AND mode = 'Live' AND state = 'Done' \
      AND reason LIKE 'Completed%' AND predecessor IS NULL ORDER BY no DESC LIMIT 1) r \
    ON t.run_day = r.run_day AND t.run_no = r.no";

fn last(namespace: &str, campaign: &str) -> Sql {
    Sql::new(LAST).bind(namespace).bind(campaign).bind(ENTERED)
}

impl Store {
    /// Keeps what is declared of a campaign now: a run in flight is weighed by it, not by what it pinned. Whether it differs
    /// from what was declared before.
    pub async fn declare_expected(&self, namespace: &str, campaign: &str, expected: &Expected) -> Result<bool> {
        let known = self.fetch_one(declared(namespace, campaign)).await?;
        if known.map(|row| read(&row)).transpose()?.unwrap_or_default() == *expected {
            return Ok(false);
        }
        let text = expected.expect.as_ref().map(serde_json::to_string).transpose();
        let text = text.map_err(|e| Error::Internal(e.to_string()))?;
        let sql = "UPDATE campaign SET expect = $3, accepted = $4 WHERE namespace = $1 AND name = $2";
        self.execute(Sql::new(sql).bind(namespace).bind(campaign).bind(text).bind(expected.accepted)).await?;
        Ok(true)
    }

    /// The recipients of the last run that ended well; none where there is none.
    pub async fn last_recipients(&self, namespace: &str, campaign: &str) -> Result<Option<i64>> {
        self.fetch_one(last(namespace, campaign)).await?.map_or(Ok(None), |row| row.get(0))
    }
}

impl Tx {
    /// What is declared of a campaign now.
    pub async fn expected(&mut self, namespace: &str, campaign: &str) -> Result<Expected> {
        let row = self.fetch_one(declared(namespace, campaign)).await?;
        row.map_or_else(|| Ok(Expected::default()), |row| read(&row))
    }

    /// The recipients of the last run that ended well; none where there is none.
    pub async fn last_recipients(&mut self, namespace: &str, campaign: &str) -> Result<Option<i64>> {
        self.fetch_one(last(namespace, campaign)).await?.map_or(Ok(None), |row| row.get(0))
    }

    /// What has entered the channel steps of a run and is not excluded.
    pub async fn recipients_so_far(&mut self, run: &Run) -> Result<i64> {
        let sql = "SELECT CAST(coalesce(sum(CASE WHEN outcome = $3 THEN n WHEN outcome = 'Excluded' THEN -n ELSE 0 END), 0) AS BIGINT) \
                   FROM tally WHERE run_day = $1 AND run_no = $2";
        let row = self.fetch_one(Sql::new(sql).bind(run.run_day).bind(run.no).bind(ENTERED)).await?;
        row.map_or(Ok(0), |row| row.get(0))
    }
}

fn declared(namespace: &str, campaign: &str) -> Sql {
    let sql = "SELECT expect, accepted FROM campaign WHERE namespace = $1 AND name = $2";
    Sql::new(sql).bind(namespace).bind(campaign)
}

fn read(row: &super::Row) -> Result<Expected> {
    let text: Option<String> = row.get(0)?;
    let expect = text.as_deref().map(serde_json::from_str).transpose();
    Ok(Expected { expect: expect.map_err(|e| Error::Internal(e.to_string()))?, accepted: row.get(1)? })
}

/// The keys of those who wait at a channel step that is planned, with their `profile`, their [`DEVICE`] and `granted`: whether they agreed
/// to its `topic`.
pub fn waiting_at(
    run: &Run,
    step: &str,
    entity: &Entity,
    topic: Option<Topic<'_>>,
    dialect: Dialect,
) -> SelectStatement {
    let column = |name: &str| Expr::col((Alias::new("l"), Alias::new(name)));
    keys_at(run.no, step, entity, dialect)
        .expr_as(column("profile"), Alias::new("profile"))
        .expr_as(column("device"), Alias::new(DEVICE))
        .expr_as(granted(topic, dialect), Alias::new("granted"))
        .and_where(column("run_day").eq(run.run_day))
        .and_where(column("reason").is_null())
        .to_owned()
}
