//! Short-lived containers of our own that work on volumes.
//!
//! The engine removes one when it exits, so that nothing is left even if this process dies. Its
//! output comes by a stream that is attached before it starts, and no log is kept.

use std::sync::atomic::{AtomicU64, Ordering};

use bollard::{
    models::{ContainerCreateBody, HostConfig, HostConfigLogConfig},
    query_parameters::CreateContainerOptionsBuilder,
};
use serde::Deserialize;
use tokio_util::codec::FramedRead;

use super::{
    client::Client,
    containers, create, exec,
    frames::Frames,
    wire::{Call, segment},
};
use crate::{EngineError, ExecOutput, HelperRun, Labels};

/// What its role label says.
const ROLE: &str = "helper";
static COUNT: AtomicU64 = AtomicU64::new(0);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ended {
    status_code: i64,
    #[serde(default)]
    error: Option<EndedError>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EndedError {
    #[serde(default)]
    message: String,
}

/// Returns when the container is gone, so that the volumes that it held are free.
pub(super) async fn run(client: &Client, helper: &HelperRun) -> Result<ExecOutput, EngineError> {
    let labels = Labels { role: Some(ROLE.to_owned()), ..helper.labels.clone() };
    let name = format!(
        "devenv-helper-{}-{:x}-{}",
        std::process::id(),
        jiff::Timestamp::now().as_microsecond(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    let (entrypoint, command) = helper.command.split_at(helper.command.len().min(1));
    let body = ContainerCreateBody {
        image: Some(helper.image.clone()),
        // The image's own entrypoint is for its service.
        entrypoint: Some(entrypoint.to_vec()),
        cmd: Some(command.to_vec()),
        user: helper.user.clone(),
        labels: Some(labels.to_map()),
        host_config: Some(HostConfig {
            network_mode: Some("none".to_owned()),
            mounts: Some(create::mounts(&helper.mounts)),
            auto_remove: Some(true),
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::default().name(&name).build();
    let created = client.docker.create_container(Some(options), body).await;
    let id = created.map_err(client.explain("create a helper container"))?.id;
    let result = to_its_end(client, &id).await;
    if result.is_err() {
        // The failure that is known says more than one of the clearing.
        let _ = containers::remove(client, &id).await;
    }
    result
}

async fn to_its_end(client: &Client, id: &str) -> Result<ExecOutput, EngineError> {
    let path = |what: &str| format!("/containers/{}/{what}", segment(id));
    let attach =
        Call::post("attach to a helper container", path("attach")).with("stream", "true").with("stdout", "true").with("stderr", "true");
    let stream = client.wire.upgrade(attach, String::new()).await?;
    // Before it starts, or its end could be missed.
    let wait = Call::post("wait for a helper container", path("wait")).with("condition", "removed");
    let ended = client.wire.open(wait).await?;
    containers::start(client, id).await?;
    let (stdout, stderr) = exec::collect(client, &mut FramedRead::new(stream, Frames)).await?;
    let protocol = |message: String| EngineError::Protocol { action: "wait for a helper container".to_owned(), message };
    // Its output is over, and so it is: what is left is its removal.
    let ended = client.wire.body(ended, "remove a helper container").await?;
    let ended: Ended = serde_json::from_slice(&ended).map_err(|error| protocol(error.to_string()))?;
    if let Some(error) = ended.error.filter(|error| !error.message.is_empty()) {
        return Err(protocol(error.message));
    }
    Ok(ExecOutput { code: ended.status_code, stdout, stderr })
}
