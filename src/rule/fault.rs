//! Faults: an overflow or a division by zero fails the evaluation of a rule.
//!
//! `&&`, `||` and `?:` guard from left to right. The rest of this module is for the moment after: it turns a rule into
//! the questions that find the place in its text and one row at fault.

use std::ops::Range;

use super::{
    Rule,
    ast::{Arithmetic, Function, Node, Type, Typed},
    schema::{Dialect, FieldType},
};

/// A place in a rule that can fault, as an author reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultPlace {
    /// The part of the rule's text.
    pub text: String,
    /// Counted from 1, in characters.
    pub line: usize,
    pub column: usize,
    pub is_division: bool,
}

/// Larger than any value that a Decimal field of 18 digits holds, scaled.
const DECIMAL_MAX: u128 = 1_000_000_000_000_000_000;

/// Whether evaluating the part can fault, so that what stands to its left must guard it.
///
/// Doubles are left out but for their division: they overflow so far out that it ends the evaluation wherever it stands.
pub(super) fn can_fault(typed: &Typed, dialect: Dialect) -> bool {
    typed.any(&mut |part| faults_itself(part, dialect))
}

/// Whether the operation itself can fault, its operands being sound.
pub(super) fn faults_itself(typed: &Typed, dialect: Dialect) -> bool {
    let is_exact = typed.ty == Type::INTEGER || (is_decimal(typed.ty) && dialect == Dialect::Sqlite);
    match &typed.node {
        Node::Arithmetic(Arithmetic::Divide | Arithmetic::Remainder, _, by) => match by.node {
            Node::Integer(n) => n == 0 || n == -1,
            Node::Double(d) => d == 0.0,
            _ => true,
        },
        Node::Arithmetic(_, a, b) if a.ty.is_number() && b.ty.is_number() => {
            is_exact && magnitude(typed).is_none_or(|most| most > i64::MAX.unsigned_abs().into())
        }
        // Every instant and every written length of time is within 10,000 years.
        Node::Arithmetic(_, a, b) => [a, b].into_iter().any(|x| x.ty == Type::Duration && !is_short(x)),
        Node::Span(unit_us, n) => magnitude(n)
            .is_none_or(|most| most.saturating_mul(unit_us.unsigned_abs().into()) > i64::MAX.unsigned_abs().into()),
        Node::Aggregate { function: Function::Sum, .. } => is_exact,
        _ => false,
    }
}

/// Doubles whose result both databases must refuse rather than call infinite.
pub(super) fn is_double_operation(typed: &Typed) -> bool {
    typed.ty == Type::DOUBLE && matches!(typed.node, Node::Arithmetic(..))
}

fn is_decimal(ty: Type) -> bool {
    matches!(ty, Type::Field(FieldType::Decimal { .. }))
}

fn is_short(typed: &Typed) -> bool {
    match &typed.node {
        Node::Span(_, n) => matches!(n.node, Node::Integer(_)),
        // The distance of two instants.
        Node::Arithmetic(_, a, b) => a.ty.is_time() && b.ty.is_time(),
        _ => false,
    }
}

/// The largest value that a number can have, without its sign and at its own scale, where that is known.
fn magnitude(typed: &Typed) -> Option<u128> {
    let scale = |ty: Type| if let Type::Field(FieldType::Decimal { scale }) = ty { scale } else { 0 };
    let scaled = |x: &Typed| {
        let up = scale(typed.ty).saturating_sub(scale(x.ty));
        magnitude(x)?.checked_mul(10_u128.checked_pow(up.into())?)
    };
    match &typed.node {
        Node::Integer(n) => Some(n.unsigned_abs().into()),
        // A literal beside a Decimal: at most 18 digits.
        Node::Double(_) => Some(DECIMAL_MAX),
        Node::Field { .. } if is_decimal(typed.ty) => Some(DECIMAL_MAX),
        Node::Length(_) => Some(1 << 31),
        Node::Part(..) => Some(10_000),
        Node::Aggregate { function: Function::Count, .. } => Some(1 << 53),
        Node::Aggregate { function: Function::Minimum | Function::Maximum, value: Some(value), .. } => magnitude(value),
        Node::If(_, a, b) => Some(scaled(a)?.max(scaled(b)?)),
        Node::Arithmetic(Arithmetic::Add | Arithmetic::Subtract, a, b) => scaled(a)?.checked_add(scaled(b)?),
        Node::Arithmetic(Arithmetic::Multiply, a, b) => magnitude(a)?.checked_mul(magnitude(b)?),
        Node::Arithmetic(Arithmetic::Divide, a, _) => magnitude(a),
        Node::Arithmetic(Arithmetic::Remainder, _, b) => magnitude(b),
        _ => None,
    }
}

/// Each place that can fault with the condition under which it does; an earlier one is not true where a later is asked.
pub(super) fn faults_of(rule: &Rule, dialect: Dialect) -> Vec<(FaultPlace, Typed)> {
    let place = |span: Range<usize>, is_division| {
        let span = whole(&rule.text, span);
        let problem = super::Problem::new("", span.clone());
        let (line, column) = problem.line_column(&rule.text);
        FaultPlace { text: rule.text.get(span).unwrap_or_default().to_owned(), line, column, is_division }
    };
    let found = within(&rule.root, dialect).into_iter();
    found.map(|(span, is_division, condition)| (place(span, is_division), condition)).collect()
}

/// CEL places an operation at its sign and a path at its last name: widened to whole paths and closed brackets.
fn whole(text: &str, span: Range<usize>) -> Range<usize> {
    let bytes = text.as_bytes();
    let (mut start, mut end) = (span.start.min(bytes.len()), span.end.min(bytes.len()));
    loop {
        while start > 0 && (bytes[start - 1].is_ascii_alphanumeric() || matches!(bytes[start - 1], b'_' | b'.')) {
            start -= 1;
        }
        let (mut open, mut unopened) = (0_usize, 0_usize);
        for byte in &bytes[start..end] {
            match byte {
                b'(' | b'[' => open += 1,
                b')' | b']' if open == 0 => unopened += 1,
                b')' | b']' => open -= 1,
                _ => {}
            }
        }
        if unopened > 0 && start > 0 {
            start -= 1;
        } else if open > 0 && end < bytes.len() {
            end += 1;
        } else {
            return start..end;
        }
    }
}

/// The text that a part was read from.
pub(super) fn text_of<'t>(text: &'t str, part: &Typed) -> &'t str {
    text.get(whole(text, extent(part))).unwrap_or_default()
}

/// All of the text that an operation was read from.
fn extent(typed: &Typed) -> Range<usize> {
    let parts = typed.node.parts().into_iter().map(extent);
    parts.fold(typed.span.clone(), |all, part| all.start.min(part.start)..all.end.max(part.end))
}

type Found = (Range<usize>, bool, Typed);

fn within(typed: &Typed, dialect: Dialect) -> Vec<Found> {
    let of = |part: &Typed| within(part, dialect);
    let under = |guard: &Typed, found: Vec<Found>| -> Vec<Found> {
        found.into_iter().map(|(span, is, condition)| (span, is, both(guard.clone(), condition))).collect()
    };
    let among = |found: Vec<Found>, many: &super::ast::Many| -> Vec<Found> {
        let some = |condition| boolean(Node::Exists(many.clone(), Box::new(condition)));
        found.into_iter().map(|(span, is, condition)| (span, is, some(condition))).collect()
    };
    let not = |a: &Typed| boolean(Node::Not(Box::new(a.clone())));
    let mut found = match &typed.node {
        Node::And(a, b) => [of(a), under(a, of(b))].concat(),
        Node::Or(a, b) => [of(a), under(&not(a), of(b))].concat(),
        Node::If(c, a, b) => [of(c), under(c, of(a)), under(&not(c), of(b))].concat(),
        Node::Exists(many, body) | Node::All(many, body) => among(of(body), many),
        Node::Aggregate { many, filter, value, .. } => {
            let mut all = filter.as_ref().map(|f| of(f)).unwrap_or_default();
            let values = value.as_ref().map(|v| of(v)).unwrap_or_default();
            all.extend(filter.as_ref().map_or(values.clone(), |f| under(f, values)));
            among(all, many)
        }
        node => node.parts().into_iter().flat_map(of).collect(),
    };
    if faults_itself(typed, dialect) || is_double_operation(typed) {
        let is_division = matches!(typed.node, Node::Arithmetic(Arithmetic::Divide | Arithmetic::Remainder, ..));
        found.push((extent(typed), is_division, boolean(Node::Faults(Box::new(typed.clone())))));
    }
    found
}

fn both(a: Typed, b: Typed) -> Typed {
    boolean(Node::And(Box::new(a), Box::new(b)))
}

fn boolean(node: Node) -> Typed {
    Typed { node, ty: Type::BOOLEAN, is_nullable: false, span: 0..0 }
}
