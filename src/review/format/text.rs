//! For a terminal: each finding as rustc would show it, and how many there are.

use std::fmt::Write;

use super::Report;
use crate::source::manifest::{Diagnostic, Severity};

const RED: &str = "\u{1b}[1;31m";
const YELLOW: &str = "\u{1b}[1;33m";
const BLUE: &str = "\u{1b}[1;34m";
const BOLD: &str = "\u{1b}[1m";
const PLAIN: &str = "\u{1b}[0m";

/// The whole report. Nothing is lost without `is_coloured`.
pub fn write(report: &Report, is_coloured: bool) -> String {
    let mut text = String::new();
    for diagnostic in &report.found {
        let _ = writeln!(text, "{}", if is_coloured { coloured(diagnostic) } else { diagnostic.to_string() });
    }
    let _ = writeln!(text, "{}", summary(report));
    text
}

/// `12 objects in 3 files: 1 error, 2 warnings (1 silenced)`
fn summary(report: &Report) -> String {
    let many = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let (errors, warnings) = (report.count(Severity::Error), report.count(Severity::Warning));
    let found = match (errors, warnings) {
        (0, 0) => "nothing to say".to_owned(),
        (0, _) => many(warnings, "warning"),
        (_, 0) => many(errors, "error"),
        _ => format!("{}, {}", many(errors, "error"), many(warnings, "warning")),
    };
    let silenced = match report.silenced.len() {
        0 => String::new(),
        n => format!(" ({n} silenced)"),
    };
    format!("{} in {}: {found}{silenced}", many(report.objects, "object"), many(report.files, "file"))
}

fn coloured(diagnostic: &Diagnostic) -> String {
    let colour = if diagnostic.severity == Severity::Error { RED } else { YELLOW };
    let lines = diagnostic.to_string();
    let mut text = String::new();
    for (index, line) in lines.lines().enumerate() {
        let _ = match (index, line.split_once(": "), line.split_once('|')) {
            (0, Some((head, message)), _) => writeln!(text, "{colour}{head}{PLAIN}{BOLD}: {message}{PLAIN}"),
            (_, _, Some((margin, source))) if margin.trim().bytes().all(|b| b.is_ascii_digit()) => {
                let is_caret = !source.trim().is_empty() && source.trim().bytes().all(|b| b == b'^');
                let source = if is_caret { format!("{colour}{source}{PLAIN}") } else { source.to_owned() };
                writeln!(text, "{BLUE}{margin}|{PLAIN}{source}")
            }
            _ => writeln!(text, "{line}"),
        };
    }
    text
}
