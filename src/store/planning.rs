//! The planning of a run: work tables for its steps, and the ledger rows of its channel steps.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sea_query::{Alias, Expr, ExprTrait, JoinType, Query, SelectStatement};

use super::{
    Bind, Result, Sql, Tx,
    campaign::{Owner, Run},
    entity as tables,
    ledger::{Outcome, Part},
    micros,
    remainder::reached_by,
    tally::ENTERED,
};
use crate::{
    api::dataset::Entity,
    rule::{Dialect, FieldType},
};

/// A channel step of a run that is being planned.
pub struct ChannelStep<'a> {
    pub run: &'a Run,
    pub step_no: i64,
    pub step: &'a str,
    /// The names of its campaign: the one that it has, and earlier ones.
    pub campaigns: &'a [String],
    pub channel: &'a str,
    pub expires: Timestamp,
    /// `once`: nobody who got this step since then gets it again. Absent: every run may send again.
    pub once_since: Option<Timestamp>,
    /// Each device of a person gets it.
    pub is_several: bool,
    pub shards: i64,
}

/// What entered one shard of a step.
#[derive(Default)]
struct Share {
    entered: i64,
    /// By reason.
    excluded: BTreeMap<String, i64>,
}

/// A column of a work table.
pub struct Column<'a> {
    pub name: &'a str,
    /// Absent for a key field, which has the type it has in its entity.
    pub ty: Option<FieldType>,
}

impl Tx {
    /// Enters every row of `source` into the ledger. `source` selects `item`, `profile`, `reason` (an exclusion known
    /// already, or null), `device` and `place` (the order of dispatch).
    pub async fn plan_channel(
        &mut self,
        step: &ChannelStep<'_>,
        source: &SelectStatement,
        now: Timestamp,
    ) -> Result<()> {
        let (run, dialect) = (step.run, self.dialect());
        let add = "INSERT INTO run_channel (run_no, step_no, step, channel, run_day, expires_us) VALUES ($1, $2, $3, $4, $5, $6)";
        let add = Sql::new(add)
            .bind(run.no)
            .bind(step.step_no)
            .bind(step.step)
            .bind(step.channel)
            .bind(run.run_day)
            .bind(micros(step.expires));
        self.execute(add).await?;
        let owner = Owner { namespace: &run.namespace, campaigns: step.campaigns, step: step.step };
        let fence = step.once_since.map(|since| Fence { owner, since });
        let successor_of = run.predecessor.map(|run_no| (run_no, step.step));
        let judging = Judging { keys: 0, fence, is_several: step.is_several, successor_of };
        let insert = Sql::around(
            "INSERT INTO ledger (run_day, run_no, step_no, shard, seq, item, address, profile, reason, device) WITH s AS (",
            &judged(source.clone(), &judging),
            ledger_rows(dialect),
            vec![run.run_day.into(), run.no.into(), step.step_no.into(), step.shards.into()],
            dialect,
        )?;
        self.execute(insert).await?;
        let key = || vec![run.run_day.into(), run.no.into(), step.step_no.into()];
        let keyed = |more: Bind| key().into_iter().chain([more]).collect::<Vec<Bind>>();
        let shares = self.shares((run.run_day, run.no, step.step_no)).await?;
        if shares.values().any(|share| !share.excluded.is_empty()) {
            self.execute(Sql::composed(EXCLUDE.to_owned(), keyed(micros(now).into()))).await?;
        }
        for (part, share) in shares {
            self.put_share(part, &share).await?;
        }
        self.note_outcomes_of_run((run.no, Some(step.step_no)), Outcome::Excluded.as_str(), now).await?;
        if step.once_since.is_some() {
            let binds = [run.namespace.as_str(), run.campaign.as_str(), step.step].map(Bind::from);
            let binds = key().into_iter().chain(binds).chain([micros(now).into()]).collect();
            self.execute(Sql::composed(FENCE.to_owned(), binds)).await?;
        }
        Ok(())
    }

    /// What entered of a step, by shard. Counted once: the ledger is large, and all that is told of it comes from here.
    async fn shares(&mut self, (run_day, run_no, step_no): (i64, i64, i64)) -> Result<BTreeMap<Part, Share>> {
        let sql = "SELECT shard, reason, count(*) FROM ledger WHERE run_day = $1 AND run_no = $2 AND step_no = $3 GROUP BY shard, reason";
        let mut shares = BTreeMap::<Part, Share>::new();
        for row in self.fetch(Sql::new(sql).bind(run_day).bind(run_no).bind(step_no)).await? {
            let share = shares.entry(Part { run_day, run_no, step_no, shard: row.get(0)? }).or_default();
            let n: i64 = row.get(2)?;
            share.entered += n;
            if let Some(reason) = row.get(1)? {
                share.excluded.insert(reason, n);
            }
        }
        Ok(shares)
    }

    async fn put_share(&mut self, part: Part, share: &Share) -> Result<()> {
        let excluded = share.excluded.iter().map(|(reason, n)| (Outcome::Excluded.as_str(), reason.as_str(), *n));
        let counts: Vec<_> = [(ENTERED, "", share.entered)].into_iter().chain(excluded).collect();
        self.put_tally(part, &counts).await?;
        // What is excluded stands behind the others, so the cursor ends before it.
        let planned = share.entered - share.excluded.values().sum::<i64>();
        if planned > 0 {
            let sql = "INSERT INTO claim_cursor (run_day, run_no, step_no, shard, planned, next_seq) VALUES ($1, $2, $3, $4, $5, 0)";
            self.execute(Sql::composed(sql.to_owned(), part.keyed([planned.into()]))).await?;
        }
        Ok(())
    }

    /// Makes a work table with a set's rows; how many there are.
    pub async fn fill_work_table(
        &mut self,
        table: &str,
        entity: &Entity,
        columns: &[Column<'_>],
        select: &SelectStatement,
    ) -> Result<i64> {
        let dialect = self.dialect();
        let mut create = sea_query::Table::create();
        create.table(Alias::new(table));
        for column in columns {
            create.col(match column.ty {
                None => tables::key_column(entity, column.name, dialect),
                Some(ty) => tables::value_column(column.name, ty, dialect),
            });
        }
        self.execute(Sql::define(&create, dialect)).await?;
        let names: Vec<String> = columns.iter().map(|c| tables::quoted(c.name)).collect();
        let before = format!("INSERT INTO {} ({}) ", tables::quoted(table), names.join(", "));
        let count = self.execute(Sql::around(&before, select, "", vec![], dialect)?).await?;
        if columns.iter().any(|column| column.ty.is_some()) {
            // Sending looks its values up by the key, batch by batch.
            let key: Vec<String> = entity.key.iter().map(|name| tables::quoted(name)).collect();
            let index = tables::quoted(&tables::identifier(&format!("{table}_key")));
            let sql = format!("CREATE UNIQUE INDEX {index} ON {} ({})", tables::quoted(table), key.join(", "));
            self.execute(Sql::composed(sql, vec![])).await?;
        }
        if dialect == Dialect::Postgres {
            // Nobody else sees the table yet, so autovacuum cannot tell the planner how many rows it has.
            self.execute(Sql::composed(format!("ANALYZE {}", tables::quoted(table)), vec![])).await?;
        }
        Ok(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// How many rows a SELECT gives.
    pub async fn count(&mut self, select: &SelectStatement) -> Result<i64> {
        let dialect = self.dialect();
        let sql = Sql::around("SELECT count(*) FROM (", select, ") q", vec![], dialect)?;
        self.fetch_one(sql).await?.map_or(Ok(0), |row| row.get(0))
    }

    /// All SELECTs of this transaction see one moment, however long it takes, and nobody is erased meanwhile.
    pub async fn freeze(&mut self) -> Result<()> {
        if self.dialect() == Dialect::Postgres {
            self.execute(Sql::new("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")).await?;
        }
        self.hold_erased().await
    }
}

/// `once`: nobody who got this since then gets it again.
#[derive(Clone, Copy, Debug)]
pub struct Fence<'a> {
    pub owner: Owner<'a>,
    pub since: Timestamp,
}

/// What rows are judged by when they are planned.
#[derive(Clone, Copy, Debug, Default)]
pub struct Judging<'a> {
    /// So many columns of their keys stay, `k0 k1 …`.
    pub keys: usize,
    pub fence: Option<Fence<'a>>,
    /// A row is one of the devices of an item.
    pub is_several: bool,
    /// The run that left them, and the step at which it did.
    pub successor_of: Option<(i64, &'a str)>,
}

/// The rows of `source` (see [`Tx::plan_channel`]), each with the reason for which it is excluded when it is planned, and with
/// its `address`: the device's place among those of the item, from 1. What is excluded whatever its device is, is one row.
/// A run plans by it, and so does a preview.
pub fn judged(source: SelectStatement, judging: &Judging<'_>) -> SelectStatement {
    let column = |table: &str, name: &str| Expr::col((Alias::new(table), Alias::new(name)));
    let names = ["item", "profile", "place", "device"].map(str::to_owned).into_iter();
    let names: Vec<String> = names.chain((0..judging.keys).map(|at| format!("k{at}"))).collect();
    let mut select = Query::select();
    for name in &names {
        select.column((Alias::new("e"), Alias::new(name)));
    }
    select.from_subquery(source, Alias::new("e"));
    let mut whole = "e.reason";
    if let Some(Fence { owner, since }) = judging.fence {
        let same_item = column("f", "item").equals((Alias::new("e"), Alias::new("item")));
        // What the run before sent to one device does not hold back the others that it left.
        let is_own = |name: &str| match judging.successor_of.filter(|_| judging.is_several) {
            Some((run_no, _)) => column(name, "run_no").ne(run_no),
            None => Expr::cust("1 = 1"),
        };
        if owner.campaigns.len() > 1 {
            // Under each of its names an item may be fenced, and it enters once.
            let mut fenced = Query::select();
            fenced.column("item").from("once_fence").distinct().and_where(is_own("once_fence"));
            fenced.and_where(owner.owns("once_fence")).and_where(Expr::col("at_us").gte(micros(since)));
            select.join_subquery(JoinType::LeftJoin, fenced, Alias::new("f"), same_item);
        } else {
            let on = same_item.and(column("f", "at_us").gte(micros(since))).and(owner.owns("f")).and(is_own("f"));
            select.join_as(JoinType::LeftJoin, Alias::new("once_fence"), Alias::new("f"), on);
        }
        whole = "CASE WHEN e.reason IS NOT NULL THEN e.reason WHEN f.item IS NOT NULL THEN 'AlreadySent' END";
    }
    if !judging.is_several {
        select.expr_as(Expr::cust("CAST(0 AS BIGINT)"), Alias::new("address"));
        return select.expr_as(Expr::cust(whole), Alias::new("reason")).to_owned();
    }
    let place = "CASE WHEN e.device IS NULL THEN 0 ELSE row_number() OVER (PARTITION BY e.item ORDER BY e.device) END";
    select.expr_as(Expr::cust(place), Alias::new("address"));
    let mut reason = whole.to_owned();
    if let Some((run_no, step)) = judging.successor_of {
        let same_item = column("g", "item").equals((Alias::new("e"), Alias::new("item")));
        let same_device = column("g", "device").equals((Alias::new("e"), Alias::new("device")));
        select.join_subquery(JoinType::LeftJoin, reached_by(run_no, step), Alias::new("g"), same_item.and(same_device));
        reason =
            format!("CASE WHEN ({whole}) IS NOT NULL THEN ({whole}) WHEN g.device IS NOT NULL THEN 'AlreadySent' END");
    }
    select.expr_as(Expr::cust(reason), Alias::new("reason"));
    select.expr_as(Expr::cust(format!("CASE WHEN ({whole}) IS NULL THEN 0 ELSE 1 END")), Alias::new("is_whole"));
    let mut rows = Query::select();
    for name in names.iter().map(String::as_str).chain(["address", "reason"]) {
        rows.column((Alias::new("d"), Alias::new(name)));
    }
    rows.from_subquery(select, Alias::new("d"));
    rows.cond_where(column("d", "is_whole").eq(0).or(column("d", "address").lte(1))).to_owned()
}

/// The rest of the planning statement, behind the SELECT of the rows.
fn ledger_rows(dialect: Dialect) -> &'static str {
    // The same person has the same shard in every run. SQLite has one writer and so one shard.
    match dialect {
        Dialect::Sqlite => {
            ") SELECT @1, @2, @3, q.shard, \
               row_number() OVER (PARTITION BY q.shard ORDER BY CASE WHEN q.reason IS NULL THEN 0 ELSE 1 END, q.place, q.address) - 1, \
               q.item, q.address, q.profile, q.reason, q.device \
             FROM (SELECT s.item, s.address, s.profile, s.place, 0 * @4 AS shard, s.reason, s.device FROM s) q"
        }
        Dialect::Postgres => {
            ") SELECT @1, @2, @3, q.shard, \
               row_number() OVER (PARTITION BY q.shard ORDER BY CASE WHEN q.reason IS NULL THEN 0 ELSE 1 END, q.place, q.address) - 1, \
               q.item, q.address, q.profile, q.reason, q.device \
             FROM (SELECT s.item, s.address, s.profile, s.place, s.reason, s.device, \
               ('x' || substr(md5(coalesce(s.profile, s.item)), 1, 7))::bit(28)::int % @4 AS shard FROM s) q"
        }
    }
}

const EXCLUDE: &str = "INSERT INTO outcome (run_day, run_no, step_no, shard, seq, outcome, reason, at_us) \
    SELECT run_day, run_no, step_no, shard, seq, 'Excluded', reason, CAST($4 AS BIGINT) FROM ledger \
    WHERE run_day = $1 AND run_no = $2 AND step_no = $3 AND reason IS NOT NULL";

const FENCE: &str = "INSERT INTO once_fence (namespace, campaign, step, item, run_no, at_us) \
    SELECT DISTINCT CAST($4 AS TEXT), CAST($5 AS TEXT), CAST($6 AS TEXT), item, run_no, CAST($7 AS BIGINT) FROM ledger \
    WHERE run_day = $1 AND run_no = $2 AND step_no = $3 AND reason IS NULL \
    ON CONFLICT (namespace, campaign, step, item) DO UPDATE SET run_no = excluded.run_no, at_us = excluded.at_us";
