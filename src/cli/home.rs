//! A folder's home on this machine: the store, its lock, its id.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use kube::Client;

use super::End;
use crate::{
    clock::Clock,
    source::{cluster::Cluster, directory::Marks},
    store::{Error, Store, campaign::Run, recovery::Mark, replica::STATEMENT_TIME_MAX},
};

/// State lives here, in the folder where the command is called.
const STATE: &str = ".campanile";

#[derive(Args, Clone)]
pub struct StoreArgs {
    /// The store: sqlite://PATH or postgres://USER@HOST/DATABASE.
    #[arg(long, value_name = "URL", default_value = "sqlite://.campanile/store.db")]
    pub store: String,
    /// The environment that the store belongs to.
    #[arg(long, value_name = "NAME", default_value = "local")]
    pub environment: String,
    /// The one namespace that this home is, where a cluster has several homes, each with a store of its own.
    #[arg(long, value_name = "NAMESPACE", env = "CAMPANILE_WATCH_NAMESPACE")]
    pub watch_namespace: Option<String>,
}

/// Where messages are written that do not leave.
pub fn outbox() -> PathBuf {
    Path::new(STATE).join("outbox")
}

/// An opened home.
pub struct Home {
    pub store: Store,
    pub id: String,
    pub state: PathBuf,
}

/// Whether the command is called in the folder of a home.
pub fn has_state() -> bool {
    Path::new(STATE).join("home").exists()
}

impl Home {
    /// Opens the store, making it if `may_create`.
    pub async fn open(args: &StoreArgs, may_create: bool) -> Result<Self, End> {
        let state = PathBuf::from(STATE);
        if !may_create {
            must_exist(args)?;
        }
        let path = args.store.strip_prefix("sqlite://").map(Path::new);
        let wrong = |what: &Path, error: std::io::Error| End::Wrong(format!("{}: {error}", what.display()), None);
        fs::create_dir_all(&state).map_err(|e| wrong(&state, e))?;
        if let Some(parent) = path.and_then(Path::parent) {
            fs::create_dir_all(parent).map_err(|e| wrong(parent, e))?;
        }
        let id = home_id(&state).map_err(|e| wrong(&state, e))?;
        let store = Store::open(&args.store).await.map_err(End::from)?;
        Ok(Self { store, id, state })
    }

    /// One `run` per store: the lock is released when the file is dropped, however the process ends.
    pub fn lock(&self) -> Result<File, End> {
        let path = self.state.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|e| End::Wrong(format!("{}: {e}", path.display()), None))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(_) => Err(End::Wrong(
                "another `campanile run` works on this store".to_owned(),
                Some("`get` and the handles work beside it".to_owned()),
            )),
        }
    }
}

/// A home that a command found: the folder's where it is called, or the cluster's.
pub struct Found {
    pub store: Store,
    pub id: String,
    pub cluster: Option<Arc<Cluster>>,
    /// How far each run had come, as the home remembers outside the store.
    pub marks: Vec<Mark>,
}

impl Found {
    pub async fn near(args: &StoreArgs) -> Result<Self, End> {
        if has_state() || args.store.starts_with("sqlite://") {
            let home = Home::open(args, false).await?;
            let marks = read(&Marks::new(&home.state))?;
            return Ok(Self { store: home.store, id: home.id, cluster: None, marks });
        }
        let no_home = |error: &dyn std::fmt::Display| {
            let hint = "call it in the folder of `campanile run`, or where a cluster is known";
            End::Wrong(format!("no home: {error}"), Some(hint.to_owned()))
        };
        let client = Client::try_default().await.map_err(|e| no_home(&e))?;
        let cluster = Arc::new(Cluster::new(client, args.watch_namespace.clone()));
        let id = cluster.id().await.map_err(|e| no_home(&e))?;
        let marks = cluster.marks().await.map_err(|e| no_home(&e))?;
        Ok(Self { store: Store::open(&args.store).await?, id, cluster: Some(cluster), marks })
    }
}

/// Refuses a run whose messages are gone.
pub fn must_be_kept(run: &Run) -> Result<(), End> {
    let hint = "how long they are is `retention.messages` of the Dataset";
    run.retirement().map_or(Ok(()), |message| Err(End::Wrong(message, Some(hint.to_owned()))))
}

/// The store of the home near by, if it is that home's.
pub async fn open_mine(args: &StoreArgs) -> Result<Store, End> {
    let found = Found::near(args).await?;
    match found.store.enter(&found.id, &args.environment).await {
        Ok(()) => Ok(found.store),
        Err(error) => Err(End::Wrong(error.to_string(), Some("see `campanile store adopt`".to_owned()))),
    }
}

/// The store alone, whosever it is: for what must work while everything else is down.
pub async fn open_store(args: &StoreArgs) -> Result<Store, End> {
    must_exist(args)?;
    Ok(Store::open(&args.store).await?)
}

/// The store, to look at it: nothing is written, and a role that may only read is enough.
pub async fn look_at_store(args: &StoreArgs) -> Result<Store, End> {
    must_exist(args)?;
    look_at(&args.store, STATEMENT_TIME_MAX).await
}

/// A store that is named, likewise; a statement takes at most `time_max`.
pub async fn look_at(url: &str, time_max: Duration) -> Result<Store, End> {
    Store::open_readonly_within(url, time_max).await.map_err(|error| match error {
        Error::Refused(message) => End::Wrong(message, None),
        other => other.into(),
    })
}

fn must_exist(args: &StoreArgs) -> Result<(), End> {
    match args.store.strip_prefix("sqlite://").map(Path::new).filter(|path| !path.exists()) {
        None => Ok(()),
        Some(path) => {
            let hint = "call it in the folder where `campanile run` was called, or name the store with --store";
            Err(End::Wrong(format!("there is no store at {}", path.display()), Some(hint.to_owned())))
        }
    }
}

pub fn read(marks: &Marks) -> Result<Vec<Mark>, End> {
    marks.all().map_err(|e| End::Wrong(format!("the mirror of the runs' progress: {e}"), None))
}

/// Holds a store that is behind what its home remembers.
pub async fn check_marks(store: &Store, marks: Vec<Mark>) -> Result<(), End> {
    let behind = store.behind(marks).await?;
    if behind.is_empty() {
        return Ok(());
    }
    store.hold_regressed(&behind, Clock::system().now()).await?;
    let many = if behind.len() == 1 { "a run has".to_owned() } else { format!("{} runs have", behind.len()) };
    eprintln!("error: StoreRegressed: {many} come further than this store knows; nothing is sent from it");
    eprintln!(
        "hint: if it was restored from a backup, call `campanile store recover`: what may have left since becomes InDoubt"
    );
    Err(End::Failed)
}

/// The home's id lies outside the store and holds its place: a copy of the store, or of the whole folder, is another home.
fn home_id(state: &Path) -> std::io::Result<String> {
    let file = state.join("home");
    let place = state.canonicalize()?;
    let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let random = match fs::read_to_string(&file) {
        Ok(text) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => {
            let fresh = format!("{:016x}", random());
            fs::write(&file, &fresh)?;
            fresh
        }
    };
    Ok(format!("folder {random} {} {}", place.display(), machine.trim()))
}

fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // Seeded by the operating system, and different in each process.
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
