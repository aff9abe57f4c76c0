//! `validate` over 1,000 manifests that an organisation could have: datasets, channels, audiences, campaigns with rules
//! and templates. The floor is what it costs only to parse the same text, by `serde_yaml`.
//!
//! ```sh
//! cargo bench --bench validate
//! ```

use std::{
    fmt::Write,
    path::PathBuf,
    time::{Duration, Instant},
};

use campanile::review::{check, tree::Tree};
use serde::Deserialize;

/// In 25 namespaces: a dataset, a channel, eight audiences, fifteen campaigns, fifteen templates each.
const TEAMS: usize = 25;
const AUDIENCES: usize = 8;
const CAMPAIGNS: usize = 15;
const ROUNDS: usize = 7;
/// What the issue asks for.
const LIMIT: Duration = Duration::from_secs(1);

fn main() {
    let files = files();
    let bytes: usize = files.iter().map(|(_, text)| text.len()).sum();
    let now = "2026-03-01T12:00:00Z".parse().expect("a time");
    let (objects, warnings) = look(&files, now);
    println!("{objects} manifests in {} files, {} KiB, {warnings} warnings", files.len(), bytes / 1024);
    let (mut floor, mut whole) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        floor = floor.min(timed(|| parse(&files)));
        // What is parsed is kept on its thread: on a new one all is read as by a new process.
        whole = whole.min(timed(|| std::thread::scope(|scope| scope.spawn(|| look(&files, now).0).join().ok())));
    }
    let ratio = whole.as_secs_f64() / floor.as_secs_f64();
    println!("floor, serde_yaml alone: {:.1} ms", floor.as_secs_f64() * 1e3);
    println!("validate:                {:.1} ms, {ratio:.1} times the floor", whole.as_secs_f64() * 1e3);
    assert!(whole < LIMIT, "{whole:?} for {objects} manifests");
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let began = Instant::now();
    std::hint::black_box(work());
    began.elapsed()
}

/// Every document of every file, as JSON.
fn parse(files: &[(PathBuf, String)]) -> usize {
    let documents = files.iter().flat_map(|(_, text)| serde_yaml::Deserializer::from_str(text));
    documents.map(|document| serde_json::Value::deserialize(document).expect("YAML")).filter(|v| v.is_object()).count()
}

fn look(files: &[(PathBuf, String)], now: jiff::Timestamp) -> (usize, usize) {
    let tree = Tree::of_files(files.iter().map(|(path, text)| (path.clone(), text.clone().into_bytes())));
    assert!(tree.errors().is_empty(), "{}", tree.errors()[0]);
    let (warnings, _) = check::warnings(&tree, now);
    (tree.objects(), warnings.len())
}

fn files() -> Vec<(PathBuf, String)> {
    let mut files = vec![];
    for team in 0..TEAMS {
        let at = |name: &str| PathBuf::from(format!("teams/{team}/{name}.yaml"));
        files.push((at("dataset"), dataset(team)));
        let audiences: Vec<String> = (0..AUDIENCES).map(|n| audience(team, n)).collect();
        files.push((at("audiences"), audiences.join("---\n")));
        files.extend((0..CAMPAIGNS).map(|n| (at(&format!("campaign-{n}")), campaign(team, n))));
    }
    files
}

fn head(kind: &str, team: usize, name: &str) -> String {
    format!(
        "apiVersion: campanile.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: team-{team}}}\nspec:\n"
    )
}

/// Ten entities in a star around the customer, and a channel.
fn dataset(team: usize) -> String {
    let mut text = head("Dataset", team, "shop");
    text += "  entities:\n  - name: customer\n    key: [id]\n    version: updated_at\n    fields:\n    - {name: id, type: Integer}\n";
    for (name, ty) in
        [("email", "String"), ("language", "String"), ("country", "String"), ("tier", "String"), ("born", "Date")]
    {
        let _ = writeln!(text, "    - {{name: {name}, type: {ty}}}");
    }
    text += "    - {name: first_name, type: String, required: true}\n    - {name: news, type: Boolean}\n    - {name: news_at, type: Timestamp}\n    - {name: updated_at, type: Timestamp}\n";
    text += "    source: {files: {url: data/customer, format: CSV}}\n";
    for n in 0..9 {
        let _ = writeln!(text, "  - name: thing_{n}\n    key: [id]\n    fields:");
        text += "    - {name: id, type: Integer}\n    - {name: customer_id, type: Integer, required: true}\n    - {name: status, type: String, required: true}\n";
        text += "    - {name: amount, type: Decimal, scale: 2}\n    - {name: at, type: Timestamp, required: true}\n    - {name: note, type: String}\n";
        let _ = writeln!(
            text,
            "    links: [{{name: customer, to: customer, keys: {{customer_id: id}}, inverse: things_{n}}}]"
        );
        let _ = writeln!(text, "    source: {{files: {{url: data/thing_{n}, format: CSV}}}}");
    }
    text += "  profile: {entity: customer, locale: language, addresses: {email: email}}\n  topics:\n";
    text += "  - {name: offers, category: Marketing, consent: {email: {field: news, changedAt: news_at}}}\n  - {name: service, category: Transactional}\n";
    text += "  conditions: [{name: grown, entity: customer, where: 'customer.born < date(\"2008-01-01\")'}]\n---\n";
    text += &head("Channel", team, "mail");
    text += "  email: {from: \"Shop <shop@example.com>\", smtp: {host: smtp.example.com, secretRef: {name: login}}, sender: {name: Shop, address: Milano}}\n";
    text += "  publicUrl: https://mail.example.com\n";
    text
}

fn audience(team: usize, n: usize) -> String {
    let mut text = head("Audience", team, &format!("audience-{n}"));
    text += "  dataset: shop\n  entity: customer\n";
    if n == 0 {
        return text
            + "  parameters: {days: 30}\n  where: >-\n    customer.country == \"IT\" && customer.things_0.exists(t, t.at > now - days(params.days))\n    && customer.things_1.filter(t, t.status == \"open\").size() < 3\n";
    }
    if n.is_multiple_of(4) {
        let _ = writeln!(text, "  subtract: [{{ref: audience-{}}}, {{ref: audience-{}}}]", n - 1, n - 2);
    } else {
        let _ = writeln!(
            text,
            "  where: 'customer in audience(\"audience-{}\") && customer.things_{n}.map(t, t.amount).sum() > {n}.5'",
            n - 1
        );
    }
    text + "  refresh: {cron: \"0 * * * *\", timeZone: Europe/Rome}\n"
}

fn campaign(team: usize, n: usize) -> String {
    let mut text = head("Campaign", team, &format!("campaign-{n}"));
    let _ = write!(
        text,
        r#"  dataset: shop
  topic: offers
  schedule: {{cron: "{n} 9 * * *", timeZone: Europe/Rome, startingDeadline: 2h}}
  steps:
  - name: all
    audience: {{ref: audience-{}}}
  - name: tiers
    split:
      branches:
      - {{name: gold, where: 'customer.tier == "gold" && customer.grown', atMost: 10%}}
      - {{name: silver, where: 'customer.tier == "silver"'}}
      rest: others
  - name: back
    union: {{of: [tiers.gold, tiers.silver, tiers.others]}}
  - name: total
    enrich: {{as: spent, aggregate: 'customer.things_2.map(t, t.amount).sum()'}}
  - name: lately
    enrich: {{as: lately, link: customer.things_3, top: 3, orderBy: at, direction: Descending}}
  - name: mail
    email: {{channel: mail, template: template-{n}, once: {{within: 30d}}, expiresAfter: 12h}}
---
"#,
        n % AUDIENCES
    );
    text += &head("MessageTemplate", team, &format!("template-{n}"));
    text += r#"  email:
    subject: "{{ customer.first_name }}, your week"
    text: |
      Dear {{ customer.first_name }},

      you have spent {{ spent | default(0) }} with us, last
      {% for thing in lately %}- {{ thing.status }} on {{ thing.at | date("%d.%m.%Y") }}: {{ thing.amount }}
      {% endfor %}
      {% if customer.tier == "gold" %}Thank you for being with us.{% else %}Come again.{% endif %}

      {{ sender.name }}, {{ sender.address }}
      {{ unsubscribe_url }}
    html: |
      <h1>Dear {{ customer.first_name }}</h1>
      <table>{% for thing in lately %}<tr><td>{{ thing.status }}</td><td>{{ thing.at | date }}</td></tr>{% endfor %}</table>
      <p>You have spent {{ spent }}.</p>
      <p>{{ sender.address }} <a href="{{ unsubscribe_url }}">unsubscribe</a></p>
  locales:
    it:
      email:
        subject: "{{ customer.first_name }}, la tua settimana"
        text: |
          Ciao {{ customer.first_name }}, hai speso {{ spent }}.
          {{ sender.address }} {{ unsubscribe_url }}
"#;
    text
}
