//! Where files are, and what is there: a folder of this machine, or an object store.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{Input, arrivals::Arrivals, remote::Remote};

/// A writer that pauses longer inside one file should rename it into place.
pub const SETTLED: Duration = Duration::from_millis(500);
/// More files under one source are likely a wrong folder.
pub(super) const FILES_MAX: usize = 100_000;

/// A file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Relative to the manifest's folder, or the URL of an object: what the store remembers it by.
    pub name: String,
    /// What changes when it is rewritten.
    pub stamp: String,
    pub modified: SystemTime,
    /// When it came to where it is.
    pub appeared: SystemTime,
    /// How long it must stay unchanged before it is read; nothing if it has.
    pub settles_in: Duration,
    pub(super) at: At,
}

/// How a file is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum At {
    Path(PathBuf),
    Object(object_store::path::Path, u64),
}

/// Where an entity's files are.
#[derive(Clone, Debug)]
pub enum Site {
    Folder(Folder),
    Remote(Remote),
}

/// A folder or a file of this machine.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
    base: PathBuf,
    url: String,
}

impl Site {
    /// A folder or a file; `url` is relative to `base` and cannot leave `root`.
    pub fn local(root: &Path, base: &Path, url: &str) -> Self {
        Self::Folder(Folder { root: root.to_owned(), base: base.to_owned(), url: url.to_owned() })
    }

    /// What is there, by name; hidden files are not.
    ///
    /// # Errors
    /// Why it cannot be looked at, in words.
    pub async fn look(&self, arrivals: &Arrivals) -> Result<Vec<Found>, String> {
        let folder = match self {
            Self::Remote(remote) => return remote.look().await,
            Self::Folder(folder) => folder.clone(),
        };
        let arrivals = arrivals.clone();
        let found = tokio::task::spawn_blocking(move || folder.look(&arrivals)).await;
        found.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }

    /// Opens a file that was found; blocks. `is_stream` says that it is read from its beginning to its end.
    ///
    /// # Errors
    /// If it is no longer there.
    pub fn open(&self, found: &Found, is_stream: bool) -> Result<Input, String> {
        match (self, &found.at) {
            (Self::Folder(_), At::Path(path)) => File::open(path).map(Input::File).map_err(|e| e.to_string()),
            (Self::Remote(remote), At::Object(path, size)) => remote.open(path, *size, &found.stamp, is_stream),
            _ => Err("it is in another place".to_owned()),
        }
    }
}

impl Folder {
    fn look(&self, arrivals: &Arrivals) -> io::Result<Vec<Found>> {
        let url = &self.url;
        let wanted = self.base.join(url.trim_start_matches("file://"));
        let lost = |e: io::Error| io::Error::new(e.kind(), format!("`{url}`: {e}"));
        let real = wanted.canonicalize().map_err(lost)?;
        let root = self.root.canonicalize()?;
        if !real.starts_with(&root) {
            let message = format!("`{url}` leads out of {}", self.root.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        let mut paths = vec![];
        if real.is_dir() {
            for entry in fs::read_dir(&real)? {
                let path = entry?.path();
                let is_hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
                // A link may lead anywhere; what it leads to must be inside, too.
                if !is_hidden && path.is_file() && path.canonicalize()?.starts_with(&root) {
                    paths.push(path);
                }
            }
        } else {
            paths.push(real.clone());
        }
        if paths.len() > FILES_MAX {
            return Err(io::Error::other(format!("`{url}` holds more than {FILES_MAX} files")));
        }
        paths.sort();
        paths.into_iter().map(|path| self.found(&real, path, arrivals)).collect()
    }

    fn found(&self, real: &Path, path: PathBuf, arrivals: &Arrivals) -> io::Result<Found> {
        let meta = fs::metadata(&path)?;
        let modified = meta.modified()?;
        let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        // A time of change in the future cannot be waited for: the file counts as settled.
        let age = modified.elapsed().unwrap_or(SETTLED);
        let is_renamed = arrivals.was_renamed(&path, modified);
        let name = match path.strip_prefix(real) {
            Ok(inside) if !inside.as_os_str().is_empty() => {
                format!("{}/{}", self.url.trim_end_matches('/'), inside.display())
            }
            _ => self.url.clone(),
        };
        Ok(Found {
            name,
            stamp: format!("{}:{}", meta.len(), since.as_nanos()),
            modified,
            appeared: appeared(&meta).max(modified),
            settles_in: if is_renamed { Duration::ZERO } else { SETTLED.saturating_sub(age) },
            at: At::Path(path),
        })
    }
}

/// When a file came to where it is: a copy may keep its time of change, but not that of its status.
#[cfg(unix)]
fn appeared(meta: &fs::Metadata) -> SystemTime {
    use std::os::unix::fs::MetadataExt;
    let (s, ns) = (u64::try_from(meta.ctime()).unwrap_or(0), u64::try_from(meta.ctime_nsec()).unwrap_or(0));
    UNIX_EPOCH + Duration::from_secs(s) + Duration::from_nanos(ns)
}

#[cfg(not(unix))]
fn appeared(_: &fs::Metadata) -> SystemTime {
    UNIX_EPOCH
}
