//! Leases the ports of the host that a profile's services need: those that the profile names, and those that an environment keeps.
//!
//! A leased port stays an environment's for good. A port that a profile names is the environment's while it is up: after `down`
//! another one may have it. Called by `compile`; what is decided here is not on the disk before `up` is.

use std::collections::{BTreeMap, HashMap};

use devenv_api::{ApiError, ErrorCode, Phase};
use devenv_profile::PortRequest;
use devenv_spec::{EnvironmentId, ServiceName};

use super::{Environment, Environments};
use crate::{
    net::{self, PortError, PortReservations},
    reconcile::View,
    store::{Goal, Record},
};

/// Host ports by service and container port.
pub(super) type Ports = BTreeMap<ServiceName, BTreeMap<u16, u16>>;

/// What the ports of an environment depend on.
pub(super) struct Leasing<'a> {
    pub(super) record: &'a Record,
    /// Ports that are in use by the environment itself.
    pub(super) running: Vec<u16>,
    pub(super) others: Others,
}

/// What came of it.
pub(super) struct Leased {
    /// Of the profile's services, and nothing else.
    pub(super) ports: Ports,
    /// What the environment keeps, for services that are not in this profile too. Without the ports that the profile names.
    pub(super) kept: Ports,
}

/// The other environments.
pub(super) struct Others(HashMap<EnvironmentId, View>);

impl Environments {
    /// All environments but one.
    pub(super) fn others(&self, than: &EnvironmentId) -> Others {
        let others = self.all().into_iter().filter(|environment| environment.id != *than);
        Others(others.map(|environment| (environment.id.clone(), environment.handle.view())).collect())
    }

    /// Ports that environments had stay theirs, and those that profiles name while they are up. To be called before any is adopted.
    pub(crate) fn lease_again(&self, records: &[Record]) {
        let mut reservations = self.shared.leases.lock().expect("no code panics while it holds this lock");
        for record in records {
            for (service, ports) in &record.ports {
                // Others were named by a profile, and kept by a former version.
                for host in ports.values().filter(|host| PortReservations::is_leased(**host)) {
                    reservations.adopt(&record.id, service, *host);
                }
            }
            let up = record.spec.as_ref().filter(|_| record.goal == Goal::Up);
            for (name, service) in up.into_iter().flat_map(|spec| &spec.services) {
                let leased = |port: &u16| record.ports.get(name).is_some_and(|ports| ports.values().any(|leased| leased == port));
                for port in service.ports().into_values().filter(|port| !leased(port)) {
                    reservations.adopt_fixed(&record.id, name, port);
                }
            }
        }
    }
}

/// Ports that are in use by the environment itself.
pub(super) fn running(environment: &Environment) -> Vec<u16> {
    let status = environment.handle.status();
    let running = status.services.iter().filter(|service| service.container.is_some() || service.pid.is_some());
    let mut ports: Vec<u16> = running.flat_map(|service| service.ports.iter().map(|port| port.host)).collect();
    // A service may be away while its ports are held for it.
    ports.extend(environment.runtime.processes.held_ports());
    ports.extend(environment.forwards.ports());
    ports.extend(environment.fronts.ports());
    ports
}

impl Leasing<'_> {
    /// The ports that the environment had stay its own. One that another program has taken meanwhile is replaced; one that the profile
    /// names is not. `notice` gets a kind of event and its message.
    pub(super) fn lease(
        &self,
        reservations: &mut PortReservations,
        needs: &[PortRequest],
        notice: impl Fn(&ServiceName, &'static str, String),
    ) -> Result<Leased, ApiError> {
        let id = &self.record.id;
        let mut kept = self.record.ports.clone();
        let mut ports = Ports::new();
        for need in needs {
            let Some(port) = need.fixed else { continue };
            let is_running = self.running.contains(&port);
            let up = |other: &EnvironmentId| self.others.is_up(other);
            reservations.fix(id, &need.service, port, is_running, up).map_err(|error| self.others.taken(&error))?;
            if !is_running && let Some(holder) = net::shadowed_by(port) {
                notice(&need.service, "service.port-shadowed", shadowed(&need.service, port, &holder));
            }
            // Nothing of this environment has it besides, and it is not kept when the profile names it no more.
            for leased in kept.values_mut() {
                leased.retain(|_, host| *host != port);
            }
            ports.entry(need.service.clone()).or_default().insert(need.container, port);
        }
        for need in needs.iter().filter(|need| need.fixed.is_none()) {
            let had = kept.get(&need.service).and_then(|ports| ports.get(&need.container)).copied();
            // A former version kept ports that a profile named.
            let had = had.filter(|port| PortReservations::is_leased(*port));
            let host = match had {
                Some(port) if reservations.may_have(id, port) && (self.running.contains(&port) || net::is_free(port)) => port,
                Some(port) => {
                    let other = self.reserve(reservations, need)?;
                    let why = if net::is_free(port) {
                        "is another environment's now".to_owned()
                    } else {
                        format!("is used by {}", net::holder_of(port))
                    };
                    let message = format!("{}: port {port} {why}, so the service moved to port {other}", need.service);
                    notice(&need.service, "service.port-moved", message);
                    other
                }
                None => self.reserve(reservations, need)?,
            };
            kept.entry(need.service.clone()).or_default().insert(need.container, host);
            ports.entry(need.service.clone()).or_default().insert(need.container, host);
        }
        Ok(Leased { ports, kept })
    }

    fn reserve(&self, reservations: &mut PortReservations, need: &PortRequest) -> Result<u16, ApiError> {
        reservations.reserve(&self.record.id, &need.service, need.container).map_err(|error| self.others.taken(&error))
    }
}

impl Others {
    /// Whether an environment has, or is about to have, what its profile names.
    fn is_up(&self, id: &EnvironmentId) -> bool {
        self.0.get(id).is_some_and(|view| view.goal == Goal::Up || view.status.phase != Phase::Absent)
    }

    /// The environment, and the service of it, that has a port.
    fn with_port(&self, port: u16) -> Option<(&View, &str)> {
        self.0.values().find_map(|view| {
            let service = view.status.services.iter().find(|service| service.ports.iter().any(|known| known.host == port))?;
            Some((view, service.name.as_str()))
        })
    }

    fn taken(&self, error: &PortError) -> ApiError {
        let (service, port, other) = match error {
            PortError::Taken { service, port, .. } => (service, *port, self.with_port(*port)),
            PortError::Leased { service, port, environment, other } => {
                (service, *port, self.0.get(environment).map(|view| (view, other.as_str())))
            }
            PortError::NoneLeft => {
                return ApiError::new(ErrorCode::Failed, error.to_string()).hint("remove environments that nobody needs: `devenv gc`");
            }
        };
        let Some((view, other)) = other else {
            return ApiError::new(ErrorCode::Failed, error.to_string()).hint("stop that program, or name another port in the profile");
        };
        let status = &view.status;
        let instance = if status.instance == "default" { String::new() } else { format!(" --instance {}", status.instance) };
        let state = if status.phase == Phase::Stopped { "stopped, and keeps its ports" } else { "up" };
        let message = format!(
            "port {port}, which `{service}` needs, belongs to `{other}` of the environment `{}` of {}, which is {state}",
            status.instance, status.project
        );
        let command = format!("devenv down --project {}{instance}", status.project);
        ApiError::new(ErrorCode::Failed, message).hint(format!("run `{command}` to free it, or name another port in the profile"))
    }
}

fn shadowed(service: &ServiceName, port: u16, holder: &net::Holder) -> String {
    format!("{service}: {holder} listens on port {port} of ::1, where `localhost` may lead; {service} is at 127.0.0.1:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn record(id: &str, ports: &[(&str, u16, u16)]) -> Record {
        let mut record = Record::new(EnvironmentId::recorded(id), "/p".into(), "default".into());
        for (service, container, host) in ports {
            record.ports.entry(service.parse().unwrap()).or_default().insert(*container, *host);
        }
        record
    }

    fn need(service: &str, container: u16, fixed: Option<u16>) -> PortRequest {
        PortRequest { service: service.parse().unwrap(), container, fixed }
    }

    fn lease(reservations: &mut PortReservations, record: &Record, needs: &[PortRequest]) -> Result<Leased, ApiError> {
        Leasing { record, running: Vec::new(), others: Others(HashMap::new()) }.lease(reservations, needs, |_, _, _| {})
    }

    fn free() -> u16 {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    #[test]
    fn a_port_that_the_profile_names_no_more_is_gone_and_the_leased_one_is_back() {
        let mut reservations = PortReservations::default();
        let mut record = record("e", &[]);
        let leased = lease(&mut reservations, &record, &[need("db", 5432, None)]).unwrap();
        let first = leased.ports["db"][&5432];
        record.ports = leased.kept;
        let fixed = free();
        let named = lease(&mut reservations, &record, &[need("db", 5432, Some(fixed)), need("web", 8080, Some(free()))]).unwrap();
        assert_eq!(named.ports["db"][&5432], fixed);
        record.ports = named.kept;
        let after = lease(&mut reservations, &record, &[need("db", 5432, None)]).unwrap();
        assert_eq!(after.ports["db"], BTreeMap::from([(5432, first)]));
        assert!(!after.ports.contains_key("web"), "only what the profile needs");
    }

    #[test]
    fn a_named_port_that_a_former_version_kept_is_not_leased_again() {
        let leased = lease(&mut PortReservations::default(), &record("e", &[("db", 5432, 15432)]), &[need("db", 5432, None)]).unwrap();
        assert_ne!(leased.ports["db"][&5432], 15432);
    }

    #[test]
    fn a_renamed_service_takes_its_port_along() {
        let mut reservations = PortReservations::default();
        let record = record("e", &[]);
        let port = free();
        lease(&mut reservations, &record, &[need("web", 80, Some(port))]).unwrap();
        let leased = lease(&mut reservations, &record, &[need("site", 80, Some(port))]).unwrap();
        assert_eq!(leased.ports["site"][&80], port);
    }

    #[test]
    fn a_port_named_by_an_environment_that_is_down_is_free_for_others() {
        let mut reservations = PortReservations::default();
        let port = free();
        lease(&mut reservations, &record("down", &[]), &[need("web", 80, Some(port))]).unwrap();
        lease(&mut reservations, &record("other", &[]), &[need("web", 80, Some(port))]).unwrap();
        // And a lease in its way moves.
        let mut kept = record("kept", &[]);
        kept.ports = lease(&mut reservations, &kept, &[need("db", 5432, None)]).unwrap().kept;
        let leased = kept.ports["db"][&5432];
        lease(&mut reservations, &record("other", &[]), &[need("web", 80, Some(leased))]).unwrap();
        assert_ne!(lease(&mut reservations, &kept, &[need("db", 5432, None)]).unwrap().ports["db"][&5432], leased);
    }
}
