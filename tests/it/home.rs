//! A folder home for a test: a temporary folder in which the real binary runs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

/// Far above what anything takes on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Home {
    folder: TempDir,
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A process that is killed when the test ends.
pub struct Running {
    pub child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The repository's own folder.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

impl Home {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_campanile"));
        command.current_dir(self.path()).args(args).stdin(Stdio::null());
        command
    }

    pub fn call(&self, args: &[&str]) -> Ran {
        Ran::of(&self.command(args).output().unwrap())
    }

    /// `campanile run ARGS --until-idle`.
    pub fn run(&self, args: &[&str]) -> Ran {
        let args: Vec<&str> = ["run"].into_iter().chain(args.iter().copied()).chain(["--until-idle"]).collect();
        self.call(&args)
    }

    /// `campanile ARGS` in the background; stderr goes to the file `name`.
    pub fn spawn(&self, args: &[&str], name: &str) -> Running {
        let log = fs::File::create(self.path().join(name)).unwrap();
        let child = self.command(args).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Running { child }
    }

    /// Writes a file as a careful exporter does: beside, then renamed into place.
    pub fn deliver(&self, name: &str, bytes: &[u8]) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let beside = path.with_file_name(format!(".{}", path.file_name().unwrap().to_string_lossy()));
        fs::write(&beside, bytes).unwrap();
        fs::rename(beside, path).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap_or_default()
    }

    /// Every message in the outbox.
    pub fn outbox(&self) -> Vec<PathBuf> {
        let mut found = vec![];
        files(&self.path().join(".campanile/outbox"), &mut found);
        found.retain(|path| path.extension().is_some_and(|e| e == "eml" || e == "txt" || e == "json"));
        found.sort();
        found
    }

    /// An object as `campanile get -o json` shows it.
    pub fn get(&self, kind: &str, name: &str) -> Value {
        let ran = self.call(&["get", kind, name, "-o", "json"]);
        serde_json::from_str(&ran.out).unwrap_or(Value::Null)
    }

    /// A condition's reason and message.
    pub fn ready(&self, kind: &str, name: &str) -> (String, String, String) {
        let object = self.get(kind, name);
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.into_iter().find(|c| c["type"] == "Ready").unwrap_or(Value::Null);
        let text = |part: &str| ready[part].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"), text("message"))
    }
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            files(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}

/// `entered = sent + failed + excluded + expired + cancelled + inDoubt + waiting`, in every count of a run.
pub fn assert_conserved(run: &Value) {
    let mut counts = vec![&run["status"]["totals"]];
    counts.extend(run["status"]["channels"].as_array().into_iter().flatten());
    for count in counts {
        let n = |name: &str| count[name].as_i64().unwrap();
        let parts = ["sent", "failed", "excluded", "expired", "cancelled", "inDoubt", "waiting"];
        assert_eq!(n("entered"), parts.iter().map(|p| n(p)).sum::<i64>(), "{count}");
    }
}

/// A dataset of `people.csv` and a campaign that writes to all of them, with the parts that tests vary.
pub fn people_manifests(schedule: &str, rule: &str) -> String {
    format!(
        r#"apiVersion: campanile.dev/v1alpha1
kind: Dataset
metadata: {{name: town}}
spec:
  entities:
  - name: person
    key: [id]
    version: updated_at
    fields:
    - {{name: id, type: Integer}}
    - {{name: email, type: String}}
    - {{name: name, type: String}}
    - {{name: news, type: Boolean}}
    - {{name: news_at, type: Timestamp}}
    - {{name: updated_at, type: Timestamp}}
    source: {{files: {{url: data, format: CSV}}}}
  profile: {{entity: person, addresses: {{email: email}}}}
  topics:
  - name: news
    category: Marketing
    consent: {{email: {{field: news, changedAt: news_at}}}}
  - {{name: service, category: Transactional}}
---
apiVersion: campanile.dev/v1alpha1
kind: Channel
metadata: {{name: out}}
spec: {{outbox: {{}}}}
---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {{name: hello}}
spec: {{email: {{subject: "Hello {{{{ person.name }}}}", text: "Dear {{{{ person.name | default('friend') }}}}"}}}}
---
apiVersion: campanile.dev/v1alpha1
kind: Campaign
metadata: {{name: greet}}
spec:
  dataset: town
  topic: news
{schedule}
  steps:
  - name: all
    audience: {{entity: person, where: '{rule}'}}
  - name: mail
    email: {{channel: out, template: hello}}
"#
    )
}

/// The same with what Marketing mail must say to be sent: how to withdraw, and who sends it. Its channel is mail.
pub fn lawful(manifests: &str) -> String {
    let (channel, words) = ("spec: {email: {from:", "Dear {{ person.name | default('friend') }}");
    assert!(manifests.contains(channel) && manifests.contains(words), "{manifests}");
    let sender = "email: {sender: {name: Town, address: 'Via Roma 1, Milano'}, from:";
    let url = if manifests.contains("publicUrl:") { "" } else { "publicUrl: 'https://mail.example.com', " };
    let text = manifests.replace(channel, &format!("spec: {{{url}{sender}"));
    text.replace(words, &format!("{words} {{{{ sender.address }}}} {{{{ unsubscribe_url }}}}"))
}

/// `n` people who all want news.
pub fn people(n: usize) -> String {
    let mut text = "id,email,name,news,news_at,updated_at\n".to_owned();
    for id in 1..=n {
        text.push_str(&format!("{id},p{id}@example.com,Person {id},t,2026-01-01T00:00:00Z,2026-01-01T00:00:00Z\n"));
    }
    text
}
