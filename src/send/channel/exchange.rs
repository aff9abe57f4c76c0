//! One HTTP request to a provider, and its answer; where there is none, what is at stake.
//!
//! Until a connection stands nothing is: the message goes later. Behind that only an answer says what became of it, and
//! without one it is in doubt; but HTTP/2 says of what it did not begin with (RFC 9113, section 8.7), and that goes later,
//! too. Where a name or a URL leads is looked at as everywhere (see [`reach`](crate::files::reach)): the endpoint of a
//! web push stands in data that browsers made.

use std::{error::Error, future::Future, io, pin::Pin, sync::Arc, task, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header::RETRY_AFTER};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls_platform_verifier::Verifier;
use tower::Service;
use url::Url;

use super::{Delivery, Refusal, detail};
use crate::files::http::{Permit, Resolver, refusal};

/// For the connection and its TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// For the whole answer. Providers answer within seconds; giving up early leaves doubt.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// What is read of an answer's body: enough for every error that a provider documents.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// A connection that carries nothing is closed after this. Providers keep theirs longer.
const IDLE: Duration = Duration::from_secs(90);
/// An idle HTTP/2 connection whose peer is gone is found out by a ping.
const PING_EVERY: Duration = Duration::from_secs(30);
/// No provider asks for a longer pause, and a message does not wait for ever for a wrong one.
pub const RETRY_AFTER_MAX: SignedDuration = SignedDuration::from_hours(24);

type Boxed = Box<dyn Error + Send + Sync>;

/// Which protocol a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// What TLS agrees on.
    Either,
    /// Many requests at once over one connection.
    Http2,
}

/// A client of one provider.
pub struct Exchange {
    client: Client<Bounded<HttpsConnector<HttpConnector<Resolver>>>, Full<Bytes>>,
    permit: Permit,
    timeout: Duration,
}

/// What a provider answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Fault {
    /// The provider did not begin with the request.
    Unbegun(Refusal, String),
    /// Nobody may connect to where the URL leads.
    Forbidden(String),
    /// The request may have arrived.
    Lost(String),
}

impl Exchange {
    /// `roots` are certificates to trust beside the system's, in PEM.
    ///
    /// # Errors
    /// If the system has no certificates to trust, or a root is none.
    pub fn new(permit: Permit, roots: &[Vec<u8>], speaks: Speaks) -> Result<Self, String> {
        let mut extra = vec![];
        for certificate in roots.iter().flat_map(|pem| CertificateDer::pem_slice_iter(pem)) {
            extra.push(certificate.map_err(|error| error.to_string())?);
        }
        let mut connector = HttpConnector::new_with_resolver(Resolver(permit.clone()));
        connector.enforce_http(false);
        connector.set_nodelay(true);
        let secure =
            HttpsConnectorBuilder::new().with_tls_config(tls(extra).map_err(|e| e.to_string())?).https_or_http();
        let connector = match speaks {
            Speaks::Either => secure.enable_all_versions().wrap_connector(connector),
            Speaks::Http2 => secure.enable_http2().wrap_connector(connector),
        };
        let mut client = Client::builder(TokioExecutor::new());
        client.http2_only(speaks == Speaks::Http2).pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE);
        client.timer(TokioTimer::new()).http2_keep_alive_interval(PING_EVERY).http2_keep_alive_while_idle(false);
        Ok(Self { client: client.build(Bounded(connector)), permit, timeout: ANSWER_TIMEOUT })
    }

    /// Another wait for answers.
    #[must_use]
    pub fn waiting(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Asks once: nothing is repeated, and no redirect followed.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn ask(&self, request: Request<Bytes>) -> Result<Answer, Fault> {
        let url = Url::parse(&request.uri().to_string()).map_err(|e| Fault::Forbidden(e.to_string()))?;
        self.permit.check(&url).map_err(Fault::Forbidden)?;
        let asked = async {
            let answer = self.client.request(request.map(Full::new)).await.map_err(|e| fault(&e))?;
            let (head, mut body) = answer.into_parts();
            let mut read = vec![];
            while read.len() < ANSWER_BYTES_MAX {
                match body.frame().await {
                    None => break,
                    Some(Ok(frame)) => read.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
                    // The status is there, and it says what became of the message.
                    Some(Err(_)) => break,
                }
            }
            read.truncate(ANSWER_BYTES_MAX);
            Ok(Answer { status: head.status, headers: head.headers, body: read.into() })
        };
        match tokio::time::timeout(self.timeout, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(Fault::Lost(format!("no answer within {} s", self.timeout.as_secs()))),
        }
    }
}

fn tls(extra: Vec<CertificateDer<'static>>) -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new_with_extra_roots(extra, provider.clone())?;
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

impl Answer {
    /// How long the provider asks to be left alone (RFC 9110, section 10.2.3): seconds, or a date.
    pub fn retry_after(&self, now: Timestamp) -> Option<SignedDuration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        let wait = match text.parse::<u32>() {
            Ok(seconds) => SignedDuration::from_secs(seconds.into()),
            Err(_) => jiff::fmt::rfc2822::parse(text).ok()?.timestamp().duration_since(now),
        };
        Some(wait.clamp(SignedDuration::ZERO, RETRY_AFTER_MAX))
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Fault {
    /// What it means for a message.
    pub fn delivery(self) -> Delivery {
        match self {
            Self::Unbegun(reason, text) => Delivery::later(reason, &text),
            // A setting leads there, which is the operator's to mend.
            Self::Forbidden(text) => Delivery::later(Refusal::ConnectFailed, &text),
            Self::Lost(text) => Delivery::InDoubt { detail: detail(&text) },
        }
    }
}

fn fault(error: &hyper_util::client::legacy::Error) -> Fault {
    if let Some(why) = refusal(error) {
        return Fault::Forbidden(why);
    }
    let causes = || causes(error);
    let text = causes().last().map(ToString::to_string).unwrap_or_default();
    if error.is_connect() {
        let is_tls = |cause: &(dyn Error + 'static)| {
            let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            cause.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>())
        };
        let reason = if causes().any(is_tls) { Refusal::TlsFailed } else { Refusal::ConnectFailed };
        return Fault::Unbegun(reason, text);
    }
    let unbegun = |cause: &(dyn Error + 'static)| {
        // Of the streams that a GOAWAY names only those behind its last end with it.
        let http2 = cause.downcast_ref::<h2::Error>();
        http2.is_some_and(|e| e.is_remote() && (e.is_go_away() || e.reason() == Some(h2::Reason::REFUSED_STREAM)))
    };
    if causes().any(unbegun) {
        return Fault::Unbegun(Refusal::ConnectFailed, text);
    }
    Fault::Lost(format!("no answer: {text}"))
}

fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// A connector that gives up: a handshake that never ends is no doubt.
#[derive(Clone)]
struct Bounded<C>(C);

impl<C> Service<Uri> for Bounded<C>
where
    C: Service<Uri, Error = Boxed>,
    C::Response: Send + 'static,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = Boxed;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, Boxed>> + Send>>;

    fn poll_ready(&mut self, context: &mut task::Context<'_>) -> task::Poll<Result<(), Boxed>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move {
            match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(connected) => connected,
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no connection in time").into()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_says_when_to_come_again() {
        let now = "2026-03-01T09:00:00Z".parse::<Timestamp>().unwrap();
        let after = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            let answer = Answer { status: StatusCode::SERVICE_UNAVAILABLE, headers, body: Bytes::new() };
            answer.retry_after(now).map(|wait| wait.as_secs())
        };
        assert_eq!(after("120"), Some(120));
        assert_eq!(after("Sun, 01 Mar 2026 09:01:00 GMT"), Some(60));
        assert_eq!(after("Sun, 01 Mar 2026 08:00:00 GMT"), Some(0), "in the past: at once");
        assert_eq!(after("4000000000"), Some(86_400));
        assert_eq!(after("soon"), None);
    }
}
