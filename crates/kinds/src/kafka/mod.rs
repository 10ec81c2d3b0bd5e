//! Apache Kafka: topics and groups, records as scripts, leases by prefix. Redpanda uses its protocol part too.

mod backup;
mod browse;
mod deliveries;
mod diagnosis;
mod faults;
mod fields;
#[cfg(fuzzing)]
pub mod fuzzing;
mod lease;
mod login;
mod metrics;
mod probe;
mod provision;
#[cfg(all(test, feature = "docker-tests"))]
mod real_tests;
mod rules;
mod scripts;
mod servers;
pub mod spec;
pub(crate) mod topics;
pub mod wire;
pub(crate) mod workload;

use std::{ffi::OsString, process::ExitCode, sync::Arc};

use crate::capability::{AddressError, Asker, Cause, FileField, ServiceKind, Variables, abilities};

pub use fields::Kafka;

/// The name in profiles and records.
pub const NAME: &str = "kafka";

/// The kind itself.
pub struct KafkaKind;

pub(crate) const KIND: KafkaKind = KafkaKind;

impl ServiceKind for KafkaKind {
    fn name(&self) -> &'static str {
        NAME
    }

    fn docs(&self) -> &'static str {
        include_str!("docs.md")
    }

    abilities!(rules, probes, servers, provisions, scripts, leases, metrics, backups, faults, workloads, browse);

    fn files(&self) -> &'static [FileField] {
        const FILES: &[FileField] = &[FileField::scripts(&["init"]), FileField::scripts(&["seed"])];
        FILES
    }

    fn asker(&self, variables: &Variables, service: &str) -> Result<Arc<dyn Asker>, AddressError> {
        workload::asker(variables, service)
    }

    fn main_if_asked(&self, arguments: &[OsString]) -> Option<ExitCode> {
        workload::main_if_asked(arguments.iter().cloned())
    }

    fn causes(&self) -> &'static [Cause] {
        diagnosis::CAUSES
    }
}

#[cfg(test)]
mod tests {
    use crate::diagnosis::{Evidence, diagnose};

    #[test]
    fn the_diagnosis_knows_the_probes_message_about_the_advertised_address() {
        let said = super::probe::advertises(&["kafka:9092".to_owned()], 25_001);
        let evidence = Evidence { kind: "kafka".to_owned(), service: "events".to_owned(), probe: vec![said], ..Evidence::default() };
        assert!(diagnose(&evidence).unwrap().cause.contains("advertises another address"));
    }
}
