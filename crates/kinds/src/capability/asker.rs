//! Checks whether and when a server answers, using the variables that the daemon gives. For kinds whose
//! protocol needs nothing special there are two ways: over HTTP, and by a connection that stays open.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use devenv_spec::variable_form;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Opens connections to a server, to see whether and when it answers.
#[async_trait]
pub trait Asker: Send + Sync {
    async fn open(&self) -> Result<Box<dyn Line>, Silent>;
}

/// One connection to a server.
#[async_trait]
pub trait Line: Send {
    /// Sends the shortest request of the protocol.
    async fn ask(&mut self) -> Result<(), Silent>;
}

/// There was no answer. The reason does not matter: the next attempt follows at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silent;

/// The variables that the daemon gives, with their values.
#[derive(Debug, Clone, Default)]
pub struct Variables(pub BTreeMap<String, String>);

#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    #[error("the environment has no variable {name}")]
    Missing { name: String },
    #[error("{name} is not an address: {reason}")]
    Unreadable { name: String, reason: String },
}

impl Variables {
    /// The name of the variable `SERVICE_SUFFIX`.
    pub fn name(service: &str, suffix: &str) -> String {
        format!("{}_{suffix}", variable_form(service))
    }

    /// The value of the variable `SERVICE_SUFFIX`.
    pub fn of(&self, service: &str, suffix: &str) -> Result<&str, AddressError> {
        self.value(&Self::name(service, suffix))
    }

    pub fn value(&self, name: &str) -> Result<&str, AddressError> {
        self.0.get(name).map(String::as_str).ok_or_else(|| AddressError::Missing { name: name.to_owned() })
    }
}

/// By `SERVICE_URL`: any answer counts, because the supervisor judges the status.
pub(crate) fn http(variables: &Variables, service: &str) -> Result<Arc<dyn Asker>, AddressError> {
    Ok(Arc::new(Http { url: variables.of(service, "URL")?.to_owned() }))
}

/// By `SERVICE_HOST` and `SERVICE_PORT`, or the address in `SERVICE_URL`.
pub(crate) fn tcp(variables: &Variables, service: &str) -> Result<Arc<dyn Asker>, AddressError> {
    let at = match (variables.of(service, "HOST"), variables.of(service, "PORT")) {
        (Ok(host), Ok(port)) => format!("{host}:{port}"),
        _ => {
            let url = variables.of(service, "URL")?;
            url.split("//").last().and_then(|rest| rest.split('/').next()).unwrap_or(url).to_owned()
        }
    };
    Ok(Arc::new(Tcp { at }))
}

/// Each request opens a connection of its own.
#[derive(Clone)]
struct Http {
    url: String,
}

#[derive(Clone)]
struct Tcp {
    /// `host:port`
    at: String,
}

#[async_trait]
impl Asker for Http {
    async fn open(&self) -> Result<Box<dyn Line>, Silent> {
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Line for Http {
    async fn ask(&mut self) -> Result<(), Silent> {
        let rest = self.url.trim_start_matches("http://");
        let (at, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut stream = TcpStream::connect(at).await.map_err(silent)?;
        stream.write_all(format!("GET /{path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n").as_bytes()).await.map_err(silent)?;
        let mut head = [0; 5];
        stream.read_exact(&mut head).await.map_err(silent)?;
        if head == *b"HTTP/" { Ok(()) } else { Err(Silent) }
    }
}

#[async_trait]
impl Asker for Tcp {
    async fn open(&self) -> Result<Box<dyn Line>, Silent> {
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Line for Tcp {
    /// A connection that stays open for a moment: a forwarder accepts before the service listens, and then closes it at once.
    async fn ask(&mut self) -> Result<(), Silent> {
        let mut stream = TcpStream::connect(&self.at).await.map_err(silent)?;
        match timeout(Duration::from_millis(5), stream.read(&mut [0; 1])).await {
            Ok(Ok(0) | Err(_)) => Err(Silent),
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }
}

/// The reason does not matter.
pub(crate) fn silent<E>(_: E) -> Silent {
    Silent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_found_by_its_variables() {
        let variables = Variables([("WEB_URL".to_owned(), "http://127.0.0.1:80/x".to_owned())].into());
        assert!(http(&variables, "web").is_ok() && tcp(&variables, "web").is_ok());
        assert_eq!(tcp(&variables, "my-db").err().map(|error| error.to_string()).unwrap(), "the environment has no variable MY_DB_URL");
    }

    #[test]
    fn each_kind_is_reached_by_its_own_variables() {
        let pairs = [
            ("MY_DB_URL", "postgres://app:secret@127.0.0.1:5432/app?sslmode=disable"),
            ("CACHE_URL", "redis://default:s@127.0.0.1:6379/0"),
            ("EVENTS_BROKERS", "127.0.0.1:9092"),
            ("API_URL", "http://127.0.0.1:8080/x"),
        ];
        let variables = Variables(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        for (kind, service) in [
            ("postgres", "my-db"),
            ("pgbouncer", "my-db"),
            ("redis", "cache"),
            ("kafka", "events"),
            ("redpanda", "events"),
            ("process", "api"),
        ] {
            assert!(crate::find(kind).unwrap().asker(&variables, service).is_ok(), "{kind}");
        }
        let missing = crate::find("kafka").unwrap().asker(&variables, "my-db").err().map(|error| error.to_string());
        assert_eq!(missing.as_deref(), Some("the environment has no variable MY_DB_BROKERS"));
    }
}
