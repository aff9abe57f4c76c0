use serde_json::json;

use super::*;

const INPUTS: &[(&str, JsonType)] =
    &[("status", JsonType::Number), ("headers", JsonType::Map), ("body", JsonType::Any), ("text", JsonType::Text)];

fn inputs() -> Vec<Json> {
    let body = json!({
        "accepted": true, "id": "m-1", "n": 3, "nothing": null, "price": 0.5,
        "errors": [{"code": 30003, "text": "Gone"}, {"code": 1, "text": "odd"}],
        "by-name": {"a.b": 7}
    });
    vec![json!(400), json!({"x-kind": "Fatal"}), body, json!("ERR 21: no")]
}

fn value(text: &str) -> Json {
    JsonRule::value(text, INPUTS).unwrap_or_else(|e| panic!("{text}: {e}")).evaluate(&inputs()).unwrap()
}

#[test]
fn what_holds() {
    for text in [
        "status == 400 && body.accepted",
        "status in [400, 404] && !(status >= 500)",
        "headers['x-kind'] == 'Fatal' && headers['x-kind'].lowerAscii().startsWith('fa')",
        "body.errors.exists(e, e.code == 30003 && e.text.contains('on'))",
        "body.errors.all(e, body.errors.exists(o, o.code == e.code))",
        "body.errors.filter(e, e.code > 5).size() == 1",
        "body.errors.map(e, e.text).join() == 'Gone, odd'",
        "body.errors[1].code == 1 && body['by-name']['a.b'] == 7",
        "text.matches('^ERR [0-9]+') && text.size() == 10",
        "body.n + 1 == 4 && body.n * 2 - 1 == 5 && body.n / 2 == 1 && body.n % 2 == 1 && -body.n < 0",
        "string(body.n) + '!' == '3!' && int('12') == 12",
        "body.price == 0.5 && body.n == 3.0",
        "'id' in body && !('it' in body)",
        "has(body.id) && !has(body.nothing) && !has(body.no.such.thing)",
        "(body.accepted ? 'a' : 'b') == 'a'",
    ] {
        assert_eq!(value(text), true, "{text}");
    }
}

#[test]
fn what_is_missing_is_as_in_rules_over_rows() {
    for (text, holds) in [
        ("body.no == body.nothing", true),
        ("body.no != 'a'", true),
        ("!(body.no == 'a')", true),
        ("body.no < 1 || body.no >= 1", false),
        ("body.no", false),
        ("body.no in ['a']", false),
        ("body.no.startsWith('a')", false),
        ("body.no.exists(x, true)", false),
        ("body.no.all(x, false)", true),
        ("has(body.no + 1) || has(body.n / 0) || has(body.no.size())", false),
        // Of another type than the operation takes.
        ("body.n < 'a' || body.id > 1", false),
        ("body.id", false),
    ] {
        assert_eq!(JsonRule::condition(text, INPUTS).unwrap().holds(&inputs()), Ok(holds), "{text}");
    }
    assert_eq!(value("9223372036854775807 + 1"), Json::Null, "64 bits do not hold it");
}

#[test]
fn what_is_wrong_is_said_where_it_stands() {
    for (text, said) in [
        ("staus == 200", "there is no `staus`; there are status, headers, body, text; did you mean `status`?"),
        ("status == '200'", "a number is never a text"),
        ("status", "a condition is true or false, and this is a number; compare it with something, as in `x == 1`"),
        ("body.a &&", "the rule ends too early; something is missing at the end"),
        ("body.id.startWith('a')", "there is no function `startWith`; did you mean `startsWith`?"),
        ("has(body.a, 1)", "`has` is not used like this"),
        ("text.matches('(?i)a')", "`matches` has no flags, names or lookaround"),
        ("status.size() == 1", "a number has no `.size()`"),
        ("status.code == 1", "a number has no `.code`"),
        ("text + 1 == 'a'", "a text and a number cannot be added; `string(x)` makes a text of a number"),
        ("body.all(1, true)", "all() names an element, as in all(x, …)"),
        ("body == {'a': 1}", "rules have no such construct"),
        ("headers['a'] == 1", "a text is never a number"),
    ] {
        let problem = JsonRule::condition(text, INPUTS).map(drop).unwrap_err();
        assert_eq!(problem.to_string(), said, "{text}");
    }
    let problem = JsonRule::condition("status == 200 && boddy.a", INPUTS).map(drop).unwrap_err();
    assert_eq!(problem.span, 17..22);
}

#[test]
fn an_evaluation_ends() {
    let body = Json::Array((0..3_000).map(Json::from).collect());
    let rule = JsonRule::condition("body.all(a, body.all(b, a + b >= 0))", &[("body", JsonType::Any)]).unwrap();
    assert_eq!(rule.holds(&[body]), Err(TooLong));
}
