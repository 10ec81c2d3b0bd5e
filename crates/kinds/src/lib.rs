//! The kinds of services: one folder each, and beside them what the core asks of any kind.
//!
//! A kind describes its services as plain data ([`describe`]) and has abilities ([`capability`]): it probes, provisions,
//! applies scripts, grants leases. The core finds it by the name on record ([`find`]) and never asks which kind it is.
//! The generic part of each ability (when a probe is asked, what a ledger says, which lease is on what) is a module here.
//!
//! The daemon and the profile's compiler call it; it does not know profiles, environments or the daemon. To add a kind: a
//! folder, and its line below.

pub mod backup;
pub mod capability;
pub mod describe;
pub mod diagnosis;
pub mod faults;
pub mod lease;
pub mod metrics;
pub mod probe;
pub mod provision;
pub(crate) mod rows;
pub mod script;
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

            /// What it says of a service of its own.
            pub fn fields(&self) -> &dyn Describe {
                match self {
                    $(Self::$type(fields) => fields,)*
                }
            }
        }

        static ALL: &[&dyn ServiceKind] = &[$(&$module::KIND),*];
    };
}

// In the order in which they are shown.
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

/// Every kind, in the order in which they are shown.
pub fn all() -> impl Iterator<Item = &'static dyn ServiceKind> {
    ALL.iter().copied()
}

/// The kind of that name.
pub fn find(name: &str) -> Option<&'static dyn ServiceKind> {
    #[cfg(feature = "testing")]
    if let Some(substitute) = SUBSTITUTE.get().filter(|substitute| substitute.name() == name) {
        return Some(*substitute);
    }
    all().find(|kind| kind.name() == name)
}

#[cfg(feature = "testing")]
static SUBSTITUTE: std::sync::OnceLock<&dyn ServiceKind> = std::sync::OnceLock::new();

/// From now on, in this process, a kind's abilities are those of another one: of one that needs no server.
#[cfg(feature = "testing")]
pub fn substitute(kind: &'static dyn ServiceKind) {
    // A second test of the same process substitutes the same.
    SUBSTITUTE.get_or_init(|| kind);
}

/// The kind that understands the value.
pub fn of(value: &OfKind) -> Option<&'static dyn ServiceKind> {
    find(&value.kind)
}

/// The hidden command of a kind, if the arguments ask for one.
pub fn main_if_asked(arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let arguments: Vec<OsString> = arguments.collect();
    all().find_map(|kind| kind.main_if_asked(&arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_the_name_that_profiles_write() {
        let names: Vec<&str> = all().map(ServiceKind::name).collect();
        assert_eq!(names, Kind::NAMES);
        assert!(Kind::NAMES.iter().all(|name| find(name).is_some_and(|kind| kind.name() == *name)));
        assert!(find("oracle").is_none());
    }
}
