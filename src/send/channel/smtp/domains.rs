//! Recipient domains that asked for less: how many messages to each may be under way over a relay.
//!
//! `451` to a recipient or to the content speaks of where the message goes, not of the relay: the domain's share of the
//! connections is halved, once for all that was begun before, and every [`GROW_AFTER`] messages taken bring one back.

use std::collections::HashMap;

use super::relay::GROW_AFTER;

/// Domains watched at once. With more than that the relay as a whole is spared.
const WATCHED_MAX: usize = 1_000;

#[derive(Default)]
pub(super) struct Domains {
    slow: HashMap<String, Slow>,
}

struct Slow {
    /// Messages that may be under way now.
    allowed: usize,
    /// Those that began since the domain is watched.
    under_way: usize,
    /// Messages taken since `allowed` last changed.
    taken: usize,
    /// How often `allowed` was halved.
    spared: u32,
}

/// How a message began, as its domain stood then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Begun {
    spared: u32,
    is_counted: bool,
}

impl Domains {
    pub fn is_empty(&self) -> bool {
        self.slow.is_empty()
    }

    pub fn has_room(&self, domain: &str) -> bool {
        self.slow.get(domain).is_none_or(|slow| slow.under_way < slow.allowed)
    }

    pub fn begin(&mut self, domain: &str) -> Begun {
        let Some(slow) = self.slow.get_mut(domain) else { return Begun::default() };
        slow.under_way += 1;
        Begun { spared: slow.spared, is_counted: true }
    }

    /// A message ended. One that was taken may bring the domain a place back, out of `connections` in all. Whether
    /// another of its messages may go now that could not.
    pub fn end(&mut self, domain: &str, begun: Begun, is_taken: bool, connections: usize) -> bool {
        let Some(slow) = self.slow.get_mut(domain) else { return false };
        if begun.is_counted {
            slow.under_way = slow.under_way.saturating_sub(1);
        }
        if is_taken {
            slow.taken += 1;
            if slow.taken >= GROW_AFTER {
                slow.taken = 0;
                slow.allowed += 1;
            }
            if slow.allowed >= connections {
                self.slow.remove(domain);
            }
        }
        true
    }

    /// The domain asked for less, by a message that began so. False: too many domains did.
    pub fn spare(&mut self, domain: &str, begun: Begun, connections: usize) -> bool {
        if !self.slow.contains_key(domain) {
            if self.slow.len() >= WATCHED_MAX {
                return false;
            }
            let slow = Slow { allowed: (connections / 2).max(1), under_way: 0, taken: 0, spared: 1 };
            self.slow.insert(domain.to_owned(), slow);
            tracing::debug!(domain, "the domain asks for less");
            return true;
        }
        if let Some(slow) = self.slow.get_mut(domain).filter(|slow| slow.spared == begun.spared) {
            slow.spared += 1;
            slow.taken = 0;
            slow.allowed = (slow.allowed / 2).max(1);
            tracing::debug!(domain, connections = slow.allowed, "the domain asks for still less");
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_gets_less_and_comes_back() {
        let mut domains = Domains::default();
        let before = domains.begin("slow.example");
        assert!(domains.spare("slow.example", before, 8));
        domains.spare("slow.example", before, 8);
        let begun: Vec<Begun> = (0..4).map(|_| domains.begin("slow.example")).collect();
        assert!(!domains.has_room("slow.example"), "half of eight, however many said so at once");
        assert!(domains.has_room("other.example"));
        domains.spare("slow.example", begun[0], 8);
        domains.spare("slow.example", begun[1], 8);
        for begun in begun {
            domains.end("slow.example", begun, false, 8);
        }
        let one = domains.begin("slow.example");
        assert!(domains.has_room("slow.example"));
        domains.begin("slow.example");
        assert!(!domains.has_room("slow.example"), "half of four");
        for _ in 0..GROW_AFTER * 6 {
            domains.end("slow.example", Begun::default(), true, 8);
        }
        domains.end("slow.example", one, true, 8);
        assert!(domains.is_empty(), "it takes as much as any other again");
    }

    #[test]
    fn the_domains_watched_are_bounded() {
        let mut domains = Domains::default();
        let all = (0..WATCHED_MAX).all(|n| domains.spare(&format!("{n}.example"), Begun::default(), 8));
        assert!(all);
        assert!(!domains.spare("one-more.example", Begun::default(), 8));
    }
}
