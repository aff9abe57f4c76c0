//! A folder's home on this machine: the store, its lock, its id.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use clap::Args;

use super::End;
use crate::store::Store;

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
        let path = args.store.strip_prefix("sqlite://").map(Path::new);
        if let Some(path) = path
            && !may_create
            && !path.exists()
        {
            let hint = "call it in the folder where `campanile run` was called, or name the store with --store";
            return Err(End::Wrong(format!("there is no store at {}", path.display()), Some(hint.to_owned())));
        }
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
