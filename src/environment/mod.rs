//! The environments of this owner, and everything that runs for each in this process.
//!
//! The registry ([`Environments`]) is the only owner of environments: it finds, makes, adopts and forgets them. Each
//! is composed of the parts and tasks of the modules below (`parts`), is restarted after a bug (`lifecycle`), and gets its
//! spec from a profile (`compile`). Operations and the server use it; nothing here knows of either.

mod activity;
pub(crate) mod adopt;
mod browse;
mod compile;
pub(crate) mod exec;
mod fronts;
mod host_reach;
mod ledger;
mod lifecycle;
mod moved;
mod parts;
mod paused;
mod port_forwards;
mod ports;
mod registry;
mod relay;
mod remote;
mod secrets;
mod subnet;
mod usage;

pub(crate) use fronts::{HeldGates, awake};
pub(crate) use parts::Environment;
pub(crate) use registry::Environments;
