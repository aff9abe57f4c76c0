//! Browsers that subscribe, and open what is pushed to them: `push_receiver.py`, with Python's `http_ece`.

use std::{fs, process::Command, time::Duration};

use anyhow::{Result, ensure};
use serde_json::Value;

use super::{
    free_port,
    install::{program, python},
    process::{Process, Signal},
    scratch,
};

const HTTP_ECE: &str = "http-ece==1.2.1";
const SCRIPT: &str = include_str!("push_receiver.py");
const START: Duration = Duration::from_secs(60);

pub struct Browsers {
    port: u16,
    _server: Process,
}

impl Browsers {
    pub async fn start() -> Result<Self> {
        let folder = tokio::task::spawn_blocking(|| python(HTTP_ECE)).await??;
        let port = free_port();
        let work = scratch::folder("browsers")?;
        fs::write(work.join("push_receiver.py"), SCRIPT)?;
        let mut command = Command::new(folder.join("bin/python3"));
        command.args(["push_receiver.py", &port.to_string()]).current_dir(&work);
        let server = Process::start(&mut command, &work.join("log"), Signal::Kill)?;
        let ready = || async {
            super::listens(port).await?;
            Ok(())
        };
        server.ready("the push receiver", START, ready).await?;
        Ok(Self { port, _server: server })
    }

    /// Where it is reached, with a slash at the end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// The subscription of a browser, as it is written into a database. A name with a `-` says how its pushes are
    /// answered: `gone-410`, `later-429`, `x-lost`.
    pub fn subscription(&self, name: &str) -> Result<String> {
        self.get(&format!("browser/{name}"))
    }

    /// What was pushed and opened.
    pub fn received(&self) -> Result<Vec<Value>> {
        Ok(serde_json::from_str(&self.get("received")?)?)
    }

    fn get(&self, path: &str) -> Result<String> {
        let mut command = Command::new(program("curl", "curl")?);
        let done = command.args(["--silent", "--fail", "--show-error", &format!("{}{path}", self.url())]).output()?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Ok(String::from_utf8(done.stdout)?)
    }
}
