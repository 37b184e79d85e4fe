//! Encryption: what a client trusts, and who it says it is.
//!
//! A broker's certificate must be valid for the name that it was reached by.
//! There is no way to switch that off.

use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;

/// The files of a client's side, as they were configured.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Files<'a> {
    /// Authorities; those of the machine when there is none.
    pub(crate) authorities: Option<&'a str>,
    pub(crate) certificate: Option<&'a str>,
    pub(crate) key: Option<&'a str>,
}

/// Reads the files.
///
/// # Errors
/// One sentence that names the file and what is wrong with it.
pub(crate) fn client_config(files: Files<'_>) -> Result<Arc<ClientConfig>, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("no version of TLS is usable: {error}"))?
        .with_root_certificates(authorities(files.authorities)?);
    let config = match (files.certificate, files.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let chain = certificates("ssl.certificate.location", certificate)?;
            let private = PrivateKeyDer::from_pem_file(Path::new(key))
                .map_err(|error| unreadable("ssl.key.location", key, &error))?;
            builder
                .with_client_auth_cert(chain, private)
                .map_err(|error| {
                    format!("ssl.certificate.location and ssl.key.location: {error}")
                })?
        }
        _ => {
            return Err(
                "ssl.certificate.location and ssl.key.location are needed together".to_owned(),
            );
        }
    };
    Ok(Arc::new(config))
}

fn authorities(file: Option<&str>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err("this machine has no certificate authorities; \
                        name a file of them by ssl.ca.location"
                .to_owned());
        }
        return Ok(roots);
    };
    for certificate in certificates("ssl.ca.location", file)? {
        roots
            .add(certificate)
            .map_err(|error| unreadable("ssl.ca.location", file, &error))?;
    }
    Ok(roots)
}

fn certificates(property: &str, file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |error| unreadable(property, file, &error);
    let certificates = CertificateDer::pem_file_iter(Path::new(file))
        .map_err(failed)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    if certificates.is_empty() {
        return Err(format!("{property} {file}: there is no certificate in it"));
    }
    Ok(certificates)
}

fn unreadable(property: &str, file: &str, error: &dyn std::fmt::Display) -> String {
    format!("{property} {file}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_missing_or_empty_is_named() {
        let empty = "/dev/null";
        for (authorities, named) in [("no-such-file.pem", "no-such-file.pem"), (empty, empty)] {
            let files = Files {
                authorities: Some(authorities),
                ..Files::default()
            };
            let refused = client_config(files).expect_err("nothing can be trusted");
            assert!(refused.contains("ssl.ca.location"), "{refused}");
            assert!(refused.contains(named), "{refused}");
        }
    }
}
