//! Which of the files that are there are read, and which of them together.
//!
//! A file of changes is read by itself. A snapshot is one file, or all that one marker completes; of several snapshots
//! only the last by name says what there is, so that earlier ones are not even read.

use std::time::Duration;

use super::format;
use crate::{
    api::dataset::{Contents, Entity, FileSource},
    files::Found,
    store::files::FileRead,
};

/// What is to be done about the files of one source.
#[derive(Debug, Default)]
pub struct Work {
    /// Files to read, in order; those of one entry are one snapshot.
    pub units: Vec<Vec<Found>>,
    /// Files that a later snapshot made needless, with its name.
    pub superseded: Vec<(Found, String)>,
    /// Files that are being written.
    pub unsettled: usize,
    /// After which time the first of them may be whole.
    pub settles_in: Duration,
    /// Files that no marker completes yet.
    pub incomplete: usize,
    /// Why files that were read before were refused.
    pub refused: Vec<String>,
}

/// What a file is read as; when a field is new, the file is read again.
pub fn fields_of(entity: &Entity) -> String {
    let fields = entity.fields.iter().map(|f| format!("{}:{:?}:{:?}", f.name, f.kind, f.scale));
    fields.collect::<Vec<_>>().join(",")
}

/// The same with what decides whether a file is refused; when it changes, a refused file is read again.
pub fn limits_of(entity: &Entity, source: &FileSource) -> String {
    let required = entity.fields.iter().filter(|f| f.required).map(|f| &*f.name).collect::<Vec<_>>().join(",");
    let FileSource { contents, format, max_rejects, max_deletes, time_zone, .. } = source;
    format!("{}|{required}|{contents:?}|{format:?}|{max_rejects:?}|{max_deletes:?}|{time_zone:?}", fields_of(entity))
}

/// Decides about the files that were found, by what is known of them.
pub fn plan(entity: &Entity, source: &FileSource, found: Vec<Found>, known: &[FileRead]) -> Work {
    let mut work = Work { settles_in: Duration::MAX, ..Work::default() };
    let (fields, limits) = (fields_of(entity), limits_of(entity, source));
    let is_read = |file: &Found| {
        known.iter().any(|k| k.path == file.name && k.stamp == file.stamp && has_read(k, &fields, &limits))
    };
    let (mut markers, mut files) = (vec![], vec![]);
    let is_marker = |name: &str| source.complete_when.as_ref().is_some_and(|pattern| matches(pattern, base(name)));
    // A source that is one file has whatever name it has.
    let is_single = found.len() == 1 && found[0].name == source.url;
    for file in found {
        if is_marker(&file.name) {
            markers.push(file);
        } else if is_single || format::is_named_as(source.format, &file.name) {
            files.push(file);
        }
    }
    let is_named = |marker: &Found| files.iter().any(|file| base(&file.name).starts_with(stem(&marker.name)));
    let general: Vec<Found> = markers.iter().filter(|marker| !is_named(marker)).cloned().collect();
    let mut groups: Vec<(Option<String>, Vec<Found>)> = vec![];
    for file in files {
        if !file.settles_in.is_zero() && !is_read(&file) {
            work.unsettled += 1;
            work.settles_in = work.settles_in.min(file.settles_in);
            // What it is part of is not whole either.
            continue;
        }
        let Some(marker) = source.complete_when.as_ref().map(|_| completes(&markers, &general, &file)) else {
            groups.push((None, vec![file]));
            continue;
        };
        match marker {
            None => work.incomplete += usize::from(!is_read(&file)),
            Some(marker) => match groups.iter_mut().find(|(name, _)| name.as_ref() == Some(&marker.name)) {
                Some((_, group)) if source.contents == Contents::Snapshot => group.push(file),
                _ => groups.push((Some(marker.name.clone()), vec![file])),
            },
        }
    }
    let mut groups: Vec<Vec<Found>> = groups.into_iter().map(|(_, group)| group).collect();
    groups.sort_by(|a, b| last(a).cmp(last(b)));
    if source.contents == Contents::Snapshot {
        // While a file is being written, nobody knows what the last snapshot is.
        let newest = if work.unsettled > 0 { None } else { groups.pop() };
        let name = newest.as_ref().map(|group| last(group).to_owned());
        if let Some(name) = &name {
            let old = groups.into_iter().flatten().filter(|file| !is_read(file));
            work.superseded = old.map(|file| (file, name.clone())).collect();
        }
        groups = newest.into_iter().collect();
    }
    for group in groups {
        if group.iter().all(is_read) {
            let of = |file: &Found| {
                let note = known.iter().find(|k| k.path == file.name)?;
                Some(format!("{}: {}", file.name, note.problem.as_ref()?))
            };
            work.refused.extend(group.iter().filter_map(of));
        } else {
            work.units.push(group);
        }
    }
    work
}

fn has_read(note: &FileRead, fields: &str, limits: &str) -> bool {
    if note.problem.is_some() {
        return note.shape == limits;
    }
    let read: Vec<&str> = note.shape.split(',').collect();
    fields.split(',').all(|field| read.contains(&field))
}

fn last(group: &[Found]) -> &str {
    group.last().map_or("", |file| &file.name)
}

fn base(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn stem(name: &str) -> &str {
    let base = base(name);
    base.split_once('.').map_or(base, |(stem, _)| stem)
}

/// The marker that says that a file is whole: the longest whose name the file's begins with; else, of the markers with
/// which no file's name begins, one that is not older than the file.
fn completes<'m>(markers: &'m [Found], general: &'m [Found], file: &Found) -> Option<&'m Found> {
    let begins = |marker: &&Found| base(&file.name).starts_with(stem(&marker.name));
    let named = markers.iter().filter(begins).max_by_key(|marker| stem(&marker.name).len());
    named.or_else(|| general.iter().find(|marker| marker.modified >= file.modified))
}

/// `*` stands for any text, `?` for one character.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, n) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        for (pattern, name, is) in [
            ("*.done", "customers.done", true),
            ("*.done", "customers.done.csv", false),
            ("_SUCCESS", "_SUCCESS", true),
            ("a?c*", "abcde", true),
            ("*a*b", "xaxxb", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), is, "{pattern} {name}");
        }
    }
}
