//! What an image is built from, known before an engine is asked: the files of the context, their fingerprint, and the
//! Dockerfile. Only reads the disk; the engines build.

mod context;
mod dockerfile;
mod expand;
mod inline;
mod variables;

use std::{collections::BTreeMap, path::PathBuf};

pub use context::{BuildContext, ContextError, Entry, Manifest};
pub use dockerfile::{Dockerfile, Heredoc, Instruction};
pub use inline::{InlineError, Inlined, base_images, without_heredocs};
pub use variables::ImageSettings;

/// What one build gets besides what the service's specification says.
#[derive(Debug, Clone, Default)]
pub struct BuildInputs {
    /// Run each step again, whatever earlier builds have left.
    pub no_cache: bool,
    /// The values of the build's secrets, by their ids.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// The sockets of SSH agents, by the names that the build knows them by; `default` unless it says another.
    pub ssh: BTreeMap<String, PathBuf>,
}
