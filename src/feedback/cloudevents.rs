//! Consent and address changes from other systems, such as a customer data platform: CloudEvents 1.0 over HTTP.
//!
//! ```yaml
//! kind: Dataset
//! spec:
//!   cloudEvents: {secretRef: {name: crm-events}}      # keys: token (a bearer token), signing_key (Standard Webhooks)
//! ```
//! `POST /events/NAMESPACE/DATASET` takes one event (structured, or binary with `ce-` headers) or a batch. Each counts once,
//! by its source and id, whatever is sent again. The answer says what became of each; what was refused says why, without
//! a personal value, and may be sent again.

mod change;
mod message;

use std::collections::BTreeMap;

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde::Serialize;
use serde_json::json;

use super::{Desk, signed::is_same, webhook};
use crate::store::{self, declared::Declared};

/// Of one request.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Of one batch: what one transaction takes.
const EVENTS_MAX: usize = 1_000;

/// What became of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Taken {
    Accepted,
    /// It was taken before, by its source and id.
    Duplicate,
    /// What is known is as new or newer.
    Older,
    /// It is about somebody who was erased; nothing of it is kept.
    Erased,
    Refused,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    pub source: String,
    pub id: String,
    pub result: Taken,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

pub(super) fn routes() -> Router<Desk> {
    Router::new().route("/events/{namespace}/{dataset}", post(take)).layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

async fn take(
    State(desk): State<Desk>,
    Path((namespace, dataset)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let declared = match authenticated(&desk, (&namespace, &dataset), &headers, &body).await {
        Ok(Some(declared)) => declared,
        Ok(None) => {
            let mut refused = refusal(StatusCode::UNAUTHORIZED, "these credentials are not known here");
            refused.headers_mut().insert(header::WWW_AUTHENTICATE, http::HeaderValue::from_static("Bearer"));
            return refused;
        }
        Err(error) => return unavailable(&error),
    };
    let (events, is_batch) = match message::read(&headers, &body) {
        Ok(read) => read,
        Err((status, reason)) => return refusal(status, &reason),
    };
    if events.len() > EVENTS_MAX {
        return refusal(StatusCode::PAYLOAD_TOO_LARGE, &format!("a batch has at most {EVENTS_MAX} events"));
    }
    match change::apply(&desk, &declared, &events).await {
        Ok(answers) => {
            let is_refused = answers.iter().any(|answer| answer.result == Taken::Refused);
            let status = if is_refused { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
            match answers.as_slice() {
                [one] if !is_batch => told(status, &json!(one)),
                all => told(status, &json!({"results": all})),
            }
        }
        Err(error) => unavailable(&error),
    }
}

/// The dataset, if whoever asks is one that it knows. It is not told whether there is such a dataset.
async fn authenticated(
    desk: &Desk,
    (namespace, dataset): (&str, &str),
    headers: &HeaderMap,
    body: &[u8],
) -> store::Result<Option<Declared>> {
    let Some(declared) = desk.store.dataset(namespace, dataset).await? else { return Ok(None) };
    let Some(reference) = declared.spec.cloud_events.as_ref().map(|events| &events.secret_ref) else { return Ok(None) };
    let Some(secret) = desk.secrets.secret(namespace, &reference.name).await else {
        tracing::warn!(dataset, secret = %reference.name, "events are refused: there is no such Secret");
        return Ok(None);
    };
    let is_bearer = bearer(headers).is_some_and(|given| {
        keys(&secret, "token").any(|token| !token.is_empty() && is_same(token.as_bytes(), given.as_bytes()))
    });
    let signing: Vec<_> = keys(&secret, "signing_key").filter(|key| !key.is_empty()).map(webhook::key).collect();
    let is_known = is_bearer || webhook::is_signed(&signing, headers, body, desk.clock.now());
    Ok(is_known.then_some(declared))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// The values of a Secret whose keys begin so: while one is changed for another there are two.
fn keys<'s>(secret: &'s BTreeMap<String, String>, name: &'s str) -> impl Iterator<Item = &'s str> {
    secret.iter().filter(move |(key, _)| key.starts_with(name)).map(|(_, value)| value.trim())
}

fn unavailable(error: &store::Error) -> Response {
    tracing::warn!(%error, "events were not taken");
    refusal(StatusCode::SERVICE_UNAVAILABLE, "nothing was taken; please send it again")
}

fn refusal(status: StatusCode, reason: &str) -> Response {
    told(status, &json!({"reason": reason}))
}

fn told(status: StatusCode, answer: &serde_json::Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response()
}
