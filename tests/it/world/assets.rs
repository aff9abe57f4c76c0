//! The binaries of the control plane: those that `KUBEBUILDER_ASSETS` names, or ours, built once from
//! `tests/apiserver` and kept in the cache.

use std::env;
use std::fs;
use std::io::stderr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use super::install::{announce, cache, lock};

const PROGRAMS: [&str; 3] = ["etcd", "kube-apiserver", "kube-controller-manager"];

/// The path of one of the control plane's programs; builds them all on first use (minutes).
///
/// A folder of official binaries usually lacks the controller manager; that one is then ours.
pub async fn program(name: &'static str) -> Result<PathBuf> {
    if let Some(given) = given().map(|folder| folder.join(name)).filter(|path| path.is_file()) {
        return Ok(given);
    }
    let folder = tokio::task::spawn_blocking(built).await??;
    Ok(folder.join(name))
}

/// `KUBEBUILDER_ASSETS`, if an API server can be started from it.
fn given() -> Option<PathBuf> {
    let folder = PathBuf::from(env::var_os("KUBEBUILDER_ASSETS")?);
    ["etcd", "kube-apiserver"].iter().all(|name| folder.join(name).is_file()).then_some(folder)
}

fn built() -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apiserver");
    let folder = cache()?.join(format!("kube-{}", hash(&source)?));
    if folder.is_dir() {
        return Ok(folder);
    }
    let _alone = lock("kube")?;
    // Another process may have built it while this one waited.
    if !folder.is_dir() {
        build(&source, &folder)?;
    }
    Ok(folder)
}

/// Of everything that decides what is built: the code and the exact versions of its modules.
fn hash(source: &Path) -> Result<String> {
    let mut files: Vec<PathBuf> = fs::read_dir(source)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|end| ["go", "mod", "sum"].iter().any(|known| end == *known)));
    files.sort_unstable();
    let mut hash = Sha256::new();
    for file in files {
        hash.update(fs::read(file)?);
    }
    Ok(hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

/// Builds beside the final place and renames, so that a folder that is there is whole.
fn build(source: &Path, folder: &Path) -> Result<()> {
    announce(
        "building kube-apiserver from source, once for this machine (4 to 7 minutes on 2 cores, 3.5 GB of Go's caches)",
    );
    let started = Instant::now();
    let partial = folder.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir(&partial)?;
    go_build(source, &partial.join("kube"))?;
    for name in PROGRAMS {
        symlink("kube", partial.join(name))?;
    }
    fs::rename(&partial, folder)?;
    announce(&format!("built {} in {} s", folder.display(), started.elapsed().as_secs()));
    Ok(())
}

fn go_build(source: &Path, output: &Path) -> Result<()> {
    let status = Command::new("go")
        .args(["build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o"])
        .args([output, Path::new(".")])
        .current_dir(source)
        .stdin(Stdio::null())
        .stdout(stderr())
        .status()
        .context("cannot run go: install Go 1.26 or later, or set KUBEBUILDER_ASSETS to a folder with etcd and kube-apiserver")?;
    ensure!(status.success(), "go build in {} failed with {status}", source.display());
    Ok(())
}
