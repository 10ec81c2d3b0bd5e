//! A scripted engine: in memory, deterministic, for tests of everything above the engine.
//!
//! It passes the conformance test of engines. A test may queue failures and delays by operation (the
//! names of the trait's methods), decide how a container answers a signal, make one exit, write or disappear,
//! and read the calls that it received. `events` and `logs` are delivered as they happen; time is tokio's.

mod archive;
mod calls;
mod containers;
mod script;
mod state;
mod streams;
mod volumes;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt, stream, stream::BoxStream};
use tokio::sync::{broadcast, watch};

use super::{
    Attachment, ComposeProject, ContainerCreate, ContainerState, Engine, EngineError, EngineEvent, EngineInfo, ExecOutput, ExecRequest,
    ExecSession, ExecStream, HelperRun, ImageDefaults, ImageFacts, LogChunk, NetworkCreate, ObservedContainer, ObservedNetwork,
    ObservedVolume, OwnerId, PullProgress, Reach, SessionRequest, Sidecar, UploadFile, Usage, UsedSubnet, VolumeCreate, build::BuildInputs,
};
use archive::{list_of, listed_in};
use calls::CallGuard;
use devenv_spec::{ImageBuild, ImageFiles, Resources};
use state::{State, missing, refused};

pub use calls::{Call, CallAction, CallPhase};

/// Shared by clones: one for the code under test, one for the test.
#[derive(Clone)]
pub struct FakeEngine {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<Result<EngineEvent, String>>,
    /// Changes with every change, so that waiting tasks look again.
    changes: Arc<watch::Sender<u64>>,
}

impl FakeEngine {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The delay, the recorded call and the queued failure with which every operation begins.
    async fn begin(&self, operation: &'static str, subject: &str) -> Result<CallGuard, EngineError> {
        let delay = {
            let mut state = self.lock();
            state.calls.push(format!("{operation} {subject}").trim_end().to_owned());
            state.delays.get(operation).copied()
        };
        let guard = self.intercept(operation, subject).await?;
        let _mark = script::EXCLUSIVE.contains(&operation).then(|| self.mark(subject, operation));
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        let failure = {
            let mut state = self.lock();
            if state.gone {
                return Err(EngineError::Unreachable { endpoint: "fake".to_owned(), reason: "it is gone".to_owned() });
            }
            state.failures.get_mut(operation).and_then(VecDeque::pop_front)
        };
        // Dropping the guard takes the lock.
        failure.map_or(Ok(guard), Err)
    }

    fn changed(&self) {
        self.changes.send_modify(|change| *change += 1);
    }
}

#[async_trait]
impl Engine for FakeEngine {
    async fn info(&self) -> Result<EngineInfo, EngineError> {
        let _call = self.begin("info", "").await?;
        Ok(EngineInfo { kind: "docker".into(), version: "0.0-fake".into(), api: "1.41".into(), endpoint: "fake".into() })
    }

    async fn clock(&self) -> Result<String, EngineError> {
        let _call = self.begin("clock", "").await?;
        Ok(self.lock().now())
    }

    async fn reach(&self) -> Reach {
        Reach::Here
    }

    async fn address(&self, network: &str, container: &str) -> Result<Option<std::net::Ipv4Addr>, EngineError> {
        let _call = self.begin("address", &format!("{network} {container}")).await?;
        Ok(None)
    }

    async fn containers(&self, owner: &OwnerId) -> Result<Vec<ObservedContainer>, EngineError> {
        let _call = self.begin("containers", "").await?;
        let state = self.lock();
        Ok(state.containers.iter().map(|it| &it.observed).filter(|it| it.labels.owner == *owner).cloned().collect())
    }

    async fn networks(&self, owner: &OwnerId) -> Result<Vec<ObservedNetwork>, EngineError> {
        let _call = self.begin("networks", "").await?;
        Ok(self.lock().networks.iter().filter(|network| network.labels.owner == *owner).cloned().collect())
    }

    async fn volumes(&self, owner: &OwnerId) -> Result<Vec<ObservedVolume>, EngineError> {
        let _call = self.begin("volumes", "").await?;
        Ok(self.lock().volumes.iter().filter(|volume| volume.labels.owner == *owner).cloned().collect())
    }

    async fn volume(&self, name: &str) -> Result<Option<ObservedVolume>, EngineError> {
        let _call = self.begin("volume", name).await?;
        Ok(self.lock().volumes.iter().find(|volume| volume.name == name).cloned())
    }

    async fn volume_sizes(&self) -> Result<std::collections::HashMap<String, u64>, EngineError> {
        let _call = self.begin("volume_sizes", "").await?;
        Ok(self.lock().volumes.iter().map(|volume| (volume.name.clone(), 1 << 20)).collect())
    }

    async fn compose_project(&self, name: &str) -> Result<ComposeProject, EngineError> {
        let _call = self.begin("compose_project", name).await?;
        let state = self.lock();
        let mut project = state.compose.get(name).cloned().unwrap_or_default();
        for volume in &mut project.volumes {
            volume.mountpoint = state.mountpoint(&volume.name);
        }
        Ok(project)
    }

    async fn subnets(&self) -> Result<Vec<ipnet::IpNet>, EngineError> {
        let _call = self.begin("subnets", "").await?;
        let state = self.lock();
        let ours = state.networks.iter().filter_map(|network| network.subnet).map(ipnet::IpNet::V4);
        Ok(state.foreign_subnets.iter().copied().chain(ours).collect())
    }

    async fn used_subnets(&self) -> Result<Vec<UsedSubnet>, EngineError> {
        let _call = self.begin("used_subnets", "").await?;
        Ok(self.lock().used_subnets())
    }

    fn events(&self, owner: &OwnerId) -> BoxStream<'static, Result<EngineEvent, EngineError>> {
        self.follow_events(owner)
    }

    async fn image(&self, name: &str) -> Result<Option<String>, EngineError> {
        let _call = self.begin("image", name).await?;
        Ok(self.lock().images.get(name).cloned())
    }

    async fn image_defaults(&self, name: &str) -> Result<ImageDefaults, EngineError> {
        let _call = self.begin("image_defaults", name).await?;
        if !self.lock().images.contains_key(name) {
            return Err(missing("image", name));
        }
        Ok(ImageDefaults { entrypoint: vec!["/entrypoint".to_owned()], command: vec!["serve".to_owned()] })
    }

    async fn image_facts(&self, name: &str) -> Result<Option<ImageFacts>, EngineError> {
        let _call = self.begin("image_facts", name).await?;
        Ok(self.lock().images.get(name).map(|id| ImageFacts { id: id.clone(), digest: None, size: id.len() as u64 }))
    }

    /// The archive holds the list of an archive of images, and no layers.
    fn save_images(&self, names: &[String]) -> BoxStream<'static, Result<bytes::Bytes, EngineError>> {
        let known = names.iter().find(|name| !self.lock().images.contains_key(*name));
        let archive = match known {
            Some(name) => Err(missing("image", name)),
            None => Ok(list_of(names)),
        };
        stream::iter([archive]).boxed()
    }

    async fn load_images(&self, mut archive: BoxStream<'static, std::io::Result<bytes::Bytes>>) -> Result<Vec<String>, EngineError> {
        let _call = self.begin("load_images", "").await?;
        let mut text = Vec::new();
        while let Some(Ok(piece)) = archive.next().await {
            text.extend_from_slice(&piece);
        }
        let names = listed_in(&text);
        let mut state = self.lock();
        state.images.extend(names.iter().map(|name| (name.clone(), format!("sha256:{name}"))));
        Ok(names)
    }

    fn pull(&self, name: &str) -> BoxStream<'static, Result<PullProgress, EngineError>> {
        self.progress_of_pull(name)
    }

    fn build(&self, build: &ImageBuild, options: BuildInputs) -> BoxStream<'static, Result<String, EngineError>> {
        let (engine, tag) = (self.clone(), build.tag.clone());
        stream::once(async move {
            let subject = if options.no_cache { format!("{tag} without cache") } else { tag.clone() };
            let _call = engine.begin("build", &subject).await?;
            engine.lock().images.insert(tag.clone(), format!("sha256:{tag}"));
            Ok(format!("Successfully tagged {tag}"))
        })
        .boxed()
    }

    async fn create_network(&self, network: &NetworkCreate) -> Result<String, EngineError> {
        let _call = self.begin("create_network", &network.name).await?;
        let mut state = self.lock();
        if let Some(there) = state.networks.iter().find(|there| there.name == network.name) {
            if there.labels.owner == network.labels.owner {
                return Ok(there.id.clone());
            }
            return Err(refused("create the network", 409, "a network with that name belongs to someone else"));
        }
        let wanted = ipnet::IpNet::V4(network.subnet);
        let overlaps = |other: ipnet::IpNet| other.contains(&wanted) || wanted.contains(&other);
        let ours = state.networks.iter().filter_map(|there| there.subnet).map(ipnet::IpNet::V4);
        if state.foreign_subnets.iter().copied().chain(ours).any(overlaps) {
            return Err(EngineError::SubnetTaken(network.subnet));
        }
        let id = format!("network-{}", state.next());
        let (name, labels, subnet) = (network.name.clone(), network.labels.clone(), Some(network.subnet));
        state.networks.push(ObservedNetwork { id: id.clone(), name, labels, subnet });
        Ok(id)
    }

    async fn remove_network(&self, id: &str) -> Result<Vec<String>, EngineError> {
        let _call = self.begin("remove_network", id).await?;
        self.lock().networks.retain(|network| network.id != id && network.name != id);
        Ok(Vec::new())
    }

    async fn create_volume(&self, volume: &VolumeCreate) -> Result<(), EngineError> {
        let _call = self.begin("create_volume", &volume.name).await?;
        let mut state = self.lock();
        if let Some(there) = state.volumes.iter().find(|there| there.name == volume.name) {
            let ours = there.labels.owner == volume.labels.owner;
            let message = "a volume with that name belongs to someone else";
            return if ours { Ok(()) } else { Err(refused("create the volume", 409, message)) };
        }
        let created_at = Some(state.now());
        let mountpoint = state.mountpoint(&volume.name);
        state.make_directory(&volume.name).map_err(|error| refused("create the volume", 500, &error.to_string()))?;
        state.volumes.push(ObservedVolume { name: volume.name.clone(), labels: volume.labels.clone(), mountpoint, created_at });
        Ok(())
    }

    async fn create_volume_of(&self, volume: &VolumeCreate, files: &ImageFiles) -> Result<(), EngineError> {
        if self.image(&files.image).await?.is_none() {
            return Err(missing("image", &files.image));
        }
        self.remove_volume(&volume.name).await?;
        self.create_volume(volume).await
    }

    async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        let _call = self.begin("remove_volume", name).await?;
        let mut state = self.lock();
        let held = state.containers.iter().any(|container| container.holds(name));
        if held {
            return Err(refused("remove the volume", 409, "volume is in use"));
        }
        state.volumes.retain(|volume| volume.name != name);
        state.remove_directory(name);
        Ok(())
    }

    async fn create_container(&self, container: &ContainerCreate) -> Result<String, EngineError> {
        let _call = self.begin("create_container", &container.name).await?;
        self.add_container(container)
    }

    async fn user(&self, id: &str) -> Result<u32, EngineError> {
        let _call = self.begin("user", id).await?;
        let user = self.lock().container(id)?.asked.user.clone().unwrap_or_default();
        Ok(user.split(':').next().and_then(|user| user.parse().ok()).unwrap_or(0))
    }

    async fn upload(&self, id: &str, files: &[UploadFile]) -> Result<(), EngineError> {
        let _call = self.begin("upload", id).await?;
        self.lock().container(id)?.files.extend_from_slice(files);
        Ok(())
    }

    async fn start(&self, id: &str) -> Result<(), EngineError> {
        let _call = self.begin("start", id).await?;
        self.start_container(id)
    }

    async fn stop(&self, id: &str, signal: &str, grace: Duration) -> Result<(), EngineError> {
        let _call = self.begin("stop", id).await?;
        let ignores_signals = {
            let mut state = self.lock();
            let Ok(container) = state.container(id) else { return Ok(()) };
            container.ignores_signals && container.runs()
        };
        if ignores_signals {
            tokio::time::sleep(grace).await;
        }
        self.end_by(id, if ignores_signals { "SIGKILL" } else { signal });
        Ok(())
    }

    async fn kill(&self, id: &str, signal: &str) -> Result<(), EngineError> {
        let _call = self.begin("kill", &format!("{id} {signal}")).await?;
        self.signal(id, signal)
    }

    async fn pause(&self, id: &str) -> Result<(), EngineError> {
        let _call = self.begin("pause", id).await?;
        self.set_paused(id, true)
    }

    async fn unpause(&self, id: &str) -> Result<(), EngineError> {
        let _call = self.begin("unpause", id).await?;
        self.set_paused(id, false)
    }

    async fn remove_container(&self, id: &str) -> Result<(), EngineError> {
        let _call = self.begin("remove_container", id).await?;
        self.drop_container(id);
        Ok(())
    }

    async fn inspect(&self, id: &str) -> Result<Option<ObservedContainer>, EngineError> {
        let _call = self.begin("inspect", id).await?;
        Ok(self.lock().container(id).ok().map(|container| container.observed.clone()))
    }

    fn logs(&self, id: &str, since: Option<&str>, follow: bool) -> BoxStream<'static, Result<LogChunk, EngineError>> {
        self.read_output(id, since, follow)
    }

    async fn exec(&self, id: &str, request: ExecRequest) -> Result<ExecOutput, EngineError> {
        let _call = self.begin("exec", &format!("{id} {}", request.command.join(" "))).await?;
        self.must_run(id)?;
        let input = script::read_input(request.input).await;
        if let Some(mounts) = self.mounts_for_shell(id, &request.command) {
            return Ok(self.run_on_files(&request.command, &request.environment, &mounts, input).await);
        }
        Ok(Self::answer(&request.command, &input))
    }

    async fn exec_session(&self, id: &str, request: SessionRequest) -> Result<ExecSession, EngineError> {
        let _call = self.begin("exec_session", &format!("{id} {}", request.command.join(" "))).await?;
        self.must_run(id)?;
        let answer = Self::answer(&request.command, b"");
        let code = answer.code;
        let output = [(ExecStream::Stdout, answer.stdout), (ExecStream::Stderr, answer.stderr)];
        let output = output.into_iter().filter(|(_, content)| !content.is_empty()).map(Ok);
        Ok(ExecSession {
            input: Box::pin(tokio::io::sink()),
            output: stream::iter(output).boxed(),
            resize: Arc::new(|_| async { Ok(()) }.boxed()),
            exit_code: async move { Ok(code) }.boxed(),
        })
    }

    async fn import_image(&self, name: &str, _tree: bytes::Bytes) -> Result<(), EngineError> {
        let _call = self.begin("import_image", name).await?;
        self.lock().images.insert(name.to_owned(), format!("sha256:{name}"));
        Ok(())
    }

    async fn create_sidecar(&self, sidecar: &Sidecar) -> Result<String, EngineError> {
        let _call = self.begin("create_sidecar", &format!("{} {}", sidecar.name, sidecar.command.join(" "))).await?;
        self.add_sidecar(sidecar)
    }

    async fn attachments(&self, id: &str) -> Result<Vec<Attachment>, EngineError> {
        let _call = self.begin("attachments", id).await?;
        self.lock().container(id)?;
        Ok(Vec::new())
    }

    async fn usage(&self, id: &str) -> Result<Option<Usage>, EngineError> {
        let _call = self.begin("usage", id).await?;
        let is_running = matches!(self.lock().container(id)?.observed.state, ContainerState::Running { .. });
        Ok(is_running.then_some(Usage { cpu: Duration::from_secs(1), processors: 2, memory: 1 << 20, memory_limit: 1 << 30 }))
    }

    async fn limits(&self, id: &str) -> Result<Resources, EngineError> {
        let _call = self.begin("limits", id).await?;
        Ok(self.lock().container(id)?.asked.resources.clone())
    }

    async fn set_limits(&self, id: &str, limits: &Resources) -> Result<(), EngineError> {
        let _call = self.begin("set_limits", id).await?;
        self.lock().container(id)?.asked.resources = limits.clone();
        Ok(())
    }

    async fn run_helper(&self, helper: &HelperRun) -> Result<ExecOutput, EngineError> {
        let _call = self.begin("run_helper", &helper.command.join(" ")).await?;
        self.run_helper_container(helper).await
    }

    async fn helper_session(&self, helper: &HelperRun) -> Result<ExecSession, EngineError> {
        let _call = self.begin("helper_session", &helper.command.join(" ")).await?;
        self.open_helper_container(helper).await
    }
}
