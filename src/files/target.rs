//! A file or an object that is written whole: who reads it finds what was there before, or all of what is there now.
//!
//! A file is written beside, synced, and renamed into place; an object is one upload that its store shows when it is
//! complete. What is not [committed](Pending::commit) leaves nothing.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use object_store::{ObjectStore, buffered::BufWriter as Upload};
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

    /// Begins to write; blocks, as all of [`Pending`] does.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn begin(&self) -> io::Result<Pending> {
        Ok(Pending {
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
    pub fn commit(mut self) -> io::Result<()> {
        match &mut self.out {
            Some(Out::File(file, beside, path)) => {
                file.flush()?;
                file.get_ref().sync_all()?;
                fs::rename(beside, path)?;
            }
            Some(Out::Object(upload, runtime)) => runtime.block_on(upload.shutdown()).map_err(in_words)?,
            None => {}
        }
        self.out = None;
        Ok(())
    }
}

impl Write for Pending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.out {
            Some(Out::File(file, ..)) => file.write(bytes),
            Some(Out::Object(upload, runtime)) => runtime.block_on(upload.write(bytes)).map_err(in_words),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
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
