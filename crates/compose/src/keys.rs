//! Every key of the Compose specification, and what becomes of it: one table, which the check of files, the problems and
//! `docs/compose.md` are made from.

mod resources;

pub use resources::{FILE, IPAM, IPAM_CONFIG, NETWORK, VOLUME};

/// What devenv does with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// The same as Compose.
    Yes,
    /// Supported, with a difference that is worth a word.
    How(&'static str),
    /// Nothing depends on it: a warning says what happens instead.
    Ignored(&'static str),
    /// Behaviour would differ: an error.
    No(&'static str),
}

/// What a key's value holds.
#[derive(Debug, Clone, Copy)]
pub enum Inside {
    Value,
    /// A mapping with these keys.
    Section(&'static [Key]),
    /// A mapping from names to mappings with these keys.
    Named(&'static [Key]),
    /// A list whose mappings have these keys.
    Items(&'static [Key]),
}

#[derive(Debug, Clone, Copy)]
pub struct Key {
    pub name: &'static str,
    pub support: Support,
    pub inside: Inside,
}

use Inside::{Items, Named, Section, Value};
use Support::{How, Ignored, No, Yes};

const fn key(name: &'static str, support: Support) -> Key {
    Key { name, support, inside: Value }
}

const fn with(name: &'static str, support: Support, inside: Inside) -> Key {
    Key { name, support, inside }
}

/// The top level of a file.
pub static DOCUMENT: &[Key] = &[
    key("version", Ignored("the version is not needed any more")),
    key("name", How("shown as the profile's name; devenv names the environment after the project directory and `--instance`")),
    with("services", Yes, Named(SERVICE)),
    with("networks", Yes, Named(NETWORK)),
    with("volumes", Yes, Named(VOLUME)),
    with("configs", Yes, Named(FILE)),
    with("secrets", Yes, Named(FILE)),
    with("include", How("a path, or `path`, `project_directory` and `env_file`; at most 16 files deep"), Items(INCLUDE)),
    key("models", No("devenv runs no language models: run the model's server as a service")),
];

pub static INCLUDE: &[Key] = &[key("path", Yes), key("project_directory", Yes), key("env_file", Yes)];

pub static SERVICE: &[Key] = &[
    key("annotations", Ignored("annotations are for other engines; devenv sets none")),
    key("attach", Ignored("`devenv up --attach` shows the logs of all services, `devenv logs SERVICE` those of one")),
    with("build", Yes, Section(BUILD)),
    key("blkio_config", Ignored("block I/O is not limited")),
    key("cap_add", Yes),
    key("cap_drop", Yes),
    key("cgroup", How("`host` or `private`")),
    key("cgroup_parent", Yes),
    key("command", How("text is split as a shell splits it, without a shell")),
    with(
        "configs",
        How("written into the container before it starts; from a file without `uid`, `gid` and `mode`: mounted, read-only"),
        Items(FILE_USE),
    ),
    key("container_name", How("the container is named by devenv, and has this name on its networks")),
    key("cpu_count", No("it is for Windows containers: use `cpus`")),
    key("cpu_percent", No("it is for Windows containers: use `cpus`")),
    key("cpu_period", Yes),
    key("cpu_quota", Yes),
    key("cpu_rt_period", No("real-time scheduling is not supported")),
    key("cpu_rt_runtime", No("real-time scheduling is not supported")),
    key("cpu_shares", Yes),
    key("cpus", Yes),
    key("cpuset", Yes),
    key("credential_spec", No("it is for Windows containers")),
    with("depends_on", How("`service_healthy` waits until the service is ready, with or without a healthcheck"), Named(DEPENDENCY)),
    with("deploy", Yes, Section(DEPLOY)),
    with("develop", Yes, Section(DEVELOP)),
    key("device_cgroup_rules", Yes),
    with("devices", How("`source:target:permissions`; CDI names are not supported"), Items(DEVICE)),
    key("dns", Yes),
    key("dns_opt", Yes),
    key("dns_search", Yes),
    key("domainname", Yes),
    key("driver_opts", Ignored("it has no meaning on a service")),
    key("entrypoint", How("text is split as a shell splits it; an empty one removes the image's")),
    with("env_file", Yes, Items(ENV_FILE)),
    key("environment", How("the container gets exactly these variables: devenv adds none of its own")),
    key("expose", How("ports are open between containers anyway: nothing is published")),
    with("extends", How("at most 32 deep"), Section(EXTENDS)),
    key("external_links", No("put the other container on a network that both use (`external: true`)")),
    key("extra_hosts", Yes),
    with("gpus", Yes, Items(GPU)),
    key("group_add", Yes),
    with(
        "healthcheck",
        How("run by devenv, 50 ms apart at first; servers that devenv knows are asked in their own protocol instead"),
        Section(HEALTHCHECK),
    ),
    key("hostname", Yes),
    key("image", Yes),
    key("init", Yes),
    key("ipc", How("`host`, `private`, `shareable`, `none`, `service:NAME`, or `container:NAME` for one outside of the file")),
    key("isolation", No("it is for Windows containers")),
    key("label_file", Yes),
    key("labels", How("besides devenv's own; names that begin with `dev.devenv.` are refused")),
    key("links", How("the other service starts first and has the alias on its networks")),
    with("logging", Ignored("devenv keeps the logs itself: see `devenv logs`"), Section(LOGGING)),
    key("mac_address", Yes),
    key("mem_limit", How("without swap unless `memswap_limit` says otherwise")),
    key("mem_reservation", Yes),
    key("mem_swappiness", Yes),
    key("memswap_limit", Yes),
    key("models", No("devenv runs no language models: run the model's server as a service")),
    key(
        "network_mode",
        How("`host`, `none`, `bridge` (the environment's network), `service:NAME`, or `container:NAME` for one outside of the file"),
    ),
    with("networks", Yes, Named(ATTACHMENT)),
    key("oom_kill_disable", Yes),
    key("oom_score_adj", Yes),
    key("pid", How("`host`, `service:NAME`, or `container:NAME` for one outside of the file")),
    key("pids_limit", Yes),
    key("platform", Yes),
    with("ports", How("published on 127.0.0.1 unless an address is given; of a range of the host the first is taken"), Items(PORT)),
    with("post_start", How("the service is ready when the commands have succeeded"), Items(HOOK)),
    with("pre_start", How("each command is a service of its own, `NAME-pre-start-1`, …, before this one"), Items(PRE_START)),
    with("pre_stop", How("a failure is written to the service's log; together the commands have 60 s"), Items(HOOK)),
    key("privileged", Yes),
    key("profiles", How("`--profile NAME` or `COMPOSE_PROFILES`; naming a service after `up -f FILE` takes it in")),
    key(
        "provider",
        No(
            "devenv starts containers and processes, not plug-ins of Compose: run the provider yourself and give its address in `environment`",
        ),
    ),
    key(
        "pull_policy",
        How("`missing`, `if_not_present`, `always`, `never`, `build`; `daily`, `weekly` and `every_…` pull what is missing"),
    ),
    key("pull_refresh_after", Ignored("images are pulled when they are missing")),
    key("read_only", Yes),
    key("restart", How("`always` and `unless-stopped` give up after five failures in a row (a crash loop)")),
    key("runtime", Yes),
    key("scale", How("copies are services of their own: `web`, `web-2`, …, and all have the first one's name on the network")),
    with(
        "secrets",
        How(
            "written into the container before it starts and never in its description; from a file without `uid`, `gid` and `mode`: mounted, read-only",
        ),
        Items(FILE_USE),
    ),
    key("security_opt", Yes),
    key("shm_size", Yes),
    key("stdin_open", Yes),
    key("stop_grace_period", Yes),
    key("stop_signal", Yes),
    key("storage_opt", Yes),
    key("sysctls", Yes),
    key("tmpfs", Yes),
    key("tty", Yes),
    with("ulimits", Yes, Named(ULIMIT)),
    key("use_api_socket", No("mount the engine's socket as a volume")),
    key("user", Yes),
    key("userns_mode", Yes),
    key("uts", Yes),
    with("volumes", How("host paths that do not exist are made, as Compose makes them"), Items(MOUNT)),
    key("volumes_from", How("mounts that the file gives the other service; those of containers outside of the file are not supported")),
    key("working_dir", Yes),
];

pub static BUILD: &[Key] = &[
    key(
        "context",
        How("a directory, or a Git address `URL#REFERENCE:DIRECTORY`, which the machine's `git` fetches; archives are not supported"),
    ),
    key("dockerfile", Yes),
    key("dockerfile_inline", Yes),
    key("args", Yes),
    key("target", Yes),
    key("additional_contexts", How("directories, Git addresses, `docker-image://NAME` and `service:NAME`, with BuildKit")),
    key("cache_from", Yes),
    key("cache_to", Ignored("the engine's own cache is used")),
    key("entitlements", No("builds get no further rights")),
    key("extra_hosts", Yes),
    key("isolation", No("it is for Windows containers")),
    key("labels", Yes),
    key("network", Yes),
    key("no_cache", Yes),
    key("no_cache_filter", How("every step is built anew, not those of the named stages alone")),
    key("platforms", How("the first one is built")),
    key("privileged", No("builds get no further rights")),
    key("provenance", Ignored("no attestation is made")),
    key("pull", Yes),
    key("sbom", Ignored("no attestation is made")),
    with("secrets", Yes, Items(FILE_USE)),
    key("shm_size", Yes),
    key("ssh", Yes),
    key("tags", Ignored("the image has a name that devenv gives it")),
    key("ulimits", Ignored("builds have the engine's limits")),
];

pub static DEPENDENCY: &[Key] = &[key("condition", Yes), key("restart", Yes), key("required", Yes)];

pub static DEPLOY: &[Key] = &[
    key("mode", How("`replicated`; with `global` there is one container")),
    key("replicas", How("see `scale`")),
    key("endpoint_mode", Ignored("a name that several containers have resolves to all of them")),
    key("labels", Ignored("labels of a Swarm service; those of containers are in `labels` of the service")),
    key("placement", Ignored("everything runs on one machine")),
    with("resources", Yes, Section(RESOURCES)),
    with("restart_policy", Yes, Section(RESTART_POLICY)),
    key("rollback_config", Ignored("it is for Swarm")),
    key("update_config", Ignored("it is for Swarm")),
];

pub static RESOURCES: &[Key] = &[with("limits", Yes, Section(LIMITS)), with("reservations", Yes, Section(RESERVATIONS))];
pub static LIMITS: &[Key] = &[key("cpus", Yes), key("memory", Yes), key("pids", Yes)];
pub static RESERVATIONS: &[Key] = &[
    key("cpus", Ignored("processors are not reserved")),
    key("memory", Yes),
    key("generic_resources", Ignored("it is for Swarm")),
    with("devices", Yes, Items(GPU)),
];
pub static RESTART_POLICY: &[Key] = &[
    key("condition", Yes),
    key("delay", Ignored("restarts wait longer and longer, from 100 ms on")),
    key("max_attempts", Yes),
    key("window", Ignored("a restart succeeds when the service is ready")),
];

pub static DEVELOP: &[Key] = &[with("watch", How("`devenv dev` watches"), Items(WATCH))];
pub static WATCH: &[Key] = &[
    key("action", Yes),
    key("path", Yes),
    key("target", Yes),
    key("ignore", Yes),
    key("include", Yes),
    key("initial_sync", How("files are always copied before the container starts")),
    with("exec", Yes, Section(HOOK)),
];

pub static DEVICE: &[Key] = &[key("source", Yes), key("target", Yes), key("permissions", Yes)];
pub static ENV_FILE: &[Key] = &[key("path", Yes), key("required", Yes), key("format", How("`raw`: no quotes and no variables"))];
pub static EXTENDS: &[Key] = &[key("file", Yes), key("service", Yes)];
pub static FILE_USE: &[Key] = &[key("source", Yes), key("target", Yes), key("uid", Yes), key("gid", Yes), key("mode", Yes)];
pub static HEALTHCHECK: &[Key] = &[
    key("test", How("`CMD`, `CMD-SHELL`, `NONE`, or text for a shell")),
    key("interval", How("devenv asks 50 ms apart at first, then less often, and every 30 s once the service is ready")),
    key("timeout", How("counts towards the time that the service may take to become ready")),
    key("retries", How("counts towards the time that the service may take to become ready")),
    key("start_period", How("counts towards the time that the service may take to become ready")),
    key("start_interval", How("see `interval`")),
    key("disable", Yes),
];
pub static HOOK: &[Key] = &[
    key("command", Yes),
    key("user", Yes),
    key("privileged", Yes),
    key("working_dir", Yes),
    key("environment", Yes),
    key("per_replica", Ignored("it is for `pre_start`: these commands run in each copy")),
    key("image", Ignored("it is for `pre_start`: these commands run in the service's container")),
];
pub static PRE_START: &[Key] = &[
    key("command", Yes),
    key("user", Yes),
    key("privileged", Yes),
    key("working_dir", Yes),
    key("environment", Yes),
    key("per_replica", How("`false`: once for all copies")),
    key("image", How("by default the service's image")),
];
pub static GPU: &[Key] = &[key("driver", Yes), key("count", Yes), key("device_ids", Yes), key("capabilities", Yes), key("options", Yes)];
pub static LOGGING: &[Key] = &[key("driver", Yes), key("options", Yes)];
pub static ATTACHMENT: &[Key] = &[
    key("aliases", Yes),
    key("ipv4_address", Yes),
    key("ipv6_address", No("networks have IPv4 addresses only")),
    key("link_local_ips", No("networks have IPv4 addresses only")),
    key("mac_address", Ignored("the engine gives an address to each attachment")),
    key("driver_opts", Ignored("attachments have no options")),
    key("gw_priority", Ignored("the engine chooses the default route")),
    key("interface_name", Ignored("the engine names the interfaces")),
    key("priority", How("networks are attached in this order")),
];
pub static PORT: &[Key] = &[
    key("target", Yes),
    key("published", Yes),
    key("host_ip", Yes),
    key("protocol", How("`tcp` or `udp`")),
    key("mode", Ignored("ports are published by the host")),
    key("name", Ignored("the port's name is not shown")),
    key("app_protocol", Ignored("the protocol is not shown")),
];
pub static ULIMIT: &[Key] = &[key("soft", Yes), key("hard", Yes)];
pub static MOUNT: &[Key] = &[
    key("type", How("`volume`, `bind`, `tmpfs` or `image`")),
    key("source", Yes),
    key("target", Yes),
    key("read_only", Yes),
    key("consistency", Ignored("it is for engines that are not used any more")),
    with("bind", Yes, Section(BIND)),
    with("volume", Yes, Section(VOLUME_USE)),
    with("tmpfs", Yes, Section(TMPFS)),
    with("image", How("the files are copied into a volume whenever the container is made, on every engine"), Section(IMAGE_USE)),
];
pub static BIND: &[Key] = &[
    key("propagation", Yes),
    key("create_host_path", Yes),
    key("selinux", Yes),
    key("recursive", Ignored("mounts below the path are mounted too")),
];
pub static VOLUME_USE: &[Key] = &[
    key("nocopy", Yes),
    key("subpath", How("the directory must exist in the volume; Docker 26 or newer")),
    key("labels", Ignored("volumes carry devenv's labels")),
];
pub static TMPFS: &[Key] = &[key("size", Yes), key("mode", Yes)];
pub static IMAGE_USE: &[Key] = &[key("subpath", Yes)];

/// All sections with their titles, in the order of the reference.
pub static SECTIONS: &[(&str, &[Key])] = &[
    ("", DOCUMENT),
    ("include", INCLUDE),
    ("services.NAME", SERVICE),
    ("services.NAME.build", BUILD),
    ("services.NAME.configs, services.NAME.secrets", FILE_USE),
    ("services.NAME.depends_on.NAME", DEPENDENCY),
    ("services.NAME.deploy", DEPLOY),
    ("services.NAME.deploy.resources.limits", LIMITS),
    ("services.NAME.deploy.resources.reservations", RESERVATIONS),
    ("services.NAME.deploy.restart_policy", RESTART_POLICY),
    ("services.NAME.develop.watch", WATCH),
    ("services.NAME.devices", DEVICE),
    ("services.NAME.env_file", ENV_FILE),
    ("services.NAME.extends", EXTENDS),
    ("services.NAME.gpus, services.NAME.deploy.resources.reservations.devices", GPU),
    ("services.NAME.healthcheck", HEALTHCHECK),
    ("services.NAME.networks.NAME", ATTACHMENT),
    ("services.NAME.ports", PORT),
    ("services.NAME.post_start, services.NAME.pre_stop, services.NAME.develop.watch.exec", HOOK),
    ("services.NAME.pre_start", PRE_START),
    ("services.NAME.ulimits.NAME", ULIMIT),
    ("services.NAME.volumes", MOUNT),
    ("services.NAME.volumes.bind", BIND),
    ("services.NAME.volumes.volume", VOLUME_USE),
    ("services.NAME.volumes.tmpfs", TMPFS),
    ("networks.NAME", NETWORK),
    ("networks.NAME.ipam", IPAM),
    ("networks.NAME.ipam.config", IPAM_CONFIG),
    ("volumes.NAME", VOLUME),
    ("configs.NAME, secrets.NAME", FILE),
];
