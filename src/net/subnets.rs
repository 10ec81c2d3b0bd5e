//! Small subnets from devenv's own range that overlap neither the host's routes nor the engine's networks.

use std::net::Ipv4Addr;

use devenv_spec::EnvironmentId;
use ipnet::{IpNet, Ipv4Net};
use sha2::{Digest, Sha256};

/// 1,024 environments of 61 addresses each.
const RANGE: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 213, 0, 0), 16);
const PREFIX: u8 = 26;

#[derive(Debug, thiserror::Error)]
#[error("no free subnet in {RANGE}: the host's routes and the engine's networks use {taken}")]
pub(crate) struct SubnetError {
    taken: usize,
}

/// A subnet that overlaps nothing in `taken`; the same one for the same environment as long as it is free.
pub(crate) fn choose_subnet(environment: &EnvironmentId, taken: &[IpNet]) -> Result<Ipv4Net, SubnetError> {
    let candidates: Vec<Ipv4Net> = RANGE.subnets(PREFIX).expect("26 is longer than 16").collect();
    let digest = Sha256::digest(environment.as_str());
    let start = usize::from(u16::from_be_bytes([digest[0], digest[1]])) % candidates.len();
    (0..candidates.len())
        .map(|step| candidates[(start + step) % candidates.len()])
        .find(|candidate| !taken.iter().any(|net| overlaps(net, *candidate)))
        .ok_or(SubnetError { taken: taken.len() })
}

/// A part of an environment's own subnet for a network of this many containers, from the half that its shared network leaves free.
pub(crate) fn part_of(own: Ipv4Net, containers: u32, taken: &[IpNet]) -> Option<Ipv4Net> {
    // As many again for containers of `devenv run`; the network's own address, its gateway and its broadcast address.
    let addresses = containers.checked_mul(2)?.checked_add(3)?.max(8).checked_next_power_of_two()?;
    let prefix = 32 - u8::try_from(addresses.trailing_zeros()).ok()?;
    let upper = own.subnets(own.prefix_len() + 1).ok()?.nth(1)?;
    upper.subnets(prefix).ok()?.find(|candidate| !taken.iter().any(|net| overlaps(net, *candidate)))
}

pub(crate) fn overlaps(net: &IpNet, candidate: Ipv4Net) -> bool {
    match net {
        IpNet::V4(net) => net.contains(&candidate) || candidate.contains(net),
        IpNet::V6(_) => false,
    }
}

/// The host's routes without the default route; empty if the kernel does not report them.
pub(crate) fn host_routes() -> Vec<IpNet> {
    std::fs::read_to_string("/proc/net/route").map(|table| parse_routes(&table)).unwrap_or_default()
}

/// Addresses in this table are in the byte order of the machine.
fn parse_routes(table: &str) -> Vec<IpNet> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let address = |index: usize| u32::from_str_radix(fields.get(index)?, 16).ok().map(|bits| Ipv4Addr::from(bits.to_ne_bytes()));
            let (destination, mask) = (address(1)?, address(7)?);
            Ipv4Net::with_netmask(destination, mask).ok().filter(|net| net.prefix_len() > 0).map(IpNet::V4)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_is_stable_and_avoids_routes() {
        let environment = EnvironmentId::recorded("shop-default-1");
        let first = choose_subnet(&environment, &[]).unwrap();
        assert_eq!(first, choose_subnet(&environment, &[]).unwrap());
        let second = choose_subnet(&environment, &[IpNet::V4(first)]).unwrap();
        assert_ne!(first, second);
        assert!(choose_subnet(&environment, &["10.0.0.0/8".parse().unwrap()]).is_err());
    }

    #[test]
    fn parts_of_a_subnet_come_from_its_upper_half_until_it_is_full() {
        let own: Ipv4Net = "10.10.0.0/26".parse().unwrap();
        let mut taken: Vec<IpNet> = vec!["10.10.0.0/27".parse().unwrap()];
        let mut parts = Vec::new();
        while let Some(part) = part_of(own, 2, &taken) {
            taken.push(part.into());
            parts.push(part.to_string());
        }
        assert_eq!(parts, ["10.10.0.32/29", "10.10.0.40/29", "10.10.0.48/29", "10.10.0.56/29"]);
        assert_eq!(part_of(own, 3, &[]).unwrap().to_string(), "10.10.0.32/28");
        assert_eq!(part_of(own, 40, &[]), None);
        assert_eq!(part_of(own, u32::MAX, &[]), None);
    }

    #[test]
    fn routes_are_read_and_the_default_route_is_no_obstacle() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
                     eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\n\
                     eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\n";
        assert_eq!(parse_routes(table), ["172.17.0.0/16".parse::<IpNet>().unwrap()]);
    }
}
