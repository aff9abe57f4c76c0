//! The HTTP listener of what comes back: `campanile run --listen ADDR`, `campanile controller --listen ADDR`.
//!
//! ```text
//! POST /u/TOKEN                      withdraws and answers 200, without a redirect (RFC 8058, section 3.1)
//! GET  /u/TOKEN                      a page with a button; it changes nothing
//! GET  /p/TOKEN   POST /p/TOKEN      a person's page: every topic and way, and nothing at all
//! GET  /c/TOKEN   POST /c/TOKEN      the second yes of a double opt-in
//! POST /events/NAMESPACE/DATASET     consent and addresses from other systems, as CloudEvents
//! GET  /l/TOKEN                      leads on to where a link goes, and counts it
//! GET  /o/TOKEN                      a picture that tells of an opening
//! POST /twilio/NAMESPACE/CHANNEL/status, …/messages, /hooks/NAMESPACE/CHANNEL   what providers tell, signed
//! ```

use axum::{Router, extract::DefaultBodyLimit};

use super::{Desk, callback, cloudevents, confirm, intake::Intake, preferences, track, unsubscribe};

/// A form with a few boxes and little else.
const BODY_BYTES_MAX: usize = 16_384;

/// What answers at those paths.
pub fn app(desk: Desk, intake: Intake) -> Router {
    let forms = unsubscribe::routes().merge(preferences::routes()).merge(confirm::routes());
    let forms = forms.layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    let callbacks = callback::Callbacks::new(intake.clone(), desk.secrets.clone());
    let links = track::Links { intake, secret: desk.secret.clone() };
    let ours = forms.merge(cloudevents::routes()).with_state(desk);
    ours.merge(track::routes(links)).merge(callback::routes(callbacks))
}
