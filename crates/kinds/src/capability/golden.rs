//! Golden volumes: copies of a server's freshly seeded data, from which others start.

use std::path::Path;

use async_trait::async_trait;
use devenv_spec::{OfKind, ServiceSpec};

use super::ProvisionContext;

/// The golden volumes of one kind.
pub trait Golden: Send + Sync {
    /// The directory of the data in its volume.
    fn directory(&self) -> &'static str;

    /// Files of the running server, in the volume, that a copy must not contain.
    fn left_behind(&self) -> &'static [&'static str];

    /// The parts of the declaration that determine the data, as text, without addresses. `None` if it cannot be read.
    fn key(&self, provision: &OfKind) -> Option<String>;

    /// Whether the service can read the data in that directory; otherwise the cause and the fix. `None` if there is
    /// no data yet.
    fn check(&self, service: &ServiceSpec, data: &Path) -> Option<Result<(), (String, String)>>;

    /// Whether a server that others can reach has been started on the data: then it may contain data of a client.
    fn served(&self, data: &Path) -> bool;

    /// Opens the server, to watch it during a copy.
    fn server(&self, provision: &OfKind, cx: ProvisionContext) -> Option<Box<dyn GoldenServer>>;
}

/// A server that is copied while it runs. Positions are opaque: they are only compared.
#[async_trait]
pub trait GoldenServer: Send + Sync {
    /// Writes everything to the files. Returns which files of the volume need not be copied, and where the log ends.
    async fn checkpoint(&self) -> Result<(Box<dyn LogRange>, String), String>;

    /// The end of the log: while it stays the same, nothing has been written.
    async fn position(&self) -> Result<String, String>;

    /// The id of the next writing transaction: while it stays the same, the data is unchanged.
    async fn next_writer(&self) -> Result<String, String>;
}

/// The files of a log that a start after a checkpoint reads.
pub trait LogRange: Send + Sync {
    /// Whether a start after a checkpoint does not need the file.
    fn is_needless(&self, path: &Path) -> bool;
}
