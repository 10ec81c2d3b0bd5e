//! Causes of PgBouncer's failures, recognised by their text. Pure.

use crate::capability::{Cause, Place};

/// The text is in lower case. Specific causes come before general ones.
pub(super) const CAUSES: &[Cause] = &[Cause::new(
    Place::Probe,
    &["server_login_retry"],
    "the pooler cannot log in to its database server",
    "see the database's log for the reason, and the pooler's with `devenv logs {service}`",
)];
