//! `Dataset`: the relational store of one business: its entities, who the person is, and what people agree to.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod history;
mod status;
mod topic;

pub use self::{
    history::{ExportStatus, History, HistoryExport, HistoryFiles, HistoryWebhook},
    status::{DatasetStatus, EntityStatus, LatencyStatus},
    topic::{Category, ConsentDefault, ConsentField, Requires, Topic, TopicConsent},
};
use super::{access::Access, channel::SecretRef, duration::Duration, medium::Medium, name::Word};

#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "campanile.dev",
    version = "v1alpha1",
    kind = "Dataset",
    namespaced,
    status = "DatasetStatus",
    shortname = "ds",
    category = "campanile",
    derive = "PartialEq",
    doc = "The relational store of one business: its entities, who the person is, and what people agree to.",
    printcolumn(name = "Entities", type_ = "integer", json_path = ".status.entityCount"),
    printcolumn(name = "Rows", type_ = "integer", json_path = ".status.rows"),
    printcolumn(name = "Rejected", type_ = "integer", json_path = ".status.rejected"),
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
pub struct DatasetSpec {
    /// The tables, and how they are linked.
    #[schemars(length(min = 1, max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub entities: Vec<Entity>,
    /// Which entity is the person, and where the person is reached.
    pub profile: Profile,
    /// What becomes of the tables when the Dataset is deleted.
    #[serde(default, skip_serializing_if = "DeletionPolicy::is_default")]
    pub deletion_policy: DeletionPolicy,
    /// What people agree to; owned by others than the authors of campaigns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub topics: Vec<Topic>,
    /// Takes consent and address changes from other systems as CloudEvents, at `/events/<namespace>/<dataset>` of `--listen`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_events: Option<CloudEvents>,
    /// Who else is told what became of messages, such as a warehouse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
    /// How long what belongs to runs and files is kept. Consent, `once` and counts never expire.
    #[serde(default)]
    pub retention: Retention,
    /// Conditions with a name, for the rules of all audiences: `customer.reachable` reads like a Boolean field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["entity", "name"]))]
    pub conditions: Vec<NamedCondition>,
}

impl DatasetSpec {
    pub fn entity(&self, name: &str) -> Option<&Entity> {
        self.entities.iter().find(|entity| *entity.name == *name)
    }
}

/// Who may say what changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloudEvents {
    /// A Secret with the keys `token` (a bearer token) or `signing_key` (Standard Webhooks); a second one whose key begins
    /// so counts, too, while one is changed for another.
    pub secret_ref: SecretRef,
}

/// How long what belongs to runs and files is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// Who got what, with attempts and outcomes, after the run was completed; gone within a day of it. Counts stay.
    #[serde(default = "messages_kept")]
    pub messages: Duration,
    /// The tables of a run's steps, after the run was completed.
    #[serde(default = "work_tables_kept")]
    pub work_tables: Duration,
    /// Rows that could not be read, after their file was.
    #[serde(default = "rejects_kept")]
    pub rejects: Duration,
}

fn messages_kept() -> Duration {
    Duration::from_hours(400 * 24)
}

fn work_tables_kept() -> Duration {
    Duration::from_hours(7 * 24)
}

fn rejects_kept() -> Duration {
    Duration::from_hours(30 * 24)
}

impl Default for Retention {
    fn default() -> Self {
        Self { messages: messages_kept(), work_tables: work_tables_kept(), rejects: rejects_kept() }
    }
}

/// A condition on the rows of one entity. It may use other conditions, and has no parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamedCondition {
    pub name: Word,
    pub entity: Word,
    /// The rule, in CEL.
    #[serde(rename = "where")]
    #[schemars(length(min = 1, max = 4096))]
    pub rule: String,
}

/// One table of the business.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.key.all(k, self.fields.exists(f, f.name == k))", "key must name fields of this entity"),
    validation = ("!has(self.version) || self.fields.exists(f, f.name == self.version)", "version must name a field of this entity")
)]
pub struct Entity {
    pub name: Word,
    /// The fields that identify a row: one or several.
    #[schemars(length(min = 1, max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub key: Vec<Word>,
    /// On upsert the row with the higher value of this field wins, whatever the order of arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Word>,
    #[schemars(length(min = 1, max = 256))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub fields: Vec<Field>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub links: Vec<Link>,
    /// Where the rows come from; without it the table stays empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<EntitySource>,
    /// How old the last successful look at the source may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freshness: Option<Freshness>,
}

/// Measured from the last successful look at the source, whether or not that found anything new.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Freshness {
    pub max_age: Duration,
    #[serde(default)]
    pub when_stale: WhenStale,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WhenStale {
    /// No run starts.
    #[default]
    Hold,
    /// The condition `Fresh` and an event say so.
    Warn,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.type == 'Decimal' ? has(self.scale) : !has(self.scale) && !has(self.precision)", "a Decimal states its scale (and may state its precision); other types have neither"),
    validation = ("!has(self.scale) || self.scale <= (has(self.precision) ? self.precision : 18)", "scale must not exceed precision")
)]
pub struct Field {
    pub name: Word,
    #[serde(rename = "type")]
    pub kind: FieldKind,
    /// Digits in all, of a Decimal; 18 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 18))]
    pub precision: Option<u8>,
    /// Digits behind the point, of a Decimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 18))]
    pub scale: Option<u8>,
    /// A row without this field is a reject. Keys are always required.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// Previews show what stands in it. Texts, keys and what links to them are personal unless this says otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reveal: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FieldKind {
    String,
    Integer,
    Decimal,
    Double,
    Boolean,
    Date,
    Timestamp,
}

/// A link to one row of another entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    pub name: Word,
    /// The entity that the link leads to.
    pub to: Word,
    /// Fields here, to the key fields there.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 8))]
    pub keys: BTreeMap<String, Word>,
    /// The name of the way back, which leads to many rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inverse: Option<Word>,
}

/// Where rows come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.files) != has(self.table)", "a source is either files or a table"))]
pub struct EntitySource {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FileSource>,
    /// A table or a view of the same PostgreSQL database, as `schema.table`: read in place, never written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 127))]
    pub table: Option<String>,
}

/// What becomes of a Dataset's tables when it is deleted. What people agreed to stays in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// They stay; a Dataset made again finds them.
    #[default]
    Retain,
    /// They go, once no run of a campaign on it is open.
    Delete,
}

impl DeletionPolicy {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Files that are watched; each is read exactly once, and read again when it is rewritten.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileSource {
    /// A file or a folder, relative to the manifest's own folder (in a cluster: to the controller's data directory); or
    /// `s3://`, `gs://` or `az://` with a bucket and what its objects' names begin with; or `https://` and one file.
    #[schemars(length(min = 1, max = 1024))]
    pub url: String,
    #[serde(flatten)]
    pub access: Access,
    pub format: FileFormat,
    /// How often it is looked at where no file notification arrives.
    #[serde(default = "every")]
    pub every: Duration,
    /// Whether a file says what changed or all that there is.
    #[serde(default, skip_serializing_if = "Contents::is_default")]
    pub contents: Contents,
    /// Rows that one snapshot may delete, as a number or a percent of those there are; past it the snapshot is refused. 2% unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_deletes: Option<IntOrString>,
    /// A file is read once one stands beside it whose name matches this pattern (`*` and `?`), such as `*.done`: it
    /// completes the files whose names begin like it, or all that are not newer if none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub complete_when: Option<String>,
    /// The zone of timestamps without an offset (IANA name); UTC unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub time_zone: Option<String>,
    /// Bad rows in one file, as a number or a percent of its rows, past which the file is refused whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rejects: Option<IntOrString>,
}

fn every() -> Duration {
    Duration::from_secs(15 * 60)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FileFormat {
    CSV,
    /// One JSON object in each line.
    JSONL,
    Parquet,
}

/// What a file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Contents {
    /// Its rows are upserts; a column `_change_request_type` of `u` or `d` may say that one is a delete.
    #[default]
    Changes,
    /// It is all that there is: what is absent is deleted. Of several files the last by name counts, with `completeWhen`
    /// all that the last one completes.
    Snapshot,
}

impl Contents {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Which entity is the person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    pub entity: Word,
    /// The field with the person's language, such as `it` or `it-CH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub locale: Option<String>,
    pub addresses: Addresses,
}

/// Where a person is reached, per channel: a field of the profile or one behind to-one links.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Addresses {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub email: Option<String>,
    /// The number of a mobile phone, as E.164 writes it: `+393331234567`; spaces, dots and hyphens may stand between digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub sms: Option<String>,
    /// The token of a device, or the subscription of a browser in JSON: a field of the profile, or one behind a to-many link,
    /// such as `devices.token`. Then each of a person's devices gets the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub push: Option<String>,
    /// The lines of a letter's address, the first one on top. Who lacks one has no address, but for those that end in `?`:
    /// `[name, street, "extra?", zip, city, country]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 12), inner(length(min = 1, max = 256)))]
    pub postal: Vec<String>,
}

/// Marks a line of an address that may be missing.
const OPTIONAL: char = '?';

impl Addresses {
    /// The fields of a letter's address, and whether each must be there.
    pub fn lines(&self) -> impl Iterator<Item = (&str, bool)> {
        self.postal.iter().map(|line| line.strip_suffix(OPTIONAL).map_or((line.as_str(), true), |line| (line, false)))
    }

    /// The field with the whole address, of a medium that has one.
    pub fn of(&self, medium: Medium) -> Option<&str> {
        match medium {
            Medium::Email => self.email.as_deref(),
            Medium::Sms => self.sms.as_deref(),
            Medium::Push => self.push.as_deref(),
            Medium::Postal | Medium::Http => None,
        }
    }
}
