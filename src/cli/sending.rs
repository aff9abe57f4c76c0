//! What every sending process is told: which messages may leave it, whom to trust, and for how long it holds its work.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;

use super::End;
use crate::{
    clock::Clock,
    feedback::server,
    metrics,
    send::{
        dispatch::{Dispatcher, LEASE},
        gate::Gate,
        lease::Lease,
        providers::Providers,
    },
    store::Store,
};

#[derive(Args)]
pub struct SendArgs {
    /// What happens to messages: outbox, live, redirect=ADDRESS, allowlist=ADDRESS,@DOMAIN,….
    #[arg(long, value_name = "MODE", default_value = "outbox")]
    pub deliver: Gate,
    /// A file with certificates to trust for SMTP beside the system's, in PEM.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// How long, in milliseconds, a worker's beat must stand still before others take over its work.
    #[arg(long, value_name = "MS", default_value_t = u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX),
          value_parser = clap::value_parser!(u64).range(100..=3_600_000))]
    lease_ms: u64,
}

#[derive(Args)]
pub struct ListenArgs {
    /// Answers people who unsubscribe on this address; `publicUrl` of a Channel is how it is reached from outside.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Serves Prometheus' metrics on this address, under /metrics.
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
}

impl ListenArgs {
    /// Listens where it is told to.
    pub async fn listen(&self, store: &Store, clock: Clock) -> Result<(), End> {
        if let Some(address) = self.listen {
            let bound = server::listen(address, store.clone(), clock).await;
            let bound = bound.map_err(|problem| End::Wrong(format!("--listen {problem}"), None))?;
            eprintln!("listening on http://{bound}");
        }
        if let Some(address) = self.metrics {
            let bound = metrics::listen(address, store.clone()).await;
            let bound = bound.map_err(|problem| End::Wrong(format!("--metrics {problem}"), None))?;
            eprintln!("metrics on http://{bound}/metrics");
        }
        Ok(())
    }
}

impl SendArgs {
    /// The ways out of this process.
    pub fn providers(&self, outbox: PathBuf) -> Result<Providers, End> {
        let roots = match &self.ca {
            Some(path) => {
                vec![std::fs::read(path).map_err(|e| End::Wrong(format!("{}: {e}", path.display()), None))?]
            }
            None => vec![],
        };
        Ok(Providers::new(self.deliver.clone(), outbox, roots))
    }

    pub fn lease(&self, is_alone: bool) -> Lease {
        Lease::new(Duration::from_millis(self.lease_ms), is_alone)
    }
}

/// Waits for SIGINT or SIGTERM.
pub async fn interrupted() {
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).ok();
    let terminated = async {
        match &mut term {
            Some(signal) => {
                signal.recv().await;
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

/// Begins nothing new, waits for what is under way, and says that this worker is gone.
pub async fn finish(dispatcher: &Arc<Dispatcher>) {
    if let Err(error) = dispatcher.finish().await {
        tracing::warn!(%error, "the worker's end is not recorded; others notice when its lease is over");
    }
}
