//! Bringing about what a profile declares to exist inside a server.

use async_trait::async_trait;
use devenv_engine::Engine;
use devenv_secrets::Vault;
use devenv_spec::OfKind;

use crate::provision::{Change, ProvisionContext, ProvisionError};

/// The provisioning of one kind. Each call may be repeated, and changes nothing that is as asked.
#[async_trait]
pub trait Provisions: Send + Sync {
    /// Brings it about; what had to be changed, in order.
    async fn apply(&self, wanted: &OfKind, cx: &ProvisionContext) -> Result<Vec<Change>, ProvisionError>;

    /// Sets this environment's password in a server whose data came with another one, from inside its container; what was
    /// changed. `None` if this kind knows no way in.
    async fn mend_password(
        &self,
        _wanted: &OfKind,
        _engine: &dyn Engine,
        _container: &str,
        _vault: &Vault,
    ) -> Result<Option<String>, ProvisionError> {
        Ok(None)
    }
}
