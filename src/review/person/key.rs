//! Whose key was given: `23` is the person's, `rental=1457` that of a row of another entity.

use sea_query::SelectStatement;

use crate::{
    api::dataset::{DatasetSpec, Entity, FieldKind},
    rule::{Dialect, nearest},
    store::entity::keys_given,
};

/// The row that is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub entity: String,
    /// The canonical text of its key.
    pub item: String,
}

impl Subject {
    /// Reads `KEY` or `ENTITY=KEY`. A key of several fields is a JSON list, or its parts with commas between them.
    ///
    /// # Errors
    /// A sentence and a hint; without the key, which is personal.
    pub fn read(text: &str, dataset: &DatasetSpec) -> Result<Self, (String, Option<String>)> {
        let (name, key) = match text.split_once('=') {
            Some((name, key)) if dataset.entity(name).is_some() => (name, key),
            Some((name, _)) if is_word(name) => {
                let near = nearest(name, dataset.entities.iter().map(|entity| &*entity.name));
                let hint = near.map(|near| format!("did you mean `{near}={}`?", "…"));
                return Err((format!("there is no entity `{name}`"), hint));
            }
            _ => (&*dataset.profile.entity, text),
        };
        let lost = || (format!("there is no entity `{name}`"), None);
        let entity = dataset.entity(name).ok_or_else(lost)?;
        let item = canonical(key, entity).map_err(|why| {
            let fields = entity.key.iter().map(|field| &**field).collect::<Vec<_>>().join(", ");
            let hint = match entity.key.len() {
                1 => format!("the key of {name} is {fields}"),
                _ => format!("the key of {name} is ({fields}): write its parts with commas, or as a JSON list"),
            };
            (format!("this is no key of {name}: {why}"), Some(hint))
        })?;
        Ok(Self { entity: name.to_owned(), item })
    }

    /// The SELECT of its key.
    pub fn select(&self, dataset: &DatasetSpec, dialect: Dialect) -> SelectStatement {
        let entity = dataset.entity(&self.entity);
        entity.map_or_else(SelectStatement::new, |entity| keys_given(dialect, entity, std::slice::from_ref(&self.item)))
    }
}

fn is_word(text: &str) -> bool {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    text.starts_with(is_first) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The canonical text of a key, as the ledger keeps it; each part must fit its field.
///
/// # Errors
/// What does not fit, in words.
pub fn canonical(text: &str, entity: &Entity) -> Result<String, String> {
    let kind = |index: usize| {
        let field = entity.fields.iter().find(|field| field.name == entity.key[index]);
        field.map_or(FieldKind::String, |field| field.kind)
    };
    if entity.key.len() == 1 {
        return part(text, kind(0)).map(|part| match part {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        });
    }
    let texts: Vec<String> = match serde_json::from_str::<Vec<serde_json::Value>>(text) {
        Ok(list) => {
            let text = |value: serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            list.into_iter().map(text).collect()
        }
        Err(_) => text.split(',').map(|part| part.trim().to_owned()).collect(),
    };
    if texts.len() != entity.key.len() {
        return Err(format!("it has {} of {} parts", texts.len(), entity.key.len()));
    }
    let parts = texts.iter().enumerate().map(|(index, text)| part(text, kind(index)));
    Ok(serde_json::Value::Array(parts.collect::<Result<_, _>>()?).to_string())
}

fn part(text: &str, kind: FieldKind) -> Result<serde_json::Value, String> {
    match kind {
        FieldKind::Integer => {
            let number = text.trim().parse::<i64>();
            number.map(serde_json::Value::from).map_err(|_| "it is not an Integer".to_owned())
        }
        FieldKind::Date => {
            let date = text.trim().parse::<jiff::civil::Date>();
            date.map(|date| date.to_string().into()).map_err(|_| "it is not a Date".to_owned())
        }
        // PostgreSQL takes no NUL.
        _ if text.contains('\0') => Err("it holds a NUL".to_owned()),
        _ => Ok(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: &str = "
entities:
- {name: customer, key: [id], fields: [{name: id, type: Integer}]}
- {name: visit, key: [shop, day], fields: [{name: shop, type: String}, {name: day, type: Date}]}
profile: {entity: customer, addresses: {}}
";

    #[test]
    fn keys_are_read_in_the_types_of_their_fields() {
        let spec: DatasetSpec = serde_yaml::from_str(SHOP).unwrap();
        let read = |text: &str| Subject::read(text, &spec).map(|s| format!("{} {}", s.entity, s.item));
        assert_eq!(read("007").unwrap(), "customer 7");
        assert_eq!(read("customer=7").unwrap(), "customer 7");
        assert_eq!(read("visit=a, 2026-01-02").unwrap(), r#"visit ["a","2026-01-02"]"#);
        assert_eq!(read(r#"visit=["a,b","2026-01-02"]"#).unwrap(), r#"visit ["a,b","2026-01-02"]"#);
        let wrong = ["secret", "custmer=7", "visit=a", "visit=a,soon"].map(|text| read(text).unwrap_err());
        insta::assert_debug_snapshot!(wrong);
    }
}
