//! Instants and lengths of time.

use cel::{
    IdedExpr,
    common::ast::{Expr, LiteralValue},
};

use super::Checker;
use crate::rule::{
    ast::{Node, Type, Typed},
    problem::Problem,
};

pub(super) const SPANS: [(&str, i64); 4] =
    [("days", 86_400_000_000), ("hours", 3_600_000_000), ("minutes", 60_000_000), ("seconds", 1_000_000)];

impl Checker<'_> {
    pub(super) fn instant(&self, expr: &IdedExpr, function: &str, args: &[IdedExpr]) -> Result<Typed, Problem> {
        let texts: Option<Vec<&str>> = args
            .iter()
            .map(|arg| match &arg.expr {
                Expr::Literal(LiteralValue::String(s)) => Some(s.inner()),
                _ => None,
            })
            .collect();
        let read = |date: &str| {
            date.parse::<jiff::civil::Date>().map_err(|_| {
                self.problem(expr, format!("`{date}` is not a date")).hint("write it as in date(\"2026-01-31\")")
            })
        };
        match (function, texts.as_deref()) {
            ("date", Some([date])) => Ok(self.make(expr, Node::Date(read(date)?), Type::DATE, false)),
            ("date", Some([date, zone])) => {
                let at =
                    read(date)?.in_tz(zone).map_err(|_| self.problem(expr, format!("`{zone}` is not a time zone")))?;
                Ok(self.make(expr, Node::Timestamp(at.timestamp()), Type::TIMESTAMP, false))
            }
            ("timestamp", Some([text])) => {
                let at = text.parse().map_err(|_| {
                    self.problem(expr, format!("`{text}` is not an instant"))
                        .hint("write it as in timestamp(\"2026-01-31T09:00:00Z\")")
                })?;
                Ok(self.make(expr, Node::Timestamp(at), Type::TIMESTAMP, false))
            }
            _ => Err(self.problem(expr, format!("{function}() takes a text such as \"2026-01-31\""))),
        }
    }

    pub(super) fn time_span(&mut self, expr: &IdedExpr, unit: &str, n: &IdedExpr) -> Result<Typed, Problem> {
        let n = self.typed(n)?;
        if n.ty != Type::INTEGER {
            return Err(self.problem(expr, format!("{unit}() takes an Integer, and this is {}", n.ty.words())));
        }
        let unit_us = SPANS.iter().find(|(name, _)| *name == unit).map_or(0, |(_, us)| *us);
        let is_nullable = n.is_nullable;
        Ok(self.make(expr, Node::Span(unit_us, Box::new(n)), Type::Duration, is_nullable))
    }
}
