//! What the golden tests of the activities share: a shop, and the SQL and the words that a campaign's steps come to.

use std::fmt::Write;

use sea_query::{Alias, PostgresQueryBuilder, Query as Statement, SelectStatement, SqliteQueryBuilder};

use crate::{
    api::{AudienceSpec, CampaignSpec, ChannelSpec, DatasetSpec, MessageTemplateSpec, step::Step},
    plan::{Bundle, Finding, Library},
    rule::{Dialect, Inputs},
};

const DATASET: &str = r#"
entities:
- name: customer
  key: [id]
  fields:
  - {name: id, type: Integer}
  - {name: email, type: String}
  - {name: tier, type: String}
  - {name: joined, type: Date}
- name: order
  key: [shop, no]
  fields:
  - {name: shop, type: String}
  - {name: no, type: Integer}
  - {name: customer_id, type: Integer}
  - {name: total, type: Decimal, scale: 2, required: true}
  - {name: paid, type: Boolean}
  - {name: updated_at, type: Timestamp}
  links:
  - {name: customer, to: customer, keys: {customer_id: id}, inverse: orders}
- name: lead
  key: [id]
  fields:
  - {name: id, type: Integer}
  - {name: mail, type: String}
profile: {entity: customer, addresses: {email: email}}
topics:
- {name: service, category: Transactional}
"#;

struct Shop(MessageTemplateSpec);

impl Library for Shop {
    fn dataset(&self, _: &str) -> Option<DatasetSpec> {
        serde_yaml::from_str(DATASET).ok()
    }
    /// `kept` and `orders` are filled by campaigns, `gold` is not.
    fn audience(&self, name: &str) -> Option<AudienceSpec> {
        let spec = match name {
            "kept" => "{dataset: shop, entity: customer, saved: {}}",
            "orders" => "{dataset: shop, entity: order, saved: {}}",
            "gold" => "{dataset: shop, entity: customer, where: 'customer.tier == \"gold\"'}",
            _ => return None,
        };
        serde_yaml::from_str(spec).ok()
    }
    fn channel(&self, _: &str) -> Option<ChannelSpec> {
        serde_yaml::from_str("outbox: {}").ok()
    }
    fn template(&self, _: &str) -> Option<MessageTemplateSpec> {
        Some(self.0.clone())
    }
}

fn bundle(steps: &str, text: &str) -> Bundle {
    let steps: Vec<Step> = serde_yaml::from_str(steps).unwrap();
    let mut campaign: CampaignSpec =
        serde_json::from_value(serde_json::json!({"dataset": "shop", "topic": "service", "steps": []})).unwrap();
    campaign.steps = steps;
    let template = serde_json::from_value(serde_json::json!({"email": {"subject": "Hello", "text": text}})).unwrap();
    Bundle::gather("default", "hello", &campaign, &Shop(template)).unwrap()
}

/// A set named `all`, and the steps with an `email` behind them.
fn around(entity: &str, steps: &str) -> String {
    let all = format!("- {{name: all, audience: {{entity: {entity}, where: \"true\"}}}}\n");
    format!("{all}{steps}\n- {{name: mail, from: all, email: {{channel: out, template: hello}}}}")
}

/// The SQL of the step `it`, which reads sets of `entity`; each output stands for its own name.
pub fn golden(entity: &str, steps: &str) -> String {
    golden_with(&around(entity, steps), "")
}

/// The same, where all steps are given, and the text of the template that `email` sends.
pub fn golden_with(steps: &str, text: &str) -> String {
    let bundle = bundle(steps, text);
    let now = "2026-05-01T09:00:00Z".parse().unwrap();
    let inputs = Inputs::at(now);
    let mut shown = String::new();
    for dialect in [Dialect::Sqlite, Dialect::Postgres] {
        let plan = bundle.compile(dialect).unwrap_or_else(|found| panic!("{}", words(&found)));
        let keys = |name: &str| {
            let entity = plan.output(name).and_then(|output| plan.schema.entity(&output.entity)).unwrap();
            let mut select = Statement::select();
            select.columns(entity.key.iter().map(Alias::new)).from(Alias::new(name)).to_owned()
        };
        let step = plan.steps.iter().find(|step| step.name == "it").unwrap();
        let selects = step.compiled.selects(&plan.ground(&inputs, now, &keys));
        assert_eq!(selects.outputs.len(), step.outputs.len());
        let named = step.outputs.iter().map(|output| output.name.as_str()).zip(&selects.outputs);
        for (name, select) in named.chain(selects.left.iter().map(|left| ("left", left))) {
            writeln!(shown, "-- {dialect:?}: {name}\n{}", sql(select, dialect)).unwrap();
        }
    }
    shown
}

fn sql(select: &SelectStatement, dialect: Dialect) -> String {
    let (text, binds) = match dialect {
        Dialect::Sqlite => select.build(SqliteQueryBuilder),
        Dialect::Postgres => select.build(PostgresQueryBuilder),
    };
    let binds: Vec<String> = binds.0.iter().map(|bind| format!("{bind:?}")).collect();
    if binds.is_empty() { text } else { format!("{text}\n    {}", binds.join(", ")) }
}

/// What is said of a wrong step.
pub fn said(entity: &str, steps: &str) -> String {
    said_with(&around(entity, steps), "")
}

pub fn said_with(steps: &str, text: &str) -> String {
    words(&bundle(steps, text).compile(Dialect::Sqlite).err().expect("it is right"))
}

fn words(found: &[Finding]) -> String {
    found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
