//! The ports of the services of one environment that may sleep: the daemon holds them, whether the services are awake or not.
//!
//! # Theory of operation
//!
//! A task follows the environment's views: it opens and closes the ports ([`Front`]) and sets the gates of their services. It neither
//! wakes nor puts to sleep: the daemon's task `sleeper` looks at [`Fronts::calling`] and [`Fronts::due`] and submits operations. An operation
//! that puts idle services to sleep closes their gates first ([`Fronts::hold`]), and looks again after that: a client that comes
//! later waits at the gate.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use devenv_api::{ApiError, ServiceState};
use devenv_engine::{BEHIND, Engine, Reach};
use devenv_spec::{ServiceName, SleepMode};
use futures_util::{FutureExt, future::join_all};
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};
use tokio_util::{either::Either, sync::CancellationToken};

use super::{
    parts::Parts,
    port_forwards::{PortForwards, Target, Ways},
};
use crate::{
    event::NewEvent,
    net::{Clients, Connect, Front, Gate, dial, holder_of},
    reconcile::{CommandError, FrontedService, Handle},
};

/// How soon a port is tried again that could not be bound: a former container of the service may still have it.
const AGAIN: Duration = Duration::from_millis(50);
/// How long a port cannot be bound until it is reported.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long services must have been unused to be put to sleep for their memory.
const SPARED: Duration = Duration::from_secs(30);

/// Of one environment. Cheap to clone; clones share everything.
#[derive(Clone)]
pub(crate) struct Fronts {
    services: Arc<Mutex<HashMap<ServiceName, Arc<Clients>>>>,
    /// Those that it holds now.
    ports: Arc<Mutex<Vec<u16>>>,
    /// Whether these are all that it is to hold.
    complete: watch::Sender<bool>,
    bell: Arc<Notify>,
    engine: Arc<dyn Engine>,
}

/// Keeps gates closed until it is dropped.
pub(crate) struct HeldGates {
    held: Vec<(ServiceName, Arc<Clients>)>,
    fronts: Fronts,
    handle: Handle,
}

impl HeldGates {
    /// Lets the clients of all others through again.
    pub(crate) fn only(&mut self, names: &[ServiceName]) {
        for (_, clients) in self.held.extract_if(.., |(name, _)| !names.contains(name)) {
            clients.hold(false);
        }
    }
}

impl Drop for HeldGates {
    fn drop(&mut self) {
        // The task that follows the views may not have seen yet what has fallen asleep.
        self.fronts.set_gates(&self.handle);
        self.held.iter().for_each(|(_, clients)| clients.hold(false));
    }
}

impl Fronts {
    pub(super) fn new(bell: Arc<Notify>, engine: Arc<dyn Engine>) -> Self {
        Self { services: Arc::default(), ports: Arc::default(), complete: watch::Sender::new(false), bell, engine }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServiceName, Arc<Clients>>> {
        self.services.lock().expect("no code panics while it holds this lock")
    }

    /// The ports that are held, which do not count as used by others.
    pub(super) fn ports(&self) -> Vec<u16> {
        self.ports.lock().expect("no code panics while it holds this lock").clone()
    }

    /// Waits until all ports are held. The caller limits the time: another program may have one.
    pub(crate) async fn are_open(&self) {
        // It has no end: this keeps the sender.
        let _ = self.complete.subscribe().wait_for(|complete| *complete).await;
    }

    /// Whether no service of the environment may sleep.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Sleeping services that a client waits for.
    pub(crate) fn calling(&self) -> Vec<ServiceName> {
        self.lock().iter().filter(|(_, clients)| clients.calls()).map(|(name, _)| name.clone()).collect()
    }

    /// Closes the gates.
    fn hold(&self, handle: &Handle) -> HeldGates {
        let held: Vec<(ServiceName, Arc<Clients>)> = self.lock().iter().map(|(name, clients)| (name.clone(), clients.clone())).collect();
        for (_, clients) in &held {
            clients.hold(true);
        }
        HeldGates { held, fronts: self.clone(), handle: handle.clone() }
    }

    fn clients(&self, name: &ServiceName) -> Arc<Clients> {
        self.lock().entry(name.clone()).or_insert_with(|| Arc::new(Clients::new(self.bell.clone()))).clone()
    }

    /// Sets the gates to the newest view, which is read under the lock: no older one is set after it. Returns its services.
    fn set_gates(&self, handle: &Handle) -> Vec<FrontedService> {
        let mut services = self.lock();
        let fronted = handle.fronted();
        services.retain(|name, _| fronted.iter().any(|service| service.name == *name));
        for service in &fronted {
            let clients = services.entry(service.name.clone()).or_insert_with(|| Arc::new(Clients::new(self.bell.clone())));
            clients.set(service.gate);
        }
        fronted
    }
}

impl Parts {
    /// The services that have been unused for as long as the profile says.
    pub(crate) fn due(&self) -> Vec<ServiceName> {
        self.unused_since(|service| service.sleep.after).map(|(names, _)| names).unwrap_or_default()
    }

    /// The services that free memory if they sleep and that nobody uses, and for how long all of them have been unused.
    pub(crate) fn spare(&self) -> Option<(Vec<ServiceName>, Duration)> {
        self.unused_since(|service| (service.sleep.mode == SleepMode::Stop).then_some(SPARED))
    }

    fn unused_since(&self, after: impl Fn(&FrontedService) -> Option<Duration>) -> Option<(Vec<ServiceName>, Duration)> {
        let fronted = self.handle.fronted();
        if fronted.iter().all(|service| after(service).is_none()) || !self.faults.list(false).is_empty() {
            return None;
        }
        let unused = |service: &FrontedService| self.fronts.clients(&service.name).unused_for(service.sleep.mode == SleepMode::Freeze);
        let (names, idle) = due(&fronted, self.activity.without_users_for(), unused, after)?;
        (!names.is_empty()).then_some((names, idle))
    }

    /// The memory of its running containers, as far as the engine says it.
    pub(crate) async fn memory(&self) -> u64 {
        let status = self.handle.status();
        let running = status.services.iter().filter(|service| service.state == ServiceState::Ready);
        let asked = running.filter_map(|service| service.container.as_deref()).map(|container| self.fronts.engine.usage(container));
        join_all(asked).await.into_iter().filter_map(|usage| Some(usage.ok()??.memory)).sum()
    }

    /// Closes the gates of all its services that may sleep, until the guard is dropped: clients wait.
    pub(crate) fn hold_clients(&self) -> HeldGates {
        self.fronts.hold(&self.handle)
    }

    /// Wakes what sleeps of these services with what they depend on, all if none is named, and waits until they are ready or have
    /// failed.
    pub(crate) async fn awake(&self, names: &[ServiceName], why: &str) -> Result<(), ApiError> {
        Ok(awake(&self.handle, names, why).await?)
    }
}

/// As [`Parts::awake`], for those who must not hold the environment.
pub(crate) async fn awake(handle: &Handle, names: &[ServiceName], why: &str) -> Result<(), CommandError> {
    let sleeps = |service: &FrontedService| service.gate == Gate::Asleep && (names.is_empty() || names.contains(&service.name));
    // A service that is awake has what it needs; one without `sleep` wakes what it needs when it starts.
    if !handle.fronted().iter().any(sleeps) {
        return Ok(());
    }
    let (revision, woken) = handle.wake(names.to_vec(), why).await?;
    handle.until_settled(revision, &woken).await?;
    Ok(())
}

/// Nothing falls asleep while a client uses anything that may: services reach one another in ways that nobody sees. `used` is how long
/// commands have not used the environment.
fn due(
    fronted: &[FrontedService],
    used: Duration,
    unused: impl Fn(&FrontedService) -> Option<Duration>,
    after: impl Fn(&FrontedService) -> Option<Duration>,
) -> Option<(Vec<ServiceName>, Duration)> {
    // What is starting, or stopping, is left alone.
    if fronted.iter().any(|service| service.gate == Gate::Wait && !service.ports.is_empty()) {
        return None;
    }
    let awake = || fronted.iter().filter(|service| service.gate == Gate::Serve);
    let mut idle = used;
    for service in awake().filter(|service| !service.ports.is_empty()) {
        match unused(service) {
            Some(unused) => idle = idle.min(unused),
            None => return None,
        }
    }
    let is_due = |service: &&FrontedService| !service.stays_awake && after(service).is_some_and(|after| idle >= after);
    Some((awake().filter(is_due).map(|service| service.name.clone()).collect(), idle))
}

/// Keeps the ports until its task ends.
pub(super) async fn keep(fronts: Fronts, handle: Handle, ways: Ways, stop: CancellationToken) {
    let forwards = Arc::new(PortForwards::new(ways));
    let mut open: BTreeMap<u16, (ServiceName, Target, Front)> = BTreeMap::new();
    // Since when a port cannot be bound.
    let mut refused: HashMap<u16, Instant> = HashMap::new();
    let mut reported: HashSet<u16> = HashSet::new();
    let mut views = handle.views();
    loop {
        views.mark_unchanged();
        let fronted = fronts.set_gates(&handle);
        if fronted.iter().all(|service| service.container.is_none()) {
            forwards.close();
        }
        let wanted = targets(&fronted, &forwards.reach);
        refused.retain(|port, _| wanted.contains_key(port));
        reported.retain(|port| wanted.contains_key(port));
        open.retain(|port, (name, target, _)| wanted.get(port).is_some_and(|(of, wanted)| of == name && wanted == target));
        *fronts.ports.lock().expect("no code panics while it holds this lock") = open.keys().copied().collect();
        let mut missing = false;
        for (port, (name, target)) in wanted {
            if open.contains_key(&port) {
                continue;
            }
            match Front::bind(port, fronts.clients(&name), connector(&forwards, &target)).await {
                Ok(front) => {
                    refused.remove(&port);
                    reported.remove(&port);
                    open.insert(port, (name, target, front));
                }
                Err(error) => {
                    // A former container of the service has it for a moment.
                    if refused.entry(port).or_insert_with(Instant::now).elapsed() > PATIENCE && !reported.contains(&port) {
                        reported.insert(port);
                        let message =
                            format!("{name}: port {port} is used by {}, so no client reaches the service: {error}", holder_of(port));
                        handle.events.emit(NewEvent::of(&name, "service.port-taken", message));
                    }
                    missing = true;
                }
            }
        }
        *fronts.ports.lock().expect("no code panics while it holds this lock") = open.keys().copied().collect();
        fronts.complete.send_replace(!missing);
        // All are cancel-safe.
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(AGAIN), if missing => {}
            changed = views.changed() => if changed.is_err() { return },
        }
    }
}

/// By the public port.
fn targets(fronted: &[FrontedService], reach: &Reach) -> BTreeMap<u16, (ServiceName, Target)> {
    let mut targets = BTreeMap::new();
    for service in fronted {
        for (host, inner) in &service.ports {
            // On this host a port is the same for every container of the service, so its connections need not end with one.
            let container = if *reach == Reach::Here { None } else { service.container.clone() };
            let target = Target { container: container.unwrap_or_default(), inner: *inner, outer: *host };
            targets.insert(*host, (service.name.clone(), target));
        }
    }
    targets
}

fn connector(forwards: &Arc<PortForwards>, target: &Target) -> Connect {
    let (forwards, target) = (forwards.clone(), target.clone());
    Arc::new(move || {
        let (forwards, target) = (forwards.clone(), target.clone());
        async move {
            match &forwards.reach {
                Reach::Here => dial((BEHIND, target.outer)).await.map(Either::Left),
                Reach::Beside | Reach::Elsewhere { .. } | Reach::Relayed => forwards.connect(&target).await,
            }
        }
        .boxed()
    })
}

#[cfg(test)]
mod tests {
    use devenv_spec::Sleep;

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn service(name: &str, gate: Gate, after: Option<Duration>, port: u16) -> FrontedService {
        FrontedService {
            name: name.parse().unwrap(),
            sleep: Sleep { after, mode: SleepMode::Stop },
            ports: (port > 0).then_some((port, port)).into_iter().collect(),
            container: None,
            gate,
            stays_awake: false,
        }
    }

    fn said(all: &[FrontedService], used: Duration, unused: impl Fn(&FrontedService) -> Option<Duration>) -> Vec<ServiceName> {
        due(all, used, unused, |service| service.sleep.after).map(|(names, _)| names).unwrap_or_default()
    }

    fn names(due: &[ServiceName]) -> Vec<&str> {
        due.iter().map(ServiceName::as_str).collect()
    }

    #[test]
    fn services_are_due_together_once_no_client_and_no_command_has_used_any_of_them_for_as_long_as_is_said() {
        let all = [
            service("db", Gate::Serve, Some(MINUTE), 1),
            service("cache", Gate::Serve, Some(3 * MINUTE), 2),
            service("worker", Gate::Serve, Some(MINUTE), 0),
            service("mail", Gate::Serve, None, 3),
            service("old", Gate::Asleep, Some(MINUTE), 4),
        ];
        let idle = |time: Duration| said(&all, 10 * MINUTE, |_| Some(time));
        assert_eq!(names(&idle(MINUTE)), ["db", "worker"]);
        assert_eq!(names(&idle(3 * MINUTE)), ["db", "cache", "worker"]);
        assert_eq!(names(&idle(MINUTE / 2)), Vec::<&str>::new());
        assert_eq!(names(&said(&all, Duration::ZERO, |_| Some(3 * MINUTE))), Vec::<&str>::new(), "a command uses it");
        let used = |one: &FrontedService| (one.name.as_str() != "mail").then_some(3 * MINUTE);
        assert_eq!(names(&said(&all, 10 * MINUTE, used)), Vec::<&str>::new(), "a client uses what only sleeps by a command");
        let asleep = |one: &FrontedService| (one.name.as_str() != "old").then_some(3 * MINUTE);
        assert_eq!(names(&said(&all, 10 * MINUTE, asleep)).len(), 3, "what sleeps already is asked nothing");
    }

    #[test]
    fn what_a_container_needs_that_stays_awake_is_never_due() {
        let kept = FrontedService { stays_awake: true, ..service("db", Gate::Serve, Some(MINUTE), 1) };
        let all = [kept, service("cache", Gate::Serve, Some(MINUTE), 2)];
        assert_eq!(names(&said(&all, MINUTE, |_| Some(MINUTE))), ["cache"]);
    }

    #[test]
    fn nothing_is_due_while_a_service_starts() {
        let all = [service("db", Gate::Serve, Some(MINUTE), 1), service("api", Gate::Wait, Some(MINUTE), 2)];
        assert!(said(&all, MINUTE, |_| Some(MINUTE)).is_empty());
    }
}
