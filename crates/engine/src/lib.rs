//! The container engine: the seam between what is wanted and what runs.
//!
//! The trait says only what the supervisor needs, in its own words. `docker` speaks to a real engine (and is the only
//! user of bollard); `fake` is scripted by tests.

pub mod build;
#[cfg(test)]
mod conformance;
pub mod docker;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod labels;
pub mod launch;
mod types;

use async_trait::async_trait;
use devenv_spec::{ImageBuild, Resources};
use futures_util::stream::BoxStream;

use build::BuildInputs;

pub use devenv_api::EngineInfo;
pub use labels::{Labels, OwnerId};
pub use types::{
    Attachment, ContainerCreate, ContainerState, CreatedAttachment, CreatedMount, EngineError, EngineEvent, EngineEventKind, ExecInput,
    ExecOutput, ExecRequest, ExecSession, ExecStream, HelperRun, ImageDefaults, ImageFacts, LogChunk, NetworkCreate, ObservedContainer,
    ObservedNetwork, ObservedVolume, PullProgress, Reach, SessionRequest, Sidecar, TerminalSize, UploadFile, Usage, VolumeCreate,
};

/// What a container engine does for us. Every call may be repeated: an object that is already as asked is success.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    async fn info(&self) -> Result<EngineInfo, EngineError>;
    /// The time where containers run, RFC 3339.
    async fn clock(&self) -> Result<String, EngineError>;
    async fn reach(&self) -> Reach;
    /// A container's address on a network, which this process is let reach, where it is in a container itself.
    async fn address(&self, network: &str, container: &str) -> Result<Option<std::net::Ipv4Addr>, EngineError>;

    /// The containers of this owner, whatever their state.
    async fn containers(&self, owner: &OwnerId) -> Result<Vec<ObservedContainer>, EngineError>;
    async fn networks(&self, owner: &OwnerId) -> Result<Vec<ObservedNetwork>, EngineError>;
    async fn volumes(&self, owner: &OwnerId) -> Result<Vec<ObservedVolume>, EngineError>;
    /// A volume of ours; nothing if there is none of that name.
    async fn volume(&self, name: &str) -> Result<Option<ObservedVolume>, EngineError>;
    /// The size of all volumes in bytes, by name, of all owners. Slow, because the engine walks every volume.
    async fn volume_sizes(&self) -> Result<std::collections::HashMap<String, u64>, EngineError>;
    /// Subnets of all networks of the engine, of all owners. A new network must not overlap with them.
    async fn subnets(&self) -> Result<Vec<ipnet::IpNet>, EngineError>;

    /// Starts, ends and health of this owner's containers as they happen. Ends when the engine goes away.
    fn events(&self, owner: &OwnerId) -> BoxStream<'static, Result<EngineEvent, EngineError>>;

    /// The image's id if it is here.
    async fn image(&self, name: &str) -> Result<Option<String>, EngineError>;
    /// The image's default command.
    async fn image_defaults(&self, name: &str) -> Result<ImageDefaults, EngineError>;
    /// What is known of the image if it is here.
    async fn image_facts(&self, name: &str) -> Result<Option<ImageFacts>, EngineError>;
    /// An archive of these images, in pieces.
    fn save_images(&self, names: &[String]) -> BoxStream<'static, Result<bytes::Bytes, EngineError>>;
    /// Takes over the images of an archive; their names.
    async fn load_images(&self, archive: BoxStream<'static, std::io::Result<bytes::Bytes>>) -> Result<Vec<String>, EngineError>;
    /// Ends after the last progress, or with the error.
    fn pull(&self, name: &str) -> BoxStream<'static, Result<PullProgress, EngineError>>;
    /// Each line of the build's output; the image has the tag that the build names.
    fn build(&self, build: &ImageBuild, options: BuildInputs) -> BoxStream<'static, Result<String, EngineError>>;

    /// The id. A network of that name that is already there is taken.
    async fn create_network(&self, network: &NetworkCreate) -> Result<String, EngineError>;
    /// Cuts what is still attached, ours or not, and removes it; names of foreign containers that were cut.
    async fn remove_network(&self, id: &str) -> Result<Vec<String>, EngineError>;
    async fn create_volume(&self, volume: &VolumeCreate) -> Result<(), EngineError>;
    async fn remove_volume(&self, name: &str) -> Result<(), EngineError>;

    /// The id. Does not start it. One of that name that is about the same service of ours is taken if it is just what is asked for
    /// and has never run; else it is replaced.
    async fn create_container(&self, container: &ContainerCreate) -> Result<String, EngineError>;
    /// The number of the user that a container's program runs as, by the container's own list of users.
    async fn user(&self, id: &str) -> Result<u32, EngineError>;
    /// Writes files into a container that need not run.
    async fn upload(&self, id: &str, files: &[UploadFile]) -> Result<(), EngineError>;
    async fn start(&self, id: &str) -> Result<(), EngineError>;
    /// Sends `signal`, waits at most `grace`, kills. Returns when it has ended.
    async fn stop(&self, id: &str, signal: &str, grace: std::time::Duration) -> Result<(), EngineError>;
    async fn kill(&self, id: &str, signal: &str) -> Result<(), EngineError>;
    async fn pause(&self, id: &str) -> Result<(), EngineError>;
    async fn unpause(&self, id: &str) -> Result<(), EngineError>;
    /// Removes it with its anonymous volumes, killing it if it runs.
    async fn remove_container(&self, id: &str) -> Result<(), EngineError>;
    async fn inspect(&self, id: &str) -> Result<Option<ObservedContainer>, EngineError>;

    /// Output since `since` (RFC 3339 with nanoseconds), with time stamps, in order; with `follow`, as long as the container runs.
    fn logs(&self, id: &str, since: Option<&str>, follow: bool) -> BoxStream<'static, Result<LogChunk, EngineError>>;
    async fn exec(&self, id: &str, request: ExecRequest) -> Result<ExecOutput, EngineError>;
    /// Starts a command and returns its input and output streams.
    async fn exec_session(&self, id: &str, request: SessionRequest) -> Result<ExecSession, EngineError>;
    /// Makes an image of a file tree, without asking anybody for anything.
    async fn import_image(&self, name: &str, tree: bytes::Bytes) -> Result<(), EngineError>;
    /// Makes a container of ours that works in another's namespaces; the engine removes it when it ends. Does not start it.
    async fn create_sidecar(&self, sidecar: &Sidecar) -> Result<String, EngineError>;
    /// The networks that a container is on now.
    async fn attachments(&self, id: &str) -> Result<Vec<Attachment>, EngineError>;
    /// What a container has used; nothing if it does not run.
    async fn usage(&self, id: &str) -> Result<Option<Usage>, EngineError>;
    /// What a container may use now.
    async fn limits(&self, id: &str) -> Result<Resources, EngineError>;
    /// Changes what a container may use while it runs; what is `None` is without limit.
    async fn set_limits(&self, id: &str, limits: &Resources) -> Result<(), EngineError>;
    /// Runs a short-lived helper container to its end and removes it.
    async fn run_helper(&self, helper: &HelperRun) -> Result<ExecOutput, EngineError>;
    /// As [`Self::run_helper`], with input and output piece by piece, so that what is in a volume can be of any size. The
    /// helper is gone when the exit code is there. Dropping the session closes the input and leaves the helper to itself.
    async fn helper_session(&self, helper: &HelperRun) -> Result<ExecSession, EngineError>;
}
