//! Numbers of a report: exact, rounded, too small to be told, or unknown.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use crate::run::hold::Hold;

/// What strangers see no smaller number than, and what they see others rounded to: two of them are not to be subtracted.
const CROWD: i64 = 10;

/// A number of rows. What is unknown is never 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Figure {
    Exact(i64),
    About(i64),
    /// Fewer than this.
    Below(i64),
    /// The reason.
    Unknown(String),
}

/// How numbers are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Telling {
    pub is_untrusted: bool,
    /// Of a sample of so many percent.
    pub sample_percent: Option<u8>,
}

impl Telling {
    pub fn figure(self, n: i64) -> Figure {
        let (n, is_exact) = match self.sample_percent {
            Some(percent) if percent < 100 => (n * 100 / i64::from(percent.max(1)), false),
            _ => (n, true),
        };
        match self.is_untrusted {
            true if n < CROWD => Figure::Below(CROWD),
            true => Figure::About((n + CROWD / 2) / CROWD * CROWD),
            false if is_exact => Figure::Exact(n),
            false => Figure::About(n),
        }
    }
}

impl Telling {
    /// Why a run is held; its figures only where all others are exact.
    pub fn hold(self, hold: &Hold) -> String {
        if self.is_untrusted { hold.what.clone() } else { hold.to_string() }
    }
}

impl Figure {
    /// As near as it is known.
    pub fn value(&self) -> Option<i64> {
        match self {
            Self::Exact(n) | Self::About(n) => Some(*n),
            Self::Below(_) | Self::Unknown(_) => None,
        }
    }

    /// Whether it is surely not nobody, or not known to be.
    pub fn may_be_some(&self) -> bool {
        *self != Self::Exact(0)
    }

    /// The difference to an earlier one, with its sign; none where it cannot be told, or where there is none.
    pub fn change(&self, before: &Self) -> Option<String> {
        let (now, then) = (self.value()?, before.value()?);
        let sign = if now > then { "+" } else { "−" };
        let about = if matches!((self, before), (Self::Exact(_), Self::Exact(_))) { "" } else { "≈" };
        (now != then).then(|| format!("{about}{sign}{}", grouped(now.abs_diff(then))))
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(n) => f.write_str(&grouped(n.unsigned_abs())),
            Self::About(n) => write!(f, "≈{}", grouped(n.unsigned_abs())),
            Self::Below(n) => write!(f, "<{n}"),
            Self::Unknown(_) => f.write_str("unknown"),
        }
    }
}

/// `1234567` as `1,234,567`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number beside what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    pub now: Figure,
    /// By the manifests of base, on the same rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Figure>,
    /// In the last run that was completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Figure>,
}

impl Tally {
    pub fn sum<'t>(all: impl Iterator<Item = &'t Self>) -> Self {
        let mut all = all.cloned();
        let first = all.next().unwrap_or(Self { now: Figure::Exact(0), base: None, last: None });
        all.fold(first, |a, b| Self {
            now: add(a.now, b.now),
            base: a.base.zip(b.base).map(|(a, b)| add(a, b)),
            last: a.last.zip(b.last).map(|(a, b)| add(a, b)),
        })
    }

    /// `1,204 (+12 against base, −3 against the last run)`.
    pub fn changes(&self) -> Vec<String> {
        let against = |before: &Option<Figure>, what: &str| {
            let change = self.now.change(before.as_ref()?)?;
            Some(format!("{change} against {what}"))
        };
        [against(&self.base, "base"), against(&self.last, "the last run")].into_iter().flatten().collect()
    }
}

fn add(a: Figure, b: Figure) -> Figure {
    match (a, b) {
        (Figure::Unknown(why), _) | (_, Figure::Unknown(why)) => Figure::Unknown(why),
        (Figure::Exact(a), Figure::Exact(b)) => Figure::Exact(a + b),
        (Figure::Below(a), Figure::Below(b)) => Figure::Below(a + b),
        (a, b) => Figure::About(a.value().unwrap_or(0) + b.value().unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_see_no_small_number_and_cannot_subtract() {
        let telling = Telling { is_untrusted: true, sample_percent: None };
        let shown = |n| telling.figure(n).to_string();
        assert_eq!([0, 9, 10, 14, 15, 1234].map(shown), ["<10", "<10", "≈10", "≈10", "≈20", "≈1,230"]);
        assert_eq!(telling.figure(20).change(&telling.figure(3)), None);
        assert_eq!(telling.figure(1234).change(&telling.figure(1211)), Some("≈+20".to_owned()));
    }

    #[test]
    fn a_sample_is_told_as_one() {
        let telling = Telling { is_untrusted: false, sample_percent: Some(10) };
        assert_eq!(telling.figure(12), Figure::About(120));
    }

    #[test]
    fn what_is_unknown_stays_unknown_in_a_sum() {
        let tally = |now: Figure| Tally { now, base: None, last: None };
        let sum = Tally::sum([tally(Figure::Exact(1)), tally(Figure::Unknown("no table".to_owned()))].iter());
        assert_eq!(sum.now, Figure::Unknown("no table".to_owned()));
        assert_eq!(Figure::Exact(1_234_567).change(&Figure::Exact(1)), Some("+1,234,566".to_owned()));
    }
}
