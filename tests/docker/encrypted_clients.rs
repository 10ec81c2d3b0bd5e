//! Clients of servers with TLS, which verify the certificate with the local authority.

use tokio_postgres_rustls::MakeRustlsConnect;

use crate::corner::Corner;

pub(crate) fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// As a client of an encrypted PostgreSQL that trusts the local authority alone.
pub(crate) async fn client_encrypted(corner: &Corner) -> Result<tokio_postgres::Client, String> {
    let mut roots = rustls::RootCertStore::empty();
    let authority = std::fs::read(corner.variable("DEVENV_CA_FILE")).unwrap();
    for certificate in
        rustls::pki_types::pem::PemObject::pem_slice_iter(&authority).map(|found: Result<rustls::pki_types::CertificateDer<'_>, _>| found)
    {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let trust = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let url = corner.variable("DATABASE_URL");
    assert!(url.contains("sslmode=verify-full"), "a URL without verification");
    let plain = format!("{}?sslmode=require", url.split('?').next().unwrap());
    let (client, connection) = tokio_postgres::connect(&plain, MakeRustlsConnect::new(trust)).await.map_err(error_text)?;
    tokio::spawn(connection);
    Ok(client)
}

fn error_text(error: tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| format!("{error:?}"), ToString::to_string)
}

/// The first column of the last rows.
pub(crate) fn try_sql_encrypted(corner: &Corner, statements: &str) -> Result<Vec<String>, String> {
    block(async {
        let messages = client_encrypted(corner).await?.simple_query(statements).await.map_err(error_text)?;
        Ok(messages
            .iter()
            .filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            })
            .collect())
    })
}

#[track_caller]
pub(crate) fn sql_encrypted(corner: &Corner, statements: &str) -> Vec<String> {
    try_sql_encrypted(corner, statements).unwrap_or_else(|error| panic!("{statements}: {error}"))
}

/// As a client of an encrypted Redis that trusts the local authority alone.
pub(crate) async fn connected(url: &str, authority: &str) -> Result<::redis::aio::MultiplexedConnection, String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certificates = ::redis::TlsCertificates { client_tls: None, root_cert: Some(std::fs::read(authority).unwrap()) };
    let client = ::redis::Client::build_with_tls(url, certificates).map_err(|error| error.to_string())?;
    client.get_multiplexed_async_connection().await.map_err(|error| error.to_string())
}

pub(crate) fn redis_encrypted(url: &str, authority: &str, command: &[&str]) -> Result<String, String> {
    block(async {
        let mut connection = connected(url, authority).await?;
        let mut asked = ::redis::cmd(command[0]);
        command[1..].iter().for_each(|word| {
            asked.arg(*word);
        });
        let answer: ::redis::Value = asked.query_async(&mut connection).await.map_err(|error| error.to_string())?;
        Ok(match answer {
            ::redis::Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            ::redis::Value::Int(number) => number.to_string(),
            ::redis::Value::Okay => "OK".to_owned(),
            other => format!("{other:?}"),
        })
    })
}

pub(crate) fn setting(url: &str, authority: &str, name: &str) -> String {
    redis_encrypted(url, authority, &["CONFIG", "GET", name]).unwrap()
}
