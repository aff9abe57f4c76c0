//! Resources become an executable plan: references resolved, the graph checked, the revision hashed.
//!
//! Nothing here touches a store or a cluster: what goes in are specs, what comes out are SELECT statements and
//! templates, or findings that point at a field. A run and a preview use the same plan.

pub mod activity;
pub mod audience;
pub mod check;
pub mod dataset;
mod fragment;
mod graph;
pub mod marketing;
pub mod message;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    api::{
        AudienceSpec, CampaignSpec, ChannelSpec, ContactPolicySpec, DatasetSpec, MessageTemplateSpec,
        policy::Suppression,
        step::{Activity, AudienceStep},
    },
    rule::{Dialect, Param, Problem, Schema, nearest},
    run::schedule::Misdated,
    send::enclosure::Enclosures,
};

pub use graph::{Plan, Step};

/// A kind and a name in one namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ref {
    pub kind: &'static str,
    pub name: String,
}

impl Ref {
    pub fn new(kind: &'static str, name: &str) -> Self {
        Self { kind, name: name.to_owned() }
    }
}

/// What is wrong with an object, at one of its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub object: Ref,
    /// Such as `spec.steps[2].audience.where`.
    pub path: String,
    /// Bytes in the text at that path.
    pub span: Option<Range<usize>>,
    pub message: String,
    pub hint: Option<String>,
    /// The object itself is right; something it refers to is not there.
    pub is_missing_reference: bool,
    /// What it refers to is wrong, and that is said there.
    pub is_consequence: bool,
    /// The rule that says so, such as `missing-reference`. It stays the same for good.
    pub id: &'static str,
}

const INVALID_SPEC: &str = "invalid-spec";
const MISSING_REFERENCE: &str = "missing-reference";
const INVALID_ADDRESS: &str = "invalid-address";
const UNKNOWN_NAME: &str = "unknown-name";
pub(crate) const CIRCLE: &str = "circle";

impl Finding {
    pub fn new(object: &Ref, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            object: object.clone(),
            path: path.into(),
            span: None,
            message: message.into(),
            hint: None,
            is_missing_reference: false,
            is_consequence: false,
            id: INVALID_SPEC,
        }
    }

    pub(crate) fn of_problem(object: &Ref, path: impl Into<String>, problem: Problem) -> Self {
        let Problem { message, span, hint, id, is_consequence, .. } = problem;
        Self { span: Some(span), hint, id, is_consequence, ..Self::new(object, path, message) }
    }

    /// All that is wrong with one rule.
    pub(crate) fn of_problems(object: &Ref, path: &str, problem: Problem) -> Vec<Self> {
        problem.all().into_iter().map(|problem| Self::of_problem(object, path, problem)).collect()
    }

    pub(crate) fn of_schedule(object: &Ref, at: &str, wrong: Misdated) -> Self {
        Self::new(object, format!("{at}.{}", wrong.field), wrong.message).id(wrong.id)
    }

    #[must_use]
    pub fn id(mut self, id: &'static str) -> Self {
        self.id = id;
        self
    }

    /// Nothing has the name that was `written`; adds "did you mean" if one of `known` is near.
    #[must_use]
    pub fn suggest<'n>(mut self, written: &str, known: impl IntoIterator<Item = &'n str>) -> Self {
        self.id = UNKNOWN_NAME;
        self.hint = nearest(written, known).map(|near| format!("did you mean `{near}`?"));
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} `{}`, {}: {}", self.object.kind, self.object.name, self.path, self.message)?;
        self.hint.iter().try_for_each(|hint| write!(f, "; {hint}"))
    }
}

/// Everything that shapes a run, pinned: the store keeps it under its hash, so an edit never changes a run in flight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    pub namespace: String,
    pub name: String,
    pub campaign: CampaignSpec,
    pub dataset: DatasetSpec,
    pub audiences: BTreeMap<String, AudienceSpec>,
    /// The audiences that it fills. They need not have come yet, so a run does not read them by this.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub saved: BTreeMap<String, AudienceSpec>,
    pub channels: BTreeMap<String, ChannelSpec>,
    pub templates: BTreeMap<String, MessageTemplateSpec>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub policies: BTreeMap<String, ContactPolicySpec>,
    /// What its templates attach, where it is at hand. The revision names it by hash.
    #[serde(skip)]
    pub enclosures: Enclosures,
}

/// Where the specs of one namespace are found by name.
pub trait Library {
    fn dataset(&self, name: &str) -> Option<DatasetSpec>;
    fn audience(&self, name: &str) -> Option<AudienceSpec>;
    /// Whether an object of that kind and name is declared and cannot be taken, as it is wrong itself.
    fn is_wrong(&self, _kind: &str, _name: &str) -> bool {
        false
    }
    fn channel(&self, name: &str) -> Option<ChannelSpec>;
    fn template(&self, name: &str) -> Option<MessageTemplateSpec>;
    fn policy(&self, _name: &str) -> Option<ContactPolicySpec> {
        None
    }
    /// Whether the manifests that are being looked at declare an object of that kind and name. What is only left of one that
    /// is being deleted is not declared.
    fn is_declared(&self, _kind: &str, _name: &str) -> bool {
        false
    }
    fn campaign(&self, _name: &str) -> Option<CampaignSpec> {
        None
    }
    /// What a template attaches, by its hash, where it is at hand.
    fn enclosure(&self, _sha256: &str) -> Option<Arc<str>> {
        None
    }
}

impl Bundle {
    /// Gathers what a campaign refers to; every missing reference is a finding.
    pub fn gather(
        namespace: &str,
        name: &str,
        campaign: &CampaignSpec,
        library: &dyn Library,
    ) -> Result<Self, Vec<Finding>> {
        match Self::gather_some(namespace, name, campaign, library) {
            (Some(bundle), missing) if missing.is_empty() => Ok(bundle),
            (_, missing) => Err(missing),
        }
    }

    /// Gathers what is there of it; nothing without its Dataset.
    fn gather_some(
        namespace: &str,
        name: &str,
        campaign: &CampaignSpec,
        library: &dyn Library,
    ) -> (Option<Self>, Vec<Finding>) {
        let this = Ref::new("Campaign", name);
        let mut missing = vec![];
        let mut lost = |kind: &str, name: &str, path: String| {
            missing.push(missing_reference(&this, path, (kind, name), namespace, library));
        };
        let dataset = library.dataset(&campaign.dataset);
        if dataset.is_none() {
            lost("Dataset", &campaign.dataset, "spec.dataset".to_owned());
        }
        let (mut channels, mut templates, mut saved) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut policies = BTreeMap::new();
        for (index, name) in campaign.policies.iter().enumerate() {
            match library.policy(name) {
                Some(mut spec) => {
                    // A list is read for whoever writes to its addresses; no run pins it.
                    spec.suppression.import = None;
                    policies.insert(name.to_string(), spec);
                }
                None => lost("ContactPolicy", name, format!("spec.policies[{index}]")),
            }
        }
        let (mut mentions, mut unincluded) = (vec![], vec![]);
        for (index, step) in campaign.steps.iter().enumerate() {
            let at = |field: &str| format!("spec.steps[{index}].{}.{field}", step.activity.word());
            for (path, rule) in activity::rules_of(&step.activity) {
                mentions.extend(audience::mentions_in(rule, &this, &format!("spec.steps[{index}].{path}")));
            }
            match &step.activity {
                Activity::Audience(AudienceStep { reference: Some(name), .. }) => mentions.push(audience::Mention {
                    audience: name.to_string(),
                    object: this.clone(),
                    path: at("ref"),
                    span: None,
                }),
                Activity::SaveAudience(save) => match library.audience(&save.reference) {
                    Some(spec) => drop(saved.insert(save.reference.to_string(), spec)),
                    None => lost("Audience", &save.reference, at("ref")),
                },
                _ => {}
            }
            if let Some((_, message)) = step.activity.message() {
                match library.channel(&message.channel) {
                    Some(spec) => drop(channels.insert(message.channel.to_string(), spec)),
                    None => lost("Channel", &message.channel, at("channel")),
                }
                match library.template(&message.template) {
                    Some(spec) => {
                        let named = (namespace, &*message.template);
                        unincluded.extend(fragment::gather(named, spec, library, &mut templates));
                    }
                    None => lost("MessageTemplate", &message.template, at("template")),
                }
            }
        }
        missing.extend(unincluded);
        let (audiences, found) = audience::gather(&mentions, (namespace, &campaign.dataset), library);
        missing.extend(found);
        let (namespace, name, campaign) = (namespace.to_owned(), name.to_owned(), campaign.clone());
        let enclosures = Enclosures::new();
        let with = |dataset| {
            let mut bundle = Self {
                namespace,
                name,
                campaign,
                dataset,
                audiences,
                saved,
                channels,
                templates,
                policies,
                enclosures,
            };
            let found = bundle
                .attached()
                .into_iter()
                .filter_map(|sha256| library.enclosure(&sha256).map(|body| (sha256, body)));
            bundle.enclosures = found.collect();
            bundle
        };
        (dataset.map(with), missing)
    }

    /// The hashes of what its templates attach, in any locale.
    pub fn attached(&self) -> BTreeSet<String> {
        let attachments = self.templates.values().flat_map(MessageTemplateSpec::attachments);
        attachments.filter_map(|attachment| Some(attachment.pinned.as_ref()?.sha256.clone())).collect()
    }

    /// What follows from a bounce or a complaint about one of its messages.
    pub fn suppression(&self) -> Suppression {
        Suppression::strictest(self.policies.values().map(|policy| policy.suppression.clone()))
    }

    /// By step, the topic under which a person allows to be told apart by her opens and clicks.
    pub fn tracking_topics(&self) -> BTreeMap<i64, String> {
        let topic =
            |channel: &str| self.channels.get(channel)?.tracking.consent_topic.as_ref().map(ToString::to_string);
        let of = |(index, step): (usize, &crate::api::step::Step)| match &step.activity {
            Activity::Email(email) => Some((i64::try_from(index).ok()?, topic(&email.channel)?)),
            _ => None,
        };
        self.campaign.steps.iter().enumerate().filter_map(of).collect()
    }

    /// What the store may know the campaign by.
    pub fn names(&self) -> Vec<String> {
        self.campaign.names(&self.name).map(str::to_owned).collect()
    }

    /// The text that the store keeps, and its hash. Personas are not of it: no run reads them. Nor is `expect`: a run is
    /// weighed by what is declared when it is planned.
    ///
    /// # Errors
    /// If a spec cannot be written as JSON, which would be a fault of ours.
    pub fn revision(&self) -> Result<(String, String), serde_json::Error> {
        let mut read = self.clone();
        read.templates.values_mut().for_each(|template| template.personas.clear());
        read.campaign.expect = None;
        let text = serde_json::to_string(&read)?;
        let hash: String = Sha256::digest(text.as_bytes()).iter().take(8).map(|b| format!("{b:02x}")).collect();
        Ok((hash, text))
    }

    /// Compiles the plan for one of the two databases.
    pub fn compile(&self, dialect: Dialect) -> Result<Plan, Vec<Finding>> {
        graph::compile(self, dialect)
    }

    /// What can be said of the steps without a Dataset.
    fn check_order(campaign: &CampaignSpec, name: &str) -> Vec<Finding> {
        graph::check_order(&Ref::new("Campaign", name), &campaign.steps)
    }

    /// One audience of the bundle, with values for its parameters, as a plan of one step of its name.
    pub fn compile_audience(
        &self,
        name: &str,
        own: BTreeMap<String, Param>,
        dialect: Dialect,
    ) -> Result<Plan, Vec<Finding>> {
        graph::of_audience(self, (name, own), dialect)
    }

    pub(crate) fn schema(&self, dialect: Dialect) -> Schema {
        let schema = dataset::schema_of(&self.dataset, &self.namespace, &self.campaign.dataset, dialect);
        audience::known_to(schema, &self.audiences)
    }
}

/// An object that another one names and that is not there, or is wrong itself.
fn missing_reference(
    this: &Ref,
    path: impl Into<String>,
    (kind, name): (&str, &str),
    namespace: &str,
    library: &dyn Library,
) -> Finding {
    let is_wrong = library.is_wrong(kind, name);
    let message = if is_wrong {
        format!("{kind} `{name}` is wrong itself, and that is said there")
    } else {
        format!("there is no {kind} `{name}` in namespace {namespace}")
    };
    let finding = Finding::new(this, path, message).id(MISSING_REFERENCE);
    Finding { is_missing_reference: true, is_consequence: is_wrong, ..finding }
}
