//! `Audience`: a named set of rows of one entity, used by campaigns and by other audiences.
//!
//! ```yaml
//! spec: {dataset: shop, entity: customer, where: "customer.tier == 'gold'"}
//! spec: {dataset: shop, entity: customer, subtract: [{ref: gold}, {ref: complained}]}
//! spec: {dataset: shop, entity: customer, import: {url: vip.csv, key: id}}
//! spec: {dataset: shop, entity: customer, sql: "SELECT id FROM …"}
//! spec: {dataset: shop, entity: customer, saved: {}}
//! ```

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::{
    apis::meta::v1::{Condition, Time},
    util::intstr::IntOrString,
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    NEVER_OBSERVED,
    access::Access,
    change,
    dataset::FileFormat,
    name::{Label, Word},
};

/// Lets a set of this size pass its guard, or a run of so many recipients its campaign's `expect`: `kubectl annotate audience
/// NAME campanile.dev/accept-size=1204`.
pub const ACCEPT_SIZE: &str = "campanile.dev/accept-size";

#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "campanile.dev",
    version = "v1alpha1",
    kind = "Audience",
    namespaced,
    status = "AudienceStatus",
    shortname = "aud",
    category = "campanile",
    derive = "PartialEq",
    doc = "A named set of rows of one entity. It is evaluated when a run reads it, or kept and refreshed by a schedule.",
    printcolumn(name = "Entity", type_ = "string", json_path = ".spec.entity"),
    printcolumn(name = "Size", type_ = "integer", json_path = ".status.size"),
    printcolumn(name = "Change", type_ = "string", json_path = ".status.change"),
    printcolumn(name = "Profiles", type_ = "integer", json_path = ".status.profiles", priority = 1),
    printcolumn(name = "Took", type_ = "integer", json_path = ".status.tookMs", priority = 1),
    printcolumn(name = "Refreshed", type_ = "date", json_path = ".status.refreshedAt"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.next", priority = 1),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Guard", type_ = "string", json_path = ".status.conditions[?(@.type==\"WithinGuard\")].status"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "(has(self.where) ? 1 : 0) + (has(self.union) ? 1 : 0) + (has(self.intersect) ? 1 : 0) + (has(self.subtract) ? 1 : 0) + (has(self.saved) ? 1 : 0) + (has(self.import) ? 1 : 0) + (has(self.sql) ? 1 : 0) == 1",
        "an audience is exactly one of where, union, intersect, subtract, saved, import, sql"
    ),
    validation = ("!has(self.refresh) || !has(self.saved)", "a saved audience is filled by a campaign and takes no refresh"),
    validation = (
        "!has(self.export) || has(self.refresh) || has(self.saved) || has(self.import)",
        "an export is written when the audience is refreshed: it stands beside refresh, saved or import"
    )
)]
pub struct AudienceSpec {
    pub dataset: Label,
    /// The entity whose rows these are: any one, not only people.
    pub entity: Word,
    /// Parameters of the rule with their defaults, read as `params.name`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub parameters: BTreeMap<String, Parameter>,
    /// The rule, in CEL: which rows are in.
    #[serde(rename = "where", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8192))]
    pub rule: Option<String>,
    /// The rows that are in any of these audiences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32))]
    pub union: Option<Vec<Member>>,
    /// The rows that are in all of these audiences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32))]
    pub intersect: Option<Vec<Member>>,
    /// The rows that are in the first of these audiences and in none of the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32))]
    pub subtract: Option<Vec<Member>>,
    /// Filled by a campaign's `saveAudience`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved: Option<Saved>,
    /// Made elsewhere: keys in a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import: Option<Import>,
    /// One SELECT that gives the entity's key columns by their names. It is run read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16384))]
    pub sql: Option<String>,
    /// When the audience is evaluated and its keys kept. Without it it is evaluated when a run reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<Refresh>,
    /// Writes the audience to a file, for others to read, whenever it was refreshed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<Export>,
    /// Outside of it the condition `WithinGuard` is false, and runs that use the audience are held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<Guard>,
}

/// What an audience is, one of its forms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form<'a> {
    Rule(&'a str),
    Combined(Combination, &'a [Member]),
    Saved,
    Import(&'a Import),
    Sql(&'a str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combination {
    Union,
    Intersect,
    Subtract,
}

impl Combination {
    /// The word that the author wrote.
    pub fn word(self) -> &'static str {
        match self {
            Self::Union => "union",
            Self::Intersect => "intersect",
            Self::Subtract => "subtract",
        }
    }
}

impl AudienceSpec {
    /// The one form that stands there; none if there are none or several, which the CRD refuses.
    pub fn form(&self) -> Option<Form<'_>> {
        let combined = |combination, members: &'_ Option<Vec<Member>>| members.is_some().then_some(combination);
        let combination = combined(Combination::Union, &self.union)
            .or(combined(Combination::Intersect, &self.intersect))
            .or(combined(Combination::Subtract, &self.subtract));
        let members = self.union.as_ref().or(self.intersect.as_ref()).or(self.subtract.as_ref());
        let sets = [&self.union, &self.intersect, &self.subtract].into_iter().flatten().count();
        let others = [self.rule.is_some(), self.saved.is_some(), self.import.is_some(), self.sql.is_some()];
        if sets + others.into_iter().filter(|is_there| *is_there).count() != 1 {
            return None;
        }
        if let Some((combination, members)) = combination.zip(members) {
            return Some(Form::Combined(combination, members));
        }
        self.rule
            .as_deref()
            .map(Form::Rule)
            .or(self.sql.as_deref().map(Form::Sql))
            .or(self.import.as_ref().map(Form::Import))
            .or(self.saved.map(|Saved {}| Form::Saved))
    }

    /// Whether its keys are kept in a table, so that a run reads those.
    pub fn is_kept(&self) -> bool {
        self.refresh.is_some() || self.saved.is_some() || self.import.is_some() || self.sql.is_some()
    }
}

/// Another audience, as part of this one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    #[serde(rename = "ref")]
    pub reference: Label,
    /// Values for the audience's parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub params: BTreeMap<String, Parameter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Saved {}

/// A file with keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Import {
    /// A file, relative to the manifest's own folder (in a cluster: to the controller's data directory); or one object of
    /// `s3://`, `gs://` or `az://`; or `https://` and one file.
    #[schemars(length(min = 1, max = 1024))]
    pub url: String,
    #[serde(flatten)]
    pub access: Access,
    /// Told by the file's name unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<FileFormat>,
    /// The column that holds the entity's key; without it the columns have the names of the key's fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub key: Option<String>,
}

/// When an audience is evaluated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refresh {
    /// Five fields, or six with seconds first.
    #[schemars(length(min = 1, max = 128))]
    pub cron: String,
    /// The zone of the cron (IANA name).
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
}

/// Where an audience is written to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Export {
    /// A file, relative to the manifest's own folder (in a cluster: to the namespace's folder below `--exports`), which is
    /// written beside and renamed into place; or one object of `s3://`, `gs://` or `az://`, which is there whole or not.
    #[schemars(length(min = 1, max = 1024))]
    pub url: String,
    #[serde(flatten)]
    pub access: Access,
    pub format: FileFormat,
    /// Fields of the entity, or paths of to-one links to one, such as `customer.email`. The key unless said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub fields: Vec<String>,
}

/// How large an audience may be, and how far its size may move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.minSize) || has(self.maxSize) || has(self.maxChange)", "a guard has at least one of minSize, maxSize, maxChange"),
    validation = ("!has(self.minSize) || !has(self.maxSize) || self.minSize <= self.maxSize", "minSize must not exceed maxSize")
)]
pub struct Guard {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub min_size: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_size: Option<i64>,
    /// Against the last size that was inside: a number of rows, or a percent of that size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_change: Option<IntOrString>,
}

impl Guard {
    /// Why a set of `size` rows is outside, in words; none if it is inside, or a person let one like it pass.
    ///
    /// ```
    /// use campanile::api::audience::Guard;
    /// let guard: Guard = serde_json::from_str(r#"{"minSize": 10, "maxChange": "20%"}"#).unwrap();
    /// assert_eq!(guard.objection(120, Some(100), None), None);
    /// assert_eq!(guard.objection(121, Some(100), None).unwrap(), "121 rows, after 100, are a change of more than 20%");
    /// assert_eq!(guard.objection(121, Some(100), Some(125)), None);
    /// ```
    pub fn objection(&self, size: i64, before: Option<i64>, accepted: Option<i64>) -> Option<String> {
        if accepted
            .is_some_and(|accepted| accepted == size || (self.max_change.is_some() && self.is_near(size, accepted)))
        {
            return None;
        }
        if let Some(min) = self.min_size.filter(|min| size < *min) {
            return Some(format!("{size} rows are fewer than minSize {min}"));
        }
        if let Some(max) = self.max_size.filter(|max| size > *max) {
            return Some(format!("{size} rows are more than maxSize {max}"));
        }
        let before = before.filter(|before| !self.is_near(size, *before))?;
        let limit = change::shown(self.max_change.as_ref()?);
        Some(format!("{size} rows, after {before}, are a change of more than {limit}"))
    }

    fn is_near(&self, size: i64, before: i64) -> bool {
        self.max_change.as_ref().is_none_or(|limit| change::is_within(limit, size, before))
    }

    /// Why `maxChange` cannot be read, if it cannot.
    pub fn problem(&self) -> Option<String> {
        change::problem(self.max_change.as_ref()?, "rows")
    }
}

/// A value for a rule: text, a number or a truth value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Parameter {
    Boolean(bool),
    Integer(i64),
    Double(f64),
    String(String),
}

// A structural schema has no "any scalar": the type is checked where the rule is compiled.
untyped!(Parameter);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AudienceStatus {
    #[serde(default = "super::crd::never_observed")]
    pub observed_generation: i64,
    /// Rows in the audience when it was last evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    /// Distinct profiles behind those rows, where a path of to-one links leads to the profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profiles: Option<i64>,
    /// Keys that came and that went with the last refresh, such as `+12 -3`; of audiences whose keys are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
    /// Keys that have no row in the entity: an import or an export of another system may know more than we do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmatched: Option<i64>,
    /// How long the last evaluation took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<i64>,
    /// When the audience was last evaluated: a run that reads kept keys reads them as of then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refreshed_at: Option<Time>,
    /// The table with the keys, which a person can query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// When it is refreshed next, in the zone of its schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exported_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl Default for AudienceStatus {
    fn default() -> Self {
        Self {
            observed_generation: NEVER_OBSERVED,
            size: None,
            profiles: None,
            change: None,
            unmatched: None,
            took_ms: None,
            refreshed_at: None,
            table: None,
            next: None,
            exported_at: None,
            conditions: vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(text: &str) -> Guard {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_guard_says_why_a_size_is_outside() {
        let sizes = guard(r#"{"minSize": 2, "maxSize": 4}"#);
        assert_eq!(sizes.objection(1, None, None).unwrap(), "1 rows are fewer than minSize 2");
        assert_eq!(sizes.objection(5, Some(1), None).unwrap(), "5 rows are more than maxSize 4");
        assert_eq!((sizes.objection(4, Some(400), None), sizes.objection(5, None, Some(5))), (None, None));
        let rows = guard(r#"{"maxChange": 3}"#);
        assert_eq!((rows.objection(7, Some(10), None), rows.objection(7, None, None)), (None, None));
        assert!(rows.objection(14, Some(10), None).is_some());
        // From nothing, every row is more than any percent.
        assert!(guard(r#"{"maxChange": "100%"}"#).objection(1, Some(0), None).is_some());
    }
}
