//! Fragments, MJML, preheaders, and the text that is made of HTML.

use serde_json::json;

use super::*;

fn spec(yaml: &str) -> MessageTemplateSpec {
    serde_yaml::from_str(yaml).unwrap()
}

fn with(yaml: &str, others: &[(&str, &str)]) -> Result<Template, Vec<TemplateProblem>> {
    let others = others.iter().map(|(name, yaml)| ((*name).to_owned(), spec(yaml))).collect();
    let found = Template::check(("trip", &spec(yaml)), &others);
    if found.is_empty() { Template::compile(("trip", &spec(yaml)), &others, Medium::Email) } else { Err(found) }
}

fn compiled(yaml: &str) -> Template {
    with(yaml, &[]).map_err(|problems| format!("{problems:#?}")).unwrap()
}

fn person() -> Value {
    value(&json!({
        "c": {"name": "Ann <b>", "is_gold": true},
        "films": [{"title": "Alien & Co", "url": "https://example.com/?a=1&b=2"}, {"title": "Up", "url": "u"}],
        "sender": {"address": "Via Roma 1"}, "unsubscribe_url": "https://example.com/u",
    }))
}

fn said(problems: &[TemplateProblem]) -> Vec<String> {
    problems.iter().map(|p| format!("{} {}:{}:{} {}", p.owner, p.path, p.line, p.column, p.message)).collect()
}

const MJML: &str = r#"
email:
  subject: Films
  mjml: |
    <mjml>
      <mj-head><mj-title>Films for {{ c.name }}</mj-title></mj-head>
      <mj-body>
        <mj-section>
          <mj-column>
            <mj-text>Dear {{ c.name | default("you <there>") }}</mj-text>
            {% for film in films %}
            <mj-button href="{{ film.url }}">{{ film.title }}</mj-button>
            {% endfor %}
          </mj-column>
        </mj-section>
        {% if c.is_gold and 1 < 2 %}
        <mj-section><mj-column><mj-text>Gold</mj-text></mj-column></mj-section>
        {% endif %}
        <mj-section><mj-column><mj-text><a href="{{ unsubscribe_url }}">Stop</a> {{ sender.address }}</mj-text></mj-column></mj-section>
      </mj-body>
    </mjml>
"#;

#[test]
fn mjml_becomes_html_with_its_tags() {
    let template = compiled(MJML);
    let html = template.render(None, &person()).unwrap().html().unwrap().to_owned();
    assert!(html.starts_with("<!doctype html>") && html.contains("<title>Films for Ann &lt;b&gt;</title>"), "{html}");
    assert!(html.contains("Dear Ann &lt;b&gt;"), "{html}");
    assert!(html.contains("href=\"https:&#x2f;&#x2f;example.com&#x2f;?a=1&amp;b=2\""), "{html}");
    assert!(html.find("Alien &amp; Co").unwrap() < html.find(">Up").or(html.find("Up")).unwrap(), "{html}");
    assert_eq!(html.matches("Gold").count(), 1);
    assert!(!html.contains("mj-") || !html.contains("<mj-"), "{html}");
    assert!(!html.contains("fonts.googleapis"), "nobody is asked whom the author did not name");
    let names: Vec<String> = template.reads().iter().map(|read| read.names.join(".")).collect();
    assert_eq!(names, ["c.name", "c.name", "films", "c.is_gold", "unsubscribe_url", "sender.address"]);
    assert_eq!(template.render(None, &person()).unwrap().html(), Some(html.as_str()), "twice the same");
    let poor = template.render(None, &value(&json!({}))).unwrap().html().unwrap().to_owned();
    assert!(poor.contains("Dear you &lt;there&gt;") && !poor.contains("Gold") && !poor.contains("Alien"), "{poor}");
}

#[test]
fn a_text_is_made_of_html_where_there_is_none() {
    let text = compiled(MJML).render(None, &person()).unwrap().text().unwrap().into_owned();
    insta::assert_snapshot!(text, @"
    Dear Ann <b>
    Alien & Co <https://example.com/?a=1&b=2>
    Up <u>
    Gold
    Stop <https://example.com/u> Via Roma 1
    ");
    let table = compiled(
        "
email:
  subject: s
  html: |
    <html><head><style>p { color: red }</style></head><body>
    <h1>Hello {{ c.name }}</h1><p>Your <b>films</b>:</p>
    <table>{% for film in films %}<tr><td>{{ loop.index }}.</td><td><a href='{{ film.url }}'>{{ film.title }}</a></td></tr>{% endfor %}</table>
    <ul>{% for film in films %}<li>{{ film.title }}</li>{% endfor %}</ul>
    <s>9.99</s> now 4.99<br>&euro; &amp; more <img src='x' alt='A picture'><hr>
    <p>{{ sender.address }} <a href='{{ unsubscribe_url }}'>Unsubscribe</a></p></body></html>
",
    );
    insta::assert_snapshot!(table.render(None, &person()).unwrap().text().unwrap().into_owned(), @"
    Hello Ann <b>

    Your films:

    1. Alien & Co <https://example.com/?a=1&b=2>
    2. Up <u>
    * Alien & Co
    * Up
    9.99 now 4.99
    € & more A picture
    --------

    Via Roma 1 Unsubscribe <https://example.com/u>
    ");
    let own = compiled("email: {subject: s, html: <p>h</p>, text: own}").render(None, &person()).unwrap();
    assert_eq!(own.text().as_deref(), Some("own"));
}

#[test]
fn a_text_that_cannot_be_made_is_a_problem() {
    let found = with("email: {subject: s, html: '<head>{% set n = c.name %}</head><p>{{ n }}</p>'}", &[]);
    assert_eq!(
        said(&found.err().unwrap()),
        ["trip spec.email.html:1:1 no plain text can be made of it: a tag stands where nothing is read"]
    );
}

#[test]
fn wrong_mjml_is_pointed_at() {
    let one = |body: &str| {
        let yaml = json!({"email": {"subject": "s", "text": "t", "mjml": body}}).to_string();
        said(&with(&yaml, &[]).err().unwrap_or_default()).join("; ")
    };
    let cases = [
        "<mjml>\n<mj-body>\n  {{ a }}<mj-sectoin></mj-sectoin></mj-body></mjml>",
        "<mjml><mj-body>\n{{ a | default('<') }} <mj-section></mj-body></mjml>",
        "<mjml><mj-body><mj-section>",
        "<p>Hello</p>",
        "<mjml><mj-body>\n<mj-include path=\"x\"/></mj-body></mjml>",
        "<mjml><mj-body><mj-section>\n<mj-column><mj-text>{{ c[x.y] }}</mj-text></mj-column></mj-section></mj-body></mjml>",
        "<mjml><mj-body>\n\n<mj-text {{ a }}>x</mj-text></mj-body></mjml>",
    ];
    let shown: String = cases.iter().map(|case| format!("{}\n", one(case))).collect();
    insta::assert_snapshot!(shown, @"
    trip spec.email.mjml:3:10 MJML has no element `mj-sectoin`
    trip spec.email.mjml:2:53 MJML ends here, and an element is still open
    trip spec.email.mjml:1:28 MJML ends here, and an element is still open
    trip spec.email.mjml:1:1 `<p` was not expected here in MJML
    trip spec.email.mjml:2:1 MJML cannot include files here
    trip spec.email.mjml:2:24 which field of `c` is read cannot be known before it is sent
    trip spec.email.mjml:3:9 MJML cannot read this
    ");
}

const PARTS: &str = r#"
email: {subject: unused, text: unused}
fragments:
- {name: footer, text: "{{ sender.address }} {% include 'stop' %}", html: "<p>{{ sender.address }}</p>", mjml: "<mj-section><mj-column><mj-text>{{ sender.address }}</mj-text></mj-column></mj-section>"}
- {name: stop, text: "stop: {{ unsubscribe_url }}"}
- {name: card, text: "{% set t = film.title %}<{{ t }}>"}
locales:
  it: {fragments: [{name: stop, text: "basta: {{ unsubscribe_url }}"}]}
"#;

#[test]
fn fragments_are_put_in() {
    let yaml = r#"
email:
  subject: s
  text: |
    {% for film in films %}{% include "parts/card" %}{{ t }}{% endfor %}
    {%- include 'parts/footer' -%}
    .
  mjml: "<mjml><mj-body>{% include 'parts/footer' %}</mj-body></mjml>"
locales:
  de: {email: {subject: d}}
"#;
    let template = with(yaml, &[("parts", PARTS)]).map_err(|p| said(&p)).unwrap();
    let rendered = template.render(None, &person()).unwrap();
    assert_eq!(rendered.text().unwrap(), "<Alien & Co><Up>Via Roma 1 stop: https://example.com/u.");
    assert!(rendered.html().unwrap().contains("Via Roma 1"));
    // A fragment falls back on its own: the template has no Italian, the fragment's template no German.
    assert!(template.render(Some("it-CH"), &person()).unwrap().text().unwrap().into_owned().contains("basta: "));
    assert!(template.render(Some("de"), &person()).unwrap().text().unwrap().into_owned().contains("stop: "));
    assert_eq!((template.variant(Some("it-CH")), template.variant(Some("fr"))), ("it".to_owned(), String::new()));
    let names: Vec<String> =
        template.reads().iter().map(|read| format!("{}:{}", read.owner, read.names.join("."))).collect();
    assert!(
        names.contains(&"parts:sender.address".to_owned()) && names.contains(&"parts:unsubscribe_url".to_owned()),
        "{names:?}"
    );
    let film = template.reads().iter().find(|read| read.names == ["films"]).unwrap();
    assert_eq!(film.elements[0].names, ["title"], "what a fragment reads of the loop around it");
    assert_eq!(film.elements[0].path, "spec.fragments[2].text");
    assert_eq!(
        template.silent_about(&["unsubscribe_url"]).iter().map(|s| s.words.as_str()).collect::<Vec<_>>(),
        ["html"]
    );
    assert_eq!(template.silent_about(&["sender", "address"]), []);
}

#[test]
fn what_is_wrong_with_fragments_is_said_where_it_stands() {
    let one = |text: &str, parts: &str| {
        let yaml = json!({"email": {"subject": "s", "text": text}}).to_string();
        said(&with(&yaml, &[("parts", parts)]).err().unwrap_or_default()).join("; ")
    };
    let fragments = |all: &str| format!("email: {{subject: s, text: t}}\nfragments: [{all}]");
    let shown = [
        one("{% include 'parts/foter' %}", PARTS),
        one("{% include 'part/footer' %}", PARTS),
        one("a\n {% include 'parts/a' %}", &fragments("{name: a, html: x}")),
        one("{% include 'parts/a' %}", &fragments("{name: a, text: \"\\n{{ x | uper }}\"}")),
        one(
            "{% include 'parts/a' %}",
            &fragments("{name: a, text: \"{% include 'b' %}\"}, {name: b, text: \"{% include 'parts/a' %}\"}"),
        ),
        one("{% include 'parts/a' %}{% endif %}", &fragments("{name: a, text: '{% if x %}'}")),
    ]
    .join("\n");
    insta::assert_snapshot!(shown, @"
    trip spec.email.text:1:1 MessageTemplate `parts` has no fragment `foter`
    trip spec.email.text:1:1 there is no MessageTemplate `part`
    trip spec.email.text:2:2 fragment `a` of `parts` has no text
    parts spec.fragments[0].text:2:8 there is no filter `uper`
    parts spec.fragments[1].text:1:1 fragments include each other in a circle: parts/a -> parts/b -> parts/a
    trip spec.email.text:1:1 the fragment does not end what it begins, or ends what it did not begin
    ");
}

#[test]
fn fragments_that_nothing_includes_are_right_all_the_same() {
    let yaml = "email: {subject: s, text: t}\nfragments: [{name: a, html: '{{ x | uper }}'}]";
    assert_eq!(said(&with(yaml, &[]).err().unwrap()), ["trip spec.fragments[0].html:1:8 there is no filter `uper`"]);
}

#[test]
fn a_fragment_that_grows_without_end_ends() {
    let many = (0..30).map(|n| {
        let next = format!("{{% include 'f{}' %}}", n + 1);
        format!("{{name: f{n}, text: \"{next}{next}\"}}, ")
    });
    let yaml = format!(
        "email: {{subject: s, text: \"{{% include 'f0' %}}\"}}\nfragments: [{}{{name: f30, text: '{}'}}]",
        many.collect::<String>(),
        "x".repeat(1000)
    );
    let begun = std::time::Instant::now();
    let found = with(&yaml, &[]).err().unwrap();
    assert!(found[0].message.contains("with its fragments it is longer than 1048576 bytes"), "{:?}", found[0]);
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

#[test]
fn a_preheader_is_hidden_in_front_of_the_body() {
    let yaml = r#"
email: {subject: s, preheader: "For {{ c.name }}", html: "<html><body class='{{ c.name }}>'>\n<p>Hello</p></body></html>"}
locales:
  it: {email: {preheader: "Per {{ c.name }}"}}
"#;
    let template = compiled(yaml);
    let rendered = template.render(None, &person()).unwrap();
    let html = rendered.html().unwrap();
    let (front, rest) = html.split_once("<div style=\"display:none;").unwrap();
    assert!(front.ends_with("&gt;>'>") || front.ends_with(">'>"), "{front}");
    assert!(
        rest.contains(">For Ann &lt;b&gt;&#847;&zwnj;&nbsp;") && rest.ends_with("</div>\n<p>Hello</p></body></html>"),
        "{rest}"
    );
    assert_eq!(rendered.text().as_deref(), Some("Hello"), "it is not said twice");
    assert!(template.render(Some("it"), &person()).unwrap().html().unwrap().to_owned().contains(">Per Ann &lt;b&gt;"));
    let bare = compiled("email: {subject: s, preheader: Hi, html: <p>x</p>}").render(None, &person()).unwrap();
    assert!(bare.html().unwrap().starts_with("<div style=\"display:none;"));
}

#[test]
fn faults_name_the_line_that_the_author_wrote() {
    let context = value(&json!({"d": "no date"}));
    let fault = |yaml: &str, others: &[(&str, &str)]| {
        with(yaml, others).map_err(|p| said(&p)).unwrap().render(None, &context).unwrap_err().to_string()
    };
    let mjml = "email:\n  subject: s\n  text: t\n  mjml: |\n    <mjml>\n    <mj-body><mj-section><mj-column>\n    <mj-text>\n    {{ d | date }}</mj-text></mj-column></mj-section></mj-body></mjml>\n";
    assert_eq!(fault(mjml, &[]), "html in line 4: it is neither a Date nor a Timestamp in `date`");
    let parts = "email: {subject: s, text: t}\nfragments: [{name: a, text: \"\\n\\n{{ d | date }}\"}]";
    assert_eq!(
        fault("email: {subject: s, text: \"\\n{% include 'parts/a' %}\"}", &[("parts", parts)]),
        "text in line 3 of fragments[0].text of parts: it is neither a Date nor a Timestamp in `date`"
    );
    let preheader =
        "email: {subject: s, text: t, preheader: 'x {{ d | date }}', html: \"\\n\\n<body>\\n{{ e }}</body>\"}";
    assert_eq!(fault(preheader, &[]), "html in line 1: it is neither a Date nor a Timestamp in `date`");
}

#[test]
fn html_has_the_same_limits() {
    for html in [
        "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}",
        "{{ 'x' * 100000000000 }}",
    ] {
        let yaml = json!({"email": {"subject": "s", "text": "t", "html": html}}).to_string();
        let fault = compiled(&yaml).render(None, &person()).unwrap_err().to_string();
        assert!(fault.starts_with("html in line 1: "), "{fault}");
    }
}
