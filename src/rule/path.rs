//! Paths in activities and templates: `booking.customer.email`, `inventory.rentals.customer`.

use std::ops::Range;

use super::{
    problem::Problem,
    schema::{Entity, FieldType, Schema},
};

/// A path is at most this many names long; each hop is a join.
const NAMES_MAX: usize = 8;

/// Links from an entity, and at most a field at the end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    pub hops: Vec<String>,
    pub field: Option<String>,
    /// The entity reached.
    pub entity: String,
    /// Whether one of the links leads to many rows.
    pub is_many: bool,
}

impl Path {
    /// The path to a field of the entity itself.
    pub fn own(entity: &str, field: &str) -> Self {
        Self { hops: vec![], field: Some(field.to_owned()), entity: entity.to_owned(), is_many: false }
    }

    /// The type of the field at the end.
    pub fn field_type(&self, schema: &Schema) -> Option<FieldType> {
        schema.entity(&self.entity)?.field(self.field.as_deref()?).map(|f| f.ty)
    }

    /// This path, continued by another that begins where it ends.
    pub fn join(&self, rest: &Path) -> Path {
        Path {
            hops: self.hops.iter().chain(&rest.hops).cloned().collect(),
            field: rest.field.clone(),
            entity: rest.entity.clone(),
            is_many: self.is_many || rest.is_many,
        }
    }
}

/// Reads a path that begins with the entity's own name, or with one of its fields or links.
pub fn check_path(text: &str, schema: &Schema, entity: &str) -> Result<Path, Problem> {
    let Some(mut at) = schema.entity(entity) else {
        return Err(Problem::new(format!("there is no entity `{entity}`"), 0..text.len()));
    };
    let mut names = spans(text);
    if names.len() > NAMES_MAX {
        return Err(Problem::new(format!("a path has at most {NAMES_MAX} names"), 0..text.len()));
    }
    if names.first().is_some_and(|(name, _)| *name == entity) && names.len() > 1 {
        names.remove(0);
    } else if names.len() == 1 && names[0].0 == entity {
        return Ok(Path { hops: vec![], field: None, entity: entity.to_owned(), is_many: false });
    }
    let mut path = Path { hops: vec![], field: None, entity: entity.to_owned(), is_many: false };
    for (index, (name, span)) in names.iter().enumerate() {
        if let Some(link) = at.link(name) {
            let Some(next) = schema.entity(&link.to) else {
                return Err(Problem::new(format!("{}.{name} leads to no entity", at.name), span.clone()));
            };
            if next.is_history {
                let message = format!("`{name}` is the history of what was sent, and only rules read it");
                return Err(Problem::new(message, span.clone()));
            }
            path.hops.push((*name).to_owned());
            path.is_many |= link.is_many;
            path.entity.clone_from(&link.to);
            at = next;
        } else if at.field(name).is_some() && index + 1 == names.len() {
            path.field = Some((*name).to_owned());
        } else if at.field(name).is_some() {
            return Err(Problem::new(format!("{}.{name} is a field; nothing can follow it", at.name), span.clone()));
        } else {
            return Err(unknown(at, name, span.clone()));
        }
    }
    Ok(path)
}

/// `customer has no field `contry``, with the nearest name.
pub(super) fn unknown(entity: &Entity, name: &str, span: Range<usize>) -> Problem {
    Problem::new(format!("{} has no field or link `{name}`", entity.name), span).suggest(name, entity.names())
}

fn spans(text: &str) -> Vec<(&str, Range<usize>)> {
    let mut start = 0;
    text.split('.')
        .map(|name| {
            let span = start..start + name.len();
            start = span.end + 1;
            (name.trim(), span)
        })
        .collect()
}
