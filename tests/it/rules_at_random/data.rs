//! The random data: three kinds of rows that link to each other, and the statements that put them into a store.

use std::collections::BTreeMap;

use campanile::rule::{
    Dialect,
    schema::{Condition, Entity, Field, FieldType, Link, Schema, Table},
};

use super::{
    Dice,
    parts::{conditions_of, text},
};

#[derive(Clone, Debug, PartialEq)]
pub enum Val {
    Missing,
    Text(String),
    Int(i64),
    /// A number and the digits behind its point.
    Dec(i128, u32),
    Double(f64),
    Bool(bool),
    Date(jiff::civil::Date),
    /// Microseconds UTC.
    Time(i64),
    /// Microseconds.
    Span(i64),
    /// The evaluation fails.
    Fault,
}

use FieldType::{Boolean, Date, Double, Integer, String as Text, Timestamp};
pub const CENTS: FieldType = FieldType::Decimal { scale: 2 };
pub const FINE: FieldType = FieldType::Decimal { scale: 4 };

pub type Columns = &'static [(&'static str, FieldType, bool)];
pub type Links = &'static [(&'static str, &'static str, &'static [(&'static str, &'static str)], bool)];

pub struct Kind {
    pub name: &'static str,
    pub key: &'static [&'static str],
    pub fields: Columns,
    pub links: Links,
}

pub const KINDS: [Kind; 3] = [
    Kind {
        name: "r_person",
        key: &["id"],
        fields: &[
            ("id", Integer, true),
            ("name", Text, true),
            ("town", Text, false),
            ("vip", Boolean, false),
            ("active", Boolean, true),
            ("born", Date, false),
            ("joined", Timestamp, false),
            ("seen", Timestamp, true),
            ("score", Double, false),
            ("visits", Integer, false),
            ("credit", CENTS, false),
            ("fee", FINE, true),
            ("house", Text, false),
            ("room_no", Integer, false),
            ("boss_id", Integer, false),
        ],
        links: &[
            ("orders", "r_order", &[("id", "person_id")], true),
            ("boss", "r_person", &[("boss_id", "id")], false),
            ("room", "r_room", &[("house", "house"), ("room_no", "no")], false),
        ],
    },
    Kind {
        name: "r_room",
        key: &["house", "no"],
        fields: &[
            ("house", Text, true),
            ("no", Integer, true),
            ("title", Text, false),
            ("rate", CENTS, true),
            ("open", Boolean, false),
        ],
        links: &[("guests", "r_person", &[("house", "house"), ("no", "room_no")], true)],
    },
    Kind {
        name: "r_order",
        key: &["id"],
        fields: &[
            ("id", Integer, true),
            ("person_id", Integer, false),
            ("amount", CENTS, false),
            ("n", Integer, false),
            ("status", Text, true),
            ("placed", Timestamp, false),
            ("day", Date, true),
            ("weight", Double, false),
        ],
        links: &[("person", "r_person", &[("person_id", "id")], false)],
    },
];

pub fn kind(name: &str) -> &'static Kind {
    KINDS.iter().find(|k| k.name == name).unwrap()
}

pub fn schema() -> Schema {
    let entity = |k: &Kind| Entity {
        name: k.name.into(),
        key: k.key.iter().map(|&s| s.into()).collect(),
        fields: k.fields.iter().map(|&(name, ty, is_required)| Field { name: name.into(), ty, is_required }).collect(),
        links: k
            .links
            .iter()
            .map(|&(name, to, keys, is_many)| Link {
                name: name.into(),
                to: to.into(),
                keys: keys.iter().map(|&(a, b)| (a.into(), b.into())).collect(),
                is_many,
            })
            .collect(),
        table: Table { schema: None, name: k.name.into() },
        conditions: conditions_of(k.name)
            .into_iter()
            .map(|(name, part)| Condition { name: name.into(), text: text(&part, k.name) })
            .collect(),
        ..Entity::default()
    };
    Schema { entities: KINDS.iter().map(|k| (k.name.to_owned(), entity(k))).collect(), ..Schema::default() }
}

pub type Row = BTreeMap<&'static str, Val>;
pub type Rows = BTreeMap<&'static str, Vec<Row>>;

pub const TEXTS: [&str; 12] =
    ["", "Rome", "rome", "ROMA", "a%b_c", "a", "ab", "Zürich", "ÄÖ", "it's \"q\" \\ ?1 $1", "日本", "Z"];

pub fn any_value(ty: FieldType, dice: &mut Dice) -> Val {
    let at = |s: &str| Val::Time(s.parse::<jiff::Timestamp>().unwrap().as_microsecond());
    match ty {
        Text => Val::Text(dice.one_of(&TEXTS).to_owned()),
        Integer => Val::Int(dice.below(9) as i64 - 2),
        // Quarters, so that sums of Doubles are exact in any order.
        Double => Val::Double((dice.below(24) as f64 - 6.0) / 4.0),
        Boolean => Val::Bool(dice.below(2) == 0),
        Date => Val::Date(dice.one_of(&["1990-05-01", "2000-02-29", "2026-04-30", "2026-05-01"]).parse().unwrap()),
        Timestamp => at(dice.one_of(&[
            "1969-12-31T23:59:59.5Z",
            "2026-04-30T22:00:00Z",
            "2026-05-01T00:00:00Z",
            "2026-05-01T09:00:00.000001Z",
            "2026-05-03T12:30:00Z",
        ])),
        FieldType::Decimal { scale } => {
            let n = i128::from(dice.one_of(&[0_i64, 10, 50, 100, 250, 1_050, -175, 99, 705]));
            Val::Dec(n * 10_i128.pow(u32::from(scale) - 2), scale.into())
        }
    }
}

pub fn rows(dice: &mut Dice) -> Rows {
    let mut all: Rows = KINDS.iter().map(|k| (k.name, vec![])).collect();
    for (name, count) in [("r_person", 14_i64), ("r_room", 5), ("r_order", 22)] {
        for id in 1..=count {
            let mut row: Row = BTreeMap::new();
            for &(field, ty, is_required) in kind(name).fields {
                let is_missing = !is_required && dice.below(3) == 0;
                row.insert(field, if is_missing { Val::Missing } else { any_value(ty, dice) });
            }
            let house = |dice: &mut Dice| Val::Text(dice.one_of(&["Ä", "B"]).to_owned());
            match name {
                "r_room" => {
                    row.insert("house", Val::Text(if id % 2 == 0 { "Ä" } else { "B" }.to_owned()));
                    row.insert("no", Val::Int(id));
                }
                "r_person" => {
                    row.insert("id", Val::Int(id));
                    if row["house"] != Val::Missing {
                        row.insert("house", house(dice));
                    }
                    if row["boss_id"] != Val::Missing {
                        row.insert("boss_id", Val::Int(dice.below(18) as i64));
                    }
                }
                _ => {
                    row.insert("id", Val::Int(100 + id));
                    if row["person_id"] != Val::Missing {
                        row.insert("person_id", Val::Int(dice.below(18) as i64));
                    }
                }
            }
            all.get_mut(name).unwrap().push(row);
        }
    }
    all
}

pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

pub fn statements(rows: &Rows, dialect: Dialect) -> Vec<String> {
    let mut all = vec![];
    for k in &KINDS {
        let columns: Vec<String> = k
            .fields
            .iter()
            .map(|&(name, ty, is_required)| {
                let ty = match (ty, dialect) {
                    (Text, _) | (Date, Dialect::Sqlite) => "TEXT".to_owned(),
                    (Date, Dialect::Postgres) => "DATE".to_owned(),
                    (Boolean, _) => "BOOLEAN".to_owned(),
                    (Double, _) => "DOUBLE PRECISION".to_owned(),
                    (Timestamp, Dialect::Postgres) => "TIMESTAMPTZ".to_owned(),
                    (FieldType::Decimal { scale }, Dialect::Postgres) => format!("NUMERIC(18, {scale})"),
                    _ => "BIGINT".to_owned(),
                };
                format!("{name} {ty}{}", if is_required { " NOT NULL" } else { "" })
            })
            .collect();
        all.push(format!("CREATE TABLE {} ({}, PRIMARY KEY ({}))", k.name, columns.join(", "), k.key.join(", ")));
        for row in &rows[k.name] {
            let values = k.fields.iter().map(|(name, ..)| match (&row[name], dialect) {
                (Val::Missing | Val::Span(_) | Val::Fault, _) => "NULL".to_owned(),
                (Val::Text(s), _) => quoted(s),
                (Val::Int(n), _) => n.to_string(),
                (Val::Double(d), _) => format!("{d:?}"),
                (Val::Bool(b), _) => b.to_string(),
                (Val::Date(d), _) => format!("'{d}'"),
                (Val::Time(us), Dialect::Sqlite) => us.to_string(),
                (Val::Time(us), Dialect::Postgres) => {
                    format!("'{}'", jiff::Timestamp::from_microsecond(*us).unwrap())
                }
                (Val::Dec(n, _), Dialect::Sqlite) => n.to_string(),
                (Val::Dec(n, scale), Dialect::Postgres) => format!("{n} * 1e-{scale}"),
            });
            let values: Vec<String> = values.collect();
            all.push(format!("INSERT INTO {} VALUES ({})", k.name, values.join(", ")));
        }
    }
    all
}
