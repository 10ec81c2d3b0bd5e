//! Connections over TLS, verified by the authority of Docker's own configuration.

use std::{fmt, io, path::Path, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{super::endpoint::Reader, Halves};

/// A dead link shows within this time, also while nothing is sent.
const SILENT: Duration = Duration::from_secs(30);

/// The text of the files that identify the engine and its client.
#[derive(Clone, PartialEq, Eq)]
pub(in super::super) struct Certificates {
    authority: String,
    /// The client's certificate and key.
    client: Option<(String, String)>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificates(client: {})", self.client.is_some())
    }
}

impl Certificates {
    /// `ca.pem`, and `cert.pem` with `key.pem` if the client has a certificate.
    pub(in super::super) fn read(directory: &Path, read: Reader<'_>) -> Result<Self, String> {
        let file = |name: &str| {
            let path = directory.join(name);
            read(&path).map_err(|error| (error.kind(), format!("{} cannot be read: {error}", path.display())))
        };
        let authority = file("ca.pem").map_err(|(_, reason)| reason)?;
        if certificates(&authority).is_none_or(|found| found.is_empty()) {
            return Err(format!("{} contains no certificate", directory.join("ca.pem").display()));
        }
        let client = match (file("cert.pem"), file("key.pem")) {
            (Ok(certificate), Ok(key)) => Some((certificate, key)),
            (Err((io::ErrorKind::NotFound, _)), Err((io::ErrorKind::NotFound, _))) => None,
            (Err((_, reason)), _) | (_, Err((_, reason))) => return Err(reason),
        };
        if let Some((certificate, key)) = &client {
            if certificates(certificate).is_none_or(|found| found.is_empty()) {
                return Err(format!("{} contains no certificate", directory.join("cert.pem").display()));
            }
            if PrivateKeyDer::from_pem_slice(key.as_bytes()).is_err() {
                return Err(format!("{} contains no private key without a password", directory.join("key.pem").display()));
            }
        }
        Ok(Self { authority, client })
    }
}

fn certificates(text: &str) -> Option<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>().ok()
}

/// Makes connections.
pub(super) struct Link {
    address: String,
    name: ServerName<'static>,
    connector: TlsConnector,
}

impl Link {
    /// `address` is `HOST:PORT`.
    pub(super) fn new(address: &str, given: &Certificates) -> Result<Self, String> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("`{host}` is not the name of a host"))?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates(&given.authority).unwrap_or_default());
        if roots.is_empty() {
            return Err("the certificate in ca.pem is not usable".to_owned());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?.with_root_certificates(roots);
        let configuration = match &given.client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| format!("key.pem: {error}"))?;
                let chain = certificates(certificate).unwrap_or_default();
                builder.with_client_auth_cert(chain, key).map_err(|error| format!("cert.pem and key.pem: {error}"))?
            }
        };
        Ok(Self { address: address.to_owned(), name, connector: TlsConnector::from(Arc::new(configuration)) })
    }

    pub(super) async fn connect(&self) -> Result<Halves, String> {
        let stream = TcpStream::connect(&self.address).await.map_err(|error| error.to_string())?;
        let _ = (stream.set_nodelay(true), watch(&stream));
        let stream = self.connector.connect(self.name.clone(), stream).await.map_err(|error| explained(&error))?;
        let (read, write) = tokio::io::split(stream);
        Ok((Box::new(read), Box::new(write)))
    }
}

/// The kernel ends the connection when the other machine is silent.
fn watch(stream: &TcpStream) -> rustix::io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, SILENT / 3)?;
    sockopt::set_tcp_keepintvl(stream, SILENT / 6)?;
    #[cfg(target_os = "linux")]
    sockopt::set_tcp_user_timeout(stream, SILENT.as_millis() as u32)?;
    Ok(())
}

/// An error with what to do about it, where that is known.
pub(super) fn explained(error: &io::Error) -> String {
    let reason = error.to_string();
    let hint = match reason.as_str() {
        text if text.contains("UnknownIssuer") => "; another authority than that of ca.pem has signed the engine's certificate",
        text if text.contains("NotValidForName") => "; the engine's certificate is for another address",
        text if text.contains("Expired") => "; the engine's certificate, or the clock of this machine, is out of date",
        text if text.contains("CertificateRequired") || text.contains("BadCertificate") || text.contains("UnknownCA") => {
            "; the engine does not accept the client's certificate (cert.pem and key.pem)"
        }
        text if text.contains("InvalidContentType") => "; what answers there does not use TLS",
        _ => "",
    };
    format!("{reason}{hint}")
}
