//! `ContactPolicy`: what campaigns must respect when they contact somebody. So far its suppression part.
//!
//! ```yaml
//! suppression: {scope: Store, import: {url: lists/unsubscribed.csv, format: CSV}}
//! ```

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NEVER_OBSERVED, access::Access, dataset::FileFormat, duration::Duration, medium::Written};

#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "campanile.dev",
    version = "v1alpha1",
    kind = "ContactPolicy",
    plural = "contactpolicies",
    namespaced,
    status = "ContactPolicyStatus",
    shortname = "policy",
    category = "campanile",
    derive = "PartialEq",
    doc = "What campaigns must respect when they contact somebody: which addresses are written to no more.",
    printcolumn(name = "Scope", type_ = "string", json_path = ".spec.suppression.scope"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ContactPolicySpec {
    #[serde(default)]
    pub suppression: Suppression,
}

/// Which addresses are written to no more, after what came back from them. A hard bounce and a complaint suppress at
/// once and for good.
///
/// ```yaml
/// suppression: {scope: Store, softBounces: {count: 3, within: 14d, suppressFor: 90d}}
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Suppression {
    #[serde(default)]
    pub scope: SuppressionScope,
    #[serde(default)]
    pub soft_bounces: SoftBounces,
    /// The list of a previous tool, or of somebody else who keeps one: addresses that are written to no more, in this scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import: Option<SuppressionImport>,
}

/// A file of addresses, or a folder of them, by reference: no address stands in a manifest. Of each a keyed hash is kept.
/// What is imported stays: an address that is on the list no more is written to again when a person lifts it.
///
/// ```yaml
/// import: {url: s3://lists/unsubscribed.csv, format: CSV, column: Email, secretRef: {name: lists}}
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuppressionImport {
    /// As a Dataset's files are named: relative to the manifest's own folder, or in an object store.
    #[schemars(length(min = 1, max = 1024))]
    pub url: String,
    #[serde(flatten)]
    pub access: Access,
    pub format: FileFormat,
    /// The column that has the address.
    #[serde(default = "email_column")]
    #[schemars(length(min = 1, max = 256))]
    pub column: String,
    /// By what the addresses are reached.
    #[serde(default)]
    pub medium: Written,
    /// How often it is looked at where no file notification arrives.
    #[serde(default = "every")]
    pub every: Duration,
}

fn email_column() -> String {
    "email".to_owned()
}

fn every() -> Duration {
    Duration::from_secs(15 * 60)
}

/// Who writes no more to an address that was suppressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum SuppressionScope {
    /// The campaigns of this namespace.
    #[default]
    Namespace,
    /// The campaigns of all namespaces. They see that it is suppressed, never which address it is.
    Store,
}

/// How many soft bounces suppress an address, such as those of a full mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SoftBounces {
    #[serde(default = "count")]
    #[schemars(range(min = 1, max = 100))]
    pub count: u16,
    /// Older ones do not count.
    #[serde(default = "within")]
    pub within: Duration,
    /// Then it is written to again.
    #[serde(default = "suppress_for")]
    pub suppress_for: Duration,
}

fn count() -> u16 {
    5
}

fn within() -> Duration {
    Duration::from_hours(30 * 24)
}

fn suppress_for() -> Duration {
    Duration::from_hours(90 * 24)
}

impl Default for SoftBounces {
    fn default() -> Self {
        Self { count: count(), within: within(), suppress_for: suppress_for() }
    }
}

impl Suppression {
    /// What holds where several policies are named: the widest scope, the fewest soft bounces, the longest times. Where
    /// none is named, the defaults.
    pub fn strictest(all: impl IntoIterator<Item = Self>) -> Self {
        let stricter = |one: Self, other: Self| Self {
            scope: one.scope.max(other.scope),
            soft_bounces: SoftBounces {
                count: one.soft_bounces.count.min(other.soft_bounces.count),
                within: one.soft_bounces.within.max(other.soft_bounces.within),
                suppress_for: one.soft_bounces.suppress_for.max(other.soft_bounces.suppress_for),
            },
            import: None,
        };
        all.into_iter().reduce(stricter).unwrap_or_default()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContactPolicyStatus {
    #[serde(default = "super::crd::never_observed")]
    pub observed_generation: i64,
    /// What the import came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import: Option<ImportStatus>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// What was read of the lists, in all files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImportStatus {
    pub files: i64,
    /// Rows with an address.
    pub rows: i64,
    pub rejected: i64,
    /// Rejected rows by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub reasons: BTreeMap<String, i64>,
    /// The table that holds the rejected rows with file, line and reason, never what stood there; there if any are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejects: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_imported_at: Option<Time>,
    /// What is wrong with the newest file that was refused, or why none can be looked at now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Default for ContactPolicyStatus {
    fn default() -> Self {
        Self { observed_generation: NEVER_OBSERVED, import: None, conditions: vec![] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_policies_the_strictest_holds() {
        let of = |text: &str| serde_yaml::from_str::<Suppression>(text).unwrap();
        let store = of("{scope: Store, softBounces: {count: 7}}");
        let strict = of("{softBounces: {count: 2, within: 10d, suppressFor: 100d}}");
        let both = Suppression::strictest([store, strict]);
        assert_eq!(both.import, None);
        assert_eq!(both.scope, SuppressionScope::Store);
        assert_eq!((both.soft_bounces.count, both.soft_bounces.within), (2, within()));
        assert_eq!(both.soft_bounces.suppress_for.to_string(), "100d");
        assert_eq!(Suppression::strictest([]), Suppression::default());
    }
}
