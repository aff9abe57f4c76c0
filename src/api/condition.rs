//! Conditions that kstatus, `kubectl wait`, Flux and Argo CD understand.
//!
//! `Ready` is always there. `Reconciling` and `Stalled` stand only while they are true, and never both:
//! Kubernetes' *kstatus* rules. Reasons are a closed set; messages are cut to [`MESSAGE_CHARS_MAX`].

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// A condition's message is one sentence for a person; Kubernetes itself allows 32 KiB.
pub const MESSAGE_CHARS_MAX: usize = 1_024;

/// Every reason a condition or an event of ours may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    // What went well.
    Accepted,
    Fresh,
    Loaded,
    Refreshed,
    WithinGuard,
    Exported,
    Scheduled,
    Running,
    Completed,
    CompletedWithDoubt,
    NoSchedule,
    Renamed,
    // What is under way or waits for a person.
    Loading,
    Pending,
    Planning,
    Sending,
    Waiting,
    Suspended,
    Stopped,
    Held,
    // What is wrong.
    Invalid,
    NotFound,
    DependencyNotReady,
    SourceUnreadable,
    FileRefused,
    Stale,
    SecretMissing,
    StepFailed,
    OutsideGuard,
    NotAllowed,
    ExportFailed,
    Cancelled,
    Superseded,
    StoreNotMine,
    StoreRegressed,
    StoreUnavailable,
    // Skipped starts, counted and said once each.
    MissedDeadline,
    Overlapped,
    NotAfterPassed,
    PassedWhileSuspended,
    AlreadyRan,
}

impl Reason {
    pub const ALL: [Self; 41] = [
        Self::Accepted,
        Self::Fresh,
        Self::Loaded,
        Self::Refreshed,
        Self::WithinGuard,
        Self::Exported,
        Self::Scheduled,
        Self::Running,
        Self::Completed,
        Self::CompletedWithDoubt,
        Self::NoSchedule,
        Self::Renamed,
        Self::Loading,
        Self::Pending,
        Self::Planning,
        Self::Sending,
        Self::Waiting,
        Self::Suspended,
        Self::Stopped,
        Self::Held,
        Self::Invalid,
        Self::NotFound,
        Self::DependencyNotReady,
        Self::SourceUnreadable,
        Self::FileRefused,
        Self::Stale,
        Self::SecretMissing,
        Self::StepFailed,
        Self::OutsideGuard,
        Self::NotAllowed,
        Self::ExportFailed,
        Self::Cancelled,
        Self::Superseded,
        Self::StoreNotMine,
        Self::StoreRegressed,
        Self::StoreUnavailable,
        Self::MissedDeadline,
        Self::Overlapped,
        Self::NotAfterPassed,
        Self::PassedWhileSuspended,
        Self::AlreadyRan,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Fresh => "Fresh",
            Self::Loaded => "Loaded",
            Self::Refreshed => "Refreshed",
            Self::WithinGuard => "WithinGuard",
            Self::Exported => "Exported",
            Self::Scheduled => "Scheduled",
            Self::Running => "Running",
            Self::Completed => "Completed",
            Self::CompletedWithDoubt => "CompletedWithDoubt",
            Self::NoSchedule => "NoSchedule",
            Self::Renamed => "Renamed",
            Self::Loading => "Loading",
            Self::Pending => "Pending",
            Self::Planning => "Planning",
            Self::Sending => "Sending",
            Self::Waiting => "Waiting",
            Self::Suspended => "Suspended",
            Self::Stopped => "Stopped",
            Self::Held => "Held",
            Self::Invalid => "Invalid",
            Self::NotFound => "NotFound",
            Self::DependencyNotReady => "DependencyNotReady",
            Self::SourceUnreadable => "SourceUnreadable",
            Self::FileRefused => "FileRefused",
            Self::Stale => "Stale",
            Self::SecretMissing => "SecretMissing",
            Self::StepFailed => "StepFailed",
            Self::OutsideGuard => "OutsideGuard",
            Self::NotAllowed => "NotAllowed",
            Self::ExportFailed => "ExportFailed",
            Self::Cancelled => "Cancelled",
            Self::Superseded => "Superseded",
            Self::StoreNotMine => "StoreNotMine",
            Self::StoreRegressed => "StoreRegressed",
            Self::StoreUnavailable => "StoreUnavailable",
            Self::MissedDeadline => "MissedDeadline",
            Self::Overlapped => "Overlapped",
            Self::NotAfterPassed => "NotAfterPassed",
            Self::PassedWhileSuspended => "PassedWhileSuspended",
            Self::AlreadyRan => "AlreadyRan",
        }
    }
}

/// How an object stands, in one word; it becomes the three kstatus conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// `Ready=True`
    Ready(Reason, String),
    /// `Ready=False, Reconciling=True`: progress is being made and will be seen.
    Working(Reason, String),
    /// `Ready=False, Stalled=True`: nothing will change until a person acts.
    Stalled(Reason, String),
}

impl Standing {
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready(..))
    }

    pub fn reason(&self) -> Reason {
        let (Self::Ready(reason, _) | Self::Working(reason, _) | Self::Stalled(reason, _)) = self;
        *reason
    }

    pub fn message(&self) -> &str {
        let (Self::Ready(_, message) | Self::Working(_, message) | Self::Stalled(_, message)) = self;
        message
    }
}

/// Sets `Ready`, `Reconciling` and `Stalled` from `standing`; other conditions stay.
///
/// `lastTransitionTime` moves only when a condition's status does (Kubernetes API conventions).
pub fn apply(conditions: &mut Vec<Condition>, standing: &Standing, generation: i64, now: Timestamp) {
    let (reason, message) = (standing.reason(), standing.message());
    set(conditions, "Ready", standing.is_ready(), reason, message, generation, now);
    keep_while(conditions, "Reconciling", matches!(standing, Standing::Working(..)), standing, generation, now);
    keep_while(conditions, "Stalled", matches!(standing, Standing::Stalled(..)), standing, generation, now);
}

fn keep_while(
    conditions: &mut Vec<Condition>,
    kind: &str,
    is_true: bool,
    standing: &Standing,
    generation: i64,
    now: Timestamp,
) {
    if is_true {
        set(conditions, kind, true, standing.reason(), standing.message(), generation, now);
    } else {
        conditions.retain(|c| c.type_ != kind);
    }
}

/// Sets one condition of type `kind`, keeping the time of its last transition if its status stays.
pub fn set(
    conditions: &mut Vec<Condition>,
    kind: &str,
    is_true: bool,
    reason: Reason,
    message: &str,
    generation: i64,
    now: Timestamp,
) {
    let status = if is_true { "True" } else { "False" };
    let message: String = message.chars().take(MESSAGE_CHARS_MAX).collect();
    let since = conditions
        .iter()
        .find(|c| c.type_ == kind && c.status == status)
        .map_or_else(|| Time(whole_seconds(now)), |c| c.last_transition_time.clone());
    let condition = Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.as_str().to_owned(),
        message,
        observed_generation: Some(generation),
        last_transition_time: since,
    };
    match conditions.iter_mut().find(|c| c.type_ == kind) {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
}

/// The condition of type `kind`, if it stands there.
pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == kind)
}

/// Kubernetes writes `metav1.Time` in whole seconds; a fraction would make every comparison differ.
pub fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn reconciling_and_stalled_stand_only_while_true() {
        let mut conditions = vec![];
        apply(&mut conditions, &Standing::Working(Reason::Loading, "2 files".into()), 1, at(10));
        assert!(find(&conditions, "Reconciling").is_some() && find(&conditions, "Stalled").is_none());
        apply(&mut conditions, &Standing::Stalled(Reason::Invalid, "no".into()), 2, at(20));
        assert!(find(&conditions, "Reconciling").is_none() && find(&conditions, "Stalled").is_some());
        apply(&mut conditions, &Standing::Ready(Reason::Loaded, "".into()), 2, at(30));
        assert_eq!(conditions.len(), 1);
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let mut conditions = vec![];
        apply(&mut conditions, &Standing::Working(Reason::Loading, "1".into()), 1, at(10));
        apply(&mut conditions, &Standing::Stalled(Reason::Invalid, "2".into()), 3, at(20));
        let ready = find(&conditions, "Ready").unwrap();
        assert_eq!((ready.last_transition_time.0, ready.observed_generation), (at(10), Some(3)));
        assert_eq!(ready.reason, "Invalid");
    }
}
