//! MJML, fragments of other templates and locales in messages that are really written, on both stores.

use std::fs;

use mail_parser::{Message, MessageParser, MimeHeaders};

use crate::{
    home::{Home, people_manifests},
    world::Postgres,
};

const TEMPLATE: &str = r#"spec:
  email:
    subject: "Hello {{ person.name }}"
    preheader: "News for {{ person.name }}"
    mjml: |
      <mjml><mj-body>
        {% for n in range(2) %}<mj-section><mj-column><mj-text>Dear {{ person.name }}</mj-text></mj-column></mj-section>{% endfor %}
        {% include "parts/footer" %}
      </mj-body></mjml>
  locales:
    it: {email: {subject: "Ciao {{ person.name }}"}}
---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {name: parts}
spec:
  fragments:
  - {name: footer, mjml: "<mj-section><mj-column><mj-text>{% include 'bye' %} {{ person.news_at | date }}</mj-text></mj-column></mj-section>"}
  - {name: bye, mjml: "Goodbye {{ person.name }}"}
  locales:
    it: {fragments: [{name: bye, mjml: "Arrivederci {{ person.name }}"}]}
"#;

const PEOPLE: &str = "id,email,name,lang,news,news_at,updated_at
1,p1@example.com,Ann <b>,,t,2026-01-01T00:00:00Z,2026-01-01T00:00:00Z
2,p2@example.com,Zoë,it-CH,t,2026-01-01T00:00:00Z,2026-01-01T00:00:00Z
";

fn write(home: &Home) {
    let text = people_manifests("  schedule: {cron: \"0 9 * * *\", timeZone: UTC}", "true");
    let (before, rest) = text.split_once("spec: {email:").unwrap();
    let (_, after) = rest.split_once('\n').unwrap();
    let text = format!("{before}{TEMPLATE}{after}")
        .replace("addresses: {email: email}}", "addresses: {email: email}, locale: lang}")
        .replace("    - {name: news, type", "    - {name: lang, type: String}\n    - {name: news, type");
    home.write("town/town.yaml", &text);
    home.write("town/data/people.csv", PEOPLE);
}

/// The message to an address among those in the outbox: its bytes, subject, text and HTML.
fn mail_to(home: &Home, to: &str, run: &str) -> (Vec<u8>, [String; 3]) {
    let of_run = home.outbox().into_iter().filter(|path| path.to_string_lossy().contains(run));
    let all = of_run.map(|path| fs::read(path).unwrap());
    let is_to = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).contains(&format!("To: {to}"));
    let bytes = all.into_iter().find(is_to).unwrap();
    let mail: Message<'_> = MessageParser::new().parse(&bytes).unwrap();
    let kind = mail.content_type().unwrap();
    assert_eq!(
        (kind.ctype(), kind.subtype(), mail.parts.len()),
        ("multipart", Some("alternative"), 3),
        "RFC 2046, 5.1.4"
    );
    let kinds: Vec<_> = mail.parts[1..].iter().map(|part| part.content_type().unwrap().subtype().unwrap()).collect();
    assert_eq!(kinds, ["plain", "html"], "the best one last");
    let text = |part: usize| mail.parts[part].text_contents().unwrap().to_owned();
    let said = [mail.subject().unwrap().to_owned(), text(1), text(2)];
    (bytes, said)
}

fn said_and_changed(home: &Home, url: &str) {
    write(home);
    let run = |now: &str| {
        let ran = home.run(&["town", "--store", url, "--now", now]);
        assert_eq!(ran.code, 0, "{ran:?}");
    };
    run("2026-03-01T08:59:00Z");
    run("2026-03-01T09:00:00Z");
    let (first, [subject, text, html]) = mail_to(home, "p1@example.com", "20260301");
    assert_eq!(subject, "Hello Ann <b>");
    assert_eq!(text.replace("\r\n", "\n").trim_end(), "Dear Ann <b>\nDear Ann <b>\nGoodbye Ann <b> 2026-01-01");
    assert!(html.contains(">News for Ann &lt;b&gt;&#847;") && html.contains("Goodbye Ann &lt;b&gt; 2026"), "{html}");
    assert_eq!(html.matches("Dear Ann").count(), 2);
    assert!(!html.contains("{%") && !html.contains("<mj-"), "{html}");
    // Each part and each fragment falls back on its own.
    let (_, [subject, text, html]) = mail_to(home, "p2@example.com", "20260301");
    assert_eq!(subject, "Ciao Zoë");
    assert!(text.contains("Dear Zoë") && text.contains("Arrivederci Zoë"), "{text}");
    assert!(html.contains("News for Zoë") && html.contains("Arrivederci Zoë"), "{html}");

    // A fragment in another template is a part of the revision.
    home.write("town/town.yaml", &home.read("town/town.yaml").replace("Goodbye", "See you,"));
    run("2026-03-02T09:00:00Z");
    let (_, [_, text, _]) = mail_to(home, "p1@example.com", "20260302");
    assert!(text.contains("See you, Ann"), "{text}");
    let shown = home.command(&["render", "--run", "greet-20260301090000", "1", "--store", url]).output().unwrap();
    assert_eq!(shown.stdout, first, "{}", String::from_utf8_lossy(&shown.stderr));
}

#[test]
fn what_a_template_is_made_of_is_said_on_sqlite() {
    said_and_changed(&Home::new(), "sqlite://.campanile/store.db");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_template_is_made_of_is_said_on_postgres() {
    let postgres = Postgres::start().await.unwrap();
    said_and_changed(&Home::new(), &postgres.database().await.unwrap());
}

#[test]
fn a_preview_masks_what_fragments_and_mjml_say() {
    let home = Home::new();
    write(&home);
    assert_eq!(home.run(&["town", "--now", "2026-03-01T09:00:00Z"]).code, 0);
    for more in [&[][..], &["-o", "html"], &["-o", "eml"]] {
        let shown = home.call(&[&["render", "greet", "2", "town", "--locale", "it"][..], more].concat());
        assert_eq!(shown.code, 0, "{shown:?}");
        let all = format!("{}{}", shown.out, shown.err);
        assert!(!all.contains("Zoë") && !all.contains("Zo=C3=AB") && !all.contains("p2@example"), "{all}");
    }
    let shown = home.call(&["render", "greet", "2", "town", "--locale", "it"]);
    assert!(shown.out.contains("Arrivederci •••"), "{}", shown.out);
}

#[test]
fn what_is_wrong_is_said_where_it_stands() {
    let home = Home::new();
    write(&home);
    let text = home.read("town/town.yaml");
    for (from, to, wanted) in [
        ("<mj-column><mj-text>Dear", "<mj-colum><mj-text>Dear", "did you mean `mj-column`?"),
        ("parts/footer", "parts/foter", "did you mean `footer`?"),
        ("parts/footer", "part/footer", "there is no MessageTemplate `part`"),
        ("Goodbye {{ person.name }}", "Goodbye {{ person.nane }}", "person has no field or link `nane`"),
        ("Goodbye {{ person.name }}", "{% include 'footer' %}", "parts/footer -> parts/bye -> parts/footer"),
    ] {
        assert!(text.contains(from), "{from}");
        home.write("town/town.yaml", &text.replace(from, to));
        let said = home.call(&["validate", "town"]);
        assert_eq!(said.code, 2, "{said:?}");
        let all = format!("{}{}", said.out, said.err);
        assert!(all.contains(wanted) && all.contains("town.yaml:"), "{to}: {all}");
    }
}
