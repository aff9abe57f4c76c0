//! TLS towards a relay, or another server that speaks no HTTP: the system's roots, and those that the settings add.

use std::sync::Arc;

use rustls::{
    ClientConfig,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use rustls_platform_verifier::Verifier;

/// # Errors
/// A root that is no certificate, or a system without any.
pub(in crate::send::channel) fn config(roots: &[Vec<u8>]) -> Result<ClientConfig, String> {
    let mut extra = vec![];
    for root in roots {
        for certificate in CertificateDer::pem_slice_iter(root) {
            extra.push(certificate.map_err(|error| error.to_string())?);
        }
    }
    build(extra).map_err(|error| error.to_string())
}

fn build(extra: Vec<CertificateDer<'static>>) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier::new_with_extra_roots(extra, provider.clone())?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}
