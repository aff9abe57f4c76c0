//! Golden SQL of every construct in both dialects, and the words of what is wrong.

use std::{collections::BTreeMap, fmt::Write};

use proptest::prelude::*;
use sea_query::{PostgresQueryBuilder, SqliteQueryBuilder};

use super::{
    Dialect, Inputs, Param, ParamType, Query, check,
    schema::{Condition, Entity, Field, FieldType, Link, Schema, Table},
};

fn field(name: &str, ty: FieldType, is_required: bool) -> Field {
    Field { name: name.into(), ty, is_required }
}

fn link(name: &str, to: &str, here: &str, there: &str, is_many: bool) -> Link {
    Link { name: name.into(), to: to.into(), keys: vec![(here.into(), there.into())], is_many }
}

pub(super) fn schema() -> Schema {
    let entity = |name: &str, fields: Vec<Field>, links: Vec<Link>| Entity {
        name: name.into(),
        key: vec!["id".into()],
        fields,
        links,
        table: Table { schema: None, name: name.into() },
        ..Entity::default()
    };
    let customer = entity(
        "customer",
        vec![
            field("id", FieldType::Integer, true),
            field("country", FieldType::String, false),
            field("name", FieldType::String, true),
            field("vip", FieldType::Boolean, false),
            field("born", FieldType::Date, false),
            field("joined", FieldType::Timestamp, false),
            field("score", FieldType::Double, false),
        ],
        vec![link("bookings", "booking", "id", "customer_id", true)],
    );
    let condition = |name: &str, text: &str| Condition { name: name.into(), text: text.into() };
    let customer = Entity {
        conditions: vec![
            condition("grown", "customer.born < date('2008-01-01')"),
            condition("regular", "customer.grown && customer.bookings.filter(b, b.status == 'confirmed').size() >= 2"),
            condition("egg", "customer.hen && customer.vip"),
            condition("hen", "!customer.egg"),
            condition("broken", "customer.contry == 'IT'"),
        ],
        ..customer
    };
    let booking = entity(
        "booking",
        vec![
            field("id", FieldType::Integer, true),
            field("customer_id", FieldType::Integer, false),
            field("status", FieldType::String, true),
            field("amount", FieldType::Decimal { scale: 2 }, false),
            field("nights", FieldType::Integer, false),
            field("departure", FieldType::Timestamp, false),
        ],
        vec![link("customer", "customer", "customer_id", "id", false)],
    );
    let entities = [customer, booking].into_iter().map(|e| (e.name.clone(), e)).collect();
    let audiences = [("gold", "customer"), ("paid", "booking")].map(|(name, of)| (name.into(), of.into()));
    Schema { entities, audiences: audiences.into() }
}

fn params() -> BTreeMap<String, ParamType> {
    BTreeMap::from([("days".into(), ParamType::Integer), ("country".into(), ParamType::String)])
}

fn inputs() -> Inputs {
    let params = BTreeMap::from([("days".into(), Param::Integer(7)), ("country".into(), Param::String("IT".into()))]);
    let keys = |table: &str| sea_query::Query::select().column("id").from(table.to_owned()).to_owned();
    let audiences = [("gold", keys("gold")), ("paid", keys("paid"))].map(|(name, keys)| (name.to_owned(), keys));
    let audiences = std::sync::Arc::new(BTreeMap::from(audiences));
    Inputs { params, audiences, ..Inputs::at("2026-05-01T09:00:00Z".parse().unwrap()) }
}

fn sql(rule: &str, entity: &str, dialect: Dialect) -> String {
    let schema = schema();
    let rule = check(rule, &schema, entity, &params()).unwrap_or_else(|p| panic!("{}", p.picture(rule)));
    let mut query = Query::over(&schema, schema.entity(entity).unwrap(), dialect);
    query.restrict(&rule, &inputs());
    let (text, binds) = match dialect {
        Dialect::Sqlite => query.keys().build(SqliteQueryBuilder),
        Dialect::Postgres => query.keys().build(PostgresQueryBuilder),
    };
    format!("{text}\n    {:?}", binds.0)
}

const RULES: [(&str, &[&str]); 12] = [
    (
        "customer",
        &[
            "customer.country == 'IT'",
            "customer.country != 'IT'",
            "!(customer.country == 'IT')",
            "customer.name == 'Ann'",
            "customer.name != 'Ann'",
            "customer.vip",
            "!customer.vip",
            "has(customer.country)",
            "!has(customer.country)",
            "has(customer.name)",
            "true",
        ],
    ),
    (
        "customer",
        &[
            "customer.name < 'M' && customer.score >= 1.5 || customer.vip",
            "!(customer.vip && customer.name == 'Ann')",
            "customer.country in ['IT', 'FR']",
            "!(customer.country in ['IT', 'FR'])",
            "customer.country in []",
            "customer.name.startsWith('A%') && customer.name.endsWith('n') && customer.name.contains('_')",
            "!customer.country.startsWith('I')",
            "customer.country.lowerAscii() == 'it' && customer.name.upperAscii() == 'ANN' && customer.name.size() > 2",
            "(customer.vip ? 1 : 2) == customer.id",
            "customer.country == params.country",
        ],
    ),
    (
        "customer",
        &[
            "customer.joined < now - days(params.days)",
            "customer.joined >= date('2026-01-31')",
            "customer.joined >= date('2026-01-31', 'Europe/Rome')",
            "customer.born < date('2000-01-01')",
            "customer.born < now",
            "now - customer.joined > hours(48)",
        ],
    ),
    (
        "booking",
        &[
            "booking in audience('paid') && !(booking.customer in audience('gold'))",
            "booking.customer.bookings.exists(b, !(b in audience('paid')))",
            "booking.customer.country == 'IT' && booking.customer.vip",
            "has(booking.customer)",
            "booking.customer.country == booking.status",
            "booking.amount >= 150.5",
            "booking.amount * 2 > booking.nights",
            "booking.amount + 1 == 10",
            "booking.nights - 1 < 3",
            "booking.departure + days(booking.nights) < now",
        ],
    ),
    (
        "customer",
        &[
            "customer.bookings.exists(b, b.status == 'confirmed')",
            "!customer.bookings.exists(b, b.status == 'confirmed')",
            "customer.bookings.all(b, b.amount > 10.0)",
            "customer.bookings.exists(b, b.customer.country == 'IT' && b.amount > customer.score)",
            "customer.bookings.exists_one(b, b.nights > 3)",
            "customer.bookings.exists(b, b.nights > 1 && b.customer.bookings.exists(c, c.id != b.id && c.status == b.customer.country))",
        ],
    ),
    (
        "customer",
        &[
            "customer.bookings.size() > 0",
            "customer.bookings.size() == 0",
            "customer.bookings.filter(b, b.status == 'x').size() >= 1",
            "customer.bookings.filter(b, b.status == 'x').size() < 2",
            "customer.bookings.filter(b, b.nights > customer.id).size() < 2",
            "customer.bookings.map(b, b.amount).sum() >= 150.0",
            "customer.bookings.map(b, b.nights).avg() > 2.5",
            "customer.bookings.filter(b, b.nights > 1).map(b, b.departure).max() < now",
            "customer.bookings.map(b, b.status).min() == 'a'",
        ],
    ),
    ("booking", &["booking.customer.bookings.size() > 1", "booking.customer.bookings.map(b, b.amount).sum() > 5.0"]),
    (
        "customer",
        &[
            "customer.country.matches('^(I|F)[A-Z]\\\\d?$')",
            "!customer.country.matches('a.b')",
            "customer.name + '-' + customer.country == 'Ann-IT'",
            "customer.born.getMonth() == now.getMonth('Europe/Rome') && customer.born.getDate() == now.getDate('Europe/Rome')",
            "customer.joined.getDayOfWeek('europe/rome') == 1 && customer.joined.getHours() >= 9",
            "customer.joined.getMilliseconds() == 0 || customer.joined.getDayOfYear() == 0",
            "date(customer.joined, 'Europe/Rome') == date('2026-01-31')",
            "customer.joined + weeks(2) < now && customer.joined > now - weeks(params.days)",
            "customer.country == 'IT' ? customer.score > 1.0 : customer.name < 'M'",
            "(customer.vip ? 1 : 2.5) < customer.score",
        ],
    ),
    (
        "booking",
        &[
            "booking.nights / 2 > 3",
            "booking.nights % 7 == 0 && booking.amount / 3 > 10",
            "100 / booking.nights > 3",
            "booking.nights != 0 && 100 / booking.nights > 3",
            "booking.nights == 0 || 100 / booking.nights > 3",
            "booking.nights > 0 ? booking.amount / booking.nights > 50.0 : false",
            "booking.nights + 1 > booking.id",
            "booking.amount * booking.amount > 4.0",
            "booking.departure + days(booking.nights) < now",
        ],
    ),
    (
        "customer",
        &[
            "customer.bookings.filter(b, b.nights > 1).all(b, b.amount > 10.0)",
            "customer.bookings.map(b, b.nights > 1, b.amount).sum() > 10.0",
            "'x' in customer.bookings.map(b, b.status)",
            "customer.country in customer.bookings.filter(b, b.nights > 1).map(b, b.status)",
            "customer.bookings.size() > 2 && customer.bookings.map(b, b.amount).max() > 100.0 && customer.bookings.size() < 9",
            "customer.bookings.filter(b, b.status == 'x').size() > customer.bookings.filter(b, b.status == 'y').size()",
            "customer.country == 'IT' && customer.bookings.map(b, b.amount).sum() > 100.0",
            "customer.country != 'IT' && customer.bookings.filter(b, b.nights > 2).size() >= 3",
            "!(customer.bookings.size() > 2)",
        ],
    ),
    (
        "customer",
        &[
            "customer.bookings.exists(b, 100 / b.nights > 3)",
            "customer.vip && customer.bookings.map(b, 100 / b.nights).max() > 3",
            "customer.bookings.filter(b, b.nights != 0).map(b, 100 / b.nights).sum() > 3",
            "customer.bookings.size() != 0 && customer.bookings.map(b, b.nights).sum() / customer.bookings.size() > 3",
        ],
    ),
    (
        "booking",
        &[
            "booking.customer.regular",
            "!booking.customer.regular",
            "booking.customer.bookings.exists(b, b.customer.regular && b.id != booking.id)",
            "booking.customer.country == 'IT' && booking.customer.bookings.filter(b, b.status == 'x').size() > 1",
        ],
    ),
];

#[test]
fn golden_sql() {
    let mut golden = String::new();
    for (entity, rules) in RULES {
        for rule in rules {
            let (sqlite, postgres) = (sql(rule, entity, Dialect::Sqlite), sql(rule, entity, Dialect::Postgres));
            writeln!(golden, "{rule}\n  sqlite   {sqlite}\n  postgres {postgres}\n").unwrap();
        }
    }
    insta::assert_snapshot!(golden);
}

#[test]
fn wrong_rules_are_told_in_plain_words() {
    let rules = [
        "customer.contry == 'IT'",
        "custmer.country == 'IT'",
        "country == 'IT'",
        "customer.score > 'high'",
        "customer.country > 5",
        "customer.joined > '2026-01-01'",
        "customer.vip > true",
        "customer.bookings",
        "customer.bookings.status == 'x'",
        "customer",
        "customer.score",
        "customer.boookings.exists(b, b.nights > 1)",
        "customer.bookings.map(b, b.status).sum() > 1",
        "customer.bookings.sum() > 1",
        "customer.bookings.exists(b, b.nigts > 1)",
        "customer.country == null",
        "customer.country matches 'x'",
        "customer.country.matches('I.*?')",
        "customer.country.matches('(?i)it')",
        "customer.country.matches(params.country)",
        "customer.country.startWith('I')",
        "customer.score / 0 > 1.0",
        "customer.id % 1.5 == 0",
        "customer.name / 2 == 1",
        "customer.name + 1 == 'Ann1'",
        "customer.name.sum() > 1",
        "customer.exists(b, b.nights > 1)",
        "customer.bookings.map(b, b.nights) > 1",
        "customer.bookings.filter(b, b.nights).size() > 1",
        "customer.bookings.map(b, b.nights).exists(n, n > 1)",
        "'x' in customer.bookings",
        "customer.id in customer.bookings.map(b, b.status)",
        "customer.joined.getMonth() == 12",
        "customer.born.getHours() == 1",
        "customer.born.getMonth('Europe/Rome') == 1",
        "customer.joined.getMonth('Mars/Olympus') == 1",
        "customer.joined.getMonth(customer.country) == 1",
        "customer.joined.getMonht() == 1",
        "date(customer.born) == date('2026-01-01')",
        "days(9000000000) < now - customer.joined",
        "customer.egg",
        "customer.broken",
        "customer.regulr",
        "message.campaign == 'x'",
        "days('7') == days(7)",
        "date('31.01.2026') < now",
        "date('2026-01-31', 'Rome') < now",
        "params.dais == 7",
        "customer.country in 'IT'",
        "customer.country in ['IT', 5]",
        "customer.joined + 7 < now",
        "customer.name.country == 'x'",
        "has(customer)",
        "customer.vip ? 'a' : 1",
        "'Zürich' == customer.contry",
        "customer.country ==",
        "",
        "((((((((((((((((((((((((((((((((((true))))))))))))))))))))))))))))))))))",
    ];
    let schema = schema();
    let mut words = String::new();
    for rule in rules {
        let problem = check(rule, &schema, "customer", &params()).unwrap_err();
        writeln!(words, "{}\n", problem.picture(rule)).unwrap();
    }
    insta::assert_snapshot!(words);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in "\\PC{0,80}") {
        let _ = check(&text, &schema(), "customer", &params());
    }

    #[test]
    fn no_mutation_panics(which in 0_usize..60, at in 0_usize..60, with in "[a-z0-9.()'&!,\\[\\]<>=+ü-]{0,4}") {
        let all: Vec<&str> = RULES.iter().flat_map(|(_, rules)| rules.iter().copied()).collect();
        let rule: Vec<char> = all[which % all.len()].chars().collect();
        let at = at % rule.len();
        let mutated: String = rule[..at].iter().chain(with.chars().collect::<Vec<_>>().iter()).chain(&rule[at..]).collect();
        let _ = check(&mutated, &schema(), "customer", &params());
    }
}

#[test]
fn deep_texts_end_without_exhausting_the_stack() {
    for part in ["!", "-", "(", "a.", "[", "true && ", "1 + ", "true ? ", "customer.bookings.exists(b, "] {
        let text = part.repeat(2_000);
        // A worker thread of tokio has 2 MiB.
        let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
        let checked = thread.spawn(move || check(&text, &schema(), "customer", &params()).is_err()).unwrap();
        assert!(checked.join().unwrap(), "{part}");
    }
}
