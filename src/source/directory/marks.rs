//! The mirror of each run's high water: one small file per run, outside the store, so that a store restored from a
//! backup is found to be behind.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Mutex,
};

use crate::{api::campaign_run::HighWater, store::recovery::Mark};

/// `marks/<namespace>/<run>.json` in the home's state folder.
pub struct Marks {
    folder: PathBuf,
    written: Mutex<HashMap<PathBuf, HighWater>>,
}

impl Marks {
    pub fn new(state: &Path) -> Self {
        Self { folder: state.join("marks"), written: Mutex::default() }
    }

    /// Writes a mark if it is new. It is on the disk when this returns.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn put(&self, mark: &Mark) -> io::Result<()> {
        let path = self.folder.join(&mark.namespace).join(format!("{}.json", mark.run));
        let is_known = self.written.lock().is_ok_and(|written| written.get(&path) == Some(&mark.water));
        if is_known {
            return Ok(());
        }
        let parent = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(parent)?;
        let fresh = path.with_extension("new");
        let mut file = File::create(&fresh)?;
        file.write_all(mark.to_json().to_string().as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        if let Ok(mut written) = self.written.lock() {
            written.insert(path, mark.water);
        }
        Ok(())
    }

    /// Every mark of this home.
    ///
    /// # Errors
    /// When the folder is there and cannot be read, or holds a file that is no mark.
    pub fn all(&self) -> io::Result<Vec<Mark>> {
        let mut marks = vec![];
        if !self.folder.exists() {
            return Ok(marks);
        }
        for namespace in fs::read_dir(&self.folder)? {
            for entry in fs::read_dir(namespace?.path())? {
                let path = entry?.path();
                if path.extension().is_none_or(|e| e != "json") {
                    continue;
                }
                let mark = serde_json::from_str(&fs::read_to_string(&path)?).ok().as_ref().and_then(Mark::of_json);
                let no_mark = || io::Error::other(format!("{} is no mark of a run", path.display()));
                marks.push(mark.ok_or_else(no_mark)?);
            }
        }
        Ok(marks)
    }
}
