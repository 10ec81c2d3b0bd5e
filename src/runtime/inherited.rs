//! The variables that an environment's host processes inherit: those of the shell that last ran `up`.
//!
//! They are in a file of their own that only the user can read, and not in the environment's record or in a spec, whose
//! hash would change with the shell. A running process keeps its variables; its next start gets these.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use devenv_api::ShellVariables;

use crate::{
    blocking, inherit,
    store::{StoreError, write_atomically},
};

#[derive(Debug)]
pub(crate) struct Inherited {
    path: PathBuf,
    current: Mutex<Arc<ShellVariables>>,
}

impl Inherited {
    /// The stored variables. Without any, the daemon's own, which are those of the shell that started it.
    pub(crate) fn open(path: PathBuf) -> Self {
        let kept = std::fs::read(&path).ok().and_then(|text| {
            serde_json::from_slice(&text)
                .inspect_err(|error| tracing::warn!(%error, path = %path.display(), "Cannot read the variables of the last `up`."))
                .ok()
        });
        Self { path, current: Mutex::new(Arc::new(kept.unwrap_or_else(inherit::of_this_process))) }
    }

    /// From now on, and for the next daemon too.
    pub(crate) fn keep(&self, variables: ShellVariables) -> Result<(), StoreError> {
        let variables = inherit::filtered(variables.0.into_iter().map(|(name, value)| (name.into(), value.into())));
        if variables == *self.current() && self.path.exists() {
            return Ok(());
        }
        let text = serde_json::to_vec(&variables).expect("variables serialize to JSON");
        blocking::in_place(|| write_atomically(&self.path, &text))?;
        *self.lock() = Arc::new(variables);
        Ok(())
    }

    pub(crate) fn current(&self) -> Arc<ShellVariables> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<ShellVariables>> {
        self.current.lock().expect("no code panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn the_variables_of_the_last_up_outlive_the_daemon_in_a_file_that_only_the_user_reads() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("inherited.json");
        let shell = |text: &str| ShellVariables(BTreeMap::from([("PATH".to_owned(), text.to_owned())]));
        let inherited = Inherited::open(path.clone());
        assert_eq!(*inherited.current(), inherit::of_this_process(), "nobody has asked yet");
        inherited.keep(shell("/first")).unwrap();
        inherited.keep(ShellVariables(BTreeMap::from([("PATH".into(), "/second".into()), ("DEVENV_MARKER".into(), "x".into())]))).unwrap();
        assert_eq!(*inherited.current(), shell("/second"));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(*Inherited::open(path).current(), shell("/second"), "in the next daemon's life");
    }
}
