//! What differs between two trees, in words, and the campaigns that it reaches: directly, or through what they use.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{
    report::{Change, ObjectChange, called},
    tree::Tree,
};
use crate::{
    api::template::kept,
    plan::Bundle,
    source::{Key, Kind, admission::Sound},
};

/// More differences of one object are only counted.
const WORDS_MAX: usize = 24;
/// A longer text is told by its lines.
const VALUE_CHARS_MAX: usize = 100;
/// What was deleted and what was made anew look like a rename when so much of them is the same, in percent.
const ALIKE_PERCENT: usize = 70;
/// Under which our annotations stand beside what a spec has.
const ANNOTATIONS: &str = "annotations";

/// What differs.
#[derive(Debug, Default)]
pub struct Difference {
    pub objects: Vec<ObjectChange>,
    /// The campaigns of the head that are touched, and why.
    pub touched: BTreeMap<Key, Vec<String>>,
    /// By campaign, what else is to be said of it.
    pub notes: BTreeMap<Key, Vec<String>>,
}

/// What a change does to the objects of `base`. Where that is live, an annotation that only it has was set by hand, and
/// `apply` leaves it alone.
pub fn between(base: &Tree, head: &Tree, is_live: bool) -> Difference {
    let (mut old, new) = (specs(base), specs(head));
    if is_live {
        old.iter_mut().for_each(|(key, spec)| leave_to_hands(spec, new.get(key)));
    }
    let mut found = BTreeMap::<&Key, (Change, Vec<String>)>::new();
    for (key, spec) in &new {
        match old.get(key) {
            None => drop(found.insert(key, (Change::Added, vec![]))),
            Some(before) if before != spec => drop(found.insert(key, (Change::Changed, words(before, spec)))),
            Some(_) => {}
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(key)) {
        found.insert(key, (Change::Removed, vec![]));
    }
    let mut all = Difference::default();
    for (removed, added) in renames(&found, &old, &new) {
        if head.takes_over(added, removed) {
            continue;
        }
        let note = format!("it looks like {} renamed: names are identity", removed.name);
        found.entry(added).and_modify(|(_, words)| words.push(note));
        found
            .entry(removed)
            .and_modify(|(_, words)| words.push(format!("it looks as if it is called {} now", added.name)));
        if added.kind == Kind::Campaign {
            let note = format!(
                "it looks like `{}` under another name; what that sent, `once`, `incremental` and its history do not come \
                 along, so people who got that may get this",
                removed.name
            );
            all.notes.entry(added.clone()).or_default().push(note);
        }
    }
    let removed = found.iter().filter(|(_, (change, _))| *change == Change::Removed).map(|(key, _)| *key);
    let taken_over: Vec<_> = removed.filter_map(|former| Some((former, head.heir(former)?))).collect();
    for (former, name) in taken_over {
        found
            .entry(former)
            .and_modify(|(_, words)| words.push(format!("`{}` takes over from it (`formerly`)", name.name)));
        let note = format!(
            "it takes over from `{}`: its history, `once`, what `incremental` took and its starts come along, and nobody \
             gets anything again",
            former.name
        );
        all.notes.entry(name.clone()).or_default().push(note);
    }
    for (key, because) in reached(head, &found) {
        all.touched.insert(key, because);
    }
    for (key, (change, words)) in found {
        let by_it = |(campaign, because): (&Key, &Vec<String>)| {
            let is_named = campaign == key || because.iter().any(|b| b.starts_with(&through(key)));
            (campaign.namespace == key.namespace && is_named).then(|| called(&campaign.namespace, &campaign.name))
        };
        all.objects.push(ObjectChange {
            kind: key.kind.as_str().to_owned(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            change,
            words,
            campaigns: all.touched.iter().filter_map(by_it).collect(),
        });
    }
    all
}

fn leave_to_hands(live: &mut Value, declared: Option<&Value>) {
    let declared = declared.and_then(|spec| spec.get(ANNOTATIONS));
    let Some(fields) = live.as_object_mut() else { return };
    let Some(Value::Object(own)) = fields.get_mut(ANNOTATIONS) else { return };
    own.retain(|name, _| declared.is_some_and(|declared| declared.get(name).is_some()));
    if own.is_empty() {
        fields.remove(ANNOTATIONS);
    }
}

/// The specs of a tree as JSON, with what is beside them and matters.
fn specs(tree: &Tree) -> BTreeMap<Key, Value> {
    let manifests = tree.manifests().iter().filter_map(|manifest| {
        let mut spec = manifest.object["spec"].clone();
        if manifest.kind == Kind::MessageTemplate.as_str() {
            kept::forget_lost(&mut spec);
        }
        if let (Value::Object(fields), Value::Object(annotations)) =
            (&mut spec, &manifest.object["metadata"]["annotations"])
        {
            let own = annotations.iter().filter(|(name, _)| name.starts_with("campanile.dev/"));
            let own: Map<String, Value> = own.map(|(name, value)| (name.clone(), value.clone())).collect();
            if !own.is_empty() {
                fields.insert(ANNOTATIONS.to_owned(), Value::Object(own));
            }
        }
        Some((manifest.key()?, spec))
    });
    manifests.collect()
}

fn through(key: &Key) -> String {
    format!("{} `{}` ", key.kind, key.name)
}

/// The campaigns that a change reaches.
fn reached(head: &Tree, found: &BTreeMap<&Key, (Change, Vec<String>)>) -> BTreeMap<Key, Vec<String>> {
    let mut touched = BTreeMap::new();
    for (key, sound) in head.checked() {
        let Sound::Campaign(campaign) = sound else { continue };
        let mut because = vec![];
        match found.get(key) {
            Some((Change::Added, _)) => because.push("it is new".to_owned()),
            Some(_) => because.push("it changed".to_owned()),
            None => {}
        }
        for used in uses(&campaign.bundle) {
            if let Some((change, _)) = found.get(&used) {
                let how = match change {
                    Change::Added => "is new",
                    Change::Changed => "changed",
                    Change::Removed => "is gone",
                };
                because.push(format!("{}{how}", through(&used)));
            }
        }
        if !because.is_empty() {
            touched.insert(key.clone(), because);
        }
    }
    touched
}

/// All that a campaign is made of, beside itself.
fn uses(bundle: &Bundle) -> BTreeSet<Key> {
    let of = |kind: Kind, names: &mut dyn Iterator<Item = &String>| -> Vec<Key> {
        names.map(|name| Key::new(kind, &bundle.namespace, name)).collect()
    };
    let mut all: BTreeSet<Key> = of(Kind::Audience, &mut bundle.audiences.keys()).into_iter().collect();
    all.extend(of(Kind::Audience, &mut bundle.saved.keys()));
    all.extend(of(Kind::Channel, &mut bundle.channels.keys()));
    all.extend(of(Kind::MessageTemplate, &mut bundle.templates.keys()));
    all.extend(of(Kind::ContactPolicy, &mut bundle.policies.keys()));
    all.insert(Key::new(Kind::Dataset, &bundle.namespace, &bundle.campaign.dataset));
    all
}

/// What was removed, and what of the same kind is new and much the same.
fn renames<'k>(
    found: &BTreeMap<&'k Key, (Change, Vec<String>)>,
    old: &BTreeMap<Key, Value>,
    new: &BTreeMap<Key, Value>,
) -> Vec<(&'k Key, &'k Key)> {
    let of = |wanted: Change| found.iter().filter(move |(_, (change, _))| *change == wanted).map(|(key, _)| *key);
    let mut taken = BTreeSet::new();
    let mut pairs = vec![];
    for removed in of(Change::Removed) {
        let alike = of(Change::Added)
            .filter(|added| {
                added.kind == removed.kind && added.namespace == removed.namespace && !taken.contains(added)
            })
            .filter_map(|added| Some((likeness(old.get(removed)?, new.get(added)?), added)))
            .max_by_key(|(likeness, _)| *likeness);
        if let Some((likeness, added)) = alike
            && likeness >= ALIKE_PERCENT
        {
            taken.insert(added);
            pairs.push((removed, added));
        }
    }
    pairs
}

/// How many of the values of two specs are the same, in percent.
fn likeness(a: &Value, b: &Value) -> usize {
    let (a, b) = (leaves(a), leaves(b));
    let same = a.iter().filter(|(path, value)| b.get(*path) == Some(*value)).count();
    same * 100 / a.len().max(b.len()).max(1)
}

fn leaves(value: &Value) -> BTreeMap<String, &Value> {
    fn put<'v>(path: String, value: &'v Value, found: &mut BTreeMap<String, &'v Value>) {
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(name, value)| put(format!("{path}.{name}"), value, found));
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(index, value)| put(format!("{path}.{index}"), value, found));
            }
            _ => drop(found.insert(path, value)),
        }
    }
    let mut found = BTreeMap::new();
    put(String::new(), value, &mut found);
    found
}

/// A sentence for each field that differs.
fn words(before: &Value, after: &Value) -> Vec<String> {
    let mut words = vec![];
    compare("", before, after, &mut words);
    let more = words.len().saturating_sub(WORDS_MAX);
    words.truncate(WORDS_MAX);
    if more > 0 {
        words.push(format!("and {more} more"));
    }
    words
}

fn compare(path: &str, before: &Value, after: &Value, words: &mut Vec<String>) {
    let at = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, value) in new {
                match old.get(name) {
                    Some(before) => compare(&at(name), before, value, words),
                    None => words.push(format!("{} is new: {}", at(name), shown(value))),
                }
            }
            let gone = old.iter().filter(|(name, _)| !new.contains_key(*name));
            words.extend(gone.map(|(name, value)| format!("{} is gone; it was {}", at(name), shown(value))));
        }
        (Value::Array(old), Value::Array(new)) if named(old).is_some() && named(new).is_some() => {
            let (old, new) = (named(old).unwrap_or_default(), named(new).unwrap_or_default());
            for (name, value) in &new {
                match old.iter().find(|(known, _)| known == name) {
                    Some((_, before)) => compare(&at(name), before, value, words),
                    None => words.push(format!("{path}: {name} is new")),
                }
            }
            let gone = old.iter().filter(|(name, _)| !new.iter().any(|(known, _)| known == name));
            words.extend(gone.map(|(name, _)| format!("{path}: {name} is gone")));
            let order = |all: &[(&str, &Value)], others: &[(&str, &Value)]| -> Vec<String> {
                let both = all.iter().filter(|(name, _)| others.iter().any(|(known, _)| known == name));
                both.map(|(name, _)| (*name).to_owned()).collect()
            };
            if order(&old, &new) != order(&new, &old) {
                words.push(format!("{path} are in another order: {}", order(&new, &old).join(", ")));
            }
        }
        (Value::String(old), Value::String(new)) if old != new && (is_long(old) || is_long(new)) => {
            let lines = super::difference::lines(old, new);
            let count = |sign: char| lines.iter().filter(|line| line.starts_with(sign)).count();
            words.push(format!("{path}: {} lines more, {} fewer", count('+'), count('-')));
        }
        _ if before != after => words.push(format!("{path} was {}, and is {}", shown(before), shown(after))),
        _ => {}
    }
}

/// Items by their names, where all have one.
fn named(items: &[Value]) -> Option<Vec<(&str, &Value)>> {
    items.iter().map(|item| Some((item.get("name")?.as_str()?, item))).collect()
}

fn is_long(text: &str) -> bool {
    text.contains('\n') || text.chars().count() > VALUE_CHARS_MAX
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => format!("`{text}`"),
        Value::Object(fields) if fields.is_empty() => "empty".to_owned(),
        other => format!("`{other}`"),
    };
    if is_long(&text) {
        let start: String = text.chars().take(VALUE_CHARS_MAX).map(|c| if c == '\n' { ' ' } else { c }).collect();
        return format!("{start}…`");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = include_str!("report/fixtures/base.yaml");

    fn tree(text: &str) -> Tree {
        let tree = Tree::of_files([("town.yaml".into(), text.as_bytes().to_vec())]);
        assert!(tree.errors().is_empty(), "{}", tree.errors()[0]);
        tree
    }

    fn told(head: &str) -> String {
        let difference = between(&tree(BASE), &tree(head), false);
        let mut out = vec![];
        for object in &difference.objects {
            out.push(format!("{} {} {:?} -> {}", object.kind, object.name, object.change, object.campaigns.join(", ")));
            out.extend(object.words.iter().map(|word| format!("    {word}")));
        }
        for (what, lines) in difference.touched.iter().chain(&difference.notes) {
            out.push(format!("{}: {}", what.name, lines.join("; ")));
        }
        out.join("\n")
    }

    #[test]
    fn what_changed_is_told_by_field_and_by_campaign() {
        assert_eq!(told(BASE), "");
        let head = BASE
            .replace("person.country == \"IT\"", "person.country != \"IT\"")
            .replace("0 9 * * *", "30 8 * * *")
            .replace("Hello {{ person.name }}", "Dear {{ person.name }}");
        insta::assert_snapshot!("fields", told(&head));
    }

    #[test]
    fn steps_are_told_by_their_names() {
        let head = BASE.replace(
            "  - name: mail\n",
            "  - name: few\n    deduplicate: {by: [country], keep: {first: id}}\n  - name: mail\n",
        );
        insta::assert_snapshot!("steps", told(&head));
    }

    #[test]
    fn what_is_deleted_and_made_anew_looks_like_a_rename() {
        insta::assert_snapshot!(
            "rename",
            told(&BASE.replace("metadata: {name: greeting}", "metadata: {name: welcome}"))
        );
    }
}
