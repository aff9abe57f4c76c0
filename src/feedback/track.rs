//! Opens and clicks, as a Channel declares them.
//!
//! ```yaml
//! tracking: {opens: "Off", clicks: Individual, consentTopic: personal-offers}   # "Off" | Aggregate | Individual
//! ```
//! A link leads over `GET /l/TOKEN`, which holds where it goes on to, signed: nothing that somebody adds or changes makes
//! it lead elsewhere. With `Aggregate` the token names the step, not the person; so it does with `Individual` for who has
//! not agreed to the topic. Machines that follow links (scanners, privacy proxies) are told by what they say of themselves.

mod rewrite;

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use ring::hmac;

use super::intake::{About, Fact, Happened, Intake, LINK};
use crate::api::channel::{Tracking, Tracks};

/// Of the signature: half of SHA-256's, as RFC 2104, section 5 allows.
const MARK_BYTES: usize = 16;
/// A longer link stays as it is: mail readers cut lines, and servers URLs.
const URL_CHARS_MAX: usize = 1_500;
const TOKEN_CHARS_MAX: usize = 4_096;
/// How long a person waits for the count of her click.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);
/// A transparent picture of one point.
const GIF: &[u8] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;";

/// Whom a link tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// The reference of a message.
    Message(String),
    /// A step of a run: its mark and number.
    Step(String, i64),
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub whom: Whom,
    /// None: of an opening.
    pub url: Option<String>,
}

/// Makes the links of a run's step.
pub struct Tracker {
    base: String,
    tracking: Tracking,
    mark: String,
    step_no: i64,
    key: hmac::Key,
}

impl Tracker {
    /// None where nothing is tracked.
    pub fn new(public_url: Option<&str>, tracking: &Tracking, of: (&str, i64), secret: &[u8]) -> Option<Self> {
        if tracking.opens == Tracks::Off && tracking.clicks == Tracks::Off {
            return None;
        }
        let base = public_url?.trim_end_matches('/').to_owned();
        let (mark, step_no) = (of.0.to_owned(), of.1);
        Some(Self { base, tracking: tracking.clone(), mark, step_no, key: signing_key(secret) })
    }

    /// The text of a message with its links led over here. `is_allowed`: the person has agreed to be told apart.
    pub fn text(&self, text: &str, reference: &str, is_allowed: bool) -> String {
        if self.tracking.clicks == Tracks::Off {
            return text.to_owned();
        }
        rewrite::text(text, |url| self.link(url, reference, is_allowed))
    }

    /// The HTML, and the picture that tells of its opening.
    pub fn html(&self, html: &str, reference: &str, is_allowed: bool) -> String {
        let mut html = match self.tracking.clicks {
            Tracks::Off => html.to_owned(),
            _ => rewrite::html(html, |url| self.link(url, reference, is_allowed)),
        };
        if self.tracking.opens != Tracks::Off {
            let whom = self.whom(self.tracking.opens, reference, is_allowed);
            let token = token(&Said { whom, url: None }, &self.key);
            let picture = format!(
                "<img src=\"{}/o/{token}\" width=\"1\" height=\"1\" alt=\"\" style=\"display:block\">",
                self.base
            );
            let at = rewrite::end_of_body(&html);
            html.insert_str(at, &picture);
        }
        html
    }

    fn whom(&self, tracks: Tracks, reference: &str, is_allowed: bool) -> Whom {
        match tracks {
            Tracks::Individual if is_allowed => Whom::Message(reference.to_owned()),
            _ => Whom::Step(self.mark.clone(), self.step_no),
        }
    }

    /// Where a link leads from now on. None: it stays, as it is of ourselves, or does not lead into the web.
    fn link(&self, url: &str, reference: &str, is_allowed: bool) -> Option<String> {
        if !is_web(url) || url.len() > URL_CHARS_MAX || url.starts_with(&self.base) {
            return None;
        }
        let whom = self.whom(self.tracking.clicks, reference, is_allowed);
        Some(format!("{}/l/{}", self.base, token(&Said { whom, url: Some(url.to_owned()) }, &self.key)))
    }
}

fn is_web(url: &str) -> bool {
    let url = url.to_ascii_lowercase();
    (url.starts_with("https://") || url.starts_with("http://")) && !url.contains(|c: char| c.is_control() || c == ' ')
}

fn token(said: &Said, key: &hmac::Key) -> String {
    let url = said.url.as_deref().unwrap_or_default();
    let text = match &said.whom {
        Whom::Message(reference) => format!("m {reference} {url}"),
        Whom::Step(mark, step_no) => format!("s {mark}.{step_no} {url}"),
    };
    let mark = hmac::sign(key, text.as_bytes());
    URL_SAFE_NO_PAD.encode([&mark.as_ref()[..MARK_BYTES], text.as_bytes()].concat())
}

/// What a token says. None: it was not made with this secret.
pub fn read(token: &str, secret: &[u8]) -> Option<Said> {
    if token.len() > TOKEN_CHARS_MAX {
        return None;
    }
    let signed = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (mark, text) = signed.split_at_checked(MARK_BYTES)?;
    let right = hmac::sign(&signing_key(secret), text);
    // Without a hint by the time it takes how much of a forgery is right.
    if right.as_ref()[..MARK_BYTES].iter().zip(mark).fold(0, |differs, (a, b)| differs | (a ^ b)) != 0 {
        return None;
    }
    let mut parts = std::str::from_utf8(text).ok()?.splitn(3, ' ');
    let (kind, of, url) = (parts.next()?, parts.next()?, parts.next()?);
    let whom = match kind {
        "m" => Whom::Message(of.to_owned()),
        "s" => of.split_once('.').and_then(|(mark, no)| Some(Whom::Step(mark.to_owned(), no.parse().ok()?)))?,
        _ => return None,
    };
    let url = (!url.is_empty()).then(|| url.to_owned());
    // It was checked when it was signed; what goes into a header is checked again.
    if url.as_deref().is_some_and(|url| !is_web(url)) {
        return None;
    }
    Some(Said { whom, url })
}

fn signing_key(secret: &[u8]) -> hmac::Key {
    let own = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"link");
    hmac::Key::new(hmac::HMAC_SHA256, own.as_ref())
}

/// What links ask of the listener.
#[derive(Clone)]
pub struct Links {
    pub intake: Intake,
    pub secret: Vec<u8>,
}

pub fn routes(links: Links) -> Router {
    Router::new().route("/l/{token}", get(follow)).route("/o/{token}", get(open)).with_state(links)
}

async fn follow(State(links): State<Links>, Path(token): Path<String>, method: Method, headers: HeaderMap) -> Response {
    let said = read(&token, &links.secret);
    let Some((Said { whom, .. }, url)) = said.and_then(|said| said.url.clone().map(|url| (said, url))) else {
        return (StatusCode::NOT_FOUND, "This link is not complete. Please copy it whole from the message.")
            .into_response();
    };
    let is_machine = is_machine(&method, &headers);
    links.tell(whom, Happened::Clicked { url: url.clone(), is_machine }).await;
    let headers = [
        (header::LOCATION, url.as_str()),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (StatusCode::FOUND, headers).into_response()
}

async fn open(State(links): State<Links>, Path(token): Path<String>, method: Method, headers: HeaderMap) -> Response {
    // Whoever made the token up sees the same picture.
    if let Some(Said { whom, url: None }) = read(&token, &links.secret) {
        let is_machine = is_machine(&method, &headers);
        links.tell(whom, Happened::Opened { is_machine }).await;
    }
    ([(header::CONTENT_TYPE, "image/gif"), (header::CACHE_CONTROL, "no-store, private")], GIF).into_response()
}

impl Links {
    /// A person is led on whether or not the store takes her click.
    async fn tell(&self, whom: Whom, what: Happened) {
        let now = self.intake.clock.now();
        let about = match whom {
            Whom::Step(mark, step_no) => About::Step { mark, step_no },
            Whom::Message(reference) => {
                let id = event_id(&what, now);
                About::Message { references: vec![reference], id, recipient: None, medium: "email" }
            }
        };
        let telling = self.intake.tell(vec![Fact { source: LINK, about, what, at: now }]);
        if !matches!(tokio::time::timeout(PATIENCE, telling).await, Ok(Ok(_))) {
            tracing::warn!("an open or a click is not recorded");
        }
    }
}

/// The same link followed again within a minute is one event.
fn event_id(what: &Happened, now: Timestamp) -> String {
    let minute = now.as_second() / 60;
    match what {
        Happened::Clicked { url, is_machine } => {
            use sha2::{Digest, Sha256};
            let hash: String = Sha256::digest(url).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
            format!("click-{hash}-{minute}-{}", u8::from(*is_machine))
        }
        other => format!("open-{minute}-{}", u8::from(matches!(other, Happened::Opened { is_machine: true }))),
    }
}

/// Parts of what machines call themselves, in lower case: crawlers, scanners of mail gateways, proxies of mailboxes.
const MACHINES: [&str; 26] = [
    "bot",
    "crawl",
    "spider",
    "preview",
    "scan",
    "proofpoint",
    "barracuda",
    "mimecast",
    "safelinks",
    "urldefense",
    "googleimageproxy",
    "yahoomailproxy",
    "ggpht",
    "curl/",
    "wget/",
    "python",
    "java/",
    "go-http-client",
    "okhttp",
    "headless",
    "phantom",
    "node-fetch",
    "axios",
    "libwww",
    "http_request",
    "facebookexternalhit",
];

fn is_machine(method: &Method, headers: &HeaderMap) -> bool {
    let header =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    let is_ahead = ["purpose", "sec-purpose", "x-purpose", "x-moz"]
        .iter()
        .any(|name| ["prefetch", "prerender", "preview"].iter().any(|word| header(name).contains(word)));
    let agent = header("user-agent");
    // Apple's privacy proxy says nothing more than this.
    let is_bare = agent.is_empty() || agent == "mozilla/5.0";
    *method == Method::HEAD || is_ahead || is_bare || MACHINES.iter().any(|word| agent.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: &str = "1.0.7.0123456789ab.0123456789abcdef";

    fn tracker(opens: Tracks, clicks: Tracks) -> Tracker {
        let tracking = Tracking { opens, clicks, consent_topic: Some("tracking".into()) };
        Tracker::new(Some("https://mail.example.com/"), &tracking, ("0123456789ab", 1), b"secret").unwrap()
    }

    fn links_of(text: &str) -> Vec<Said> {
        let tokens = text.split("https://mail.example.com/").skip(1);
        tokens
            .filter_map(|rest| {
                let token: String =
                    rest.chars().skip(2).take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect();
                read(&token, b"secret")
            })
            .collect()
    }

    #[test]
    fn links_say_whom_only_where_it_is_allowed() {
        let tracker = tracker(Tracks::Individual, Tracks::Individual);
        let html = "<body><a href=\"https://example.org/a?x=1&amp;y=2\">A</a></body>";
        let whom = |is_allowed| links_of(&tracker.html(html, REFERENCE, is_allowed));
        let url = Some("https://example.org/a?x=1&y=2".to_owned());
        let person = Whom::Message(REFERENCE.to_owned());
        assert_eq!(whom(true), [Said { whom: person.clone(), url: url.clone() }, Said { whom: person, url: None }]);
        let step = Whom::Step("0123456789ab".to_owned(), 1);
        assert_eq!(whom(false), [Said { whom: step.clone(), url }, Said { whom: step, url: None }]);
        let none = Tracking { opens: Tracks::Off, clicks: Tracks::Off, consent_topic: None };
        assert!(Tracker::new(Some("https://m.example"), &none, ("m", 1), b"s").is_none());
        assert!(Tracker::new(None, &Tracking::default(), ("m", 1), b"s").is_none());
    }

    #[test]
    fn a_changed_token_leads_nowhere() {
        let tracker = tracker(Tracks::Off, Tracks::Aggregate);
        let link = tracker.link("https://example.org/", REFERENCE, false).unwrap();
        let token = link.rsplit('/').next().unwrap();
        assert!(read(token, b"secret").is_some() && read(token, b"other").is_none());
        for at in 0..token.len() - 1 {
            let other = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
            assert!(read(&[&token[..at], other, &token[at + 1..]].concat(), b"secret").is_none(), "{at}");
        }
        for url in [
            "javascript:alert(1)",
            "//evil.example",
            "data:text/html,x",
            "https://a b",
            "https://a\r\nX: y",
            "mailto:a@b.c",
        ] {
            assert_eq!(tracker.link(url, REFERENCE, false), None, "{url}");
            let signed =
                super::token(&Said { whom: Whom::Step("m".into(), 1), url: Some(url.to_owned()) }, &tracker.key);
            assert_eq!(read(&signed, b"secret"), None, "{url}");
        }
    }

    #[test]
    fn machines_are_told_by_what_they_say() {
        let of = |agent: &str, method: Method| {
            let mut headers = HeaderMap::new();
            headers.insert("user-agent", agent.parse().unwrap());
            is_machine(&method, &headers)
        };
        let person = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
        assert!(!of(person, Method::GET) && of(person, Method::HEAD));
        for agent in [
            "",
            "Mozilla/5.0",
            "Mozilla/5.0 (compatible; Googlebot/2.1)",
            "Mozilla/5.0 (Windows NT 5.1) (via ggpht.com GoogleImageProxy)",
            "curl/8.5.0",
        ] {
            assert!(of(agent, Method::GET), "{agent}");
        }
        let mut ahead = HeaderMap::new();
        ahead.insert("user-agent", person.parse().unwrap());
        ahead.insert("sec-purpose", "prefetch;prerender".parse().unwrap());
        assert!(is_machine(&Method::GET, &ahead));
    }
}
