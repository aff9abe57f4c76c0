//! Templates whose fragments others include: a bundle holds them, too, so that a run reads its own revision of each word.

use std::collections::BTreeMap;

use super::{Finding, Library, Ref, missing_reference};
use crate::{api::MessageTemplateSpec, send::template};

/// Adds a template and all those that it includes something of, itself or by another; what is not there is a finding where
/// it is named.
pub fn gather(
    (namespace, name): (&str, &str),
    spec: MessageTemplateSpec,
    library: &dyn Library,
    into: &mut BTreeMap<String, MessageTemplateSpec>,
) -> Vec<Finding> {
    let mut found = vec![];
    let mut next = vec![(name.to_owned(), spec)];
    while let Some((name, spec)) = next.pop() {
        let owner = Ref::new("MessageTemplate", &name);
        for include in template::includes(&name, &spec) {
            let other = include.template;
            if other == name || into.contains_key(&other) || next.iter().any(|(known, _)| *known == other) {
                continue;
            }
            match library.template(&other) {
                Some(spec) => next.push((other, spec)),
                None => {
                    let lost = ("MessageTemplate", other.as_str());
                    let finding = missing_reference(&owner, include.path, lost, namespace, library);
                    found.push(Finding { span: Some(include.span), ..finding });
                }
            }
        }
        into.insert(name, spec);
    }
    found
}
