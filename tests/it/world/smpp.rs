//! A message centre: the SMPP server of npm's package `smpp`, driven by `tests/smpp/centre.js`, which says by which number
//! it answers how.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{
    free_port,
    install::{node, program},
    process::{Process, Signal},
    scratch,
};

const MANIFEST: &str = include_str!("../../smpp/package.json");
const LOCKFILE: &str = include_str!("../../smpp/package-lock.json");
const SCRIPT: &str = include_str!("../../smpp/centre.js");
const START: Duration = Duration::from_secs(60);

pub const SYSTEM_ID: &str = "test";
pub const PASSWORD: &str = "secret";

pub struct Centre {
    pub port: u16,
    control: u16,
    _server: Process,
}

impl Centre {
    pub async fn start() -> Result<Self> {
        Self::with(100, None).await
    }

    /// `binds` connections at most; with TLS, if there are the files of a key and a certificate.
    pub async fn with(binds: usize, tls: Option<(&Path, &Path)>) -> Result<Self> {
        let folder = tokio::task::spawn_blocking(|| node("smpp", MANIFEST, LOCKFILE)).await??;
        let (port, control) = (free_port(), free_port());
        let work = scratch::folder("smpp")?;
        // Node looks for packages beside the script.
        let script = folder.join(format!("centre-{port}.js"));
        fs::write(&script, SCRIPT)?;
        let mut command = Command::new(program("node", "nodejs npm")?);
        command.arg(&script).args([port, control].map(|port| port.to_string())).arg(binds.to_string());
        if let Some((key, certificate)) = tls {
            command.args([key, certificate]);
        }
        let server = Process::start(&mut command, &work.join("log"), Signal::Kill)?;
        let ready = || async {
            super::listens(control).await?;
            super::listens(port).await
        };
        server.ready("the message centre", START, ready).await?;
        fs::remove_file(script)?;
        Ok(Self { port, control, _server: server })
    }

    /// What it has seen.
    pub fn state(&self) -> Value {
        self.ask("/state", &Value::Null).unwrap_or_default()
    }

    pub fn messages(&self) -> Vec<Value> {
        self.state()["messages"].as_array().cloned().unwrap_or_default()
    }

    /// The owner of a number writes.
    pub fn text(&self, from: &str, text: &str) {
        self.ask("/text", &json!({"from": from, "text": text})).unwrap();
    }

    /// Does something to the first connection, or to all of them: `drop`, `garbage`, `enquire`.
    pub fn make(&self, what: &str) {
        self.ask(&format!("/{what}"), &Value::Null).unwrap();
    }

    fn ask(&self, path: &str, body: &Value) -> Result<Value> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(("127.0.0.1", self.control))?;
        let length = body.len();
        write!(stream, "POST {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(serde_json::from_str(answer.split_once("\r\n\r\n").context("no answer")?.1)?)
    }
}
