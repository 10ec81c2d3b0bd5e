//! The kinds of services, and what is done with a service of each: asked, provisioned, scripted, leased, backed up.
//!
//! The daemon and the profile's compiler call it; it does not know profiles, environments or the daemon.

pub mod backup;
pub mod diagnosis;
pub mod figures;
pub mod lease;
pub mod probe;
pub mod provision;
pub mod script;
pub mod service;
