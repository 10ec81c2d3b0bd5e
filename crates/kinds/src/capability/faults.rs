//! Faults that only servers of one kind have, besides those of any container.

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use devenv_faults::FaultKind;
use devenv_secrets::Vault;
use devenv_spec::{OfKind, ServiceSpec};
use tokio_util::task::AbortOnDropHandle;

/// The faults of one kind. They describe themselves as data ([`FaultKind`]); this injects and undoes them.
#[async_trait]
pub trait Faults: Send + Sync {
    fn kinds(&self) -> &'static [&'static dyn FaultKind];

    /// Injects it, and looks for its effect. The undo steps are on record before they are needed.
    async fn inject(&self, action: &OfKind, site: &mut dyn FaultSite) -> Result<Effect, String>;

    /// The recorded names of the steps that [`Self::undo`] knows.
    fn steps(&self) -> &'static [&'static str];

    /// Undoes one step. It may be repeated, and then finds nothing to do.
    async fn undo(&self, step: &OfKind, site: &mut dyn FaultSite) -> Result<(), String>;
}

/// The target of a fault, and what is kept for the fault outside of it.
#[async_trait]
pub trait FaultSite: Send {
    fn service(&self) -> &ServiceSpec;

    fn vault(&self) -> &Vault;

    /// The certificate with which servers with TLS are verified.
    fn authority(&self) -> &Path;

    /// How long the fault is to last.
    fn time(&self) -> Duration;

    /// Records an undo step. The value names the service in its field `service`.
    fn will_undo(&mut self, step: OfKind) -> Result<(), String>;

    /// Keeps a task until the fault ends.
    fn hold(&mut self, task: AbortOnDropHandle<()>);

    /// The engine's name of the service's first volume.
    fn volume(&self) -> Option<String>;

    /// The mode of the top directory of a volume, changed to this first if one is given.
    async fn volume_mode(&mut self, volume: &str, mode: Option<&str>) -> Result<String, String>;
}

/// The result of looking for an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    pub observed: bool,
    pub what: String,
}

impl Effect {
    pub fn yes(what: impl Into<String>) -> Self {
        Self { observed: true, what: what.into() }
    }

    pub fn no(what: impl Into<String>) -> Self {
        Self { observed: false, what: what.into() }
    }
}
