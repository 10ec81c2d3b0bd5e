//! Serves an environment's metrics to the Prometheus that runs in it.
//!
//! # Theory of operation
//!
//! One task for each environment listens while the environment is up: on the gateway of the environment's network, where
//! its containers reach the host and nobody else does, and on a permanently leased port. So a scrape fails
//! while no daemon runs, and finds the next one at the same address. Between two scrapes it asks, counts and stores
//! nothing except what a service had used at the last one.
//!
//! `/metrics` has the services and the disk, `/metrics/SERVICE` the metrics of the service's server.
//!
//! Another task measures the same at a low rate, for the page in the browser: [`samples`] keeps it in a [`history`] of one hour.

mod history;
mod samples;

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{ConnectInfo, Path as Segment, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing,
};
use devenv_api::{ServiceState, Status};
use devenv_engine::Engine;
use devenv_kinds::{
    metrics::{self, Page},
    provision::ProvisionContext,
};
use devenv_secrets::Vault;
use devenv_spec::{EnvironmentSpec, MountSource};
use ipnet::Ipv4Net;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use self::history::History;
use crate::{
    reconcile::Handle,
    store::{Goal, Record},
};

/// Time for scrapes in progress when the environment stops.
const ENDING: Duration = Duration::from_secs(1);
/// A ratio over less time says more about the scrapes than about the service.
const SHORTEST: Duration = Duration::from_secs(1);
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics of one environment.
pub(crate) struct MetricsServer {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) handle: Handle,
    pub(crate) vault: Vault,
    pub(crate) authority: PathBuf,
    /// The directory whose disk to measure if no volume is accessible.
    pub(crate) state: PathBuf,
    pub(crate) used: Mutex<HashMap<String, Used>>,
    pub(crate) history: Mutex<History>,
}

/// What a service uses now.
struct ServiceUsage {
    service: String,
    /// The container, or the process.
    runs_as: String,
    cpu: Duration,
    /// Of the machine, or of the engine's machine.
    processors: u32,
    memory: u64,
    memory_limit: Option<u64>,
}

/// What a service had used at a scrape.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    at: Instant,
    cpu: Duration,
    /// The fraction of the allowed processor time, up to then.
    ratio: Option<f64>,
}

/// A listener and the task that serves it.
struct Serving {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl MetricsServer {
    /// Listens whenever the environment is up, until `stop`.
    pub(crate) async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut views = self.handle.views();
        let mut serving: Option<Serving> = None;
        loop {
            let (goal, wanted) = {
                let view = views.borrow_and_update();
                (view.goal, view.metrics_address)
            };
            match (goal, wanted, &serving) {
                (Goal::Up, Some(address), None) => serving = self.clone().serve(address).await,
                (Goal::Down | Goal::DownWithVolumes, _, Some(_)) => end(serving.take()).await,
                _ => {}
            }
            // Both branches are cancel-safe: a view that is missed is followed by a later one.
            tokio::select! {
                () = stop.cancelled() => break,
                changed = views.changed() => if changed.is_err() { break },
            }
        }
        end(serving.take()).await;
    }

    /// `None` if the network does not exist yet: the next view triggers another attempt.
    async fn serve(self: Arc<Self>, address: SocketAddrV4) -> Option<Serving> {
        let listener = match TcpListener::bind(address).await {
            Ok(listener) => listener,
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => return None,
            Err(error) => {
                tracing::warn!(%error, %address, "Cannot serve metrics.");
                return None;
            }
        };
        let spec = self.handle.record().await.ok()?.spec?;
        tracing::info!(%address, environment = %spec.id, "Serving metrics.");
        let stop = CancellationToken::new();
        let router = Router::new()
            .route("/metrics", routing::get(environment))
            .route("/metrics/{service}", routing::get(service))
            .with_state(Scraped { server: self, subnet: spec.subnet });
        let served = axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>());
        let served = served.with_graceful_shutdown(stop.clone().cancelled_owned());
        let task = tokio::spawn(async move {
            if let Err(error) = served.await {
                tracing::warn!(%error, %address, "Stopped serving metrics.");
            }
        });
        Some(Serving { stop, task })
    }

    pub(crate) async fn of_environment(&self) -> Option<Page> {
        let record = self.handle.record().await.ok()?;
        let spec = record.spec.as_ref()?;
        let mut page = Page::default();
        self.add_services(&mut page, spec).await;
        self.add_disks(&mut page, &record, spec).await;
        Some(page)
    }

    async fn add_services(&self, page: &mut Page, spec: &EnvironmentSpec) {
        let status = self.handle.status();
        for service in &status.services {
            let labels = [("service", service.name.as_str())];
            let is_ready = service.state == ServiceState::Ready;
            page.gauge("devenv_service_ready", "Whether the service is ready.", &labels, f64::from(u8::from(is_ready)));
            page.counter("devenv_service_restarts_total", "Number of restarts of the service.", &labels, f64::from(service.restarts));
        }
        for usage in self.usages(&status).await {
            let name = usage.service.as_str();
            let limits = spec.services.get(name).and_then(|service| service.container()).map(|container| &container.resources);
            let cpus = limits.and_then(|limits| limits.cpus).unwrap_or(f64::from(usage.processors));
            let labels = [("service", name)];
            let spent = usage.cpu.as_secs_f64();
            page.counter("devenv_service_cpu_seconds_total", "CPU time used by the service.", &labels, spent);
            if let Some(ratio) = self.ratio(&usage.runs_as, usage.cpu, cpus) {
                page.gauge("devenv_service_cpu_ratio", "Fraction of its CPU limit that the service uses.", &labels, ratio);
            }
            page.gauge("devenv_service_memory_bytes", "Memory used by the service, without the page cache.", &labels, usage.memory as f64);
            if let Some(limit) = usage.memory_limit {
                page.gauge("devenv_service_memory_limit_bytes", "Memory limit of the container.", &labels, limit as f64);
            }
        }
    }

    /// Bytes that its services have in memory.
    pub(crate) async fn memory(&self) -> u64 {
        self.usages(&self.handle.status()).await.iter().map(|usage| usage.memory).sum()
    }

    /// Of the containers and processes that run.
    async fn usages(&self, status: &Status) -> Vec<ServiceUsage> {
        let services = status.services.iter();
        let containers: Vec<(&str, &str)> =
            services.clone().filter_map(|service| Some((service.name.as_str(), service.container.as_deref()?))).collect();
        let pids: Vec<(&str, u32)> = services.filter_map(|service| Some((service.name.as_str(), service.pid?))).collect();
        let is_there = |known: &String| {
            containers.iter().any(|(_, container)| container == known) || pids.iter().any(|(_, pid)| pid.to_string() == *known)
        };
        self.used.lock().expect("no code panics while it holds this lock").retain(|known, _| is_there(known));
        let asked = containers.into_iter().map(|(name, container)| async move { (name, container, self.engine.usage(container).await) });
        let mut found = Vec::new();
        for (name, container, usage) in futures_util::future::join_all(asked).await {
            // One that does not run uses nothing.
            let Ok(Some(usage)) = usage else { continue };
            found.push(ServiceUsage {
                service: name.to_owned(),
                runs_as: container.to_owned(),
                cpu: usage.cpu,
                processors: usage.processors,
                memory: usage.memory,
                memory_limit: Some(usage.memory_limit),
            });
        }
        if !pids.is_empty() {
            let roots: Vec<u32> = pids.iter().map(|(_, pid)| *pid).collect();
            let used = tokio::task::spawn_blocking(move || devenv_processes::usage(&roots)).await.unwrap_or_default();
            let processors = std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX));
            found.extend(pids.iter().filter_map(|(name, pid)| {
                let devenv_processes::Usage { cpu, memory } = *used.get(pid)?;
                let (service, runs_as) = ((*name).to_owned(), pid.to_string());
                Some(ServiceUsage { service, runs_as, cpu, processors, memory, memory_limit: None })
            }));
        }
        found
    }

    /// Since the last scrape, ignoring scrapes that follow at once.
    fn ratio(&self, runs_as: &str, cpu: Duration, cpus: f64) -> Option<f64> {
        let now = Instant::now();
        let mut used = self.used.lock().expect("no code panics while it holds this lock");
        let Some(before) = used.get(runs_as).copied() else {
            used.insert(runs_as.to_owned(), Used { at: now, cpu, ratio: None });
            return None;
        };
        let passed = now.duration_since(before.at);
        if passed < SHORTEST {
            return before.ratio;
        }
        let ratio = cpu.saturating_sub(before.cpu).as_secs_f64() / passed.as_secs_f64() / cpus;
        used.insert(runs_as.to_owned(), Used { at: now, cpu, ratio: Some(ratio) });
        Some(ratio)
    }

    async fn add_disks(&self, page: &mut Page, record: &Record, spec: &EnvironmentSpec) {
        let mut measured = false;
        for (name, service) in &spec.services {
            for mount in service.container().into_iter().flat_map(|container| &container.mounts) {
                let MountSource::Volume(short) = &mount.source else { continue };
                let Some(volume) = record.volumes.get(&format!("{name}/{short}")) else { continue };
                let Ok(Some(volume)) = self.engine.volume(volume).await else { continue };
                let Some(ratio) = disk_used(&volume.mountpoint) else { continue };
                measured = true;
                disk(page, &[("service", name.as_str()), ("volume", short)], ratio);
            }
        }
        if !measured && let Some(ratio) = disk_used(&self.state) {
            disk(page, &[], ratio);
        }
    }

    pub(crate) async fn of_service(&self, name: &str) -> Option<Page> {
        let spec = self.handle.record().await.ok()?.spec?;
        let provision = spec.services.get(name)?.provision.first()?;
        let cx = ProvisionContext { vault: self.vault.clone(), authority: Some(self.authority.clone()), again: true };
        metrics::of(provision, &cx).await
    }
}

async fn end(serving: Option<Serving>) {
    let Some(Serving { stop, task }) = serving else { return };
    stop.cancel();
    let aborted = task.abort_handle();
    if tokio::time::timeout(ENDING, task).await.is_err() {
        aborted.abort();
    }
}

fn disk(page: &mut Page, labels: metrics::Labels<'_>, ratio: f64) {
    page.gauge("devenv_disk_used_ratio", "Fraction of the data disk that is used.", labels, ratio);
}

/// As `df` counts: without the space reserved for root.
fn disk_used(directory: &Path) -> Option<f64> {
    let disk = rustix::fs::statvfs(directory).ok()?;
    let used = disk.f_blocks.checked_sub(disk.f_bfree)?;
    let all = used + disk.f_bavail;
    (all > 0).then(|| used as f64 / all as f64)
}

#[derive(Clone)]
struct Scraped {
    server: Arc<MetricsServer>,
    subnet: Ipv4Net,
}

impl Scraped {
    /// Rejects clients that are routed to the gateway from outside of the network.
    fn is_for(&self, peer: SocketAddr) -> bool {
        matches!(peer, SocketAddr::V4(peer) if self.subnet.contains(peer.ip()))
    }
}

async fn environment(State(scraped): State<Scraped>, ConnectInfo(peer): ConnectInfo<SocketAddr>) -> Response {
    if !scraped.is_for(peer) {
        return StatusCode::FORBIDDEN.into_response();
    }
    answer(scraped.server.of_environment().await)
}

async fn service(State(scraped): State<Scraped>, ConnectInfo(peer): ConnectInfo<SocketAddr>, Segment(name): Segment<String>) -> Response {
    if !scraped.is_for(peer) {
        return StatusCode::FORBIDDEN.into_response();
    }
    answer(scraped.server.of_service(&name).await)
}

fn answer(page: Option<Page>) -> Response {
    match page {
        Some(page) => ([(header::CONTENT_TYPE, TEXT)], page.to_string()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
