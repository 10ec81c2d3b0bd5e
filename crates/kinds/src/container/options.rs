//! The rare options of a container, from its fields. Pure.

use devenv_spec::{Attachment, ContainerOptions, Limits, ServiceName, Sharing, Size, Ulimit};

use super::fields::{Container, ContainerLimits, PullWhen};

impl Container {
    pub(super) fn options(&self) -> ContainerOptions {
        let shared = |mode: &Option<String>| mode.as_deref().map(sharing);
        ContainerOptions {
            working_directory: self.working_dir.clone(),
            hostname: self.hostname.clone(),
            domainname: self.domainname.clone(),
            extra_hosts: self.extra_hosts.iter().map(|(host, address)| format!("{host}:{address}")).collect(),
            without_host: !self.host_alias,
            dns: self.dns.clone(),
            dns_search: self.dns_search.clone(),
            dns_options: self.dns_options.clone(),
            memory: self.tmpfs.iter().map(|(path, options)| (path.clone(), mount_options(options))).collect(),
            ulimits: self.ulimits.iter().map(|(name, limit)| (name.clone(), Ulimit { soft: limit.soft, hard: limit.hard })).collect(),
            sysctls: self.sysctls.clone(),
            storage: self.storage_opt.clone(),
            cap_add: self.capabilities.as_ref().map(|all| all.add.clone()).unwrap_or_default(),
            cap_drop: self.capabilities.as_ref().map(|all| all.drop.clone()).unwrap_or_default(),
            security_opt: self.security_options.clone(),
            group_add: self.group_add.clone(),
            devices: self.devices.clone(),
            device_cgroup_rules: self.device_cgroup_rules.clone(),
            privileged: self.privileged,
            read_only: self.read_only,
            tty: self.tty,
            stdin_open: self.stdin_open,
            pid: shared(&self.pid),
            ipc: shared(&self.ipc),
            uts: self.uts.clone(),
            user_namespace: self.userns_mode.clone(),
            cgroup: self.cgroup.clone(),
            cgroup_parent: self.cgroup_parent.clone(),
            runtime: self.runtime.clone(),
            cpuset: self.cpuset.clone(),
            mac_address: self.mac_address.clone(),
            labels: self.labels.clone(),
            platform: self.platform.clone(),
            pull: self.pull.and_then(PullWhen::policy),
            networks: self
                .networks
                .iter()
                .map(|(name, place)| {
                    let address = place.address.as_ref().and_then(|address| address.parse().ok());
                    (name.clone(), Attachment { aliases: place.aliases.clone(), address })
                })
                .collect(),
            network_mode: shared(&self.network_mode),
            limits: self.limits.as_ref().map(ContainerLimits::describe).unwrap_or_default(),
            device_requests: self.gpus.clone(),
            hooks: self.hooks.clone().unwrap_or_default(),
        }
    }
}

fn sharing(mode: &str) -> Sharing {
    match mode.strip_prefix("service:").and_then(|name| name.parse::<ServiceName>().ok()) {
        Some(service) => Sharing::Service(service),
        None => Sharing::Mode(mode.to_owned()),
    }
}

impl ContainerLimits {
    fn describe(&self) -> Limits {
        let swap = self.swap.as_deref().and_then(|swap| match swap {
            "unlimited" => Some(-1),
            size => size.parse::<Size>().ok().map(|size| size.bytes() as i64),
        });
        Limits {
            cpu_shares: self.cpu_shares,
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota,
            pids: self.pids,
            oom_score_adj: self.oom_score_adj,
            oom_kill_disable: self.oom_kill_disable,
            swappiness: self.swappiness,
            memory_reservation: self.memory_reservation,
            swap,
        }
    }
}

/// A size alone, or options as `mount` takes them.
fn mount_options(text: &str) -> String {
    text.parse::<Size>().map_or_else(|_| text.to_owned(), |size| format!("size={}", size.bytes()))
}
