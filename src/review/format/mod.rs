//! What `validate` found, for people and for machines.

pub mod json;
pub mod sarif;
pub mod text;

use std::path::Path;

use crate::source::manifest::{Diagnostic, Severity};

/// What was found in some paths.
#[derive(Debug, Default)]
pub struct Report {
    /// Errors and warnings, by file and place.
    pub found: Vec<Diagnostic>,
    /// Warnings that an ignore silenced.
    pub silenced: Vec<Diagnostic>,
    pub objects: usize,
    pub files: usize,
}

impl Report {
    pub fn count(&self, severity: Severity) -> usize {
        self.found.iter().filter(|diagnostic| diagnostic.severity == severity).count()
    }
}

/// A path as others find it: relative to `base` where it lies below, with `/`.
pub(super) fn relative(path: &Path, base: &Path) -> String {
    let path = path.strip_prefix(base).unwrap_or(path);
    let parts = path.components().filter(|part| *part != std::path::Component::CurDir);
    let text: Vec<_> = parts.map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    let text = text.join("/");
    if path.is_absolute() { text.replacen("//", "/", 1) } else { text }
}
