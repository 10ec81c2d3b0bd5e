//! Profiles: from text to a validated [`Profile`], with every problem of a file told at once.
//!
//! Pure, but for `load`, which alone reads files. The command line loads profiles; the daemon receives them validated.

mod document;

pub(crate) use document::{
    OnChange, Probe, HttpProbe, TcpProbe, Profile, ResourceLimits, Restart, ServiceProfile, StopProfile,
    Storage, Watch,
};
