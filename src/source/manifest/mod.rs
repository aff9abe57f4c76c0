//! Manifests: files of YAML read as kubectl and the API server would, with errors that point into the file.

mod diagnostic;
pub mod kept;
pub mod schema;
pub mod yaml;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use serde_json::{Value, json};

pub use self::diagnostic::{About, Diagnostic, File, Severity};
use self::kept::{Beside, Elsewhere, Roots};
use crate::{
    api::{GROUP, VERSION, crd},
    rule::nearest,
    send::enclosure::Enclosures,
};

const UNREADABLE: &str = "unreadable-file";
const UNKNOWN_KIND: &str = "unknown-kind";
const INVALID_METADATA: &str = "invalid-metadata";
const DECLARED_TWICE: &str = "declared-twice";

/// A folder with more was meant as something else.
const FILES_MAX: usize = 10_000;
/// DNS-1123 subdomain.
const NAME_CHARS_MAX: usize = 253;
const NAMESPACE: &str = "default";
/// The kinds of others that are read, too: what ours refer to.
pub(super) const SECRET: &str = "Secret";
pub(super) const CONFIG_MAP: &str = "ConfigMap";

/// The OpenAPI schema of each kind, as in the checked-in CRDs.
static SCHEMAS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    let schemas = crd::all().into_iter().filter_map(|crd| {
        let schema = crd::schema_of(&crd)?;
        Some((crd.spec.names.kind, schema))
    });
    schemas.collect()
});

/// One object of a file.
#[derive(Clone, Debug)]
pub struct Manifest {
    pub file: Arc<File>,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    /// With defaults filled in, and with what it keeps elsewhere; without status.
    pub object: Value,
    pub tree: yaml::Node,
    /// Where that stands, by the path of the field that names it.
    elsewhere: BTreeMap<String, Elsewhere>,
}

impl Manifest {
    /// One of a file's objects, none of whose parts is kept elsewhere yet.
    pub fn new(
        file: &Arc<File>,
        kind: String,
        (namespace, name): (String, String),
        object: Value,
        tree: yaml::Node,
    ) -> Self {
        Self { file: file.clone(), kind, namespace, name, object, tree, elsewhere: BTreeMap::new() }
    }

    /// Points at a path of this object, and into the text that stands there if `inside` is given.
    pub fn diagnose(
        &self,
        id: &'static str,
        path: &str,
        inside: Option<Range<usize>>,
        message: impl Into<String>,
        hint: Option<String>,
    ) -> Diagnostic {
        let about = About {
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            path: path.to_owned(),
        };
        if let Some((elsewhere, inside)) = self.elsewhere.get(path).zip(inside.clone()) {
            let (file, span) = elsewhere.place(inside);
            return Diagnostic { hint, about: Some(about), ..Diagnostic::new(id, message, span).of(&file) };
        }
        let mut span = self.tree.at(path);
        if let Some(inside) = inside
            && let Some(yaml::Node { kind: yaml::Kind::Scalar(Value::String(text), _), .. }) = self.tree.find(path)
            && let Some(raw) = self.file.text.get(span.clone())
        {
            span = locate(raw, text, inside)
                .map_or(span.clone(), |found| span.start + found.start..span.start + found.end);
        } else if self.file.text.get(span.clone()).is_some_and(|raw| raw.contains('\n'))
            && let Some((key, _)) = self.tree.way(path).pop()
        {
            // Of a text of several lines its key, not one of them.
            span = key;
        }
        Diagnostic { hint, about: Some(about), ..Diagnostic::new(id, message, span).of(&self.file) }
    }
}

/// Where `inside` of a scalar's value stands in its raw text: a block scalar is indented, a folded one has other
/// line ends, a quoted one escapes, so white space is matched loosely.
fn locate(raw: &str, value: &str, inside: Range<usize>) -> Option<Range<usize>> {
    let count = |text: &str| text.chars().filter(|c| !c.is_whitespace()).count();
    let (before, within) = (count(value.get(..inside.start)?), count(value.get(inside)?));
    // The text of a block may begin with a quote that is its own.
    let is_quoted = raw.starts_with(['"', '\'']) && count(raw) != count(value);
    let solid = solid(raw, is_quoted);
    // What is missing at the end is missing behind the last character.
    let past = solid.last()?.end;
    let start = solid.get(before).map_or(past, |place| place.start);
    let end = solid.get(before + within.max(1) - 1).map_or(past, |place| place.end);
    Some(start..end.max((start + 1).min(raw.len())))
}

/// The places of a scalar's characters that are no white space.
fn solid(raw: &str, is_quoted: bool) -> Vec<Range<usize>> {
    let quote = raw.chars().next().filter(|_| is_quoted);
    let start = quote.map_or(0, char::len_utf8);
    let mut found = vec![];
    let mut chars = raw[start..].char_indices().map(|(index, c)| (start + index, c)).peekable();
    while let Some((index, c)) = chars.next() {
        let mut end = index + c.len_utf8();
        let mut is_solid = !c.is_whitespace();
        match (quote, c) {
            (Some('"'), '\\') => {
                let Some((at, escaped)) = chars.next() else { break };
                end = at + escaped.len_utf8();
                let digits = match escaped {
                    'x' => 2,
                    'u' => 4,
                    'U' => 8,
                    _ => 0,
                };
                for (at, digit) in chars.by_ref().take(digits) {
                    end = at + digit.len_utf8();
                }
                // A line break that is escaped joins two lines.
                is_solid = !matches!(escaped, 'n' | 't' | 'r' | ' ' | '\t' | '\n' | 'N' | '_' | 'L' | 'P');
            }
            (Some('\''), '\'') => {
                // Two stand for one; one ends the scalar.
                let Some((at, _)) = chars.next_if(|(_, next)| *next == '\'') else { break };
                end = at + 1;
            }
            (Some('"'), '"') => break,
            _ => {}
        }
        if is_solid {
            found.push(index..end);
        }
    }
    found
}

/// What folders hold.
#[derive(Debug, Default)]
pub struct Loaded {
    pub manifests: Vec<Manifest>,
    pub diagnostics: Vec<Diagnostic>,
    /// Objects that a file declares but that could not be taken.
    pub broken: Vec<Manifest>,
    /// Files of which nothing could be read: what they declared before still stands.
    pub unreadable: Vec<PathBuf>,
    /// Every object that was declared, by kind, namespace and name: its file, and where it begins there.
    known: HashMap<(String, String, String), (Arc<File>, usize)>,
    /// That of objects which name none; `default` unless said.
    namespace: Option<String>,
    /// What templates attach.
    pub enclosures: Enclosures,
    /// What lies beside the files; nothing, unless said.
    beside: Option<Arc<dyn Beside>>,
}

/// Reads every manifest under `root`, a folder or a file.
pub fn load(root: &Path) -> Loaded {
    load_all([root])
}

/// Reads every manifest under `roots`, folders or files. What lies below two of them is read once.
pub fn load_all<'r>(roots: impl IntoIterator<Item = &'r Path>) -> Loaded {
    load_into(None, roots)
}

/// The same, where objects that name no namespace are in `namespace`.
pub fn load_into<'r>(namespace: Option<String>, roots: impl IntoIterator<Item = &'r Path>) -> Loaded {
    let roots: Vec<&Path> = roots.into_iter().collect();
    let (files, diagnostics) = files_under(roots.iter().copied());
    let mut loaded = Loaded { diagnostics, namespace, ..Loaded::default() }.beside(Roots::of(roots));
    for path in files {
        match std::fs::read(&path) {
            Ok(bytes) => loaded.take_file(path, bytes),
            Err(error) => {
                loaded.diagnostics.push(Diagnostic::new(UNREADABLE, format!("{}: {error}", path.display()), 0..0));
                loaded.unreadable.push(path);
            }
        }
    }
    loaded
}

/// The same of files whose bytes somebody else has.
pub fn of_files(namespace: Option<String>, files: impl IntoIterator<Item = (PathBuf, Vec<u8>)>) -> Loaded {
    let mut loaded = Loaded { namespace, ..Loaded::default() };
    files.into_iter().for_each(|(path, bytes)| loaded.take_file(path, bytes));
    loaded
}

/// The files under `roots` that may hold manifests, each once and in order; and why these are not all.
pub fn files_under<'r>(roots: impl IntoIterator<Item = &'r Path>) -> (Vec<PathBuf>, Vec<Diagnostic>) {
    let (mut files, mut diagnostics, mut seen) = (vec![], vec![], BTreeSet::new());
    for root in roots {
        let before = files.len();
        if let Err(error) = collect(root, &mut files) {
            diagnostics.push(Diagnostic::new(UNREADABLE, format!("{}: {error}", root.display()), 0..0));
        }
        files[before..].sort();
    }
    files.retain(|path| seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())));
    (files, diagnostics)
}

impl Loaded {
    /// Reads one file more, whose bytes somebody else has: those of a revision in git, for example.
    pub fn take_file(&mut self, path: PathBuf, bytes: Vec<u8>) {
        load_file(path, bytes, self);
    }

    /// Whether an object is declared, right or wrong.
    pub fn declares(&self, kind: &str, namespace: &str, name: &str) -> bool {
        let identity = (kind.to_owned(), namespace.to_owned(), name.to_owned());
        self.known.contains_key(&identity)
            || self.broken.iter().any(|m| (&*m.kind, &*m.namespace, &*m.name) == (kind, namespace, name))
    }

    /// The namespaces of what is declared.
    pub fn namespaces(&self) -> BTreeSet<String> {
        self.manifests.iter().chain(&self.broken).map(|manifest| manifest.namespace.clone()).collect()
    }
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if path.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // A link to a folder could lead in circles; hidden folders hold our own state and git's.
        if name.starts_with('.') || files.len() > FILES_MAX {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&entry.path(), files)?;
        } else if name.ends_with(".yaml") || name.ends_with(".yml") {
            files.push(entry.path());
        }
    }
    if files.len() > FILES_MAX {
        return Err(std::io::Error::other(format!("more than {FILES_MAX} manifest files")));
    }
    Ok(())
}

fn load_file(path: PathBuf, bytes: Vec<u8>, loaded: &mut Loaded) {
    let text = match String::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let file = Arc::new(File::new(path.clone(), text));
            loaded.diagnostics.push(Diagnostic::new(UNREADABLE, "this file is not UTF-8", at..at).of(&file));
            loaded.unreadable.push(path);
            return;
        }
    };
    let file = Arc::new(File::new(path.clone(), text));
    match yaml::documents(&file.text) {
        Ok(documents) => documents.into_iter().for_each(|tree| load_object(tree, &file, loaded)),
        Err(diagnostic) => {
            loaded.diagnostics.push(diagnostic.of(&file));
            loaded.unreadable.push(path);
        }
    }
}

fn load_object(tree: yaml::Node, file: &Arc<File>, loaded: &mut Loaded) {
    let text = |name: &str| tree.get(name).map(yaml::Node::value).and_then(|v| v.as_str().map(str::to_owned));
    let (version, kind) = (text("apiVersion").unwrap_or_default(), text("kind").unwrap_or_default());
    let fail = |message: String, path: &str| Diagnostic::new(UNKNOWN_KIND, message, tree.at(path)).of(file);
    if kind == "List"
        && let Some(yaml::Node { kind: yaml::Kind::List(items), .. }) = tree.get("items")
    {
        return items.clone().into_iter().for_each(|item| load_object(item, file, loaded));
    }
    let is_core = version == "v1" && [SECRET, CONFIG_MAP].contains(&kind.as_str());
    let group = version.split_once('/').map_or("", |(group, _)| group);
    if group != GROUP && !is_core {
        if kind.is_empty() && version.is_empty() {
            loaded.diagnostics.push(
                fail("this is no Kubernetes object: it has no apiVersion and kind".to_owned(), "")
                    .hint("other YAML belongs elsewhere, or into a hidden folder"),
            );
        } else if version.is_empty() {
            loaded.diagnostics.push(
                fail(format!("this {kind} has no apiVersion"), "kind")
                    .hint(format!("write apiVersion: {GROUP}/{VERSION}")),
            );
        }
        return;
    }
    let is_known = is_core || SCHEMAS.contains_key(&kind);
    let near = nearest(&kind, SCHEMAS.keys().map(String::as_str)).filter(|_| !is_known);
    let wrong = if !is_core && version != format!("{GROUP}/{VERSION}") {
        let problem = fail(format!("there is no version `{version}`"), "apiVersion");
        Some(problem.hint(format!("write {GROUP}/{VERSION}")))
    } else if !is_known {
        let hint = near.map(|near| format!("did you mean `{near}`?"));
        Some(Diagnostic { hint, ..fail(format!("there is no kind `{kind}`"), "kind") })
    } else {
        None
    };
    let kind = near.map_or(kind, str::to_owned);
    if let Some(wrong) = wrong {
        loaded.diagnostics.push(wrong);
        // It is there, and what refers to it need not be told that it is not.
        if SCHEMAS.contains_key(&kind) {
            let (object, name) = identified(&tree, loaded.namespace.as_deref());
            loaded.broken.push(Manifest::new(file, kind, name, object, tree));
        }
        return;
    }
    take_object(tree, kind, file, loaded);
}

/// An object's value, its namespace and its name.
fn identified(tree: &yaml::Node, home: Option<&str>) -> (Value, (String, String)) {
    let object = tree.value();
    let field = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    let (name, namespace) = (field("name"), field("namespace"));
    let namespace = if namespace.is_empty() { home.unwrap_or(NAMESPACE).to_owned() } else { namespace };
    (object, (namespace, name))
}

fn take_object(tree: yaml::Node, kind: String, file: &Arc<File>, loaded: &mut Loaded) {
    let (mut object, name) = identified(&tree, loaded.namespace.as_deref());
    let mut found = metadata_problems(&object["metadata"]);
    if let Some(entries) = object.as_object_mut() {
        // Status is the controller's to write.
        entries.remove("status");
        let known = match kind.as_str() {
            SECRET => vec!["data", "stringData", "type", "immutable"],
            CONFIG_MAP => vec!["data", "binaryData", "immutable"],
            _ => vec!["spec"],
        };
        for unknown in entries
            .keys()
            .filter(|k| !["apiVersion", "kind", "metadata"].contains(&k.as_str()) && !known.contains(&k.as_str()))
        {
            let hint = nearest(unknown, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            let message = format!("unknown field `{unknown}`");
            found.push(schema::Invalid { id: schema::UNKNOWN_FIELD, path: unknown.clone(), message, hint });
        }
    }
    if let Some(schema) = SCHEMAS.get(&kind) {
        found.extend(schema::check(&mut object, schema));
    }
    let manifest = Manifest::new(file, kind, name, object, tree);
    let identity = (manifest.kind.clone(), manifest.namespace.clone(), manifest.name.clone());
    if let Some((first, at)) = loaded.known.get(&identity) {
        let message = format!(
            "{} `{}` is declared twice; first in {}:{}",
            manifest.kind,
            manifest.name,
            first.path.display(),
            first.line_column(*at).0
        );
        loaded.diagnostics.push(manifest.diagnose(DECLARED_TWICE, "metadata.name", None, message, None));
        return;
    }
    // Without a name it is nobody's twin.
    if !manifest.name.is_empty() {
        loaded.known.insert(identity, (file.clone(), manifest.tree.span.start));
    }
    if found.is_empty() {
        loaded.manifests.push(manifest);
    } else {
        let diagnose = |i: schema::Invalid| manifest.diagnose(i.id, &i.path, None, i.message, i.hint);
        loaded.diagnostics.extend(found.into_iter().map(diagnose));
        loaded.broken.push(manifest);
    }
}

fn metadata_problems(metadata: &Value) -> Vec<schema::Invalid> {
    let mut found = vec![];
    let mut add = |path: &str, message: String, hint: Option<String>| {
        found.push(schema::Invalid { id: INVALID_METADATA, path: path.to_owned(), message, hint })
    };
    let name = metadata["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        add("metadata", "the object has no name".to_owned(), Some("write metadata: {name: …}".to_owned()));
    } else if !is_dns_name(name) {
        add("metadata.name", format!("`{name}` is not a name: use lower-case letters, digits, `-` and `.`"), None);
    }
    // `creationTimestamp: null` is what kubectl writes by `create --dry-run`.
    let is_written = |key: &str| key == "creationTimestamp" && metadata[key].is_null();
    const KNOWN: [&str; 5] = ["name", "namespace", "labels", "annotations", "finalizers"];
    let empty = serde_json::Map::new();
    for key in metadata.as_object().unwrap_or(&empty).keys().filter(|k| !KNOWN.contains(&k.as_str()) && !is_written(k))
    {
        let hint = nearest(key, KNOWN).map(|near| format!("did you mean `{near}`?"));
        add(&format!("metadata.{key}"), format!("unknown field `{key}`"), hint);
    }
    for map in ["labels", "annotations"] {
        for (key, value) in metadata[map].as_object().unwrap_or(&empty) {
            if !value.is_string() {
                add(&format!("metadata.{map}.{key}"), format!("`{key}` must be a text"), Some("quote it".to_owned()));
            }
        }
    }
    found
}

fn is_dns_name(name: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let edges = [name.bytes().next(), name.bytes().last()];
    name.len() <= NAME_CHARS_MAX
        && name.bytes().all(|b| alnum(b) || b == b'-' || b == b'.')
        && edges.iter().all(|edge| edge.is_some_and(alnum))
}

/// The values of a Secret's manifest.
pub fn secret_of(manifest: &Manifest) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for (key, value) in manifest.object["data"].as_object().into_iter().flatten() {
        let decoded = serde_json::from_value::<k8s_openapi::ByteString>(value.clone());
        let text = decoded.ok().and_then(|bytes| String::from_utf8(bytes.0).ok());
        values.extend(text.map(|text| (key.clone(), text)));
    }
    for (key, value) in manifest.object["stringData"].as_object().into_iter().flatten() {
        values.extend(value.as_str().map(|text| (key.clone(), text.to_owned())));
    }
    values
}

/// The labels and annotations of an object, as stored beside its spec.
pub fn meta_of(object: &Value) -> Value {
    json!({"labels": object["metadata"]["labels"], "annotations": object["metadata"]["annotations"]})
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the diagnostic about `inside` of the value at `a` underlines.
    fn shown(text: &str, inside: &str) -> String {
        shown_at(text, |value| value.find(inside).map(|at| at..at + inside.len()).unwrap())
    }

    fn past_the_end(text: &str) -> String {
        shown_at(text, |value| value.len()..value.len())
    }

    fn shown_at(text: &str, place: impl Fn(&str) -> Range<usize>) -> String {
        let text = format!("apiVersion: campanile.dev/v1alpha1\nkind: Channel\nmetadata: {{name: c}}\n{text}\n");
        let mut loaded = Loaded::default();
        loaded.take_file("a.yaml".into(), text.clone().into_bytes());
        let manifest = loaded.broken.first().or(loaded.manifests.first()).unwrap();
        let Some(yaml::Node { kind: yaml::Kind::Scalar(Value::String(value), _), .. }) = manifest.tree.find("a") else {
            panic!("no text at `a`")
        };
        text[manifest.diagnose("x", "a", Some(place(value)), "", None).span].to_owned()
    }

    #[test]
    fn a_place_in_a_text_is_found_however_the_text_is_written() {
        assert_eq!(shown("a: one two three", "two"), "two");
        assert_eq!(shown("a: 'it''s two three'", "two"), "two");
        assert_eq!(shown(r#"a: "\"one\" \u00e9 two three""#, "two"), "two");
        assert_eq!(shown(r#"a: "x == \"IT\" && two""#, "\"IT\""), r#"\"IT\""#);
        assert_eq!(shown("a: >-\n  one\n  two\n  three", "two"), "two");
        assert_eq!(shown("a: |\n  one\n\n    two\n  three", "two"), "two");
        assert_eq!(shown("a: >-\n  \"one\" in two\n  three", "\"one\""), "\"one\"");
        assert_eq!(shown("a: Zoë ist zwei", "zwei"), "zwei");
        // Behind the end stands the quote.
        assert_eq!(shown("a: 'one >'", ""), "o");
        assert_eq!(past_the_end("a: 'one >'"), "'");
        assert_eq!(past_the_end("a: one >"), "");
    }
}
