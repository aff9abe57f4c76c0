//! The programs of other projects that the tests run, found or installed; and the cache outside the clone.
//!
//! On a fresh Debian as root, `cargo test` alone is to be enough, so a missing package is installed on first use.
//! Elsewhere the failure says what to install.

use std::env;
use std::fs::{self, File};
use std::io::{Write, stderr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::scratch::is_root;

/// Where Debian keeps programs that are not on everyone's PATH.
const OTHER_FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// Debian keeps each major version of PostgreSQL in a folder of its own.
const POSTGRES_VERSIONS: &str = "/usr/lib/postgresql";

/// The path of `program`, after installing `package` (or several, with spaces between) if the machine lacks it and this process may.
pub fn program(program: &str, package: &str) -> Result<PathBuf> {
    if let Some(found) = find(program) {
        return Ok(found);
    }
    if !is_root() || find("apt-get").is_none() {
        bail!("{program} is missing: install PostgreSQL and Postfix (on Debian: apt-get install {package})");
    }
    let _alone = lock("install")?;
    // Another process may have installed it while this one waited.
    if find(program).is_none() {
        install(package)?;
    }
    find(program).with_context(|| format!("the package {package} is installed, but {program} is not in it"))
}

/// `${XDG_CACHE_HOME:-~/.cache}/campanile-test`: what is too costly to make again for every clone.
pub fn cache() -> Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || env::home_dir().map(|home| home.join(".cache"));
    let cache = base.or_else(home).context("neither XDG_CACHE_HOME nor HOME is set")?.join("campanile-test");
    fs::create_dir_all(&cache).with_context(|| format!("{}", cache.display()))?;
    Ok(cache)
}

/// Holds off other test processes until the file that this returns is closed.
pub fn lock(what: &str) -> Result<File> {
    let path = cache()?.join(format!("{what}.lock"));
    let file = File::options().create(true).append(true).open(&path)?;
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// Tells the person at the terminal why a test takes so long. Not with `eprintln!`, which the test runner captures.
pub fn announce(message: &str) {
    let _ = writeln!(stderr(), "campanile tests: {message}");
}

/// A virtual environment in the cache that has a package of pip's, and maybe its program; kept as it was tested.
pub fn python(package: &str) -> Result<PathBuf> {
    let folder = cache()?.join(package.replace(['[', ']', '='], "-"));
    let done = folder.join("installed");
    if done.is_file() {
        return Ok(folder);
    }
    let python = program("python3", "python3 python3-venv")?;
    let _alone = lock(package)?;
    if !done.is_file() {
        announce(&format!("installing {package} by pip"));
        let made = Command::new(&python).args(["-m", "venv"]).arg(&folder).output()?;
        ensure!(made.status.success(), "python3 -m venv: {}", String::from_utf8_lossy(&made.stdout));
        let pip = folder.join("bin/pip");
        let installed = Command::new(pip).args(["install", "--quiet", package]).output()?;
        ensure!(installed.status.success(), "pip: {}", String::from_utf8_lossy(&installed.stderr));
        File::create(&done)?;
    }
    Ok(folder)
}

/// A folder in the cache with the packages of a lockfile, installed by npm; kept as it was tested.
pub fn node(name: &str, manifest: &str, lockfile: &str) -> Result<PathBuf> {
    let hash = lockfile.bytes().fold(5_381_u64, |hash, byte| hash.wrapping_mul(33) ^ u64::from(byte));
    let folder = cache()?.join(format!("{name}-{hash:016x}"));
    let done = folder.join("installed");
    if done.is_file() {
        return Ok(folder);
    }
    let npm = program("npm", "nodejs npm")?;
    let _alone = lock(name)?;
    if !done.is_file() {
        announce(&format!("installing the packages of {name} by npm"));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("package.json"), manifest)?;
        fs::write(folder.join("package-lock.json"), lockfile)?;
        let installed = Command::new(npm).args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder).output()?;
        ensure!(installed.status.success(), "npm: {}", String::from_utf8_lossy(&installed.stderr));
        File::create(&done)?;
    }
    Ok(folder)
}

fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path);
    on_path
        .chain(OTHER_FOLDERS.map(PathBuf::from))
        .chain(postgres_folders())
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// The newest first.
fn postgres_folders() -> Vec<PathBuf> {
    let versions = fs::read_dir(POSTGRES_VERSIONS).into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> =
        versions.filter_map(|entry| Some((major(&entry.path())?, entry.path()))).collect();
    versions.sort_unstable();
    versions.into_iter().rev().map(|(_, path)| path.join("bin")).collect()
}

fn major(folder: &Path) -> Option<u32> {
    folder.file_name()?.to_str()?.parse().ok()
}

fn install(package: &str) -> Result<()> {
    announce(&format!("installing the Debian package {package}"));
    preseed()?;
    run_apt(&["update", "--quiet"])?;
    let packages: Vec<&str> = package.split(' ').collect();
    run_apt(&[&["install", "--quiet", "--yes", "--no-install-recommends"], packages.as_slice()].concat())
}

/// Postfix is wanted for `smtp-sink` alone. Unconfigured, its daemon does not start, now or at boot.
fn preseed() -> Result<()> {
    let mut debconf = Command::new("debconf-set-selections").stdin(Stdio::piped()).spawn()?;
    let mut answers = debconf.stdin.take().context("debconf-set-selections has no input")?;
    answers.write_all(b"postfix postfix/main_mailer_type select No configuration\n")?;
    drop(answers);
    ensure!(debconf.wait()?.success(), "debconf-set-selections failed");
    Ok(())
}

fn run_apt(arguments: &[&str]) -> Result<()> {
    let status = Command::new("apt-get")
        .args(["-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Single-user mode, in which Debian's packages start no daemon.
        .env("RUNLEVEL", "1")
        .stdin(Stdio::null())
        .stdout(stderr())
        .status()
        .context("cannot run apt-get")?;
    ensure!(status.success(), "apt-get {} failed with {status}", arguments.join(" "));
    Ok(())
}
