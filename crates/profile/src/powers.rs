//! PURE: what a profile does on the machine beyond running containers of given images.
//!
//! `plan` lists these, and the first `up` of a project asks for consent to them, so that a cloned repository cannot surprise.

use std::path::{Component, Path, PathBuf};

use devenv_api::{HostPower, PowerKind};
use devenv_spec::{
    BuildSecret, ContainerOptions, EnvironmentSpec, Image, ImageBuild, MountSource, Reaction, Repository, ServiceSpec, Sharing, Workload,
    sensitive::masked_credentials,
};

use super::{Profile, compile, document::SecretSource};

/// All of them, in the order of the services. `real` follows the links of a path, since one in the project may lead out of it;
/// `outside` are the files and directories that the profile has devenv read there.
pub fn host_powers(profile: &Profile, outside: &[PathBuf], real: &dyn Fn(&Path) -> PathBuf) -> Vec<HostPower> {
    let spec = compile::draft(profile);
    let mut powers = Vec::new();
    for (name, source) in &profile.secrets {
        if let SecretSource::Command(words) = source {
            powers.push(power("", PowerKind::Process, format!("secret {name}: {}", words.join(" "))));
        }
    }
    for service in spec.services.values() {
        of_service(service, &spec, real, &mut powers);
    }
    for network in spec.networks.values().filter_map(|network| network.external.as_ref()) {
        powers.push(power("", PowerKind::Mount, format!("network {network}")));
    }
    for path in outside.iter().map(|path| path.display().to_string()) {
        if !powers.iter().any(|known| known.detail == path) {
            powers.push(power("", PowerKind::Mount, path));
        }
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
    rights.extend(options.device_cgroup_rules.iter().map(|rule| format!("devices {rule}")));
    for (namespace, sharing) in [("network", &options.network_mode), ("processes", &options.pid), ("shared memory", &options.ipc)] {
        if let Some(Sharing::Mode(mode)) = sharing {
            rights.extend(shared(namespace, mode));
        }
    }
    let namespaces = [("users", &options.user_namespace), ("names", &options.uts), ("control groups", &options.cgroup)];
    rights.extend(namespaces.into_iter().filter_map(|(namespace, mode)| shared(namespace, mode.as_deref()?)));
    rights.extend(options.cgroup_parent.iter().map(|parent| format!("the control group {parent}")));
    rights.extend(options.runtime.iter().map(|runtime| format!("the runtime {runtime}")));
    let hooks = options.hooks.post_start.iter().chain(&options.hooks.pre_stop);
    rights.extend(hooks.filter(|hook| hook.privileged).map(|hook| format!("all rights for `{}`", hook.shown())));
    rights.extend((!options.device_requests.is_empty()).then(|| "devices of the host".to_owned()));
    // Every other option replaces a protection by another one, or by none.
    rights.extend(options.security_opt.iter().filter(|option| !option.starts_with("no-new-privileges")).cloned());
    rights
}

/// What a container sees of others, if its mode is none of its own.
fn shared(namespace: &str, mode: &str) -> Option<String> {
    match mode {
        "host" => Some(format!("the host's {namespace}")),
        "" | "none" | "private" | "shareable" | "bridge" | "default" => None,
        other => Some(format!("{namespace} of {other}")),
    }
}

/// Whether others than this machine's users reach a port that is published there.
fn is_public(address: &str) -> bool {
    address != "localhost" && !address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn of_service(service: &ServiceSpec, spec: &EnvironmentSpec, real: &dyn Fn(&Path) -> PathBuf, powers: &mut Vec<HostPower>) {
    let name = service.name.as_str();
    match &service.workload {
        Workload::Process(process) => powers.push(power(name, PowerKind::Process, process.command.join(" "))),
        Workload::Container(container) => {
            if let Image::Built(build) = &container.image {
                let repository = is_repository(&build.context).then(|| masked_credentials(&build.context.to_string_lossy()));
                let what = repository.unwrap_or_else(|| build.context.join(&build.dockerfile).display().to_string());
                powers.push(power(name, PowerKind::Build, what));
                outside_of_builds(build, spec, real, |what| powers.push(power(name, PowerKind::Mount, what)));
            }
            let mut rights = host_rights(&container.options);
            let ports = container.ports.iter().filter(|port| is_public(&port.address));
            rights.extend(ports.map(|port| format!("port {} on {}", port.host, port.address)));
            if !rights.is_empty() {
                powers.push(power(name, PowerKind::Privileged, rights.join(", ")));
            }
            for mount in &container.mounts {
                if let MountSource::External(volume) = &mount.source {
                    powers.push(power(name, PowerKind::Mount, format!("volume {volume}")));
                }
                let MountSource::Host(path) = &mount.source else { continue };
                // The authority's certificate is devenv's own.
                if path.as_os_str().is_empty() {
                    continue;
                }
                let path = without_dots(&real(path));
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

/// Whether a context is the address of a Git repository.
fn is_repository(context: &Path) -> bool {
    Repository::parse(&context.to_string_lossy()).is_some()
}

/// What a build reads besides its context.
fn outside_of_builds(build: &ImageBuild, spec: &EnvironmentSpec, real: &dyn Fn(&Path) -> PathBuf, mut found: impl FnMut(String)) {
    let (repositories, others): (Vec<_>, Vec<_>) =
        build.options.contexts.values().map(Path::new).partition(|context| is_repository(context));
    for address in repositories {
        found(format!("the repository {}", masked_credentials(&address.to_string_lossy())));
    }
    let directories = others.into_iter().filter(|context| context.is_absolute());
    let own = Some(build.context.as_path()).filter(|context| !is_repository(context));
    let secrets = build.options.secrets.values().filter_map(|secret| match secret {
        BuildSecret::File(path) => Some(path.as_path()),
        BuildSecret::Variable(_) => None,
    });
    for path in own.into_iter().chain(directories).chain(secrets).map(|path| without_dots(&real(path))) {
        if !path.starts_with(&spec.project) {
            found(path.display().to_string());
        }
    }
    build.options.ssh.iter().for_each(|key| found(format!("SSH key {key}")));
}

fn power(service: &str, power: PowerKind, detail: String) -> HostPower {
    HostPower { service: service.to_owned(), power, detail }
}

/// `..` taken back, because `/project/../etc` is not in the project.
pub(super) fn without_dots(path: &Path) -> PathBuf {
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
        host_powers(&given.profile, &[], &Path::to_path_buf)
            .iter()
            .map(|power| format!("{} {} {}", power.service, power.power, power.detail))
            .collect()
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
    fn a_build_of_a_repository_is_listed_with_its_address() {
        let contexts = json!({ "a": "https://token@example.org/a.git", "b": "./b", "c": "docker-image://x" });
        let given = Given::nothing().and(
            "web",
            json!({ "container": { "build": { "context": "git@example.org:web.git#v1:app", "additional_contexts": contexts } } }),
        );
        assert_eq!(
            shown(&given),
            [
                "web builds an image git@example.org:web.git#v1:app",
                "web sees outside the project the repository https://********@example.org/a.git"
            ]
        );
    }

    #[test]
    fn what_a_link_or_a_build_leads_to_outside_of_the_project_is_listed_as_it_is() {
        let given = Given::nothing()
            .and("a", json!({ "container": { "image": "x", "volumes": [{ "source": "./link", "target": "/t" }] } }))
            .and("b", json!({ "container": { "build": { "context": "b", "secrets": { "k": { "file": "/home/ada/.ssh/id" } }, "ssh": ["default"] } } }));
        let real = |path: &Path| if path.ends_with("link") { PathBuf::from("/etc") } else { path.to_owned() };
        let outside = [PathBuf::from("/etc"), PathBuf::from("/home/ada/.aws/credentials")];
        let powers = host_powers(&given.profile, &outside, &real);
        let details: Vec<&str> = powers.iter().map(|power| power.detail.as_str()).collect();
        let build = "/home/ada/shop/b/Dockerfile";
        assert_eq!(details, ["/etc", build, "/home/ada/.ssh/id", "SSH key default", "/home/ada/.aws/credentials"]);
    }

    #[test]
    fn what_a_container_shares_with_the_machine_or_with_other_containers_is_listed() {
        for (fields, what) in [
            (json!({ "uts": "host" }), "the host's names"),
            (json!({ "cgroup": "host" }), "the host's control groups"),
            (json!({ "cgroup_parent": "/x" }), "the control group /x"),
            (json!({ "runtime": "other" }), "the runtime other"),
            (json!({ "device_cgroup_rules": ["a *:* rwm"] }), "devices a *:* rwm"),
            (json!({ "security_options": ["label:disable"] }), "label:disable"),
            (json!({ "network_mode": "container:other" }), "network of container:other"),
            (json!({ "publish": [{ "port": 80, "host": 8080, "address": "0.0.0.0" }] }), "port 8080 on 0.0.0.0"),
            (json!({ "volumes": [{ "source": "theirs", "target": "/t", "external": true }] }), "volume theirs"),
            (json!({ "security_options": ["no-new-privileges"], "ipc": "private" }), ""),
            (json!({ "publish": [{ "port": 80, "host": 8080, "address": "127.0.0.1" }] }), ""),
        ] {
            let mut container = json!({ "image": "x" });
            container.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            let listed = shown(&Given::nothing().and("a", json!({ "container": container })));
            assert!(
                if what.is_empty() { listed.is_empty() } else { listed.len() == 1 && listed[0].ends_with(what) },
                "{fields}: {listed:?}"
            );
        }
    }

    #[test]
    fn a_command_for_a_secret_runs_on_the_machine() {
        let mut given = given("db", json!({ "postgres": {} }));
        given.profile.secrets.insert("STRIPE_KEY".into(), SecretSource::Command(vec!["op".into(), "read".into(), "x".into()]));
        assert_eq!(shown(&given), [" runs on this machine secret STRIPE_KEY: op read x"]);
    }
}
