//! The delivery gate: whatever the manifests say, only a process started with `--deliver live` reaches a real person.
//!
//! Manifests are promoted by a merge, so the gate is no manifest; it is how the process was started.

use std::{fmt, str::FromStr};

use super::mime;

/// What the process does with messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    /// They are written to a folder. The default everywhere.
    #[default]
    Outbox,
    Live,
    /// All go to one address.
    Redirect(String),
    /// Only to these addresses, or to `@domain`; others are excluded as `NotAllowed`.
    Allowlist(Vec<String>),
}

impl Gate {
    /// The address that a message to `to` goes to; none if the gate holds it back.
    pub fn pass<'a>(&'a self, to: &'a str) -> Option<&'a str> {
        match self {
            Self::Outbox | Self::Live => Some(to),
            Self::Redirect(address) => Some(address),
            Self::Allowlist(allowed) => {
                let lower = to.to_ascii_lowercase();
                let is_in =
                    |entry: &String| if entry.starts_with('@') { lower.ends_with(entry) } else { lower == *entry };
                allowed.iter().any(is_in).then_some(to)
            }
        }
    }

    /// Whether messages leave through the declared provider.
    pub fn is_open(&self) -> bool {
        !matches!(self, Self::Outbox)
    }

    /// The mode without addresses, for status and metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Outbox => "outbox",
            Self::Live => "live",
            Self::Redirect(_) => "redirect",
            Self::Allowlist(_) => "allowlist",
        }
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Gate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "outbox" => Ok(Self::Outbox),
            None if text == "live" => Ok(Self::Live),
            Some(("redirect", address)) if mime::is_address(address) => Ok(Self::Redirect(address.to_owned())),
            Some(("redirect", _)) => Err("redirect wants an address, as in redirect=me@example.com".to_owned()),
            Some(("allowlist", list)) if !list.trim().is_empty() => Ok(Self::Allowlist(
                list.split(',').map(|entry| entry.trim().to_ascii_lowercase()).filter(|e| !e.is_empty()).collect(),
            )),
            _ => Err("one of outbox, live, redirect=ADDRESS, allowlist=ADDRESS,@DOMAIN,…".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_allowed_pass() {
        let gate: Gate = "allowlist=me@example.com,@test.example".parse().unwrap();
        assert_eq!(gate.pass("ME@example.com"), Some("ME@example.com"));
        assert_eq!(gate.pass("you@test.example"), Some("you@test.example"));
        assert_eq!(gate.pass("you@evil-test.example"), None);
        assert_eq!("redirect=me@x.y".parse::<Gate>().unwrap().pass("a@b.c"), Some("me@x.y"));
        assert!(
            "redirect=x".parse::<Gate>().is_err()
                && "LIVE".parse::<Gate>().is_err()
                && "allowlist=".parse::<Gate>().is_err()
        );
    }
}
