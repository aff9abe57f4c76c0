//! HTTP as object stores are reached: one client that looks where it connects to, at every name and every redirect.

use std::{
    fmt,
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use http_body_util::BodyExt;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{HttpConnector, dns::Name},
    },
    rt::TokioExecutor,
};
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector as Connects, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
        HttpResponseBody, HttpService,
    },
};
use rustls::{ClientConfig, crypto::ring};
use rustls_platform_verifier::Verifier;
use tower::Service;
use url::Url;

use super::reach::{Reach, is_public};

/// More redirects than this lead nowhere.
const REDIRECTS_MAX: usize = 5;
/// A server that does not take a connection, or does not begin to answer, is asked again at the next look.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// The pause within an answer after which it counts as broken off.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What one namespace may reach.
#[derive(Clone, Debug)]
pub struct Permit {
    pub reach: Arc<Reach>,
    pub namespace: String,
    /// Sent with each request to the host of the source; never to another that a redirect leads to.
    pub authorization: Option<String>,
}

impl Permit {
    fn allows(&self, host: &str, address: IpAddr) -> bool {
        is_public(address) || self.reach.names_host(&self.namespace, host)
    }

    /// What may be asked: an address that stands in a URL is not resolved, so it is looked at here.
    ///
    /// # Errors
    /// Why it may not, in words.
    pub fn check(&self, url: &Url) -> Result<(), String> {
        let host = url.host_str().unwrap_or("");
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        let is_plain = url.scheme() != "https" && !self.reach.names_host(&self.namespace, host);
        match address {
            Ok(address) if !self.allows(host, address) => Err(format!("{host} is a private address")),
            _ if is_plain => Err(format!("{host} is not encrypted")),
            _ => Ok(()),
        }
    }
}

/// Resolves names, and leaves out what nobody may connect to.
#[derive(Clone)]
pub struct Resolver(pub Permit);

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let permit = self.0.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let (open, closed): (Vec<_>, Vec<_>) =
                found.partition(|address| permit.allows(name.as_str(), address.ip()));
            if open.is_empty() && !closed.is_empty() {
                let message = format!("{} leads to a private address", name.as_str());
                return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, message));
            }
            Ok(open.into_iter())
        })
    }
}

/// The client of one source.
#[derive(Clone)]
pub struct Http {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, HttpRequestBody>,
    permit: Permit,
    home: Option<String>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Http")
    }
}

impl Http {
    /// A client for what lies at `home`.
    ///
    /// # Errors
    /// If the system has no certificates to trust.
    pub fn new(permit: Permit, home: &Url) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier::new(provider.clone()).map_err(|e| e.to_string())?;
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        let mut connector = HttpConnector::new_with_resolver(Resolver(permit.clone()));
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, permit, home: home.host_str().map(str::to_owned) })
    }

    async fn ask(&self, request: HttpRequest) -> Result<http::Response<hyper::body::Incoming>, HttpError> {
        let failed = |e: hyper_util::client::legacy::Error| {
            let kind = if e.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Request };
            match refusal(&e) {
                Some(message) => refused(message),
                None => HttpError::new(kind, e),
            }
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, self.client.request(request)).await {
            Ok(answer) => answer.map_err(failed),
            Err(elapsed) => Err(HttpError::new(HttpErrorKind::Timeout, elapsed)),
        }
    }
}

/// An error that no repetition mends.
fn refused(message: String) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, std::io::Error::new(std::io::ErrorKind::PermissionDenied, message))
}

/// Why an address may not be reached, where that is why a request failed.
pub fn refusal(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::PermissionDenied
        {
            return Some(io.to_string());
        }
        next = error.source();
    }
    None
}

#[async_trait]
impl HttpService for Http {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (mut parts, body) = request.into_parts();
        let may_follow = ["GET", "HEAD"].contains(&parts.method.as_str());
        let mut body = Some(body);
        for _ in 0..=REDIRECTS_MAX {
            let url = Url::parse(&parts.uri.to_string()).map_err(|e| HttpError::new(HttpErrorKind::Request, e))?;
            self.permit.check(&url).map_err(refused)?;
            let mut asked = http::Request::new(body.take().unwrap_or_else(HttpRequestBody::empty));
            *asked.method_mut() = parts.method.clone();
            *asked.uri_mut() = parts.uri.clone();
            *asked.headers_mut() = parts.headers.clone();
            if let Some(value) = self.permit.authorization.as_ref().filter(|_| url.host_str() == self.home.as_deref())
                && let Ok(value) = value.parse()
            {
                asked.headers_mut().insert(http::header::AUTHORIZATION, value);
            }
            let answer = self.ask(asked).await?;
            let location = answer.headers().get(http::header::LOCATION).and_then(|value| value.to_str().ok());
            let Some(next) = location.filter(|_| may_follow && answer.status().is_redirection()) else {
                return Ok(bounded(answer));
            };
            let next = url.join(next).map_err(|e| HttpError::new(HttpErrorKind::Request, e))?;
            if next.host_str() != url.host_str() {
                // What proves who asks is for the host that was asked.
                parts.headers.remove(http::header::AUTHORIZATION);
                parts.headers.remove(http::header::COOKIE);
            }
            parts.headers.remove(http::header::HOST);
            parts.uri = next.as_str().parse().map_err(|e| HttpError::new(HttpErrorKind::Request, e))?;
        }
        Err(refused(format!("more than {REDIRECTS_MAX} redirects")))
    }
}

fn bounded(answer: http::Response<hyper::body::Incoming>) -> HttpResponse {
    let (parts, body) = answer.into_parts();
    let frames = futures::stream::unfold(Some(body), |body| async move {
        let mut body = body?;
        match tokio::time::timeout(SILENCE_MAX, body.frame()).await {
            Ok(None) => None,
            Ok(Some(Ok(frame))) => Some((Ok(frame), Some(body))),
            Ok(Some(Err(error))) => Some((Err(HttpError::new(HttpErrorKind::Interrupted, error)), None)),
            Err(elapsed) => Some((Err(HttpError::new(HttpErrorKind::Timeout, elapsed)), None)),
        }
    });
    let body = HttpResponseBody::new(http_body_util::StreamBody::new(Box::pin(frames)));
    HttpResponse::from_parts(parts, body)
}

impl Connects for Http {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}
