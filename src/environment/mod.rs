//! What exists: the environments of this owner, and all that runs for each in this process.
//!
//! The registry ([`Environments`]) is the only owner of environments: they are found, made, adopted and forgotten here. Each
//! is composed of the tasks and parts of the rooms below (`registry`), lives in tasks of its own (`lifecycle`), and gets its
//! spec from a profile (`compile`). Operations and the server work through it; nothing here knows of either.

mod activity;
pub(crate) mod adopt;
mod compile;
pub(crate) mod exec;
mod ledger;
mod lifecycle;
mod port_forwards;
mod registry;

pub(crate) use lifecycle::said;
pub(crate) use registry::{Environment, Environments};
