//! Addresses that are written to no more: why, since when, and for how long. Kept as keyed hashes, never in clear.

use jiff::Timestamp;
use sea_query::Expr;

use super::{Bind, Result, Sql, Store, Tx, consent::Objection, erased::Erasing, instant, keyed, micros};
use crate::{
    api::policy::SoftBounces,
    rule::{Dialect, Query},
};

/// The namespace of what holds in the whole store.
pub const WHOLE_STORE: &str = "*";
/// Soft bounces are remembered for so long at most: no policy looks back further.
const SOFT_BOUNCES_KEPT_DAYS: i64 = 400;

/// Why an address is suppressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    HardBounce,
    Complaint,
    /// Its provider knows it no longer.
    Unregistered,
    SoftBounces,
    /// It stood on the list of a previous tool.
    Imported,
    ByHand,
}

impl Cause {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HardBounce => "HardBounce",
            Self::Complaint => "Complaint",
            Self::Unregistered => "Unregistered",
            Self::SoftBounces => "SoftBounces",
            Self::Imported => "Imported",
            Self::ByHand => "ByHand",
        }
    }
}

/// An address that is to be written to no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppressed {
    /// Or [`WHOLE_STORE`].
    pub namespace: String,
    pub medium: String,
    /// As [`keyed::Keyed::of_address`] makes it.
    pub hash: String,
    pub cause: Cause,
    pub since: Timestamp,
    /// None: for good.
    pub until: Option<Timestamp>,
}

/// What holds of one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub cause: String,
    pub is_whole_store: bool,
    pub since: Timestamp,
    pub until: Option<Timestamp>,
}

/// A soft bounce of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoftBounce<'a> {
    pub namespace: &'a str,
    pub medium: &'a str,
    pub hash: &'a str,
    /// Of its event.
    pub id: &'a str,
    pub at: Timestamp,
}

/// For whom a message is asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub namespace: &'a str,
    pub medium: &'a str,
    /// The running clock.
    pub now: Timestamp,
    /// Absent where only suppression is asked.
    pub objection: Option<Objection<'a>>,
    /// Likewise.
    pub erasing: Option<Erasing<'a>>,
}

/// Whether an address is suppressed, over a whole set.
pub fn is_suppressed(query: &Query<'_>, asked: Asked<'_>, address: Expr) -> Expr {
    let text = format!(
        "EXISTS (SELECT 1 FROM suppression held WHERE held.namespace IN (?, '{WHOLE_STORE}') AND held.medium = ? \
         AND held.hash = {} AND (held.until_us IS NULL OR held.until_us > ?))",
        keyed::hash_sql(query.dialect())
    );
    let [namespace, medium] = [asked.namespace, asked.medium].map(|text| Expr::val(text.to_owned()));
    query.custom(&text, [namespace, medium, address, Expr::val(micros(asked.now))])
}

/// What lasts longer wins; what began earlier keeps its cause.
const SUPPRESS: &str = "INSERT INTO suppression (namespace, medium, hash, reason, since_us, until_us) VALUES ($1, $2, $3, $4, $5, $6) \
    ON CONFLICT (namespace, medium, hash) DO UPDATE SET reason = excluded.reason, since_us = excluded.since_us, until_us = excluded.until_us \
    WHERE suppression.until_us IS NOT NULL AND (excluded.until_us IS NULL OR excluded.until_us > suppression.until_us)";

impl Tx {
    /// Suppresses addresses; it holds at the very next attempt to send.
    pub async fn suppress(&mut self, all: &[Suppressed]) -> Result<()> {
        let row = |s: &Suppressed| -> Vec<Bind> {
            let until = Bind::Int(s.until.map(micros));
            vec![
                (&s.namespace).into(),
                (&s.medium).into(),
                (&s.hash).into(),
                s.cause.as_str().into(),
                micros(s.since).into(),
                until,
            ]
        };
        self.execute_each(SUPPRESS, all.iter().map(row).collect()).await
    }

    /// Counts a soft bounce, once; whether there are enough of them now. `is_store`: those of all namespaces count.
    pub async fn count_soft_bounce(
        &mut self,
        bounce: &SoftBounce<'_>,
        is_store: bool,
        policy: &SoftBounces,
    ) -> Result<bool> {
        let put = "INSERT INTO soft_bounce (medium, hash, namespace, id, at_us) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
        let of = |text| Sql::new(text).bind(bounce.medium).bind(bounce.hash).bind(bounce.namespace);
        self.execute(of(put).bind(bounce.id).bind(micros(bounce.at))).await?;
        let since = bounce.at.checked_sub(policy.within.as_signed()).unwrap_or(Timestamp::MIN);
        let count = "SELECT count(*) FROM soft_bounce WHERE medium = $1 AND hash = $2 AND ($4 = 1 OR namespace = $3) AND at_us > $5 AND at_us <= $6";
        let count = of(count).bind(i64::from(is_store)).bind(micros(since)).bind(micros(bounce.at));
        let counted: i64 = self.fetch_one(count).await?.map_or(Ok(0), |row| row.get(0))?;
        Ok(counted >= i64::from(policy.count))
    }
}

/// As [`SUPPRESS`], of many hashes of one list.
fn import_sql(dialect: Dialect) -> String {
    let hashes = match dialect {
        Dialect::Sqlite => "SELECT DISTINCT value AS hash FROM json_each($5)",
        Dialect::Postgres => "SELECT DISTINCT hash FROM unnest($5) AS u (hash)",
    };
    format!(
        "INSERT INTO suppression (namespace, medium, hash, reason, since_us, until_us) \
         SELECT $1, $2, l.hash, $3, $4, NULL FROM ({hashes}) l WHERE TRUE \
         ON CONFLICT (namespace, medium, hash) DO UPDATE SET reason = excluded.reason, since_us = excluded.since_us, until_us = NULL \
         WHERE suppression.until_us IS NOT NULL"
    )
}

impl Store {
    /// Suppresses the addresses of a list for good; how many of them were not suppressed so before.
    pub async fn import_suppressions(
        &self,
        (namespace, medium): (&str, &str),
        hashes: Vec<String>,
        now: Timestamp,
    ) -> Result<u64> {
        let hashes = match self.dialect() {
            Dialect::Sqlite => serde_json::Value::from_iter(hashes).to_string().into(),
            Dialect::Postgres => Bind::Texts(hashes.into_iter().map(Some).collect()),
        };
        let binds = vec![namespace.into(), medium.into(), Cause::Imported.as_str().into(), micros(now).into(), hashes];
        self.execute(Sql::composed(import_sql(self.dialect()), binds)).await
    }

    /// Suppresses addresses in a transaction of its own.
    pub async fn suppress(&self, all: &[Suppressed]) -> Result<()> {
        let mut tx = self.begin().await?;
        tx.suppress(all).await?;
        tx.commit().await
    }

    /// Why an address is suppressed in a namespace, if it is.
    pub async fn suppression(&self, asked: Asked<'_>, hash: &str) -> Result<Option<Hold>> {
        let sql = "SELECT reason, namespace, since_us, until_us FROM suppression WHERE namespace IN ($1, '*') AND medium = $2 \
                   AND hash = $3 AND (until_us IS NULL OR until_us > $4) ORDER BY since_us LIMIT 1";
        let sql = Sql::new(sql).bind(asked.namespace).bind(asked.medium).bind(hash).bind(micros(asked.now));
        let Some(row) = self.fetch_one(sql).await? else { return Ok(None) };
        Ok(Some(Hold {
            cause: row.get(0)?,
            is_whole_store: row.get::<String>(1)? == WHOLE_STORE,
            since: instant(row.get(2)?),
            until: row.get::<Option<i64>>(3)?.map(instant),
        }))
    }

    /// Writes to an address again; whether it was suppressed. What it bounced softly before counts no more.
    pub async fn lift_suppression(&self, namespace: &str, medium: &str, hash: &str) -> Result<bool> {
        let mut tx = self.begin().await?;
        let lift = "DELETE FROM suppression WHERE namespace = $1 AND medium = $2 AND hash = $3";
        let lifted = tx.execute(Sql::new(lift).bind(namespace).bind(medium).bind(hash)).await? > 0;
        let forget = "DELETE FROM soft_bounce WHERE medium = $1 AND hash = $2 AND ($3 = '*' OR namespace = $3)";
        tx.execute(Sql::new(forget).bind(medium).bind(hash).bind(namespace)).await?;
        tx.commit().await?;
        Ok(lifted)
    }

    /// Forgets soft bounces that no policy looks at any more, and what has been over for as long.
    pub async fn forget_soft_bounces(&self, now: Timestamp) -> Result<u64> {
        let kept = jiff::SignedDuration::from_hours(SOFT_BOUNCES_KEPT_DAYS * 24);
        let before = now.checked_sub(kept).unwrap_or(Timestamp::MIN);
        self.execute(Sql::new("DELETE FROM suppression WHERE until_us <= $1").bind(micros(before))).await?;
        self.execute(Sql::new("DELETE FROM soft_bounce WHERE at_us <= $1").bind(micros(before))).await
    }
}
