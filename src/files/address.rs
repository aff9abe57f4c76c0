//! What the text of a `url` alone says of a place: an object store and what it needs, or a path below the manifest.
//!
//! It is asked by whoever reaches the place, and by whoever checks a manifest and reaches nothing.

use std::path::{Component, Path};

use url::Url;

use super::is_remote;
use crate::api::access::Access;

/// How a store is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    S3,
    Gs,
    Az,
    /// One file, which is only read.
    Web,
}

/// A place off this machine.
#[derive(Clone, Debug)]
pub struct Address {
    pub url: Url,
    pub endpoint: Option<Url>,
    pub scheme: Scheme,
}

/// Why an address is none, and which of the resource's fields says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misaddressed {
    pub field: &'static str,
    pub message: String,
}

impl From<Misaddressed> for String {
    fn from(wrong: Misaddressed) -> Self {
        wrong.message
    }
}

fn wrong(field: &'static str, message: impl Into<String>) -> Misaddressed {
    Misaddressed { field, message: message.into() }
}

impl Address {
    /// # Errors
    /// If the URL or the endpoint is none, holds credentials, or is of a kind that nobody here speaks to.
    pub fn parse(text: &str, access: &Access) -> Result<Self, Misaddressed> {
        let parse = |field, text: &str| {
            Url::parse(text).map_err(|error| wrong(field, format!("`{text}` is not a URL: {error}")))
        };
        let url = parse("url", text)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("url", "a URL holds no credentials; name a Secret in secretRef"));
        }
        let scheme = match url.scheme() {
            "s3" => Scheme::S3,
            "gs" => Scheme::Gs,
            "az" => Scheme::Az,
            "https" | "http" => Scheme::Web,
            other => return Err(wrong("url", format!("`{other}://` is none of s3, gs, az, https"))),
        };
        if scheme == Scheme::Az && access.secret_ref.is_none() {
            return Err(wrong("url", "an az:// URL needs a secretRef with the keys account and access_key"));
        }
        let endpoint = access.endpoint.as_deref().map(|text| parse("endpoint", text)).transpose()?;
        Ok(Self { url, endpoint, scheme })
    }
}

/// Whether something can be read there, as far as the text says.
///
/// # Errors
/// Why not.
pub fn check_source(text: &str, access: &Access) -> Result<(), Misaddressed> {
    if is_remote(text) {
        return Address::parse(text, access).map(drop);
    }
    let mut depth = 0_i32;
    for part in Path::new(text.trim_start_matches("file://")).components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::ParentDir => depth -= 1,
            // Where it is absolute, the machine decides.
            Component::RootDir | Component::Prefix(_) => return Ok(()),
            Component::CurDir => {}
        }
        if depth < 0 {
            return Err(wrong("url", format!("`{text}` leads out of the folder that it begins in")));
        }
    }
    Ok(())
}

/// Whether something can be written there, as far as the text says.
///
/// # Errors
/// Why not.
pub fn check_target(text: &str, access: &Access) -> Result<(), Misaddressed> {
    if !is_remote(text) {
        let is_file = plain_file(text).is_some();
        return if is_file { Ok(()) } else { Err(wrong("url", format!("`{text}` is not a file below the manifest"))) };
    }
    let address = Address::parse(text, access)?;
    if address.scheme == Scheme::Web {
        return Err(wrong("url", format!("`{text}`: files are written below the manifest, or to s3, gs or az")));
    }
    if address.url.path().trim_matches('/').is_empty() {
        return Err(wrong("url", format!("`{text}` names a bucket and no object")));
    }
    Ok(())
}

/// The path of a file below some folder; none if it could be elsewhere, or is hidden.
pub(super) fn plain_file(text: &str) -> Option<&Path> {
    let relative = Path::new(text.strip_prefix("file://").unwrap_or(text));
    let is_plain = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let is_hidden = relative.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    (is_plain && !is_hidden && !is_remote(text)).then_some(relative)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{access::Access, channel::SecretRef};

    fn said(result: Result<(), Misaddressed>) -> String {
        result.err().map(|wrong| format!("{}: {}", wrong.field, wrong.message)).unwrap_or_default()
    }

    #[test]
    fn what_can_be_read() {
        let read = |text: &str| said(check_source(text, &Access::default()));
        for right in
            ["data", "./data/a.csv", "a/../b", "file://data", "/abs/data", "s3://bucket/x", "https://a.example.com/x"]
        {
            assert_eq!(read(right), "", "{right}");
        }
        assert_eq!(read("../data"), "url: `../data` leads out of the folder that it begins in");
        assert_eq!(read("a/../../b"), "url: `a/../../b` leads out of the folder that it begins in");
        assert_eq!(read("ftp://a/b"), "url: `ftp://` is none of s3, gs, az, https");
        assert_eq!(read("s3://me:secret@bucket/x"), "url: a URL holds no credentials; name a Secret in secretRef");
        assert_eq!(read("az://x/y"), "url: an az:// URL needs a secretRef with the keys account and access_key");
        let named = Access { secret_ref: Some(SecretRef { name: "s".into() }), ..Access::default() };
        assert_eq!(said(check_source("az://x/y", &named)), "");
        let endpoint = Access { endpoint: Some("minio".to_owned()), ..Access::default() };
        assert_eq!(
            said(check_source("s3://x/y", &endpoint)),
            "endpoint: `minio` is not a URL: relative URL without a base"
        );
    }

    #[test]
    fn what_can_be_written() {
        let write = |text: &str| said(check_target(text, &Access::default()));
        for right in ["a.csv", "out/a.csv", "s3://bucket/a.csv"] {
            assert_eq!(write(right), "", "{right}");
        }
        for wrong in ["../a.csv", "/a.csv", ".hidden", ""] {
            assert_eq!(write(wrong), format!("url: `{wrong}` is not a file below the manifest"));
        }
        assert_eq!(write("s3://bucket/"), "url: `s3://bucket/` names a bucket and no object");
        assert!(write("https://a.example.com/x").contains("are written below the manifest"));
    }
}
