//! The tests of some folders: read, checked against their manifests, and made ready to run.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use kube::CustomResourceExt;
use serde_json::Value as Json;

use super::fixture::{Fixture, Wrong, key_of, keys_of};
use crate::{
    api::{
        CampaignSpec, crd,
        dataset::Entity,
        test::{Members, TEST_GROUP, Test, TestSpec},
    },
    plan::{
        Bundle, Finding, Plan,
        audience::{gather_one, own_params},
    },
    review::tree::Tree,
    rule::{Dialect, nearest},
    source::{
        Key, Kind,
        manifest::{self, Diagnostic, File, Manifest, schema, yaml},
    },
};

/// Tests run on SQLite, wherever the campaigns do: both give the same answers.
pub const DIALECT: Dialect = Dialect::Sqlite;

/// The name under which a wrong test is reported.
const INVALID: &str = "invalid-test";

static SCHEMA: LazyLock<Json> = LazyLock::new(|| crd::schema_of(&Test::crd()).unwrap_or_default());

/// What a test is of.
pub enum Of {
    Campaign(Arc<(Bundle, Plan)>),
    /// The plan is of the audience with its own parameters.
    Audience(Arc<(Bundle, Plan)>),
}

/// A test that can be run.
pub struct Prepared {
    pub file: PathBuf,
    pub name: String,
    pub namespace: String,
    pub spec: TestSpec,
    pub of: Of,
    /// Of each case.
    pub fixtures: Vec<Fixture>,
}

/// Reads and checks every test under the paths.
///
/// # Errors
/// All that is wrong with the tests, and with the manifests that they are of.
pub fn prepare(paths: &[impl AsRef<Path>]) -> Result<Vec<Prepared>, Vec<Diagnostic>> {
    let (files, mut diagnostics) = manifest::files_under(paths.iter().map(AsRef::as_ref));
    let mut tests = vec![];
    files.iter().for_each(|file| read(file, &mut tests, &mut diagnostics));
    // Of a test that is named by itself, the manifests stand beside it.
    let root = |path: &Path| match path.parent().filter(|_| path.is_file()) {
        None => path.to_owned(),
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
    };
    let roots: Vec<PathBuf> = paths.iter().map(|path| root(path.as_ref())).collect();
    let tree = Tree::read(&roots);
    diagnostics.extend(tree.errors().iter().cloned());
    if !diagnostics.is_empty() {
        return Err(diagnostics);
    }
    let mut prepared = vec![];
    for (manifest, spec) in tests {
        match prepare_one(&manifest, spec, &tree) {
            Ok(test) => prepared.push(test),
            Err(found) => diagnostics.extend(found),
        }
    }
    if diagnostics.is_empty() { Ok(prepared) } else { Err(diagnostics) }
}

fn read(path: &Path, tests: &mut Vec<(Manifest, TestSpec)>, diagnostics: &mut Vec<Diagnostic>) {
    // What cannot be read is said where the manifests are.
    let Ok(text) = std::fs::read_to_string(path) else { return };
    if !text.contains(TEST_GROUP) {
        return;
    }
    let file = Arc::new(File::new(path.to_owned(), text));
    let Ok(documents) = yaml::documents(&file.text) else { return };
    for tree in documents {
        let mut object = tree.value();
        let version = object["apiVersion"].as_str().unwrap_or_default();
        if version.split_once('/').map_or("", |(group, _)| group) != TEST_GROUP {
            continue;
        }
        let is_known = version == format!("{TEST_GROUP}/v1alpha1") && object["kind"] == "Test";
        let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
        let (name, namespace) = (text("name"), text("namespace"));
        let namespace = if namespace.is_empty() { "default".to_owned() } else { namespace };
        let found = match is_known {
            true => schema::check(&mut object, &SCHEMA),
            false => vec![],
        };
        let manifest = Manifest::new(&file, "Test".to_owned(), (namespace, name), object, tree);
        let mut fail = |path: &str, message: String, hint: Option<String>| {
            diagnostics.push(manifest.diagnose(INVALID, path, None, message, hint));
        };
        if !is_known {
            let hint = format!("write apiVersion: {TEST_GROUP}/v1alpha1 and kind: Test");
            fail("apiVersion", "there is no such kind of test".to_owned(), Some(hint));
            continue;
        }
        if manifest.name.is_empty() {
            fail("metadata", "the test has no name".to_owned(), Some("write metadata: {name: …}".to_owned()));
            continue;
        }
        if !found.is_empty() {
            found.into_iter().for_each(|invalid| fail(&invalid.path, invalid.message, invalid.hint));
            continue;
        }
        let is_same = |known: &&(Manifest, TestSpec)| {
            (&known.0.namespace, &known.0.name) == (&manifest.namespace, &manifest.name)
        };
        if let Some((first, _)) = tests.iter().find(is_same) {
            let message = format!("Test `{}` is declared twice; first in {}", manifest.name, first.file.path.display());
            fail("metadata.name", message, None);
            continue;
        }
        match serde_json::from_value(manifest.object["spec"].clone()) {
            Ok(spec) => tests.push((manifest, spec)),
            Err(error) => {
                let hint = "rows are a list or {csv: FILE}, keys a list, texts one or a list";
                fail("spec", format!("this cannot be read: {error}"), Some(hint.to_owned()));
            }
        }
    }
}

fn prepare_one(manifest: &Manifest, spec: TestSpec, tree: &Tree) -> Result<Prepared, Vec<Diagnostic>> {
    let of = match (&spec.campaign, &spec.audience) {
        (Some(name), _) => campaign(name, manifest, tree)?,
        (None, Some(name)) => audience(name, manifest, tree)?,
        (None, None) => {
            return Err(vec![manifest.diagnose(INVALID, "spec", None, "a test is of a campaign or an audience", None)]);
        }
    };
    let mut wrong = vec![];
    let folder = manifest.file.path.parent().unwrap_or(Path::new(".")).to_owned();
    let fixtures = {
        let (Of::Campaign(pinned) | Of::Audience(pinned)) = &of;
        let mut base = Fixture::default();
        base.add(&spec.data, &pinned.0.dataset, ("spec.data", &folder), &mut wrong);
        filled(&spec, pinned, &mut base, &mut wrong);
        let mut fixtures = vec![];
        for (index, case) in spec.cases.iter().enumerate() {
            let at = format!("spec.cases[{index}]");
            let mut fixture = base.clone();
            fixture.add(&case.data, &pinned.0.dataset, (&format!("{at}.data"), &folder), &mut wrong);
            fixtures.push(fixture);
            check_case(&spec, index, &of, pinned, &mut wrong);
        }
        fixtures
    };
    if !wrong.is_empty() {
        let say = |w: Wrong| manifest.diagnose(INVALID, &w.path, None, w.message, w.hint);
        return Err(wrong.into_iter().map(say).collect());
    }
    let (file, name, namespace) = (manifest.file.path.clone(), manifest.name.clone(), manifest.namespace.clone());
    Ok(Prepared { file, name, namespace, spec, of, fixtures })
}

/// Keys of audiences that no rule gives.
fn filled(spec: &TestSpec, pinned: &(Bundle, Plan), fixture: &mut Fixture, wrong: &mut Vec<Wrong>) {
    for (name, keys) in &spec.audiences {
        let at = format!("spec.audiences.{name}");
        let Some(set) = pinned.1.sets.get(name) else {
            let known = pinned.1.sets.iter().map(|set| set.name.as_str());
            wrong.push(Wrong::new(at, format!("nothing here asks for an audience `{name}`")).near(name, known));
            continue;
        };
        if set.is_on_demand() && set.sql_on_demand().is_none() {
            wrong.push(Wrong::new(at, format!("audience `{name}` is evaluated: give it rows, not keys")));
            continue;
        }
        let Some(entity) = pinned.0.dataset.entity(&set.entity) else { continue };
        let keys = keys_of(keys, entity, &at, wrong);
        fixture.audiences.insert(name.clone(), keys);
    }
}

fn check_case(spec: &TestSpec, index: usize, of: &Of, pinned: &(Bundle, Plan), wrong: &mut Vec<Wrong>) {
    let case = &spec.cases[index];
    let at = |field: &str| format!("spec.cases[{index}].{field}");
    let dataset = &pinned.0.dataset;
    match of {
        Of::Audience(_) => {
            let name = spec.audience.as_deref().unwrap_or_default();
            let entity = pinned.1.sets.get(name).and_then(|set| dataset.entity(&set.entity));
            if let (Some(members), Some(entity)) = (&case.members, entity) {
                members_keys(members, entity, &at("members"), wrong);
            }
            if let Some(spec) = pinned.0.audiences.get(name)
                && let Err((key, misfit)) = own_params(name, spec, &case.params)
            {
                let owner = crate::plan::Ref::new("Test", "");
                let finding = misfit.into_finding(&owner, at(&format!("params.{key}")));
                wrong.push(Wrong { path: finding.path, message: finding.message, hint: finding.hint });
            }
            let is_of_campaigns = !case.steps.is_empty()
                || !case.messages.is_empty()
                || !case.counts.is_empty()
                || !case.starts.is_empty()
                || !case.earlier.is_empty()
                || case.fault.is_some()
                || case.held.is_some();
            if is_of_campaigns {
                let message = "an audience has `members`, and neither steps nor messages nor runs";
                wrong.push(Wrong::new(format!("spec.cases[{index}]"), message));
            }
        }
        Of::Campaign(_) => {
            if case.members.is_some() || !case.params.is_empty() {
                let message = "`members` and `params` are of a test of an audience";
                let hint = Some("name the outputs of steps in `steps`".to_owned());
                wrong.push(Wrong { hint, ..Wrong::new(format!("spec.cases[{index}]"), message) });
            }
            for (name, members) in &case.steps {
                let path = at(&format!("steps.{name}"));
                let output = pinned.1.output(name);
                match output.and_then(|output| dataset.entity(&output.entity)) {
                    Some(entity) => members_keys(members, entity, &path, wrong),
                    None => {
                        let known = || pinned.1.steps.iter().flat_map(|s| &s.outputs).map(|o| o.name.as_str());
                        let mut found = Wrong::new(path, format!("no step has an output `{name}`")).near(name, known());
                        let parts: Vec<&str> = known().filter(|o| o.starts_with(&format!("{name}."))).collect();
                        if !parts.is_empty() {
                            found.hint = Some(format!("name one of {}", parts.join(", ")));
                        }
                        wrong.push(found);
                    }
                }
            }
            for (n, message) in case.messages.iter().enumerate() {
                let path = at(&format!("messages[{n}]"));
                let sent = pinned.1.message_named(&message.step);
                match sent.and_then(|(_, sent)| dataset.entity(&sent.entity)) {
                    Some(entity) => {
                        if let Err(why) = key_of(&message.of, entity) {
                            let said = format!("this is no key of {}: {why}", entity.name);
                            wrong.push(Wrong::new(format!("{path}.for"), said));
                        }
                    }
                    None => wrong.push(no_channel_step(&message.step, format!("{path}.step"), &pinned.1)),
                }
            }
            for step in case.counts.keys() {
                if pinned.1.message_named(step).is_none() {
                    wrong.push(no_channel_step(step, at(&format!("counts.{step}")), &pinned.1));
                }
            }
        }
    }
}

fn no_channel_step(step: &str, path: String, plan: &Plan) -> Wrong {
    let known = plan.messages().map(|(_, step, _)| step);
    Wrong::new(path, format!("the campaign has no channel step `{step}`")).near(step, known)
}

fn members_keys(members: &Members, entity: &Entity, at: &str, wrong: &mut Vec<Wrong>) {
    let parts = [("in", &members.inside), ("out", &members.outside), ("only", &members.only)];
    for (word, keys) in parts {
        if let Some(keys) = keys {
            keys_of(keys, entity, &format!("{at}.{word}"), wrong);
        }
    }
}

fn campaign(name: &str, manifest: &Manifest, tree: &Tree) -> Result<Of, Vec<Diagnostic>> {
    let Some(spec) = tree.campaign(&manifest.namespace, name) else {
        return Err(vec![lost(Kind::Campaign, name, "spec.campaign", manifest, tree)]);
    };
    let say = |found: Vec<Finding>| say(&found, manifest, tree);
    let library = tree.library(&manifest.namespace);
    let bundle = Bundle::gather(&manifest.namespace, name, spec, &library).map_err(say)?;
    let bundle = super::stage::harmless(bundle);
    let plan = bundle.compile(DIALECT).map_err(say)?;
    Ok(Of::Campaign(Arc::new((bundle, plan))))
}

fn audience(name: &str, manifest: &Manifest, tree: &Tree) -> Result<Of, Vec<Diagnostic>> {
    let namespace = &manifest.namespace;
    let Some(spec) = tree.audience(namespace, name) else {
        return Err(vec![lost(Kind::Audience, name, "spec.audience", manifest, tree)]);
    };
    let Some(dataset) = tree.dataset(namespace, &spec.dataset).cloned() else {
        return Err(vec![lost(Kind::Dataset, &spec.dataset, "spec.audience", manifest, tree)]);
    };
    let (audiences, found) = gather_one(name, spec, namespace, &tree.library(namespace));
    if !found.is_empty() {
        return Err(say(&found, manifest, tree));
    }
    let steps = serde_json::json!([{"name": name, "audience": {"ref": name}}]);
    let campaign = serde_json::json!({"dataset": spec.dataset, "topic": "", "steps": steps});
    let unread = |e: serde_json::Error| vec![manifest.diagnose(INVALID, "spec.audience", None, e.to_string(), None)];
    let campaign: CampaignSpec = serde_json::from_value(campaign).map_err(unread)?;
    let (channels, templates, saved, policies, enclosures) = Default::default();
    let (namespace, name) = (namespace.clone(), name.to_owned());
    let bundle =
        Bundle { namespace, name, campaign, dataset, audiences, saved, channels, templates, policies, enclosures };
    let bundle = super::stage::harmless(bundle);
    let plan = bundle.compile_audience(&bundle.name, BTreeMap::new(), DIALECT);
    let plan = plan.map_err(|found| say(&found, manifest, tree))?;
    Ok(Of::Audience(Arc::new((bundle, plan))))
}

fn lost(kind: Kind, name: &str, path: &str, of: &Manifest, tree: &Tree) -> Diagnostic {
    let known = tree.sound(kind).into_iter().filter(|key| key.namespace == of.namespace);
    let hint = nearest(name, known.map(|key| key.name.as_str())).map(|near| format!("did you mean `{near}`?"));
    of.diagnose(INVALID, path, None, format!("there is no {kind} `{name}` in namespace {}", of.namespace), hint)
}

/// Findings where they are: in the object that is wrong, or in the test.
fn say(found: &[Finding], of: &Manifest, tree: &Tree) -> Vec<Diagnostic> {
    let say = |finding: &Finding| {
        let key = Kind::named(finding.object.kind).map(|kind| Key::new(kind, &of.namespace, &finding.object.name));
        let owner = key.and_then(|key| tree.manifest(&key)).unwrap_or(of);
        owner.diagnose(finding.id, &finding.path, finding.span.clone(), &finding.message, finding.hint.clone())
    };
    found.iter().map(say).collect()
}
