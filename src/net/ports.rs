//! Ports of the host's loopback, reserved to services and kept by them for good.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
};

use sha2::{Digest, Sha256};

use super::{Holder, holder_of};
use crate::spec::{EnvironmentId, ServiceName};

/// Below the range from which kernels hand out ports by themselves, so that no outgoing connection takes one.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// Every reservation of this state directory. A clone is for trying what would be reserved.
#[derive(Debug, Clone, Default)]
pub(crate) struct PortReservations {
    /// Who has which: environment and service.
    taken: BTreeMap<u16, (EnvironmentId, ServiceName)>,
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
    /// Notes a reservation of an earlier life.
    pub(crate) fn adopt(&mut self, environment: &EnvironmentId, service: &ServiceName, port: u16) {
        self.taken.insert(port, (environment.clone(), service.clone()));
    }

    pub(crate) fn release(&mut self, environment: &EnvironmentId) {
        self.taken.retain(|_, (owner, _)| owner != environment);
    }

    /// A port for a service's container port: always the same first candidate, so that it is stable even if all state is lost.
    pub(crate) fn reserve(&mut self, environment: &EnvironmentId, service: &ServiceName, container: u16) -> Result<u16, PortError> {
        let digest = Sha256::digest(format!("{environment}/{service}/{container}"));
        let start = u16::from_be_bytes([digest[0], digest[1]]) % COUNT;
        let port = (0..COUNT)
            .map(|step| FIRST + (start + step) % COUNT)
            .find(|port| !self.taken.contains_key(port) && is_free(*port))
            .ok_or(PortError::NoneLeft)?;
        self.adopt(environment, service, port);
        Ok(port)
    }

    /// A port that the profile names.
    pub(crate) fn fix(
        &mut self,
        environment: &EnvironmentId,
        service: &ServiceName,
        port: u16,
        in_use_by_us: bool,
    ) -> Result<(), PortError> {
        if let Some((other_environment, other)) = self.taken.get(&port)
            && (other_environment, other) != (environment, service)
        {
            return Err(PortError::Leased { service: service.clone(), port, environment: other_environment.clone(), other: other.clone() });
        }
        if !in_use_by_us && !is_free(port) {
            return Err(PortError::Taken { service: service.clone(), port, holder: holder_of(port) });
        }
        self.adopt(environment, service, port);
        Ok(())
    }
}

/// Whether a server could listen there now, on both loopback addresses.
pub(crate) fn is_free(port: u16) -> bool {
    let four = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let six = TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
    let no_ipv6 = |error: &std::io::Error| error.kind() == std::io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(97);
    four.is_ok() && six.as_ref().err().is_none_or(no_ipv6)
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
    fn the_holder_of_a_wanted_port_is_named() {
        let (environment, db, cache) = names();
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut reservations = PortReservations::default();
        let error = reservations.fix(&environment, &db, port, false).unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        reservations.fix(&environment, &db, port, true).unwrap();
        assert!(matches!(reservations.fix(&environment, &cache, port, true), Err(PortError::Leased { .. })));
    }
}
