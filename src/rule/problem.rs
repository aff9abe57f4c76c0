//! What is wrong with a rule: one sentence, the place in its text, and what to do.

use std::{fmt, ops::Range};

/// ```text
/// customer has no field `contry` (1:10; did you mean `country`?)
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// One sentence without a full stop; never a personal value.
    pub message: String,
    /// Bytes in the rule's text.
    pub span: Range<usize>,
    pub hint: Option<String>,
    /// A stable name for problems of its kind.
    pub id: &'static str,
    /// What the rule uses is wrong, and that is said at its own place.
    pub is_consequence: bool,
    /// What else is wrong with the same rule.
    pub others: Vec<Problem>,
}

const INVALID: &str = "invalid-rule";
const UNKNOWN_NAME: &str = "unknown-name";

impl Problem {
    pub fn new(message: impl Into<String>, span: Range<usize>) -> Self {
        Self { message: message.into(), span, hint: None, id: INVALID, is_consequence: false, others: vec![] }
    }

    /// It and the others, in their order in the text.
    pub fn all(mut self) -> Vec<Self> {
        let mut all = std::mem::take(&mut self.others);
        all.push(self);
        all.sort_by_key(|problem| problem.span.start);
        all
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A name that nothing has; adds "did you mean" if one of `known` is near to `written`.
    #[must_use]
    pub fn suggest<'n>(mut self, written: &str, known: impl IntoIterator<Item = &'n str>) -> Self {
        self.id = UNKNOWN_NAME;
        if let Some(near) = nearest(written, known) {
            self.hint = Some(format!("did you mean `{near}`?"));
        }
        self
    }

    /// Line and column of the place, counted from 1 in characters.
    pub fn line_column(&self, text: &str) -> (usize, usize) {
        let before = text.get(..self.span.start).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        (line, column)
    }

    /// The sentence with the line, and a caret under the place.
    pub fn picture(&self, text: &str) -> String {
        let (line, column) = self.line_column(text);
        let source = text.lines().nth(line - 1).unwrap_or("");
        let width = text.get(self.span.clone()).map_or(1, |s| s.lines().next().unwrap_or("").chars().count().max(1));
        let hint = self.hint.as_ref().map_or(String::new(), |h| format!("\nhint: {h}"));
        format!(
            "{}\n{line}:{column} | {source}\n{}{}{hint}",
            self.message,
            " ".repeat(format!("{line}:{column} | ").len() + column - 1),
            "^".repeat(width)
        )
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.hint.iter().try_for_each(|hint| write!(f, "; {hint}"))
    }
}

impl std::error::Error for Problem {}

/// `a -> b -> a`: wherever somebody enters a circle, it is the same one.
pub fn circle<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let mut circle: Vec<&str> = names.into_iter().collect();
    let first = circle.iter().enumerate().min_by_key(|(_, name)| **name).map_or(0, |(index, _)| index);
    circle.rotate_left(first);
    circle.extend(circle.first().copied());
    circle.join(" -> ")
}

/// The word of `known` that somebody who wrote `written` most likely meant.
pub fn nearest<'n>(written: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let distance = |name: &str| strsim::damerau_levenshtein(written, name);
    let limit = (written.chars().count() / 3).max(1) + 1;
    known.into_iter().map(|name| (distance(name), name)).filter(|(d, _)| *d <= limit).min().map(|(_, name)| name)
}
