//! A rule that overflows or divides by zero fails its run, and the run says where in the rule and for which row.

use campanile::{
    api::{AudienceSpec, CampaignSpec, ChannelSpec, DatasetSpec, MessageTemplateSpec},
    plan::{Bundle, Library},
    rule::Inputs,
    run::{engine, fault},
    store::{
        Sql, Store,
        campaign::{NewRun, Origin},
        entity::Place,
    },
};
use jiff::Timestamp;

use crate::{
    home::{Home, people, people_manifests},
    world::Postgres,
};

const DATASET: &str = "
entities:
- name: person
  key: [id]
  fields:
  - {name: id, type: Integer}
  - {name: email, type: String}
  - {name: visits, type: Integer}
- name: visit
  key: [id]
  fields:
  - {name: id, type: Integer}
  - {name: person_id, type: Integer}
  - {name: pages, type: Integer}
  links:
  - {name: person, to: person, keys: {person_id: id}, inverse: all}
profile: {entity: person, addresses: {email: email}}
topics:
- {name: service, category: Transactional}
conditions:
- {name: busy, entity: person, where: '100 / person.visits < 20'}
";

struct Town;

impl Library for Town {
    fn dataset(&self, _: &str) -> Option<DatasetSpec> {
        serde_yaml::from_str(DATASET).ok()
    }
    fn audience(&self, _: &str) -> Option<AudienceSpec> {
        None
    }
    fn channel(&self, _: &str) -> Option<ChannelSpec> {
        serde_yaml::from_str("outbox: {}").ok()
    }
    fn template(&self, _: &str) -> Option<MessageTemplateSpec> {
        serde_yaml::from_str("email: {subject: Hello, text: Hello}").ok()
    }
}

fn bundle(rule: &str, split: &str) -> Bundle {
    let campaign = format!(
        "dataset: town\ntopic: service\nsteps:\n\
         - {{name: all, audience: {{entity: person, where: '{rule}'}}}}\n\
         - {{name: parts, split: {{branches: [{{name: some, where: '{split}'}}], rest: others}}}}\n\
         - {{name: both, union: {{of: [parts.some, parts.others]}}}}\n\
         - {{name: mail, email: {{channel: out, template: hello}}}}\n"
    );
    let campaign: CampaignSpec = serde_yaml::from_str(&campaign).unwrap();
    Bundle::gather("ns", "greet", &campaign, &Town).unwrap()
}

/// What planning a run says of it: nothing, or the fault.
async fn planned(store: &Store, name: &str, (rule, split): (&str, &str)) -> Option<String> {
    let bundle = bundle(rule, split);
    let plan = bundle.compile(store.dialect()).unwrap_or_else(|found| panic!("{}", found[0]));
    let (hash, text) = bundle.revision().unwrap();
    let new = NewRun {
        namespace: "ns",
        name,
        campaign: "greet",
        dataset: "d",
        mode: "Live",
        origin: Origin::Hand,
        scheduled: Timestamp::from_second(1_800_000_000).unwrap(),
        predecessor: None,
        revision: (&hash, &text),
    };
    let (run, _) = store.create_run(&new, new.scheduled).await.unwrap();
    let error = engine::plan_run(store, &bundle, &plan, &run, new.scheduled).await.err()?;
    assert!(error.is_fault() && !error.is_passing(), "{error}");
    Some(fault::explain(store, &plan, &Inputs::at(run.scheduled), error).await.to_string())
}

async fn faults(store: Store) {
    store.enter("home", "test").await.unwrap();
    let place = Place { namespace: "ns", dataset: "town", dialect: store.dialect() };
    let spec: DatasetSpec = serde_yaml::from_str(DATASET).unwrap();
    for entity in &spec.entities {
        store.ensure_entity(place, entity).await.unwrap();
    }
    let rows = [
        format!(
            "INSERT INTO {} VALUES (1, 'a@b.c', 4), (2, 'b@b.c', 0), (3, 'c@b.c', NULL)",
            place.table_name("person")
        ),
        // The visit 12 is nobody's, and nobody's zero is asked.
        format!(
            "INSERT INTO {} VALUES (10, 1, 5), (11, 2, 9223372036854775807), (12, NULL, 0)",
            place.table_name("visit")
        ),
    ];
    for text in rows {
        store.execute(Sql::new(String::leak(text))).await.unwrap();
    }
    let words = [
        // Guarded from the left, or by a filter; a missing value is no zero; who is nobody's is not asked.
        (("person.visits != 0 && 100 / person.visits > 3", "true"), None),
        (("!has(person.visits) || person.visits == 0 || 100 / person.visits > 3", "true"), None),
        (("person.all.filter(v, v.pages < 100).map(v, 10 / v.pages).sum() >= 0", "true"), None),
        (
            ("100 / person.visits > 3", "true"),
            Some("step `all`: `100 / person.visits` (1:1 of the rule) divides by zero or overflows for person 2"),
        ),
        (
            ("person.id > 0 && (person.id == 1 || 100 / person.visits > 3)", "true"),
            Some("step `all`: `100 / person.visits` (1:37 of the rule) divides by zero or overflows for person 2"),
        ),
        (
            ("person.all.exists(v, v.pages + 1 > 3)", "true"),
            Some("step `all`: `v.pages + 1` (1:22 of the rule) overflows for person 2"),
        ),
        (
            ("person.all.map(v, v.pages).sum() + 1 > 3", "true"),
            Some("step `all`: `person.all.map(v, v.pages).sum() + 1` (1:1 of the rule) overflows for person 2"),
        ),
        // Only who is in the set is asked; and a named condition is told where it is used.
        (("person.id == 1", "100 / person.visits > 3"), None),
        (
            ("person.id < 3", "person.busy"),
            Some("step `parts`: `person.busy` (1:1 of the rule) divides by zero or overflows for person 2"),
        ),
    ];
    for (index, (rules, wanted)) in words.into_iter().enumerate() {
        let found = planned(&store, &format!("run-{index}"), rules).await;
        assert_eq!(found.as_deref(), wanted, "{rules:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_names_the_place_and_the_row() {
    let folder = tempfile::tempdir().unwrap();
    faults(Store::open(&format!("sqlite://{}", folder.path().join("store.db").display())).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_names_the_same() {
    faults(Store::open(&Postgres::shared().await.unwrap().database().await.unwrap()).await.unwrap()).await;
}

#[tokio::test]
async fn the_run_ends_and_its_status_says_why() {
    let home = Home::new();
    home.write("town/town.yaml", &people_manifests("  schedule: {immediate: {}}", "10 / (person.id - 2) > 0"));
    home.write("town/data/people.csv", &people(3));
    assert_eq!(home.run(&["town"]).code, 1);
    let text = home.get("campaignrun", "greet-immediate")["status"].to_string();
    assert!(text.contains("divides by zero or overflows for person 2"), "{text}");
}
