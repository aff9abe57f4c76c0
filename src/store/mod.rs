//! The relational store: SQLite for a folder, PostgreSQL for a cluster, one interface.
//!
//! What is in it, and what it is for:
//!
//! | file | what |
//! | --- | --- |
//! | [`home`] | which home a store belongs to; the emergency stop |
//! | [`object`] | the folder home's objects and events |
//! | [`entity`] | the tables of a Dataset |
//! | [`consent`] | what people agreed to and withdrew, over time |
//! | [`declared`] | the datasets as they are declared |
//! | [`erased`] | who was erased on request |
//! | [`change`] | what another system changes in them |
//! | [`keyed`] | keyed hashes of addresses and keys |
//! | [`rows`] | rows on their way into them, in the form in which each database takes them |
//! | `load` | the way: `COPY`, or INSERTs of many rows |
//! | [`merge`] | what a file says into them, and consent |
//! | `view` | tables of others, read in place; the end of a Dataset |
//! | [`files`] | which files were read, their rejects, how long it took |
//! | [`audience`] | what is known of an audience, and the keys of those that are kept |
//! | [`campaign`] | what is remembered under a campaign's name; runs and their states |
//! | [`expect`] | what a campaign expects of its runs |
//! | `rename` | what a campaign takes over from an earlier name |
//! | [`planning`] | the work tables and the ledger rows of a run that begins |
//! | [`progress`] | what `incremental` steps have taken |
//! | [`claims`] | who works on what, and the work of those that died |
//! | `worker` | the beats by which that is told |
//! | [`ledger`] | attempts and outcomes |
//! | [`mailing`] | files of letters in the making |
//! | [`tally`] | the counts of outcomes |
//! | [`event`] | what happened to messages after they were sent |
//! | [`history`] | what of all that is still to be told to others |
//! | [`feedback`] | what the taking of feedback asks |
//! | [`suppression`] | addresses that are written to no more |
//! | [`kept`] | what is kept of one message |
//! | [`fate`] | what became of one person, and what holds her back |
//! | [`person`] | everything that is kept of one person |
//! | [`doubt`] | messages whose fate nobody knows, and a person's word on them |
//! | `pace` | rates and quotas that all workers share |
//! | [`readonly`] | statements of authors, on connections that cannot write |
//! | [`replica`] | a store that is only read |
//! | [`recovery`] | a store that went back in time |
//! | `functions` | what rules ask that SQLite lacks |
//! | [`faults`] | what a simulation does to its calls |
//! | `cancellation` | what waits of a cancelled run |
//! | [`remainder`] | who goes on to its successor |
//! | [`retention`] | what is no longer kept, and the partitions by day |
//!
//! Nothing outside this module knows which database it is, but for the [`Dialect`] that a query is built for.
//! No rule asks the database for the time: every time is a bind.

mod attachment;
pub mod audience;
pub mod campaign;
mod cancellation;
pub mod change;
pub mod claims;
pub mod consent;
mod db;
pub mod declared;
pub mod doubt;
pub mod entity;
pub mod erased;
pub mod event;
pub mod expect;
pub mod fate;
pub mod faults;
pub mod feedback;
pub mod files;
mod functions;
pub mod history;
pub mod home;
pub mod kept;
pub mod keyed;
pub mod ledger;
mod load;
pub mod mailing;
pub mod merge;
pub mod object;
mod pace;
pub mod person;
pub mod planning;
pub mod progress;
pub mod readonly;
mod receipt;
pub mod recovery;
pub mod remainder;
mod rename;
pub mod replica;
pub mod retention;
pub mod rows;
mod statement;
pub mod suppression;
pub mod tally;
mod view;
mod worker;

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

pub use db::Tx;
use faults::Faults;
pub use statement::{Bind, Row, Sql};

use crate::rule::Dialect;

/// What can go wrong with the store. None of these messages holds a personal value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the store did not answer: {}", without_values(.0))]
    Unavailable(#[source] sqlx::Error),
    #[error("the store could not be brought to this version's tables: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    #[error("this store belongs to another home ({0})")]
    NotMine(String),
    #[error("{0}")]
    Refused(String),
    /// Of a store that is only read.
    #[error("the statement took longer than {} s", .0.as_secs_f32())]
    TooLong(Duration),
    #[error("internal: {0}")]
    Internal(String),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(error)
    }
}

impl Error {
    /// Whether a rule overflowed or divided by zero; the rule's own questions tell where.
    pub fn is_fault(&self) -> bool {
        let Self::Unavailable(sqlx::Error::Database(e)) = self else { return false };
        // PostgreSQL: out of range, datetime overflow, division by zero; SQLite: its own sum, and our functions.
        let is_code = e.code().is_some_and(|c| ["22003", "22008", "22012"].contains(&&*c));
        is_code || e.message().contains(functions::FAULT) || e.message() == "integer overflow"
    }

    /// Whether two rows had one key.
    pub fn is_duplicate(&self) -> bool {
        matches!(self, Self::Unavailable(sqlx::Error::Database(e)) if e.is_unique_violation())
    }

    /// Whether another transaction was there first (PostgreSQL's class 40): begun anew, the same one sees what that did.
    pub fn is_outrun(&self) -> bool {
        matches!(self, Self::Unavailable(sqlx::Error::Database(e)) if e.code().is_some_and(|code| code.starts_with("40")))
    }

    /// Whether this process has closed the store.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Unavailable(sqlx::Error::PoolClosed))
    }

    /// Whether the same statement may succeed later: a lost connection, a full pool, a busy file.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unavailable(sqlx::Error::Database(e)) => {
                // PostgreSQL classes 08, 40, 53, 57: connection, serialization, resources, operator; SQLite 5, 6: busy, locked.
                e.code()
                    .is_none_or(|c| ["08", "40", "53", "57"].iter().any(|p| c.starts_with(p)) || c == "5" || c == "6")
            }
            Self::Unavailable(_) => true,
            _ => false,
        }
    }
}

impl Error {
    /// A lock was not to be had in the time that was allowed for it (PostgreSQL's class 55P03).
    fn is_lock_timeout(&self) -> bool {
        matches!(self, Self::Unavailable(sqlx::Error::Database(e)) if e.code().is_some_and(|code| code == "55P03"))
    }
}

/// PostgreSQL puts values into `DETAIL`, never into the message; sqlx's own text has the message only.
fn without_values(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(e) => e.message().to_owned(),
        other => other.to_string(),
    }
}

pub type Result<T> = std::result::Result<T, Error>;

/// An open store. Cloning shares the connections.
#[derive(Clone)]
pub struct Store {
    db: db::Db,
    /// On which connections statements of authors are run.
    readers: Arc<readonly::Readers>,
}

impl Store {
    /// Opens `sqlite://PATH` or `postgres://…` and brings its tables to this version.
    pub async fn open(url: &str) -> Result<Self> {
        check_url(url)?;
        let db = db::Db::open(url).await?;
        db.migrate().await?;
        Ok(Self { db, readers: Arc::default() })
    }

    /// Opens a SQLite file that nobody misses after a crash, such as that of a test: nothing waits for the disk.
    pub async fn open_scratch(url: &str) -> Result<Self> {
        let db = db::Db::open_sqlite(url, sqlx::sqlite::SqliteSynchronous::Off).await?;
        db.migrate().await?;
        Ok(Self { db, readers: Arc::default() })
    }

    /// The same store as a simulated process sees it.
    #[must_use]
    pub fn with_faults(mut self, faults: Arc<dyn Faults>) -> Self {
        self.db.faults = Some(faults);
        self
    }

    /// The same store, with statements of authors allowed on these connections.
    #[must_use]
    pub fn with_readers(mut self, readers: readonly::Readers) -> Self {
        self.readers = Arc::new(readers);
        self
    }

    pub fn dialect(&self) -> Dialect {
        self.db.dialect()
    }

    /// Begins a transaction that may write.
    pub async fn begin(&self) -> Result<Tx> {
        self.db.begin().await
    }

    /// Runs one reading statement.
    pub async fn fetch(&self, sql: Sql) -> Result<Vec<Row>> {
        self.db.fetch(sql).await
    }

    /// Sends the rows of one reading statement in chunks, as fast as they are taken.
    pub async fn stream(&self, sql: Sql, chunk_rows: usize, sender: &mpsc::Sender<Vec<Row>>) -> Result<()> {
        self.db.stream(sql, chunk_rows, sender).await
    }

    /// The first row of one reading statement.
    pub async fn fetch_one(&self, sql: Sql) -> Result<Option<Row>> {
        Ok(self.db.fetch(sql).await?.into_iter().next())
    }

    /// Runs one writing statement in a transaction of its own.
    pub async fn execute(&self, sql: Sql) -> Result<u64> {
        let mut tx = self.begin().await?;
        let changed = tx.execute(sql).await?;
        tx.commit().await?;
        Ok(changed)
    }

    pub async fn close(&self) {
        self.db.close().await;
    }
}

fn check_url(url: &str) -> Result<()> {
    if ["sqlite:", "postgres:", "postgresql:"].iter().any(|scheme| url.starts_with(scheme)) {
        return Ok(());
    }
    Err(Error::Refused("a store is sqlite://PATH or postgres://USER@HOST/DATABASE".to_owned()))
}

/// One of the store's own tables or views, as a query over declared tables names it.
pub fn own_table(name: &str, dialect: Dialect) -> crate::rule::schema::Table {
    let schema = (dialect == Dialect::Postgres).then(|| "campanile".to_owned());
    crate::rule::schema::Table { schema, name: name.to_owned() }
}

/// Microseconds since the epoch, as every `…_us` column holds them.
pub fn micros(at: jiff::Timestamp) -> i64 {
    at.as_microsecond()
}

/// The instant in a `…_us` column.
pub fn instant(us: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_microsecond(us).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}
