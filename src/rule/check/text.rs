//! What can be asked of a text.

use cel::{
    IdedExpr,
    common::ast::{Expr, LiteralValue},
};

use super::Checker;
use crate::rule::{
    ast::{Node, Type, Typed},
    pattern::canonical,
    problem::Problem,
};

impl Checker<'_> {
    pub(super) fn text_method(
        &mut self,
        expr: &IdedExpr,
        text: Typed,
        name: &str,
        args: &[IdedExpr],
    ) -> Result<Typed, Problem> {
        let is_nullable = text.is_nullable;
        let text = Box::new(text);
        match (name, args) {
            ("startsWith" | "endsWith" | "contains", [other]) => {
                let other = self.typed(other)?;
                if other.ty != Type::STRING {
                    return Err(Problem::new(
                        format!("{name}() takes a String, and this is {}", other.ty.words()),
                        other.span,
                    ));
                }
                let make = match name {
                    "startsWith" => Node::StartsWith,
                    "endsWith" => Node::EndsWith,
                    _ => Node::Contains,
                };
                Ok(self.make(expr, make(text, Box::new(other)), Type::BOOLEAN, false))
            }
            ("matches", [pattern]) => {
                let Expr::Literal(LiteralValue::String(written)) = &pattern.expr else {
                    return Err(self.problem(pattern, "a pattern is written out, as in matches(\"^[A-Z]{2}\")"));
                };
                let pattern = canonical(written.inner()).map_err(|wrong| {
                    let place = written.inner()[..wrong.at].chars().count() + 1;
                    self.problem(pattern, format!("{}, at character {place} of the pattern", wrong.message))
                        .hint("there are classes, anchors, groups, `|` and repeats such as `?`, `*`, `+`, `{2,5}`")
                })?;
                Ok(self.make(expr, Node::Matches(text, pattern), Type::BOOLEAN, false))
            }
            ("lowerAscii", []) => Ok(self.make(expr, Node::LowerAscii(text), Type::STRING, is_nullable)),
            ("upperAscii", []) => Ok(self.make(expr, Node::UpperAscii(text), Type::STRING, is_nullable)),
            ("size", []) => Ok(self.make(expr, Node::Length(text), Type::INTEGER, is_nullable)),
            _ => Err(self.no_function(expr, name)),
        }
    }
}
