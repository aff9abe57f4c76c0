//! Twilio's callbacks: what became of a message, and what people answer. Both are forms, signed in `X-Twilio-Signature`:
//! the HMAC-SHA1, in Base64, of the URL and behind it of the form's names and values in the order of the names.

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use ring::hmac;

use super::{Callbacks, Refused, is_same};
use crate::{
    api::medium::Medium,
    feedback::{
        intake::{About, Answer, Fact, Happened, Once},
        mail::Class,
        stop::{Stopped, Word, keyword, withdraw_sender},
    },
};

const SOURCE: &str = "twilio";
const MEDIUM: &str = "sms";
const FIELDS_MAX: usize = 100;
/// Nothing is answered here: the words of an answer are the sender's to choose, at Twilio.
const NO_ANSWER: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response/>";
const TEXT_CHARS_MAX: usize = 160;

/// Where Twilio tells of a message: its `StatusCallback`.
pub fn status_url(public_url: &str, (namespace, channel): (&str, &str), reference: &str) -> String {
    format!("{}/twilio/{namespace}/{channel}/status?m={reference}", public_url.trim_end_matches('/'))
}

pub async fn status(
    State(callbacks): State<Callbacks>,
    Path(of): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match take_status(&callbacks, (&of.0, &of.1), &uri, &headers, &body).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refused) => callbacks.refused(SOURCE, refused).await.into_response(),
    }
}

pub async fn message(
    State(callbacks): State<Callbacks>,
    Path(of): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match take_message(&callbacks, (&of.0, &of.1), &uri, &headers, &body).await {
        Ok(()) => ([(header::CONTENT_TYPE, "text/xml")], NO_ANSWER).into_response(),
        Err(refused) => callbacks.refused(SOURCE, refused).await.into_response(),
    }
}

type Form = Vec<(String, String)>;

fn of<'a>(form: &'a Form, name: &str) -> &'a str {
    form.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
}

/// The form of a request, if it is Twilio's.
async fn signed(
    callbacks: &Callbacks,
    (namespace, name): (&str, &str),
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Form, Refused> {
    let spec = callbacks.channel(namespace, name).await?;
    let twilio = spec.callbacks.as_ref().and_then(|callbacks| callbacks.twilio.as_ref()).ok_or(Refused::NoChannel)?;
    let token = callbacks.secret(namespace, &twilio.secret_ref, "auth_token").await?;
    let base = spec.public_url.as_deref().ok_or(Refused::NoChannel)?;
    let url = format!("{}{}", base.trim_end_matches('/'), uri.path_and_query().map_or("", |path| path.as_str()));
    let form: Form = url::form_urlencoded::parse(body).into_owned().take(FIELDS_MAX + 1).collect();
    if form.len() > FIELDS_MAX {
        return Err(Refused::Malformed);
    }
    let given = headers.get("x-twilio-signature").and_then(|value| STANDARD.decode(value.as_bytes()).ok());
    match given {
        Some(given) if is_same(&given, signature(&token, &url, &form).as_ref()) => Ok(form),
        _ => Err(Refused::Forged),
    }
}

fn signature(token: &str, url: &str, form: &Form) -> hmac::Tag {
    let mut sorted: Vec<&(String, String)> = form.iter().collect();
    sorted.sort();
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, token.as_bytes()));
    context.update(url.as_bytes());
    for (name, value) in sorted {
        context.update(name.as_bytes());
        context.update(value.as_bytes());
    }
    context.sign()
}

async fn take_status(
    callbacks: &Callbacks,
    named: (&str, &str),
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(), Refused> {
    let form = signed(callbacks, named, uri, headers, body).await?;
    let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let references = query.filter(|(name, _)| name == "m").map(|(_, value)| value.into_owned()).take(1).collect();
    let what = happened(of(&form, "MessageStatus"), of(&form, "ErrorCode"));
    // Twilio tells each status once and again where no answer came: of one message it is one event.
    let id = format!("{SOURCE}-{}", of(&form, "MessageStatus"));
    let recipient = Some(of(&form, "To").to_owned()).filter(|to| !to.is_empty());
    let about = About::Message { references, id, recipient, medium: MEDIUM };
    let fact = Fact { source: SOURCE, about, what, at: callbacks.intake.clock.now() };
    callbacks.intake.tell(vec![fact]).await.map_err(|_| Refused::Unavailable)?;
    Ok(())
}

/// Of a status, and the code of what went wrong.
fn happened(status: &str, code: &str) -> Happened {
    match status {
        "delivered" => Happened::Delivered,
        "undelivered" | "failed" => Happened::Bounced(match code {
            // 30005: unknown or no longer there; 30006: landline; 21211, 21614: no number, or none of a phone.
            "30005" | "30006" | "21211" | "21614" | "21217" => Class::UnknownMailbox,
            "30003" | "30010" | "30017" => Class::Unreachable,
            "30004" | "30007" | "21610" | "30034" | "30032" => Class::Blocked,
            "30001" | "30022" | "20429" => Class::RateLimited,
            "30019" => Class::MessageTooLarge,
            _ => Class::Undetermined,
        }),
        _ => Happened::Nothing("Underway"),
    }
}

async fn take_message(
    callbacks: &Callbacks,
    named: (&str, &str),
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(), Refused> {
    let form = signed(callbacks, named, uri, headers, body).await?;
    let (sid, from) = (of(&form, "MessageSid"), of(&form, "From"));
    if sid.is_empty() || from.is_empty() || sid.len() > TEXT_CHARS_MAX {
        return Err(Refused::Malformed);
    }
    let (store, now) = (&callbacks.intake.store, callbacks.intake.clock.now());
    let once = Once { source: format!("{SOURCE} {}/{}", named.0, named.1), id: sid.to_owned() };
    // A `STOP` that is sent once more after a new consent must not undo it.
    if store.knows_callback(&once.source, &once.id).await? {
        return Err(Refused::Replayed);
    }
    let word = keyword(of(&form, "Body"));
    match word {
        Word::Stop => stop(callbacks, named, from, of(&form, "Body"), now).await?,
        Word::Start | Word::Help | Word::Other => {}
    }
    let about = About::Message { references: vec![], id: String::new(), recipient: None, medium: MEDIUM };
    let fact = Fact { source: SOURCE, about, what: Happened::Nothing(word.as_str()), at: now };
    // Behind the withdrawal: after a crash between the two it is told again, and withdraws once more.
    match callbacks.intake.tell_once(vec![fact], once).await {
        Ok(Answer::Taken(_)) => Ok(()),
        Ok(Answer::Replayed) => Err(Refused::Replayed),
        Err(_) => Err(Refused::Unavailable),
    }
}

/// Withdraws every topic of the channel for whoever has that number.
async fn stop(
    callbacks: &Callbacks,
    (namespace, channel): (&str, &str),
    from: &str,
    text: &str,
    now: Timestamp,
) -> Result<(), Refused> {
    let text: String = text.chars().filter(|c| !c.is_control()).take(TEXT_CHARS_MAX).collect();
    let said =
        Stopped { namespace, channel, medium: Medium::Sms, address: from, source: MEDIUM, text: Some(&text), at: now };
    withdraw_sender(&callbacks.intake.store, &said, now).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_over_the_url_and_the_sorted_form() {
        let form: Form = [("To", "+12025550100"), ("From", "+12025550199"), ("MessageStatus", "delivered")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let url = status_url("https://mail.example.com/", ("shop", "sms"), "1.0.0.m.s");
        assert_eq!(url, "https://mail.example.com/twilio/shop/sms/status?m=1.0.0.m.s");
        let by_hand = format!("{url}From+12025550199MessageStatusdeliveredTo+12025550100");
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"token");
        assert_eq!(signature("token", &url, &form).as_ref(), hmac::sign(&key, by_hand.as_bytes()).as_ref());
    }
}
