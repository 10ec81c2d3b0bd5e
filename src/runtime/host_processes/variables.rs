//! The variables of a process on the host.

use devenv_api::ShellVariables;
use devenv_secrets::Vault;
use devenv_spec::ProcessSpec;

use super::StartError;
use crate::runtime::port_proxies::Ports;

/// The variables that pass a process its ports.
const PORT_VARIABLES: [&str; 2] = ["PORT", "DEBUG_PORT"];

/// What it inherits (a program on the host needs a `PATH` and a `HOME`), then the service's own. Without one of those it would
/// not be the program that the profile describes.
pub(super) fn variables(
    process: &ProcessSpec,
    inherited: &ShellVariables,
    ports: &Ports,
    vault: &Vault,
) -> Result<Vec<(String, String)>, StartError> {
    let is_own = |name: &String| process.environment.contains_key(name);
    let mut variables: Vec<(String, String)> =
        inherited.0.iter().filter(|(name, _)| !is_own(name)).map(|(name, value)| (name.clone(), value.clone())).collect();
    for (name, template) in &process.environment {
        let value = vault.resolve(template).map_err(|source| StartError::Variable { name: name.clone(), source })?;
        let own = value.parse().ok().and_then(|port: u16| ports.get(&port)).filter(|_| PORT_VARIABLES.contains(&name.as_str()));
        variables.push((name.clone(), own.map_or(value, ToString::to_string)));
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use devenv_spec::{Resources, SecretRef, Template};
    use indexmap::IndexMap;

    use super::*;

    fn process(environment: IndexMap<String, Template>) -> ProcessSpec {
        ProcessSpec {
            command: vec!["true".to_owned()],
            directory: "/".into(),
            environment,
            ports: vec![8080],
            fronted: true,
            resources: Resources::default(),
        }
    }

    #[test]
    fn a_process_inherits_the_requesting_shells_variables_and_the_profile_overrides_them() {
        let directory = tempfile::tempdir().unwrap();
        let vault = Vault::new(directory.path().join("secrets"));
        let inherited =
            ShellVariables(BTreeMap::from([("PATH", "/new/bin"), ("TOKEN", "shell's")].map(|(a, b)| (a.to_owned(), b.to_owned()))));
        let process = process(IndexMap::from([("TOKEN".to_owned(), "profile's".into()), ("PORT".to_owned(), "8080".into())]));
        let given = variables(&process, &inherited, &Ports::from([(8080, 41_000)]), &vault).unwrap();
        let expected = [("PATH", "/new/bin"), ("TOKEN", "profile's"), ("PORT", "41000")];
        assert_eq!(given, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_process_is_not_started_without_a_variable_whose_secret_cannot_be_read() {
        let directory = tempfile::tempdir().unwrap();
        // A file instead of the directory of secrets: nothing can be read or created there, not even by root.
        fs::write(directory.path().join("secrets"), "").unwrap();
        let vault = Vault::new(directory.path().join("secrets"));
        let process = process(IndexMap::from([("TOKEN".to_owned(), Template::secret(SecretRef::new("api", "token")))]));
        let error = variables(&process, &ShellVariables::default(), &Ports::new(), &vault).unwrap_err();
        assert_eq!(error.to_string(), "cannot resolve its variable `TOKEN`");
    }
}
