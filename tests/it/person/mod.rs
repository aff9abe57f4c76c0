//! What is shown of one person, and what is not: `why`, `render`, `proof`, on both stores.
//!
//! Every text and key of the club's people is marked, so that any of them that comes out of a preview is found.

mod plan;
mod proof;
mod render;
mod why;

use std::path::PathBuf;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, SqliteConnection};

use crate::{
    home::{Home, Ran},
    world::Postgres,
};

/// In every text of the data, and in every key.
const MARK: &str = "s3cr3t";

/// What is behind a `now` of `2026-05-01T09:00:00Z`.
const NOW: &str = "2026-05-01T09:00:00Z";

const CLUB: &str = r#"apiVersion: campanile.dev/v1alpha1
kind: Dataset
metadata: {name: club}
spec:
  entities:
  - name: member
    key: [code]
    fields:
    - {name: code, type: String}
    - {name: email, type: String}
    - {name: name, type: String}
    - {name: language, type: String}
    - {name: country, type: String}
    - {name: tier, type: String, reveal: true}
    - {name: points, type: Integer}
    - {name: news, type: Boolean}
    source: {files: {url: data/members.csv, format: CSV}}
  - name: visit
    key: [shop, number]
    fields:
    - {name: shop, type: String}
    - {name: number, type: Integer}
    - {name: member_code, type: String}
    - {name: at, type: Timestamp}
    - {name: spent, type: Decimal, scale: 2}
    - {name: note, type: String}
    links:
    - {name: member, to: member, keys: {member_code: code}, inverse: visits}
    source: {files: {url: data/visits.csv, format: CSV}}
  profile: {entity: member, addresses: {email: email}, locale: language}
  topics:
  - name: news
    category: Marketing
    consent: {email: {field: news}}
  - {name: service, category: Transactional}
---
apiVersion: campanile.dev/v1alpha1
kind: Channel
metadata: {name: out}
spec: {outbox: {from: "Club <club@example.com>"}, publicUrl: "https://mail.example.com"}
---
apiVersion: campanile.dev/v1alpha1
kind: Audience
metadata: {name: regulars}
spec:
  dataset: club
  entity: member
  parameters: {times: 2}
  where: member.visits.size() >= params.times
---
apiVersion: campanile.dev/v1alpha1
kind: Audience
metadata: {name: abroad}
spec: {dataset: club, entity: member, where: 'member.country != "IT"'}
---
apiVersion: campanile.dev/v1alpha1
kind: Audience
metadata: {name: guests}
spec: {dataset: club, entity: member, intersect: [{ref: regulars, params: {times: 1}}, {ref: abroad}]}
---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {name: letter}
spec:
  email:
    subject: "Dear {{ member.name | default('friend') }}"
    text: |
      {{ member.name | upper }} {{ member.name | length }} {{ member.code }} {{ member.tier }} {{ member.points }}
      {% for visit in last %}{{ visit.note }} {{ visit.spent }} {{ visit.member.name }};{% endfor %}
      {{ greeting }} {{ unsubscribe_url }}
    html: "<p>{{ member.name }} {{ greeting }}</p>"
  locales:
    it: {email: {subject: "Cara {{ member.name }}"}}
  personas:
  - name: zoe
    locale: it
    values: {member: {name: Zoë, tier: gold, points: 12}, last: [{spent: 3.5, member: {name: Zoë}}]}
  - {name: nobody}
---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {name: receipt}
spec: {email: {subject: "{{ visit.spent }} on {{ visit.at | date }}", text: "{{ member.name }}: {{ visit.note }}"}}
---
apiVersion: campanile.dev/v1alpha1
kind: Campaign
metadata: {name: letter}
spec:
  dataset: club
  topic: news
  schedule: {cron: "0 9 * * *", timeZone: UTC}
  steps:
  - name: who
    audience:
      entity: member
      where: >-
        member.country != "IT" && !(member.points < 10 || member.name == "x")
        && member in audience("regulars") && 100 / member.points > 1
  - name: fresh
    incremental: {by: Key}
  - name: last
    enrich: {as: last, link: member.visits, top: 2, orderBy: at}
  - name: greeting
    enrich: {as: greeting, aggregate: '"Hi " + member.name'}
  - name: tiers
    split: {branches: [{name: gold, where: 'member.tier == "gold"'}], rest: others}
  - name: mail-gold
    from: tiers.gold
    email: {channel: out, template: letter}
  - name: mail-others
    from: tiers.others
    email: {channel: out, template: letter}
---
apiVersion: campanile.dev/v1alpha1
kind: Campaign
metadata: {name: receipts}
spec:
  dataset: club
  topic: service
  schedule: {immediate: {}}
  steps:
  - name: paid
    audience: {entity: visit, where: 'visit.spent > 5.0 && visit.member.language != "x"'}
  - name: guests
    audience: {ref: guests}
  - name: visits
    changeEntity: {to: visit, via: member.visits}
  - name: both
    intersect: {of: [paid, visits]}
  - name: newest
    deduplicate: {by: [member_code], keep: {last: at}, count: 2}
  - name: mail
    email: {channel: out, template: receipt, per: profile}
---
apiVersion: campanile.dev/v1alpha1
kind: Audience
metadata: {name: kept}
spec: {dataset: club, entity: member, saved: {}}
---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {name: plain}
spec: {email: {subject: "Hello {{ member.name }}", text: "Hello"}}
---
apiVersion: campanile.dev/v1alpha1
kind: Campaign
metadata: {name: flow}
spec:
  dataset: club
  topic: service
  steps:
  - name: shop
    audience: {entity: visit, where: 'visit.shop.endsWith("y") && (visit.spent > 2.0 || !has(visit.spent))'}
  - name: people
    unused: true
    match: {to: member, by: {member_code: code}, rest: strangers}
  - name: many
    from: people
    unused: true
    choose: {branches: [{name: big, when: counts.people > 100}, {name: few, when: counts.people > 0}], rest: none}
  - name: kept
    from: many.few
    saveAudience: {ref: kept}
  - name: without
    subtract: {from: many.few, minus: [many.none]}
  - name: later
    wait: {for: 1d}
  - name: both
    join: {of: [later, kept]}
  - name: mail
    email: {channel: out, template: plain}
"#;

/// a: all is well. b: no consent. c: no country, and no points. d: from Italy. e: one visit. f: a wrong address. g: gold.
const MEMBERS: &str = "code,email,name,language,country,tier,points,news
s3cr3t-a,s3cr3t-a@example.com,s3cr3t Anna,it,DE-s3cr3t,silver,12,t
s3cr3t-b,s3cr3t-b@example.com,s3cr3t Bo,s3cr3t,DE-s3cr3t,silver,12,f
s3cr3t-c,s3cr3t-c@example.com,s3cr3t Cy,en,,silver,,t
s3cr3t-d,s3cr3t-d@example.com,s3cr3t Di,en,IT,gold,5,t
s3cr3t-e,s3cr3t-e@example.com,s3cr3t Eve,en,FR-s3cr3t,,0,t
s3cr3t-f,s3cr3t at example,,en,FR-s3cr3t,silver,20,t
s3cr3t-g,,s3cr3t Gus,en,FR-s3cr3t,gold,20,t
";

const VISITS: &str = "shop,number,member_code,at,spent,note
s3cr3t-x,98765771,s3cr3t-a,2026-04-01T10:00:00Z,10.00,s3cr3t first
s3cr3t-x,98765772,s3cr3t-a,2026-04-02T10:00:00Z,11.00,s3cr3t second
s3cr3t-x,98765773,s3cr3t-a,2026-04-03T10:00:00Z,12.00,s3cr3t third
s3cr3t-x,98765774,s3cr3t-b,2026-04-01T10:00:00Z,3.00,
s3cr3t-y,98765775,s3cr3t-b,2026-04-01T10:00:00Z,6.00,s3cr3t
s3cr3t-y,98765776,s3cr3t-c,2026-04-01T10:00:00Z,1.00,
s3cr3t-y,98765777,s3cr3t-c,2026-04-02T10:00:00Z,1.00,
s3cr3t-y,98765778,s3cr3t-d,2026-04-01T10:00:00Z,9.00,
s3cr3t-y,98765779,s3cr3t-d,2026-04-02T10:00:00Z,9.00,
s3cr3t-y,98765780,s3cr3t-e,2026-04-02T10:00:00Z,9.00,
s3cr3t-y,98765781,s3cr3t-f,2026-04-01T10:00:00Z,,
s3cr3t-y,98765782,s3cr3t-f,2026-04-02T10:00:00Z,,
s3cr3t-y,98765783,s3cr3t-g,2026-04-01T10:00:00Z,,
s3cr3t-y,98765784,s3cr3t-g,2026-04-02T10:00:00Z,8.00,
";

/// A home with one of the two stores.
struct Club {
    home: Home,
    url: String,
}

impl Club {
    /// Both homes, with the data loaded and nothing sent.
    async fn both() -> [Self; 2] {
        let postgres = Postgres::shared().await.unwrap().database().await.unwrap();
        ["sqlite://.campanile/store.db".to_owned(), postgres].map(|url| {
            let club = Self { home: Home::new(), url };
            club.home.write("club/club.yaml", CLUB);
            club.home.write("club/data/members.csv", MEMBERS);
            club.home.write("club/data/visits.csv", VISITS);
            // Before the start, and without the campaign that would start at once.
            club.suspend("receipts", true);
            let ran = club.call(&["run", "club", "--until-idle", "--now", "2026-05-01T08:00:00Z"]);
            assert_eq!(ran.code, 0, "{ran:?}");
            club
        })
    }

    fn suspend(&self, campaign: &str, is_suspended: bool) {
        let text = self.home.read("club/club.yaml");
        let of = |is: bool| {
            format!("metadata: {{name: {campaign}}}\nspec:\n{}  dataset", if is { "  suspend: true\n" } else { "" })
        };
        self.home.write("club/club.yaml", &text.replace(&of(!is_suspended), &of(is_suspended)));
    }

    fn call(&self, args: &[&str]) -> Ran {
        let args: Vec<&str> = args.iter().copied().chain(["--store", &self.url]).collect();
        self.home.call(&args)
    }

    /// A command at `NOW` whose output names nobody.
    fn look(&self, args: &[&str]) -> Ran {
        let ran = self.call(&[args, &["--now", NOW]].concat());
        assert_names_nobody(&format!("{args:?}"), &ran);
        ran
    }

    /// The same, with instants of loading as they are on a quick machine.
    fn steadily(&self, args: &[&str]) -> Ran {
        let mut ran = self.look(args);
        for second in 1..60 {
            ran.out = ran.out.replace(&format!("T08:00:{second:02}Z"), "T08:00:00Z");
        }
        ran
    }

    fn json(&self, args: &[&str]) -> Value {
        let ran = self.look(&[args, &["-o", "json"]].concat());
        assert_eq!(ran.code, 0, "{ran:?}");
        serde_json::from_str(&ran.out).unwrap()
    }

    /// The text in the first column of the first row of a query.
    async fn text(&self, sql: &str) -> String {
        let sql = AssertSqlSafe(sql.to_owned());
        match self.url.strip_prefix("sqlite://") {
            Some(path) => {
                let url = format!("sqlite://{}", self.home.path().join(path).display());
                let mut connection = SqliteConnection::connect(&url).await.unwrap();
                sqlx::query(sql).fetch_one(&mut connection).await.unwrap().get(0)
            }
            None => {
                let url = format!("{}?options=-csearch_path%3Dcampanile", self.url);
                let mut connection = PgConnection::connect(&url).await.unwrap();
                sqlx::query(sql).fetch_one(&mut connection).await.unwrap().get(0)
            }
        }
    }

    fn outbox(&self) -> Vec<PathBuf> {
        self.home.outbox()
    }
}

fn assert_names_nobody(what: &str, ran: &Ran) {
    for (name, text) in [("stdout", &ran.out), ("stderr", &ran.err)] {
        let lower = text.to_lowercase();
        assert!(!lower.contains(MARK), "{what}: {name} names somebody:\n{text}");
        // Keys of visits are numbers, and not marked otherwise.
        assert!(!lower.contains("98765"), "{what}: {name} has a key:\n{text}");
    }
}
