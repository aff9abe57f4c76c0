//! Which rows come first where not all are kept: by a field, by a list of its values, or at random.
//!
//! Ties go to the lower key, so that a run and its plan agree. A missing value comes after every other.

use sea_query::{Expr, ExprTrait};

use super::Place;
use crate::{
    api::{audience::Parameter, step::Keep},
    plan::{Finding, message::canonical},
    rule::{Dialect, FieldType, Path, Query, schema::Entity},
};

pub enum Order {
    By {
        path: Path,
        ty: FieldType,
        is_last: bool,
    },
    Prefer {
        path: Path,
        values: Vec<Parameter>,
    },
    /// By the MD5 of `seed|key`, which both databases compute alike.
    Random {
        seed: String,
    },
}

impl Order {
    /// Checks `keep`, the field `field` of the activity `word`.
    pub fn compile(keep: &Keep, place: &Place<'_>, entity: &Entity, word: &str, field: &str) -> Result<Self, Finding> {
        let by = |text: &str, is_last: bool| {
            let part = if is_last { "last" } else { "first" };
            let (path, ty) = place.one_field(text, &entity.name, word, &format!("{field}.{part}"))?;
            Ok(Self::By { path, ty, is_last })
        };
        match keep {
            Keep::First(text) => by(text, false),
            Keep::Last(text) => by(text, true),
            Keep::Random(random) => Ok(Self::Random { seed: random.seed.clone() }),
            Keep::Prefer(prefer) => {
                let at = format!("{field}.prefer");
                let (path, ty) = place.one_field(&prefer.field, &entity.name, word, &format!("{at}.field"))?;
                for (index, value) in prefer.values.iter().enumerate() {
                    let fits = matches!(
                        (value, ty),
                        (Parameter::String(_), FieldType::String)
                            | (Parameter::Integer(_), FieldType::Integer)
                            | (Parameter::Boolean(_), FieldType::Boolean)
                    );
                    if !fits {
                        let message = if matches!(ty, FieldType::String | FieldType::Integer | FieldType::Boolean) {
                            format!("`{}` is {}, and this value is not", prefer.field, words(ty))
                        } else {
                            format!(
                                "values of {} cannot be listed: only of a String, an Integer or a Boolean",
                                words(ty)
                            )
                        };
                        return Err(place.finding(word, &format!("{at}.values[{index}]"), message));
                    }
                }
                Ok(Self::Prefer { path, values: prefer.values.clone() })
            }
        }
    }

    /// What stands behind ORDER BY, with `?` for each of the expressions.
    pub fn terms(&self, query: &mut Query<'_>, entity: &Entity) -> (String, Vec<Expr>) {
        let (first, mut parts) = match self {
            Self::By { path, ty, is_last } => {
                let collate = collation(*ty, query.dialect());
                let way = if *is_last { "DESC" } else { "ASC" };
                (format!("?{collate} {way} NULLS LAST"), vec![query.path(path)])
            }
            Self::Prefer { path, values } => {
                let field = query.path(path);
                let mut ranks = String::from("CASE");
                let mut parts = vec![];
                for (rank, value) in values.iter().enumerate() {
                    ranks.push_str(&format!(" WHEN ? THEN {rank}"));
                    parts.push(field.clone().eq(constant(value)));
                }
                (format!("{ranks} ELSE {} END", values.len()), parts)
            }
            Self::Random { seed } => {
                let key = canonical(query, entity, &[]);
                let collate = collation(FieldType::String, query.dialect());
                (format!("md5(CAST(? AS TEXT) || '|' || ?){collate}"), vec![Expr::val(seed.clone()), key])
            }
        };
        parts.extend(query.key());
        (format!("{first}, {}", key_terms(entity, query.dialect())), parts)
    }
}

/// The key's columns in their own order.
pub fn key_terms(entity: &Entity, dialect: Dialect) -> String {
    let term = |name: &String| {
        let ty = entity.field(name).map_or(FieldType::Integer, |f| f.ty);
        format!("?{}", collation(ty, dialect))
    };
    entity.key.iter().map(term).collect::<Vec<_>>().join(", ")
}

/// Both databases order texts by their bytes.
pub fn collation(ty: FieldType, dialect: Dialect) -> &'static str {
    if ty == FieldType::String && dialect == Dialect::Postgres { " COLLATE \"C\"" } else { "" }
}

fn constant(value: &Parameter) -> Expr {
    match value {
        Parameter::Boolean(b) => Expr::val(*b),
        Parameter::Integer(n) => Expr::val(*n),
        Parameter::Double(d) => Expr::val(*d),
        Parameter::String(s) => Expr::val(s.clone()),
    }
}

/// The type as one says it of a field.
pub fn words(ty: FieldType) -> String {
    match ty {
        FieldType::Integer => "an Integer".to_owned(),
        FieldType::Decimal { .. } => "a Decimal".to_owned(),
        other => format!("a {other:?}"),
    }
}
