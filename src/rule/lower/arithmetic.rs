//! Numbers, instants and lengths of time.

use sea_query::{Expr, ExprTrait};

use super::Lowering;
use crate::rule::{
    ast::{Arithmetic, Node, Type, Typed},
    number::{scale_of, scaled},
    schema::{Dialect, FieldType},
};

impl Lowering<'_> {
    /// A Date as its midnight, UTC.
    pub(super) fn instant(&mut self, typed: &Typed) -> Expr {
        match (&typed.node, typed.ty, self.dialect) {
            (Node::Date(date), ..) => {
                let midnight =
                    date.to_zoned(jiff::tz::TimeZone::UTC).map_or(jiff::Timestamp::UNIX_EPOCH, |z| z.timestamp());
                self.timestamp(midnight)
            }
            (_, Type::DATE, Dialect::Postgres) => {
                let value = self.value(typed);
                self.custom("(CAST(? AS timestamp) AT TIME ZONE 'UTC')", [value])
            }
            (_, Type::DATE, Dialect::Sqlite) => {
                let value = self.value(typed);
                self.custom("(CAST(strftime('%s', ?) AS INTEGER) * 1000000)", [value])
            }
            _ => self.value(typed),
        }
    }

    /// To the microsecond; PostgreSQL would round what is finer.
    pub(super) fn timestamp(&self, at: jiff::Timestamp) -> Expr {
        let at_us = at.as_microsecond();
        match self.dialect {
            Dialect::Sqlite => Expr::val(at_us),
            Dialect::Postgres => {
                let at = jiff::Timestamp::from_microsecond(at_us).unwrap_or(at);
                self.custom("CAST(? AS timestamptz)", [Expr::val(at.to_string())])
            }
        }
    }

    /// A number in the representation that both sides of an operation share.
    pub(super) fn number(&mut self, typed: &Typed, target: FieldType) -> Expr {
        let scale = match target {
            FieldType::Decimal { scale } => scale,
            FieldType::Double => return self.double(typed),
            _ => return self.value(typed),
        };
        match (&typed.node, typed.ty, self.dialect) {
            (Node::Double(d), _, Dialect::Sqlite) => Expr::val(scaled(&format!("{d}"), scale)),
            (Node::Double(d), _, Dialect::Postgres) => self.custom("CAST(? AS numeric)", [Expr::val(format!("{d}"))]),
            (Node::Integer(n), _, Dialect::Sqlite) => Expr::val(scaled(&n.to_string(), scale)),
            (_, ty, Dialect::Sqlite) => {
                let own = if let Type::Field(FieldType::Decimal { scale }) = ty { scale } else { 0 };
                let value = self.value(typed);
                if own == scale {
                    value
                } else {
                    value.mul(10_i64.saturating_pow(u32::from(scale.saturating_sub(own))))
                }
            }
            (_, _, Dialect::Postgres) => self.value(typed),
        }
    }

    /// sqlx keeps prepared statements by their text, and PostgreSQL reads the bytes of a bind as the type that the
    /// statement was first prepared with: without the cast `score > 1.5` would be run as `score > 1` was prepared.
    pub(super) fn double_constant(&self, d: f64) -> Expr {
        match self.dialect {
            Dialect::Sqlite => Expr::val(d),
            Dialect::Postgres => self.custom("CAST(? AS double precision)", [Expr::val(d)]),
        }
    }

    pub(super) fn double(&mut self, typed: &Typed) -> Expr {
        let value = self.value(typed);
        match (typed.ty, self.dialect) {
            (Type::Field(FieldType::Decimal { scale }), Dialect::Sqlite) => {
                self.custom("(? / ?)", [value, Expr::val(10_f64.powi(i32::from(scale)))])
            }
            (Type::Field(FieldType::Decimal { .. }), Dialect::Postgres) => {
                self.custom("CAST(? AS double precision)", [value])
            }
            _ => value,
        }
    }

    pub(super) fn arithmetic(&mut self, ty: Type, what: Arithmetic, a: &Typed, b: &Typed) -> Expr {
        let template = format!("(? {} ?)", what.sql());
        match (a.ty, b.ty) {
            (x, y) if x.is_number() && y.is_number() => {
                let (a, b) = match (ty, what) {
                    // Scales add up under multiplication, so each side keeps its own.
                    (Type::Field(FieldType::Decimal { .. }), Arithmetic::Multiply) => {
                        (self.own_scale(a), self.own_scale(b))
                    }
                    (Type::Field(target), _) => (self.number(a, target), self.number(b, target)),
                    _ => (self.value(a), self.value(b)),
                };
                self.custom(&template, [a, b])
            }
            (x, y) if x.is_time() && y.is_time() => {
                let (a, b) = (self.instant(a), self.instant(b));
                match self.dialect {
                    Dialect::Sqlite => self.custom("(? - ?)", [a, b]),
                    Dialect::Postgres => self.custom("CAST(extract(epoch FROM (? - ?)) * 1000000 AS bigint)", [a, b]),
                }
            }
            (Type::Duration, Type::Duration) => {
                let (a, b) = (self.value(a), self.value(b));
                self.custom(&template, [a, b])
            }
            (x, _) => {
                let (time, span) = if x == Type::Duration { (b, a) } else { (a, b) };
                let (time, span) = (self.instant(time), self.value(span));
                match self.dialect {
                    Dialect::Sqlite => self.custom(&template, [time, span]),
                    Dialect::Postgres => {
                        self.custom(&format!("(? {} ? * interval '1 microsecond')", what.sql()), [time, span])
                    }
                }
            }
        }
    }

    pub(super) fn own_scale(&mut self, typed: &Typed) -> Expr {
        match &typed.node {
            Node::Double(d) => self.number(typed, FieldType::Decimal { scale: scale_of(*d) }),
            _ => self.value(typed),
        }
    }
}
