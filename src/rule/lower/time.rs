//! Instants, days, and their parts in a time zone.

use sea_query::Expr;

use super::Lowering;
use crate::rule::{
    ast::{Node, Part, Type, Typed},
    schema::Dialect,
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

    /// To the microsecond. PostgreSQL reads a text as an instant anew for each row, because the session's settings have
    /// a say in it; this is a constant to it.
    pub(super) fn timestamp(&self, at: jiff::Timestamp) -> Expr {
        let at_us = at.as_microsecond();
        match self.dialect {
            Dialect::Sqlite => Expr::val(at_us),
            // The factor of an interval is a Double: beyond its whole numbers the text is the exact way.
            Dialect::Postgres if at_us.unsigned_abs() < 1 << 53 => {
                let template = "((TIMESTAMP 'epoch' + ? * INTERVAL '1 microsecond') AT TIME ZONE 'UTC')";
                self.custom(template, [Expr::val(at_us)])
            }
            Dialect::Postgres => {
                let at = jiff::Timestamp::from_microsecond(at_us).unwrap_or(at);
                self.custom("CAST(? AS timestamptz)", [Expr::val(at.to_string())])
            }
        }
    }

    /// A day that is written out; a constant to PostgreSQL, as instants are.
    pub(super) fn date(&self, date: jiff::civil::Date) -> Expr {
        match self.dialect {
            Dialect::Sqlite => Expr::val(date.to_string()),
            Dialect::Postgres => {
                let epoch = jiff::civil::date(1970, 1, 1);
                let days = date.since(epoch).map_or(0, |span| i64::from(span.get_days()));
                self.custom("(DATE '1970-01-01' + CAST(? AS integer))", [Expr::val(days)])
            }
        }
    }

    /// CEL counts months, days of the week and of the year from 0.
    pub(super) fn part(&mut self, part: Part, of: &Typed, zone: &str) -> Expr {
        let value = self.value(of);
        match self.dialect {
            Dialect::Postgres => {
                let (field, from) = match part {
                    Part::Year => ("year", 0),
                    Part::Month => ("month", 1),
                    Part::Date => ("day", 0),
                    Part::DayOfMonth => ("day", 1),
                    Part::DayOfWeek => ("dow", 0),
                    Part::DayOfYear => ("doy", 1),
                    Part::Hours => ("hour", 0),
                    Part::Minutes => ("minute", 0),
                    Part::Seconds => ("second", 0),
                    Part::Milliseconds => ("milliseconds", 0),
                };
                let local = self.local(of, value, zone);
                let part = match part {
                    Part::Seconds => self.custom("CAST(floor(extract(second FROM ?)) AS bigint)", [local]),
                    // PostgreSQL counts the seconds in, CEL does not.
                    Part::Milliseconds => {
                        self.custom("CAST(floor(extract(milliseconds FROM ?)) AS bigint) % 1000", [local])
                    }
                    _ => self.custom(&format!("CAST(extract({field} FROM ?) AS bigint)"), [local]),
                };
                if from == 0 { self.custom("(?)", [part]) } else { self.custom(&format!("(? - {from})"), [part]) }
            }
            Dialect::Sqlite if of.ty == Type::DATE => {
                let (format, from) = match part {
                    Part::Year => ("%Y", 0),
                    Part::Month => ("%m", 1),
                    Part::Date => ("%d", 0),
                    Part::DayOfMonth => ("%d", 1),
                    Part::DayOfWeek => ("%w", 0),
                    _ => ("%j", 1),
                };
                self.custom(&format!("(CAST(strftime('{format}', ?) AS INTEGER) - {from})"), [value])
            }
            Dialect::Sqlite => {
                let name = Part::ALL.iter().find(|(_, known)| *known == part).map_or("", |(name, _)| name);
                self.custom(&format!("campanile_part('{name}', ?, ?)"), [value, Expr::val(zone)])
            }
        }
    }

    pub(super) fn date_in(&mut self, of: &Typed, zone: &str) -> Expr {
        let value = self.value(of);
        match self.dialect {
            Dialect::Postgres => {
                let local = self.local(of, value, zone);
                self.custom("CAST(? AS date)", [local])
            }
            Dialect::Sqlite => self.custom("campanile_part('date', ?, ?)", [value, Expr::val(zone)]),
        }
    }

    /// The clock on the wall in a time zone.
    fn local(&self, of: &Typed, value: Expr, zone: &str) -> Expr {
        if of.ty == Type::DATE {
            return value;
        }
        self.custom("(? AT TIME ZONE ?)", [value, Expr::val(zone)])
    }
}
