//! All faults: those of any container, from `devenv-faults`, and those of the kinds.

use std::{collections::BTreeMap, time::Duration};

use devenv_api::{FaultCatalogue, FaultDescription, FaultParameter};
use devenv_spec::{OfKind, ServiceName};

pub use devenv_faults::*;

use crate::capability::{Faults, ServiceKind};

/// Every fault, in the order of the catalogue.
pub fn all() -> impl Iterator<Item = &'static dyn FaultKind> {
    let own = crate::all().filter_map(ServiceKind::faults).flat_map(Faults::kinds);
    GENERIC.iter().chain(own).copied()
}

/// The fault of that name.
pub fn find(name: &str) -> Option<&'static dyn FaultKind> {
    all().find(|kind| kind.name() == name)
}

/// Parses text: `parameters` are in their textual form.
pub fn parse(
    id: impl Into<String>,
    fault: &str,
    service: ServiceName,
    parameters: &BTreeMap<String, String>,
    duration: Option<Duration>,
    seed: u64,
) -> Result<FaultSpec, InvalidFault> {
    match find(fault) {
        Some(kind) => FaultSpec::parse(id, kind, service, parameters, duration, seed),
        None => Err(InvalidFault::unknown(fault, all().map(FaultKind::name))),
    }
}

/// The kind that injects its own fault.
pub fn of_action(action: &OfKind) -> Option<&'static dyn Faults> {
    crate::of(action).and_then(ServiceKind::faults)
}

/// The kind that undoes a recorded step.
pub fn of_step(step: &OfKind) -> Option<&'static dyn Faults> {
    crate::all().filter_map(ServiceKind::faults).find(|faults| faults.steps().contains(&step.kind.as_str()))
}

/// The catalogue, for `chaos faults`.
pub fn catalogue() -> FaultCatalogue {
    let faults = all().map(|kind| FaultDescription {
        name: kind.name().to_owned(),
        about: kind.about().to_owned(),
        undone_by: kind.undone_by().as_str().to_owned(),
        parameters: kind
            .parameters()
            .iter()
            .map(|parameter| FaultParameter {
                name: parameter.name.to_owned(),
                form: parameter.form.words(),
                default: parameter.default.map(str::to_owned),
                about: parameter.about.to_owned(),
            })
            .collect(),
    });
    FaultCatalogue { faults: faults.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_faults_have_one_name_and_no_two_kinds_undo_one_step() {
        let mut names: Vec<&str> = all().map(FaultKind::name).collect();
        let mut steps: Vec<&str> = crate::all().filter_map(ServiceKind::faults).flat_map(Faults::steps).copied().collect();
        for found in [&mut names, &mut steps] {
            let count = found.len();
            found.sort_unstable();
            found.dedup();
            assert_eq!(found.len(), count);
        }
        assert!(find("postgres-lock").is_some() && find("kill").is_some() && find("oracle-lock").is_none());
    }
}
