//! TLS of a request: whom to believe, and as whom to come. Files are read anew for each request, so that renewed ones
//! count at once.

use std::fmt::Display;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::ask::TlsOptions;
use crate::own_file::Folder;

/// The folder in the node's directory with the files that a message may name. One of its own, so that none of them can be
/// the node's identity.
const FOLDER: &str = "tls";

/// The largest of those files, in bytes; a system's list of all authorities has 200 KiB.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What a connection has to know. Blocks: it reads files.
pub(super) fn config(dir: &Path, options: &TlsOptions) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| format!("TLS can't be used: {error}"))?;
    let builder = if options.insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
    } else {
        builder.with_root_certificates(believed(dir, options.ca.as_deref())?)
    };
    let mut config = match &options.cert {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let pem = read(dir, name)?;
            let chain = certificates(&pem, name)?;
            let key =
                PrivateKeyDer::from_pem_slice(&pem).map_err(|error| unusable(name, "has no private key", error))?;
            let with = builder.with_client_auth_cert(chain, key);
            with.map_err(|error| unusable(name, "has a certificate and a key that can't be used together", error))?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The authorities that are believed: those of a file, or else the system's.
fn believed(dir: &Path, ca: Option<&str>) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    if let Some(name) = ca {
        for certificate in certificates(&read(dir, name)?, name)? {
            store.add(certificate).map_err(|error| unusable(name, "has a certificate that can't be used", error))?;
        }
        return Ok(store);
    }
    let system = rustls_native_certs::load_native_certs();
    // Systems carry certificates that no library takes any more; the others do.
    let (taken, _) = store.add_parsable_certificates(system.certs);
    if taken == 0 {
        let why = system.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(format!(
            "this machine has no list of authorities to believe{why}; put one into {FOLDER}/ of the node's directory, and say ca=FILE"
        ));
    }
    Ok(store)
}

fn certificates(pem: &[u8], name: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| unusable(name, "has a certificate that can't be read", error))?;
    if found.is_empty() {
        return Err(format!("{FOLDER}/{name} has no certificate in it (PEM)"));
    }
    Ok(found)
}

fn read(dir: &Path, name: &str) -> Result<Vec<u8>, String> {
    let open = || {
        let folder = Folder::open(&dir.join(FOLDER))?;
        let file = folder.file(name.as_ref(), std::fs::OpenOptions::new().read(true))?;
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    let bytes = open().map_err(|error| format!("{FOLDER}/{name} in the node's directory can't be read: {error}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("{FOLDER}/{name} has more than {} KiB", FILE_BYTES_MAX / 1024));
    }
    Ok(bytes)
}

fn unusable(name: &str, what: &str, error: impl Display) -> String {
    format!("{FOLDER}/{name} {what}: {error}")
}

/// Believes any certificate. What is signed with it is checked all the same: that costs nothing, and tells a broken server.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
