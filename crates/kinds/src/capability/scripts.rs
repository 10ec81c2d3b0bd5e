//! Applying scripts and data sets to a server, with the ledger that lives in its data.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use devenv_spec::{OfKind, ScriptPlace};

use super::{Recorded, Script, ScriptContext, ScriptError, ScriptFormat};

/// The scripts of one kind.
#[async_trait]
pub trait Scripts: Send + Sync {
    /// The format of a file, by its lower-case name without a compression suffix; `None` if it is no script
    /// of this kind. `packed`: it had such a suffix.
    fn format(&self, name: &str, packed: bool) -> Option<ScriptFormat>;

    /// The format of a directory that is one script, such as a dump. `None` if the files in it are scripts of their own.
    fn directory(&self, _path: &Path) -> Option<ScriptFormat> {
        None
    }

    /// Files on the host that a script includes, with all files that those include.
    fn reads(&self, _script: &Path, _format: ScriptFormat, _project: &Path) -> Vec<PathBuf> {
        Vec::new()
    }

    /// The endings that [`Self::format`] knows, for people.
    fn endings(&self) -> &'static str;

    /// Opens the ledger of a part of the service.
    async fn open(
        &self,
        service: &str,
        target: &OfKind,
        place: &ScriptPlace,
        cx: &ScriptContext<'_>,
    ) -> Result<Box<dyn ScriptStore>, ScriptError>;
}

/// The ledger of some data, with access to that data.
#[async_trait]
pub trait ScriptStore: Send {
    async fn recorded(&mut self) -> Result<Vec<Recorded>, ScriptError>;

    /// Ends or awaits what an earlier run, which died, has left. Nothing to do if a dead client's work ends with
    /// its connection.
    async fn settle(&mut self, _cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
        Ok(())
    }

    /// Records that a running script was interrupted. Nothing to do if a script and its row are one transaction.
    async fn interrupted(&mut self, _script: &Script) -> Result<(), ScriptError> {
        Ok(())
    }

    async fn apply(&mut self, script: &Script, cx: &ScriptContext<'_>) -> Result<(), ScriptError>;

    /// Records the current file as what was applied, without touching data.
    async fn accept(&mut self, script: &Script) -> Result<(), ScriptError>;

    /// Makes a script pending again, whatever its recorded state.
    async fn forget(&mut self, script: &Script) -> Result<(), ScriptError>;

    /// Disconnects from the server, so that the next user finds no session of ours.
    async fn close(self: Box<Self>) {}
}
