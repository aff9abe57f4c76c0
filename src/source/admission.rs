//! What an admission webhook would say of manifests: rules against the dataset, templates against the fields that they
//! read, references, schedules. A folder that is watched and a pull request that is reviewed are told the same.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{
    Key, Kind,
    catalog::Catalog,
    declared::{Declared, Place, Spec},
    manifest::{Loaded, Manifest},
};
use crate::{
    api::medium::Medium,
    plan::{self, Finding, Ref, check},
    rule::Dialect,
};

const UNREADABLE_SPEC: &str = "invalid-spec";

/// What checking manifests came to.
#[derive(Default)]
pub struct Admission {
    /// The indices of the manifests that are wrong.
    pub refused: BTreeSet<usize>,
    /// What was compiled of the others.
    pub sound: BTreeMap<Key, Sound>,
}

/// An object that is right, with what it was checked by.
pub enum Sound {
    Audience(Box<check::Audience>),
    Campaign(Box<check::Campaign>),
}

/// Checks manifests that are well-formed; what is wrong is added to `loaded.diagnostics`. What refers to something wrong
/// is checked against `last_good`, where that is given.
pub fn check(loaded: &mut Loaded, declared: &mut Declared, last_good: Option<&Catalog>) -> Admission {
    let mut admission = Admission::default();
    let mut said = HashSet::new();
    let mut doubtful = HashMap::new();
    for kind in Kind::ALL {
        for index in 0..loaded.manifests.len() {
            let manifest = &loaded.manifests[index];
            let Some(key) = manifest.key().filter(|key| key.kind == kind) else { continue };
            let (found, sound) = findings(&key, manifest, declared, last_good);
            admission.sound.extend(sound.filter(|_| found.is_empty()).map(|sound| (key.clone(), sound)));
            let is_doubtful = |finding: &Finding| {
                let dataset = dataset_of(&key, declared);
                // One that stood before the change is sound.
                let dataset = dataset.filter(|dataset| last_good.is_none_or(|catalog| catalog.get(dataset).is_none()));
                dataset.and_then(|dataset| doubtful.get(&dataset)).is_some_and(|names: &Doubtful| names.cover(finding))
            };
            let mut new = vec![];
            for finding in found {
                let owner = Key::named(finding.object.kind, &key.namespace, &finding.object.name);
                let entry = owner.as_ref().and_then(|owner| declared.get(owner));
                let (at, place) = match entry.and_then(|entry| Some((entry.place.of(loaded)?, entry.place))) {
                    Some(found) => found,
                    None => (manifest, Place::Good(index)),
                };
                new.push((owner.unwrap_or_else(|| key.clone()), place));
                // What its schema objects to is put right first.
                let is_broken = matches!(place, Place::Broken(_));
                if finding.is_consequence || is_broken || is_doubtful(&finding) {
                    continue;
                }
                let Finding { id, path, span, message, hint, .. } = finding;
                let diagnostic = at.diagnose(id, &path, span, message, hint);
                // Of a circle it does not matter where it was entered.
                let place = if id == plan::CIRCLE { None } else { Some(diagnostic.span.start) };
                let file = diagnostic.file.as_ref().map(|file| file.path.clone()).filter(|_| id != plan::CIRCLE);
                if said.insert((file, place, diagnostic.message.clone())) {
                    loaded.diagnostics.push(diagnostic);
                }
            }
            for (owner, place) in new {
                declared.mark_wrong(&owner);
                if let Place::Good(index) = place {
                    admission.refused.insert(index);
                }
            }
        }
        if kind == Kind::Dataset {
            doubtful = Doubtful::all(loaded, declared);
        }
    }
    let wrong: Vec<Key> =
        admission.sound.keys().filter(|key| declared.get(key).is_none_or(|entry| entry.is_wrong)).cloned().collect();
    wrong.iter().for_each(|key| drop(admission.sound.remove(key)));
    admission
}

fn dataset_of(key: &Key, declared: &Declared) -> Option<Key> {
    let name = match declared.get(key)?.spec.as_ref()? {
        Spec::Audience(spec) => &spec.dataset,
        Spec::Campaign(spec) => &spec.dataset,
        _ => return None,
    };
    Some(Key::new(Kind::Dataset, &key.namespace, name))
}

fn findings(
    key: &Key,
    manifest: &Manifest,
    declared: &Declared,
    last_good: Option<&Catalog>,
) -> (Vec<Finding>, Option<Sound>) {
    let this = Ref::new(key.kind.as_str(), &key.name);
    let Some(entry) = declared.get(key) else { return (vec![], None) };
    let Some(spec) = &entry.spec else {
        let why = entry.problem.clone().unwrap_or_default();
        return (vec![Finding::new(&this, "spec", why).id(UNREADABLE_SPEC)], None);
    };
    let library = declared.library(&key.namespace, last_good);
    let named = (key.namespace.as_str(), key.name.as_str());
    match spec {
        Spec::Dataset(spec) => (plan::dataset::check(&key.name, spec), None),
        Spec::Audience(spec) => {
            let (mut found, sound) = match check::audience(named, spec, &library, Dialect::Sqlite) {
                Ok(audience) => (vec![], Some(Sound::Audience(Box::new(audience)))),
                Err(found) => (found, None),
            };
            found.extend(plan::audience::check_export(&key.name, spec));
            found.extend(accepted_size(&this, manifest));
            (found, sound)
        }
        Spec::Channel(spec) => (check::channel(&key.name, spec), None),
        Spec::MessageTemplate(spec) => (check::template(named, spec, &library), None),
        Spec::ContactPolicy(spec) => (check::policy(&key.name, spec), None),
        Spec::Campaign(spec) => match check::campaign(named, spec, &library, Dialect::Sqlite) {
            Ok(campaign) => (accepted_size(&this, manifest), Some(Sound::Campaign(Box::new(campaign)))),
            Err(found) => ([found, accepted_size(&this, manifest)].concat(), None),
        },
        Spec::CampaignRun(spec) => (check::run(named, spec, &library).err().unwrap_or_default(), None),
    }
}

fn accepted_size(this: &Ref, manifest: &Manifest) -> Vec<Finding> {
    let wrong = plan::audience::accepted(&manifest.annotations()).err();
    let path = format!("metadata.annotations.{}", crate::api::audience::ACCEPT_SIZE);
    wrong.into_iter().map(|message| Finding::new(this, path.clone(), message)).collect()
}

/// The names of a Dataset that is wrong which mean something else than was meant, or nothing: what is said of them where
/// they are used only repeats what is said of the Dataset.
#[derive(Debug, Default)]
struct Doubtful {
    names: BTreeSet<String>,
    /// How a person is reached.
    has_profile: bool,
}

impl Doubtful {
    fn all(loaded: &Loaded, declared: &Declared) -> HashMap<Key, Self> {
        let mut all = HashMap::<Key, Self>::new();
        for about in loaded.diagnostics.iter().filter_map(|diagnostic| diagnostic.about.as_ref()) {
            let key = Key::named(&about.kind, &about.namespace, &about.name);
            let Some(key) = key.filter(|key| key.kind == Kind::Dataset) else { continue };
            let manifest = declared.get(&key).and_then(|entry| entry.place.of(loaded));
            let Some(manifest) = manifest else { continue };
            let is_broken = matches!(declared.get(&key).map(|entry| entry.place), Some(Place::Broken(_)));
            all.entry(key).or_default().add(&about.path, manifest, is_broken);
        }
        all
    }

    /// What stands at a path has a name, or is part of what has one.
    fn add(&mut self, path: &str, manifest: &Manifest, is_broken: bool) {
        self.has_profile |= path.starts_with("spec.profile") || path.contains(".links[");
        let innermost = path.rfind(']').map_or("", |end| &path[..=end]);
        // Of a key, a source or a version nobody else says anything.
        let is_entity = !innermost.contains("].");
        let is_part = [".fields[", ".links["].iter().any(|part| innermost.contains(part));
        if innermost.starts_with("spec.entities[") && !is_part && !(is_entity && is_broken) {
            return;
        }
        let Some(part) = manifest.tree.find(innermost).map(super::manifest::yaml::Node::value) else { return };
        self.names.extend(["name", "inverse"].iter().filter_map(|word| part[*word].as_str().map(str::to_owned)));
    }

    fn cover(&self, finding: &Finding) -> bool {
        let is_of_person = Medium::ALL.iter().any(|medium| {
            let of_step = finding.path.rsplit_once(&format!("].{}.", medium.step()));
            of_step.is_some_and(|(_, field)| matches!(field, "recipient" | "to"))
        });
        // What messages name stands between backticks.
        let mut quoted = finding.message.split('`').skip(1).step_by(2);
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        finding.object.kind == Kind::Dataset.as_str()
            || self.has_profile && is_of_person
            || quoted.any(|text| text.split(|c| !is_word(c)).any(|word| self.names.contains(word)))
    }
}

impl Manifest {
    /// What it is called, if it is of a kind of ours.
    pub fn key(&self) -> Option<Key> {
        Key::named(&self.kind, &self.namespace, &self.name)
    }

    pub fn annotations(&self) -> BTreeMap<String, String> {
        let annotations = self.object["metadata"]["annotations"].as_object();
        let texts = annotations.into_iter().flatten();
        texts.filter_map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned()))).collect()
    }
}
