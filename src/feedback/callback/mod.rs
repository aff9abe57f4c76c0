//! What providers tell over HTTP. Whatever is not signed with the channel's Secret is refused, and so is what was sent
//! before.
//!
//! A channel is as the newest run that sent over it had it: nothing else is at hand where no manifest is.

mod twilio;
mod webhook;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};

use super::intake::Intake;
use crate::{
    api::{ChannelSpec, channel::SecretRef},
    plan::Bundle,
    send::{dispatch::Secrets, providers::Secret},
    store::{self, feedback::Came},
};

pub use twilio::status_url;

/// Of a request.
const BODY_BYTES_MAX: usize = 1_024 * 1_024;
/// A channel is looked up again after this.
const CHANNEL_KEPT: Duration = Duration::from_secs(5);
const CHANNELS_MAX: usize = 1_000;

type Known = HashMap<(String, String), (Instant, Option<Arc<ChannelSpec>>)>;

/// What callbacks ask.
#[derive(Clone)]
pub struct Callbacks {
    intake: Intake,
    secrets: Arc<dyn Secrets>,
    channels: Arc<Mutex<Known>>,
}

pub fn routes(callbacks: Callbacks) -> Router {
    Router::new()
        .route("/twilio/{namespace}/{channel}/status", post(twilio::status))
        .route("/twilio/{namespace}/{channel}/messages", post(twilio::message))
        .route("/hooks/{namespace}/{channel}", post(webhook::take))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(callbacks)
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    /// No such channel, or it takes no such callbacks.
    NoChannel,
    NoSecret,
    Forged,
    TooOld,
    Replayed,
    Malformed,
    /// It is told again.
    Unavailable,
}

impl Refused {
    fn word(self) -> &'static str {
        match self {
            Self::NoChannel => "NoChannel",
            Self::NoSecret => "NoSecret",
            Self::Forged => "Forged",
            Self::TooOld => "TooOld",
            Self::Replayed => "Replayed",
            Self::Malformed => "Malformed",
            Self::Unavailable => "Unavailable",
        }
    }
}

impl From<store::Error> for Refused {
    fn from(error: store::Error) -> Self {
        tracing::warn!(%error, "a callback is not taken; it will be told again");
        Self::Unavailable
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NoChannel => StatusCode::NOT_FOUND,
            Self::Forged => StatusCode::FORBIDDEN,
            Self::TooOld | Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Replayed => StatusCode::CONFLICT,
            Self::NoSecret | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, self.word()).into_response()
    }
}

impl Callbacks {
    pub fn new(intake: Intake, secrets: Arc<dyn Secrets>) -> Self {
        Self { intake, secrets, channels: Arc::default() }
    }

    /// The channel, if it takes callbacks.
    async fn channel(&self, namespace: &str, name: &str) -> Result<Arc<ChannelSpec>, Refused> {
        let key = (namespace.to_owned(), name.to_owned());
        let known = self.channels.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some((at, spec)) = known.filter(|(at, _)| at.elapsed() < CHANNEL_KEPT) {
            let _ = at;
            return spec.ok_or(Refused::NoChannel);
        }
        let text = self.intake.store.newest_revision(namespace, name).await?;
        let bundle = text.and_then(|text| serde_json::from_str::<Bundle>(&text).ok());
        let spec = bundle.and_then(|mut bundle| bundle.channels.remove(name)).map(Arc::new);
        let spec = spec.filter(|spec| spec.callbacks.is_some());
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if channels.len() >= CHANNELS_MAX {
            channels.clear();
        }
        channels.insert(key, (Instant::now(), spec.clone()));
        spec.ok_or(Refused::NoChannel)
    }

    async fn secret(&self, namespace: &str, of: &SecretRef, key: &str) -> Result<String, Refused> {
        let secret: Option<Secret> = self.secrets.secret(namespace, &of.name).await;
        secret.and_then(|mut secret| secret.remove(key)).filter(|value| !value.is_empty()).ok_or(Refused::NoSecret)
    }

    /// Counts what was refused.
    async fn refused(&self, source: &str, refused: Refused) -> Refused {
        let came = Came { source: source.to_owned(), told: "Callback".to_owned(), reason: refused.word().to_owned() };
        if let Err(error) = self.intake.store.count_came(came).await {
            tracing::warn!(%error, "a refused callback is not counted");
        }
        refused
    }
}

/// Whether two are the same, without a hint by the time it takes how far they are.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}
