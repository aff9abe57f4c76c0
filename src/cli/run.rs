//! `campanile run PATH…`: the embedded home. Loads, reconciles, sends, and watches the folder.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Args as ClapArgs;
use jiff::Timestamp;

use super::{
    End,
    home::{self, Home, StoreArgs},
    requests,
    sending::{self, ListenArgs, SendArgs},
    summary,
};
use crate::{
    clock::Clock,
    reconcile::{Teller, World},
    rule::Dialect,
    run::advance,
    send::dispatch::Dispatcher,
    source::{
        Key, Kind,
        directory::{self, Folder, Marks},
        manifest::Diagnostic,
    },
    store::{self, Error, readonly::Readers},
};

/// How often `--until-idle` asks whether all is done.
const IDLE_LOOK: Duration = Duration::from_millis(50);
/// So many looks in a row must find nothing: a look may fall between a commit and the wake that follows it.
const IDLE_LOOKS: u32 = 4;
/// How long the end waits for the last readers of the store.
const CLOSE: Duration = Duration::from_secs(2);

#[derive(ClapArgs)]
pub struct Args {
    /// Folders or files with manifests.
    #[arg(required = true)]
    path: Vec<PathBuf>,
    #[command(flatten)]
    home: StoreArgs,
    #[command(flatten)]
    send: SendArgs,
    #[command(flatten)]
    listen: ListenArgs,
    /// End when nothing can proceed before a future time; 0 if everything is ready, succeeded and sent.
    #[arg(long)]
    until_idle: bool,
    /// Begin at this time instead of the machine's.
    #[arg(long, value_name = "T")]
    now: Option<Timestamp>,
}

pub async fn run(args: Args) -> End {
    match start(args).await {
        Ok(end) | Err(end) => end,
    }
}

async fn start(args: Args) -> Result<End, End> {
    let mut roots = vec![];
    for path in &args.path {
        roots.push(path.canonicalize().map_err(|e| End::Wrong(format!("{}: {e}", path.display()), None))?);
    }
    let mut home = Home::open(&args.home, true).await?;
    home.store = home.store.with_readers(Readers::own(&args.home.store));
    let _lock = home.lock()?;
    match home.store.enter(&home.id, &args.home.environment).await {
        Err(Error::NotMine(owner)) => {
            eprintln!("error: StoreNotMine: this store belongs to another home ({owner}); nothing is sent from it");
            eprintln!(
                "hint: if it was moved here on purpose, call `campanile store adopt --waiting cancel` or `--waiting keep`"
            );
            return Err(End::Failed);
        }
        other => other?,
    }
    let clock = args.now.map_or_else(Clock::system, Clock::starting_at);
    let marks = Marks::new(&home.state);
    home::check_marks(&home.store, home::read(&marks)?).await?;
    let folder = Arc::new(Folder::new(home.store.clone(), clock, roots, marks));
    let gate = &args.send.gate;
    let world = World::in_folder(&folder, &home.store, clock, gate.deliver.clone(), gate.allow_url.clone());
    folder.restore().await?;
    let (problems, _) = folder.load(true).await?;
    report(&problems);
    let providers = args.send.gate.providers(home.state.join("outbox"), world.reach.clone(), clock)?;
    // SQLite has one process that sends; on PostgreSQL workers may share it.
    let lease = args.send.lease(home.store.dialect() == Dialect::Sqlite);
    let dispatcher = Dispatcher::new(home.store.clone(), clock, providers, folder.clone(), world.clone(), lease);
    let dispatcher = Arc::new(dispatcher.with_places(world.clone()));
    args.listen.listen(&home.store, clock, folder.clone()).await?;
    spawn_all(&folder, &world, &dispatcher);
    let teller = Arc::new(Teller::new(world.clone(), args.send.gate.roots()?));
    tokio::spawn(teller.clone().run());
    let mut untold = vec![];
    if args.until_idle {
        until_idle(&world, &dispatcher).await?;
        untold = teller.tell_all().await;
        untold.iter().for_each(|problem| eprintln!("error: {problem}"));
        // Its datasets say so.
        until_idle(&world, &dispatcher).await?;
    } else {
        summary::until_interrupted(&world).await;
    }
    sending::finish(&dispatcher).await;
    let is_good = summary::print(&world).await?;
    // Who copies the file of a store that nobody has open copies all of it. Someone may still be reading.
    let _ = tokio::time::timeout(CLOSE, home.store.close()).await;
    let problems = folder.diagnostics();
    if !problems.is_empty() {
        let many = if problems.len() == 1 {
            "a manifest is wrong".to_owned()
        } else {
            format!("the manifests have {} errors", problems.len())
        };
        return Ok(End::Wrong(many, None));
    }
    Ok(if (is_good && untold.is_empty()) || !args.until_idle { End::Done } else { End::Failed })
}

fn spawn_all(folder: &Arc<Folder>, world: &Arc<World>, dispatcher: &Arc<Dispatcher>) {
    tokio::spawn(world.clone().run());
    tokio::spawn(dispatcher.clone().run());
    let (waking, woken) = (world.clone(), dispatcher.clone());
    tokio::spawn(async move {
        loop {
            waking.sends.notified().await;
            woken.wake.notify_one();
        }
    });
    let watching = world.clone();
    tokio::spawn(requests::take_all(world.clone()));
    let folder = folder.clone();
    tokio::spawn(async move {
        if let Err(error) = directory::watch(folder, watching, report).await {
            tracing::warn!(%error, "the folder is not watched; edits are seen at the next start");
        }
    });
}

fn report(problems: &[Diagnostic]) {
    problems.iter().for_each(|problem| eprintln!("{problem}"));
}

async fn until_idle(world: &Arc<World>, dispatcher: &Arc<Dispatcher>) -> store::Result<()> {
    let progress = summary::Progress::new();
    let mut quiet = 0;
    while quiet < IDLE_LOOKS {
        tokio::time::sleep(IDLE_LOOK).await;
        let is_idle = world.queue.is_idle() && dispatcher.is_idle().await?;
        quiet = if is_idle { quiet + 1 } else { 0 };
        if quiet == IDLE_LOOKS - 1 {
            // A run that ended between two looks is seen by this one.
            let open: Vec<Key> =
                world.catalog.all(Kind::CampaignRun).iter().filter(|o| !o.is_ready()).map(|o| o.key.clone()).collect();
            let unfinished = open_runs_to_look_at(world, &open).await?;
            if !unfinished.is_empty() {
                world.queue.wake(unfinished);
                quiet = 0;
            }
        }
        progress.show(world).await?;
    }
    progress.end();
    Ok(())
}

/// Runs whose messages all have outcomes while their state still says that they are being sent.
async fn open_runs_to_look_at(world: &World, keys: &[Key]) -> store::Result<Vec<Key>> {
    let mut found = vec![];
    for key in keys {
        if let Some(run) = world.store.run(&key.namespace, &key.name).await?
            && run.state == store::campaign::State::Sending
            && !world.store.is_unfinished(run.run_day, run.no).await?
            // One that is held goes on by a person's word.
            && run.reason != "Held"
            && can_go_on(world, &run).await?
        {
            found.push(key.clone());
        }
    }
    Ok(found)
}

/// Whether the run's `wait` is over, if it has one, and nothing holds it.
async fn can_go_on(world: &World, run: &store::campaign::Run) -> store::Result<bool> {
    let now = world.clock.now();
    match run.resume {
        None => Ok(true),
        Some(at) => Ok(at <= now && !advance::is_paused(&world.store, run, now).await?),
    }
}
