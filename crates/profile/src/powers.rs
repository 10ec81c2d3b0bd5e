//! PURE: what a profile does on the machine beyond running containers of given images.
//!
//! `plan` lists these, and the first `up` of a project asks for consent to them, so that a cloned repository cannot surprise.

use std::path::{Component, Path, PathBuf};

use devenv_api::{HostPower, PowerKind};
use devenv_spec::{ContainerOptions, EnvironmentSpec, Image, MountSource, Reaction, ServiceSpec, Sharing, Workload};

use super::{Profile, compile, document::SecretSource};

/// All of them, in the order of the services.
pub fn host_powers(profile: &Profile) -> Vec<HostPower> {
    let spec = compile::draft(profile);
    let mut powers = Vec::new();
    for (name, source) in &profile.secrets {
        if let SecretSource::Command(words) = source {
            powers.push(power("", PowerKind::Process, format!("secret {name}: {}", words.join(" "))));
        }
    }
    for service in spec.services.values() {
        of_service(service, &spec, &mut powers);
    }
    powers
}

/// What a container shares with the host besides its kernel.
fn host_rights(options: &ContainerOptions) -> Vec<String> {
    let mut rights = Vec::new();
    if options.privileged {
        rights.push("privileged".to_owned());
    }
    rights.extend(options.cap_add.iter().map(|capability| format!("capability {capability}")));
    rights.extend(options.devices.iter().map(|device| format!("device {device}")));
    for (namespace, sharing) in [("network", &options.network_mode), ("processes", &options.pid), ("shared memory", &options.ipc)] {
        if matches!(sharing, Some(Sharing::Mode(mode)) if mode == "host") {
            rights.push(format!("the host's {namespace}"));
        }
    }
    rights.extend(options.user_namespace.iter().filter(|mode| *mode == "host").map(|_| "the host's users".to_owned()));
    let hooks = options.hooks.post_start.iter().chain(&options.hooks.pre_stop);
    rights.extend(hooks.filter(|hook| hook.privileged).map(|hook| format!("all rights for `{}`", hook.shown())));
    rights.extend((!options.device_requests.is_empty()).then(|| "devices of the host".to_owned()));
    rights.extend(options.security_opt.iter().filter(|option| option.contains("unconfined")).cloned());
    rights
}

fn of_service(service: &ServiceSpec, spec: &EnvironmentSpec, powers: &mut Vec<HostPower>) {
    let name = service.name.as_str();
    match &service.workload {
        Workload::Process(process) => powers.push(power(name, PowerKind::Process, process.command.join(" "))),
        Workload::Container(container) => {
            if let Image::Built(build) = &container.image {
                powers.push(power(name, PowerKind::Build, build.context.join(&build.dockerfile).display().to_string()));
            }
            let rights = host_rights(&container.options);
            if !rights.is_empty() {
                powers.push(power(name, PowerKind::Privileged, rights.join(", ")));
            }
            for mount in &container.mounts {
                let MountSource::Host(path) = &mount.source else { continue };
                // The authority's certificate is devenv's own.
                if path.as_os_str().is_empty() {
                    continue;
                }
                let path = without_dots(path);
                if is_engine_socket(&path) {
                    powers.push(power(name, PowerKind::EngineSocket, path.display().to_string()));
                } else if !path.starts_with(&spec.project) {
                    powers.push(power(name, PowerKind::Mount, path.display().to_string()));
                }
            }
        }
    }
    for rule in &service.watch {
        let run = match &rule.reaction {
            Reaction::Run(words) => Some(words),
            _ => None,
        };
        if let Reaction::Sync { exec: Some(hook), .. } = &rule.reaction
            && hook.privileged
        {
            powers.push(power(name, PowerKind::Privileged, format!("all rights for `{}`", hook.shown())));
        }
        for words in rule.build.iter().chain(run).filter(|words| !words.is_empty()) {
            powers.push(power(name, PowerKind::Process, format!("on a change of files: {}", words.join(" "))));
        }
    }
}

fn power(service: &str, power: PowerKind, detail: String) -> HostPower {
    HostPower { service: service.to_owned(), power, detail }
}

/// `..` taken back, because `/project/../etc` is not in the project.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

/// The sockets of engines, and the directories that hold them.
fn is_engine_socket(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let named = ["docker.sock", "podman.sock", "containerd.sock", "crio.sock"].iter().any(|name| text.ends_with(name));
    named || ["/", "/run", "/var/run", "/var", "/run/docker", "/run/podman", "/run/containerd"].contains(&text.as_ref())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{Given, given};

    fn shown(given: &Given) -> Vec<String> {
        host_powers(&given.profile).iter().map(|power| format!("{} {} {}", power.service, power.power, power.detail)).collect()
    }

    #[test]
    fn access_to_the_machine_is_listed_and_servers_are_not() {
        let given = Given::nothing()
            .and("db", json!({ "postgres": { "tls": true } }))
            .and("api", json!({ "process": { "command": ["sh", "-c", "id"] } }))
            .and(
                "ci",
                json!({ "container": { "image": "x", "volumes": [
                { "source": "/var/run/docker.sock", "target": "/s" },
                { "source": "./../../etc", "target": "/e" },
                { "source": "./data", "target": "/d" },
            ] } }),
            )
            .and("web", json!({ "container": { "build": { "context": "web" } } }));
        assert_eq!(
            shown(&given),
            [
                "api runs on this machine sh -c id",
                "ci controls the container engine /var/run/docker.sock",
                "ci sees outside the project /home/etc",
                "web builds an image /home/ada/shop/web/Dockerfile",
            ]
        );
        assert!(shown(&Given::nothing().and("db", json!({ "postgres": {} }))).is_empty());
    }

    #[test]
    fn a_command_for_a_secret_runs_on_the_machine() {
        let mut given = given("db", json!({ "postgres": {} }));
        given.profile.secrets.insert("STRIPE_KEY".into(), SecretSource::Command(vec!["op".into(), "read".into(), "x".into()]));
        assert_eq!(shown(&given), [" runs on this machine secret STRIPE_KEY: op read x"]);
    }
}
