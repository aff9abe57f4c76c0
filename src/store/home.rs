//! Which home a store belongs to, and the emergency stop.
//!
//! A dump of production restored elsewhere must send nothing: the store carries its home's id, and a process
//! of another home claims nothing until a person adopts the store.

use jiff::Timestamp;

use super::{Error, Result, Sql, Store, micros};
use crate::rule::Dialect;

/// SQLite has one writer, so one shard; PostgreSQL's workers share a run by shards.
const POSTGRES_SHARDS: i64 = 16;

/// What is stopped: everything, or what bears a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    All,
    Namespace(String),
    Campaign(String, String),
    Channel(String, String),
    /// Everything, because the store went back in time; `store recover` takes it back.
    Regressed,
}

impl Scope {
    fn parts(&self) -> (&'static str, &str, &str) {
        match self {
            Self::All => ("All", "", ""),
            Self::Namespace(namespace) => ("Namespace", namespace, ""),
            Self::Campaign(namespace, name) => ("Campaign", namespace, name),
            Self::Channel(namespace, name) => ("Channel", namespace, name),
            Self::Regressed => ("Regressed", "", ""),
        }
    }
}

/// What happens to messages that wait in a store that is adopted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    Cancel,
    Keep,
}

impl Store {
    /// Takes a new store for this home, or checks that it is this home's.
    ///
    /// # Errors
    /// [`Error::NotMine`] if another home's id is recorded.
    pub async fn enter(&self, home: &str, environment: &str) -> Result<()> {
        let shards = match self.dialect() {
            Dialect::Sqlite => 1,
            Dialect::Postgres => POSTGRES_SHARDS,
        };
        let place = self.place().await?;
        let insert = "INSERT INTO home (id, home, environment, shards, place) VALUES (1, $1, $2, $3, $4) ON CONFLICT (id) \
                      DO UPDATE SET place = coalesce(home.place, excluded.place) WHERE home.place IS NULL";
        self.execute(Sql::new(insert).bind(home).bind(environment).bind(shards).bind(&place)).await?;
        let row = self.fetch_one(Sql::new("SELECT home, environment, place FROM home WHERE id = 1")).await?;
        let row = row.ok_or_else(|| Error::Internal("no home row".to_owned()))?;
        let (owner, of, made_in): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if owner != home {
            return Err(Error::NotMine(format!("environment {of}")));
        }
        if of != environment {
            return Err(Error::NotMine(format!("environment {of}, not {environment}")));
        }
        if made_in != place {
            return Err(Error::NotMine(format!("environment {of}, in another database: this one is a copy of it")));
        }
        Ok(())
    }

    /// Which database this is, told by what a dump does not carry along.
    async fn place(&self) -> Result<String> {
        let sql = match self.dialect() {
            Dialect::Sqlite => "SELECT file FROM pragma_database_list WHERE name = 'main'",
            Dialect::Postgres => {
                "SELECT CAST(c.system_identifier AS TEXT) || '/' || CAST(d.oid AS TEXT) \
                 FROM pg_control_system() c, pg_database d WHERE d.datname = current_database()"
            }
        };
        self.fetch_one(Sql::new(sql)).await?.map_or_else(|| Ok(String::new()), |row| row.get(0))
    }

    /// How many shards every run of this store has; fixed when the store was made.
    pub async fn shards(&self) -> Result<i64> {
        let row = self.fetch_one(Sql::new("SELECT shards FROM home WHERE id = 1")).await?;
        row.ok_or_else(|| Error::Internal("a store without a home".to_owned()))?.get(0)
    }

    /// The store's own secret, if one was made.
    pub async fn known_secret(&self) -> Result<Option<Vec<u8>>> {
        let row = self.fetch_one(Sql::new("SELECT secret FROM home WHERE id = 1 AND secret IS NOT NULL")).await?;
        row.map(|row| Ok(row.get::<String>(0)?.into_bytes())).transpose()
    }

    /// The store's own secret, made when it is first asked for.
    pub async fn secret(&self) -> Result<Vec<u8>> {
        if let Some(secret) = self.known_secret().await? {
            return Ok(secret);
        }
        let mut fresh = [0; 32];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut fresh)
            .map_err(|_| Error::Internal("the machine gives no random bytes".to_owned()))?;
        let fresh: String = fresh.iter().map(|byte| format!("{byte:02x}")).collect();
        self.execute(Sql::new("UPDATE home SET secret = $1 WHERE id = 1 AND secret IS NULL").bind(fresh)).await?;
        // Another process may have been first.
        self.known_secret().await?.ok_or_else(|| Error::Internal("a store without a home".to_owned()))
    }

    /// Makes the store this home's. What waits is cancelled or kept, as a person decided.
    pub async fn adopt(&self, home: &str, environment: &str, waiting: Waiting, now: Timestamp) -> Result<()> {
        let shards = if self.dialect() == Dialect::Sqlite { 1 } else { POSTGRES_SHARDS };
        let sql = "INSERT INTO home (id, home, environment, shards, place) VALUES (1, $1, $2, $3, $4) \
                   ON CONFLICT (id) DO UPDATE SET home = excluded.home, environment = excluded.environment, place = excluded.place";
        let place = self.place().await?;
        let mut tx = self.begin().await?;
        tx.execute(Sql::new(sql).bind(home).bind(environment).bind(shards).bind(&place)).await?;
        if waiting == Waiting::Cancel {
            tx.execute(Sql::new("UPDATE run SET state = 'Cancelling' WHERE state <> 'Done'")).await?;
        }
        tx.commit().await?;
        tracing::info!(home, environment, at = %now, "store adopted");
        Ok(())
    }

    /// Writes a stop; it holds at the next claim and the next attempt of every worker.
    pub async fn stop(&self, scope: &Scope, reason: &str, now: Timestamp) -> Result<()> {
        let (kind, namespace, name) = scope.parts();
        let sql = "INSERT INTO stop (scope, namespace, name, reason, at_us) VALUES ($1, $2, $3, $4, $5) \
                   ON CONFLICT (scope, namespace, name) DO UPDATE SET reason = excluded.reason, at_us = excluded.at_us";
        self.execute(Sql::new(sql).bind(kind).bind(namespace).bind(name).bind(reason).bind(micros(now))).await?;
        Ok(())
    }

    /// Takes a stop back; whether there was one.
    pub async fn start(&self, scope: &Scope) -> Result<bool> {
        let (kind, namespace, name) = scope.parts();
        let sql = "DELETE FROM stop WHERE scope = $1 AND namespace = $2 AND name = $3";
        Ok(self.execute(Sql::new(sql).bind(kind).bind(namespace).bind(name)).await? > 0)
    }

    /// Why this campaign is stopped, if it is.
    pub async fn stopped(&self, namespace: &str, campaign: &str) -> Result<Option<String>> {
        let sql = "SELECT reason FROM stop WHERE scope IN ('All', 'Regressed') OR (scope = 'Namespace' AND namespace = $1) \
                   OR (scope = 'Campaign' AND namespace = $1 AND name = $2) ORDER BY at_us LIMIT 1";
        self.fetch_one(Sql::new(sql).bind(namespace).bind(campaign)).await?.map(|row| row.get(0)).transpose()
    }
}
