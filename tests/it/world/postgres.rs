//! A PostgreSQL server in a temporary folder, and a fresh database for every test that asks.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use sqlx::{Connection, Executor, PgConnection};
use tokio::sync::OnceCell;

use super::process::{Process, Signal, unprivileged};
use super::{free_port, install, scratch};

const START: Duration = Duration::from_secs(60);

/// Enough for every test of a process to have a pool of its own at once.
const CONNECTIONS_MAX: u32 = 300;

/// A server of its own cluster, on 127.0.0.1, trusting whoever connects.
pub struct Postgres {
    folder: PathBuf,
    port: u16,
    /// `None` while stopped.
    server: Option<Process>,
    databases: AtomicU32,
    /// As PostgreSQL comes, a crash of the machine included; what a benchmark measures.
    is_durable: bool,
}

impl Postgres {
    /// The server that the tests of this process share.
    pub async fn shared() -> Result<&'static Postgres> {
        static SHARED: OnceCell<Postgres> = OnceCell::const_new();
        SHARED.get_or_try_init(Postgres::start).await
    }

    /// A server of the test's own, to be stopped at will. About 2 s.
    pub async fn start() -> Result<Postgres> {
        Self::begin(false).await
    }

    /// A server with its default durability, for benchmarks.
    pub async fn durable() -> Result<Postgres> {
        Self::begin(true).await
    }

    async fn begin(is_durable: bool) -> Result<Postgres> {
        let initdb = tokio::task::spawn_blocking(|| install::program("initdb", "postgresql")).await??;
        let folder = scratch::folder_for_nobody("postgres")?;
        make_cluster(&initdb, &folder)?;
        let mut postgres =
            Postgres { folder, port: free_port(), server: None, databases: AtomicU32::new(1), is_durable };
        postgres.restart().await?;
        Ok(postgres)
    }

    /// Makes an empty database and returns its URL.
    pub async fn database(&self) -> Result<String> {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(&self.url("postgres")).await?;
        connection.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await?;
        connection.close().await?;
        Ok(self.url(&name))
    }

    /// A backup of a database, as `pg_dump` makes it of one that is in use.
    pub fn dump(&self, url: &str) -> Result<PathBuf> {
        let file = self.folder.join(format!("dump-{}", self.databases.fetch_add(1, Ordering::Relaxed)));
        let program = install::program("pg_dump", "postgresql")?;
        let done = Command::new(program).args(["--format=custom", "--file"]).arg(&file).arg(url).output()?;
        ensure!(done.status.success(), "pg_dump failed: {}", String::from_utf8_lossy(&done.stderr));
        Ok(file)
    }

    /// Puts a backup into a database in one transaction, over what is there: its schemas go first, because
    /// `pg_restore --clean` stumbles over the keys of partitions.
    pub fn restore(&self, dump: &Path, url: &str) -> Result<()> {
        const OVER: &str = "SELECT format('DROP SCHEMA %I CASCADE;', nspname) FROM pg_namespace \
                            WHERE nspname NOT LIKE 'pg\\_%' AND nspname NOT IN ('information_schema', 'public')";
        let run = |program: &str, args: &[&str]| {
            let done = Command::new(install::program(program, "postgresql")?).args(args).output()?;
            ensure!(done.status.success(), "{program} failed: {}", String::from_utf8_lossy(&done.stderr));
            Ok(done.stdout)
        };
        let mut script = run("psql", &["-At", "-c", OVER, url])?;
        script.extend(run("pg_restore", &["--no-owner", "--file=-", &dump.display().to_string()])?);
        let file = dump.with_extension("sql");
        std::fs::write(&file, script)?;
        run("psql", &["-q", "-1", "-v", "ON_ERROR_STOP=1", "-f", &file.display().to_string(), url])?;
        Ok(())
    }

    /// Ends the server as a crash would: open connections break, open transactions are lost, committed ones are not.
    pub fn stop_immediate(&mut self) {
        self.server = None;
    }

    /// Starts the server again, on the same port and data, after stopping it if it runs.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop_immediate();
        let program = install::program("postgres", "postgresql")?;
        let server = Process::start(&mut self.command(&program), &self.folder.join("log"), Signal::Quit)?;
        let ready = server.ready("PostgreSQL", START, || async {
            PgConnection::connect(&self.url("postgres")).await?;
            Ok(())
        });
        ready.await?;
        self.server = Some(server);
        Ok(())
    }

    /// What the server has logged.
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://campanile@127.0.0.1:{}/{database}", self.port)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = unprivileged(program);
        command.arg("-D").arg(self.folder.join("data"));
        let port = format!("port={}", self.port);
        let connections = format!("max_connections={CONNECTIONS_MAX}");
        // Without fsync a crash of the machine loses data, a crash of the server does not; `synchronous_commit`
        // stays on, because without it a crash of the server does.
        let settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", &port, &connections];
        let fast = if self.is_durable { &[][..] } else { &["fsync=off", "full_page_writes=off"] };
        for setting in settings.iter().chain(fast) {
            command.args(["-c", setting]);
        }
        command
    }
}

fn make_cluster(initdb: &Path, folder: &Path) -> Result<()> {
    let made = unprivileged(initdb)
        .arg("-D")
        .arg(folder.join("data"))
        .args(["--username=campanile", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"])
        .output()?;
    ensure!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}
