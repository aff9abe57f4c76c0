//! What a template reads of `enrich` steps: single values, or the rows of a link.

use super::{Wrong, one_field};
use crate::{
    api::step::Shape,
    plan::activity::{Enriched, Kind},
    rule::{FieldType, Path, Schema, nearest},
    send::template::Read,
};

/// A value that an `enrich` step added, under the name that the template reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extra {
    /// The output in whose work table it stands, and the column there.
    pub output: String,
    pub column: String,
    pub name: Vec<String>,
    pub held: Held,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    Value(FieldType),
    /// A list of rows.
    List(Vec<Element>),
    /// The n-th row of a list, counted from 0.
    Row(usize, Vec<Element>),
}

/// A field of a list's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    pub names: Vec<String>,
    pub path: Path,
    pub ty: FieldType,
    /// Where it stands in the row's list of values; known once all templates are.
    pub place: usize,
}

impl Extra {
    /// The type of the column.
    pub fn stored(&self) -> FieldType {
        match self.held {
            Held::Value(ty) => ty,
            Held::List(_) | Held::Row(..) => FieldType::String,
        }
    }

    pub fn elements_mut(&mut self) -> &mut [Element] {
        match &mut self.held {
            Held::Value(_) => &mut [],
            Held::List(elements) | Held::Row(_, elements) => elements,
        }
    }
}

/// An enrichment as a template may name it; the number of the row, where each has a name of its own.
pub(super) struct Named<'e> {
    enriched: &'e Enriched,
    nth: Option<usize>,
}

/// The names that templates may read.
pub(super) fn names(enriched: &[Enriched]) -> Vec<String> {
    enriched.iter().flat_map(names_of).map(|(name, _)| name).collect()
}

fn names_of(enriched: &Enriched) -> Vec<(String, Option<usize>)> {
    match &enriched.kind {
        Kind::Rows { top: 1, shape: Shape::Columns, .. } => vec![(enriched.name.clone(), Some(0))],
        Kind::Rows { top, shape: Shape::Columns, .. } => {
            (0..usize::from(*top)).map(|n| (format!("{}_{}", enriched.name, n + 1), Some(n))).collect()
        }
        _ => vec![(enriched.name.clone(), None)],
    }
}

pub(super) fn named<'e>(enriched: &'e [Enriched], name: &str) -> Option<Named<'e>> {
    enriched.iter().find_map(|enriched| {
        let (_, nth) = names_of(enriched).into_iter().find(|(known, _)| known == name)?;
        Some(Named { enriched, nth })
    })
}

/// What one template reads, each column once.
#[derive(Default)]
pub(super) struct Extras {
    pub all: Vec<Extra>,
}

impl Extras {
    /// Adds a read; what is wrong with it, and which part of it.
    pub fn add<'r>(&mut self, read: &'r Read, named: &Named<'_>, schema: &Schema) -> Vec<(&'r Read, Wrong)> {
        let (first, rest) = (read.names[0].clone(), &read.names[1..]);
        let output = || named.enriched.output.clone();
        match &named.enriched.kind {
            Kind::Value(column, ty) => {
                if !rest.is_empty() || !read.elements.is_empty() {
                    return vec![(read, (format!("`{first}` is one value: nothing is in it"), None))];
                }
                self.put(Extra { output: output(), column: column.clone(), name: vec![first], held: Held::Value(*ty) });
            }
            Kind::Fields(fields) => {
                let known = || fields.iter().map(|(field, _, _)| field.as_str());
                let found = match rest {
                    [field] if read.elements.is_empty() => fields.iter().find(|(known, _, _)| known == field),
                    _ => None,
                };
                let Some((_, column, ty)) = found else {
                    let said = format!("`{}` is not one of the fields of `{first}`", read.names.join("."));
                    let near = rest.first().and_then(|field| nearest(field, known()));
                    let hint = match near {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("it has {}", known().collect::<Vec<_>>().join(", ")),
                    };
                    return vec![(read, (said, Some(hint)))];
                };
                let (name, held) = (read.names.clone(), Held::Value(*ty));
                self.put(Extra { output: output(), column: column.clone(), name, held });
            }
            Kind::Rows { entity, column, .. } => {
                let reads: Vec<(&Read, &[String])> = match named.nth {
                    Some(_) if !read.elements.is_empty() => {
                        return vec![(read, (format!("`{}` is not a list", read.names.join(".")), None))];
                    }
                    Some(_) => vec![(read, rest)],
                    None if !rest.is_empty() => {
                        let hint =
                            format!("read each of its rows: `{{% for x in {first} %}}{{{{ x.{} }}}}`", rest.join("."));
                        return vec![(read, (format!("`{first}` is a list of rows of {entity}"), Some(hint)))];
                    }
                    None => read.elements.iter().map(|element| (element, element.names.as_slice())).collect(),
                };
                let (mut elements, mut wrong) = (vec![], vec![]);
                for (at, names) in reads {
                    match element(names, entity, schema) {
                        _ if named.nth.is_none() && !at.elements.is_empty() => {
                            wrong.push((at, (format!("`{}` is not a list", names.join(".")), None)));
                        }
                        Ok(found) => elements.push(found),
                        Err(said) => wrong.push((at, said)),
                    }
                }
                if !wrong.is_empty() {
                    return wrong;
                }
                let held = named.nth.map_or_else(|| Held::List(vec![]), |nth| Held::Row(nth, vec![]));
                let extra = self.put(Extra { output: output(), column: column.clone(), name: vec![first], held });
                if let Held::List(known) | Held::Row(_, known) = &mut extra.held {
                    elements.retain(|element| !known.contains(element));
                    known.extend(elements);
                }
            }
        }
        vec![]
    }

    /// The extra of this name, which is the given one where it is new.
    fn put(&mut self, extra: Extra) -> &mut Extra {
        let known = self.all.iter().position(|known| known.name == extra.name);
        let index = known.unwrap_or(self.all.len());
        if known.is_none() {
            self.all.push(extra);
        }
        &mut self.all[index]
    }
}

fn element(names: &[String], entity: &str, schema: &Schema) -> Result<Element, Wrong> {
    if names.is_empty() {
        let hint = "name one of its fields".to_owned();
        return Err((format!("this is a row of {entity}, not a field"), Some(hint)));
    }
    let (path, ty) = one_field(&names.join("."), schema, entity)?;
    Ok(Element { names: names.to_vec(), path, ty, place: 0 })
}
