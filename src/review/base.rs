//! What a change is compared with: a revision of git, a folder, or the live cluster. Nothing is checked out.

use std::{
    fmt,
    io::Write,
    path::{Component, Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use super::tree::Tree;
use crate::{
    api::template::kept::Lost,
    source::manifest::{
        self, Loaded,
        kept::{self, Beside},
    },
};

/// What `--base` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    Revision(String),
    Folder(PathBuf),
    Cluster,
}

impl Base {
    /// `cluster`, a folder or file that is there, or else a revision.
    pub fn named(text: &str) -> Self {
        match text {
            "cluster" => Self::Cluster,
            path if Path::new(path).exists() => Self::Folder(PathBuf::from(path)),
            revision => Self::Revision(revision.to_owned()),
        }
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Revision(revision) => write!(f, "revision {revision}"),
            Self::Folder(path) => write!(f, "folder {}", path.display()),
            Self::Cluster => f.write_str("the cluster"),
        }
    }
}

/// The same paths as they were at a revision.
///
/// # Errors
/// A sentence: there is no repository, no such revision, or git is not there.
pub fn at_revision(namespace: Option<String>, paths: &[PathBuf], revision: &str) -> Result<Loaded, String> {
    let (mut files, mut looks) = (vec![], vec![]);
    for path in paths {
        let folder = if path.is_dir() { path.as_path() } else { path.parent().unwrap_or(Path::new("")) };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let commit = format!("{revision}^{{commit}}");
        let commit = git(folder, &["rev-parse", "--verify", "--quiet", "--end-of-options", &commit], None)
            .map_err(|why| format!("revision `{revision}`: {why}"))?;
        let commit = text_of(&commit);
        // Relative to the folder, as git names files of where it is called.
        let only = if path.is_dir() { None } else { path.file_name().map(|name| name.to_string_lossy().into_owned()) };
        let listed =
            git(folder, &["ls-tree", "-r", "-z", "--name-only", &commit, "--", only.as_deref().unwrap_or(".")], None)?;
        let names: Vec<String> = listed
            .split(|byte| *byte == 0)
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .filter(|name| only.is_some() || is_manifest(name))
            .filter(|name| !name.is_empty() && !name.contains('\n'))
            .collect();
        let asked: String = names.iter().map(|name| format!("{commit}:./{name}\n")).collect();
        let mut answer = git(folder, &["cat-file", "--batch"], Some(asked))?.into_iter();
        for name in names {
            let bytes = next_blob(&mut answer).ok_or_else(|| format!("git does not give {name} of {revision}"))?;
            files.push((folder.join(&name), bytes));
        }
        looks.push(Look { folder: folder.to_owned(), commit });
    }
    Ok(manifest::of_files(namespace, files).beside(AtRevision(looks)))
}

/// A folder as it is at a commit.
#[derive(Debug)]
struct Look {
    folder: PathBuf,
    commit: String,
}

/// What lies beside the manifests of a revision.
#[derive(Debug)]
struct AtRevision(Vec<Look>);

impl Beside for AtRevision {
    fn read(&self, path: &Path, name: &str, max: u64) -> Result<Vec<u8>, Lost> {
        let inside =
            |look: &Look| path.strip_prefix(&look.folder).ok().map(|path| kept::plain(&path.with_file_name(name)));
        let found = self.0.iter().find_map(|look| Some((look, inside(look)?)));
        let Some((look, file)) = found.filter(|(_, file)| !kept::is_hidden(file)) else {
            return Err(kept::outside(name));
        };
        // A link is followed inside of the commit only.
        let asked = format!("{}:./{}\n", look.commit, file.display());
        let answer = git(&look.folder, &["cat-file", "--batch", "--follow-symlinks"], Some(asked));
        let bytes = answer.ok().and_then(|answer| next_blob(&mut answer.into_iter()));
        let bytes = bytes.ok_or_else(|| Lost::new(format!("the revision has no file `{name}` beside the manifest")))?;
        if bytes.len() as u64 > max { Err(kept::too_long(name, max)) } else { Ok(bytes) }
    }
}

/// What a cluster has, each object as a file of its own.
pub fn of_objects(objects: &[Value]) -> Tree {
    // JSON is YAML.
    Tree::of_files(objects.iter().map(file).map(|(path, object)| (path, object.to_string().into_bytes())))
}

/// The file that an object of a cluster would stand in, as messages name it.
pub fn file(object: &Value) -> (PathBuf, &Value) {
    let part = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (namespace, kind, name) = (part("/metadata/namespace"), part("/kind"), part("/metadata/name"));
    (PathBuf::from(format!("cluster/{namespace}/{kind}/{name}.yaml")), object)
}

/// As in a folder: hidden files and folders are left out.
fn is_manifest(name: &str) -> bool {
    let is_hidden = |part: Component<'_>| part.as_os_str().to_string_lossy().starts_with('.');
    (name.ends_with(".yaml") || name.ends_with(".yml")) && !Path::new(name).components().any(is_hidden)
}

/// `<hash> blob <size>`, a line break, so many bytes and another line break.
fn next_blob(answer: &mut impl Iterator<Item = u8>) -> Option<Vec<u8>> {
    let head: Vec<u8> = answer.by_ref().take_while(|byte| *byte != b'\n').collect();
    let head = String::from_utf8(head).ok()?;
    let (rest, size) = head.rsplit_once(' ')?;
    let size: usize = size.parse().ok().filter(|_| rest.ends_with(" blob"))?;
    let bytes: Vec<u8> = answer.by_ref().take(size).collect();
    answer.next();
    (bytes.len() == size).then_some(bytes)
}

fn git(folder: &Path, args: &[&str], input: Option<String>) -> Result<Vec<u8>, String> {
    let mut command = Command::new("git");
    // A repository's own settings must not start programs.
    command.args(["-c", "core.fsmonitor=false"]).args(args).current_dir(folder);
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| format!("git cannot be called: {error}"))?;
    // It answers while it is asked: both at once, or full pipes would wait for each other.
    let asking = input
        .zip(child.stdin.take())
        .map(|(input, mut pipe)| std::thread::spawn(move || pipe.write_all(input.as_bytes())));
    let output = child.wait_with_output().map_err(|error| format!("git: {error}"))?;
    if let Some(asking) = asking {
        let _ = asking.join();
    }
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = text_of(&output.stderr);
    Err(if said.is_empty() {
        "git does not know it".to_owned()
    } else {
        said.lines().next().unwrap_or_default().to_owned()
    })
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_are_cut_where_they_end() {
        let mut answer = b"abc blob 4\na\nb\n\nabd blob 0\n\nabe missing\n".iter().copied();
        assert_eq!(next_blob(&mut answer), Some(b"a\nb\n".to_vec()));
        assert_eq!(next_blob(&mut answer), Some(vec![]));
        assert_eq!(next_blob(&mut answer), None);
    }

    #[test]
    fn hidden_files_are_no_manifests() {
        let names = ["a.yaml", "b/c.yml", ".git/a.yaml", "b/.campanile/x.yaml", "a.json"];
        assert_eq!(names.map(is_manifest), [true, true, false, false, false]);
    }
}
