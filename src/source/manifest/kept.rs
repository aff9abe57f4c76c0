//! What manifests keep elsewhere: files beside them, and entries of ConfigMaps that are manifests themselves.
//!
//! A file is named from its manifest's folder on and cannot leave the root that is read, not by `..` and not by a link; what
//! is hidden is nobody's words (`.git` may hold a login). In a cluster there are only ConfigMaps.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    fs::{self, File as DiskFile},
    io::Read,
    ops::Range,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use super::{File, Loaded, Manifest};
use crate::{
    api::template::kept::{self, ConfigMapKey, Kept, Lost},
    rule::nearest,
    send::enclosure::{ATTACHED_BYTES_MAX, ATTACHMENT_BYTES_MAX, enclosed},
    source::Kind,
};

/// Of words that are kept elsewhere, in characters: as many as a part that is written out may have.
pub const WORDS_CHARS_MAX: usize = 262_144;
/// Characters have up to four bytes.
const WORDS_BYTES_MAX: u64 = 4 * WORDS_CHARS_MAX as u64;

/// Reads what lies beside manifests.
pub trait Beside: fmt::Debug + Send + Sync {
    /// The bytes of `name`, from the folder of the manifest at `path` on; more than `max` of them are too many.
    ///
    /// # Errors
    /// Why there are none.
    fn read(&self, path: &Path, name: &str, max: u64) -> Result<Vec<u8>, Lost>;
}

/// Beside an object that came from a cluster, or from memory, there is nothing.
#[derive(Debug)]
struct Nowhere;

impl Beside for Nowhere {
    fn read(&self, _: &Path, _: &str, _: u64) -> Result<Vec<u8>, Lost> {
        Err(no_folder())
    }
}

/// Why a file is refused where manifests are no files.
pub fn no_folder() -> Lost {
    Lost::new("a file lies beside its manifest, and a cluster has no such folder")
        .hint("keep it in a ConfigMap: configMap: {name: …, key: …}")
}

/// Folders of this machine that are read, or files: then their folders.
#[derive(Debug)]
pub struct Roots(Vec<PathBuf>);

impl Roots {
    pub fn of<'r>(paths: impl IntoIterator<Item = &'r Path>) -> Self {
        let folder = |path: &'r Path| if path.is_dir() { path } else { path.parent().unwrap_or(path) };
        let shown = |path: &Path| if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_owned() };
        Self(paths.into_iter().map(|path| shown(folder(path))).collect())
    }
}

impl Beside for Roots {
    fn read(&self, path: &Path, name: &str, max: u64) -> Result<Vec<u8>, Lost> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // By the folder as it is, so that a root that is a link is one, too.
        let real = |path: &Path| path.canonicalize().map_err(|error| unreadable(name, &error));
        let folder = real(folder)?;
        let roots: Vec<PathBuf> = self.0.iter().filter_map(|root| root.canonicalize().ok()).collect();
        let is_inside = |path: &Path| {
            let mut around = roots.iter().filter(|root| folder.starts_with(root));
            around.any(|root| path.strip_prefix(root).is_ok_and(|inside| !is_hidden(inside)))
        };
        let wanted = plain(&folder.join(name));
        if !is_inside(&wanted) {
            return Err(outside(name));
        }
        let found = real(&wanted)?;
        if !is_inside(&found) {
            return Err(outside(name));
        }
        let meta = fs::metadata(&found).map_err(|error| unreadable(name, &error))?;
        if !meta.is_file() {
            return Err(Lost::new(format!("`{name}` is no file")));
        }
        let mut bytes = vec![];
        let file = DiskFile::open(&found).map_err(|error| unreadable(name, &error))?;
        file.take(max + 1).read_to_end(&mut bytes).map_err(|error| unreadable(name, &error))?;
        if bytes.len() as u64 > max { Err(too_long(name, max)) } else { Ok(bytes) }
    }
}

/// A path without `.` and `..`, whatever is on the disk.
pub fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(plain.components().next_back(), Some(Component::Normal(_))) => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

pub fn is_hidden(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"."))
}

pub fn outside(name: &str) -> Lost {
    Lost::new(format!("`{name}` is hidden, or outside of the folder that is read"))
        .hint("a file lies in the manifest's folder or in another one of the same root")
}

pub fn too_long(name: &str, max: u64) -> Lost {
    Lost::new(format!("`{name}` has more than {max} bytes"))
}

fn unreadable(name: &str, error: &std::io::Error) -> Lost {
    match error.kind() {
        std::io::ErrorKind::NotFound => Lost::new(format!("there is no file `{name}` beside the manifest")),
        kind => Lost::new(format!("the file `{name}` cannot be read: {kind}")),
    }
}

/// Where words stand that a manifest names.
#[derive(Clone, Debug)]
pub(super) enum Elsewhere {
    File(Arc<File>),
    /// A ConfigMap's manifest, and the path of the entry in it.
    Entry(Arc<Manifest>, String),
}

impl Elsewhere {
    /// The file and the place in it of some bytes of the words.
    pub fn place(&self, inside: Range<usize>) -> (Arc<File>, Range<usize>) {
        match self {
            Self::File(file) => (file.clone(), inside),
            Self::Entry(map, path) => {
                let span = map.diagnose("", path, Some(inside), "", None).span;
                (map.file.clone(), span)
            }
        }
    }
}

impl Loaded {
    /// Says what lies beside the files.
    #[must_use]
    pub fn beside(self, beside: impl Beside + 'static) -> Self {
        Self { beside: Some(Arc::new(beside)), ..self }
    }

    /// The ConfigMaps that templates of a namespace name.
    pub fn maps(&self, namespace: &str) -> BTreeSet<String> {
        let of =
            |manifest: &&Manifest| manifest.namespace == namespace && manifest.kind == Kind::MessageTemplate.as_str();
        let kept = self.manifests.iter().filter(of).flat_map(|manifest| kept::references(&manifest.object["spec"]));
        kept.filter_map(|(_, kept)| Some(kept.config_map?.name)).collect()
    }

    /// Reads what the manifests keep elsewhere.
    pub fn fill(&mut self) {
        let beside = self.beside.clone().unwrap_or_else(|| Arc::new(Nowhere));
        let maps = self.manifests.iter().filter(|manifest| manifest.kind == super::CONFIG_MAP);
        let maps: HashMap<(String, String), Arc<Manifest>> =
            maps.map(|map| ((map.namespace.clone(), map.name.clone()), Arc::new(map.clone()))).collect();
        for manifest in self.manifests.iter_mut().filter(|m| m.kind == Kind::MessageTemplate.as_str()) {
            let (path, namespace) = (&manifest.file.path, &manifest.namespace);
            let mut elsewhere = vec![];
            kept::fill(&mut manifest.object["spec"], &mut |at, kept| {
                let (text, place) = match kept {
                    Kept { config_map: Some(ConfigMapKey { name, key }), .. } => {
                        let map = maps.get(&(namespace.clone(), name.clone()));
                        let map = map.ok_or_else(|| no_map(name, namespace))?;
                        let entries = &map.object;
                        let text = entry(name, key, |part| entries[part].as_object())?;
                        (words(key, text)?, Elsewhere::Entry(map.clone(), format!("data.{key}")))
                    }
                    Kept { file, .. } => {
                        let name = file.as_deref().unwrap_or_default();
                        let bytes = beside.read(path, name, WORDS_BYTES_MAX)?;
                        let text = String::from_utf8(bytes).map_err(|_| Lost::new(format!("`{name}` is not UTF-8")))?;
                        let text = words(name, &text)?;
                        let folder = path.parent().unwrap_or(Path::new(""));
                        let file = File::new(plain(&folder.join(name)), text.clone());
                        (text, Elsewhere::File(Arc::new(file)))
                    }
                };
                elsewhere.push((at.to_owned(), place));
                Ok(text)
            });
            manifest.elsewhere = elsewhere.into_iter().collect();
            let (path, namespace) = (&manifest.file.path, &manifest.namespace);
            kept::pin(&mut manifest.object["spec"], &mut |_, kept| {
                let max = ATTACHMENT_BYTES_MAX as u64;
                let (name, bytes) = match kept {
                    Kept { config_map: Some(ConfigMapKey { name, key }), .. } => {
                        let map = maps.get(&(namespace.clone(), name.clone()));
                        let entries = &map.ok_or_else(|| no_map(name, namespace))?.object;
                        (key, bytes(name, key, |part| entries[part].as_object())?)
                    }
                    Kept { file, .. } => {
                        let Some(name) = file else { return Err(no_folder()) };
                        (name, beside.read(path, name, max)?)
                    }
                };
                let (pinned, body) = enclosed(&bytes);
                let all = self.enclosures.values().map(|body| body.len()).sum::<usize>();
                if !self.enclosures.contains_key(&pinned.sha256) && all + body.len() > ATTACHED_BYTES_MAX {
                    let message = format!(
                        "with `{name}` all that is attached here makes more than {ATTACHED_BYTES_MAX} bytes of mail"
                    );
                    return Err(Lost::new(message));
                }
                self.enclosures.insert(pinned.sha256.clone(), body);
                Ok(pinned)
            });
        }
    }
}

/// Why there is no such ConfigMap.
pub fn no_map(name: &str, namespace: &str) -> Lost {
    Lost::new(format!("there is no ConfigMap `{name}` in namespace {namespace}"))
}

/// A text of a ConfigMap, whose `data` and `binaryData` are given as JSON.
///
/// # Errors
/// Why it has none.
pub fn entry<'m>(
    name: &str,
    key: &str,
    part: impl Fn(&str) -> Option<&'m serde_json::Map<String, serde_json::Value>>,
) -> Result<&'m str, Lost> {
    let data = part("data");
    if let Some(text) = data.and_then(|data| data.get(key)) {
        return text
            .as_str()
            .ok_or_else(|| Lost::new(format!("`{key}` of ConfigMap `{name}` is no text")).hint("quote it"));
    }
    if part("binaryData").is_some_and(|data| data.contains_key(key)) {
        let lost = Lost::new(format!("`{key}` of ConfigMap `{name}` holds bytes, not words"));
        return Err(lost.hint("words are UTF-8 and stand under `data`"));
    }
    let lost = Lost::new(format!("ConfigMap `{name}` has no key `{key}`"));
    let known = data.into_iter().flatten().map(|(key, _)| key.as_str());
    Err(match nearest(key, known) {
        Some(near) => lost.hint(format!("did you mean `{near}`?")),
        None => lost,
    })
}

/// What stands under a key of a ConfigMap, whose `binaryData` and `data` are given as JSON.
///
/// # Errors
/// Why there is nothing.
pub fn bytes<'m>(
    name: &str,
    key: &str,
    part: impl Fn(&str) -> Option<&'m serde_json::Map<String, serde_json::Value>>,
) -> Result<Vec<u8>, Lost> {
    match part("binaryData").and_then(|data| data.get(key)) {
        Some(coded) => {
            let bytes = serde_json::from_value::<k8s_openapi::ByteString>(coded.clone());
            bytes.map(|bytes| bytes.0).map_err(|_| Lost::new(format!("`{key}` of ConfigMap `{name}` is not base64")))
        }
        None => entry(name, key, part).map(|text| text.as_bytes().to_vec()),
    }
}

/// Words as a manifest would hold them: with one kind of line end, and not more than it may have.
///
/// # Errors
/// Why they are none.
pub fn words(name: &str, text: &str) -> Result<String, Lost> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    if text.is_empty() {
        return Err(Lost::new(format!("`{name}` is empty")));
    }
    if text.contains('\0') {
        return Err(Lost::new(format!("`{name}` holds a NUL, so it is not text")));
    }
    if text.chars().count() > WORDS_CHARS_MAX {
        return Err(Lost::new(format!("`{name}` has more than {WORDS_CHARS_MAX} characters")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: campanile.dev/v1alpha1\nkind: MessageTemplate\nmetadata: {name: t}\nspec:\n";

    fn template(words: &str) -> Vec<u8> {
        format!("{HEAD}  sms: {{textFrom: {words}}}\n").into_bytes()
    }

    fn read(root: &Path, path: &str, words: &str) -> Result<String, String> {
        let mut loaded = Loaded::default();
        loaded.take_file(root.join(path), template(words));
        assert!(loaded.diagnostics.is_empty(), "{}", loaded.diagnostics[0]);
        let mut loaded = loaded.beside(Roots::of([root]));
        loaded.fill();
        let sms = &loaded.manifests[0].object["spec"]["sms"];
        match sms["textFrom"]["lost"]["message"].as_str() {
            Some(lost) => Err(lost.to_owned()),
            None => Ok(sms["text"].as_str().unwrap().to_owned()),
        }
    }

    #[test]
    fn a_file_is_read_from_inside_the_root_only() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("sub/.git")).unwrap();
        for (path, text) in [
            ("root/a.txt", "\u{feff}one\r\ntwo\n"),
            ("root/sub/b.txt", "b"),
            ("root/sub/.git/config", "a login"),
            ("outside.txt", "a secret"),
            ("root/empty.txt", ""),
            ("root/nul.txt", "a\0b"),
        ] {
            fs::write(folder.path().join(path), text).unwrap();
        }
        fs::write(root.join("latin.txt"), b"Zo\xeb").unwrap();
        std::os::unix::fs::symlink("../outside.txt", root.join("link.txt")).unwrap();
        std::os::unix::fs::symlink("a.txt", root.join("inner.txt")).unwrap();
        let read = |path: &str, name: &str| read(&root, path, &format!("{{file: {name}}}"));
        assert_eq!(read("m.yaml", "a.txt").unwrap(), "one\ntwo\n");
        assert_eq!(read("sub/m.yaml", "../a.txt").unwrap(), "one\ntwo\n");
        assert_eq!(read("sub/m.yaml", "./b.txt").unwrap(), "b");
        assert_eq!(read("m.yaml", "inner.txt").unwrap(), "one\ntwo\n");
        for (path, name, why) in [
            ("m.yaml", "../outside.txt", "outside of the folder"),
            ("m.yaml", "link.txt", "outside of the folder"),
            ("m.yaml", "sub/.git/config", "is hidden"),
            ("m.yaml", "none.txt", "there is no file `none.txt` beside the manifest"),
            ("m.yaml", "sub", "is no file"),
            ("m.yaml", "empty.txt", "is empty"),
            ("m.yaml", "nul.txt", "holds a NUL"),
            ("m.yaml", "latin.txt", "is not UTF-8"),
        ] {
            let lost = read(path, name).unwrap_err();
            assert!(lost.contains(why) && !lost.contains("secret"), "{name}: {lost}");
        }
        fs::write(root.join("long.txt"), "x".repeat(WORDS_CHARS_MAX + 1)).unwrap();
        assert!(read("m.yaml", "long.txt").unwrap_err().contains("262144 characters"));
        fs::write(root.join("longer.txt"), "x".repeat(4 * WORDS_CHARS_MAX + 1)).unwrap();
        assert!(read("m.yaml", "longer.txt").unwrap_err().contains("1048576 bytes"));
    }

    #[test]
    fn an_entry_of_a_config_map_is_found_by_its_namespace_and_key() {
        let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: mails, creationTimestamp: null}\n\
                   data:\n  a.txt: |\n    Dear {{ nobody }},\nbinaryData: {logo.png: AA==}\n";
        let read = |words: &str| {
            let mut loaded = Loaded::default();
            loaded.take_file("maps.yaml".into(), map.as_bytes().to_vec());
            loaded.take_file("m.yaml".into(), template(words));
            assert!(loaded.diagnostics.is_empty(), "{}", loaded.diagnostics[0]);
            loaded.fill();
            loaded.manifests.remove(1)
        };
        let found = read("{configMap: {name: mails, key: a.txt}}");
        assert_eq!(found.object["spec"]["sms"]["text"], "Dear {{ nobody }},\n");
        let at = found.diagnose("x", "spec.sms.textFrom", Some(8..14), "unknown", None);
        assert_eq!(at.one_line(), "maps.yaml:6:13: unknown");
        assert_eq!(at.about.unwrap().name, "t");
        for (words, why) in [
            ("{configMap: {name: mail, key: a.txt}}", "there is no ConfigMap `mail` in namespace default"),
            ("{configMap: {name: mails, key: b.txt}}", "has no key `b.txt`"),
            ("{configMap: {name: mails, key: logo.png}}", "holds bytes"),
            ("{file: a.txt}", "a cluster has no such folder"),
        ] {
            let lost = read(words).object["spec"]["sms"]["textFrom"]["lost"].clone();
            assert!(lost["message"].as_str().unwrap().contains(why), "{words}: {lost}");
        }
    }
}
