//! The custom resources: one file per kind with its schema, defaults, printer columns and conditions.
//!
//! This module knows no client and no store. What a kind means is decided in [`crate::plan`] and
//! [`crate::reconcile`]; here stands only what an author may write and what a status may say.

#![allow(clippy::duplicated_attributes, reason = "each printer column has its own name, type and path")]

/// A structural schema has no "any scalar" and no "one or several": what is of such a type is checked where it is read.
macro_rules! untyped {
    ($type:ident) => {
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"x-kubernetes-preserve-unknown-fields": true})
            }
        }
    };
}

pub mod access;
pub mod audience;
pub mod campaign;
pub mod campaign_run;
mod change;
pub mod channel;
pub mod condition;
pub mod crd;
pub mod dataset;
pub mod duration;
pub mod editor;
pub mod expect;
pub mod medium;
pub mod name;
pub mod policy;
pub mod step;
pub mod template;
pub mod test;

pub use audience::{Audience, AudienceSpec, AudienceStatus};
pub use campaign::{Campaign, CampaignSpec, CampaignStatus};
pub use campaign_run::{CampaignRun, CampaignRunSpec, CampaignRunStatus};
pub use channel::{Channel, ChannelSpec, ChannelStatus};
pub use dataset::{Dataset, DatasetSpec, DatasetStatus};
pub use policy::{ContactPolicy, ContactPolicySpec, ContactPolicyStatus};
pub use template::{MessageTemplate, MessageTemplateSpec, MessageTemplateStatus};
pub use test::{Test, TestSpec};

/// The API group of every kind.
pub const GROUP: &str = "campanile.dev";
/// The only version so far.
pub const VERSION: &str = "v1alpha1";
/// What a generation of -1 in a status means: no controller has looked yet (kstatus).
pub const NEVER_OBSERVED: i64 = -1;
