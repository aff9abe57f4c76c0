//! What is wrong with a manifest or suspect in it, and where: as rustc would show it, in one line, by line and column.

use std::{
    fmt,
    ops::Range,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use super::Manifest;

/// A file as it was read.
#[derive(Debug)]
pub struct File {
    pub path: PathBuf,
    pub text: String,
    /// Where each line begins; found once, as a file with a thousand objects may have as many diagnostics.
    lines: OnceLock<Vec<usize>>,
}

impl File {
    pub fn new(path: PathBuf, text: String) -> Self {
        Self { path, text, lines: OnceLock::new() }
    }

    fn lines(&self) -> &[usize] {
        self.lines.get_or_init(|| {
            std::iter::once(0).chain(self.text.match_indices('\n').map(|(index, _)| index + 1)).collect()
        })
    }

    /// Line and column of a byte, counted from 1, the column in characters.
    pub fn line_column(&self, byte: usize) -> (usize, usize) {
        let byte = byte.min(self.text.len());
        let line = self.lines().partition_point(|start| *start <= byte);
        let start = self.lines().get(line.saturating_sub(1)).copied().unwrap_or(0);
        (line, self.text.get(start..byte).unwrap_or_default().chars().count() + 1)
    }

    /// A line by its number, without its end.
    pub fn line(&self, number: usize) -> &str {
        let start = number.checked_sub(1).and_then(|index| self.lines().get(index)).copied().unwrap_or(self.text.len());
        self.text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default()
    }
}

/// Whether something must be put right, or should be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Warning,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// The object that a diagnostic is about, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    pub kind: String,
    pub namespace: String,
    pub name: String,
    /// Such as `spec.steps[2].audience.where`.
    pub path: String,
}

impl About {
    /// Whether it is about the object of a manifest.
    pub fn is(&self, manifest: &Manifest) -> bool {
        self.kind == manifest.kind && self.namespace == manifest.namespace && self.name == manifest.name
    }
}

/// What is wrong with a manifest, and where.
///
/// ```text
/// error[unknown-field]: unknown field `emial`
///   --> hello.yaml:40:5
/// ```
#[derive(Clone, Debug)]
pub struct Diagnostic {
    pub severity: Severity,
    /// The rule that says so, such as `unknown-field`. It stays the same for good: people silence rules by it.
    pub id: &'static str,
    pub file: Option<Arc<File>>,
    /// Bytes in the file.
    pub span: Range<usize>,
    pub message: String,
    pub hint: Option<String>,
    pub about: Option<About>,
}

impl Diagnostic {
    pub fn new(id: &'static str, message: impl Into<String>, span: Range<usize>) -> Self {
        let severity = Severity::Error;
        Self { severity, id, file: None, span, message: message.into(), hint: None, about: None }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn of(mut self, file: &Arc<File>) -> Self {
        self.file = Some(file.clone());
        self
    }

    /// Line and column, counted from 1, the column in characters.
    pub fn line_column(&self) -> (usize, usize) {
        self.file.as_ref().map_or((1, 1), |file| file.line_column(self.span.start))
    }

    /// Line and column behind the last character.
    pub fn end_line_column(&self) -> (usize, usize) {
        self.file.as_ref().map_or((1, 1), |file| file.line_column(self.span.end.max(self.span.start)))
    }

    /// `audiences.yaml:8:22: customer has no field …`
    pub fn one_line(&self) -> String {
        let hint = self.hint.as_ref().map_or(String::new(), |hint| format!("; {hint}"));
        match &self.file {
            Some(file) => {
                let (line, column) = self.line_column();
                format!("{}:{line}:{column}: {}{hint}", file.path.display(), self.message)
            }
            None => format!("{}{hint}", self.message),
        }
    }
}

/// rustc's picture: the sentence, the place, the line with a caret, the hint.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}[{}]: {}", self.severity.as_str(), self.id, self.message)?;
        if let Some(file) = &self.file {
            let (line, column) = self.line_column();
            let source = file.line(line);
            let margin = " ".repeat(line.to_string().len());
            let width = file.text.get(self.span.clone()).map_or(1, |s| s.lines().next().unwrap_or("").chars().count());
            // What tabs stand before the place stands before the caret, too.
            let indent: String = source.chars().take(column - 1).map(|c| if c == '\t' { c } else { ' ' }).collect();
            writeln!(f, "{margin}--> {}:{line}:{column}", file.path.display())?;
            writeln!(f, "{margin} |\n{line} | {source}")?;
            writeln!(f, "{margin} | {indent}{}", "^".repeat(width.max(1)))?;
        }
        self.hint.iter().try_for_each(|hint| writeln!(f, "hint: {hint}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_lines_and_characters() {
        let file = File::new("a.yaml".into(), "kind: X\nname: Zoë\n\ttail".into());
        assert_eq!(file.line_column(0), (1, 1));
        assert_eq!(file.line_column(7), (1, 8));
        assert_eq!(file.line_column(8), (2, 1));
        // `ë` has two bytes.
        assert_eq!(file.line_column(18), (2, 10));
        assert_eq!(file.line_column(usize::MAX), (3, 6));
        assert_eq!((file.line(2), file.line(3), file.line(4)), ("name: Zoë", "\ttail", ""));
    }
}
