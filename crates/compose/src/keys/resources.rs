//! The keys of networks, volumes, configs and secrets, which stand beside the services.

use super::{How, Ignored, Items, Key, No, Section, Yes, key, with};

pub static NETWORK: &[Key] = &[
    key("driver", How("`bridge`; other drivers only with `external: true`")),
    key("driver_opts", Ignored("networks are made with the engine's own options")),
    key("attachable", Ignored("containers of the environment alone are on it")),
    key("enable_ipv4", Ignored("networks have IPv4")),
    key("enable_ipv6", Ignored("networks have IPv4 addresses only")),
    key("external", Yes),
    key("internal", Yes),
    with("ipam", How("one IPv4 subnet; another is chosen if it is taken"), Section(IPAM)),
    key("labels", Ignored("networks carry devenv's labels")),
    key("name", How("only with `external: true`: devenv names its own networks")),
];
pub static IPAM: &[Key] = &[
    key("driver", How("`default`")),
    with("config", Yes, Items(IPAM_CONFIG)),
    key("options", Ignored("the default driver has no options")),
];
pub static IPAM_CONFIG: &[Key] = &[
    key("subnet", Yes),
    key("gateway", Ignored("the first address of the subnet is the gateway")),
    key("ip_range", Ignored("addresses come from the whole subnet")),
    key("aux_addresses", Ignored("no addresses are set aside")),
];

pub static VOLUME: &[Key] = &[
    key("driver", How("`local`; others only with `external: true`")),
    key(
        "driver_opts",
        How(
            "`type: none` with `o: bind` is a mount of that path, `type: tmpfs` is memory; for others, make the volume yourself and write `external: true`",
        ),
    ),
    key("external", Yes),
    key("labels", Ignored("volumes carry devenv's labels")),
    key("name", How("only with `external: true`: devenv names its own volumes, and touches none of Compose's")),
];

pub static FILE: &[Key] = &[
    key("file", Yes),
    key("environment", Yes),
    key("content", Yes),
    key("external", No("there is no store outside of the file: use `file`, `environment` or `content`")),
    key("name", Ignored("only Swarm names files")),
    key("labels", Ignored("only Swarm labels files")),
    key("driver", No("use `file`, `environment` or `content`")),
    key("template_driver", No("use `file`, `environment` or `content`")),
];
