//! One way to ask either database: connections and transactions. sqlx's `Any` driver is not used: it loses types.

use std::{str::FromStr, sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt, executor::block_on};
use sqlx::{
    Connection as _, PgConnection, PgPool, SqlitePool,
    migrate::Migrator,
    postgres::{PgArguments, PgConnectOptions, PgCopyIn, PgPoolOptions},
    sqlite::{SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc};

use super::{Bind, Error, Result, Row, Sql, faults::Faults, replica::Limits};
use crate::rule::Dialect;

/// Connections of one process to PostgreSQL; each worker and reconciler holds at most one at a time.
const POSTGRES_CONNECTIONS_MAX: u32 = 16;
/// SQLite has one writer; the others read.
const SQLITE_CONNECTIONS_MAX: u32 = 8;
/// How long a reader waits for a checkpoint, and a second process for the writer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// A database, as this process sees it.
#[derive(Clone)]
pub(super) struct Db {
    pool: Pool,
    pub faults: Option<Arc<dyn Faults>>,
    /// Of a store that is only read.
    limits: Option<Limits>,
}

/// A pool of connections to one database.
#[derive(Clone)]
pub(super) enum Pool {
    /// SQLite has one writer at a time; waiting for it here is fair, its own busy handler is not.
    Sqlite(SqlitePool, Arc<Mutex<()>>),
    Postgres(PgPool),
}

impl Db {
    pub async fn open(url: &str) -> Result<Self> {
        if url.starts_with("sqlite:") {
            // An attempt must be on the disk before its bytes are on the wire.
            return Self::open_sqlite(url, SqliteSynchronous::Full).await;
        }
        let options = PgConnectOptions::from_str(url)?.options([("search_path", "campanile"), ("timezone", "UTC")]);
        // A pool tries until its time is over and then says so; one connection says what is wrong, and at once.
        PgConnection::connect_with(&options).await?.close().await?;
        let pool = PgPoolOptions::new()
            .max_connections(POSTGRES_CONNECTIONS_MAX)
            .acquire_timeout(BUSY_TIMEOUT)
            .connect_with(options)
            .await?;
        Ok(Self { pool: Pool::Postgres(pool), faults: None, limits: None })
    }

    /// A database that is only read.
    pub fn reading(pool: Pool, limits: Limits) -> Self {
        Self { pool, faults: None, limits: Some(limits) }
    }

    /// A SQLite file; how surely it is on the disk when a transaction is committed.
    pub async fn open_sqlite(url: &str, synchronous: SqliteSynchronous) -> Result<Self> {
        let options = SqliteConnectOptions::from_str(url)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(synchronous)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true);
        let pool = SqlitePoolOptions::new()
            .max_connections(SQLITE_CONNECTIONS_MAX)
            .after_connect(|connection, _| Box::pin(super::functions::register(connection)))
            // A full disk rolls back in SQLite's own name, and sqlx goes on counting that transaction.
            .before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }))
            .connect_with(options)
            .await?;
        Ok(Self { pool: Pool::Sqlite(pool, Arc::default()), faults: None, limits: None })
    }

    pub async fn migrate(&self) -> Result<()> {
        match &self.pool {
            Pool::Sqlite(pool, _) => migrations(Dialect::Sqlite).run(pool).await?,
            Pool::Postgres(pool) => {
                // Two processes may begin on an empty database at once: IF NOT EXISTS still fails for the later of them.
                let create = || sqlx::raw_sql("CREATE SCHEMA IF NOT EXISTS campanile").execute(pool);
                if create().await.is_err() {
                    create().await?;
                }
                migrations(Dialect::Postgres).run(pool).await?;
            }
        }
        Ok(())
    }

    pub fn dialect(&self) -> Dialect {
        match &self.pool {
            Pool::Sqlite(..) => Dialect::Sqlite,
            Pool::Postgres(_) => Dialect::Postgres,
        }
    }

    pub async fn fetch(&self, sql: Sql) -> Result<Vec<Row>> {
        if let Some(limits) = &self.limits {
            return limits.hold(self.fetch_now(sql)).await;
        }
        let Some(faults) = &self.faults else { return self.fetch_now(sql).await };
        faults.call().await?;
        self.until_free().await;
        let rows = block_on(self.fetch_now(sql));
        faults.answer().await?;
        rows
    }

    /// In a simulation, waits until a call finds a connection. One that is on its way back to the pool needs this thread
    /// for it, and a call that blocks the thread would wait for ever.
    async fn until_free(&self) {
        if let Pool::Sqlite(pool, _) = &self.pool {
            while pool.num_idle() == 0 && pool.size() >= SQLITE_CONNECTIONS_MAX {
                tokio::task::yield_now().await;
            }
        }
    }

    async fn fetch_now(&self, sql: Sql) -> Result<Vec<Row>> {
        Ok(match &self.pool {
            Pool::Sqlite(pool, _) => {
                let rows = sqlx::query_with(sql.text(), sqlite_arguments(sql.binds)?).fetch_all(pool).await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
            Pool::Postgres(pool) => {
                let rows = sqlx::query_with(sql.text(), postgres_arguments(sql.binds)?).fetch_all(pool).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// Sends the rows of one reading statement in chunks. It ends early if nobody takes them any more.
    pub async fn stream(&self, sql: Sql, chunk_rows: usize, sender: &mpsc::Sender<Vec<Row>>) -> Result<()> {
        let mut chunks = match &self.pool {
            Pool::Sqlite(pool, _) => {
                let rows = sqlx::query_with(sql.text(), sqlite_arguments(sql.binds)?).fetch(pool);
                rows.map_ok(Row::Sqlite).try_chunks(chunk_rows).boxed()
            }
            Pool::Postgres(pool) => {
                let rows = sqlx::query_with(sql.text(), postgres_arguments(sql.binds)?).fetch(pool);
                rows.map_ok(Row::Postgres).try_chunks(chunk_rows).boxed()
            }
        };
        while let Some(chunk) = chunks.next().await {
            if sender.send(chunk.map_err(|e| e.1)?).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Begins a transaction that may write.
    pub async fn begin(&self) -> Result<Tx> {
        if self.limits.is_some() {
            return Err(Error::Refused("this store is open for reading only".to_owned()));
        }
        if let Some(faults) = &self.faults {
            faults.call().await?;
        }
        let faults = self.faults.clone();
        let inner = match &self.pool {
            Pool::Sqlite(pool, writer) => {
                let turn = writer.clone().lock_owned().await;
                if faults.is_some() {
                    self.until_free().await;
                }
                let begun = done(faults.is_some(), pool.begin_with("BEGIN IMMEDIATE")).await?;
                Inner::Sqlite(begun, turn)
            }
            Pool::Postgres(pool) => Inner::Postgres(done(faults.is_some(), pool.begin()).await?),
        };
        Ok(Tx { inner, faults })
    }

    pub async fn close(&self) {
        match &self.pool {
            Pool::Sqlite(pool, _) => pool.close().await,
            Pool::Postgres(pool) => pool.close().await,
        }
    }
}

/// What brings each database's tables to this version.
pub(super) fn migrations(dialect: Dialect) -> &'static Migrator {
    static SQLITE: Migrator = sqlx::migrate!("src/store/migrations/sqlite");
    static POSTGRES: Migrator = sqlx::migrate!("src/store/migrations/postgres");
    match dialect {
        Dialect::Sqlite => &SQLITE,
        Dialect::Postgres => &POSTGRES,
    }
}

enum Inner {
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>, #[allow(dead_code)] OwnedMutexGuard<()>),
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
}

/// A transaction; dropped without [`Tx::commit`] it leaves no trace.
pub struct Tx {
    inner: Inner,
    faults: Option<Arc<dyn Faults>>,
}

/// Awaits a call of the database; in a simulation nothing else happens meanwhile.
async fn done<T>(is_simulated: bool, call: impl Future<Output = T>) -> T {
    if is_simulated { block_on(call) } else { call.await }
}

impl Tx {
    pub fn dialect(&self) -> Dialect {
        match self.inner {
            Inner::Sqlite(..) => Dialect::Sqlite,
            Inner::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Runs a statement; how many rows it changed.
    pub async fn execute(&mut self, sql: Sql) -> Result<u64> {
        done(self.faults.is_some(), self.inner.execute(sql)).await
    }

    pub async fn fetch(&mut self, sql: Sql) -> Result<Vec<Row>> {
        done(self.faults.is_some(), self.inner.fetch(sql)).await
    }

    /// The first row, if there is one; the rest is not read.
    pub async fn fetch_one(&mut self, sql: Sql) -> Result<Option<Row>> {
        done(self.faults.is_some(), self.inner.fetch_one(sql)).await
    }

    /// Runs a statement with each row of values in turn, prepared once.
    pub async fn execute_each(&mut self, text: &str, rows: Vec<Vec<Bind>>) -> Result<()> {
        for binds in rows {
            self.execute(Sql::composed(text.to_owned(), binds)).await?;
        }
        Ok(())
    }

    /// The end of a SELECT that locks its rows, such as `FOR UPDATE SKIP LOCKED`; nothing on SQLite, which has one writer.
    pub(super) fn row_lock(&self, clause: &str) -> String {
        match self.dialect() {
            Dialect::Sqlite => String::new(),
            Dialect::Postgres => format!(" {clause}"),
        }
    }

    /// Begins a `COPY … FROM STDIN`. An error on SQLite, which has none.
    pub(super) async fn copy_in(&mut self, statement: &str) -> Result<PgCopyIn<&mut PgConnection>> {
        let Inner::Postgres(tx) = &mut self.inner else {
            return Err(Error::Internal("SQLite has no COPY".to_owned()));
        };
        Ok(tx.copy_in_raw(statement).await?)
    }

    pub async fn commit(self) -> Result<()> {
        let Self { inner, faults } = self;
        let Some(faults) = faults else { return inner.commit().await };
        let committed = if faults.is_commit_lost() {
            drop(inner);
            Err(Error::Unavailable(sqlx::Error::WorkerCrashed))
        } else {
            block_on(inner.commit())
        };
        faults.answer().await?;
        committed
    }
}

impl Inner {
    async fn execute(&mut self, sql: Sql) -> Result<u64> {
        Ok(match self {
            Self::Sqlite(tx, _) => {
                sqlx::query_with(sql.text(), sqlite_arguments(sql.binds)?).execute(&mut **tx).await?.rows_affected()
            }
            Self::Postgres(tx) => {
                sqlx::query_with(sql.text(), postgres_arguments(sql.binds)?).execute(&mut **tx).await?.rows_affected()
            }
        })
    }

    async fn fetch(&mut self, sql: Sql) -> Result<Vec<Row>> {
        Ok(match self {
            Self::Sqlite(tx, _) => {
                let rows = sqlx::query_with(sql.text(), sqlite_arguments(sql.binds)?).fetch_all(&mut **tx).await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
            Self::Postgres(tx) => {
                let rows = sqlx::query_with(sql.text(), postgres_arguments(sql.binds)?).fetch_all(&mut **tx).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    async fn fetch_one(&mut self, sql: Sql) -> Result<Option<Row>> {
        Ok(match self {
            Self::Sqlite(tx, _) => {
                let mut rows = sqlx::query_with(sql.text(), sqlite_arguments(sql.binds)?).fetch(&mut **tx);
                rows.next().await.transpose()?.map(Row::Sqlite)
            }
            Self::Postgres(tx) => {
                let mut rows = sqlx::query_with(sql.text(), postgres_arguments(sql.binds)?).fetch(&mut **tx);
                rows.next().await.transpose()?.map(Row::Postgres)
            }
        })
    }

    async fn commit(self) -> Result<()> {
        match self {
            Self::Sqlite(tx, _turn) => tx.commit().await?,
            Self::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }
}

fn sqlite_arguments(binds: Vec<Bind>) -> Result<SqliteArguments> {
    let mut arguments = SqliteArguments::default();
    for bind in binds {
        let added = match bind {
            Bind::Text(v) => sqlx::Arguments::add(&mut arguments, v),
            Bind::Int(v) => sqlx::Arguments::add(&mut arguments, v),
            Bind::Real(v) => sqlx::Arguments::add(&mut arguments, v),
            Bind::Bool(v) => sqlx::Arguments::add(&mut arguments, v),
            Bind::Ints(_) | Bind::Texts(_) => Err("SQLite has no arrays".into()),
        };
        added.map_err(|e| Error::Internal(e.to_string()))?;
    }
    Ok(arguments)
}

fn postgres_arguments(binds: Vec<Bind>) -> Result<PgArguments> {
    let mut arguments = PgArguments::default();
    for bind in binds {
        let added = match bind {
            Bind::Text(v) => sqlx::Arguments::add(&mut arguments, v),
            Bind::Int(v) => sqlx::Arguments::add(&mut arguments, v),
            Bind::Real(v) => sqlx::Arguments::add(&mut arguments, v),
            Bind::Bool(v) => sqlx::Arguments::add(&mut arguments, v),
            Bind::Ints(v) => sqlx::Arguments::add(&mut arguments, v),
            Bind::Texts(v) => sqlx::Arguments::add(&mut arguments, v),
        };
        added.map_err(|e| Error::Internal(e.to_string()))?;
    }
    Ok(arguments)
}
