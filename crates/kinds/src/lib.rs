//! The kinds of services: one folder each, and beside them the generic part of each ability.
//!
//! A kind describes its services as plain data ([`describe`]) and has abilities ([`capability`]): it probes, provisions,
//! applies scripts, grants leases. The core finds it by the name on record ([`find`]) and never asks which kind it is.
//! The generic part of each ability (when a probe is sent, what the ledger contains, which leases exist) is a module here.
//!
//! The daemon and the profile's compiler call it; it does not know profiles, environments or the daemon. To add a kind: a
//! folder, and its line below.

pub mod backup;
pub mod browse;
pub mod capability;
pub mod describe;
pub mod diagnosis;
pub mod faults;
pub mod lease;
pub(crate) mod limited;
pub mod metrics;
pub mod probe;
pub mod provision;
pub(crate) mod rows;
pub mod script;
pub(crate) mod sql_faults;
pub mod transfer;

use std::{ffi::OsString, process::ExitCode};

use devenv_spec::OfKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use capability::ServiceKind;
use describe::Describe;

macro_rules! kinds {
    ($($name:literal $module:ident $type:ident,)*) => {
        $(pub mod $module;)*

        /// A service's kind with its fields, under the kind's name.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        pub enum Kind {
            $(#[serde(rename = $name)] $type($module::$type),)*
        }

        impl Kind {
            /// Every kind's name.
            pub const NAMES: &[&str] = &[$($name),*];

            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$type(_) => $name,)*
                }
            }

            /// How the kind describes a service.
            pub fn fields(&self) -> &dyn Describe {
                match self {
                    $(Self::$type(fields) => fields,)*
                }
            }
        }

        static ALL: &[&dyn ServiceKind] = &[$(&$module::KIND),*];
    };
}

// In the order of the reference.
kinds! {
    "postgres" postgres Postgres,
    "redis" redis Redis,
    "kafka" kafka Kafka,
    "redpanda" redpanda Redpanda,
    "pgbouncer" pgbouncer Pgbouncer,
    "jaeger" jaeger Jaeger,
    "prometheus" prometheus Prometheus,
    "grafana" grafana Grafana,
    "s3" s3 S3,
    "mariadb" mariadb Mariadb,
    "rabbitmq" rabbitmq Rabbitmq,
    "container" container Container,
    "process" process Process,
}

/// Every kind, in the order of the reference.
pub fn all() -> impl Iterator<Item = &'static dyn ServiceKind> {
    ALL.iter().copied()
}

/// The kind of that name.
pub fn find(name: &str) -> Option<&'static dyn ServiceKind> {
    #[cfg(feature = "testing")]
    if let Some(substitute) = substitutes().iter().find(|substitute| substitute.name() == name) {
        return Some(*substitute);
    }
    all().find(|kind| kind.name() == name)
}

#[cfg(feature = "testing")]
fn substitutes() -> std::sync::MutexGuard<'static, Vec<&'static dyn ServiceKind>> {
    static SUBSTITUTES: std::sync::Mutex<Vec<&'static dyn ServiceKind>> = std::sync::Mutex::new(Vec::new());
    SUBSTITUTES.lock().expect("no code panics while it holds this lock")
}

/// From now on, in this process, a kind has the abilities of another one that needs no server.
#[cfg(feature = "testing")]
pub fn substitute(kind: &'static dyn ServiceKind) {
    let mut substitutes = substitutes();
    // A second test of the same process substitutes the same.
    if substitutes.iter().all(|known| known.name() != kind.name()) {
        substitutes.push(kind);
    }
}

/// The kind that understands the value.
pub fn of(value: &OfKind) -> Option<&'static dyn ServiceKind> {
    find(&value.kind)
}

/// The kind of server in a container, by its image's name and its command: `docker.io/library/postgres:17` is a `postgres`,
/// unless it runs something else.
pub fn server_of(image: &str, command: &[&str]) -> Option<&'static str> {
    let name = image.split('@').next().unwrap_or(image);
    let (path, last) = name.rsplit_once('/').map_or(("", name), |(path, last)| (path, last));
    let last = last.split(':').next().unwrap_or(last);
    let first = path.split('/').next().unwrap_or_default();
    // A registry has a dot or a port, or is `localhost`.
    let registry = first.contains(['.', ':']) || first == "localhost";
    let path = if registry { path[first.len()..].trim_start_matches('/') } else { path };
    let known = if matches!(path, "" | "library") { last.to_owned() } else { format!("{path}/{last}") };
    let kind = all().find(|kind| kind.servers().is_some_and(|servers| servers.images().contains(&known.as_str())))?;
    let is_server = command
        .first()
        .is_none_or(|first| first.starts_with('-') || kind.servers().is_some_and(|servers| servers.programs().contains(first)));
    is_server.then(|| kind.name())
}

/// The hidden command of a kind, if the arguments name one.
pub fn main_if_asked(arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let arguments: Vec<OsString> = arguments.collect();
    all().find_map(|kind| kind.main_if_asked(&arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_recognised_by_the_names_of_their_images() {
        for (image, kind) in [
            ("postgres", Some("postgres")),
            ("postgres:17", Some("postgres")),
            ("docker.io/library/redis:8@sha256:abc", Some("redis")),
            ("pgvector/pgvector:pg17", Some("postgres")),
            ("localhost:5000/valkey/valkey", Some("redis")),
            ("mysql:8", Some("mariadb")),
            ("apache/kafka:4.3.1", Some("kafka")),
            ("rabbitmq:4-management", Some("rabbitmq")),
            ("prometheuscommunity/postgres-exporter", None),
            ("me/postgres", None),
            ("debian", None),
        ] {
            assert_eq!(server_of(image, &[]), kind, "{image}");
        }
        assert_eq!(server_of("redis", &["redis-server", "--port", "1"]), Some("redis"));
        assert_eq!(server_of("redis", &["--port", "1"]), Some("redis"));
        assert_eq!(server_of("postgres", &["psql", "-c", "select 1"]), None);
    }

    #[test]
    fn every_kind_is_found_by_the_name_that_profiles_write() {
        let names: Vec<&str> = all().map(ServiceKind::name).collect();
        assert_eq!(names, Kind::NAMES);
        assert!(Kind::NAMES.iter().all(|name| find(name).is_some_and(|kind| kind.name() == *name)));
        assert!(find("oracle").is_none());
    }
}
