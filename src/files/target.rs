//! A file or an object that is written whole: who reads it finds what was there before, or all of what is there now.
//!
//! A file is written beside, synced, and renamed into place; an object is one upload that its store shows when it is
//! complete. What is not [committed](Pending::commit) leaves nothing. Of what was written its size and its hash are told.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use object_store::{ObjectStore, ObjectStoreExt, buffered::BufWriter as Upload};
use sha2::{Digest, Sha256};
use tokio::{io::AsyncWriteExt, runtime::Handle};

use super::address::plain_file;

/// A part of an upload. S3 takes 10,000 parts, so that this makes 80 GiB the largest object.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// Parts on their way at once: the limit of what an upload holds in memory.
const PARTS_AT_ONCE: usize = 2;

/// Where something is written.
#[derive(Clone)]
pub enum Target {
    File(PathBuf),
    Object(Object),
}

/// An object of a store that may be written.
#[derive(Clone)]
pub struct Object {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) path: object_store::path::Path,
    pub(super) runtime: Handle,
}

impl Target {
    /// The file that `url` names below `root`, whose folder is made. It cannot leave `root`, through links neither.
    ///
    /// # Errors
    /// Why it cannot be written there.
    pub fn local(root: &Path, url: &str) -> Result<Self, String> {
        let Some(relative) = plain_file(url) else {
            return Err(format!("`{url}` is not a file below {}", root.display()));
        };
        let path = root.join(relative);
        let folder = path.parent().unwrap_or(root);
        let failed = |error: io::Error| format!("`{url}`: {error}");
        fs::create_dir_all(folder).map_err(failed)?;
        let (real, root) = (folder.canonicalize().map_err(failed)?, root.canonicalize().map_err(failed)?);
        if !real.starts_with(&root) {
            return Err(format!("`{url}` leads out of {}", root.display()));
        }
        Ok(Self::File(path))
    }

    /// Where the file stands whose name this adds to: `a.csv` and `.manifest.json` make `a.csv.manifest.json`.
    #[must_use]
    pub fn beside(&self, suffix: &str) -> Self {
        match self {
            Self::File(path) => {
                let mut name = path.clone().into_os_string();
                name.push(suffix);
                Self::File(name.into())
            }
            Self::Object(object) => {
                let path = object_store::path::Path::from(format!("{}{suffix}", object.path));
                Self::Object(Object { path, ..object.clone() })
            }
        }
    }

    /// The bytes of what stands there, if anything does; blocks.
    ///
    /// # Errors
    /// If nobody can say.
    pub fn read(&self) -> io::Result<Option<Vec<u8>>> {
        match self {
            Self::File(path) => match fs::read(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                read => read.map(Some),
            },
            Self::Object(Object { store, path, runtime }) => {
                let read = async { store.get(path).await?.bytes().await };
                match runtime.block_on(read) {
                    Ok(bytes) => Ok(Some(bytes.to_vec())),
                    Err(object_store::Error::NotFound { .. }) => Ok(None),
                    Err(error) => Err(io::Error::other(super::remote::words(&error))),
                }
            }
        }
    }

    /// Takes away what stands there; blocks.
    ///
    /// # Errors
    /// If it may still be there.
    pub fn remove(&self) -> io::Result<()> {
        match self {
            Self::File(path) => match fs::remove_file(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            },
            Self::Object(Object { store, path, runtime }) => match runtime.block_on(store.delete(path)) {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(io::Error::other(super::remote::words(&error))),
            },
        }
    }

    /// Takes away what was begun here by processes that are gone, or soon will be: who still writes it fails. Parts that
    /// were sent to an object store go by its own rules.
    ///
    /// # Errors
    /// If they may still be there.
    pub fn sweep(&self) -> io::Result<()> {
        let Self::File(path) = self else { return Ok(()) };
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        let begun = format!(".{}.", name.to_string_lossy());
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let number = name.strip_prefix(&begun).and_then(|rest| rest.strip_suffix(".part"));
            if number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit())) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Begins to write; blocks, as all of [`Pending`] does.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn begin(&self) -> io::Result<Pending> {
        Ok(Pending {
            digest: Sha256::new(),
            bytes: 0,
            out: Some(match self {
                Self::File(path) => {
                    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                    let beside = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
                    Out::File(BufWriter::new(File::create(&beside)?), beside, path.clone())
                }
                Self::Object(object) => {
                    let upload = Upload::with_capacity(object.store.clone(), object.path.clone(), PART_BYTES);
                    Out::Object(upload.with_max_concurrency(PARTS_AT_ONCE), object.runtime.clone())
                }
            }),
        })
    }
}

/// What is being written.
pub struct Pending {
    /// Until it is committed.
    out: Option<Out>,
    digest: Sha256,
    bytes: u64,
}

/// What stands there now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub bytes: u64,
    /// In hexadecimal.
    pub sha256: String,
}

enum Out {
    File(BufWriter<File>, PathBuf, PathBuf),
    Object(Upload, Handle),
}

impl Pending {
    /// Gives it its name.
    ///
    /// # Errors
    /// If it is not whole there; nothing of it is left then.
    pub fn commit(mut self) -> io::Result<Written> {
        match &mut self.out {
            Some(Out::File(file, beside, path)) => {
                file.flush()?;
                file.get_ref().sync_all()?;
                fs::rename(&*beside, &*path)?;
                sync_folder(path)?;
            }
            Some(Out::Object(upload, runtime)) => runtime.block_on(upload.shutdown()).map_err(in_words)?,
            None => {}
        }
        self.out = None;
        let sha256 = std::mem::take(&mut self.digest).finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Written { bytes: self.bytes, sha256 })
    }
}

/// A rename is on the disk once the folder is.
#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

impl Write for Pending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = match &mut self.out {
            Some(Out::File(file, ..)) => file.write(bytes)?,
            Some(Out::Object(upload, runtime)) => runtime.block_on(upload.write(bytes)).map_err(in_words)?,
            None => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        self.digest.update(&bytes[..taken]);
        self.bytes += u64::try_from(taken).unwrap_or(0);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        // The parts of an object are as large as its store wants them, whoever flushes.
        if let Some(Out::File(file, ..)) = &mut self.out { file.flush() } else { Ok(()) }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        match self.out.take() {
            Some(Out::File(_, beside, _)) => drop(fs::remove_file(beside)),
            Some(Out::Object(mut upload, runtime)) => {
                // Parts that were sent would lie there, and cost, for ever.
                runtime.spawn(async move { upload.abort().await });
            }
            None => {}
        }
    }
}

/// What a store said, without what it wrote into its answer's body.
fn in_words(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<object_store::Error>());
    inner.map(super::remote::words).map_or(error, io::Error::other)
}
