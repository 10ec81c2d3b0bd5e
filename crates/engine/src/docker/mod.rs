//! A real engine, Docker or Podman, over its HTTP interface; the only user of bollard.
//!
//! `endpoint` selects the engine, `version` negotiates the API version, `client` holds the connection. Two HTTP clients talk to the
//! same endpoint: bollard for requests that change something, and `wire`, plain JSON, for what is read or streamed: bollard's
//! models are closed, so one state or event that they do not know fails a whole answer. Nothing here polls, and
//! nothing here keeps state between calls.

mod archive;
mod build;
mod buildkit;
mod client;
mod compose;
mod containers;
mod create;
mod endpoint;
mod error;
mod events;
mod exec;
mod frames;
mod helper;
mod image_volumes;
mod images;
mod logs;
mod networks;
mod observed;
mod reach;
mod remote;
mod sidecar;
mod stop;
mod upload;
mod usage;
mod user;
mod version;
mod volumes;
mod wire;

use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::{
    Attachment, ComposeProject, ContainerCreate, Engine, EngineError, EngineEvent, EngineInfo, ExecOutput, ExecRequest, ExecSession,
    HelperRun, ImageDefaults, ImageFacts, LogChunk, NetworkCreate, ObservedContainer, ObservedNetwork, ObservedVolume, OwnerId,
    PullProgress, Reach, SessionRequest, Sidecar, UploadFile, Usage, UsedSubnet, VolumeCreate, build::BuildInputs,
};
use client::Client;
use devenv_spec::{ImageBuild, ImageFiles, Resources};

pub use client::connect;
pub use endpoint::{Selection, named_endpoint};

/// The engine at one endpoint, with the negotiated API version.
pub(super) struct DockerEngine {
    client: Client,
}

#[async_trait]
impl Engine for DockerEngine {
    async fn info(&self) -> Result<EngineInfo, EngineError> {
        self.client.info().await
    }

    async fn clock(&self) -> Result<String, EngineError> {
        self.client.clock().await
    }

    async fn reach(&self) -> Reach {
        self.client.place().await.reach()
    }

    async fn address(&self, network: &str, container: &str) -> Result<Option<std::net::Ipv4Addr>, EngineError> {
        reach::address(&self.client, network, container).await
    }

    async fn containers(&self, owner: &OwnerId) -> Result<Vec<ObservedContainer>, EngineError> {
        containers::list(&self.client, owner).await
    }

    async fn networks(&self, owner: &OwnerId) -> Result<Vec<ObservedNetwork>, EngineError> {
        networks::list(&self.client, owner).await
    }

    async fn volumes(&self, owner: &OwnerId) -> Result<Vec<ObservedVolume>, EngineError> {
        volumes::list(&self.client, owner).await
    }

    async fn volume(&self, name: &str) -> Result<Option<ObservedVolume>, EngineError> {
        volumes::find(&self.client, name).await
    }

    async fn volume_sizes(&self) -> Result<std::collections::HashMap<String, u64>, EngineError> {
        volumes::sizes(&self.client).await
    }

    async fn compose_project(&self, name: &str) -> Result<ComposeProject, EngineError> {
        compose::project(&self.client, name).await
    }

    async fn subnets(&self) -> Result<Vec<ipnet::IpNet>, EngineError> {
        networks::subnets(&self.client).await
    }

    async fn used_subnets(&self) -> Result<Vec<UsedSubnet>, EngineError> {
        networks::used_subnets(&self.client).await
    }

    fn events(&self, owner: &OwnerId) -> BoxStream<'static, Result<EngineEvent, EngineError>> {
        events::follow(self.client.clone(), owner)
    }

    async fn image(&self, name: &str) -> Result<Option<String>, EngineError> {
        images::id(&self.client, name).await
    }

    async fn image_defaults(&self, name: &str) -> Result<ImageDefaults, EngineError> {
        images::defaults(&self.client, name).await
    }

    async fn image_facts(&self, name: &str) -> Result<Option<ImageFacts>, EngineError> {
        archive::facts(&self.client, name).await
    }

    fn save_images(&self, names: &[String]) -> BoxStream<'static, Result<bytes::Bytes, EngineError>> {
        archive::save(self.client.clone(), names.to_vec())
    }

    async fn load_images(&self, archive: BoxStream<'static, std::io::Result<bytes::Bytes>>) -> Result<Vec<String>, EngineError> {
        archive::load(&self.client, archive).await
    }

    fn pull(&self, name: &str) -> BoxStream<'static, Result<PullProgress, EngineError>> {
        images::pull(&self.client, name)
    }

    fn build(&self, build: &ImageBuild, options: BuildInputs) -> BoxStream<'static, Result<String, EngineError>> {
        build::build(self.client.clone(), build.clone(), options)
    }

    async fn create_network(&self, network: &NetworkCreate) -> Result<String, EngineError> {
        networks::create(&self.client, network).await
    }

    async fn remove_network(&self, id: &str) -> Result<Vec<String>, EngineError> {
        networks::remove(&self.client, id).await
    }

    async fn create_volume(&self, volume: &VolumeCreate) -> Result<(), EngineError> {
        volumes::create(&self.client, volume).await
    }

    async fn create_volume_of(&self, volume: &VolumeCreate, files: &ImageFiles) -> Result<(), EngineError> {
        image_volumes::create(&self.client, volume, files).await
    }

    async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        volumes::remove(&self.client, name).await
    }

    async fn create_container(&self, container: &ContainerCreate) -> Result<String, EngineError> {
        create::create(&self.client, container).await
    }

    async fn user(&self, id: &str) -> Result<u32, EngineError> {
        user::number(&self.client, id).await
    }

    async fn upload(&self, id: &str, files: &[UploadFile]) -> Result<(), EngineError> {
        upload::upload(&self.client, id, files).await
    }

    async fn start(&self, id: &str) -> Result<(), EngineError> {
        containers::start(&self.client, id).await
    }

    async fn stop(&self, id: &str, signal: &str, grace: Duration) -> Result<(), EngineError> {
        stop::stop(&self.client, id, signal, grace).await
    }

    async fn kill(&self, id: &str, signal: &str) -> Result<(), EngineError> {
        stop::kill(&self.client, id, signal).await
    }

    async fn pause(&self, id: &str) -> Result<(), EngineError> {
        containers::pause(&self.client, id).await
    }

    async fn unpause(&self, id: &str) -> Result<(), EngineError> {
        containers::unpause(&self.client, id).await
    }

    async fn remove_container(&self, id: &str) -> Result<(), EngineError> {
        containers::remove(&self.client, id).await
    }

    async fn inspect(&self, id: &str) -> Result<Option<ObservedContainer>, EngineError> {
        containers::inspect(&self.client, id).await
    }

    fn logs(&self, id: &str, since: Option<&str>, follow: bool) -> BoxStream<'static, Result<LogChunk, EngineError>> {
        logs::read(self.client.clone(), id, since, follow)
    }

    async fn exec(&self, id: &str, request: ExecRequest) -> Result<ExecOutput, EngineError> {
        exec::run(&self.client, id, request).await
    }

    async fn exec_session(&self, id: &str, request: SessionRequest) -> Result<ExecSession, EngineError> {
        exec::session(&self.client, id, request).await
    }

    async fn import_image(&self, name: &str, tree: bytes::Bytes) -> Result<(), EngineError> {
        images::import(&self.client, name, tree).await
    }

    async fn create_sidecar(&self, sidecar: &Sidecar) -> Result<String, EngineError> {
        sidecar::create(&self.client, sidecar).await
    }

    async fn attachments(&self, id: &str) -> Result<Vec<Attachment>, EngineError> {
        sidecar::attachments(&self.client, id).await
    }

    async fn usage(&self, id: &str) -> Result<Option<Usage>, EngineError> {
        usage::read(&self.client, id).await
    }

    async fn limits(&self, id: &str) -> Result<Resources, EngineError> {
        sidecar::limits(&self.client, id).await
    }

    async fn set_limits(&self, id: &str, limits: &Resources) -> Result<(), EngineError> {
        sidecar::set_limits(&self.client, id, limits).await
    }

    async fn run_helper(&self, helper: &HelperRun) -> Result<ExecOutput, EngineError> {
        helper::run(&self.client, helper).await
    }

    async fn helper_session(&self, helper: &HelperRun) -> Result<ExecSession, EngineError> {
        helper::session(&self.client, helper).await
    }
}
