//! Files that were renamed into place, as the operating system said: they are whole, and read at once.

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::SystemTime,
};

/// A file is read soon after it was renamed; more of them than this wait for their time like others.
const KEPT: usize = 10_000;

/// The renames that were seen. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    renamed: Arc<Mutex<VecDeque<(PathBuf, SystemTime)>>>,
}

impl Arrivals {
    /// Notes a notification of the operating system.
    pub fn note(&self, event: &notify::Event) {
        use notify::event::{EventKind, ModifyKind, RenameMode};
        let EventKind::Modify(ModifyKind::Name(RenameMode::To)) = event.kind else { return };
        for path in &event.paths {
            // Written to after its rename, it is like any other file that is being written.
            let Ok(modified) = fs::metadata(path).and_then(|meta| meta.modified()) else { continue };
            let Ok(mut renamed) = self.renamed.lock() else { return };
            if renamed.len() == KEPT {
                renamed.pop_front();
            }
            renamed.push_back((path.clone(), modified));
        }
    }

    /// Whether a file was renamed to this name and has not been written to since.
    pub fn was_renamed(&self, path: &Path, modified: SystemTime) -> bool {
        self.renamed.lock().is_ok_and(|renamed| renamed.iter().any(|(p, m)| p == path && *m == modified))
    }
}
