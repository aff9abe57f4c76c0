//! A server as a child process, with its log.

use std::fs::{self, File};
use std::future::Future;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{scratch, until};

/// How many lines of a server's log a failure shows.
const TAIL_LINES: usize = 25;

/// How long a server may take to end before it is killed.
const LAST_WORDS: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ends any server at once; it cannot object.
    Kill,
    /// Ends PostgreSQL at once but in order: it takes its own children with it. Recovery follows at the next start.
    Quit,
    /// Stands still until [`Signal::Continue`]; the kernel goes on accepting connections.
    Stop,
    Continue,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Signal::Kill => "KILL",
            Signal::Quit => "QUIT",
            Signal::Stop => "STOP",
            Signal::Continue => "CONT",
        }
    }
}

/// A running server. It ends when this is dropped, or when the test process ends in any way.
pub struct Process {
    child: Mutex<Child>,
    pid: u32,
    ending: Signal,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output appended to `log`; `ending` is how it is to be ended.
    pub fn start(command: &mut Command, log: &Path, ending: Signal) -> Result<Process> {
        let output = File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let pid = child.id();
        let process = Process { child: Mutex::new(child), pid, ending, log: log.to_owned() };
        fs::write(process.note()?, ending.name())?;
        Ok(process)
    }

    /// Waits until `probe` succeeds. A failure, above all that the server has ended, comes with the end of its log.
    pub async fn ready<F>(&self, what: &str, limit: Duration, mut probe: impl FnMut() -> F) -> Result<()>
    where
        F: Future<Output = Result<()>>,
    {
        let answer = until(what, limit, || {
            let answer = probe();
            async {
                let Err(refused) = answer.await else { return Ok(Ok(())) };
                // A server that has ended will never be ready: that settles it.
                self.still_runs().map_or_else(|ended| Ok(Err(ended)), |()| Err(refused))
            }
        });
        answer.await.flatten().map_err(|problem| self.in_its_own_words(problem))
    }

    /// Fails if the server has ended.
    pub fn still_runs(&self) -> Result<()> {
        let ended = self.child.lock().unwrap().try_wait()?;
        let Some(status) = ended else { return Ok(()) };
        // Its id is free for another process now, which the watchdog must not end.
        self.forget();
        bail!("it ended with {status}")
    }

    /// `problem` with the end of the server's log.
    fn in_its_own_words(&self, problem: anyhow::Error) -> anyhow::Error {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
        problem.context(format!("the log {} ends with:\n{tail}\n", self.log.display()))
    }

    /// Sends a signal. Through the shell, whose `kill` is there on every system.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let status = Command::new("sh")
            .args(["-c", r#"kill -s "$1" "$2""#, "kill"])
            .args([signal.name(), &self.pid.to_string()])
            .status()?;
        ensure!(status.success(), "cannot signal process {}", self.pid);
        Ok(())
    }

    fn note(&self) -> Result<PathBuf> {
        Ok(scratch::running()?.join(self.pid.to_string()))
    }

    fn forget(&self) {
        if let Ok(note) = self.note() {
            let _ = fs::remove_file(note);
        }
    }

    /// Waits for the end that was asked for; a server that does not come to it is killed.
    fn end(&self) -> Result<()> {
        let mut child = self.child.lock().unwrap();
        let deadline = Instant::now() + LAST_WORDS;
        while child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                child.kill()?;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Neither can fail in a way that a test could mend; before the wait, while the id is certainly still ours.
        let _ = self.still_runs().and_then(|()| self.signal(self.ending));
        self.forget();
        let _ = self.end();
    }
}

/// A command that does not run as root.
pub fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/");
    if scratch::is_root() {
        command.uid(scratch::NOBODY).gid(scratch::NOBODY);
    }
    command
}
