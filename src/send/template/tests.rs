use minijinja::context;
use serde_json::json;

use super::*;

fn spec(subject: &str, text: &str) -> MessageTemplateSpec {
    serde_json::from_value(json!({"email": {"subject": subject, "text": text, "html": "<b>{{ c.n }}</b>"}})).unwrap()
}

fn compile(spec: &MessageTemplateSpec) -> Result<Template, Vec<TemplateProblem>> {
    Template::compile(("t", spec), &BTreeMap::new(), Medium::Email)
}

fn template(text: &str) -> Template {
    compile(&spec("s", text)).map_err(|problems| format!("{text}: {problems:?}")).unwrap()
}

fn shown(read: &Read) -> String {
    let elements: Vec<_> = read.elements.iter().map(shown).collect();
    let names = if read.names.is_empty() { "it".to_owned() } else { read.names.join(".") };
    if elements.is_empty() { names } else { format!("{names}[{}]", elements.join(" ")) }
}

fn reads(text: &str) -> String {
    let template = template(text);
    let reads: Vec<_> = template.reads().iter().filter(|r| r.path == "spec.email.text").map(shown).collect();
    reads.join(" ")
}

fn problems(text: &str) -> Vec<TemplateProblem> {
    compile(&spec("s", text)).err().unwrap_or_default()
}

fn rendered(text: &str, context: &serde_json::Value) -> String {
    template(text).render(None, &value(context)).unwrap().text().unwrap().into_owned()
}

fn failure(text: &str, context: &serde_json::Value) -> String {
    template(text).render(None, &value(context)).unwrap_err().to_string()
}

#[test]
fn reads_are_found_wherever_they_stand() {
    assert_eq!(reads("{{ c.a }}{{ c['b'] }}{{ c.d | default(e.f) }}{{ c | attr('g') }}"), "c.a c.b c.d e.f c.g");
    assert_eq!(
        reads("{% if a.b is defined and a.c > 1 %}{{ a.d }}{% elif a.e in a.f %}{% else %}{{ a.g }}{% endif %}"),
        "a.b a.c a.d a.e a.f a.g"
    );
    assert_eq!(
        reads("{{ a.b if a.c else a.d }}{{ [a.e, (a.f, 1), {'x': a.g}] }}{{ not a.h }}{{ -a.i + a.j ~ a.k }}"),
        "a.c a.b a.d a.e a.f a.g a.h a.i a.j a.k"
    );
    assert_eq!(
        reads(
            "{% filter upper %}{{ a.b }}{% endfilter %}{% set x %}{{ a.c }}{% endset %}{{ x }}{% autoescape a.d %}{{ a.e }}{% endautoescape %}"
        ),
        "a.b a.c a.d a.e"
    );
    assert_eq!(reads("{% raw %}{{ a.b }}{% endraw %}{# {{ a.c }} #}{{ now }}"), "now");
}

#[test]
fn a_spans_text_is_the_expression() {
    let text = "Dear {{ customer.first_name | title }}, {{ customer['last_name'] }}";
    let template = template(text);
    let spans: Vec<_> =
        template.reads().iter().filter(|r| r.path.ends_with("text")).map(|r| &text[r.span.clone()]).collect();
    assert_eq!(spans, ["customer.first_name", "customer['last_name']"]);
}

#[test]
fn loops_say_what_they_read_of_each_element() {
    assert_eq!(
        reads(
            "{% for i in b.items %}{{ i.price }}{{ c.x }}{{ loop.index }}{{ i['n'] }}{% else %}{{ c.y }}{% endfor %}"
        ),
        "b.items[price n] c.x c.y"
    );
    assert_eq!(
        reads("{% for i in b.items if i.ok %}{% for t in i.tags %}{{ t }}{{ t.x }}{% endfor %}{% endfor %}"),
        "b.items[ok tags[it x]]"
    );
    assert_eq!(
        reads("{% for i in b.items | sort(attribute='price') | reverse %}{{ i.n }}{% endfor %}"),
        "b.items[price n]"
    );
    assert_eq!(
        reads("{% for i in b.items[:c.limit] | selectattr('a.b') %}{{ i.n }}{% endfor %}"),
        "c.limit b.items[a.b n]"
    );
    assert_eq!(reads("{{ b.items | map(attribute='n') | join(', ') }}{{ b.items | length }}"), "b.items[n] b.items");
    assert_eq!(
        reads("{{ b.items[0].n }}{{ (b.items | first).m }}{% for k, v in b.pairs %}{{ k }}{% endfor %}"),
        "b.items[n] b.items[m] b.pairs[it]"
    );
    assert_eq!(reads("{% for i in b.items %}{{ i.n }}{% endfor %}{{ i.n }}"), "b.items[n] i.n");
}

#[test]
fn names_of_ones_own_are_followed() {
    assert_eq!(reads("{% set c = b.customer %}{{ c.name }}{{ c.city }}"), "b.customer.name b.customer.city");
    assert_eq!(reads("{% with x = b, y = x.z %}{{ y.q }}{% endwith %}{{ x.r }}"), "b.z.q x.r");
    assert_eq!(reads("{% set x = a.b ~ a.c %}{{ x }}{{ x.y }}{% set y, z = a.d, a.e %}{{ y }}"), "a.b a.c a.d a.e");
    assert_eq!(
        reads("{% set i = b.items | first %}{{ i.n }}{% set n = namespace(x=a.b) %}{% set n.x = a.c %}{{ n.x }}"),
        "b.items[n] a.b a.c"
    );
    assert_eq!(
        reads(
            "{% macro m(p, q=a.b) %}{{ p.x }}{{ q }}{{ a.c }}{{ caller() }}{% endmacro %}{{ m(a.d) }}{% call m(a.e) %}{{ a.f }}{% endcall %}"
        ),
        "a.b a.c a.d a.e a.f"
    );
}

#[test]
fn a_name_that_is_set_in_some_cases_hides_nothing() {
    assert_eq!(reads("{% if x.vip %}{% set c = 1 %}{% endif %}{{ c.email }}"), "x.vip c.email");
    assert_eq!(reads("{% if x.vip %}{% set c = 1 %}{% else %}{% set c = 2 %}{% endif %}{{ c.email }}"), "x.vip");
    assert_eq!(reads("{% if x.vip %}{% set p = a %}{% else %}{% set p = b %}{% endif %}{{ p.q }}"), "x.vip a.q b.q");
    assert_eq!(reads("{% if x.vip %}{% set hello = 'Dear' %}{% endif %}{{ hello }}"), "x.vip");
    assert_eq!(reads("{% set c = 0 %}{% if x.vip %}{% set c = a %}{% endif %}{{ c.email }}"), "x.vip a.email");
    assert_eq!(reads("{% for i in range(3) %}{% set c = 1 %}{% endfor %}{{ c.email }}"), "c.email");
}

#[test]
fn problems_point_into_the_part() {
    let found = compile(&spec("{{ c.n", "Hello,\n  ä {{ c[x.y] }}")).err().unwrap();
    assert_eq!((found[0].path.as_str(), found[0].line), ("spec.email.subject", 1));
    assert_eq!((found[1].path.as_str(), found[1].line, found[1].column), ("spec.email.text", 2, 8));
    assert_eq!(found[1].message, "which field of `c` is read cannot be known before it is sent");
    assert_eq!(&"Hello,\n  ä {{ c[x.y] }}"[found[1].span.clone()], "c[x.y]");
}

#[test]
fn what_would_fail_for_everyone_is_a_problem() {
    let cases = [
        ("{{ c.n | uper }}", "there is no filter `uper`", Some("did you mean `upper`?")),
        ("{{ c.n is defind }}", "there is no test `defind`", Some("did you mean `defined`?")),
        ("{% for i in c.l | srt %}{% endfor %}", "there is no filter `srt`", Some("did you mean `sort`?")),
        ("{{ rnge(3) }}", "there is no function `rnge`", Some("did you mean `range`?")),
        ("{{ c.n.upper() }}", "a field has no method `upper`", Some("write it as a filter: `… | upper`")),
        ("{{ debug() }}", "there is no function `debug`", None),
        ("{{ c.d | date('%d', tz='Mars/Base') }}", "there is no time zone `Mars/Base`", None),
        ("{{ c | attr(x.y) }}", "which field of `c` is read cannot be known before it is sent", Some("name the field")),
        (
            "{{ c.l | map(attribute=x.y) }}",
            "which field of the elements is read cannot be known before it is sent",
            Some("name the field"),
        ),
        (
            "{% for i in c.l recursive %}{% endfor %}",
            "a recursive loop reads fields that cannot be known beforehand",
            None,
        ),
    ];
    for (text, message, hint) in cases {
        let found = problems(text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert_eq!((found[0].message.as_str(), found[0].hint.as_deref()), (message, hint), "{text}");
    }
    assert!(problems("{{ c.d | date('%') }}")[0].message.starts_with("`%` is not a date format: "));
    assert_eq!(problems("{% include 'x' %}")[0].message, "MessageTemplate `t` has no fragment `x`");
    assert_eq!(problems("{% include c.n %}")[0].message, "`include` names one fragment, in quotes");
    for text in ["{% extends 'x' %}", "{% import 'x' as y %}", "{% if %}", "{{ }}", "{% for %}"] {
        assert!(problems(text)[0].message.starts_with("this is not a template: "), "{text}: {:?}", problems(text));
    }
}

#[test]
fn missing_values_print_as_nothing() {
    let context = json!({"c": {"n": null, "l": [1, null], "m": {"o": null}}});
    assert_eq!(rendered("[{{ c.n }}{{ c.n.o }}{{ c.m.o }}{{ c.l[1] }}{{ c.q }}{{ z.y.x }}]", &context), "[]");
    assert_eq!(
        rendered("{{ c.n | default('a') }}{{ c.m.o | default('b') }}{{ c.q | date | default('d') }}", &context),
        "abd"
    );
    assert_eq!(
        rendered("{% for i in c.l %}<{{ i }}>{% endfor %}{% if c.n %}x{% endif %}{{ c.n is defined }}", &context),
        "<1><>False"
    );
}

#[test]
fn a_subject_is_one_line() {
    let template = compile(&spec("Dear {{ c.n | default('friend') }}\r\nBcc: x\0\u{2028}y  z", "t")).unwrap();
    let rendered = template.render(None, &Value::UNDEFINED).unwrap();
    assert_eq!(rendered.subject(), "Dear friend Bcc: x y z");
}

#[test]
fn html_is_escaped_and_text_is_not() {
    let template = compile(&spec("{{ c.n }}", "{{ c.n }}")).unwrap();
    let rendered = template.render(None, &context! { c => context! { n => "a<b" } }).unwrap();
    assert_eq!(
        (rendered.subject(), rendered.text().as_deref(), rendered.html()),
        ("a<b", Some("a<b"), Some("<b>a&lt;b</b>"))
    );
}

#[test]
fn locales_fall_back_part_by_part() {
    let spec = |locales: serde_json::Value| -> MessageTemplateSpec {
        serde_json::from_value(json!({"email": {"subject": "Hello", "html": "base"}, "locales": locales})).unwrap()
    };
    let locales = json!({"it": {"email": {"subject": "Ciao"}}, "it-CH": {"email": {"html": "svizzera"}}, "zh-Hant": {"email": {"subject": "你好"}}});
    let template = compile(&spec(locales)).unwrap();
    let of = |locale| {
        let rendered = template.render(locale, &Value::UNDEFINED).unwrap();
        assert_eq!(rendered.text().unwrap().trim_end(), rendered.html().unwrap(), "made of the HTML");
        (rendered.subject().to_owned(), rendered.html().unwrap().to_owned())
    };
    let pair = |subject: &str, html: &str| (subject.to_owned(), html.to_owned());
    for (locale, expected) in [
        (Some("it-CH"), pair("Ciao", "svizzera")),
        (Some("IT_ch"), pair("Ciao", "svizzera")),
        (Some("it-IT"), pair("Ciao", "base")),
        (Some("zh-Hant-TW"), pair("你好", "base")),
        (Some("fr"), pair("Hello", "base")),
        (Some(""), pair("Hello", "base")),
        (Some("-"), pair("Hello", "base")),
        (None, pair("Hello", "base")),
    ] {
        assert_eq!(of(locale), expected, "{locale:?}");
    }
    let twice = json!({"it-CH": {"email": {"subject": "a"}}, "it_ch": {"email": {"subject": "b"}}});
    let found = compile(&spec(twice)).err().unwrap();
    assert_eq!(
        (found[0].path.as_str(), found[0].message.as_str()),
        ("spec.locales.it_ch.email.subject", "locale `it_ch` is `it-CH` written otherwise")
    );
}

#[test]
fn dates_have_a_format_and_a_zone() {
    let context = json!({"t": "2026-03-31T22:30:00Z", "d": "2026-03-31", "n": null});
    for (text, expected) in [
        ("{{ t | date }}", "2026-03-31"),
        ("{{ t | date('%d.%m.%Y %H:%M', 'Europe/Rome') }}", "01.04.2026 00:30"),
        ("{{ t | date(tz='Europe/Rome') }}", "2026-04-01"),
        ("{{ t | date('%e %B', tz='Europe/Rome') }}", " 1 April"),
        ("{{ t | date(format='%d') }}", "31"),
        ("{{ t | time }} {{ t | time(tz='Asia/Kolkata') }}", "22:30 04:00"),
        ("{{ t | datetime }}", "2026-03-31 22:30"),
        ("{{ d | date('%d/%m/%y') }}", "31/03/26"),
        ("{{ d | date(tz='Pacific/Auckland') }}", "2026-03-31"),
        ("[{{ n | date }}{{ n | time('%H') }}]", "[]"),
    ] {
        assert_eq!(rendered(text, &context), expected, "{text}");
    }
}

#[test]
fn errors_show_the_template_and_not_the_person() {
    let context = json!({"c": {"n": "Mary Smith", "d": "born 1980"}, "f": "%!", "z": "Mars/Base"});
    for (text, expected) in [
        ("\n{{ c.d | date }}", "text in line 2: it is neither a Date nor a Timestamp in `date`"),
        ("{{ 5 | date }}", "text in line 1: it is neither a Date nor a Timestamp in `date`"),
        ("{{ '2026-01-01' | time }}", "text in line 1: it is not a format for this date in `time`"),
        ("{{ '2026-01-01' | date(tz=z) }}", "text in line 1: there is no such time zone in `date(tz=z)`"),
    ] {
        assert_eq!(failure(text, &context), expected);
    }
    for text in [
        "{{ c.n + 1 }}",
        "{{ c.n | int }}",
        "{{ c.n | round }}",
        "{{ c.n() }}",
        "{{ c.n | date(c.n, c.n) }}",
        "{{ range(c.n) }}",
        "{% set a, b = c.n %}",
    ] {
        let Ok(template) = compile(&spec("s", text)) else { continue };
        let said = template.render(None, &value(&context)).map(|r| r.text().is_some()).unwrap_err();
        assert!(!format!("{said:?} {said}").contains("Mary"), "{text}: {said}");
    }
}

#[test]
fn what_never_ends_ends() {
    for text in [
        "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}",
        "{% set ns = namespace(s='xxxxxxxxxxxxxxxx') %}{% for a in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
        "{{ 'x' * 100000000000 }}",
        "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    ] {
        let started = std::time::Instant::now();
        let said = failure(text, &json!({}));
        assert!(said.starts_with("text in line 1: "), "{said}");
        assert!(started.elapsed().as_secs() < 5, "{text}");
    }
    let large =
        "{% for a in range(20000) %}0123456789012345678901234567890123456789012345678901234567890123456789{% endfor %}";
    assert_eq!(failure(large, &json!({})), "text: it is longer than 1048576 bytes");
}
