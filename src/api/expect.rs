//! `expect`: how many recipients a run of a campaign has when nothing went wrong.
//!
//! ```yaml
//! expect: {recipients: {min: 800, max: 1500}, changeFromLastRun: 25%}
//! ```
//! A recipient is a message that nothing holds back when the run is planned, over all channel steps: who is excluded, for
//! want of consent or of an address, is none. A run outside is held, and nothing of it is sent.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::change;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.recipients) || has(self.changeFromLastRun)", "expect has recipients, changeFromLastRun or both"))]
pub struct Expect {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipients: Option<Recipients>,
    /// Against the last run that ended well: a number of recipients, or a percent of its own. The first run has none
    /// before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change_from_last_run: Option<IntOrString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = ("has(self.min) || has(self.max)", "recipients has min, max or both"),
    validation = ("!has(self.min) || !has(self.max) || self.min <= self.max", "min must not exceed max")
)]
pub struct Recipients {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub min: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max: Option<i64>,
}

/// What a run is weighed by.
#[derive(Clone, Copy, Debug)]
pub struct Weighed {
    pub recipients: i64,
    /// All its channel steps are counted: none is still to come behind a `wait`.
    pub is_whole: bool,
    /// The recipients of the last run that ended well.
    pub before: Option<i64>,
    /// A number that a person let pass.
    pub accepted: Option<i64>,
}

impl Expect {
    /// Why a run is outside, in words; none if it is inside, or a person let its number pass.
    ///
    /// ```
    /// use campanile::api::expect::{Expect, Weighed};
    /// let expect: Expect = serde_json::from_str(r#"{"recipients": {"max": 150}, "changeFromLastRun": "25%"}"#).unwrap();
    /// let run = |recipients| Weighed { recipients, is_whole: true, before: Some(100), accepted: None };
    /// assert_eq!(expect.objection(run(125)), None);
    /// assert_eq!(
    ///     expect.objection(run(126)).unwrap(),
    ///     "126 recipients, after 100 in the last run, are a change of more than 25%",
    /// );
    /// assert_eq!(expect.objection(run(151)).unwrap(), "151 recipients are more than max 150");
    /// assert_eq!(expect.objection(Weighed { accepted: Some(151), ..run(151) }), None);
    /// ```
    pub fn objection(&self, run: Weighed) -> Option<String> {
        let Weighed { recipients, is_whole, before, accepted } = run;
        if accepted == Some(recipients) {
            return None;
        }
        let (min, max) = self.recipients.map_or((None, None), |range| (range.min, range.max));
        if let Some(max) = max.filter(|max| recipients > *max) {
            return Some(format!("{} more than max {max}", are(recipients)));
        }
        if !is_whole {
            return None;
        }
        if let Some(min) = min.filter(|min| recipients < *min) {
            return Some(format!("{} fewer than min {min}", are(recipients)));
        }
        let limit = self.change_from_last_run.as_ref()?;
        let before = before.filter(|before| !change::is_within(limit, recipients, *before))?;
        let limit = change::shown(limit);
        let verb = if recipients == 1 { "recipient, " } else { "recipients, " };
        Some(format!("{recipients} {verb}after {before} in the last run, are a change of more than {limit}"))
    }

    /// Why it cannot be read, if it cannot: the field and what is wrong with it. The same that the API server says.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let said = |field, text: &str| Some((field, text.to_owned()));
        match (&self.recipients, &self.change_from_last_run) {
            (None, None) => said("", "expect has recipients, changeFromLastRun or both"),
            (Some(Recipients { min: None, max: None }), _) => said(".recipients", "recipients has min, max or both"),
            (Some(Recipients { min: Some(min), max: Some(max) }), _) if min > max => {
                said(".recipients", "min must not exceed max")
            }
            (_, Some(limit)) => change::problem(limit, "recipients").map(|why| (".changeFromLastRun", why)),
            _ => None,
        }
    }
}

fn are(recipients: i64) -> String {
    if recipients == 1 { "1 recipient is".to_owned() } else { format!("{recipients} recipients are") }
}
