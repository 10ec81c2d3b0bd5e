//! Profiles: from text to a validated [`Profile`], with all problems of a file reported at once.
//!
//! Pure, except `load` and `find`, which alone read files. The command line loads profiles; the daemon receives them
//! validated. The steps: `yaml` parses a `tree` of values with positions, `interpolate` expands variables, `check` compares each layer with
//! the `shape`s of the types, `merge` merges the layers, `validate` checks what the whole means,
//! `convert` makes the types, and `origin` remembers the source of every value.

mod access;
mod assemble;
mod check;
mod compile;
mod compose;
mod convert;
mod document;
mod embedded;
mod extensions;
mod find;
mod graph;
mod guard;
#[cfg(test)]
mod hostile;
pub mod load;
mod merge;
mod origin;
mod powers;
pub mod reading;
#[cfg(test)]
mod reference;
mod references;
mod render;
mod schema;
mod shape;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod validate;
mod variables;

pub use devenv_document::spelling::did_you_mean;
use devenv_document::{diagnostic, env_file, interpolate, source, spelling, tree, yaml};

pub use compile::{Leases, Needs, PortRequest, compile, needs};
pub use compose::{profile_text, render};
pub use devenv_kinds::describe::declared::Probe;
pub use document::{
    Network, OnChange, OwnNetwork, Profile, ResourceLimits, SecretSource, ServiceProfile, SleepFields, VariablesFrom, Watch,
};
pub use find::ProfileEntry;
pub use load::{ComposeRequest, LoadError, LoadRequest, Refused, Report};
pub use origin::{Explanation, masked, masked_at};
pub use powers::host_powers;
pub use render::{Rendering, render_profile};

/// Everything that a profile's bytes go through except the disk, for fuzz tests.
#[cfg(any(test, fuzzing))]
pub fn check_bytes(bytes: &[u8]) {
    let mut sources = source::Sources::default();
    let mut findings = source::Findings::default();
    let file = sources.add("fuzz.yaml", String::from_utf8_lossy(bytes));
    let layer = assemble::read(&sources, file, false, &mut findings);
    let variables = assemble::Variables::new(&std::collections::BTreeMap::new(), indexmap::IndexMap::new(), layer.root.get("variables"));
    let assembled = assemble::assemble(vec![layer], &sources, variables, &mut findings);
    if !findings.has_errors() {
        let merged = assembled.map(|assembled| assembled.merged);
        let services = merged.as_ref().and_then(|root| root.get("services"));
        let _ = services.map(|node| convert::services(node, &mut findings));
    }
    findings.sort();
    let _ = diagnostic::render(&findings, &sources);
}
