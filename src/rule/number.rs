//! How numbers of different types meet: what type comes out, and at what scale.

use super::{
    ast::{Arithmetic, Node, Type, Typed},
    schema::FieldType,
};

/// The type of `a ∘ b`: a Double makes a Double, unless it is a literal beside a Decimal.
pub(super) fn number_of(what: Arithmetic, a: &Typed, b: &Typed) -> Type {
    use FieldType::{Decimal, Double};
    let of = |x: &Typed, other: &Typed| match (x.ty, &x.node, other.ty) {
        (Type::Field(Double), Node::Double(d), Type::Field(Decimal { .. })) => {
            Type::Field(Decimal { scale: scale_of(*d) })
        }
        (ty, ..) => ty,
    };
    match (of(a, b), of(b, a)) {
        (Type::Field(Double), _) | (_, Type::Field(Double)) => Type::DOUBLE,
        (x, y) if what == Arithmetic::Divide && (x, y) != (Type::INTEGER, Type::INTEGER) => Type::DOUBLE,
        (Type::Field(Decimal { scale: x }), Type::Field(Decimal { scale: y })) if what == Arithmetic::Multiply => {
            Type::Field(Decimal { scale: x + y })
        }
        (Type::Field(Decimal { scale: x }), Type::Field(Decimal { scale: y })) => {
            Type::Field(Decimal { scale: x.max(y) })
        }
        (Type::Field(Decimal { scale }), _) | (_, Type::Field(Decimal { scale })) => Type::Field(Decimal { scale }),
        _ => Type::INTEGER,
    }
}

/// The representation both sides of a comparison share; a Double literal beside a Decimal is a Decimal.
pub(super) fn number_target(a: &Typed, b: &Typed) -> FieldType {
    let of = |x: &Typed, other: &Typed| match (x.ty, &x.node, other.ty) {
        (_, Node::Double(d), Type::Field(FieldType::Decimal { .. })) => FieldType::Decimal { scale: scale_of(*d) },
        (Type::Field(ty), ..) => ty,
        (Type::Duration, ..) => FieldType::Integer,
    };
    match (of(a, b), of(b, a)) {
        (FieldType::Double, _) | (_, FieldType::Double) => FieldType::Double,
        (FieldType::Decimal { scale: x }, FieldType::Decimal { scale: y }) => {
            FieldType::Decimal { scale: Ord::max(x, y) }
        }
        (decimal @ FieldType::Decimal { .. }, _) | (_, decimal @ FieldType::Decimal { .. }) => decimal,
        _ => FieldType::Integer,
    }
}

/// Digits behind the point in the shortest text that reads back as `d`: what the author wrote.
pub(super) fn scale_of(d: f64) -> u8 {
    let text = format!("{d}");
    let digits = text.split_once('.').map_or(0, |(_, part)| part.len());
    u8::try_from(digits).unwrap_or(u8::MAX).min(18)
}

/// `150.5` at scale 2 is 15050; what does not fit is as far out as an integer goes.
pub(super) fn scaled(text: &str, scale: u8) -> i64 {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let padded = format!("{whole}{part:0<width$}", width = usize::from(scale));
    let cut = &padded[..(whole.len() + usize::from(scale)).min(padded.len())];
    cut.parse::<i64>().map_or(i64::MAX, |n| n).saturating_mul(sign)
}
