//! What a profile cannot have on an engine of another machine: refused by name before anything begins.
//!
//! Called by `compile`. Pure: decides by the spec and by how the engine is reached.

use std::path::Path;

use devenv_api::{ApiError, ErrorCode};
use devenv_engine::Reach;
use devenv_spec::{ContainerSpec, EnvironmentSpec, MountSource, ServiceName, Workload};

/// All that is in the way at once. `authority` is devenv's own certificate, which the engine's machine gets a copy of.
pub(super) fn check(spec: &EnvironmentSpec, reach: &Reach, authority: &Path) -> Result<(), ApiError> {
    if *reach != Reach::Relayed {
        return Ok(());
    }
    let mut problems = Vec::new();
    for (name, service) in &spec.services {
        if let Workload::Container(container) = &service.workload {
            problems.extend(of_container(name, container, authority));
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    let message = format!("the engine is on another machine, so {}", problems.join("; "));
    Err(ApiError::new(ErrorCode::InvalidProfile, message).hint(
        "instead of mounting files of the project, copy them: `sync` of `watch` for changes while it runs, `files` for single ones, or \
            `build` for an image that contains them (docs/guide/remote-engines.md)",
    ))
}

fn of_container(name: &ServiceName, container: &ContainerSpec, authority: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    for mount in &container.mounts {
        match &mount.source {
            MountSource::Host(path) if path.as_path() == authority => {}
            MountSource::Host(path) => problems.push(format!("{name} cannot mount {} of this one at {}", path.display(), mount.target)),
            _ if mount.device.is_some() => {
                problems.push(format!("the volume of {name} at {} cannot have a disk of its own (power cuts need one)", mount.target));
            }
            _ => {}
        }
    }
    let writes = !container.files.is_empty() || container.mounts.iter().any(|mount| matches!(&mount.source, MountSource::Host(_)));
    if container.options.read_only && writes {
        problems.push(format!("{name} cannot get its files while `read_only` is set: they would be mounted from this one"));
    }
    problems
}

/// Containers that wait for processes of this machine, which they do not reach from another one.
pub(super) fn apart<'a>(spec: &'a EnvironmentSpec, reach: &Reach) -> Vec<(&'a ServiceName, &'a ServiceName)> {
    if *reach != Reach::Relayed {
        return Vec::new();
    }
    let is_process = |name: &ServiceName| spec.services.get(name).is_some_and(|service| service.container().is_none());
    let containers = spec.services.iter().filter(|(_, service)| service.container().is_some());
    containers.flat_map(|(name, service)| service.depends_on.keys().filter(|on| is_process(on)).map(move |on| (name, on))).collect()
}

#[cfg(test)]
mod tests {
    use devenv_spec::{Mount, MountOptions, Size};

    use super::*;

    fn mount(source: MountSource, device: Option<Size>) -> Mount {
        Mount { source, target: "/there".to_owned(), read_only: true, device, options: MountOptions::default(), image: None }
    }

    #[test]
    fn what_needs_the_disk_of_this_machine_is_named() {
        let name: ServiceName = "web".parse().unwrap();
        let authority = Path::new("/state/authority/ca.pem");
        let problems = |mounts: Vec<Mount>, read_only: bool| {
            let mut container = ContainerSpec::new("web:1");
            container.mounts = mounts;
            container.options.read_only = read_only;
            of_container(&name, &container, authority).join("; ")
        };
        let volume = || MountSource::Volume("data".to_owned());
        assert_eq!(problems(vec![mount(volume(), None), mount(MountSource::Host(authority.into()), None)], false), "");
        assert_eq!(problems(vec![mount(volume(), None)], true), "");
        let source = MountSource::Host("/project/src".into());
        assert_eq!(problems(vec![mount(source, None)], false), "web cannot mount /project/src of this one at /there");
        let device = Some("64MB".parse().unwrap());
        assert!(problems(vec![mount(volume(), device)], false).contains("disk of its own"));
        assert!(problems(vec![mount(MountSource::Host(authority.into()), None)], true).contains("`read_only`"));
    }
}
