//! What is legal and most likely not meant: one file for each family of warnings.
//!
//! A reviewer reads a dozen warnings and not a hundred. So a warning says what will happen, not what is unusual, and it
//! can be silenced where it stands ([`super::silence`]).

mod audiences;
mod campaigns;
mod channels;
mod datasets;
mod locales;
mod personas;
mod rules;
mod schedules;
mod templates;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, ops::Range};

use jiff::Timestamp;

use super::{silence, tree::Tree};
use crate::{
    plan::check::{Audience, Campaign},
    source::{
        Key, Kind,
        admission::Sound,
        declared::Spec,
        manifest::{Diagnostic, Severity},
    },
};

/// A tree that is looked through.
struct Look<'t> {
    tree: &'t Tree,
    now: Timestamp,
    found: Vec<Diagnostic>,
}

/// Where something is suspect.
struct Spot<'a> {
    key: &'a Key,
    path: &'a str,
    /// Bytes in the text at the path.
    inside: Option<Range<usize>>,
}

impl<'a> Spot<'a> {
    fn at(key: &'a Key, path: &'a str) -> Self {
        Self { key, path, inside: None }
    }
}

impl<'t> Look<'t> {
    fn warn(&mut self, id: &'static str, spot: Spot<'_>, message: impl Into<String>, hint: Option<String>) {
        let Some(manifest) = self.tree.manifest(spot.key) else { return };
        let diagnostic = manifest.diagnose(id, spot.path, spot.inside, message, hint);
        self.found.push(Diagnostic { severity: Severity::Warning, ..diagnostic });
    }

    /// The campaigns that could start.
    fn campaigns(&self) -> impl Iterator<Item = (&'t Key, &'t Campaign)> + use<'t> {
        let sound = self.tree.checked().iter();
        sound.filter_map(
            |(key, sound)| if let Sound::Campaign(campaign) = sound { Some((key, &**campaign)) } else { None },
        )
    }

    /// The audiences that fit their datasets.
    fn audiences(&self) -> impl Iterator<Item = (&'t Key, &'t Audience)> + use<'t> {
        let sound = self.tree.checked().iter();
        sound.filter_map(
            |(key, sound)| if let Sound::Audience(audience) = sound { Some((key, &**audience)) } else { None },
        )
    }

    /// The specs of a kind, of what is wrong as far as it can be read.
    fn specs(&self, kind: Kind) -> impl Iterator<Item = (&'t Key, &'t Spec)> + use<'t> {
        self.tree.specs().filter(move |(key, _)| key.kind == kind)
    }
}

/// All that is suspect at `now`, by file and place, and how often a warning was silenced.
pub fn warnings(tree: &Tree, now: Timestamp) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
    let mut look = Look { tree, now, found: vec![] };
    datasets::look(&mut look);
    audiences::look(&mut look);
    channels::look(&mut look);
    schedules::look(&mut look);
    campaigns::look(&mut look);
    templates::look(&mut look);
    personas::look(&mut look);
    locales::look(&mut look);
    rules::look(&mut look);
    let mut said = BTreeMap::new();
    for diagnostic in look.found {
        let place = (diagnostic.file.as_ref().map(|file| file.path.clone()), diagnostic.span.start);
        said.entry((place, diagnostic.id, diagnostic.message.clone())).or_insert(diagnostic);
    }
    silence::apply(tree, said.into_values().collect())
}
