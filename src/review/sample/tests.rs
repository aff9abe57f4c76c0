use std::fmt::Write;

use super::*;
use crate::{
    api::{AudienceSpec, CampaignSpec, ChannelSpec, DatasetSpec, MessageTemplateSpec},
    plan::Library,
    review::persona,
    rule::Dialect,
};

const SHOP: &str = "
Dataset:
  entities:
  - name: customer
    key: [id]
    fields:
    - {name: id, type: Integer}
    - {name: email, type: String}
    - {name: first_name, type: String}
    - {name: language, type: String}
    - {name: tier, type: String, reveal: true}
  - name: booking
    key: [id]
    fields:
    - {name: id, type: Integer}
    - {name: customer_id, type: Integer}
    - {name: price, type: Decimal, scale: 2}
    - {name: departure, type: Timestamp}
    links:
    - {name: customer, to: customer, keys: {customer_id: id}, inverse: bookings}
  profile: {entity: customer, addresses: {email: email}, locale: language}
  topics: [{name: news, category: Marketing}]
Channel: {outbox: {}, publicUrl: 'https://mail.example.com'}
Campaign:
  dataset: shop
  topic: news
  steps:
  - {name: trips, audience: {entity: booking, where: 'true'}}
  - {name: others, enrich: {as: others, link: booking.customer.bookings, top: 3}}
  - {name: who, enrich: {as: who, aggregate: 'booking.customer.first_name + \"!\"'}}
  - {name: mail, email: {channel: out, template: trip}}
";

const TEMPLATE: &str = "
email:
  subject: 'Your trip on {{ booking.departure | date }}, {{ customer.first_name | default(\"friend\") }}'
  text: |
    {{ customer.tier }} {{ booking.id }} {{ booking.price }} {{ who }} {{ customer.first_name | length }}
    {% for other in others %}{{ other.id }} {{ other.customer.first_name | upper }} {{ other.price }};{% endfor %}
    {{ unsubscribe_url }}
locales:
  it: {email: {subject: 'Il viaggio di {{ customer.first_name }}'}}
";

struct Shop(String);

impl Shop {
    fn spec<T: serde::de::DeserializeOwned>(kind: &str) -> Option<T> {
        let all: serde_yaml::Value = serde_yaml::from_str(SHOP).unwrap();
        Some(serde_yaml::from_value(all[kind].clone()).unwrap())
    }
}

impl Library for Shop {
    fn dataset(&self, _: &str) -> Option<DatasetSpec> {
        Self::spec("Dataset")
    }
    fn audience(&self, _: &str) -> Option<AudienceSpec> {
        None
    }
    fn channel(&self, _: &str) -> Option<ChannelSpec> {
        Self::spec("Channel")
    }
    fn template(&self, _: &str) -> Option<MessageTemplateSpec> {
        Some(serde_yaml::from_str(&self.0).unwrap())
    }
}

fn pinned(personas: &str) -> Arc<(Bundle, Plan)> {
    let shop = Shop(format!("{TEMPLATE}personas:\n{personas}"));
    let campaign: CampaignSpec = Shop::spec("Campaign").unwrap();
    let bundle = Bundle::gather("default", "trip", &campaign, &shop).unwrap();
    let plan = bundle.compile(Dialect::Sqlite).map_err(|found| found[0].to_string()).unwrap();
    Arc::new((bundle, plan))
}

fn sampler(pinned: &Arc<(Bundle, Plan)>) -> Sampler {
    let mask = Mask::of(&pinned.0.dataset, &pinned.1.schema);
    Sampler::new(pinned.clone(), Inputs::at("2026-05-01T09:00:00Z".parse().unwrap()), mask)
}

fn personas(pinned: &(Bundle, Plan)) -> &[Persona] {
    &pinned.0.templates["trip"].personas
}

const ZOE: &str = "
- name: zoe
  values:
    customer: {first_name: Zoë, tier: gold, email: zoe@example.com, language: it}
    booking: {id: 7, price: 12.5, departure: 2026-12-24T08:00:00Z}
    who: Zoë!
    others: [{id: 8, price: '3', customer: {first_name: Zoë}}]
- {name: nobody}
- name: other-spelling
  locale: it-CH
  values: {booking: {customer: {first_name: Max}}}
";

#[test]
fn a_persona_gets_the_message_that_a_person_would() {
    let pinned = pinned(ZOE);
    assert_eq!(persona::check(&pinned.0, &pinned.1), []);
    let mut shown = String::new();
    for persona in personas(&pinned) {
        for locale in [None, Some("de")] {
            let sample = sampler(&pinned).persona("mail", persona, locale).unwrap();
            let Sample { who, locale, subject, text, size_bytes, file: eml, .. } = sample;
            assert_eq!(size_bytes, eml.len());
            writeln!(shown, "{who} ({locale}): {subject}\n{}", text.unwrap()).unwrap();
        }
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn a_wrong_persona_is_pointed_at() {
    let wrong = pinned(
        "
- name: a
  values:
    customer: {fist_name: Zoë, tier: 7}
    booking: {departure: tomorrow, price: 1.234, custmer: {}}
    custommer: {}
- {name: b, values: {customer: Zoë}}
- {name: c, values: {others: [1]}}
- {name: d, values: {others: {id: 1}}}
- {name: e, values: {others: [{id: seven}]}}
",
    );
    let found: Vec<String> = persona::check(&wrong.0, &wrong.1).iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(found.join("\n"));
}

#[test]
fn personas_are_not_of_the_revision() {
    assert_eq!(pinned(ZOE).0.revision().unwrap(), pinned(" []").0.revision().unwrap());
}

fn about() -> About {
    let rows = serde_json::json!([{"id": 901, "price": "3.00", "customer": {"first_name": "SECRET-A"}}]);
    // In the order of what the template reads: departure, first_name, tier, id, price; who; others.
    let pinned = pinned(" []");
    let (_, _, email) = pinned.1.messages().next().unwrap();
    let value = |names: &str| match names {
        "booking.departure" => Value::from("2026-12-24T08:00:00Z"),
        "customer.first_name" => Value::from("SECRET-B"),
        "customer.tier" => Value::from("gold"),
        "booking.id" => Value::from(900),
        "booking.price" => Value::from("12.50"),
        other => panic!("{other} is read"),
    };
    let own = email.reads.iter().map(|column| value(&column.names.join(".")));
    let extras = email.extras.iter().map(|extra| match extra.name[0].as_str() {
        "who" => Value::from("SECRET-B!"),
        _ => template::value(&rows),
    });
    About {
        item: "900".to_owned(),
        profile: Some("SECRET-C".to_owned()),
        address: Some("secret-d@example.com".to_owned()),
        locale: Some("it".to_owned()),
        fields: own.chain(extras).collect(),
    }
}

#[test]
fn what_is_personal_is_masked_before_the_template_gets_it() {
    let pinned = pinned(" []");
    let sample = sampler(&pinned).about("mail", &about(), Some("en")).unwrap();
    let Sample { who, subject, text, .. } = &sample;
    let all = format!("{who} {subject} {text:?} {}", String::from_utf8_lossy(&sample.file));
    assert!(!all.to_lowercase().contains("secret") && !all.contains("90"), "{all}");
    insta::assert_snapshot!(format!("{}: {}\n{}", sample.who, sample.subject, sample.text.unwrap()));
}

#[test]
fn who_may_see_it_sees_it_and_the_link_withdraws_nobody() {
    let pinned = pinned(" []");
    let mask = Mask::of(&pinned.0.dataset, &pinned.1.schema).lifted();
    let sampler = Sampler::new(pinned, Inputs::at("2026-05-01T09:00:00Z".parse().unwrap()), mask);
    let sample = sampler.about("mail", &about(), None).unwrap();
    let eml = String::from_utf8_lossy(&sample.file).into_owned();
    assert_eq!((sample.who.as_str(), sample.locale.as_str()), ("900", "it"));
    assert!(sample.subject.ends_with("SECRET-B") && eml.contains("To: secret-d@example.com"), "{eml}");
    assert!(eml.contains("List-Unsubscribe: <https://mail.example.com/u/specimen>"), "{eml}");
    assert!(sample.text.unwrap().ends_with("/u/specimen"));
}

#[test]
fn a_template_that_computes_with_a_key_gets_one() {
    let template = TEMPLATE.replace("{{ booking.id }}", "{{ booking.id + 1 }}");
    let campaign: CampaignSpec = Shop::spec("Campaign").unwrap();
    let bundle = Bundle::gather("default", "trip", &campaign, &Shop(template)).unwrap();
    let plan = bundle.compile(Dialect::Sqlite).map_err(|found| found[0].to_string()).unwrap();
    let sample = sampler(&Arc::new((bundle, plan))).about("mail", &about(), None).unwrap();
    assert!(sample.text.unwrap().starts_with("gold 1 12.50"));
}
