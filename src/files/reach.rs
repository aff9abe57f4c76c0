//! What a resource may reach: URLs that the operator allows to its namespace, and never an address inside.
//!
//! In a cluster every URL is refused unless a flag allows its prefix; in a folder home its owner's own word is enough. In
//! both, private, link-local and metadata addresses are refused wherever a name or a redirect leads, unless a flag names
//! that very host, and so is plain `http`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use url::Url;

/// A prefix of URLs that one namespace, or all of them, may use: `shop=s3://exports/` or `https://files.example.com/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedUrl {
    namespace: Option<String>,
    prefix: Url,
}

impl FromStr for AllowedUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, prefix) = match text.split_once('=') {
            Some((namespace, prefix)) if !namespace.contains(':') => (Some(namespace), prefix),
            _ => (None, text),
        };
        let url = Url::parse(prefix).map_err(|e| format!("`{prefix}` is not a URL: {e}"))?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err(format!("`{prefix}` names no host or bucket"));
        }
        Ok(Self { namespace: namespace.filter(|n| *n != "*").map(str::to_owned), prefix: url })
    }
}

impl AllowedUrl {
    fn covers(&self, namespace: &str, url: &Url) -> bool {
        let inside = self.prefix.path();
        let path = url.path();
        // `/a` covers `/a` and what is below it, not `/ab`.
        let is_below = path
            .strip_prefix(inside)
            .is_some_and(|rest| rest.is_empty() || inside.is_empty() || inside.ends_with('/') || rest.starts_with('/'));
        self.namespace.as_ref().is_none_or(|n| n == namespace) && same_host(&self.prefix, url) && is_below
    }
}

fn same_host(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && a.host_str() == b.host_str() && a.port_or_known_default() == b.port_or_known_default()
}

/// What this process lets resources reach.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Whether authors are others than the operator.
    pub is_cluster: bool,
    pub urls: Vec<AllowedUrl>,
    pub tables: Vec<AllowedSchema>,
}

/// A database schema of which one namespace, or all of them, may read the tables: `shop=crm` or `crm`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedSchema {
    namespace: Option<String>,
    schema: String,
}

impl FromStr for AllowedSchema {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, schema) = text.split_once('=').map_or((None, text), |(n, s)| (Some(n), s));
        if schema.is_empty() {
            return Err(format!("`{text}` names no schema"));
        }
        let namespace = namespace.filter(|n| *n != "*").map(str::to_owned);
        Ok(Self { namespace, schema: schema.to_owned() })
    }
}

impl Reach {
    /// Whether a namespace may use a URL.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn check(&self, namespace: &str, url: &Url) -> Result<(), String> {
        let is_allowed = self.urls.iter().any(|allowed| allowed.covers(namespace, url));
        let shown = format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or(""), url.path());
        if self.is_cluster && !is_allowed {
            return Err(format!(
                "`{shown}` is not among the URLs that this controller allows to namespace {namespace}"
            ));
        }
        if is_allowed {
            return Ok(());
        }
        if url.scheme() == "http" {
            return Err(format!("`{shown}` is not encrypted; use https, or allow it by --allow-url"));
        }
        match url.host_str().map(|host| host.trim_matches(['[', ']']).parse::<IpAddr>()) {
            Some(Ok(address)) if !is_public(address) => Err(format!("`{shown}` is a private address")),
            _ => Ok(()),
        }
    }

    /// Whether a namespace may read a table, `schema.table`.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn check_table(&self, namespace: &str, table: &str) -> Result<(), String> {
        let schema = table.split_once('.').map_or("public", |(schema, _)| schema);
        let is_allowed = |allowed: &AllowedSchema| {
            allowed.schema == schema && allowed.namespace.as_ref().is_none_or(|n| n == namespace)
        };
        if self.is_cluster && !self.tables.iter().any(is_allowed) {
            return Err(format!(
                "schema {schema} is not among those that this controller allows to namespace {namespace}"
            ));
        }
        Ok(())
    }

    /// Whether a flag names this very host for a namespace, so that its address may be a private one.
    pub fn names_host(&self, namespace: &str, host: &str) -> bool {
        let is_here = |allowed: &&AllowedUrl| allowed.namespace.as_ref().is_none_or(|n| n == namespace);
        self.urls.iter().filter(is_here).any(|allowed| {
            // A bucket is no host.
            ["http", "https"].contains(&allowed.prefix.scheme()) && allowed.prefix.host_str() == Some(host)
        })
    }
}

/// Whether an address is one of the public internet (IANA's special-purpose registries, RFC 6890).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let is_special = match (a, b) {
        // "This" network, the carrier's own, protocol assignments, benchmarking, what is reserved.
        (0 | 240..=255, _) | (100, 64..=127) | (198, 18..=19) => true,
        (192, 0) => c == 0 || c == 2,
        (192, 88) => c == 99,
        _ => false,
    };
    !(is_special
        || v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_multicast()
        || v4.is_documentation())
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    let parts = v6.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match parts {
        // An IPv4 address in IPv6's clothes: mapped, translated (RFC 6052), 6to4.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        // Documentation, Teredo and what else is not handed out; only 2000::/3 is.
        [0x2001, 0xdb8, ..] | [0x2001, 0..=0x1ff, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [first, ..] => (first & 0xe000) == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(is_cluster: bool, urls: &[&str]) -> Reach {
        Reach { is_cluster, urls: urls.iter().map(|u| u.parse().unwrap()).collect(), tables: vec![] }
    }

    fn may(reach: &Reach, namespace: &str, url: &str) -> bool {
        reach.check(namespace, &Url::parse(url).unwrap()).is_ok()
    }

    #[test]
    fn in_a_cluster_only_what_is_allowed_is_reached() {
        let reach = reach(true, &["shop=s3://exports/shop", "https://files.example.com/open/"]);
        assert!(may(&reach, "shop", "s3://exports/shop/customers"));
        assert!(may(&reach, "other", "https://files.example.com/open/a.csv"));
        for (namespace, url) in [
            ("other", "s3://exports/shop/customers"),
            ("shop", "s3://exports/shopping"),
            ("shop", "s3://exports/shop/../other"),
            ("shop", "s3://exports2/shop"),
            ("shop", "https://files.example.com.evil.com/open/"),
            ("shop", "https://files.example.com:444/open/"),
            ("shop", "http://files.example.com/open/a"),
        ] {
            assert!(!may(&reach, namespace, url), "{namespace} {url}");
        }
    }

    #[test]
    fn in_a_cluster_only_allowed_schemas_are_read() {
        let tables = ["shop=crm", "open"].map(|text| text.parse().unwrap()).to_vec();
        let reach = Reach { is_cluster: true, urls: vec![], tables };
        assert!(reach.check_table("shop", "crm.bookings").is_ok() && reach.check_table("other", "open.t").is_ok());
        assert!(reach.check_table("other", "crm.bookings").is_err() && reach.check_table("shop", "t").is_err());
        assert!(Reach::default().check_table("shop", "t").is_ok());
    }

    #[test]
    fn a_private_address_is_reached_only_where_a_flag_names_it() {
        let open = reach(false, &[]);
        for url in ["https://127.0.0.1/", "https://169.254.169.254/latest", "https://[::1]/", "http://example.com/"] {
            assert!(!may(&open, "default", url), "{url}");
        }
        assert!(may(&open, "default", "https://example.com/a.csv"));
        let named = reach(false, &["http://127.0.0.1:9000/"]);
        assert!(may(&named, "default", "http://127.0.0.1:9000/bucket"));
        assert!(named.names_host("default", "127.0.0.1") && !named.names_host("default", "10.0.0.1"));
        assert!(!may(&named, "default", "http://127.0.0.1:9001/bucket"));
    }

    #[test]
    fn addresses() {
        for inside in [
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "127.0.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.0.170",
            "198.18.0.1",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "2001:db8::1",
            "::127.0.0.1",
        ] {
            assert!(!is_public(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::101:101"] {
            assert!(is_public(outside.parse().unwrap()), "{outside}");
        }
    }
}
