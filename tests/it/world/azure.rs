//! Azure's blob store: Azurite, its own emulator, installed by npm into the cache on first use.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use ring::hmac;

use super::{
    free_port,
    install::{announce, cache, lock, program},
    process::{Process, Signal},
    scratch,
};

const AZURITE: &str = "azurite@3.35.0";
const START: Duration = Duration::from_secs(60);
/// The account that every emulator has, and its key, which is no secret.
pub const ACCOUNT: &str = "devstoreaccount1";
pub const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const VERSION: &str = "2021-08-06";

/// A server on loopback that knows no containers yet.
pub struct Azure {
    port: u16,
    _server: Process,
}

impl Azure {
    pub async fn start() -> Result<Self> {
        let azurite = tokio::task::spawn_blocking(installed).await??;
        let port = free_port();
        let folder = scratch::folder("azure")?;
        let mut command = Command::new(program("node", "nodejs")?);
        command.arg(azurite).args([
            "--blobHost",
            "127.0.0.1",
            "--blobPort",
            &port.to_string(),
            "--inMemoryPersistence",
        ]);
        command.args(["--skipApiVersionCheck", "--silent", "--disableTelemetry"]).current_dir(&folder);
        let server = Process::start(&mut command, &folder.join("log"), Signal::Kill)?;
        let listens = || async {
            super::listens(port).await?;
            Ok(())
        };
        server.ready("the blob store", START, listens).await?;
        Ok(Self { port, _server: server })
    }

    /// Where it is reached: an emulator has its account in the path.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/{ACCOUNT}", self.port)
    }

    pub fn make_container(&self, name: &str) -> Result<()> {
        self.put(&format!("{name}?restype=container"), &format!("{name}\nrestype:container"), b"", "")
    }

    /// Puts a blob: `container/name`.
    pub fn put_blob(&self, path: &str, body: &[u8]) -> Result<()> {
        self.put(path, path, body, "x-ms-blob-type:BlockBlob\n")
    }

    /// A request as its account signs it ("Authorize with Shared Key", Azure Storage's REST API).
    fn put(&self, path: &str, resource: &str, body: &[u8], headers: &str) -> Result<()> {
        let date = Command::new("date").env("LC_ALL", "C").args(["-u", "+%a, %d %b %Y %H:%M:%S GMT"]).output()?;
        let date = String::from_utf8(date.stdout)?.trim().to_owned();
        let length = if body.is_empty() { String::new() } else { body.len().to_string() };
        let headers = format!("{headers}x-ms-date:{date}\nx-ms-version:{VERSION}\n");
        let text = format!(
            "PUT\n\n\n{length}\n\napplication/octet-stream\n\n\n\n\n\n\n{headers}/{ACCOUNT}/{ACCOUNT}/{resource}"
        );
        let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(KEY)?);
        let signature = STANDARD.encode(hmac::sign(&key, text.as_bytes()));
        let file = scratch::folder("azure-put")?.join("body");
        fs::write(&file, body)?;
        let mut command = Command::new(program("curl", "curl")?);
        command.args(["--silent", "--fail-with-body", "--show-error", "--request", "PUT", "--data-binary"]);
        command.arg(format!("@{}", file.display())).args(["--header", "Content-Type: application/octet-stream"]);
        headers.lines().for_each(|header| {
            command.args(["--header", header]);
        });
        command.args(["--header", &format!("Authorization: SharedKey {ACCOUNT}:{signature}")]);
        let done = command.arg(format!("{}/{path}", self.endpoint())).output()?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
        Ok(())
    }
}

fn installed() -> Result<PathBuf> {
    let folder = cache()?.join(AZURITE.replace('@', "-"));
    let found = folder.join("node_modules/azurite/dist/src/blob/main.js");
    if found.is_file() {
        return Ok(found);
    }
    let npm = program("npm", "npm")?;
    let _alone = lock("azurite")?;
    if !found.is_file() {
        announce("installing Azurite, Azure's blob store, by npm");
        fs::create_dir_all(&folder)?;
        let done = Command::new(npm)
            .args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"])
            .arg(&folder)
            .arg(AZURITE)
            .output()?;
        ensure!(done.status.success(), "npm: {}", String::from_utf8_lossy(&done.stderr));
    }
    found.is_file().then_some(found).context("Azurite is installed, but its server is not in it")
}
