//! Causes of PgBouncer's failures, each by the words it leaves. Pure.

use crate::capability::{Cause, Place};

/// Words are in small letters. The particular come before the general.
pub(super) const CAUSES: &[Cause] = &[Cause::new(
    Place::Probe,
    &["server_login_retry"],
    "the pooler cannot log in to its database server",
    "see the database's log for the reason, and the pooler's with `devenv logs {service}`",
)];
