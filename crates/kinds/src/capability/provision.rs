//! Creates in a server what a profile declares.

use std::{fmt, path::PathBuf, time::Duration};

use async_trait::async_trait;
use devenv_engine::Engine;
use devenv_secrets::{SecretError, Vault, tls};
use devenv_spec::{OfKind, Undecodable};

/// The provisioning of one kind. Each call may be repeated, and changes nothing that is as requested.
#[async_trait]
pub trait Provisions: Send + Sync {
    /// Creates what is declared. Returns the changes, in order.
    async fn apply(&self, wanted: &OfKind, cx: &ProvisionContext) -> Result<Vec<Change>, ProvisionError>;

    /// Whether a server that is restarted in the same container still has all that was declared, so that a client can use it before that
    /// has been checked.
    fn survives_restart(&self) -> bool {
        false
    }

    /// Sets this environment's password in a server whose data was made with another one, from inside its container. Returns the
    /// change. `None` if this kind has no way to do that.
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

/// The context of provisioning.
#[derive(Clone)]
pub struct ProvisionContext {
    pub vault: Vault,
    /// The certificate with which servers with TLS are verified.
    pub authority: Option<PathBuf>,
    /// It was provisioned before, so most likely everything exists.
    pub again: bool,
}

impl ProvisionContext {
    pub fn trust(&self, encrypts: bool) -> Result<Option<rustls::ClientConfig>, ProvisionError> {
        tls::trust(encrypts, self.authority.as_deref()).map_err(|error| ProvisionError::Unreachable { reason: error.to_string() })
    }
}

/// One difference from the profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub kind: ChangeKind,
    pub what: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It agrees with the profile now.
    Made,
    /// It cannot, or must not, be changed automatically, and still differs.
    Drift,
}

#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    #[error("cannot read a secret")]
    Secret(#[from] SecretError),
    #[error("cannot connect to the service: {reason}")]
    Unreachable { reason: String },
    /// The data was made with another password than the stored one.
    #[error("{service} does not accept the password that devenv stored for `{user}`: {reason}")]
    WrongPassword { service: &'static str, user: String, reason: String },
    /// Another session changed the same at the same time, such as one that a killed daemon left: the next attempt sees the result.
    #[error("cannot {action}, because another session changes the same: {reason}")]
    Overtaken { action: String, reason: String },
    #[error("cannot {action}: {reason}")]
    Refused { action: String, reason: String },
    #[error("the extension `{name}` is not in this server's image")]
    NoExtension { name: String, close: Vec<String> },
    #[error("the kind `{kind}` provisions nothing in this version")]
    NoSuchKind { kind: String },
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
    #[error("provisioning took longer than {0:?}")]
    TimedOut(Duration),
}

impl ProvisionError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::WrongPassword { .. } => Some(
                "the volume is older than the secrets in devenv's state directory: restore that directory, or start over with `devenv \
                    down --volumes` (`devenv undo` brings the data back)"
                    .to_owned(),
            ),
            Self::NoExtension { close, .. } if !close.is_empty() => Some(format!("available: {}", close.join(", "))),
            Self::NoExtension { .. } => Some("use an image that contains it".to_owned()),
            _ => None,
        }
    }

    pub(crate) fn refused(action: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self::Refused { action: action.into(), reason: reason.to_string() }
    }
}

impl Change {
    pub(crate) fn made(what: impl Into<String>) -> Self {
        Self { kind: ChangeKind::Made, what: what.into() }
    }

    pub(crate) fn drift(what: impl Into<String>) -> Self {
        Self { kind: ChangeKind::Drift, what: what.into() }
    }
}
