//! The container engine: the boundary between the desired and the running state.
//!
//! The trait offers only what the supervisor needs, in its own terms. `docker` talks to a real engine (and is the only
//! user of bollard); `fake` is scripted by tests. `tunnel` carries connections to services through any engine.

pub mod build;
#[cfg(test)]
mod conformance;
pub mod docker;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod labels;
pub mod launch;
mod tunnel;
mod types;

use async_trait::async_trait;
use devenv_spec::{ImageBuild, ImageFiles, Resources};
use futures_util::stream::BoxStream;

use build::BuildInputs;

pub use devenv_api::EngineInfo;
pub use labels::{Labels, OwnerId};
pub use tunnel::Tunnel;
pub use types::{
    Attachment, ComposeMount, ComposeProject, ComposeVolume, ContainerCreate, ContainerState, CreatedAttachment, CreatedMount, EngineError,
    EngineEvent, EngineEventKind, ExecInput, ExecOutput, ExecRequest, ExecSession, ExecStream, HelperRun, ImageDefaults, ImageFacts,
    LogChunk, NetworkCreate, ObservedContainer, ObservedNetwork, ObservedVolume, PullProgress, Reach, SessionRequest, Sidecar,
    TerminalSize, UploadFile, Usage, UsedSubnet, VolumeCreate,
};

/// Where the loopback ports of containers are published whose public ports, at `127.0.0.1`, the daemon holds itself.
pub const BEHIND: &str = "127.0.0.2";

/// A container engine. Every call may be repeated: an object that is already as requested is a success.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    async fn info(&self) -> Result<EngineInfo, EngineError>;
    /// The time of the engine's machine, RFC 3339.
    async fn clock(&self) -> Result<String, EngineError>;
    async fn reach(&self) -> Reach;
    /// A container's address on a network. If this process is in a container itself, it is connected to the network.
    async fn address(&self, network: &str, container: &str) -> Result<Option<std::net::Ipv4Addr>, EngineError>;

    /// The containers of this owner, in any state.
    async fn containers(&self, owner: &OwnerId) -> Result<Vec<ObservedContainer>, EngineError>;
    async fn networks(&self, owner: &OwnerId) -> Result<Vec<ObservedNetwork>, EngineError>;
    async fn volumes(&self, owner: &OwnerId) -> Result<Vec<ObservedVolume>, EngineError>;
    /// A volume of devenv; `None` if no volume has that name.
    async fn volume(&self, name: &str) -> Result<Option<ObservedVolume>, EngineError>;
    /// The sizes of all volumes in bytes, by name, of all owners. Slow, because the engine walks every volume.
    async fn volume_sizes(&self) -> Result<std::collections::HashMap<String, u64>, EngineError>;
    /// The volumes that Docker Compose has made of a project, and what uses them. They are not ours.
    async fn compose_project(&self, name: &str) -> Result<ComposeProject, EngineError>;
    /// Subnets of all networks of the engine, of all owners. A new network must not overlap with them.
    async fn subnets(&self) -> Result<Vec<ipnet::IpNet>, EngineError>;
    /// The same with the networks that have them, as far as the engine tells.
    async fn used_subnets(&self) -> Result<Vec<UsedSubnet>, EngineError> {
        let unnamed = |subnet| UsedSubnet { subnet, network: String::new(), labels: None };
        Ok(self.subnets().await?.into_iter().map(unnamed).collect())
    }

    /// Starts, exits and health changes of this owner's containers as they happen. Ends when the engine goes away.
    fn events(&self, owner: &OwnerId) -> BoxStream<'static, Result<EngineEvent, EngineError>>;

    /// The image's id if it is present.
    async fn image(&self, name: &str) -> Result<Option<String>, EngineError>;
    /// The image's default command.
    async fn image_defaults(&self, name: &str) -> Result<ImageDefaults, EngineError>;
    /// The details of an image, if it is present.
    async fn image_facts(&self, name: &str) -> Result<Option<ImageFacts>, EngineError>;
    /// An archive of these images, in chunks.
    fn save_images(&self, names: &[String]) -> BoxStream<'static, Result<bytes::Bytes, EngineError>>;
    /// Loads the images of an archive and returns their names.
    async fn load_images(&self, archive: BoxStream<'static, std::io::Result<bytes::Bytes>>) -> Result<Vec<String>, EngineError>;
    /// Ends after the last progress, or with the error.
    fn pull(&self, name: &str) -> BoxStream<'static, Result<PullProgress, EngineError>>;
    /// The lines of the build's output; the image has the tag that the build names.
    fn build(&self, build: &ImageBuild, options: BuildInputs) -> BoxStream<'static, Result<String, EngineError>>;

    /// Returns the id. An existing network of that name is used.
    async fn create_network(&self, network: &NetworkCreate) -> Result<String, EngineError>;
    /// Disconnects every container, ours or not, and removes the network. Returns the names of foreign containers that were disconnected.
    async fn remove_network(&self, id: &str) -> Result<Vec<String>, EngineError>;
    async fn create_volume(&self, volume: &VolumeCreate) -> Result<(), EngineError>;
    /// Makes a volume anew, with the files of an image that is present.
    async fn create_volume_of(&self, volume: &VolumeCreate, files: &ImageFiles) -> Result<(), EngineError>;
    async fn remove_volume(&self, name: &str) -> Result<(), EngineError>;

    /// Returns the id. Does not start it. An existing container of that name for the same service of ours is used if it is exactly what is
    /// requested and has never run; otherwise it is replaced.
    async fn create_container(&self, container: &ContainerCreate) -> Result<String, EngineError>;
    /// The user id of a container's program, according to the container's own list of users.
    async fn user(&self, id: &str) -> Result<u32, EngineError>;
    /// Writes files into a container, which need not run.
    async fn upload(&self, id: &str, files: &[UploadFile]) -> Result<(), EngineError>;
    async fn start(&self, id: &str) -> Result<(), EngineError>;
    /// Sends `signal`, waits at most `grace`, then sends SIGKILL. Returns when it has ended.
    async fn stop(&self, id: &str, signal: &str, grace: std::time::Duration) -> Result<(), EngineError>;
    async fn kill(&self, id: &str, signal: &str) -> Result<(), EngineError>;
    async fn pause(&self, id: &str) -> Result<(), EngineError>;
    async fn unpause(&self, id: &str) -> Result<(), EngineError>;
    /// Removes it with its anonymous volumes; kills it first if it runs.
    async fn remove_container(&self, id: &str) -> Result<(), EngineError>;
    async fn inspect(&self, id: &str) -> Result<Option<ObservedContainer>, EngineError>;

    /// Output since `since` (RFC 3339 with nanoseconds), with time stamps, in order; with `follow`, as long as the container runs.
    fn logs(&self, id: &str, since: Option<&str>, follow: bool) -> BoxStream<'static, Result<LogChunk, EngineError>>;
    async fn exec(&self, id: &str, request: ExecRequest) -> Result<ExecOutput, EngineError>;
    /// Starts a command and returns its input and output streams.
    async fn exec_session(&self, id: &str, request: SessionRequest) -> Result<ExecSession, EngineError>;
    /// Makes an image from a tar of files, without a registry.
    async fn import_image(&self, name: &str, tree: bytes::Bytes) -> Result<(), EngineError>;
    /// Creates a container of ours in another's namespaces; the engine removes it when it ends. Does not start it.
    async fn create_sidecar(&self, sidecar: &Sidecar) -> Result<String, EngineError>;
    /// The networks of a container.
    async fn attachments(&self, id: &str) -> Result<Vec<Attachment>, EngineError>;
    /// The resource usage of a container; `None` if it does not run.
    async fn usage(&self, id: &str) -> Result<Option<Usage>, EngineError>;
    /// The current resource limits of a container.
    async fn limits(&self, id: &str) -> Result<Resources, EngineError>;
    /// Changes the resource limits of a running container; `None` means no limit.
    async fn set_limits(&self, id: &str, limits: &Resources) -> Result<(), EngineError>;
    /// Runs a short-lived helper container to its end and removes it.
    async fn run_helper(&self, helper: &HelperRun) -> Result<ExecOutput, EngineError>;
    /// As [`Self::run_helper`], with input and output in chunks, so that the data of a volume can have any size. The
    /// helper is gone when the exit code arrives. Dropping the session closes the input and does not stop the helper.
    async fn helper_session(&self, helper: &HelperRun) -> Result<ExecSession, EngineError>;
}
