use super::*;
use crate::review::rules::RULES;

const END: &str = "stop</a> {{ sender.address }}\"\n";

/// Manifests of which nothing is to be said.
const SHOP: &str = r#"apiVersion: campanile.dev/v1alpha1
kind: Dataset
metadata: {name: shop}
spec:
  entities:
  - name: customer
    key: [id]
    fields:
    - {name: id, type: Integer}
    - {name: email, type: String}
    - {name: name, type: String, required: true}
    - {name: country, type: String}
    - {name: news, type: Boolean}
    - {name: news_at, type: Timestamp}
    source: {files: {url: data/customers, format: CSV}}
  - name: order
    key: [id]
    fields:
    - {name: id, type: Integer}
    - {name: customer_id, type: Integer, required: true}
    - {name: at, type: Timestamp}
    links: [{name: customer, to: customer, keys: {customer_id: id}, inverse: orders}]
    source: {files: {url: data/orders, format: CSV}}
  profile: {entity: customer, addresses: {email: email}}
  topics:
  - {name: news, category: Marketing, consent: {email: {field: news, changedAt: news_at}}}
  conditions: [{name: italian, entity: customer, where: 'customer.country == "IT"'}]
---
apiVersion: campanile.dev/v1alpha1
kind: Channel
metadata: {name: mail}
spec:
  email:
    from: "Shop <shop@example.com>"
    smtp: {host: smtp.example.com, secretRef: {name: login}}
    dkim: {domain: example.com, selector: s1, secretRef: {name: dkim}}
    sender: {name: Shop, address: "Via Roma 1, Milano"}
  publicUrl: https://mail.example.com
---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {name: hello}
spec:
  email:
    subject: "Hello {{ customer.name }}"
    text: "You bought {{ bought }} things. {{ unsubscribe_url }} {{ sender.address }}"
    html: "<p>{{ customer.name }}: {{ bought }}</p><a href='{{ unsubscribe_url }}'>stop</a> {{ sender.address }}"
---
apiVersion: campanile.dev/v1alpha1
kind: Audience
metadata: {name: buyers}
spec:
  dataset: shop
  entity: customer
  parameters: {days: 7}
  where: 'customer.orders.exists(o, o.at > now - days(params.days))'
---
apiVersion: campanile.dev/v1alpha1
kind: Campaign
metadata: {name: greet}
spec:
  dataset: shop
  topic: news
  schedule: {cron: "0 9 * * *", timeZone: Europe/Rome}
  steps:
  - name: all
    audience: {ref: buyers}
  - name: count
    enrich: {as: bought, aggregate: 'size(customer.orders)'}
  - name: who
    split: {branches: [{name: here, where: customer.italian}], rest: abroad}
  - name: both
    union: {of: [who.here, who.abroad]}
  - name: mail
    email: {channel: mail, template: hello}
"#;

/// What is said of the shop with some changes: the warning and the text that it is about.
fn said(changes: &[(&str, &str)]) -> Vec<String> {
    let mut shop = SHOP.to_owned();
    for (from, to) in changes {
        assert!(shop.contains(from), "{from}");
        shop = shop.replacen(from, to, 1);
    }
    let tree = Tree::of_files([("shop.yaml".into(), shop.clone().into_bytes())]);
    let errors: Vec<String> = tree.errors().iter().map(ToString::to_string).collect();
    assert_eq!(errors, Vec::<String>::new());
    let (found, _) = warnings(&tree, "2026-01-10T12:00:00Z".parse().unwrap());
    found.into_iter().map(|d| format!("{} `{}`", d.id, &shop[d.span])).collect()
}

#[test]
fn of_a_sound_shop_nothing_is_said() {
    assert_eq!(said(&[]), Vec::<String>::new());
}

/// Changes, and what they bring.
type Case = (&'static [(&'static str, &'static str)], &'static [&'static str]);

const CRON: &str = "cron: \"0 9 * * *\", timeZone: Europe/Rome";

const CASES: &[Case] = &[
    // datasets
    (&[("news, changedAt: news_at", "news")], &["consent-cannot-return `email`"]),
    (&[("changedAt: news_at", "changedAt: news_at, default: OptedIn")], &["opted-in-by-default `OptedIn`"]),
    (&[("    source: {files: {url: data/orders, format: CSV}}\n", "")], &["no-source `order`"]),
    // channels
    (&[("secretRef: {name: login}", "tls: Opportunistic, secretRef: {name: login}")], &["unencrypted `Opportunistic`"]),
    (&[("smtp.example.com, secretRef: {name: login}", "localhost, tls: None, secretRef: {name: login}")], &[]),
    (&[("domain: example.com", "domain: example.org")], &["dkim-of-another-domain `example.org`"]),
    (&[("domain: example.com", "domain: mail.example.com")], &[]),
    (
        &[
            (
                "kind: Channel",
                "kind: Secret\nmetadata: {name: login}\nstringData: {password: x}\n---\napiVersion: campanile.dev/v1alpha1\nkind: Channel",
            ),
            ("apiVersion: campanile.dev/v1alpha1\nkind: Secret", "apiVersion: v1\nkind: Secret"),
        ],
        &["secret-in-manifests `stringData`"],
    ),
    (
        &[
            ("{channel: mail, template: hello}", "{channel: other, template: hello}"),
            (
                "metadata: {name: mail}",
                "metadata: {name: other}\nspec: {outbox: {sender: {name: a, address: b}}, publicUrl: https://a.example.com}\n---\napiVersion: campanile.dev/v1alpha1\nkind: Channel\nmetadata: {name: mail}",
            ),
        ],
        &["unused-template `mail`"],
    ),
    (&[("address: \"Via Roma 1, Milano\"", "address: \"\"")], &["no-sender-address `email`"]),
    // templates
    (
        &[("<a href='{{ unsubscribe_url }}'>stop</a>", "")],
        &["no-unsubscribe-link `\"<p>{{ customer.name }}: {{ bought }}</p> {{ sender.address }}\"`"],
    ),
    (
        &[("stop</a> {{ sender.address }}", "stop</a>"), ("<p>{{ customer.name }}: {{ bought }}</p>", "")],
        &["no-sender-address `\"<a href='{{ unsubscribe_url }}'>stop</a>\"`"],
    ),
    (&[("    text: \"You bought {{ bought }} things. {{ unsubscribe_url }} {{ sender.address }}\"\n", "")], &[]),
    (
        &[(END, "stop</a> {{ sender.address }}\"\n  locales: {italian: {email: {subject: Ciao}}}\n")],
        &["unlikely-locale `italian`", "unused-locale `italian`"],
    ),
    (
        &[
            ("  profile: {entity: customer,", "  profile: {entity: customer, locale: country,"),
            (
                END,
                "stop</a> {{ sender.address }}\"\n  locales: {it: {email: {subject: Ciao}}, fr: {email: {subject: Salut}}}\n  personas: [{name: zoe, locale: it-CH}]\n",
            ),
        ],
        &["locale-without-persona `fr`"],
    ),
    (&[("<p>{{ customer.name }}", "<p>{{ customer.name | safe }}")], &["unescaped-value `safe`"]),
    (&[("<p>{{ customer.name }}", "<p>safe {{ customer.name }} | safe")], &[]),
    // audiences
    (
        &[(
            "'customer.orders.exists(o, o.at > now - days(params.days))'",
            "'customer.orders.exists(o, o.at > now - days(7))'",
        )],
        &["unused-parameter `7`"],
    ),
    (
        &[("audience: {ref: buyers}", "audience: {entity: customer, where: 'customer.orders.exists(o, o.at > now)'}")],
        &["unused-audience `buyers`"],
    ),
    (
        &[(
            "kind: Campaign",
            "kind: Audience\nmetadata: {name: kept}\nspec: {dataset: shop, entity: customer, saved: {}, export: {url: a.csv, format: CSV}}\n---\napiVersion: campanile.dev/v1alpha1\nkind: Campaign",
        )],
        &["unfilled-audience `saved`"],
    ),
    // schedules
    (&[("0 9 * * *", "0 9 31 * *")], &["skips-short-months `\"0 9 31 * *\"`"]),
    (&[("0 9 * * *", "0 9 30 1,3 *")], &[]),
    (&[("0 9 * * *", "0 9 29 2 *")], &["leap-day `\"0 9 29 2 *\"`"]),
    (&[("0 9 * * *", "0 9 1 * MON")], &["day-of-month-or-week `\"0 9 1 * MON\"`"]),
    (&[("0 9 * * *", "30 2 * * *")], &["skipped-hour `\"30 2 * * *\"`"]),
    (&[("0 9 * * *", "30 3 * * *")], &[]),
    (&[("0 9 * * *", "*/30 * * * *")], &["frequent-starts `\"*/30 * * * *\"`"]),
    (&[(CRON, "at: 2026-01-09T12:00:00Z")], &["past-start `2026-01-09T12:00:00Z`"]),
    (&[(CRON, "at: 2026-01-11T12:00:00Z")], &[]),
    (&[(CRON, "immediate: {}")], &["immediate-without-end `immediate`"]),
    (&[(CRON, "immediate: {notAfter: 2025-01-10T12:00:00Z}")], &["past-start `2025-01-10T12:00:00Z`"]),
    (&[(CRON, "immediate: {notAfter: 2026-02-10T12:00:00Z}")], &[]),
    (
        &[
            (
                "  where: 'customer.orders.exists(o, o.at > now - days(params.days))'",
                "  where: 'customer.orders.size() > params.days'\n  refresh: {cron: \"0 1 30 * *\", timeZone: UTC}",
            ),
            (CRON, "cron: \"0 9 1 * *\", timeZone: UTC"),
        ],
        &["skips-short-months `\"0 1 30 * *\"`"],
    ),
    // campaigns
    (&[("o.at > now - days(params.days)", "o.id > params.days")], &["same-people-again `\"0 9 * * *\"`"]),
    (
        &[
            ("o.at > now - days(params.days)", "o.id > params.days"),
            ("template: hello}", "template: hello, once: {within: 7d}}"),
        ],
        &[],
    ),
    (&[("o.at > now - days(params.days)", "o.id > params.days"), ("0 9 * * *", "0 9 * * MON")], &[]),
    (
        &[("You bought {{ bought }} things.", ""), ("<p>{{ customer.name }}: {{ bought }}</p>", "")],
        &["unread-enrichment `bought`"],
    ),
    (&[("{name: here, where: customer.italian}", "{name: here, where: 'true'}")], &[]),
    (
        &[(
            "{name: here, where: customer.italian}",
            "{name: all, where: 'true', unused: true}, {name: here, where: customer.italian}",
        )],
        &["unreachable-branch `{name: here, where: customer.italian}`"],
    ),
    // rules
    (&[("'customer.country == \"IT\"'", "'customer.country != \"IT\"'")], &["includes-missing `country`"]),
    (&[("where: customer.italian", "where: '!(customer.country == \"FR\")'")], &["includes-missing `country`"]),
    (
        &[("where: customer.italian", "where: 'customer.id == 1 && customer.id == 2'")],
        &["never-true `id == 1 && customer.id == 2`"],
    ),
    (
        &[("where: customer.italian", "where: 'customer.id != 1 || customer.id != 2'")],
        &["always-true `id != 1 || customer.id != 2`"],
    ),
    (&[("where: customer.italian", "where: '1 > 2'")], &["constant-condition `1 > 2`"]),
    // silenced
    (
        &[(
            "where: 'customer.country == \"IT\"'}]",
            "where: 'customer.country != \"IT\"'}] # campanile: ignore includes-missing",
        )],
        &[],
    ),
    (
        &[
            ("  conditions: [", "  # campanile: ignore includes-missing\n  conditions: ["),
            ("'customer.country == \"IT\"'", "'customer.country != \"IT\"'"),
        ],
        &[],
    ),
    (
        &[("  schedule:", "  schedule: # campanile: ignore leap-day, nothing\n   ")],
        &["needless-ignore `leap-day`", "needless-ignore `nothing`"],
    ),
    (
        &[
            (
                "metadata: {name: greet}",
                "metadata: {name: greet, annotations: {campanile.dev/ignore: frequent-starts}}",
            ),
            ("0 9 * * *", "*/30 * * * *"),
        ],
        &[],
    ),
    (
        &[("metadata: {name: greet}", "metadata: {name: greet, annotations: {campanile.dev/ignore: frequent-starts}}")],
        &["needless-ignore `frequent-starts`"],
    ),
    (
        &[("name: hello}\nspec:", "name: hello}\nspec:\n  personas: [{name: zoe, values: {customer: {nmae: Zoë}}}]")],
        &["wrong-persona `Zoë`"],
    ),
    (
        &[("name: hello}\nspec:", "name: hello}\nspec:\n  personas: [{name: zoe, values: {customer: {name: Zoë}}}]")],
        &[],
    ),
];

#[test]
fn each_warning_is_said_where_it_belongs() {
    let mut wrong = String::new();
    for (changes, wanted) in CASES {
        let found = said(changes);
        if found != *wanted {
            wrong += &format!("{changes:?}\n  wanted {wanted:?}\n  found  {found:?}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_warning_has_a_case() {
    let said: Vec<&str> = CASES.iter().flat_map(|(_, wanted)| wanted.iter().copied()).collect();
    for rule in RULES.iter().filter(|rule| rule.severity == Severity::Warning) {
        assert!(said.iter().any(|said| said.starts_with(&format!("{} ", rule.id))), "{}", rule.id);
    }
}

/// What a mistake puts in the place of something else.
const MISTAKES: [&str; 16] = [
    "",
    "\n",
    ":",
    "{",
    "}",
    "[",
    "'",
    "\"",
    "- ",
    "&&",
    "  ",
    "\u{e9}",
    "\t",
    "*a",
    "&a ",
    "campanile: ignore no-source",
];

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    /// However manifests are wrong, they are told so, at places that there are.
    #[test]
    fn nothing_that_is_written_ends_it(
        changes in proptest::collection::vec((0_usize..3_000, 0_usize..40, 0_usize..MISTAKES.len()), 1..4)
    ) {
        let mut shop = SHOP.to_owned();
        for (at, length, mistake) in changes {
            let at = shop.floor_char_boundary(at.min(shop.len()));
            let end = shop.floor_char_boundary((at + length).min(shop.len()));
            shop.replace_range(at..end, MISTAKES[mistake]);
        }
        let tree = Tree::of_files([("shop.yaml".into(), shop.clone().into_bytes())]);
        let (found, silenced) = warnings(&tree, "2026-01-10T12:00:00Z".parse().unwrap());
        for diagnostic in tree.errors().iter().chain(&found).chain(&silenced) {
            assert!(RULES.iter().any(|rule| rule.id == diagnostic.id), "{}", diagnostic.id);
            let (line, column) = diagnostic.line_column();
            let lines: Vec<&str> = shop.split('\n').collect();
            assert!(line <= lines.len() && column <= lines[line - 1].chars().count() + 1, "{diagnostic}");
        }
    }
}
