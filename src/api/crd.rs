//! The CustomResourceDefinitions, as `campanile crds` writes them and as the folder home checks manifests.
//!
//! What the derive leaves unbounded is bounded here: the API server's cost budget for CEL assumes the worst
//! of every string and list, and a status must stay small whatever the audience.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use super::{Audience, Campaign, CampaignRun, Channel, ContactPolicy, Dataset, MessageTemplate, NEVER_OBSERVED};

/// Where a field states no limit of its own. Long enough for a sentence, a path, a table's name.
const STRING_CHARS_MAX: i64 = 1_024;
const ITEMS_MAX: i64 = 64;
/// Kubernetes' own limit for a map key is that of a qualified name.
const PROPERTIES_MAX: i64 = 64;

pub(super) fn never_observed() -> i64 {
    NEVER_OBSERVED
}

/// Every kind of ours, in the order in which they refer to each other.
pub fn all() -> Vec<CustomResourceDefinition> {
    let mut crds = [
        Dataset::crd(),
        Audience::crd(),
        Channel::crd(),
        MessageTemplate::crd(),
        ContactPolicy::crd(),
        Campaign::crd(),
        CampaignRun::crd(),
    ];
    crds.iter_mut().for_each(complete);
    crds.into()
}

/// The schema of a kind's only version.
pub fn schema_of(crd: &CustomResourceDefinition) -> Option<serde_json::Value> {
    let schema = crd.spec.versions.first()?.schema.as_ref()?.open_api_v3_schema.as_ref()?;
    serde_json::to_value(schema).ok()
}

fn complete(crd: &mut CustomResourceDefinition) {
    for version in &mut crd.spec.versions {
        let schema = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut());
        let Some(properties) = schema.and_then(|s| s.properties.as_mut()) else { continue };
        for part in ["spec", "status"] {
            properties.get_mut(part).into_iter().for_each(bound);
        }
        if let Some(status) = properties.get_mut("status") {
            // kstatus: an object nobody has looked at must not be taken for ready.
            status.default = Some(JSON(serde_json::json!({"observedGeneration": NEVER_OBSERVED})));
        }
    }
}

fn bound(schema: &mut JSONSchemaProps) {
    // Rust's widths are no OpenAPI formats, and kubectl warns of them; the ranges say the same.
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
    }
    match schema.type_.as_deref() {
        Some("string") if schema.enum_.is_none() && schema.format.is_none() => {
            schema.max_length.get_or_insert(STRING_CHARS_MAX);
        }
        Some("array") => {
            schema.max_items.get_or_insert(ITEMS_MAX);
        }
        Some("object") if schema.additional_properties.is_some() => {
            schema.max_properties.get_or_insert(PROPERTIES_MAX);
        }
        _ => {}
    }
    schema.properties.iter_mut().flatten().for_each(|(_, inner)| bound(inner));
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        bound(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        bound(values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unbounded(schema: &JSONSchemaProps, at: &str, found: &mut Vec<String>) {
        let is_free_text = schema.enum_.is_none() && schema.format.is_none();
        match schema.type_.as_deref() {
            Some("string") if is_free_text && schema.max_length.is_none() => found.push(at.into()),
            Some("array") if schema.max_items.is_none() => found.push(at.into()),
            Some("object") if schema.additional_properties.is_some() && schema.max_properties.is_none() => {
                found.push(at.into());
            }
            _ => {}
        }
        for (name, inner) in schema.properties.iter().flatten() {
            unbounded(inner, &format!("{at}.{name}"), found);
        }
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
            unbounded(items, &format!("{at}[]"), found);
        }
    }

    #[test]
    fn everything_has_a_bound() {
        let mut found = vec![];
        for crd in all() {
            let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
            for (part, inner) in
                schema.properties.iter().flatten().filter(|(name, _)| *name == "spec" || *name == "status")
            {
                unbounded(inner, &format!("{}.{part}", crd.spec.names.kind), &mut found);
            }
        }
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn an_object_nobody_looked_at_has_observed_generation_minus_one() {
        for crd in all() {
            let json = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
            assert_eq!(json["openAPIV3Schema"]["properties"]["status"]["default"]["observedGeneration"], -1);
        }
    }
}
