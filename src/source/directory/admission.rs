//! What an admission webhook would say: rules against the dataset, templates against the fields they read, schedules.

use std::collections::BTreeSet;

use super::Declared;
use crate::{
    api::{AudienceSpec, CampaignSpec, DatasetSpec, MessageTemplateSpec},
    plan::{self, Bundle, Finding, Library, Ref, message::template_findings},
    rule::Dialect,
    run::schedule::Timetable,
    send::template::Template,
    source::{
        Kind,
        catalog::Catalog,
        manifest::{Diagnostic, Manifest},
    },
};

/// Checks manifests that are well-formed. The indices of those that are wrong; what is wrong is added to `diagnostics`.
pub fn check(manifests: &[Manifest], catalog: &Catalog, diagnostics: &mut Vec<Diagnostic>) -> BTreeSet<usize> {
    let mut refused = BTreeSet::new();
    let mut said = BTreeSet::new();
    // In the order of reference, so that what builds on a broken object is checked against its last good state.
    for kind in [Kind::Dataset, Kind::Audience, Kind::MessageTemplate, Kind::Campaign] {
        for (index, manifest) in manifests.iter().enumerate().filter(|(_, m)| m.kind == kind.as_str()) {
            let declared = Declared { manifests, refused: &refused, catalog, namespace: &manifest.namespace };
            let found = findings(kind, manifest, &declared);
            for finding in found {
                let owner = manifests.iter().position(|m| {
                    m.kind == finding.object.kind && m.name == finding.object.name && m.namespace == manifest.namespace
                });
                let at = owner.unwrap_or(index);
                refused.insert(at);
                let diagnostic =
                    manifests[at].diagnose(&finding.path, finding.span.clone(), finding.message, finding.hint);
                if said.insert(diagnostic.one_line()) {
                    diagnostics.push(diagnostic);
                }
            }
        }
    }
    refused
}

fn findings(kind: Kind, manifest: &Manifest, declared: &Declared<'_>) -> Vec<Finding> {
    let this = Ref::new(kind.as_str(), &manifest.name);
    let unreadable = |error: serde_json::Error| vec![Finding::new(&this, "spec", error.to_string())];
    let spec = manifest.object["spec"].clone();
    match kind {
        Kind::Dataset => match serde_json::from_value::<DatasetSpec>(spec) {
            Ok(spec) => plan::dataset::check(&manifest.name, &spec),
            Err(error) => unreadable(error),
        },
        Kind::Audience => match serde_json::from_value::<AudienceSpec>(spec) {
            Ok(spec) => audience(&this, manifest, &spec, declared),
            Err(error) => unreadable(error),
        },
        Kind::MessageTemplate => match serde_json::from_value::<MessageTemplateSpec>(spec) {
            Ok(spec) => Template::compile(&spec).err().map(|p| template_findings(&this, p)).unwrap_or_default(),
            Err(error) => unreadable(error),
        },
        Kind::Campaign => match serde_json::from_value::<CampaignSpec>(spec) {
            Ok(spec) => campaign(&this, manifest, &spec, declared),
            Err(error) => unreadable(error),
        },
        Kind::Channel | Kind::CampaignRun => vec![],
    }
}

fn audience(this: &Ref, manifest: &Manifest, spec: &AudienceSpec, declared: &Declared<'_>) -> Vec<Finding> {
    let Some(dataset) = declared.dataset(&spec.dataset) else {
        return vec![Finding::new(
            this,
            "spec.dataset",
            format!("there is no Dataset `{}` in namespace {}", spec.dataset, manifest.namespace),
        )];
    };
    let gathered = plan::audience::gather_one(&manifest.name, spec, &manifest.namespace, declared);
    let checked = gathered.and_then(|specs| {
        let schema = plan::dataset::schema_of(&dataset, &manifest.namespace, &spec.dataset, Dialect::Sqlite);
        plan::audience::compile(&specs, &spec.dataset, &plan::audience::known_to(schema, &specs)).map(|_| ())
    });
    checked.err().unwrap_or_default()
}

fn campaign(this: &Ref, manifest: &Manifest, spec: &CampaignSpec, declared: &Declared<'_>) -> Vec<Finding> {
    let mut found = vec![];
    if let Some(Err((field, message))) = spec.schedule.as_ref().map(Timetable::of) {
        found.push(Finding::new(this, format!("spec.schedule.{field}"), message));
    }
    let bundle = Bundle::gather(&manifest.namespace, &manifest.name, spec, declared);
    let compiled = bundle.and_then(|bundle| bundle.compile(Dialect::Sqlite).map(|_| ()));
    found.extend(compiled.err().unwrap_or_default());
    found
}
