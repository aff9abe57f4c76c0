//! `campanile worker`: a process that only sends. It shares the runs of its home with any number of others; losing one
//! loses nothing.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use clap::Args as ClapArgs;

use super::{
    End,
    home::{Found, StoreArgs, check_marks},
    sending::{self, SendArgs},
};
use crate::{
    clock::Clock,
    send::{
        dispatch::{Dispatcher, Secrets, Watch},
        providers::Secret,
    },
    source::{cluster::Cluster, secret_of_environment},
};

#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    home: StoreArgs,
    #[command(flatten)]
    send: SendArgs,
    /// Where the outbox is written.
    #[arg(long, value_name = "DIR", default_value = ".campanile/outbox")]
    outbox: PathBuf,
}

/// The cluster's Secrets, or those of the environment.
pub(super) struct Known(pub(super) Option<Arc<Cluster>>);

#[async_trait]
impl Secrets for Known {
    async fn secret(&self, namespace: &str, name: &str) -> Option<Secret> {
        let secret = match &self.0 {
            Some(cluster) => cluster.secret(namespace, name).await.unwrap_or_default(),
            None => Secret::default(),
        };
        secret_of_environment(name, secret)
    }
}

/// Status is the controller's; it sees in the store what happened.
struct Nobody;

impl Watch for Nobody {
    fn progressed(&self, _namespace: &str, _run: &str) {}
}

pub async fn run(args: Args) -> End {
    match start(args).await {
        Ok(end) | Err(end) => end,
    }
}

async fn start(args: Args) -> Result<End, End> {
    let Found { store, id, cluster, marks } = Found::near(&args.home).await?;
    store.enter(&id, &args.home.environment).await?;
    check_marks(&store, marks).await?;
    let (clock, reach) = (Clock::system(), args.send.gate.reach(cluster.is_some()));
    let providers = args.send.gate.providers(args.outbox, reach, clock)?;
    let secrets = Arc::new(Known(cluster));
    let lease = args.send.lease(false);
    let dispatcher = Arc::new(Dispatcher::new(store, clock, providers, secrets, Arc::new(Nobody), lease));
    tokio::spawn(dispatcher.clone().run());
    tracing::info!(worker = dispatcher.worker, deliver = args.send.gate.deliver.word(), "the worker runs");
    sending::interrupted().await;
    sending::finish(&dispatcher).await;
    Ok(End::Done)
}
