//! Golden volumes: copies of a server's freshly seeded data, from which others start.

use std::path::Path;

use async_trait::async_trait;
use devenv_spec::{OfKind, ServiceSpec};

use super::ProvisionContext;

/// The golden volumes of one kind.
pub trait Golden: Send + Sync {
    /// The directory of the data in its volume.
    fn directory(&self) -> &'static str;

    /// Files of the running server, in the volume, that a copy must not have.
    fn left_behind(&self) -> &'static [&'static str];

    /// What of the declaration decides what is in the data, as text: without addresses. `None` if it cannot be read.
    fn key(&self, provision: &OfKind) -> Option<String>;

    /// Whether the service can read the data in that directory, and what to do if it cannot: cause and fix. `None` if there is
    /// no data yet.
    fn check(&self, service: &ServiceSpec, data: &Path) -> Option<Result<(), (String, String)>>;

    /// Whether a server that others can reach has been started on the data: then what is there may be somebody's.
    fn served(&self, data: &Path) -> bool;

    /// The server, to be watched while it is copied.
    fn server(&self, provision: &OfKind, cx: ProvisionContext) -> Option<Box<dyn GoldenServer>>;
}

/// A server that is copied while it runs. Positions are opaque: they are compared, and nothing else.
#[async_trait]
pub trait GoldenServer: Send + Sync {
    /// Brings everything that is written to the files; which files of the volume need not be copied, and where the log ends.
    async fn checkpoint(&self) -> Result<(Box<dyn LogRange>, String), String>;

    /// Where the log ends: while it ends there, nothing has been written.
    async fn position(&self) -> Result<String, String>;

    /// The next transaction that writes: while it is the next, the data says the same.
    async fn next_writer(&self) -> Result<String, String>;
}

/// The files of a log that a start after a checkpoint reads.
pub trait LogRange: Send + Sync {
    /// Whether the file of the volume is of no use to such a start.
    fn is_needless(&self, path: &Path) -> bool;
}
