//! What `enrich` steps added, as a template's values.

use minijinja::Value;
use serde_json::{Map, Value as Json};

use super::{job::value_of, template};
use crate::{
    plan::message::{Element, Extra, Held},
    rule::FieldType,
    store::{self, Error, Row, merge::decimal_text},
};

/// The value in a column of a row.
///
/// # Errors
/// [`Error::Internal`] if a list is none, which would be a fault of ours.
pub fn value(row: &Row, index: usize, extra: &Extra) -> store::Result<Value> {
    let (nth, elements) = match &extra.held {
        Held::Value(ty) => return value_of(row, index, *ty),
        Held::List(elements) => (None, elements),
        Held::Row(nth, elements) => (Some(*nth), elements),
    };
    let text = row.get::<Option<String>>(index)?;
    let rows: Vec<Vec<Json>> = match text {
        Some(text) => serde_json::from_str(&text).map_err(|_| Error::Internal("a list is no list".to_owned()))?,
        // No row behind the link.
        None => vec![],
    };
    let is_sqlite = matches!(row, Row::Sqlite(_));
    let seen = |row: &Vec<Json>| template::value(&seen(row, elements, is_sqlite));
    Ok(match nth {
        None => rows.iter().map(seen).collect(),
        Some(nth) => rows.get(nth).map_or(Value::UNDEFINED, seen),
    })
}

/// A row of a list under the names that the template reads.
fn seen(row: &[Json], elements: &[Element], is_sqlite: bool) -> Json {
    let mut all = Map::new();
    for element in elements {
        let value = row.get(element.place).map_or(Json::Null, |value| shown(value, element.ty, is_sqlite));
        put(&mut all, &element.names, value);
    }
    Json::Object(all)
}

fn put(all: &mut Map<String, Json>, names: &[String], value: Json) {
    match names {
        [] => {}
        [last] => drop(all.insert(last.clone(), value)),
        [first, rest @ ..] => {
            let below = all.entry(first.clone()).or_insert_with(|| Json::Object(Map::new()));
            if let Json::Object(below) = below {
                put(below, rest, value);
            }
        }
    }
}

/// A value as the other columns show it; see [`value_of`].
fn shown(value: &Json, ty: FieldType, is_sqlite: bool) -> Json {
    match (ty, value.as_i64()) {
        (FieldType::Timestamp, Some(us)) => Json::String(store::instant(us).to_string()),
        (FieldType::Boolean, Some(n)) => Json::Bool(n != 0),
        (FieldType::Decimal { scale }, Some(n)) if is_sqlite => Json::String(decimal_text(n, scale)),
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::Path;

    #[test]
    fn a_list_has_names_and_types() {
        let element = |names: &[&str], place, ty| Element {
            names: names.iter().map(ToString::to_string).collect(),
            path: Path::own("rental", "x"),
            ty,
            place,
        };
        let elements = [
            element(&["film", "title"], 1, FieldType::String),
            element(&["film", "rate"], 0, FieldType::Decimal { scale: 2 }),
            element(&["late"], 2, FieldType::Boolean),
            element(&["at"], 3, FieldType::Timestamp),
        ];
        let row: Vec<Json> = serde_json::from_str(r#"[299, "Alien", 1, 0]"#).unwrap();
        let film = serde_json::json!({"rate": "2.99", "title": "Alien"});
        let wanted = serde_json::json!({"at": "1970-01-01T00:00:00Z", "film": film, "late": true});
        assert_eq!(seen(&row, &elements, true), wanted);
    }
}
