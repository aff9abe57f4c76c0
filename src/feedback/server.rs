//! The HTTP listener of what comes back: `campanile run --listen ADDR`, `campanile controller --listen ADDR`.
//!
//! ```text
//! POST /u/TOKEN   withdraws and answers 200, without a redirect (RFC 8058, section 3.1)
//! GET  /u/TOKEN   a page with a button; it changes nothing
//! GET  /l/TOKEN   leads on to where a link goes, and counts it
//! GET  /o/TOKEN   a picture that tells of an opening
//! POST /twilio/NAMESPACE/CHANNEL/status, …/messages, /hooks/NAMESPACE/CHANNEL   what providers tell, signed
//! ```

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use super::{
    callback,
    intake::Intake,
    track,
    unsubscribe::{self, SPECIMEN},
};
use crate::{
    clock::Clock,
    send::dispatch::Secrets,
    store::{self, Store},
};

/// `List-Unsubscribe=One-Click` and little else.
const BODY_BYTES_MAX: usize = 4_096;

#[derive(Clone)]
struct Desk {
    store: Store,
    clock: Clock,
    secret: Vec<u8>,
}

/// What answers at those paths.
///
/// # Errors
/// Of the store, which keeps what links are signed with.
pub async fn app(store: Store, clock: Clock, intake: Intake, secrets: Arc<dyn Secrets>) -> store::Result<Router> {
    let secret = store.secret().await?;
    let callbacks = callback::Callbacks::new(intake.clone(), secrets);
    let links = track::Links { intake, secret: secret.clone() };
    let desk = Desk { store, clock, secret };
    Ok(Router::new()
        .route("/u/{token}", get(look).post(withdraw))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(desk)
        .merge(track::routes(links))
        .merge(callback::routes(callbacks)))
}

async fn look(State(desk): State<Desk>, Path(token): Path<String>) -> Response {
    if token == SPECIMEN {
        return specimen();
    }
    match unsubscribe::read(&token, &desk.secret) {
        Some(said) => page(StatusCode::OK, &form(&said.of.topic)),
        None => unknown(),
    }
}

async fn withdraw(State(desk): State<Desk>, Path(token): Path<String>) -> Response {
    if token == SPECIMEN {
        return specimen();
    }
    let Some(said) = unsubscribe::read(&token, &desk.secret) else { return unknown() };
    match unsubscribe::withdraw(&desk.store, &said, desk.clock.now()).await {
        Ok(()) => page(StatusCode::OK, "<p>You will not get these messages any more.</p>"),
        Err(error) => {
            // The mailbox asks again; nothing is said to be done that is not.
            tracing::warn!(%error, "a withdrawal was not recorded");
            page(StatusCode::SERVICE_UNAVAILABLE, "<p>This did not work. Please try again in a moment.</p>")
        }
    }
}

/// A mailbox that tries the link of a proof is answered as by a real one.
fn specimen() -> Response {
    page(StatusCode::OK, "<p>This is the link of a proof. It works, and nobody was unsubscribed.</p>")
}

fn unknown() -> Response {
    page(StatusCode::NOT_FOUND, "<p>This link is not complete. Please copy it whole from the message.</p>")
}

fn form(topic: &str) -> String {
    // A topic's name is made of letters, digits and hyphens; nothing in it can be markup.
    format!("<p>Stop messages about <b>{topic}</b>?</p><form method=\"post\"><button>Unsubscribe</button></form>")
}

fn page(status: StatusCode, body: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"robots\" content=\"noindex\"><title>Unsubscribe</title>\
         <style>body{{font:1.1rem system-ui,sans-serif;max-width:32rem;margin:3rem auto;padding:0 1rem;color-scheme:light dark}}\
         button{{font:inherit;padding:.5rem 1rem}}</style>{body}</html>"
    );
    let policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'";
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (status, headers, html).into_response()
}
