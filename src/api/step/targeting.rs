//! The steps that make, narrow and combine sets.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Share;
use crate::api::{
    audience::Parameter,
    duration::Duration,
    medium::Written,
    name::{Label, Word},
};

/// Starts from a named audience, or from a rule written here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.ref) != has(self.where)", "an audience step has either ref, or entity and where"),
    validation = ("has(self.where) == has(self.entity)", "an inline audience has both entity and where")
)]
pub struct AudienceStep {
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Label>,
    /// Values for the audience's parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub params: BTreeMap<String, Parameter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<Word>,
    #[serde(rename = "where", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8192))]
    pub rule: Option<String>,
    /// The output of the entity's rows that are not in the audience.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<Label>,
}

/// The people who asked for a topic that `requires: Confirmed`, and were not asked yet whether it was them. What is sent to
/// them has `{{ confirm_url }}`, where they say yes; each is asked once for each time that they asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unconfirmed {
    pub topic: Label,
    /// By what they are to hear of it, and are asked.
    #[serde(default)]
    pub medium: Written,
    /// Who asked longer ago is not asked any more.
    #[serde(default = "week")]
    pub within: Duration,
}

fn week() -> Duration {
    Duration::from_hours(7 * 24)
}

/// Only rows that no earlier run of this campaign took at this step. They are reserved while the run works; a run that
/// is cancelled gives back whom it did not reach.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("(has(self.by) && self.by == 'Field') == has(self.field)", "`by: Field` names its `field`, and only that does"))]
pub struct Incremental {
    #[serde(default)]
    pub by: Progress,
    /// A Timestamp, Date or Integer of the entity that rises whenever the row shall be taken again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<Word>,
    /// How far back to look. By key, a row may come again after this time; by field, an older value is not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Duration>,
    /// The output of the rows that were taken before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<Label>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Progress {
    /// A row comes once.
    #[default]
    Key,
    /// A row comes again when its field has risen.
    Field,
}

/// From each row to the rows of an entity that have the same values, where no link says so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Match {
    pub to: Word,
    /// A field or to-one path of the set, and the field there that must have the same value: `{email: contact_email}`.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 8))]
    pub by: BTreeMap<String, Word>,
    /// The output of the rows that matched nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<Label>,
}

/// From a set of one entity to the rows of another that its links lead to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangeEntity {
    pub to: Word,
    /// The links, beginning with the set's entity: `inventory.rentals.customer`.
    #[schemars(length(min = 1, max = 512))]
    pub via: String,
    /// The output of the rows from which the links lead nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<Label>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Union {
    /// The steps that are combined; all are sets of one entity.
    #[schemars(length(min = 2, max = 32), inner(length(min = 1, max = 127)))]
    pub of: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Intersect {
    /// The steps whose common rows are kept; all are sets of one entity.
    #[schemars(length(min = 2, max = 32), inner(length(min = 1, max = 127)))]
    pub of: Vec<String>,
    /// The output of the rows that are in one of them but not in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<Label>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Subtract {
    #[schemars(length(min = 1, max = 127))]
    pub from: String,
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 127)))]
    pub minus: Vec<String>,
    /// The output of the rows that were taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<Label>,
}

/// Keeps `count` rows of each group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deduplicate {
    /// The fields or to-one paths that make a group.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 256)))]
    pub by: Vec<String>,
    pub keep: Keep,
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub count: u16,
    /// The output of the duplicates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<Label>,
}

fn one() -> u16 {
    1
}

/// Which rows are kept where not all are. Ties go to the lower key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Keep {
    /// Those with the lowest value of a field or to-one path.
    First(String),
    /// Those with the highest.
    Last(String),
    /// Those whose value comes first in a list.
    Prefer(Prefer),
    /// Any, by chance; the same ones each time.
    Random(Random),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Prefer {
    /// A field or to-one path.
    #[schemars(length(min = 1, max = 256))]
    pub field: String,
    /// Its values, the best first; whatever is not listed comes after them.
    #[schemars(length(min = 1, max = 64))]
    pub values: Vec<Parameter>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Random {
    /// With another seed other rows are drawn.
    #[schemars(length(min = 1, max = 64))]
    pub seed: String,
}

/// Each row goes to the first branch that takes it, the others to `rest`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.rest) || !self.branches.exists(b, b.name == self.rest)", "rest must not have the name of a branch"))]
pub struct Split {
    #[schemars(length(min = 1, max = 32))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub branches: Vec<Branch>,
    /// A row goes to every branch that takes it, not to the first only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overlap: bool,
    /// The name of the output for those that no branch took. Without it they leave the campaign, counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<Label>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.where) || has(self.atMost)", "a branch has where, atMost or both"),
    validation = ("!has(self.keep) || has(self.atMost)", "keep says which rows atMost leaves in the branch")
)]
pub struct Branch {
    pub name: Label,
    #[serde(rename = "where", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8192))]
    pub rule: Option<String>,
    /// So many rows, or a percent of the step's input, rounded down. What is above goes on to the next branches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<Share>,
    /// Which rows stay where there are more; at random unless said, the same ones in every run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Keep>,
    /// Says that nobody reads this branch on purpose.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unused: bool,
}

/// Adds values to the rows that templates behind it can read under the name `as`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("[has(self.fields), has(self.aggregate), has(self.link)].filter(x, x).size() == 1", "enrich has exactly one of fields, aggregate, link"),
    validation = ("has(self.link) == has(self.top)", "link and top stand together"),
    validation = ("has(self.link) || (!has(self.orderBy) && !has(self.direction) && !has(self.shape))", "orderBy, direction and shape belong to a link")
)]
pub struct Enrich {
    #[serde(rename = "as")]
    pub name: Word,
    /// Fields over to-one paths; `flight.departure` is read as `NAME.departure`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 512)))]
    pub fields: Vec<String>,
    /// One value for each row, in CEL: `customer.payments.map(p, p.amount).sum()`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8192))]
    pub aggregate: Option<String>,
    /// The rows of a link to many: `customer.rentals`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub link: Option<String>,
    /// How many of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub top: Option<u16>,
    /// The field or to-one path of those rows that they are ordered by; ties and what has no order by the lower key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub order_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Shape>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Direction {
    #[default]
    Ascending,
    Descending,
}

/// How a template reads the rows of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Shape {
    /// `{% for item in items %}{{ item.price }}{% endfor %}`
    #[default]
    List,
    /// `{{ items_1.price }}`, `{{ items_2.price }}`; with `top: 1` it is `{{ items.price }}`.
    Columns,
}

/// Fills a declared audience with the set, as a whole; the set goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SaveAudience {
    /// An Audience that says `saved: {}`.
    #[serde(rename = "ref")]
    pub reference: Label,
}
