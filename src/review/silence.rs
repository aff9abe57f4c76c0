//! Silencing a warning where it stands.
//!
//! ```yaml
//! spec:
//!   where: customer.country != "IT"     # campanile: ignore includes-missing
//!   # campanile: ignore skips-short-months
//!   schedule: {cron: "0 9 31 * *", timeZone: Europe/Rome}
//! metadata:
//!   annotations: {campanile.dev/ignore: "unused-audience, no-source"}
//! ```
//!
//! A comment holds for what begins in its own line or, where nothing else stands there, in the next; the annotation for
//! the whole object. An ignore that silences nothing is a warning itself, so that none outlives its reason. Errors
//! cannot be silenced.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{rules, tree::Tree};
use crate::source::{
    Key,
    manifest::{Diagnostic, File, Manifest, Severity},
};

const COMMENT: &str = "# campanile: ignore ";
pub const ANNOTATION: &str = "campanile.dev/ignore";
const NEEDLESS: &str = "needless-ignore";

/// One name in one ignore.
struct Ignore {
    id: String,
    /// In the file.
    at: usize,
    /// The line whose things it is about.
    line: usize,
}

/// Divides warnings into those that are said and those that were silenced; ignores that silence nothing are said.
pub fn apply(tree: &Tree, found: Vec<Diagnostic>) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
    let mut files: BTreeMap<_, (Arc<File>, Vec<Ignore>)> = BTreeMap::new();
    for manifest in tree.manifests() {
        files.entry(manifest.file.path.clone()).or_insert_with(|| (manifest.file.clone(), ignores(&manifest.file)));
    }
    let annotated: BTreeMap<Key, Vec<String>> = tree.manifests().iter().filter_map(annotation).collect();
    let (mut said, mut silenced, mut used) = (vec![], vec![], BTreeSet::new());
    let mut used_annotations = BTreeSet::new();
    for diagnostic in found {
        let Some((file, about)) = diagnostic.file.clone().zip(diagnostic.about.as_ref()) else {
            said.push(diagnostic);
            continue;
        };
        let key = Key::named(&about.kind, &about.namespace, &about.name);
        let by_annotation =
            key.filter(|key| annotated.get(key).is_some_and(|ids| ids.iter().any(|id| id == diagnostic.id)));
        let lines = lines(tree, &diagnostic);
        let comments = files.get(&file.path).map_or(&[][..], |(_, ignores)| ignores.as_slice());
        let comment = comments.iter().find(|ignore| ignore.id == diagnostic.id && lines.contains(&ignore.line));
        if let Some(ignore) = comment {
            used.insert((file.path.clone(), ignore.at));
        }
        if let Some(key) = &by_annotation {
            used_annotations.insert((key.clone(), diagnostic.id));
        }
        if comment.is_some() || by_annotation.is_some() { silenced.push(diagnostic) } else { said.push(diagnostic) }
    }
    for (path, (file, ignores)) in &files {
        for ignore in ignores.iter().filter(|ignore| !used.contains(&(path.clone(), ignore.at))) {
            let span = ignore.at..ignore.at + ignore.id.len();
            let diagnostic = Diagnostic::new(NEEDLESS, needless(&ignore.id), span);
            said.push(Diagnostic { severity: Severity::Warning, file: Some(file.clone()), ..diagnostic });
        }
    }
    for (key, ids) in &annotated {
        for id in ids.iter().filter(|id| !used_annotations.iter().any(|(k, used)| k == key && used == id)) {
            let Some(manifest) = tree.manifest(key) else { continue };
            let path = format!("metadata.annotations.{ANNOTATION}");
            let diagnostic = manifest.diagnose(NEEDLESS, &path, None, needless(id), None);
            said.push(Diagnostic { severity: Severity::Warning, ..diagnostic });
        }
    }
    said.sort_by_cached_key(|d| (d.file.as_ref().map(|file| file.path.clone()), d.span.start));
    (said, silenced)
}

fn needless(id: &str) -> String {
    match rules::rule(id) {
        Some(rule) if rule.severity == Severity::Error => format!("`{id}` is an error and cannot be silenced"),
        Some(_) => format!("there is no warning `{id}` here"),
        None => format!("there is no warning `{id}`"),
    }
}

/// The lines in which the thing itself begins, and what it is part of.
fn lines(tree: &Tree, diagnostic: &Diagnostic) -> BTreeSet<usize> {
    let mut lines = BTreeSet::from([diagnostic.line_column().0]);
    let Some((file, about)) = diagnostic.file.as_ref().zip(diagnostic.about.as_ref()) else { return lines };
    let key = Key::named(&about.kind, &about.namespace, &about.name);
    if let Some(manifest) = key.and_then(|key| tree.manifest(&key)) {
        let way = manifest.tree.way(&about.path);
        lines.extend(way.into_iter().map(|(begin, _)| file.line_column(begin.start).0));
        lines.insert(file.line_column(manifest.tree.span.start).0);
    }
    lines
}

fn annotation(manifest: &Manifest) -> Option<(Key, Vec<String>)> {
    let text = manifest.object["metadata"]["annotations"][ANNOTATION].as_str()?;
    let ids = text.split(',').map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned);
    Some((manifest.key()?, ids.collect()))
}

/// The comments of a file.
fn ignores(file: &File) -> Vec<Ignore> {
    let mut found = vec![];
    let mut start = 0;
    let lines: Vec<&str> = file.text.split_inclusive('\n').collect();
    let is_bare = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    for (index, line) in lines.iter().enumerate() {
        if let Some(at) = line.find(COMMENT).filter(|at| line[..*at].ends_with(char::is_whitespace) || *at == 0) {
            // On a line of its own it is about the next thing.
            let below = lines[index..].iter().position(|line| !is_bare(line)).unwrap_or(0);
            let mut place = start + at + COMMENT.len();
            for part in line[at + COMMENT.len()..].trim_end().split([',', ' ']) {
                if !part.is_empty() {
                    found.push(Ignore { id: part.to_owned(), at: place, line: index + 1 + below });
                }
                place += part.len() + 1;
            }
        }
        start += line.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_about_its_line_or_the_next_thing() {
        let text = "a: 1 # campanile: ignore x, y\n# campanile: ignore z\n\n# more\nb: \"# campanile: ignore\"\n";
        let file = File::new("a.yaml".into(), text.to_owned());
        let found: Vec<(String, usize, &str)> =
            ignores(&file).into_iter().map(|i| (i.id.clone(), i.line, &text[i.at..i.at + i.id.len()])).collect();
        assert_eq!(found, [("x".to_owned(), 1, "x"), ("y".to_owned(), 1, "y"), ("z".to_owned(), 5, "z")]);
    }
}
