//! The rows of a test, typed as the Dataset says, as text in the order of each entity's fields.

use std::{
    collections::BTreeMap,
    path::{Component, Path},
};

use serde_json::{Map, Value as Json};

use crate::{
    api::{
        dataset::{DatasetSpec, Entity},
        test::{Key, Keys, Rows},
    },
    review::{
        person::key::canonical,
        persona::{of_text, typed},
    },
    rule::nearest,
};

/// Rows of one file: more is no fixture.
const FILE_ROWS_MAX: usize = 100_000;

/// What is wrong, and at which path of the test.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    pub path: String,
    pub message: String,
    pub hint: Option<String>,
}

impl Wrong {
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), hint: None }
    }

    pub fn near<'n>(mut self, name: &str, known: impl IntoIterator<Item = &'n str>) -> Self {
        self.hint = nearest(name, known).map(|near| format!("did you mean `{near}`?"));
        self
    }
}

/// A row's values in the order of the entity's fields; none is missing.
pub type Row = Vec<Option<String>>;

/// What a private store is loaded with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fixture {
    /// By entity and canonical key.
    pub rows: BTreeMap<String, BTreeMap<String, Row>>,
    /// By audience, the canonical keys of its rows.
    pub audiences: BTreeMap<String, Vec<String>>,
}

impl Fixture {
    /// Adds rows; of a key that is there the values that are given count.
    pub fn add(
        &mut self,
        data: &BTreeMap<String, Rows>,
        dataset: &DatasetSpec,
        (at, folder): (&str, &Path),
        wrong: &mut Vec<Wrong>,
    ) {
        for (name, rows) in data {
            let path = format!("{at}.{name}");
            let Some(entity) = dataset.entity(name) else {
                let known = dataset.entities.iter().map(|entity| &*entity.name);
                wrong.push(Wrong::new(path, format!("the dataset has no entity `{name}`")).near(name, known));
                continue;
            };
            match rows {
                Rows::Listed(rows) => {
                    for (index, row) in rows.iter().enumerate() {
                        self.put(entity, row, &format!("{path}[{index}]"), wrong);
                    }
                }
                Rows::File(file) => match read_csv(&file.csv, folder, entity) {
                    Ok(rows) => {
                        for (line, row) in rows {
                            let mut found = vec![];
                            self.put(entity, &row, "", &mut found);
                            let within = |w: Wrong| Wrong {
                                path: path.clone(),
                                message: format!("line {line}: {}", w.message),
                                ..w
                            };
                            wrong.extend(found.into_iter().map(within));
                        }
                    }
                    Err(message) => wrong.push(Wrong::new(format!("{path}.csv"), message)),
                },
            }
        }
    }

    fn put(&mut self, entity: &Entity, row: &Map<String, Json>, at: &str, wrong: &mut Vec<Wrong>) {
        let before = wrong.len();
        let path = |name: &str| if at.is_empty() { String::new() } else { format!("{at}.{name}") };
        for name in row.keys() {
            if !entity.fields.iter().any(|field| *field.name == **name) {
                let known = entity.fields.iter().map(|field| &*field.name);
                wrong.push(Wrong::new(path(name), format!("{} has no field `{name}`", entity.name)).near(name, known));
            }
        }
        let mut values: BTreeMap<&str, Option<String>> = BTreeMap::new();
        for field in &entity.fields {
            let Some(json) = row.get(&*field.name) else { continue };
            match typed(json, field) {
                Ok(value) => drop(values.insert(&field.name, text_of(&value))),
                Err(why) => wrong.push(Wrong::new(path(&field.name), format!("`{}` is {why}", field.name))),
            }
        }
        let parts: Option<Vec<String>> = entity.key.iter().map(|name| values.get(&**name).cloned().flatten()).collect();
        let Some(parts) = parts else {
            let keys = entity.key.iter().map(|key| &**key).collect::<Vec<_>>().join(", ");
            wrong.push(Wrong::new(at, format!("a row of {} needs its key ({keys})", entity.name)));
            return;
        };
        if wrong.len() > before {
            return;
        }
        let key = serde_json::to_string(&parts).unwrap_or_default();
        let rows = self.rows.entry(entity.name.to_string()).or_default();
        let known = rows.entry(key).or_insert_with(|| vec![None; entity.fields.len()]);
        for (place, field) in entity.fields.iter().enumerate() {
            if let Some(value) = values.remove(&*field.name) {
                known[place] = value;
            }
        }
        for (place, field) in entity.fields.iter().enumerate() {
            if field.required && known[place].is_none() {
                wrong.push(Wrong::new(at, format!("`{}` of {} is required", field.name, entity.name)));
            }
        }
    }
}

fn text_of(value: &Json) -> Option<String> {
    match value {
        Json::Null => None,
        Json::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// A row of a file as it would stand in a list, and its line.
type Line = (u64, Map<String, Json>);

/// The rows of a file.
fn read_csv(name: &str, folder: &Path, entity: &Entity) -> Result<Vec<Line>, String> {
    if Path::new(name).components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err("a file stands beside the test or below it".to_owned());
    }
    let path = folder.join(name);
    let mut reader = csv::Reader::from_path(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let header = reader.headers().map_err(|e| format!("{}: {e}", path.display()))?.clone();
    let mut rows = vec![];
    for record in reader.records() {
        let record = record.map_err(|e| format!("{}: {e}", path.display()))?;
        let line = record.position().map_or(0, csv::Position::line);
        let mut row = Map::new();
        for (name, text) in header.iter().zip(&record) {
            // A file has only text: what it is, its field says.
            let field = entity.fields.iter().find(|field| *field.name == *name);
            let json = match field {
                Some(field) => of_text(text, field).map_err(|why| format!("line {line}: `{name}` is {why}"))?,
                None => Json::String(text.to_owned()),
            };
            row.insert(name.to_owned(), json);
        }
        rows.push((line, row));
        if rows.len() > FILE_ROWS_MAX {
            return Err(format!("more than {FILE_ROWS_MAX} rows"));
        }
    }
    Ok(rows)
}

/// The canonical text of a key.
///
/// # Errors
/// What does not fit, in words.
pub fn key_of(key: &Key, entity: &Entity) -> Result<String, String> {
    let text = match &key.0 {
        Json::String(text) => text.clone(),
        Json::Null | Json::Object(_) => return Err("it is no key".to_owned()),
        other => other.to_string(),
    };
    canonical(&text, entity)
}

/// The canonical texts of keys; what is wrong is added to `wrong`.
pub fn keys_of(keys: &Keys, entity: &Entity, at: &str, wrong: &mut Vec<Wrong>) -> Vec<String> {
    let mut found = vec![];
    for (index, key) in keys.0.iter().enumerate() {
        match key_of(key, entity) {
            Ok(key) => found.push(key),
            Err(why) => {
                let message = format!("this is no key of {}: {why}", entity.name);
                wrong.push(Wrong::new(format!("{at}[{index}]"), message));
            }
        }
    }
    found
}
