//! A lease on one service, which every private part holds.

use devenv_api::{Holding, Lease};

/// A lease on one service. Its connection is the claim: dropping it ends the lease.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) service: String,
    pub(crate) lease: Lease,
    pub(crate) holding: Holding,
}

impl Granted {
    /// `NAME_SUFFIX` of its service.
    pub(crate) fn own(&self, suffix: &str) -> &str {
        let name = format!("{}_{suffix}", self.service.to_uppercase().replace('-', "_"));
        self.lease.variables.get(&name).map(String::as_str).unwrap_or_default()
    }
}
