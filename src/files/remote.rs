//! Object stores: `s3://`, `gs://`, `az://`, `https://`. What is there is listed with etags, read as a stream, or written.
//!
//! Credentials come from the resource's own Secret; without one nothing is signed. The process' own (its environment, its
//! machine's identity) are never used.

use std::{
    collections::BTreeMap,
    fmt, io,
    io::Read,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    ClientOptions, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig, aws::AmazonS3Builder,
    azure::MicrosoftAzureBuilder, gcp::GoogleCloudStorageBuilder, http::HttpBuilder, path::Path,
};
use tokio::runtime::Handle;
use url::Url;

use super::{
    Input, Ranges,
    address::{Address, Scheme},
    http::{Http, Permit},
    reach::Reach,
    site::{At, FILES_MAX, Found},
    target,
};
use crate::api::access::Access;

/// A look that fails is made again after `every`; within it a short trouble is waited for.
const RETRY_TIME: Duration = Duration::from_secs(20);
const RETRIES_MAX: usize = 3;

/// Objects whose names begin alike, or one object.
#[derive(Clone)]
pub struct Remote {
    store: Arc<dyn ObjectStore>,
    /// The URL without the part that names an object.
    base: String,
    path: Path,
    /// Whether the URL names one object, of a store that cannot list.
    is_single: bool,
    runtime: Handle,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.base, self.path)
    }
}

impl Remote {
    /// An object store, as far as `namespace` may reach it. Called within the runtime that reads from it.
    ///
    /// # Errors
    /// Why it may not or cannot be reached, in words.
    pub fn new(
        (text, access): (&str, &Access),
        secret: Option<&BTreeMap<String, String>>,
        reach: Arc<Reach>,
        namespace: &str,
    ) -> Result<Self, String> {
        let Address { url, endpoint, scheme } = Address::parse(text, access)?;
        reach.check(namespace, &url)?;
        if let Some(endpoint) = &endpoint {
            reach.check(namespace, endpoint)?;
        }
        let is_web = scheme == Scheme::Web;
        let authorization = if is_web { secret.and_then(authorization) } else { None };
        let permit = Permit { reach, namespace: namespace.to_owned(), authorization };
        let http = Http::new(permit, endpoint.as_ref().unwrap_or(&url))?;
        let store = open((scheme, &url), endpoint.as_ref(), access.region.as_deref(), secret, http)?;
        let bucket = url.host_str().unwrap_or("");
        let port = url.port().map_or(String::new(), |port| format!(":{port}"));
        let path = Path::from_url_path(url.path()).map_err(|e| format!("`{text}`: {e}"))?;
        Ok(Self {
            store,
            base: format!("{}://{bucket}{port}/", url.scheme()),
            path,
            is_single: is_web,
            runtime: Handle::current(),
        })
    }

    /// The objects, by name; hidden ones are not.
    ///
    /// # Errors
    /// Why it cannot be looked at, in words.
    pub async fn look(&self) -> Result<Vec<Found>, String> {
        let mut metas = vec![];
        if self.is_single {
            metas.push(self.store.head(&self.path).await.map_err(|e| words(&e))?);
        } else {
            let mut listed = self.store.list(Some(&self.path));
            while let Some(meta) = listed.try_next().await.map_err(|e| words(&e))? {
                let inside =
                    meta.location.as_ref().strip_prefix(self.path.as_ref()).unwrap_or("").trim_start_matches('/');
                let is_hidden = meta.location.filename().is_some_and(|name| name.starts_with('.'));
                // As in a folder: what lies deeper is another's.
                if !inside.contains('/') && !is_hidden {
                    metas.push(meta);
                }
                if metas.len() > FILES_MAX {
                    return Err(format!("`{self:?}` holds more than {FILES_MAX} files"));
                }
            }
            if metas.is_empty()
                && let Ok(meta) = self.store.head(&self.path).await
            {
                metas.push(meta);
            }
        }
        metas.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(metas.into_iter().map(|meta| self.found(meta)).collect())
    }

    fn found(&self, meta: ObjectMeta) -> Found {
        let seconds = u64::try_from(meta.last_modified.timestamp()).unwrap_or(0);
        let at = SystemTime::UNIX_EPOCH
            + Duration::from_secs(seconds)
            + Duration::from_nanos(u64::from(meta.last_modified.timestamp_subsec_nanos()));
        let stamp = meta.e_tag.clone().unwrap_or_else(|| format!("{}:{at:?}", meta.size));
        Found {
            name: format!("{}{}", self.base, meta.location),
            stamp,
            modified: at,
            appeared: at,
            // An object is there whole or not at all.
            settles_in: Duration::ZERO,
            at: At::Object(meta.location, meta.size),
        }
    }

    /// The object that the URL names, to be written.
    ///
    /// # Errors
    /// If it names none, or lies where nothing can be written in parts.
    pub fn target(&self) -> Result<target::Object, String> {
        if self.is_single {
            return Err(format!("`{self:?}`: files are written below the manifest, or to s3, gs or az"));
        }
        if self.path.as_ref().is_empty() {
            return Err(format!("`{self:?}` names a bucket and no object"));
        }
        let (store, path, runtime) = (self.store.clone(), self.path.clone(), self.runtime.clone());
        Ok(target::Object { store, path, runtime })
    }

    /// Opens an object as it was when it was found; blocks.
    pub(super) fn open(&self, path: &Path, size: u64, stamp: &str, is_stream: bool) -> Result<Input, String> {
        // Rewritten since, it is another file, and is found at the next look.
        let if_match = (!stamp.contains(':')).then(|| stamp.to_owned());
        if !is_stream {
            let object =
                Object { store: self.store.clone(), path: path.clone(), size, if_match, runtime: self.runtime.clone() };
            return Ok(Input::Ranges(Arc::new(object)));
        }
        let options = GetOptions { if_match, ..GetOptions::default() };
        let got = self.runtime.block_on(self.store.get_opts(path, options)).map_err(|e| words(&e))?;
        let body = got.into_stream().map_err(|e| io::Error::other(words(&e))).boxed();
        Ok(Input::Stream(Box::new(Body { body, block: Bytes::new(), runtime: self.runtime.clone() })))
    }
}

/// What a store said, without what it wrote into its answer's body.
pub(super) fn words(error: &object_store::Error) -> String {
    let what = match error {
        object_store::Error::NotFound { .. } => "it is not there",
        object_store::Error::PermissionDenied { .. } => "it may not be read with these credentials",
        object_store::Error::Unauthenticated { .. } => "it wants other credentials",
        object_store::Error::Precondition { .. } => "it was rewritten while it was read",
        other => {
            // The refusals of our own client are said in full.
            let mut next: Option<&(dyn std::error::Error + 'static)> = Some(other);
            while let Some(inner) = next {
                if let Some(io) = inner.downcast_ref::<io::Error>()
                    && io.kind() == io::ErrorKind::PermissionDenied
                {
                    return io.to_string();
                }
                next = inner.source();
            }
            // Of the rest nothing is public but their words, which hold the answer's body behind its status.
            let text = other.to_string();
            let status = text.split_once("status code: ").and_then(|(_, rest)| rest.get(..3)).map(str::parse::<u16>);
            return match status {
                Some(Ok(404)) => "there is no such bucket".to_owned(),
                Some(Ok(status)) => format!("the object store answered {status}"),
                _ => "the object store did not answer as it should".to_owned(),
            };
        }
    };
    what.to_owned()
}

fn authorization(secret: &BTreeMap<String, String>) -> Option<String> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    if let Some(token) = secret.get("token") {
        return Some(format!("Bearer {token}"));
    }
    let (user, password) = (secret.get("username")?, secret.get("password")?);
    Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

fn open(
    (scheme, url): (Scheme, &Url),
    endpoint: Option<&Url>,
    region: Option<&str>,
    secret: Option<&BTreeMap<String, String>>,
    http: Http,
) -> Result<Arc<dyn ObjectStore>, String> {
    let retry = RetryConfig { max_retries: RETRIES_MAX, retry_timeout: RETRY_TIME, ..RetryConfig::default() };
    // Whether it may be plain is decided by the client.
    let options = ClientOptions::new().with_allow_http(true);
    let bucket = url.host_str().unwrap_or("");
    let value = |key: &str| {
        let found =
            secret.map(|values| values.get(key).cloned().ok_or_else(|| format!("its secret has no key `{key}`")));
        found.transpose()
    };
    let failed = |e: object_store::Error| format!("`{}://{bucket}`: {e}", url.scheme());
    Ok(match scheme {
        Scheme::S3 => {
            let mut builder = AmazonS3Builder::new()
                .with_bucket_name(bucket)
                .with_region(region.unwrap_or("us-east-1"))
                .with_client_options(options)
                .with_retry(retry)
                .with_http_connector(http);
            if let Some(endpoint) = endpoint {
                builder = builder.with_endpoint(endpoint.as_str().trim_end_matches('/'));
            }
            builder = match (value("access_key_id")?, value("secret_access_key")?) {
                (Some(id), Some(key)) => builder.with_access_key_id(id).with_secret_access_key(key),
                _ => builder.with_skip_signature(true),
            };
            if let Some(token) = secret.and_then(|values| values.get("session_token")) {
                builder = builder.with_token(token);
            }
            Arc::new(builder.build().map_err(failed)?)
        }
        Scheme::Gs => {
            let mut builder = GoogleCloudStorageBuilder::new()
                .with_bucket_name(bucket)
                .with_client_options(options)
                .with_retry(retry)
                .with_http_connector(http);
            if let Some(endpoint) = endpoint {
                builder = builder.with_base_url(endpoint.as_str().trim_end_matches('/'));
            }
            builder = match value("service_account_key")? {
                Some(key) => builder.with_service_account_key(key),
                None => builder.with_skip_signature(true),
            };
            Arc::new(builder.build().map_err(failed)?)
        }
        Scheme::Az => {
            let mut builder = MicrosoftAzureBuilder::new()
                .with_container_name(bucket)
                .with_client_options(options)
                .with_retry(retry)
                .with_http_connector(http);
            if let Some(endpoint) = endpoint {
                builder = builder.with_endpoint(endpoint.as_str().trim_end_matches('/').to_owned());
            }
            if let Some(account) = value("account")? {
                builder = builder.with_account(account);
            }
            builder = match value("access_key")? {
                Some(key) => builder.with_access_key(key),
                None => builder.with_skip_signature(true),
            };
            Arc::new(builder.build().map_err(failed)?)
        }
        Scheme::Web => {
            let mut root = url.clone();
            root.set_path("/");
            let builder = HttpBuilder::new().with_url(root.as_str()).with_client_options(options).with_retry(retry);
            Arc::new(builder.with_http_connector(http).build().map_err(failed)?)
        }
    })
}

/// A stream of a runtime, read from a thread that may block.
struct Body {
    body: BoxStream<'static, io::Result<Bytes>>,
    block: Bytes,
    runtime: Handle,
}

impl Read for Body {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.block.is_empty() {
            match self.runtime.block_on(self.body.next()) {
                Some(block) => self.block = block?,
                None => return Ok(0),
            }
        }
        let n = out.len().min(self.block.len());
        out[..n].copy_from_slice(&self.block.split_to(n));
        Ok(n)
    }
}

/// An object of which parts are read.
struct Object {
    store: Arc<dyn ObjectStore>,
    path: Path,
    size: u64,
    if_match: Option<String>,
    runtime: Handle,
}

impl Ranges for Object {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, start: u64, length: usize) -> io::Result<Bytes> {
        let range = start..start + length as u64;
        let options =
            GetOptions { range: Some(range.into()), if_match: self.if_match.clone(), ..GetOptions::default() };
        let read = async { self.store.get_opts(&self.path, options).await?.bytes().await };
        let bytes = self.runtime.block_on(read).map_err(|e| io::Error::other(words(&e)))?;
        if bytes.len() == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}
