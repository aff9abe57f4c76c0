//! The real world that the tests run against: a Kubernetes API server, PostgreSQL, SMTP servers.
//!
//! ```ignore
//! let api = ApiServer::shared().await?;            // one per test process; a namespace per test
//! let namespace = api.namespace("hello").await?;
//! let url = Postgres::shared().await?.database().await?;
//! let sink = SmtpSink::start(&[]).await?;
//! ```
//!
//! Every server listens on loopback only, keeps its files in the test process's scratch folder, and ends with the
//! test process however that ends (see [`scratch`]). What is missing on the machine is built or installed on first
//! use, once, with a message on stderr (see [`assets`] and [`install`]).
//!
//! A test that needs an outage starts a server of its own: `stop`, `pause` and `restart` take `&mut self`, so they
//! cannot be called on what other tests share.

// A server is here before the test that needs it, and stays while that test is being rewritten.
#![allow(dead_code, unused_imports)]

pub mod any_provider;
mod assets;
pub mod azure;
pub mod http2;
mod install;
mod kube;
mod postgres;
mod process;
mod push_receiver;
pub mod push_services;
mod s3;
mod scratch;
pub mod scripted_smtp;
pub mod smpp;
mod smtp;
pub mod twilio;

use std::future::Future;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

pub use self::azure::Azure;
pub use self::install::{announce, program};
pub use self::kube::{ApiServer, ControllerManager};
pub use self::postgres::Postgres;
pub use self::process::unprivileged;
pub use self::push_receiver::Browsers;
pub use self::s3::S3;
pub use self::smtp::{Mail, SmtpSink};

/// Below the range from which Linux and macOS take the port of an outgoing connection, or one of those would sooner or
/// later sit on a port between our finding it free and the server's binding it.
const PORTS: std::ops::Range<u32> = 20_000..30_000;

/// How long to wait before asking again whether something has come about.
const POLL: Duration = Duration::from_millis(50);

/// A TCP port of 127.0.0.1 on which nobody listens, and which this process has not been given before.
///
/// Processes begin at different places, so that two test runs side by side rarely look at the same port.
pub fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    loop {
        let step = GIVEN.fetch_add(1, Ordering::Relaxed);
        assert!(step < PORTS.len() as u32, "no free port between {} and {}", PORTS.start, PORTS.end);
        let port = PORTS.start + first.wrapping_add(step) % PORTS.len() as u32;
        let port = u16::try_from(port).expect("the range ends below 65536");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Succeeds if somebody listens on that port of 127.0.0.1.
async fn listens(port: u16) -> Result<()> {
    tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    Ok(())
}

/// Asks `probe` until it answers, for at most `limit`; then fails with what the last try said.
pub async fn until<T, F>(what: &str, limit: Duration, mut probe: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let end = Instant::now() + limit;
    loop {
        // A probe that hangs is a probe that failed: a paused server accepts connections and says nothing.
        let left = end.saturating_duration_since(Instant::now()).max(POLL);
        let answer = tokio::time::timeout(left, probe()).await.context("no answer").flatten();
        match answer {
            Err(problem) if Instant::now() >= end => {
                return Err(problem.context(format!("waited {} s for {what}", limit.as_secs())));
            }
            Err(_) => tokio::time::sleep(POLL).await,
            Ok(value) => return Ok(value),
        }
    }
}

/// `until`, for a condition that is plain true or false.
pub async fn until_true(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    until(what, limit, || {
        let holds = condition();
        async move {
            ensure!(holds, "it has not come about");
            Ok(())
        }
    })
    .await
}
