//! What every sending process is told: which messages may leave it, whom to trust, and for how long it holds its work.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::Router;
use clap::Args;
use tokio::net::TcpListener;

use super::{End, inbound::MailArgs};
use crate::{
    clock::Clock,
    feedback::{Desk, intake::Intake, server},
    files::reach::{AllowedUrl, Reach},
    metrics,
    send::{
        dispatch::{Dispatcher, LEASE, Secrets},
        gate::Gate,
        lease::Lease,
        providers::Providers,
    },
    store::Store,
};

/// Answers on an address until the process ends; the one that it is bound to.
async fn serve(flag: &'static str, address: SocketAddr, app: Router) -> Result<SocketAddr, End> {
    let wrong = |problem: String| End::Wrong(format!("{flag} {problem}"), None);
    let listener = TcpListener::bind(address).await.map_err(|e| wrong(format!("{address}: {e}")))?;
    let bound = listener.local_addr().map_err(|e| wrong(e.to_string()))?;
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(%error, flag, "the listener ended");
        }
    });
    Ok(bound)
}

/// The way out of a process.
#[derive(Args)]
pub struct GateArgs {
    /// What happens to messages: outbox, live, redirect=ADDRESS,… (a mailbox, a phone), allowlist=ADDRESS,@DOMAIN,….
    #[arg(long, value_name = "MODE", default_value = "outbox")]
    pub deliver: Gate,
    /// A file with certificates to trust beside the system's, in PEM.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// URLs that resources may reach: `NAMESPACE=PREFIX`, or `PREFIX` for every namespace. In a cluster no others are
    /// reached. A prefix that names a host lets it have a private address, or `http://127.0.0.1:9000/` no encryption.
    #[arg(long, value_name = "[NAMESPACE=]PREFIX")]
    pub allow_url: Vec<AllowedUrl>,
}

#[derive(Args)]
pub struct SendArgs {
    #[command(flatten)]
    pub gate: GateArgs,
    /// How long, in milliseconds, a worker's beat must stand still before others take over its work.
    #[arg(long, value_name = "MS", default_value_t = u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX),
          value_parser = clap::value_parser!(u64).range(100..=3_600_000))]
    lease_ms: u64,
}

#[derive(Args)]
pub struct ListenArgs {
    /// Answers people who withdraw or choose, and other systems, on this address; `publicUrl` of a Channel is how it is reached from outside.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Serves Prometheus' metrics on this address, under /metrics.
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    #[command(flatten)]
    mail: MailArgs,
}

impl ListenArgs {
    /// Listens where it is told to.
    pub async fn listen(&self, store: &Store, clock: Clock, secrets: Arc<dyn Secrets>) -> Result<(), End> {
        if self.listen.is_none() && self.mail.is_empty() {
            return self.serve_metrics(store, clock).await;
        }
        let intake = Intake::begin(store.clone(), clock).await?;
        self.mail.begin(&intake).await?;
        if let Some(address) = self.listen {
            let desk = Desk::new(store.clone(), clock, secrets).await;
            let desk = desk.map_err(|e| End::Wrong(format!("--listen {e}"), None))?;
            eprintln!("listening on http://{}", serve("--listen", address, server::app(desk, intake)).await?);
        }
        self.serve_metrics(store, clock).await
    }

    /// Whether nothing is listened to.
    pub fn is_empty(&self) -> bool {
        self.listen.is_none() && self.mail.is_empty()
    }

    async fn serve_metrics(&self, store: &Store, clock: Clock) -> Result<(), End> {
        if let Some(address) = self.metrics {
            let app = metrics::app(store.clone(), clock);
            eprintln!("metrics on http://{}/metrics", serve("--metrics", address, app).await?);
        }
        Ok(())
    }
}

impl GateArgs {
    /// The ways out of this process.
    pub fn providers(&self, outbox: PathBuf, reach: Arc<Reach>, clock: Clock) -> Result<Providers, End> {
        Ok(Providers::new(self.deliver.clone(), outbox, self.roots()?, reach, clock))
    }

    /// Certificates to trust beside the system's.
    pub fn roots(&self) -> Result<Vec<Vec<u8>>, End> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|error| End::Wrong(format!("{}: {error}", path.display()), None))
        };
        self.ca.iter().map(read).collect()
    }

    /// What resources may reach by HTTP.
    pub fn reach(&self, is_cluster: bool) -> Arc<Reach> {
        Arc::new(Reach { is_cluster, urls: self.allow_url.clone(), tables: vec![] })
    }
}

impl SendArgs {
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
