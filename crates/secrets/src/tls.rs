//! The local certificate authority: one per state directory, trusted only by clients that get its file.
//!
//! Services with `tls: true` get a certificate from it; clients verify it with `ca.pem`. The key never leaves its file.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use devenv_files::{Durability, write_atomically, write_with};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, pem::PemObject};

/// The largest file of certificates that is read, in bytes.
pub const LARGEST: u64 = 1 << 20;

/// Signs the certificates of this state directory's services.
pub struct Authority {
    certificate: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot save the certificate authority to {path}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot create a certificate")]
    Certificate(#[from] rcgen::Error),
    #[error("{path} is not a certificate that clients can trust: {reason}")]
    Trust { path: PathBuf, reason: String },
    #[error("its certificate authority is unknown")]
    Unknown,
}

/// The certificate of the authority that is, or will be, in `directory`.
pub fn certificate_of(directory: &Path) -> PathBuf {
    directory.join("ca.pem")
}

impl Authority {
    /// The authority of `directory`, created if it does not exist.
    pub fn open(directory: &Path) -> Result<Self, TlsError> {
        let (certificate, key) = (certificate_of(directory), directory.join("ca.key"));
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| TlsError::File { path, source }
        };
        if !(certificate.exists() && key.exists()) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(file(directory))?;
            let pair = KeyPair::generate()?;
            let signed = authority_parameters()?.self_signed(&pair)?;
            // The certificate last: its file shows that the authority is complete.
            write_atomically(&key, pair.serialize_pem().as_bytes()).map_err(file(&key))?;
            write_with(&certificate, signed.pem().as_bytes(), 0o644, Durability::Synced).map_err(file(&certificate))?;
        }
        let pair = KeyPair::from_pem(&fs::read_to_string(&key).map_err(file(&key))?)?;
        // A certificate names its issuer by subject and key, which never change.
        Ok(Self { certificate, issuer: Issuer::new(authority_parameters()?, pair) })
    }

    /// The authority's certificate, for example for `sslrootcert`.
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// A server's certificate and key in PEM, for these names and every name of the loopback.
    pub fn server(&self, names: &[String]) -> Result<(String, String), TlsError> {
        let mut all: Vec<String> = names.to_vec();
        all.extend(["localhost", "127.0.0.1", "::1", "host.docker.internal"].map(str::to_owned));
        let mut parameters = CertificateParams::new(all)?;
        parameters.distinguished_name.push(DnType::CommonName, names.first().map_or("localhost", String::as_str));
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2120, 1, 1);
        parameters.use_authority_key_identifier_extension = true;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let pair = KeyPair::generate()?;
        let certificate = parameters.signed_by(&pair, &self.issuer)?;
        Ok((certificate.pem(), pair.serialize_pem()))
    }
}

/// The certificate that a client of a server trusts, if the server encrypts.
pub fn trust(encrypts: bool, authority: Option<&Path>) -> Result<Option<rustls::ClientConfig>, TlsError> {
    if !encrypts {
        return Ok(None);
    }
    client(authority.ok_or(TlsError::Unknown)?).map(Some)
}

/// The settings of a client that trusts only this authority.
pub fn client(authority: &Path) -> Result<rustls::ClientConfig, TlsError> {
    let fail = |reason: String| TlsError::Trust { path: authority.to_owned(), reason };
    let mut roots = rustls::RootCertStore::empty();
    // A profile can name another file in the place of devenv's own.
    let text = devenv_files::read_bounded_in_time(authority, LARGEST).map_err(|error| fail(error.to_string()))?;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        roots.add(certificate.map_err(|error| fail(error.to_string()))?).map_err(|error| fail(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(fail("it contains no certificate".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| fail(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Makes ring the process-wide provider for drivers. The first call counts; further calls do nothing.
pub fn use_ring() {
    rustls::crypto::ring::default_provider().install_default().ok();
}

fn authority_parameters() -> Result<CertificateParams, rcgen::Error> {
    let mut parameters = CertificateParams::new(Vec::new())?;
    parameters.distinguished_name.push(DnType::CommonName, "devenv local authority");
    parameters.distinguished_name.push(DnType::OrganizationName, "devenv");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2120, 1, 1);
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rustls::{
        client::danger::ServerCertVerifier,
        pki_types::{ServerName, UnixTime},
    };

    use super::*;

    #[test]
    fn a_server_certificate_is_trusted_for_its_names_and_no_other_across_restarts() {
        let directory = tempfile::tempdir().unwrap();
        let first = Authority::open(directory.path()).unwrap();
        let (early, _) = first.server(&["db".into()]).unwrap();
        let again = Authority::open(directory.path()).unwrap();
        let (late, _) = again.server(&["db".into()]).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(again.certificate()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        for pem in [early, late] {
            let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
            let trusted = |name: &str| {
                verifier
                    .verify_server_cert(&certificate, &[], &ServerName::try_from(name.to_owned()).unwrap(), &[], UnixTime::now())
                    .is_ok()
            };
            for name in ["db", "localhost", "127.0.0.1", "::1", "host.docker.internal"] {
                assert!(trusted(name), "{name}");
            }
            assert!(!trusted("other") && !trusted("10.0.0.1"));
        }
        let mode = fs::metadata(directory.path().join("ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(client(again.certificate()).is_ok());
        assert!(client(&directory.path().join("ca.key")).is_err() && client(&directory.path().join("none")).is_err());
    }
}
