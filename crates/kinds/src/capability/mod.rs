//! What a kind can do besides describing its services: one small trait for each ability, all object-safe.
//!
//! The core finds a kind by the name on record ([`crate::find`]), asks it for an ability and works through that; `None` means
//! that the kind has none of it. Nothing outside a kind's folder depends on which kind it is. An ability gets what the kind
//! itself has written into the spec ([`OfKind`](devenv_spec::OfKind)) and decodes it into the kind's own types.

mod backup;
mod diagnosis;
mod faults;
mod files;
mod golden;
mod lease;
mod metrics;
mod probe;
mod provision;
mod rules;
mod scripts;
mod transfer;
mod workload;

pub use backup::{Arrived, Backups, Dumped, DumpedFile, Restores, ServerSite, Staged, StagedRestore, VolumeRestore, Way};
pub use diagnosis::{Cause, Place};
pub use faults::{Effect, FaultSite, Faults};
pub use files::{FileField, FileUse};
pub use golden::{Golden, GoldenServer, LogRange};
pub use lease::{Leases, Lessor, Part};
pub use metrics::MetricSource;
pub use probe::Probes;
pub use provision::Provisions;
pub(crate) use rules::setting_names;
pub use rules::{KindReload, Rules, ServiceNode, unknown_service};
pub use scripts::{ScriptStore, Scripts};
pub use transfer::{RemoteSource, Transfers};
pub use workload::{
    AddressError, Asker, Client, Completions, Line, Observed, Reply, Silent, Variables, Work, WorkError, WorkloadKind, WorkloadSite,
    Workloads,
};
pub(crate) use workload::{mark, unmark};

use std::{ffi::OsString, process::ExitCode, sync::Arc};

/// One kind of service. Each folder implements it once, on a type without data of its own.
pub trait ServiceKind: Send + Sync {
    /// As profiles write it, and as records keep it.
    fn name(&self) -> &'static str;

    /// Text for the reference, in Markdown.
    fn docs(&self) -> &'static str;

    /// The fields of the kind that name files of the project.
    fn files(&self) -> &'static [FileField] {
        &[]
    }

    /// What it asks of its fields.
    fn rules(&self) -> &dyn Rules {
        &rules::NoRules
    }

    fn probes(&self) -> Option<&dyn Probes> {
        None
    }

    fn provisions(&self) -> Option<&dyn Provisions> {
        None
    }

    fn scripts(&self) -> Option<&dyn Scripts> {
        None
    }

    fn leases(&self) -> Option<&dyn Leases> {
        None
    }

    fn backups(&self) -> Option<&dyn Backups> {
        None
    }

    fn transfers(&self) -> Option<&dyn Transfers> {
        None
    }

    fn golden(&self) -> Option<&dyn Golden> {
        None
    }

    fn figures(&self) -> Option<&dyn MetricSource> {
        None
    }

    fn faults(&self) -> Option<&dyn Faults> {
        None
    }

    fn workloads(&self) -> Option<&dyn Workloads> {
        None
    }

    /// How to see whether and when a service answers, from the variables that the daemon gives: by a connection that is kept,
    /// unless the kind knows better.
    fn asker(&self, variables: &Variables, service: &str) -> Result<Arc<dyn Asker>, AddressError> {
        crate::asker::tcp(variables, service)
    }

    /// A hidden command of the program, for work that needs a process of its own, if the arguments ask for it.
    fn main_if_asked(&self, _arguments: &[OsString]) -> Option<ExitCode> {
        None
    }

    /// Causes of failures that leave words behind, the most telling first.
    fn causes(&self) -> &'static [Cause] {
        &[]
    }
}
