//! Test support: a profile in a few lines, compiled, and rendered as readable text.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use devenv_spec::{
    EnvironmentId, EnvironmentSpec, Image, ImageBuild, MountSource, SecretRef, ServiceName, ServiceSpec, Template, Workload,
};
use indexmap::IndexMap;
use serde_json::{Value, json};

use crate::{Profile, ResourceLimits, ServiceProfile};

use super::{Leases, compile, needs};

/// Given services, in order; every port that is not fixed is leased from 20000 on.
pub struct Given {
    pub profile: Profile,
}

pub fn given(name: &str, kind: Value) -> Given {
    Given::nothing().and(name, kind)
}

/// `{"postgres": {}}` and nothing else said.
pub fn service(kind: Value) -> ServiceProfile {
    ServiceProfile {
        kind: serde_json::from_value(kind).unwrap(),
        depends_on: IndexMap::new(),
        on_dependency_restart: None,
        optional: false,
        environment: IndexMap::new(),
        probe: None,
        ready_timeout: None,
        stop: None,
        restart: None,
        resources: ResourceLimits::default(),
        storage: None,
        ports: BTreeMap::new(),
        image: None,
        watch: Vec::new(),
        variables_from: None,
        sleep: None,
        access: None,
    }
}

impl Given {
    pub fn nothing() -> Self {
        let profile = Profile {
            name: "shop".into(),
            description: None,
            project: PathBuf::from("/home/ada/shop"),
            variables: IndexMap::new(),
            overrides: Vec::new(),
            secrets: IndexMap::new(),
            services: IndexMap::new(),
            network: crate::OwnNetwork::default(),
            networks: indexmap::IndexMap::new(),
            sleep: None,
            assets: BTreeMap::new(),
        };
        Self { profile }
    }

    pub fn and(mut self, name: &str, kind: Value) -> Self {
        self.profile.services.insert(name.parse().unwrap(), service(kind));
        self
    }

    /// Changes the service that was added last.
    pub fn with(mut self, change: impl FnOnce(&mut ServiceProfile)) -> Self {
        change(self.profile.services.last_mut().unwrap().1);
        self
    }

    pub fn asset(mut self, path: &str, text: &str) -> Self {
        self.profile.assets.insert(path.into(), text.into());
        self
    }

    /// The secrets whose values the profile gives.
    pub fn given_secrets(&self) -> Vec<(SecretRef, String)> {
        needs(&self.profile).given
    }

    pub fn spec(&self) -> EnvironmentSpec {
        let mut ports: BTreeMap<ServiceName, BTreeMap<u16, u16>> = BTreeMap::new();
        for (index, request) in needs(&self.profile).ports.into_iter().enumerate() {
            let host = request.fixed.unwrap_or(20000 + index as u16);
            ports.entry(request.service).or_default().insert(request.container, host);
        }
        let leases = Leases {
            environment: EnvironmentId::recorded("shop-default-1a2b3c4d"),
            instance: "default".into(),
            subnet: "10.213.7.0/27".parse().unwrap(),
            ports,
            authority: PathBuf::from("/state/authority.crt"),
        };
        compile(&self.profile, &leases)
    }

    /// The last service, written out.
    pub fn rendered(&self) -> String {
        render(self.spec().services.last().unwrap().1)
    }

    /// All variables, as `NAME host-form | container-form`, or only one where the two are the same.
    pub fn variables(&self) -> String {
        let mut text = String::new();
        for (name, variable) in self.spec().variables {
            if variable.host == variable.container {
                let _ = writeln!(text, "{name}={}", variable.host);
            } else {
                let _ = writeln!(text, "{name}={} | {}", variable.host, variable.container);
            }
        }
        text
    }
}

pub fn render(service: &ServiceSpec) -> String {
    let mut text = String::new();
    match &service.workload {
        Workload::Container(container) => {
            match &container.image {
                Image::Named(name) => line(&mut text, "image", name),
                Image::Built(ImageBuild { context, dockerfile, target, arguments, tag, .. }) => {
                    #[expect(clippy::unnecessary_debug_formatting, reason = "paths are shown with their escapes")]
                    let said = format!(
                        "ImageBuild {{ context: {context:?}, dockerfile: {dockerfile:?}, target: {target:?}, arguments: {arguments:?}, tag: {tag:?} }}"
                    );
                    line(&mut text, "build", said);
                }
            }
            for (what, words) in [("entrypoint", &container.entrypoint), ("command", &container.command)] {
                if let Some(words) = words {
                    line(&mut text, what, json!(words));
                }
            }
            if let Some(user) = &container.user {
                line(&mut text, "user", user);
            }
            environment(&mut text, &container.environment);
            for mount in &container.mounts {
                let source = match &mount.source {
                    MountSource::Volume(name) => format!("volume {name}"),
                    MountSource::Host(path) => path.display().to_string(),
                    MountSource::Memory => "memory".into(),
                    MountSource::Shared { service, volume } => format!("volume {volume} of {service}"),
                    MountSource::External(name) => format!("external volume {name}"),
                };
                let mode = if mount.read_only { " read-only" } else { "" };
                line(&mut text, "mount", format!("{source} at {}{mode}", mount.target));
            }
            for port in &container.ports {
                line(&mut text, "port", format!("{}:{} -> {}", port.address, port.host, port.container));
            }
            if let Some(size) = container.shared_memory {
                line(&mut text, "shared memory", size);
            }
            for file in &container.files {
                line(&mut text, "file", format!("{} {:04o} {}:{}", file.path, file.mode, file.uid, file.gid));
                for content in file.content.to_string().lines() {
                    let _ = writeln!(text, "  {content}");
                }
            }
        }
        Workload::Process(process) => {
            line(&mut text, "command", json!(process.command));
            line(&mut text, "directory", process.directory.display());
            environment(&mut text, &process.environment);
            line(&mut text, "ports", json!(process.ports));
        }
    }
    line(&mut text, "probe", json!(service.probe));
    for provision in &service.provision {
        line(&mut text, "provision", json!(provision));
    }
    if let Some(proof) = &service.proof {
        line(&mut text, "proof", json!(proof));
    }
    let signal = if service.stop.signal.is_empty() { "the image's signal" } else { service.stop.signal.as_str() };
    line(&mut text, "stop", format!("{signal} {:?}", service.stop.grace));
    line(&mut text, "restart", format!("{:?} {}", service.restart.policy, service.restart.attempts));
    text
}

fn environment(text: &mut String, variables: &IndexMap<String, Template>) {
    for (name, value) in variables {
        line(text, "variable", format!("{name}={value}"));
    }
}

fn line(text: &mut String, what: &str, value: impl std::fmt::Display) {
    let _ = writeln!(text, "{what}: {value}");
}
