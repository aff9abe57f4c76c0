//! `sms.twilio`: texts over Twilio's Messages API.
//!
//! ```yaml
//! sms: {twilio: {accountSid: AC…, from: "+393331234567", secretRef: {name: twilio}}}
//! ```
//! Each message is one `POST`, which Twilio queues; what becomes of it is told by status callbacks, which name the message
//! (see `feedback::callback`). The API has no key by which a request that is made twice is one message, so whatever leaves
//! it open whether Twilio has the message is in doubt.
//!
//! | answer | |
//! |---|---|
//! | `201` | sent; the receipt is the message's SID |
//! | `21211`, `21217`, `21614`, `21635` | the number is none, or none of a phone: refused, and the number is dead |
//! | `21610` | the person has opted out at Twilio: refused, and withdrawn here as by a `STOP` |
//! | `21265`, `21266`, `21268`, `21608`, `21612` | refused: this number is not to be had from here |
//! | `21602`, `21617`, `21619`, another `4xx` | refused: the message. More than 1600 characters are not even asked |
//! | `21212`, `21408`, `21606`, `21659`, `21660`, `21661`, `217xx` | the sender, or what it may: the operator's to mend, later |
//! | `10001`, `20003`, `20005`, `20404`, `30002`, another `401`, `403`, `404` | the account or its login: the operator's to mend, later |
//! | `14107`, `20429`, `21611`, `30022`, another `429` | later; `Retry-After` is heeded |
//! | `30023`, `63038` | the day's messages are used up: an hour later |
//! | `20503` | later: Twilio says that it was not there |
//! | another `5xx`, no answer | in doubt: "it is possible" that the person gets it, says Twilio of `20500` |

use std::fmt;

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{Request, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use url::{Url, form_urlencoded};

use super::{
    Content, Delivery, Envelope, Refusal, Text, detail, detail_about,
    exchange::{Answer, Exchange, Fault},
    posted::Post,
};
use crate::{clock::Clock, feedback::callback::status_url};

/// Where messages go, unless the channel says so.
pub const ENDPOINT: &str = "https://api.twilio.com/";
/// The documented length of a body.
pub const BODY_CHARS_MAX: usize = 1_600;
/// Of a limit that is counted over a day: it rolls on, so a part of it is free before the day is over.
const DAY_PAUSE: SignedDuration = SignedDuration::from_hours(1);

/// Who sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sender {
    From(String),
    Service(String),
}

pub struct Settings {
    pub account: String,
    /// The account or an API key, and its secret.
    pub login: (String, String),
    pub sender: Sender,
    pub endpoint: Url,
    /// What Twilio is told of where to tell what became of a message; nothing where nobody listens.
    pub callback: Option<Callback>,
    pub clock: Clock,
}

/// Where status callbacks go.
#[derive(Clone, Debug)]
pub struct Callback {
    pub public_url: String,
    pub namespace: String,
    pub channel: String,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Settings {{ {}, {:?}, {} }}", self.account, self.sender, self.endpoint)
    }
}

pub struct Twilio {
    settings: Settings,
    exchange: Exchange,
}

impl Twilio {
    pub fn new(settings: Settings, exchange: Exchange) -> Self {
        Self { settings, exchange }
    }

    fn request(&self, text: &Text, reference: &str) -> Result<Request<bytes::Bytes>, String> {
        let Settings { account, login, sender, endpoint, callback, .. } = &self.settings;
        let url = endpoint.join(&format!("2010-04-01/Accounts/{account}/Messages.json")).map_err(|e| e.to_string())?;
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("To", &text.to);
        match sender {
            Sender::From(from) => form.append_pair("From", from),
            Sender::Service(sid) => form.append_pair("MessagingServiceSid", sid),
        };
        form.append_pair("Body", &text.text);
        if let Some(Callback { public_url, namespace, channel }) = callback.as_ref().filter(|_| !reference.is_empty()) {
            form.append_pair("StatusCallback", &status_url(public_url, (namespace, channel), reference));
        }
        let login = BASE64_STANDARD.encode(format!("{}:{}", login.0, login.1));
        Request::post(url.as_str())
            .header(header::AUTHORIZATION, format!("Basic {login}"))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .body(form.finish().into())
            .map_err(|e| e.to_string())
    }
}

#[async_trait]
impl Post for Twilio {
    async fn post(&self, message: &Envelope) -> Delivery {
        let refused = |text: &str| Delivery::Refused { reason: Refusal::DataRefused, detail: detail(text) };
        let Content::Text(text) = &message.content else { return refused("it is no text") };
        if text.text.chars().count() > BODY_CHARS_MAX {
            return refused(&format!("the text has more than {BODY_CHARS_MAX} characters"));
        }
        let request = match self.request(text, &message.reference) {
            Ok(request) => request,
            Err(problem) => return refused(&problem),
        };
        if !message.permission.is_given() {
            return Delivery::Unsent;
        }
        match self.exchange.ask(request).await {
            Ok(answer) => judge(&answer, &text.to, self.settings.clock.now()),
            Err(fault) => Fault::delivery(fault),
        }
    }
}

fn judge(answer: &Answer, to: &str, now: Timestamp) -> Delivery {
    let body = answer.json();
    if answer.status.is_success() {
        return Delivery::Sent { receipt: detail(body["sid"].as_str().unwrap_or_default()) };
    }
    let code = body["code"].as_u64();
    let said = body["message"].as_str().unwrap_or_default();
    let number = code.map_or_else(String::new, |code| format!(" {code}"));
    let text = detail_about(format!("{}{number} {said}", answer.status.as_u16()).trim_end(), [to, ""]);
    let refused = |reason| Delivery::Refused { reason, detail: text.clone() };
    let later = |reason, pause: Option<SignedDuration>| {
        let after = answer.retry_after(now).or(pause);
        Delivery::Later { reason, detail: text.clone(), after }
    };
    match (code, answer.status) {
        (Some(21211 | 21217 | 21614 | 21635), _) => refused(Refusal::Unregistered),
        (Some(21610), _) => refused(Refusal::OptedOut),
        (Some(21265 | 21266 | 21268 | 21608 | 21612), _) => refused(Refusal::RecipientRefused),
        (Some(21212 | 21408 | 21606 | 21659..=21661 | 21700..=21799), _) => later(Refusal::SenderRefused, None),
        (Some(10001 | 20003 | 20005 | 20404 | 30002), _) => later(Refusal::AuthFailed, None),
        (Some(30023 | 63038), _) => later(Refusal::Throttled, Some(DAY_PAUSE)),
        (Some(14107 | 20429 | 21611 | 30022), _) | (_, StatusCode::TOO_MANY_REQUESTS) => {
            later(Refusal::Throttled, None)
        }
        (Some(20503), _) => later(Refusal::Unavailable, None),
        (_, status) if status.is_server_error() => Delivery::InDoubt { detail: text },
        (_, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND) => {
            later(Refusal::AuthFailed, None)
        }
        (_, status) if status.is_client_error() => refused(Refusal::DataRefused),
        // A redirect, which no API of Twilio's answers with: something else stands there.
        _ => later(Refusal::ProtocolError, None),
    }
}
