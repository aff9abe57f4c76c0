//! Numbers, instants and lengths of time.

use sea_query::{Expr, ExprTrait};

use super::Lowering;
use crate::rule::{
    Param,
    ast::{Arithmetic, Function, Node, Type, Typed},
    fault::{faults_itself, is_double_operation},
    number::{scale_of, scaled},
    schema::{Dialect, FieldType},
};

impl Lowering<'_> {
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

    pub(super) fn arithmetic(&mut self, typed: &Typed, what: Arithmetic, a: &Typed, b: &Typed) -> Expr {
        let operation =
            Operation { what, is_checked: faults_itself(typed, self.dialect) || is_double_operation(typed) };
        let plain = format!("(? {} ?)", what.sql());
        match (a.ty, b.ty, self.dialect) {
            (x, y, Dialect::Postgres) if x.is_time() && y.is_time() => {
                let (a, b) = (self.instant(a), self.instant(b));
                self.custom("CAST(extract(epoch FROM (? - ?)) * 1000000 AS bigint)", [a, b])
            }
            (x, y, Dialect::Postgres) if x.is_time() || y.is_time() => {
                let (time, span) = if x == Type::Duration { (b, a) } else { (a, b) };
                let time = self.instant(time);
                // Written out, a length of time is exact however long.
                if let Some(span_us) = self.constant_span(span) {
                    let interval = Expr::val(format!("{span_us} microseconds"));
                    return self.custom(&format!("(? {} CAST(? AS interval))", what.sql()), [time, interval]);
                }
                let span = self.value(span);
                self.custom(&format!("(? {} ? * interval '1 microsecond')", what.sql()), [time, span])
            }
            _ => {
                let (a, b) = self.operands(typed, what, a, b);
                match self.dialect {
                    Dialect::Postgres => self.custom(&plain, [a, b]),
                    // SQLite would go on in floating point, or call x / 0 missing.
                    Dialect::Sqlite if operation.is_checked => {
                        self.custom(&format!("campanile_{}(?, ?)", operation.name()), [a, b])
                    }
                    Dialect::Sqlite => self.custom(&plain, [a, b]),
                }
            }
        }
    }

    /// Both operands in the representation that the operation computes in.
    fn operands(&mut self, typed: &Typed, what: Arithmetic, a: &Typed, b: &Typed) -> (Expr, Expr) {
        match (typed.ty, what) {
            _ if !(a.ty.is_number() && b.ty.is_number()) => {
                let time = |this: &mut Self, x: &Typed| if x.ty.is_time() { this.instant(x) } else { this.value(x) };
                (time(self, a), time(self, b))
            }
            // Scales add up under multiplication, so each side keeps its own.
            (Type::Field(FieldType::Decimal { .. }), Arithmetic::Multiply) => (self.own_scale(a), self.own_scale(b)),
            (Type::Field(target), _) => (self.number(a, target), self.number(b, target)),
            _ => (self.value(a), self.value(b)),
        }
    }

    /// A length of time that is the same for every row, in microseconds.
    fn constant_span(&self, typed: &Typed) -> Option<i64> {
        let Node::Span(unit_us, n) = &typed.node else { return None };
        let n = match &n.node {
            Node::Integer(n) => *n,
            Node::Param(name) => match self.inputs.params.get(name)? {
                Param::Integer(n) => *n,
                _ => return None,
            },
            _ => return None,
        };
        n.checked_mul(*unit_us)
    }

    /// So many units; out of range is a fault.
    pub(super) fn span(&mut self, typed: &Typed, unit_us: i64, n: &Typed) -> Expr {
        if let Some(span_us) = self.constant_span(typed) {
            return Expr::val(span_us);
        }
        let n = self.value(n);
        match self.dialect {
            Dialect::Sqlite if faults_itself(typed, self.dialect) => {
                self.custom("campanile_multiply(?, ?)", [n, Expr::val(unit_us)])
            }
            _ => self.custom("(? * ?)", [n, Expr::val(unit_us)]),
        }
    }

    /// Whether an operation would fault, asked without making it.
    pub(super) fn faults(&mut self, typed: &Typed) -> Expr {
        const RANGE: &str = "NOT BETWEEN -9223372036854775808 AND 9223372036854775807";
        match (&typed.node, self.dialect) {
            (Node::Arithmetic(what, a, b), Dialect::Sqlite) => {
                let (a, b) = self.operands(typed, *what, a, b);
                let name = Expr::val(Operation { what: *what, is_checked: true }.name());
                self.custom("campanile_faults(?, ?, ?)", [name, a, b])
            }
            (Node::Arithmetic(what, a, b), Dialect::Postgres) if a.ty.is_time() || b.ty.is_time() => {
                let micros = |this: &mut Self, x: &Typed| match x.ty.is_time() {
                    true => {
                        let at = this.instant(x);
                        this.custom("extract(epoch FROM ?) * 1000000", [at])
                    }
                    false => {
                        let span = this.value(x);
                        this.custom("CAST(? AS numeric)", [span])
                    }
                };
                let (a, b) = (micros(self, a), micros(self, b));
                // What a timestamptz can hold.
                let range = "NOT BETWEEN -210866803200000000 AND 9224318015999999999";
                self.custom(&format!("(? {} ?) {range}", what.sql()), [a, b])
            }
            (Node::Arithmetic(what, a, b), Dialect::Postgres) => {
                let (a, b) = self.operands(typed, *what, a, b);
                match (what, typed.ty) {
                    (Arithmetic::Divide, Type::INTEGER) => {
                        self.custom("(? = 0 OR ? = -1 AND ? = -9223372036854775808)", [b.clone(), b, a])
                    }
                    (Arithmetic::Divide | Arithmetic::Remainder, _) => self.custom("? = 0", [b]),
                    (_, Type::DOUBLE) => {
                        let template = format!("abs(CAST(? AS numeric) {} CAST(? AS numeric)) > 1.8e308", what.sql());
                        self.custom(&template, [a, b])
                    }
                    _ => self.custom(&format!("(CAST(? AS numeric) {} ?) {RANGE}", what.sql()), [a, b]),
                }
            }
            (Node::Span(unit_us, n), dialect) => {
                let (n, unit) = (self.value(n), Expr::val(*unit_us));
                match dialect {
                    Dialect::Sqlite => self.custom("campanile_faults('multiply', ?, ?)", [n, unit]),
                    Dialect::Postgres => self.custom(&format!("(CAST(? AS numeric) * ?) {RANGE}"), [n, unit]),
                }
            }
            (Node::Aggregate { many, filter, value, .. }, dialect) => {
                // SQLite's own sum would fault, so that its halves are summed.
                let (function, range) = match dialect {
                    Dialect::Postgres => (Function::Sum, RANGE),
                    Dialect::Sqlite => (Function::UpperSum, "NOT BETWEEN -2147483648 AND 2147483647"),
                };
                let sum = self.correlated(many, filter.as_deref(), (typed.ty, function), value.as_deref());
                self.custom(&format!("? {range}"), [sum])
            }
            _ => super::always(false),
        }
    }

    pub(super) fn own_scale(&mut self, typed: &Typed) -> Expr {
        match &typed.node {
            Node::Double(d) => self.number(typed, FieldType::Decimal { scale: scale_of(*d) }),
            _ => self.value(typed),
        }
    }
}

struct Operation {
    what: Arithmetic,
    is_checked: bool,
}

impl Operation {
    /// The name of SQLite's checked function.
    fn name(&self) -> &'static str {
        match self.what {
            Arithmetic::Add => "add",
            Arithmetic::Subtract => "subtract",
            Arithmetic::Multiply => "multiply",
            Arithmetic::Divide => "divide",
            Arithmetic::Remainder => "remainder",
        }
    }
}
