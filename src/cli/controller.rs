//! `campanile controller`: the cluster home, on PostgreSQL.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Args as ClapArgs;
use kube::Client;
use tokio::sync::Notify;

use super::{
    End, requests,
    sending::{self, ListenArgs, SendArgs},
};
use crate::{
    clock::Clock,
    files::{
        Arrivals,
        reach::{AllowedSchema, Reach},
    },
    reconcile::{self, Loaded, Queue, Teller, World},
    send::dispatch::Dispatcher,
    source::{Kind, catalog::Catalog, cluster::Cluster},
    store::{Error, Store, readonly::Readers},
};

#[derive(ClapArgs)]
pub struct Args {
    /// The store: postgres://USER@HOST/DATABASE.
    #[arg(long, value_name = "URL", env = "CAMPANILE_STORE")]
    store: String,
    /// The environment that the store belongs to, such as production.
    #[arg(long, value_name = "NAME")]
    environment: String,
    /// Watch only this namespace: a cluster may have several homes, each with a store of its own.
    #[arg(long, value_name = "NAMESPACE", env = "CAMPANILE_WATCH_NAMESPACE")]
    watch_namespace: Option<String>,
    #[command(flatten)]
    send: SendArgs,
    #[command(flatten)]
    listen: ListenArgs,
    /// Where relative file URLs of datasets begin.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Database schemas whose tables datasets may read: `NAMESPACE=SCHEMA`, or `SCHEMA` for every namespace; none unless said.
    #[arg(long, value_name = "[NAMESPACE=]SCHEMA")]
    allow_table: Vec<AllowedSchema>,
    /// Where audiences are exported to and files of letters are written, a folder below for each namespace; without it exports are refused.
    #[arg(long, value_name = "DIR")]
    exports: Option<PathBuf>,
    /// Lets the authors of a namespace write `sql:` audiences; each statement is run read-only over a connection of
    /// this URL, and may read what its role may. May be given several times.
    #[arg(long, value_name = "NAMESPACE=URL", env = "CAMPANILE_SQL", value_delimiter = ' ', hide_env_values = true)]
    sql: Vec<String>,
    /// Where the outbox is written.
    #[arg(long, value_name = "DIR", default_value = ".campanile/outbox")]
    outbox: PathBuf,
    /// How long, in milliseconds, an object must have stood as it is before a run starts on it: a commit arrives in pieces.
    #[arg(long, value_name = "MS", default_value_t = 2_000)]
    settle_ms: u64,
}

pub async fn run(args: Args) -> End {
    match start(args).await {
        Ok(end) | Err(end) => end,
    }
}

async fn start(args: Args) -> Result<End, End> {
    let wrong = |what: &str, error: &dyn std::fmt::Display| End::Wrong(format!("{what}: {error}"), None);
    let client = Client::try_default().await.map_err(|e| wrong("no cluster", &e))?;
    let cluster = Arc::new(Cluster::new(client, args.watch_namespace));
    let home = cluster.id().await.map_err(|e| wrong("no cluster", &e))?;
    let readers = Readers::by_namespace(&args.sql).map_err(|e| End::Wrong(format!("--sql: {e}"), None))?;
    let store = Store::open(&args.store).await?.with_readers(readers);
    let not_mine = match store.enter(&home, &args.environment).await {
        Err(Error::NotMine(owner)) => {
            Some(format!("this store belongs to another home ({owner}); nothing is sent from it"))
        }
        other => {
            other?;
            None
        }
    };
    let clock = Clock::system();
    if not_mine.is_none() {
        let marks = cluster.marks().await.map_err(|e| wrong("no cluster", &e))?;
        let behind = store.behind(marks).await?;
        if !behind.is_empty() {
            // It goes on, so that the objects say why nothing is sent.
            tracing::error!(runs = behind.len(), "StoreRegressed: call `campanile store recover`");
            store.hold_regressed(&behind, clock.now()).await?;
        }
    }
    let is_mine = not_mine.is_none();
    let world = Arc::new(World {
        catalog: Catalog::default(),
        source: cluster.clone(),
        store: store.clone(),
        clock,
        gate: args.send.gate.deliver.clone(),
        queue: Queue::default(),
        sends: Notify::new(),
        settle: Duration::from_millis(args.settle_ms),
        data: args.data,
        exports: args.exports,
        not_mine,
        loaded: Loaded::default(),
        arrivals: Arrivals::default(),
        reach: Arc::new(Reach { is_cluster: true, urls: args.send.gate.allow_url.clone(), tables: args.allow_table }),
        secrets: cluster.clone(),
    });
    cluster.attach(&world);
    for kind in Kind::ALL {
        tokio::spawn(cluster.clone().watch(kind));
    }
    tokio::spawn(world.clone().run());
    let watching = world.clone();
    tokio::spawn(async move {
        if let Err(error) = reconcile::watch_data(watching).await {
            tracing::warn!(%error, "the data directory is not watched; files are seen at each poll");
        }
    });
    if is_mine {
        tokio::spawn(requests::take_all(world.clone()));
        tokio::spawn(Arc::new(Teller::new(world.clone(), args.send.gate.roots()?)).run());
    }
    let mut sending = None;
    if is_mine {
        args.listen.listen(&store, clock, cluster.clone()).await?;
        let providers = args.send.gate.providers(args.outbox, world.reach.clone(), clock)?;
        let dispatcher = Dispatcher::new(store, clock, providers, cluster, world.clone(), args.send.lease(false));
        let dispatcher = Arc::new(dispatcher.with_places(world.clone()));
        tokio::spawn(dispatcher.clone().run());
        sending = Some(dispatcher.clone());
        let waking = world.clone();
        tokio::spawn(async move {
            loop {
                waking.sends.notified().await;
                dispatcher.wake.notify_one();
            }
        });
    }
    tracing::info!(environment = args.environment, deliver = world.gate.word(), "the controller runs");
    sending::interrupted().await;
    if let Some(dispatcher) = sending {
        sending::finish(&dispatcher).await;
    }
    Ok(End::Done)
}
