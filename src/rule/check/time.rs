//! Instants and lengths of time.

use cel::{
    IdedExpr,
    common::ast::{Expr, LiteralValue},
};

use super::Checker;
use crate::rule::{
    ast::{Node, Part, Type, Typed},
    problem::Problem,
};

pub(super) const SPANS: [(&str, i64); 5] = [
    ("weeks", 604_800_000_000),
    ("days", 86_400_000_000),
    ("hours", 3_600_000_000),
    ("minutes", 60_000_000),
    ("seconds", 1_000_000),
];

/// 10,000 years: what CEL and both stores can add to an instant.
const SPAN_US_MAX: u64 = 315_576_000_000_000_000;

impl Checker<'_> {
    pub(super) fn instant(&mut self, expr: &IdedExpr, function: &str, args: &[IdedExpr]) -> Result<Typed, Problem> {
        if function == "date"
            && let [of, zone @ ..] = args
            && zone.len() < 2
            && !matches!(of.expr, Expr::Literal(_))
        {
            return self.date_in(expr, of, zone.first());
        }
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
                let date = read(date)?;
                self.zone(&args[1])?;
                let at = date.in_tz(zone).map_err(|_| self.problem(expr, format!("`{zone}` is not a time zone")))?;
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
        if let Node::Integer(n) = n.node
            && n.unsigned_abs()
                > SPAN_US_MAX / SPANS.iter().find(|(name, _)| *name == unit).map_or(1, |(_, us)| us.unsigned_abs())
        {
            return Err(self.problem(expr, "a length of time is at most 10,000 years"));
        }
        let unit_us = SPANS.iter().find(|(name, _)| *name == unit).map_or(0, |(_, us)| *us);
        let is_nullable = n.is_nullable;
        Ok(self.make(expr, Node::Span(unit_us, Box::new(n)), Type::Duration, is_nullable))
    }

    /// `x.getMonth("Europe/Rome")`: a part of a Date, or of a Timestamp in a time zone, UTC unless said.
    pub(super) fn part(&mut self, expr: &IdedExpr, of: Typed, name: &str, args: &[IdedExpr]) -> Result<Typed, Problem> {
        let Some(part) = Part::named(name) else { return Err(self.no_function(expr, name)) };
        let zone = match args {
            [] => "UTC".to_owned(),
            [zone] if of.ty == Type::TIMESTAMP => self.zone(zone)?,
            [zone] => return Err(self.problem(zone, "a Date is the same in every time zone")),
            _ => return Err(self.problem(expr, format!("{name}() takes a time zone at most"))),
        };
        if of.ty == Type::DATE && part.is_of_day() {
            return Err(Problem::new(format!("a Date has no time of day, so no {name}()"), self.name_span(expr, name)));
        }
        let is_nullable = of.is_nullable;
        Ok(self.make(expr, Node::Part(part, Box::new(of), zone), Type::INTEGER, is_nullable))
    }

    /// `date(x, "Europe/Rome")`: the day on which a Timestamp falls there.
    fn date_in(&mut self, expr: &IdedExpr, of: &IdedExpr, zone: Option<&IdedExpr>) -> Result<Typed, Problem> {
        let of = self.typed(of)?;
        if of.ty != Type::TIMESTAMP {
            return Err(Problem::new(
                format!("date() takes a text such as \"2026-01-31\" or a Timestamp, and this is {}", of.ty.words()),
                of.span,
            ));
        }
        let zone = zone.map_or_else(|| Ok("UTC".to_owned()), |zone| self.zone(zone))?;
        let is_nullable = of.is_nullable;
        Ok(self.make(expr, Node::DateIn(Box::new(of), zone), Type::DATE, is_nullable))
    }

    /// A time zone by its IANA name, written out.
    fn zone(&self, expr: &IdedExpr) -> Result<String, Problem> {
        let Expr::Literal(LiteralValue::String(name)) = &expr.expr else {
            return Err(self.problem(expr, "a time zone is written as a text, such as \"Europe/Rome\""));
        };
        let zone = jiff::tz::TimeZone::get(name.inner()).ok();
        zone.and_then(|zone| zone.iana_name().map(str::to_owned)).ok_or_else(|| {
            self.problem(expr, format!("`{}` is not a time zone", name.inner()))
                .hint("use an IANA name such as Europe/Rome")
        })
    }

    /// `getMonth() == 12` is never so: parts that count from 0 are a trap worth a word.
    pub(super) fn refuse_impossible_part(&self, expr: &IdedExpr, part: &Typed, n: &Typed) -> Result<(), Problem> {
        let (Node::Part(part, ..), Node::Integer(n)) = (&part.node, &n.node) else { return Ok(()) };
        let (least, most, hint) = match part {
            Part::Month => (0, 11, "January is 0, December is 11"),
            Part::Date => (1, 31, "the days of a month count from 1"),
            Part::DayOfMonth => (0, 30, "getDate() counts the days from 1"),
            Part::DayOfWeek => (0, 6, "Sunday is 0, Saturday is 6"),
            Part::DayOfYear => (0, 365, "the first of January is 0"),
            Part::Hours => (0, 23, "midnight is 0"),
            _ => return Ok(()),
        };
        if (least..=most).contains(n) {
            return Ok(());
        }
        let name = Part::ALL.iter().find(|(_, known)| known == part).map_or("", |(name, _)| name);
        Err(self.problem(expr, format!("{name}() goes from {least} to {most} and is never {n}")).hint(hint))
    }
}
