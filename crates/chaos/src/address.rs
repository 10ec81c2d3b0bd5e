//! Where services are, from the environment's variables: how workloads and the prober connect.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use devenv_secrets::tls;
use devenv_spec::variable_form;
use rustls::ClientConfig;
use tokio_postgres::{Config, config::SslMode};
use url::Url;

/// The variables that the daemon gives, with their values.
#[derive(Debug, Clone, Default)]
pub(crate) struct Variables(pub BTreeMap<String, String>);

/// A way to reach a service.
#[derive(Clone)]
pub(crate) enum Address {
    Postgres {
        config: Box<Config>,
        tls: Option<Arc<ClientConfig>>,
    },
    Redis {
        url: String,
        authority: Option<Vec<u8>>,
    },
    Kafka {
        brokers: String,
    },
    Http {
        url: String,
    },
    /// `host:port`
    Tcp {
        at: String,
    },
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    #[error("the environment has no variable {name}")]
    Missing { name: String },
    #[error("{name} is not an address: {reason}")]
    Unreadable { name: String, reason: String },
}

const CONNECT: Duration = Duration::from_secs(2);

impl Variables {
    /// How to reach a service of a kind; `database` is of PostgreSQL alone.
    pub(crate) fn address(&self, service: &str, kind: &str, database: Option<&str>) -> Result<Address, AddressError> {
        let name = |suffix: &str| format!("{}_{suffix}", variable_form(service));
        match kind {
            "postgres" | "pgbouncer" => {
                let name = match database {
                    Some(database) => name(&format!("{}_URL", variable_form(database))),
                    None => name("URL"),
                };
                self.postgres(&name)
            }
            "redis" => {
                let url = self.value(&name("URL"))?.to_owned();
                let authority =
                    match (url.starts_with("rediss://"), self.0.get("DEVENV_CA_FILE")) {
                        (true, Some(path)) => {
                            tls::use_ring();
                            Some(std::fs::read(path).map_err(|error| AddressError::Unreadable {
                                name: "DEVENV_CA_FILE".to_owned(),
                                reason: error.to_string(),
                            })?)
                        }
                        _ => None,
                    };
                Ok(Address::Redis { url, authority })
            }
            "kafka" | "redpanda" => Ok(Address::Kafka { brokers: self.value(&name("BROKERS"))?.to_owned() }),
            "jaeger" | "prometheus" | "grafana" => Ok(Address::Http { url: self.value(&name("URL"))?.to_owned() }),
            _ => {
                if let (Some(host), Some(port)) = (self.0.get(&name("HOST")), self.0.get(&name("PORT"))) {
                    return Ok(Address::Tcp { at: format!("{host}:{port}") });
                }
                let url = self.value(&name("URL"))?;
                let parsed = Url::parse(url).ok();
                let at = parsed.and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?)));
                // Without a scheme it is the place itself.
                Ok(Address::Tcp { at: at.unwrap_or_else(|| url.split('/').next().unwrap_or(url).to_owned()) })
            }
        }
    }

    /// The address of a service that speaks HTTP.
    pub(crate) fn url(&self, service: &str) -> Result<&str, AddressError> {
        self.value(&format!("{}_URL", variable_form(service)))
    }

    fn value(&self, name: &str) -> Result<&str, AddressError> {
        self.0.get(name).map(String::as_str).ok_or_else(|| AddressError::Missing { name: name.to_owned() })
    }

    fn postgres(&self, name: &str) -> Result<Address, AddressError> {
        let text = self.value(name)?;
        let unreadable = |reason: String| AddressError::Unreadable { name: name.to_owned(), reason };
        // The driver does not know `verify-full`; the authority's certificate says as much.
        let mut url = Url::parse(text).map_err(|error| unreadable(error.to_string()))?;
        let authority = url.query_pairs().find(|(option, _)| option == "sslrootcert").map(|(_, path)| path.into_owned());
        url.set_query(None);
        let mut config: Config = url.as_str().parse().map_err(|error: tokio_postgres::Error| unreadable(error.to_string()))?;
        config.application_name("devenv-chaos").connect_timeout(CONNECT);
        let tls = match authority {
            Some(path) => {
                config.ssl_mode(SslMode::Require);
                tls::use_ring();
                Some(Arc::new(tls::client(Path::new(&path)).map_err(|error| unreadable(error.to_string()))?))
            }
            None => None,
        };
        Ok(Address::Postgres { config: Box::new(config), tls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        Variables(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn each_kind_is_reached_by_its_own_variables() {
        let variables = variables(&[
            ("MY_DB_APP_URL", "postgres://app:secret@127.0.0.1:5432/app"),
            ("CACHE_URL", "redis://default:s@127.0.0.1:6379/0"),
            ("EVENTS_BROKERS", "127.0.0.1:9092"),
            ("API_URL", "http://127.0.0.1:8080/x"),
        ]);
        assert!(matches!(variables.address("my-db", "postgres", Some("app")), Ok(Address::Postgres { tls: None, .. })));
        assert!(matches!(variables.address("cache", "redis", None), Ok(Address::Redis { .. })));
        assert!(matches!(variables.address("events", "kafka", None), Ok(Address::Kafka { .. })));
        assert!(matches!(variables.address("api", "process", None), Ok(Address::Tcp { at }) if at == "127.0.0.1:8080"));
        let missing = variables.address("my-db", "postgres", Some("orders")).err().map(|error| error.to_string());
        assert_eq!(missing.as_deref(), Some("the environment has no variable MY_DB_ORDERS_URL"));
    }

    #[test]
    fn the_path_of_the_authority_in_a_url_is_decoded() {
        let variables = variables(&[("DB_URL", "postgres://app:s@127.0.0.1:5432/app?sslmode=verify-full&sslrootcert=/a%20b%2B/ca.pem")]);
        let error = variables.address("db", "postgres", None).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("/a b+/ca.pem"), "{error}");
    }

    #[test]
    fn a_process_is_reached_at_the_port_of_its_scheme_or_at_the_place_itself() {
        for (url, place) in [("http://api.local/x", "api.local:80"), ("http://[::1]:8080/", "[::1]:8080"), ("127.0.0.1:9/x", "127.0.0.1:9")]
        {
            let found = variables(&[("API_URL", url)]).address("api", "process", None);
            assert!(matches!(found, Ok(Address::Tcp { at }) if at == place), "{url}");
        }
    }
}
