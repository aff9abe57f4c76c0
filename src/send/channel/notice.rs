//! What a device shows, whoever brings it there.

use std::collections::BTreeMap;

use crate::api::template::PushUrgency;

/// How much the device's battery is worth to the sender (RFC 8030, section 5.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Urgency {
    VeryLow,
    Low,
    #[default]
    Normal,
    High,
}

impl Urgency {
    /// As RFC 8030 writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::VeryLow => "very-low",
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

impl From<PushUrgency> for Urgency {
    fn from(declared: PushUrgency) -> Self {
        match declared {
            PushUrgency::VeryLow => Self::VeryLow,
            PushUrgency::Low => Self::Low,
            PushUrgency::Normal => Self::Normal,
            PushUrgency::High => Self::High,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The device's token, or a browser's subscription in JSON.
    pub to: String,
    pub title: String,
    pub body: String,
    pub data: BTreeMap<String, String>,
    /// How long it may wait for the device; as long as its service keeps it, where nobody says it.
    pub ttl_s: Option<u32>,
    pub urgency: Urgency,
    /// A later notice of the same word takes the place of one that still waits.
    pub collapse: Option<String>,
}
