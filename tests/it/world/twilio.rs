//! A stand-in for Twilio's Messages API, after its published reference: what it asks of a request, what it answers, with
//! which code, and the status callbacks that it makes.
//!
//! The number that a message is for says how it is answered: `+1500555…` as Twilio's own numbers for tests do, `+1999`
//! and a code with that code, `+1998…` not at all.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    sync::{Arc, Mutex},
};

use anyhow::{Context, Result};
use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use ring::hmac;
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
pub const TOKEN: &str = "token";
pub const API_KEY: (&str, &str) = ("SK0123456789abcdef0123456789abcdef", "key-secret");

/// HTTP status, and the words of the reference. `{to}` is the number as Twilio repeats it.
const CODES: &[(u64, u16, &str)] = &[
    (10001, 401, "Account is not active"),
    (14107, 429, "Message rate limit exceeded"),
    (20003, 401, "Authenticate"),
    (20005, 403, "Account not active"),
    (20404, 404, "The requested resource was not found"),
    (20429, 429, "Too Many Requests"),
    (20500, 500, "An internal server error has occurred"),
    (20503, 503, "Service unavailable"),
    (21211, 400, "Invalid 'To' Phone Number: {to}"),
    (21212, 400, "Invalid 'From' Number"),
    (21217, 400, "Phone number {to} does not appear to be valid"),
    (21265, 400, "'To' number cannot be a Short Code: {to}"),
    (21266, 400, "'To' and 'From' number cannot be the same: {to}"),
    (21268, 400, "Permission to send an SMS has not been enabled for premium numbers: {to}"),
    (21408, 403, "Permission to send an SMS has not been enabled for the region indicated by the 'To' number: {to}"),
    (21606, 400, "The 'From' phone number provided is not a valid message-capable Twilio phone number"),
    (21608, 400, "The number {to} is unverified. Trial accounts cannot send messages to unverified numbers"),
    (21610, 400, "Attempt to send to unsubscribed recipient"),
    (21611, 429, "This 'From' number has exceeded the maximum number of queued messages"),
    (21612, 400, "Message cannot be sent with the current combination of 'To' ({to}) and/or 'From' parameters"),
    (21614, 400, "'To' number is not a valid mobile number: {to}"),
    (21635, 400, "'To' number cannot be a landline: {to}"),
    (21659, 400, "'From' is not a Twilio phone number or Short Code country mismatch"),
    (21703, 400, "The Messaging Service does not have a phone number available to send a message"),
    (30022, 429, "US A2P 10DLC - Rate Limits Exceeded"),
    (30023, 429, "US A2P 10DLC - Daily Message Cap Reached"),
    (63038, 429, "Account exceeded the daily messages limit"),
    (99999, 400, "A code of tomorrow"),
];
/// Twilio's own numbers for tests.
const MAGIC: [(&str, u64); 5] = [
    ("+15005550001", 21211),
    ("+15005550002", 21612),
    ("+15005550003", 21408),
    ("+15005550004", 21610),
    ("+15005550009", 21614),
];
const KNOWN: [&str; 5] = ["To", "From", "MessagingServiceSid", "Body", "StatusCallback"];
const BODY_CHARS_MAX: usize = 1_600;

/// A message that was taken: the fields of its form, and its SID.
pub type Taken = BTreeMap<String, String>;

#[derive(Clone, Default)]
struct Desk {
    taken: Arc<Mutex<Vec<Taken>>>,
}

pub struct Twilio {
    pub port: u16,
    desk: Desk,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Twilio {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Twilio {
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let desk = Desk::default();
        let app = Router::new()
            .route("/2010-04-01/Accounts/{account}/Messages.json", post(create))
            .fallback(|| async { refusal(20404, "", None) })
            .with_state(desk.clone());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap_or_default() });
        Ok(Self { port, desk, task })
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.desk.taken.lock().unwrap().clone()
    }

    /// Tells what became of the message to a number, as its status callback asks for it; the status of the answer.
    ///
    /// # Errors
    /// If there was no such message, or it asks for no callback.
    pub fn tell(&self, to: &str, status: &str, code: &str) -> Result<u16> {
        let message = self.taken().into_iter().find(|message| message["To"] == to).context("no such message")?;
        let url = message.get("StatusCallback").context("no callback is asked for")?.clone();
        let mut form = BTreeMap::from([
            ("AccountSid", ACCOUNT.to_owned()),
            ("ApiVersion", "2010-04-01".to_owned()),
            ("From", message.get("From").cloned().unwrap_or_default()),
            ("MessageSid", message["Sid"].clone()),
            ("MessageStatus", status.to_owned()),
            ("SmsSid", message["Sid"].clone()),
            ("SmsStatus", status.to_owned()),
            ("To", to.to_owned()),
        ]);
        if !code.is_empty() {
            form.insert("ErrorCode", code.to_owned());
        }
        let signed: String = form.iter().map(|(name, value)| format!("{name}{value}")).collect();
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, TOKEN.as_bytes());
        let signature = STANDARD.encode(hmac::sign(&key, format!("{url}{signed}").as_bytes()));
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let url: url::Url = url.parse()?;
        let mut stream = TcpStream::connect(("127.0.0.1", url.port().context("no port")?))?;
        let target = format!("{}?{}", url.path(), url.query().unwrap_or_default());
        write!(
            stream,
            "POST {target} HTTP/1.1\r\nHost: callback\r\nConnection: close\r\nX-Twilio-Signature: {signature}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.split(' ').nth(1).context("no answer")?.parse()?)
    }
}

fn refusal(code: u64, to: &str, retry_after: Option<u32>) -> Response {
    let (_, status, words) = CODES.iter().find(|(known, ..)| *known == code).copied().unwrap_or((code, 400, "No"));
    refused(code, status, &words.replace("{to}", to), retry_after)
}

fn refused(code: u64, status: u16, message: &str, retry_after: Option<u32>) -> Response {
    let more_info = format!("https://www.twilio.com/docs/errors/{code}");
    let body = json!({"code": code, "message": message, "more_info": more_info, "status": status});
    let mut answer = answered(StatusCode::from_u16(status).unwrap(), &body);
    if let Some(seconds) = retry_after {
        answer.headers_mut().insert("retry-after", seconds.to_string().parse().unwrap());
    }
    answer
}

fn answered(status: StatusCode, body: &Value) -> Response {
    (status, [("content-type", "application/json")], body.to_string()).into_response()
}

async fn create(State(desk): State<Desk>, Path(account): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let login = header("authorization").strip_prefix("Basic ").and_then(|text| STANDARD.decode(text).ok());
    let login = login.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    let known = [format!("{ACCOUNT}:{TOKEN}"), format!("{}:{}", API_KEY.0, API_KEY.1)];
    if !known.contains(&login) {
        return refusal(20003, "", None);
    }
    if account != ACCOUNT {
        return refusal(20404, "", None);
    }
    let wrong = |code: u64, message: &str| refused(code, 400, message, None);
    if header("content-type") != "application/x-www-form-urlencoded" {
        return wrong(20001, "the content is no form");
    }
    let mut form: Taken = url::form_urlencoded::parse(&body).into_owned().collect();
    if let Some(unknown) = form.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        return wrong(20001, &format!("Unknown parameter: {unknown}"));
    }
    let field = |name: &str| form.get(name).map_or("", String::as_str);
    let (to, from, service, text) = (field("To"), field("From"), field("MessagingServiceSid"), field("Body"));
    if from.is_empty() == service.is_empty() {
        return wrong(21603, "A 'From' phone number is required");
    }
    if to.is_empty() {
        return wrong(21604, "A 'To' phone number is required");
    }
    if text.is_empty() {
        return wrong(21602, "Message body is required");
    }
    if text.chars().count() > BODY_CHARS_MAX {
        return wrong(21617, "The concatenated message body exceeds the 1600 character limit");
    }
    let callback = field("StatusCallback");
    if !callback.is_empty() && callback.parse::<url::Url>().is_err() {
        return wrong(21609, "The 'StatusCallback' URL is not a valid URL");
    }
    let digits = to.strip_prefix('+').unwrap_or_default();
    if !(7..=15).contains(&digits.len()) || digits.bytes().any(|b| !b.is_ascii_digit()) {
        return refusal(21211, to, None);
    }
    if let Some((_, code)) = MAGIC.iter().find(|(number, _)| *number == to) {
        return refusal(*code, to, None);
    }
    if let Some(code) = to.strip_prefix("+1999").and_then(|rest| rest.get(..5)?.parse().ok()) {
        return refusal(code, to, to.ends_with("30").then_some(30));
    }
    if to.starts_with("+1998") {
        // Taken or not: nobody will know.
        std::future::pending::<()>().await;
    }
    let mut taken = desk.taken.lock().unwrap();
    let sid = format!("SM{:032x}", taken.len() + 1);
    let answer = created(&form, &sid);
    form.insert("Sid".to_owned(), sid);
    taken.push(form);
    answered(StatusCode::CREATED, &answer)
}

fn created(form: &Taken, sid: &str) -> Value {
    let field = |name: &str| form.get(name).map_or(Value::Null, |value| value.as_str().into());
    let is_service = form.contains_key("MessagingServiceSid");
    json!({
        "account_sid": ACCOUNT, "api_version": "2010-04-01", "body": field("Body"),
        "date_created": "Thu, 24 Aug 2023 05:01:45 +0000", "date_sent": null, "date_updated": "Thu, 24 Aug 2023 05:01:45 +0000",
        "direction": "outbound-api", "error_code": null, "error_message": null, "from": field("From"),
        "messaging_service_sid": field("MessagingServiceSid"), "num_media": "0",
        "num_segments": if is_service { "0" } else { "1" }, "price": null, "price_unit": "USD", "sid": sid,
        "status": if is_service { "accepted" } else { "queued" }, "subresource_uris": {}, "to": field("To"),
        "uri": format!("/2010-04-01/Accounts/{ACCOUNT}/Messages/{sid}.json"),
    })
}
