//! Ports of the host's loopback, reserved for services permanently.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
};

use devenv_spec::{EnvironmentId, ServiceName};
use sha2::{Digest, Sha256};

use super::{Holder, holder_of};

/// Below the range of ports that kernels assign, so that no outgoing connection uses one.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// Every reservation of this state directory. Clone it to try out reservations.
#[derive(Debug, Clone, Default)]
pub(crate) struct PortReservations {
    /// Leased for good: by which environment, for which service.
    taken: BTreeMap<u16, (EnvironmentId, ServiceName)>,
    /// Named by profiles: the environment's while it is up.
    fixed: BTreeMap<u16, (EnvironmentId, ServiceName)>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum PortError {
    #[error("port {port}, which `{service}` needs, is used by {holder}")]
    Taken { service: ServiceName, port: u16, holder: Holder },
    #[error("port {port}, which `{service}` needs, is reserved for `{other}` of the environment {environment}")]
    Leased { service: ServiceName, port: u16, environment: EnvironmentId, other: ServiceName },
    #[error("no free port between {FIRST} and {}", FIRST + COUNT)]
    NoneLeft,
}

impl PortReservations {
    /// Records a reservation of an earlier daemon.
    pub(crate) fn adopt(&mut self, environment: &EnvironmentId, service: &ServiceName, port: u16) {
        self.taken.insert(port, (environment.clone(), service.clone()));
    }

    /// As [`Self::adopt`], of a port that a profile names.
    pub(crate) fn adopt_fixed(&mut self, environment: &EnvironmentId, service: &ServiceName, port: u16) {
        self.fixed.insert(port, (environment.clone(), service.clone()));
    }

    pub(crate) fn release(&mut self, environment: &EnvironmentId) {
        self.taken.retain(|_, (owner, _)| owner != environment);
        self.fixed.retain(|_, (owner, _)| owner != environment);
    }

    /// Whether it is a number that is leased, rather than named by a profile.
    pub(crate) fn is_leased(port: u16) -> bool {
        (FIRST..FIRST + COUNT).contains(&port)
    }

    /// Whether a leased port is still this environment's.
    pub(crate) fn may_have(&self, environment: &EnvironmentId, port: u16) -> bool {
        self.taken.get(&port).is_none_or(|(owner, _)| owner == environment) && !self.fixed.contains_key(&port)
    }

    /// A port for a service's container port. The first candidate is always the same, so that it is stable even if all state is lost.
    pub(crate) fn reserve(&mut self, environment: &EnvironmentId, service: &ServiceName, container: u16) -> Result<u16, PortError> {
        let digest = Sha256::digest(format!("{environment}/{service}/{container}"));
        let start = u16::from_be_bytes([digest[0], digest[1]]) % COUNT;
        let port = (0..COUNT)
            .map(|step| FIRST + (start + step) % COUNT)
            .find(|port| !self.taken.contains_key(port) && !self.fixed.contains_key(port) && is_free(*port))
            .ok_or(PortError::NoneLeft)?;
        self.adopt(environment, service, port);
        Ok(port)
    }

    /// A port that the profile names. Another environment's is in the way only while that `is_up`. Services are published at 127.0.0.1,
    /// so a program at `::1` alone is not; see [`shadowed_by`].
    pub(crate) fn fix(
        &mut self,
        environment: &EnvironmentId,
        service: &ServiceName,
        port: u16,
        in_use_by_us: bool,
        is_up: impl Fn(&EnvironmentId) -> bool,
    ) -> Result<(), PortError> {
        let owners = [self.taken.get(&port), self.fixed.get(&port)].into_iter().flatten();
        if let Some((other_environment, other)) = owners.into_iter().find(|(owner, _)| owner != environment && is_up(owner)) {
            return Err(PortError::Leased { service: service.clone(), port, environment: other_environment.clone(), other: other.clone() });
        }
        if !in_use_by_us && !is_free_at(Ipv4Addr::LOCALHOST.into(), port) {
            return Err(PortError::Taken { service: service.clone(), port, holder: holder_of(port) });
        }
        self.taken.remove(&port);
        self.adopt_fixed(environment, service, port);
        Ok(())
    }
}

/// Whether a server could listen there now, on both loopback addresses.
pub(crate) fn is_free(port: u16) -> bool {
    is_free_at(Ipv4Addr::LOCALHOST.into(), port) && is_free_at(Ipv6Addr::LOCALHOST.into(), port)
}

/// The program that listens on the port at `::1`, where `localhost` may lead, although it is free at 127.0.0.1.
pub(crate) fn shadowed_by(port: u16) -> Option<Holder> {
    (!is_free_at(Ipv6Addr::LOCALHOST.into(), port) && is_free_at(Ipv4Addr::LOCALHOST.into(), port)).then(|| holder_of(port))
}

/// An address that this machine does not have counts as free.
fn is_free_at(address: IpAddr, port: u16) -> bool {
    let bound = TcpListener::bind(SocketAddr::from((address, port)));
    let no_ipv6 = |error: &std::io::Error| error.kind() == std::io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(97);
    bound.as_ref().err().is_none_or(no_ipv6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> (EnvironmentId, ServiceName, ServiceName) {
        (EnvironmentId::recorded("e"), "db".parse().unwrap(), "cache".parse().unwrap())
    }

    #[test]
    fn a_reservation_is_stable_and_avoids_ports_in_use() {
        let (environment, db, _) = names();
        let first = PortReservations::default().reserve(&environment, &db, 5432).unwrap();
        let squatter = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, first))).unwrap();
        assert_ne!(PortReservations::default().reserve(&environment, &db, 5432).unwrap(), first);
        drop(squatter);
        assert_eq!(PortReservations::default().reserve(&environment, &db, 5432).unwrap(), first);
    }

    #[test]
    fn a_program_at_the_ipv6_loopback_alone_is_in_nobodys_way_but_named() {
        let (environment, db, _) = names();
        // Without IPv6 there is nothing to check.
        let Ok(squatter) = TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, 0))) else { return };
        let port = squatter.local_addr().unwrap().port();
        assert!(!is_free(port), "a port that devenv chooses is free at both");
        assert!(matches!(shadowed_by(port), Some(Holder::Process { pid, .. }) if pid == std::process::id()));
        PortReservations::default().fix(&environment, &db, port, false, |_| true).unwrap();
        let both = TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))).unwrap();
        let port = both.local_addr().unwrap().port();
        if TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_err() {
            assert!(matches!(PortReservations::default().fix(&environment, &db, port, false, |_| true), Err(PortError::Taken { .. })));
            assert_eq!(shadowed_by(port), None);
        }
    }

    #[test]
    fn the_holder_of_a_wanted_port_is_named() {
        let (environment, db, cache) = names();
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut reservations = PortReservations::default();
        let error = reservations.fix(&environment, &db, port, false, |_| true).unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        reservations.fix(&environment, &db, port, true, |_| true).unwrap();
        let other = EnvironmentId::recorded("other");
        assert!(matches!(reservations.fix(&other, &cache, port, true, |_| true), Err(PortError::Leased { .. })));
        reservations.fix(&other, &cache, port, true, |_| false).unwrap();
    }
}
