//! A store that is only read: a replica, a role that has SELECT alone, a folder that nobody may write.
//!
//! Nothing is made, migrated or written, and no statement takes longer than was allowed: what a preview asks must never
//! be felt by the home that works on the same store.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{
    PgConnection, SqliteConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};

use super::{Error, Result, Row, Sql, Store, db, functions};
use crate::rule::Dialect;

/// Who looks at a store by a command asks one thing after the other.
const CONNECTIONS_MAX: u32 = 4;
/// Longer than a person waits for a preview, unless it is said.
pub const STATEMENT_TIME_MAX: Duration = Duration::from_secs(60);
/// How much longer a server that says nothing is waited for than it should take itself.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// How long is waited for a connection, and for a checkpoint of the home's.
const WAIT: Duration = Duration::from_secs(10);
/// SQLite asks after so many of its instructions whether the time is over: some hundredths of a millisecond.
const INSTRUCTIONS: i32 = 10_000;

/// What holds of the statements of a store that is only read.
#[derive(Clone)]
pub(super) struct Limits {
    time_max: Duration,
    /// How long is waited for a statement that should have ended by itself.
    patience: Duration,
    /// Tells SQLite's own thread, which no cancelled future stops, to end.
    is_over: Arc<AtomicBool>,
    /// A file that is read as if it could not change.
    still: Option<Still>,
}

impl Limits {
    fn new(time_max: Duration) -> Self {
        Self { time_max, patience: time_max, is_over: Arc::default(), still: None }
    }

    /// Awaits the rows of a statement, as long as they may take.
    pub async fn hold(&self, fetching: impl Future<Output = Result<Vec<Row>>>) -> Result<Vec<Row>> {
        let mut fetching = std::pin::pin!(fetching);
        let rows = match tokio::time::timeout(self.patience, &mut fetching).await {
            Ok(rows) => rows,
            Err(_) => {
                self.is_over.store(true, Ordering::Relaxed);
                let ended = tokio::time::timeout(GRACE, fetching).await;
                self.is_over.store(false, Ordering::Relaxed);
                match ended {
                    Ok(Ok(rows)) => Ok(rows),
                    _ => return Err(Error::TooLong(self.time_max)),
                }
            }
        };
        if let Some(still) = &self.still {
            still.check()?;
        }
        rows.map_err(|error| match &error {
            // Cancelled by its own timeout.
            Error::Unavailable(sqlx::Error::Database(e)) if e.code().as_deref() == Some("57014") => {
                Error::TooLong(self.time_max)
            }
            _ => error,
        })
    }
}

/// A SQLite file that nobody had open when it was opened: it is read without locks, and so without a file beside it.
#[derive(Clone)]
struct Still {
    log: PathBuf,
}

impl Still {
    fn check(&self) -> Result<()> {
        if self.log.exists() {
            return Err(Error::Refused("another process began to write the store meanwhile; call it again".to_owned()));
        }
        Ok(())
    }
}

impl Store {
    /// Opens a store that is there, and only ever reads it. A statement takes at most [`STATEMENT_TIME_MAX`].
    ///
    /// On PostgreSQL a role that may SELECT is enough, on SQLite a file that may be read, in a folder that may not be
    /// written. Whatever would write is refused.
    ///
    /// # Errors
    /// [`Error::Refused`] in words for a person: there is no store, it is of another version, or it cannot be read.
    pub async fn open_readonly(url: &str) -> Result<Self> {
        Self::open_readonly_within(url, STATEMENT_TIME_MAX).await
    }

    /// Like [`Store::open_readonly`], where a statement takes at most `time_max`.
    ///
    /// # Errors
    /// As there.
    pub async fn open_readonly_within(url: &str, time_max: Duration) -> Result<Self> {
        super::check_url(url)?;
        let db =
            if url.starts_with("sqlite:") { sqlite(url, time_max).await? } else { postgres(url, time_max).await? };
        let store = Self { db, readers: Arc::default() };
        store.check_version().await?;
        Ok(store)
    }

    /// Whether the tables are those of this version.
    async fn check_version(&self) -> Result<()> {
        let rows = self.fetch(Sql::new("SELECT version FROM _sqlx_migrations WHERE success")).await;
        let rows = rows.map_err(|error| match error {
            Error::Unavailable(sqlx::Error::Database(e)) if self.dialect() == Dialect::Postgres => {
                let hint = "or this role may not read it: it needs USAGE on the schema and SELECT on its tables";
                Error::Refused(format!("there is no store in this database ({}), {hint}", e.message()))
            }
            Error::Unavailable(sqlx::Error::Database(e)) => {
                Error::Refused(format!("this file is no store: {}", e.message()))
            }
            other => other,
        })?;
        let found: BTreeSet<i64> = rows.iter().map(|row| row.get(0)).collect::<Result<_>>()?;
        let known: BTreeSet<i64> = db::migrations(self.dialect()).iter().map(|m| m.version).collect();
        if !known.is_subset(&found) {
            let message = "the store is of an older version; `campanile run` or the controller brings it to this one";
            return Err(Error::Refused(message.to_owned()));
        }
        if !found.is_subset(&known) {
            return Err(Error::Refused("the store is of a newer version than this program".to_owned()));
        }
        Ok(())
    }
}

async fn postgres(url: &str, time_max: Duration) -> Result<db::Db> {
    let limit_ms = time_max.as_millis().max(1).to_string();
    let options = PgConnectOptions::from_str(url)?.options([
        ("search_path", "campanile"),
        ("timezone", "UTC"),
        ("default_transaction_read_only", "on"),
        ("statement_timeout", limit_ms.as_str()),
    ]);
    // A pool tries until its time is over and then says so; one connection says what is wrong, and at once.
    let connect = async {
        use sqlx::Connection;
        PgConnection::connect_with(&options).await?.close().await
    };
    tokio::time::timeout(WAIT, connect)
        .await
        .map_err(|_| Error::Refused("the database does not answer".to_owned()))??;
    let pool =
        PgPoolOptions::new().max_connections(CONNECTIONS_MAX).acquire_timeout(WAIT).connect_with(options).await?;
    // The server ends the statement itself.
    let limits = Limits { patience: time_max + GRACE, ..Limits::new(time_max) };
    Ok(db::Db::reading(db::Pool::Postgres(pool), limits))
}

async fn sqlite(url: &str, time_max: Duration) -> Result<db::Db> {
    let options = SqliteConnectOptions::from_str(url)?;
    let file = options.get_filename().to_owned();
    if !file.exists() {
        return Err(Error::Refused(format!("there is no store at {}", file.display())));
    }
    let mut limits = Limits::new(time_max);
    // While a home has the store open, or after one that was killed, the newest of it stands in the log beside it.
    let log = beside(&file, "-wal");
    let is_still = !log.exists();
    limits.still = is_still.then_some(Still { log });
    let options = options.read_only(true).immutable(is_still).create_if_missing(false).busy_timeout(WAIT);
    let options = options.pragma("query_only", "on");
    let is_over = limits.is_over.clone();
    let opened = SqlitePoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .after_connect(move |connection, _| {
            let is_over = is_over.clone();
            Box::pin(async move { prepare(connection, is_over).await })
        })
        .connect_with(options)
        .await;
    let pool = opened.map_err(|error| match error {
        sqlx::Error::Database(e) if !is_still => Error::Refused(format!(
            "the store cannot be read ({}): a home has it open, or was killed, and this process may not read its log; \
             call it as the user of `campanile run`, or after it has ended",
            e.message()
        )),
        sqlx::Error::Database(e) => Error::Refused(format!("{} cannot be read: {}", file.display(), e.message())),
        other => other.into(),
    })?;
    Ok(db::Db::reading(db::Pool::Sqlite(pool, Arc::default()), limits))
}

async fn prepare(connection: &mut SqliteConnection, is_over: Arc<AtomicBool>) -> std::result::Result<(), sqlx::Error> {
    functions::register(connection).await?;
    end_when(connection, is_over).await
}

/// Ends whatever statement the connection is at once its time is over: it runs in SQLite's own thread, which no cancelled
/// future stops.
pub(super) async fn end_when(
    connection: &mut SqliteConnection,
    is_over: Arc<AtomicBool>,
) -> std::result::Result<(), sqlx::Error> {
    let mut handle = connection.lock_handle().await?;
    handle.set_progress_handler(INSTRUCTIONS, move || !is_over.load(Ordering::Relaxed));
    Ok(())
}

fn beside(file: &Path, end: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}
