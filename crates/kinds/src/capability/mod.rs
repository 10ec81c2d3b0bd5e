//! The abilities of a kind besides describing its services: one small object-safe trait for each.
//!
//! The core finds a kind by the name on record ([`crate::find`]), asks it for an ability and works through that; `None` means
//! that the kind does not have it. Nothing outside a kind's folder depends on which kind it is. An ability gets what the kind
//! itself has written into the spec ([`OfKind`](devenv_spec::OfKind)) and decodes it into the kind's own types.
//!
//! The plain types that the traits use are here too. What is the same for every kind (when a probe is sent, which leases
//! exist) is in the modules beside this one, which depend on it; it depends on none of them.

pub(crate) mod asker;
mod backup;
mod browse;
mod diagnosis;
mod faults;
mod files;
mod golden;
mod lease;
mod metrics;
mod page;
mod probe;
mod provision;
mod rules;
mod script;
mod scripts;
mod servers;
mod transfer;
mod workload;

pub use asker::{AddressError, Asker, Line, Silent, Variables};
pub use backup::{Arrived, BackupError, Backups, Dumped, DumpedFile, Restores, ServerSite, Staged, StagedRestore, VolumeRestore, Way};
pub use browse::{Browse, BrowseError, MetricHistory, MetricsQuery, NewRecord, ReadQuery, RowsPage, TraceQuery, TraceSource};
pub use diagnosis::{Cause, Place};
pub use faults::{Effect, FaultSite, Faults};
pub use files::{FileField, FileUse};
pub use golden::{Golden, GoldenServer, LogRange};
pub use lease::{LeaseError, Leases, Lessor, Part};
pub use metrics::MetricSource;
pub use page::{Labels, Page, PageSample};
pub use probe::{ExecTarget, Lines, ProbeContext, ProbeFailure, ProbeSuccess, Probes};
pub use provision::{Change, ChangeKind, ProvisionContext, ProvisionError, Provisions};
pub use rules::{KindReload, Rules, ServiceNode, setting_names, unknown_service};
pub use script::{Checksums, Content, Progress, Recorded, RecordedState, Script, ScriptContext, ScriptError, ScriptFormat};
pub(crate) use script::{Known, Stamp};
pub use scripts::{ScriptStore, Scripts};
pub(crate) use servers::{PASSWORD, PASSWORD_IN_URL, password_secrets};
pub use servers::{ServerFacts, Servers};
pub use transfer::{RemoteSource, Transfers};
pub use workload::{Client, Completions, Observed, Reply, Work, WorkError, WorkloadKind, WorkloadSite, Workloads};
pub(crate) use workload::{mark, unmark};

use std::{ffi::OsString, process::ExitCode, sync::Arc};

/// Returns abilities from the functions of [`ServiceKind`] with these names: those of the folder's own `KIND`, or `of` the kind
/// that it is based on.
macro_rules! abilities {
    ($($ability:ident),+) => { $crate::capability::abilities!($($ability),+ of &KIND); };
    ($($ability:ident),+ of $kind:expr) => { $($crate::capability::ability!($ability of $kind);)+ };
}

macro_rules! ability {
    (rules of $kind:expr) => { fn rules(&self) -> &dyn $crate::capability::Rules { $kind } };
    (probes of $kind:expr) => { $crate::capability::ability!(probes: Probes = $kind); };
    (provisions of $kind:expr) => { $crate::capability::ability!(provisions: Provisions = $kind); };
    (scripts of $kind:expr) => { $crate::capability::ability!(scripts: Scripts = $kind); };
    (servers of $kind:expr) => { $crate::capability::ability!(servers: Servers = $kind); };
    (leases of $kind:expr) => { $crate::capability::ability!(leases: Leases = $kind); };
    (backups of $kind:expr) => { $crate::capability::ability!(backups: Backups = $kind); };
    (transfers of $kind:expr) => { $crate::capability::ability!(transfers: Transfers = $kind); };
    (golden of $kind:expr) => { $crate::capability::ability!(golden: Golden = $kind); };
    (metrics of $kind:expr) => { $crate::capability::ability!(metrics: MetricSource = $kind); };
    (browse of $kind:expr) => { $crate::capability::ability!(browse: Browse = $kind); };
    (trace_source of $kind:expr) => { $crate::capability::ability!(trace_source: TraceSource = $kind); };
    (metric_history of $kind:expr) => { $crate::capability::ability!(metric_history: MetricHistory = $kind); };
    (faults of $kind:expr) => { $crate::capability::ability!(faults: Faults = $kind); };
    (workloads of $kind:expr) => { $crate::capability::ability!(workloads: Workloads = $kind); };
    ($name:ident: $ability:ident = $kind:expr) => {
        fn $name(&self) -> Option<&dyn $crate::capability::$ability> {
            Some($kind)
        }
    };
}

pub(crate) use {abilities, ability};

/// One kind of service. Each folder implements it once, on a type without data.
pub trait ServiceKind: Send + Sync {
    /// Its name in profiles and records.
    fn name(&self) -> &'static str;

    /// Text for the reference, in Markdown.
    fn docs(&self) -> &'static str;

    /// The fields of the kind that name files of the project.
    fn files(&self) -> &'static [FileField] {
        &[]
    }

    /// The rules for its fields.
    fn rules(&self) -> &dyn Rules {
        &rules::NoRules
    }

    fn probes(&self) -> Option<&dyn Probes> {
        None
    }

    fn servers(&self) -> Option<&dyn Servers> {
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

    fn metrics(&self) -> Option<&dyn MetricSource> {
        None
    }

    fn browse(&self) -> Option<&dyn Browse> {
        None
    }

    fn trace_source(&self) -> Option<&dyn TraceSource> {
        None
    }

    fn metric_history(&self) -> Option<&dyn MetricHistory> {
        None
    }

    fn faults(&self) -> Option<&dyn Faults> {
        None
    }

    fn workloads(&self) -> Option<&dyn Workloads> {
        None
    }

    /// How to see whether and when a service answers, from the variables that the daemon gives: by an open connection,
    /// unless the kind overrides it.
    fn asker(&self, variables: &Variables, service: &str) -> Result<Arc<dyn Asker>, AddressError> {
        asker::tcp(variables, service)
    }

    /// A hidden command of the program, for work that needs its own process, if the arguments name it.
    fn main_if_asked(&self, _arguments: &[OsString]) -> Option<ExitCode> {
        None
    }

    /// Causes of failures that can be recognised by their text, the most specific first.
    fn causes(&self) -> &'static [Cause] {
        &[]
    }
}
