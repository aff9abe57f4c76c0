//! The delivery gate: whatever the manifests say, only a process started with `--deliver live` reaches a real person.
//!
//! Manifests are promoted by a merge, so the gate is no manifest; it is how the process was started.

use std::{fmt, str::FromStr};

use super::address::is_fit;
use crate::api::medium::Medium;

/// What the process does with messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    /// They are written to a folder. The default everywhere.
    #[default]
    Outbox,
    Live,
    /// All go to the first of these addresses that their medium has; what none fits is excluded as `NotAllowed`.
    Redirect(Vec<String>),
    /// Only to these addresses, or to `@domain`; others are excluded as `NotAllowed`.
    Allowlist(Vec<String>),
}

impl Gate {
    /// The address that a message to `to` goes to; none if the gate holds it back.
    pub fn pass<'a>(&'a self, medium: Medium, to: &'a str) -> Option<&'a str> {
        match self {
            Self::Outbox | Self::Live => Some(to),
            Self::Redirect(addresses) => {
                // What has no form of its own, such as a device's token, could be anything.
                let is_fit = |to: &&String| matches!(medium, Medium::Email | Medium::Sms) && is_fit(medium, to);
                addresses.iter().find(is_fit).map(String::as_str)
            }
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
            Some(("redirect", list)) => {
                let addresses: Vec<String> = list.split(',').map(|address| address.trim().to_owned()).collect();
                let is_one = |to: &String| is_fit(Medium::Email, to) || is_fit(Medium::Sms, to);
                let hint =
                    "redirect wants an address, a phone number or both, as in redirect=me@example.com,+393331234567";
                if addresses.iter().all(is_one) { Ok(Self::Redirect(addresses)) } else { Err(hint.to_owned()) }
            }
            Some(("allowlist", list)) if !list.trim().is_empty() => Ok(Self::Allowlist(
                list.split(',').map(|entry| entry.trim().to_ascii_lowercase()).filter(|e| !e.is_empty()).collect(),
            )),
            _ => Err("one of outbox, live, redirect=ADDRESS,…, allowlist=ADDRESS,@DOMAIN,…".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_allowed_pass() {
        let gate: Gate = "allowlist=me@example.com,@test.example".parse().unwrap();
        let mail = |to| gate.pass(Medium::Email, to);
        assert_eq!(mail("ME@example.com"), Some("ME@example.com"));
        assert_eq!(mail("you@test.example"), Some("you@test.example"));
        assert_eq!(mail("you@evil-test.example"), None);
        let gate: Gate = "redirect=me@x.y, +393331234567".parse().unwrap();
        assert_eq!(gate.pass(Medium::Email, "a@b.c"), Some("me@x.y"));
        assert_eq!(gate.pass(Medium::Sms, "+15551234567"), Some("+393331234567"));
        assert_eq!(gate.pass(Medium::Http, ""), None, "a system is not a person's phone");
        let gate: Gate = "redirect=me@x.y".parse().unwrap();
        assert_eq!(gate.pass(Medium::Sms, "+15551234567"), None);
        let gate: Gate = "allowlist=+393331234567".parse().unwrap();
        assert_eq!(gate.pass(Medium::Sms, "+393331234567"), Some("+393331234567"));
        assert_eq!(gate.pass(Medium::Sms, "+393331234568"), None);
        assert!(
            "redirect=x".parse::<Gate>().is_err()
                && "LIVE".parse::<Gate>().is_err()
                && "allowlist=".parse::<Gate>().is_err()
        );
    }
}
