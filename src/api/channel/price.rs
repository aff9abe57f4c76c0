//! What a message costs, so that a plan says what a run comes to.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "has(self.perMessage) != has(self.perSegment)",
    "a price is exactly one of perMessage, perSegment"
))]
pub struct Price {
    /// A decimal, such as "0.05".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9]{1,6}(\.[0-9]{1,6})?$"))]
    pub per_message: Option<String>,
    /// The same of each segment of a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9]{1,6}(\.[0-9]{1,6})?$"))]
    pub per_segment: Option<String>,
    /// As ISO 4217 writes it.
    #[schemars(regex(pattern = "^[A-Z]{3}$"))]
    pub currency: String,
}
