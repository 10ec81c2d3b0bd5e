//! Provisions what a profile declares inside a service: at every start, without touching what is already as declared.
//!
//! The reconciler calls [`apply`] after the first answer of a service's probe and before its readiness proof. Every step may be
//! repeated, and the next call repairs a crash between two of them. After a restart in the same container, a kind whose declarations
//! survive that ([`survives_restart`]) is ready before this call, which then only checks.

#[cfg(all(test, feature = "docker-tests"))]
mod real_tests;

use std::time::Duration;

use devenv_engine::Engine;
use devenv_secrets::Vault;
use devenv_spec::OfKind;
use tokio::time::timeout;

pub use crate::capability::{Change, ChangeKind, ProvisionContext, ProvisionError};
use crate::capability::{Provisions, ServiceKind};

/// The time limit for the provisioning of one service.
const LIMIT: Duration = Duration::from_mins(1);

/// Attempts that other sessions may overtake. Each of those sessions has completed a change, so there are never many.
const ATTEMPTS: usize = 20;

/// Creates what is declared. Returns the changes.
pub async fn apply(provision: &OfKind, cx: &ProvisionContext) -> Result<Vec<Change>, ProvisionError> {
    let Some(provisions) = crate::of(provision).and_then(ServiceKind::provisions) else {
        return Err(ProvisionError::NoSuchKind { kind: provision.kind.clone() });
    };
    let work = async {
        for _ in 1..ATTEMPTS {
            match provisions.apply(provision, cx).await {
                Err(error @ ProvisionError::Overtaken { .. }) => tracing::info!(%error, "Provisioning starts again."),
                result => return result,
            }
        }
        provisions.apply(provision, cx).await
    };
    timeout(LIMIT, work).await.unwrap_or(Err(ProvisionError::TimedOut(LIMIT)))
}

/// Whether a restart in the same container keeps what is declared.
pub fn survives_restart(provision: &OfKind) -> bool {
    crate::of(provision).and_then(ServiceKind::provisions).is_some_and(Provisions::survives_restart)
}

/// Sets this environment's password in a server whose data was made with another one. Returns the change.
pub async fn mend_password(
    provision: &OfKind,
    engine: &dyn Engine,
    container: &str,
    vault: &Vault,
) -> Result<Option<String>, ProvisionError> {
    match crate::of(provision).and_then(ServiceKind::provisions) {
        Some(provisions) => provisions.mend_password(provision, engine, container, vault).await,
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provisioning_can_move_between_threads() {
        fn movable<F: Send>(_: impl Fn(OfKind, ProvisionContext) -> F) {}
        movable(|provision, cx| async move { apply(&provision, &cx).await });
    }
}
