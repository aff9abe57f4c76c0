//! Why a run does not begin.

use std::fmt;

/// A sentence, and the figures behind it, which are not for everybody: a preview for strangers leaves them out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub what: String,
    pub figures: Option<String>,
}

impl Hold {
    pub fn because(what: impl Into<String>) -> Self {
        Self { what: what.into(), figures: None }
    }

    pub fn with(what: impl Into<String>, figures: impl Into<String>) -> Self {
        Self { what: what.into(), figures: Some(figures.into()) }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        self.figures.iter().try_for_each(|figures| write!(f, ": {figures}"))
    }
}
