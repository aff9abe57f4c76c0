use std::{path::PathBuf, sync::Arc};

use http::{HeaderMap, StatusCode};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{
    super::{
        Permission, Record,
        exchange::{Answer, Speaks},
    },
    *,
};
use crate::files::{http::Permit, reach::Reach};

fn spec(request: Json, answer: Json) -> HttpChannel {
    serde_json::from_value(json!({"request": request, "answer": answer, "secretRef": {"name": "gateway"}})).unwrap()
}

fn provider(request: Json) -> Http {
    let permit = Permit { reach: Arc::new(Reach::default()), namespace: String::new(), authorization: None };
    let exchange = Exchange::new(permit, &[], Speaks::Either).unwrap();
    let secret = BTreeMap::from([("token".to_owned(), "s3cret".to_owned())]);
    Http::new(&spec(request, json!({})), secret, exchange, Clock::system()).unwrap()
}

fn message(value: &str) -> Envelope {
    let values = vec![("v".to_owned(), value.to_owned()), ("n".to_owned(), "7".to_owned())];
    let content = Content::Record(Record { to: value.to_owned(), values });
    let (id, folder) = ("tell-0-1".to_owned(), PathBuf::from("shop/news/news-1"));
    Envelope { id, reference: "ref".to_owned(), content, folder, permission: Permission::default() }
}

fn body_of(request: &http::Request<bytes::Bytes>) -> Json {
    serde_json::from_slice(request.body()).unwrap_or_else(|e| panic!("{e}: {:?}", request.body()))
}

#[test]
fn a_request_is_as_declared() {
    let provider = provider(json!({
        "method": "PUT",
        "url": "https://api.example.com/v1/{{ values.v }}/{{ key }}?to={{ to | upper }}",
        "headers": [
            {"name": "Authorization", "value": "Bearer {{ secret.token }}"},
            {"name": "Content-Type", "value": "application/vnd.example+json"},
        ],
        "json": r#"{"to": "{{ to }}", "n": {{ values.n | int }}, "all": {{ values }}, "no": {{ none }}, "maybe": "{{ none }}",
                    {% if values.n == "7" %}"seven": true,{% endif %} "reference": "{{ reference }}"}"#,
    }));
    let message = message("à b");
    let request = provider.request(&message).unwrap();
    let key = message.key();
    assert_eq!(request.method(), "PUT");
    assert_eq!(request.uri().to_string(), format!("https://api.example.com/v1/%C3%A0%20b/{key}?to=%C3%80%20B"));
    let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(header("authorization").unwrap(), "Bearer s3cret");
    assert_eq!(header("idempotency-key").unwrap(), key);
    assert_eq!(header("content-type").unwrap(), "application/vnd.example+json", "the author's own");
    assert!(header("user-agent").unwrap().starts_with("campanile/"));
    let expected = json!({
        "to": "à b", "n": 7, "all": {"v": "à b", "n": "7"}, "no": null, "maybe": "", "seven": true, "reference": "ref"
    });
    assert_eq!(body_of(&request), expected);
    assert!(!format!("{request:?}").contains("s3cret"), "a secret is not printed");
}

#[test]
fn a_kept_value_is_a_value() {
    let provider = provider(json!({
        "url": "https://api.example.com/",
        "json": r#"{% set x %}a {{ values.v }}{% endset %}{"one": {{ x }}, "two": "{{ x }}", "three": "{{ x | upper }}"}"#,
    }));
    let request = provider.request(&message("\"q\"")).unwrap();
    let body = body_of(&request);
    assert_eq!((&body["one"], &body["two"]), (&json!("a \"q\""), &json!("a \"q\"")));
}

proptest! {
    /// Whatever a value holds, the JSON has the author's fields and no others, and each holds the value.
    #[test]
    fn a_value_never_leaves_its_json(value in "(\\PC|[\"\\\\\u{0}-\u{20}{}:,\u{fdd0}\u{fdd1}]){0,40}") {
        let provider = provider(json!({
            "url": "https://api.example.com/",
            "json": r#"{"a": "{{ values.v }}", "b": {{ values.v }}, "c": ["x{{ values.v }}y", {"{{ values.v }}": 1}]}"#,
        }));
        let request = provider.request(&message(&value)).unwrap();
        let plain = value.replace(['\u{fdd0}', '\u{fdd1}'], "");
        let mut inner = serde_json::Map::new();
        inner.insert(plain.clone(), 1.into());
        prop_assert_eq!(body_of(&request), json!({"a": plain, "b": plain, "c": [format!("x{plain}y"), inner]}));
    }

    #[test]
    fn a_value_never_leaves_its_part_of_the_url_or_its_header(value in "(\\PC|[/?#@:%.\\\\\u{0}-\u{20}\u{7f}]){0,40}") {
        let provider = provider(json!({
            "url": "https://api.example.com/v1/{{ values.v }}/end?q={{ values.v }}&r=1",
            "headers": [{"name": "x-a", "value": "a {{ values.v }} b"}],
        }));
        let Ok(request) = provider.request(&message(&value)) else {
            prop_assert!(value == "." || value == "..");
            return Ok(());
        };
        let url = Url::parse(&request.uri().to_string()).unwrap();
        prop_assert_eq!(url.origin().ascii_serialization(), "https://api.example.com");
        prop_assert_eq!(url.path_segments().unwrap().count(), 3);
        prop_assert!(url.path().starts_with("/v1/") && url.path().ends_with("/end"));
        let query: Vec<_> = url.query_pairs().map(|(k, v)| (k.into_owned(), v.into_owned())).collect();
        prop_assert_eq!(query, vec![("q".to_owned(), value.clone()), ("r".to_owned(), "1".to_owned())]);
        let header = request.headers()["x-a"].as_bytes();
        prop_assert!(header.starts_with(b"a ") && header.ends_with(b" b") && !header.iter().any(|b| *b < 0x20));
    }

    #[test]
    fn a_value_never_leaves_its_xml_or_its_form(value in "(\\PC|[<>&'\"=\u{0}-\u{20}]){0,40}") {
        let xml = provider(json!({
            "url": "https://api.example.com/", "xml": "<a b=\"{{ values.v }}\">{{ values.v }}</a>",
        }));
        let request = xml.request(&message(&value)).unwrap();
        let text = std::str::from_utf8(request.body()).unwrap();
        prop_assert_eq!((text.matches('<').count(), text.matches('>').count(), text.matches('"').count()), (2, 2, 2));
        let form = provider(json!({
            "url": "https://api.example.com/",
            "form": [{"name": "a", "value": "{{ values.v }}"}, {"name": "b&", "value": "x"}],
        }));
        let request = form.request(&message(&value)).unwrap();
        let pairs: Vec<_> = url::form_urlencoded::parse(request.body()).into_owned().collect();
        prop_assert_eq!(pairs, vec![("a".to_owned(), value), ("b&".to_owned(), "x".to_owned())]);
    }
}

#[test]
fn what_cannot_be_a_request_is_none() {
    let json = |body: &str| provider(json!({"url": "https://api.example.com/", "json": body}));
    for (provider, value, said) in [
        (json("{\"a\": \"{% if values.n %}\"}{% endif %}{{ values.v }}"), "x", "body: the body is no JSON"),
        (json("{\"a\": \"\\{{ values.v }}\"}"), "n", "body: a backslash stands before a value"),
        (json("{% for i in range(100000000) %}[{% endfor %}"), "x", "body: "),
        (
            provider(json!({"url": "https://api.example.com/a/{{ values.v }}/b"})),
            "..",
            "a value leads out of the URL's path",
        ),
    ] {
        let problem = provider.request(&message(value)).unwrap_err();
        assert!(problem.starts_with(said), "{problem}");
    }
}

#[test]
fn what_is_wrong_is_said_at_its_field() {
    for (request, answer, path, said) in [
        (json!({"url": "ftp//x"}), json!({}), "request.url", "this is not a URL: relative URL without a base"),
        (json!({"url": "https://{{ values.host }}/x"}), json!({}), "request.url", "this is not a URL: empty host"),
        (
            json!({"url": "https://api{{ values.host }}/x"}),
            json!({}),
            "request.url",
            "scheme, host and port are written out, and a `/` behind them",
        ),
        (
            json!({"url": "https://me:secret@api.example.com/"}),
            json!({}),
            "request.url",
            "a login stands in a header, not in the URL",
        ),
        (
            json!({"url": "https://x/", "headers": [{"name": "Host", "value": "y"}]}),
            json!({}),
            "request.headers[0].name",
            "`host` follows from the request",
        ),
        (
            json!({"url": "https://x/", "headers": [{"name": "idempotency-key", "value": "y"}]}),
            json!({}),
            "request.headers[0].name",
            "`idempotency-key` is the idempotencyHeader, which is there already",
        ),
        (
            json!({"url": "https://x/", "json": "{{ value.a }}"}),
            json!({}),
            "request.json",
            "there is no `value`; there are to, values, secret, key, reference",
        ),
        (json!({"url": "https://x/", "json": "{{ to.a }}"}), json!({}), "request.json", "`to` has no `a`"),
        (
            json!({"url": "https://x/", "json": "{{ secret }}"}),
            json!({}),
            "request.json",
            "name one of the secret's keys, as in secret.token",
        ),
        (json!({"url": "https://x/"}), json!({"sent": "status == '200'"}), "answer.sent", "a number is never a text"),
        (json!({"url": "https://x/"}), json!({"receipt": "boddy.id"}), "answer.receipt", "there is no `boddy`"),
    ] {
        let found = check(&spec(request, answer));
        let wrong = found.first().unwrap_or_else(|| panic!("{said}"));
        assert!(wrong.path == path && wrong.message.starts_with(said), "{wrong:?}");
    }
    let found = check(&spec(json!({"url": "https://x/", "json": "{\"a\": {{ to | uper }}}"}), json!({})));
    assert!(found[0].hint.as_deref().is_some_and(|hint| hint.contains("upper")), "{found:?}");
    let found = check(&spec(json!({"url": "https://x/", "text": "{{ "}), json!({"sent": "(", "later": "x"})));
    assert_eq!(found.len(), 3, "all of it: {found:?}");
}

#[test]
fn an_answer_has_its_outcome() {
    let rules = Rules::new(
        &serde_json::from_value(json!({
            "sent": "status == 200 && body.ok",
            "unregistered": "body.code == 'gone'",
            "refused": "body.code == 'bad'",
            "later": "body.code == 'busy'",
            "receipt": "body.id",
            "detail": "body.message",
            "retryAfter": "body.wait",
        }))
        .unwrap(),
    )
    .unwrap();
    let bare = Rules::new(&serde_json::from_value(json!({"refused": "has(body.error)"})).unwrap()).unwrap();
    let judged = |rules: &Rules, status: u16, headers: &[(&'static str, &str)], body: &str| {
        let status = StatusCode::from_u16(status).unwrap();
        let headers: HeaderMap = headers.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect();
        let answer = Answer { status, headers, body: body.to_owned().into() };
        match rules.judge(&answer, "ada@example.com", "2026-03-01T09:00:00Z".parse().unwrap()) {
            Delivery::Sent { receipt } => format!("sent {receipt}"),
            Delivery::Refused { reason, detail } => format!("refused {reason:?}: {detail}"),
            Delivery::Later { reason, detail, after } => {
                format!("later {reason:?} {:?}: {detail}", after.map(|a| a.as_secs()))
            }
            Delivery::InDoubt { detail } => format!("in doubt: {detail}"),
            Delivery::Unsent => "unsent".to_owned(),
        }
    };
    let ruled = |status, body: Json| judged(&rules, status, &[], &body.to_string());
    assert_eq!(ruled(200, json!({"ok": true, "id": 17})), "sent 17");
    assert_eq!(ruled(200, json!({"ok": false})), "refused ProtocolError: 200", "`sent` says what is taken");
    let named = json!({"code": "gone", "message": "no ada@example.com here"});
    assert_eq!(ruled(200, named), "refused Unregistered: 200 no <address> here");
    assert_eq!(ruled(500, json!({"code": "bad"})), "refused DataRefused: 500");
    assert_eq!(ruled(200, json!({"code": "busy", "wait": 90})), "later Unavailable Some(90): 200");
    assert_eq!(ruled(200, json!({"code": "busy", "wait": 1e9})), "later Unavailable Some(86400): 200");
    assert_eq!(judged(&rules, 429, &[("retry-after", "7")], "{}"), "later Throttled Some(7): 429");
    let plain = |status| judged(&bare, status, &[], "");
    for (status, said) in [
        (200, "sent "),
        (202, "sent "),
        (301, "later ProtocolError None: 301"),
        (401, "later AuthFailed None: 401"),
        (403, "later AuthFailed None: 403"),
        (404, "refused DataRefused: 404"),
        (408, "later Unavailable None: 408"),
        (422, "refused DataRefused: 422"),
        (425, "later Unavailable None: 425"),
        (429, "later Throttled None: 429"),
        (500, "later Unavailable None: 500"),
        (502, "in doubt: 502"),
        (503, "later Unavailable None: 503"),
        (504, "in doubt: 504"),
    ] {
        assert_eq!(plain(status), said);
    }
    assert_eq!(judged(&bare, 200, &[], r#"{"error": "x"}"#), "refused DataRefused: 200", "another rule says otherwise");
}
