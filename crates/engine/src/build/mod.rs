//! The inputs of an image build, determined without an engine: the files of the context, their fingerprint, and the
//! Dockerfile. It only reads the disk; the engines build.

mod additional;
mod context;
mod dockerfile;
mod expand;
mod inline;
mod variables;

use std::{collections::BTreeMap, path::PathBuf};

pub use additional::{AdditionalContext, with_images};
pub use context::{AdditionalFiles, BuildContext, ContextError, Entry, Manifest};
pub use dockerfile::{Dockerfile, Heredoc, Instruction};
pub use inline::{InlineError, Inlined, base_images, without_heredocs};
pub use variables::ImageSettings;

/// The inputs of one build besides the service's specification.
#[derive(Debug, Clone, Default)]
pub struct BuildInputs {
    /// Run every step again, without the cache of earlier builds.
    pub no_cache: bool,
    /// The values of build secrets, by id.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// The sockets of SSH agents, by the id that the build uses; `default` unless it names another.
    pub ssh: BTreeMap<String, PathBuf>,
}
