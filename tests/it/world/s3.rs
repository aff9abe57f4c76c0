//! An S3 server: moto's, installed by pip into the cache on first use.

use std::{fs, process::Command, time::Duration};

use anyhow::{Result, ensure};

use super::{
    free_port,
    install::{program, python},
    process::{Process, Signal},
    scratch,
};

/// Kept as it was tested; moto's answers have changed before.
const MOTO: &str = "moto[server]==5.2.5";
const START: Duration = Duration::from_secs(60);

/// A server on loopback that knows no buckets yet.
pub struct S3 {
    port: u16,
    _server: Process,
}

impl S3 {
    pub async fn start() -> Result<Self> {
        let moto = tokio::task::spawn_blocking(|| python(MOTO)).await??.join("bin/moto_server");
        let port = free_port();
        let folder = scratch::folder("s3")?;
        let mut command = Command::new(moto);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).current_dir(&folder);
        let server = Process::start(&mut command, &folder.join("log"), Signal::Kill)?;
        server
            .ready("the S3 server", START, || async {
                super::listens(port).await?;
                Ok(())
            })
            .await?;
        Ok(Self { port, _server: server })
    }

    /// Where it is reached, with a slash at the end.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Makes a bucket, or puts an object: `bucket` or `bucket/name`.
    pub fn put(&self, path: &str, body: &[u8]) -> Result<()> {
        let file = scratch::folder("s3-put")?.join("body");
        fs::write(&file, body)?;
        let mut command = Command::new(program("curl", "curl")?);
        command.args(["--silent", "--fail", "--show-error", "--request", "PUT", "--data-binary"]);
        // As a form, which curl would call it, moto would take the body apart.
        command.arg(format!("@{}", file.display())).args(["--header", "Content-Type: application/octet-stream"]);
        command.arg(format!("{}{path}", self.endpoint()));
        let done = command
            .args(["--header", "Authorization: AWS4-HMAC-SHA256 Credential=a/b/us-east-1/s3/aws4_request"])
            .output()?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    }

    /// The bytes of an object, `bucket/name`.
    pub fn get(&self, path: &str) -> Result<Vec<u8>> {
        let mut command = Command::new(program("curl", "curl")?);
        command.args(["--silent", "--fail", "--show-error"]).arg(format!("{}{path}", self.endpoint()));
        let done = command
            .args(["--header", "Authorization: AWS4-HMAC-SHA256 Credential=a/b/us-east-1/s3/aws4_request"])
            .output()?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Ok(done.stdout)
    }
}
