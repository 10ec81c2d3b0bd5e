//! Who may connect to a service: `access` of a service, and the subnet that all networks of the environment are parts of. Pure.
//!
//! The loader checks the fields here, and `compile` puts the services on networks. A service with `access` is not on the network that all
//! share but on one of its own, with the services that may connect, and with those that it depends on itself: the engine lets no packet
//! pass from one network to another. That holds from a container's first moment, on every version of Docker, and without privileges in a
//! container; rules of a packet filter in the container's namespace would come only once its program runs already, and end with each restart.

use devenv_kinds::capability::unknown_service;
use devenv_spec::{Attachment, NetworkSpec, ServiceName, ServiceSpec, Workload};
use indexmap::IndexMap;

use super::{
    Profile,
    source::{Findings, Span},
    tree::Node,
};

/// The network of all services without `access`, as profiles name it.
const SHARED: &str = "default";
/// The longest and the shortest prefix of the environment's subnet.
const PREFIXES: std::ops::RangeInclusive<u8> = 8..=28;

/// The network of a service with `access`.
fn network_of(service: &str) -> String {
    format!("access-{service}")
}

/// `network.subnet`.
pub(super) fn own_subnet(node: &Node, findings: &mut Findings) {
    let Some(text) = node.text() else { return };
    let subnet = text.parse::<ipnet::Ipv4Net>();
    let message = match subnet {
        Ok(subnet) if !PREFIXES.contains(&subnet.prefix_len()) => {
            format!("the prefix of `subnet` must be from /{} to /{}, but is /{}", PREFIXES.start(), PREFIXES.end(), subnet.prefix_len())
        }
        Ok(subnet) if subnet.addr() != subnet.network() => {
            let hint = format!("write `{}`", subnet.trunc());
            findings.error(node.span, "bad-value", format!("`{text}` is an address in a subnet")).hint(hint);
            return;
        }
        Ok(_) => return,
        Err(_) => format!("`subnet` must be an IPv4 subnet such as `10.10.0.0/16`, but is {}", node.noun()),
    };
    findings.error(node.span, "bad-value", message);
}

/// Everything that is wrong with `access` in a profile that is valid otherwise, and its services as they are compiled.
pub(super) fn check(merged: &Node, profile: &Profile, services: &IndexMap<ServiceName, ServiceSpec>, findings: &mut Findings) {
    let place = |service: &str| merged.get("services").and_then(|services| services.entry(service)).map(|entry| entry.node.entry("access"));
    let names: Vec<&str> = profile.services.keys().map(ServiceName::as_str).collect();
    for (name, service) in &profile.services {
        let (Some(access), Some(Some(entry))) = (&service.access, place(name.as_str())) else { continue };
        let mut unknown = false;
        for item in entry.node.items() {
            if let Some(wanted) = item.text().filter(|wanted| !names.contains(wanted)) {
                unknown_service(wanted, item.span, &names, findings);
                unknown = true;
            }
        }
        if !unknown {
            protected(name, access, services, entry.key, findings);
        }
    }
    for (name, service) in profile.networks.keys().filter_map(|name| Some((name, name.strip_prefix("access-")?))) {
        if profile.services.get(service).is_some_and(|service| service.access.is_some()) {
            let at = merged.get("networks").and_then(|networks| networks.entry(name)).map_or(merged.span, |entry| entry.key);
            findings.error(at, "bad-name", format!("`{name}` is the network that `access` of `{service}` makes")).hint("rename it");
        }
    }
}

fn protected(name: &ServiceName, access: &[String], services: &IndexMap<ServiceName, ServiceSpec>, at: Span, findings: &mut Findings) {
    let Some(container) = services.get(name).and_then(ServiceSpec::container) else {
        findings
            .error(at, "not-for-this-kind", format!("`access` is for services in containers, but `{name}` is a process on the host"))
            .hint("every program on this machine reaches it; remove `access`");
        return;
    };
    // Those that `restrict` has added are of no interest here.
    let said = |network: &String| network != SHARED && !network.starts_with("access-");
    if container.options.network_mode.is_some() || container.options.networks.keys().any(said) {
        findings
            .error(at, "access-and-networks", format!("`{name}` has `access`, and networks or a network mode of its own"))
            .hint("remove one of them: a service with `access` is on a network with those that may connect");
    }
    for other in access {
        let Some(container) = services.get(other.as_str()).and_then(ServiceSpec::container) else { continue };
        if container.options.network_mode.is_some() {
            findings
                .error(
                    at,
                    "access-and-networks",
                    format!("`{other}` cannot be let in: it uses the network of another service or of the host"),
                )
                .hint("name the service whose network it uses, or remove its `network_mode`");
        }
    }
    let shut_out = |(other, spec): &(&ServiceName, &ServiceSpec)| {
        spec.depends_on.contains_key(name)
            && *other != name
            && spec.container().is_some()
            && !access.iter().any(|one| one == other.as_str())
    };
    for (other, _) in services.iter().filter(shut_out) {
        findings
            .error(at, "no-access", format!("`{other}` depends on `{name}`, and may not connect to it"))
            .hint(format!("add `{other}` to `access` of `{name}`, or remove the dependency"));
    }
}

/// Puts every service with `access` on a network of its own. Returns these networks.
pub(super) fn restrict(profile: &Profile, services: &mut IndexMap<ServiceName, ServiceSpec>) -> IndexMap<String, NetworkSpec> {
    let mut made = IndexMap::new();
    for (name, access) in profile.services.iter().filter_map(|(name, service)| Some((name, service.access.as_ref()?))) {
        let is_open = |other: &&ServiceName| profile.services.get(*other).is_some_and(|service| service.access.is_none());
        let used = services.get(name).into_iter().flat_map(|service| service.depends_on.keys()).filter(is_open).cloned();
        let mut members: Vec<ServiceName> = access.iter().filter_map(|other| other.parse().ok()).chain(used).collect();
        members.push(name.clone());
        members.sort();
        members.dedup();
        let mut joined = 0;
        for member in &members {
            let open = is_open(&member);
            joined +=
                u32::from(services.get_mut(member).is_some_and(|service| join(service, &network_of(name.as_str()), open, member == name)));
        }
        made.insert(network_of(name.as_str()), NetworkSpec { containers: Some(joined), ..NetworkSpec::default() });
    }
    made
}

/// Puts a container on a network, besides the shared one if it is `open`. Whether it is on it now.
fn join(service: &mut ServiceSpec, network: &str, open: bool, own: bool) -> bool {
    let Workload::Container(container) = &mut service.workload else { return false };
    if container.options.network_mode.is_some() {
        return false;
    }
    let named = || Attachment { aliases: container.aliases.clone(), address: None };
    let (shared, attachment) = (named(), if own { named() } else { Attachment::default() });
    let networks = &mut container.options.networks;
    if open && networks.is_empty() {
        networks.insert(SHARED.to_owned(), shared);
    }
    networks.insert(network.to_owned(), attachment);
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{Given, given};

    fn networks_of(given: &Given, service: &str) -> Vec<String> {
        given.spec().services[service].container().unwrap().options.networks.keys().cloned().collect()
    }

    fn container() -> serde_json::Value {
        json!({ "container": { "image": "x" } })
    }

    #[test]
    fn a_service_with_access_shares_a_network_with_those_that_may_connect_and_those_that_it_uses() {
        let shop = given("cache", json!({ "redis": {} }))
            .with(|cache| cache.access = Some(vec!["api".into()]))
            .and("db", json!({ "postgres": {} }))
            .and("api", container())
            .with(|api| {
                api.access = Some(vec!["web".into()]);
                api.depends_on.insert("db".parse().unwrap(), devenv_spec::Condition::Ready);
            })
            .and("web", container())
            .and("other", container());
        assert_eq!(networks_of(&shop, "cache"), ["access-cache"]);
        assert_eq!(networks_of(&shop, "api"), ["access-cache", "access-api"]);
        assert_eq!(networks_of(&shop, "db"), ["default", "access-api"]);
        assert_eq!(networks_of(&shop, "web"), ["default", "access-api"]);
        assert!(networks_of(&shop, "other").is_empty());
        let spec = shop.spec();
        assert_eq!((spec.networks["access-cache"].containers, spec.networks["access-api"].containers), (Some(2), Some(3)));
        let own = "10.10.0.0/24".parse().unwrap();
        assert_eq!(spec.shared_subnet(own).to_string(), "10.10.0.0/25");
        assert_eq!(given("db", json!({ "postgres": {} })).spec().shared_subnet(own), own);
    }

    #[test]
    fn nobody_may_connect_to_a_service_with_an_empty_list() {
        let alone = given("cache", json!({ "redis": {} })).with(|cache| cache.access = Some(Vec::new())).and("api", container());
        assert_eq!(networks_of(&alone, "cache"), ["access-cache"]);
        assert!(networks_of(&alone, "api").is_empty());
    }
}
