//! A Maildir: mail that another server delivers for us. What is read moves from `new/` to `cur/`.
//!
//! A mail moves once what it says is on the disk. After a crash between the two it is read again, and changes nothing.

use std::{
    fs, io,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{intake::Intake, post};

/// How often is looked for new mail.
const LOOK: Duration = Duration::from_secs(1);
/// Mails of one look; their beginnings are in memory together.
const AT_ONCE: usize = 200;

/// A folder with `new` and `cur`.
#[derive(Clone, Debug)]
pub struct Maildir(PathBuf);

impl Maildir {
    /// # Errors
    /// If it is not a Maildir.
    pub fn open(path: &Path) -> Result<Self, String> {
        match ["new", "cur"].iter().find(|part| !path.join(part).is_dir()) {
            Some(lost) => Err(format!("{} is no Maildir: it has no folder `{lost}`", path.display())),
            None => Ok(Self(path.to_owned())),
        }
    }

    /// Reads mail until the process ends.
    pub async fn watch(self, intake: Intake) {
        loop {
            match self.take(&intake).await {
                // There may be more.
                Ok(taken) if taken == AT_ONCE => continue,
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "mail is not read; trying again"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Reads what is new, at most so much; how many mails it was.
    ///
    /// # Errors
    /// The folder cannot be read, or the store does not take what was told: then the mail stays.
    pub async fn take(&self, intake: &Intake) -> Result<usize, String> {
        let folder = self.0.join("new");
        let mails = tokio::task::spawn_blocking(move || read_new(&folder)).await.map_err(|e| e.to_string())?;
        let mails = mails.map_err(|e| e.to_string())?;
        let now = intake.clock.now();
        let facts = mails.iter().map(|(_, raw)| post::fact(raw, &delivered_to(raw), now)).collect();
        if mails.is_empty() {
            return Ok(0);
        }
        intake.tell(facts).await?;
        let count = mails.len();
        for (path, _) in mails {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // In `cur` a name says what was done with it: seen.
            let name = if name.contains(":2,") { name.into_owned() } else { format!("{name}:2,S") };
            if let Err(error) = fs::rename(&path, self.0.join("cur").join(name)) {
                tracing::warn!(%error, "a mail that was read does not move; it is read again");
            }
        }
        Ok(count)
    }
}

fn read_new(folder: &Path) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut paths = vec![];
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() && !entry.file_name().to_string_lossy().starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort_unstable();
    paths.truncate(AT_ONCE);
    let mut mails = vec![];
    for path in paths {
        let mut raw = vec![];
        match fs::File::open(&path) {
            Ok(file) => drop(file.take(post::KEPT_BYTES_MAX as u64).read_to_end(&mut raw)?),
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        }
        mails.push((path, raw));
    }
    Ok(mails)
}

/// The addresses that the server wrote in front of the mail.
fn delivered_to(raw: &[u8]) -> Vec<String> {
    let head = raw.get(..raw.len().min(8_192)).unwrap_or_default();
    let head = String::from_utf8_lossy(head);
    let named = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let is_named = ["Delivered-To", "X-Original-To", "Envelope-To"].iter().any(|n| n.eq_ignore_ascii_case(name));
        is_named.then(|| value.trim().trim_matches(['<', '>']).to_owned())
    };
    head.lines().take_while(|line| !line.is_empty()).filter_map(named).take(8).collect()
}
