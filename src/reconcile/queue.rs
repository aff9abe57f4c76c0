//! What is to be looked at, and when: by name, each object one at a time, with backoff per object.
//!
//! kube's own controller gives neither backoff per object nor a way to say that nothing is left to do, which
//! `--until-idle` needs; and the folder home has no cluster to watch.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Mutex,
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::source::Key;

const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// What a look at an object asks for next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing until something changes.
    Await,
    /// Look again soon: work goes on.
    Soon(Duration),
    /// Look again at a time that lies ahead; until then nothing is to be done.
    Later(Duration),
}

#[derive(Default)]
struct Inner {
    due: BTreeMap<Key, (Instant, bool)>,
    running: BTreeSet<Key>,
    failures: HashMap<Key, u32>,
}

/// The queue; a key stands in it at most once.
#[derive(Default)]
pub struct Queue {
    inner: Mutex<Inner>,
    changed: Notify,
}

impl Queue {
    /// Something changed: look now.
    pub fn wake(&self, keys: impl IntoIterator<Item = Key>) {
        keys.into_iter().for_each(|key| self.put(key, Duration::ZERO, true));
    }

    /// Look after a moment; many changes within it are one look.
    pub fn wake_after(&self, key: Key, wait: Duration) {
        self.put(key, wait, true);
    }

    fn put(&self, key: Key, wait: Duration, is_work: bool) {
        let at = Instant::now() + wait;
        if let Ok(mut inner) = self.inner.lock() {
            let slot = inner.due.entry(key).or_insert((at, is_work));
            *slot = (slot.0.min(at), slot.1 || is_work);
        }
        self.changed.notify_one();
    }

    /// The next key that is due. It is not given out again before [`Queue::done`].
    pub async fn next(&self) -> Key {
        loop {
            let wait = match self.pop() {
                Ok(key) => return key,
                Err(wait) => wait,
            };
            let _ = tokio::time::timeout(wait, self.changed.notified()).await;
        }
    }

    fn pop(&self) -> Result<Key, Duration> {
        const NOTHING: Duration = Duration::from_secs(3_600);
        let Ok(mut inner) = self.inner.lock() else { return Err(NOTHING) };
        let now = Instant::now();
        let first = inner.due.iter().filter(|(key, _)| !inner.running.contains(*key)).min_by_key(|(_, (at, _))| *at);
        let Some((key, at)) = first.map(|(key, (at, _))| (key.clone(), *at)) else { return Err(NOTHING) };
        if at > now {
            return Err(at - now);
        }
        inner.due.remove(&key);
        inner.running.insert(key.clone());
        Ok(key)
    }

    /// Ends a look. A failure is tried again after a time that doubles, and is forgotten on success.
    pub fn done(&self, key: &Key, outcome: Result<Action, ()>) {
        let wait = {
            let Ok(mut inner) = self.inner.lock() else { return };
            inner.running.remove(key);
            match outcome {
                Ok(action) => {
                    inner.failures.remove(key);
                    match action {
                        Action::Await => None,
                        Action::Soon(wait) => Some((wait, true)),
                        Action::Later(wait) => Some((wait, false)),
                    }
                }
                Err(()) => {
                    let failures = inner.failures.entry(key.clone()).or_default();
                    *failures += 1;
                    let wait = BACKOFF_FIRST.saturating_mul(1 << (*failures - 1).min(12)).min(BACKOFF_MAX);
                    // Spread, so that what failed together does not come back together.
                    let spread = key.name.bytes().map(u32::from).sum::<u32>() % 100;
                    Some((wait + wait * spread / 400, *failures < 5))
                }
            }
        };
        match wait {
            Some((wait, is_work)) => self.put(key.clone(), wait, is_work),
            None => self.changed.notify_one(),
        }
    }

    /// Whether nothing is being looked at and nothing is left to do before a time that lies ahead.
    pub fn is_idle(&self) -> bool {
        let Ok(inner) = self.inner.lock() else { return true };
        let now = Instant::now();
        inner.running.is_empty() && inner.due.values().all(|(at, is_work)| !is_work && *at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Kind;

    fn key(name: &str) -> Key {
        Key::new(Kind::Campaign, "default", name)
    }

    #[tokio::test]
    async fn a_key_is_given_out_once_at_a_time() {
        let queue = Queue::default();
        queue.wake([key("a"), key("a"), key("b")]);
        let first = queue.next().await;
        queue.wake([first.clone()]);
        let second = queue.next().await;
        assert_ne!(first, second);
        assert!(!queue.is_idle());
        queue.done(&second, Ok(Action::Await));
        queue.done(&first, Ok(Action::Await));
        assert_eq!(queue.next().await, first);
        queue.done(&first, Ok(Action::Later(Duration::from_secs(60))));
        assert!(queue.is_idle());
    }

    #[tokio::test]
    async fn failures_back_off_and_are_forgotten() {
        let queue = Queue::default();
        queue.wake([key("a")]);
        for _ in 0..3 {
            let key = queue.next().await;
            queue.done(&key, Err(()));
        }
        assert_eq!(queue.inner.lock().unwrap().failures[&key("a")], 3);
        let again = queue.next().await;
        queue.done(&again, Ok(Action::Await));
        assert!(queue.inner.lock().unwrap().failures.is_empty());
    }
}
