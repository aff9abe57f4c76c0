//! Where the servers of a test process keep their files, and the watchdog that clears it all away.
//!
//! Servers are shared through statics, which Rust never drops, and a test process may be killed at any moment. So the
//! cleaning is not left to it: a small shell waits at the end of a pipe that only the test process holds open. However
//! that process ends, the pipe closes, and the shell ends the servers and removes the folder. Linux's parent-death
//! signal would not do: it fires when the *thread* that started the server ends, and each test has a thread of its own.

use std::fs::{self, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

/// `nobody` on Debian and most others: whom PostgreSQL and smtp-sink run as when the tests run as root, which both of
/// them refuse.
pub const NOBODY: u32 = 65_534;

/// In `running/` each server has a file: its name is the process id, its text the signal that ends it.
const WATCHDOG: &str = r#"
trap '' HUP INT TERM
read -r _
cd "$1/running" || exit 1
for server in [0-9]*; do kill -s "$(cat "$server")" "$server"; done
tries=100
while [ $tries -gt 0 ]; do
    alive=
    for server in [0-9]*; do kill -0 "$server" && alive=yes; done
    [ "$alive" ] || break
    tries=$((tries - 1))
    sleep 0.1
done
rm -rf "$1"
"#;

struct Scratch {
    root: PathBuf,
    /// Held for its end of the pipe.
    _watchdog: Child,
}

/// A new folder, named after `what`, that lives as long as the test process.
pub fn folder(what: &str) -> Result<PathBuf> {
    static MADE: AtomicU32 = AtomicU32::new(1);
    let folder = root()?.join(format!("{what}-{}", MADE.fetch_add(1, Ordering::Relaxed)));
    fs::DirBuilder::new().mode(0o700).create(&folder).with_context(|| format!("{}", folder.display()))?;
    Ok(folder)
}

/// A new folder for a server that refuses to run as root.
pub fn folder_for_nobody(what: &str) -> Result<PathBuf> {
    let folder = folder(what)?;
    if is_root() {
        chown(&folder, Some(NOBODY), Some(NOBODY))?;
    }
    Ok(folder)
}

/// Where the servers that the watchdog is to end are noted.
pub fn running() -> Result<PathBuf> {
    Ok(root()?.join("running"))
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

fn root() -> Result<&'static Path> {
    static SCRATCH: OnceLock<Result<Scratch>> = OnceLock::new();
    match SCRATCH.get_or_init(begin) {
        Ok(scratch) => Ok(&scratch.root),
        Err(problem) => Err(anyhow::anyhow!("{problem:#}")),
    }
}

fn begin() -> Result<Scratch> {
    // `keep`: the watchdog removes it.
    let root = tempfile::Builder::new().prefix("campanile-test-").tempdir()?.keep();
    // Others may pass through, for the sake of the folders that are not root's; each folder guards itself.
    fs::set_permissions(&root, Permissions::from_mode(0o711))?;
    fs::create_dir(root.join("running"))?;
    let watchdog = Command::new("sh")
        .args(["-c", WATCHDOG, "watchdog"])
        .arg(&root)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start sh")?;
    Ok(Scratch { root, _watchdog: watchdog })
}
