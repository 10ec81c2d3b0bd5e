//! Short-lived helper containers that work on volumes, or in a network.
//!
//! The engine removes one when it exits, so nothing is left even if this process dies. Its
//! output comes over a stream that is attached before it starts, and the engine keeps no log.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bollard::{
    models::{ContainerCreateBody, HostConfig, HostConfigLogConfig},
    query_parameters::CreateContainerOptionsBuilder,
};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use serde::Deserialize;
use tokio_util::codec::FramedRead;

use super::{
    client::Client,
    containers, create as bodies,
    error::gone,
    exec,
    frames::Frames,
    wire::{Call, Upgraded, segment},
};
use crate::{EngineError, ExecOutput, ExecSession, HelperRun, Labels};

/// The value of its role label.
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

/// Returns when the container is gone, so that its volumes are free.
pub(super) async fn run(client: &Client, helper: &HelperRun) -> Result<ExecOutput, EngineError> {
    let id = create(client, helper, false).await?;
    let result = to_its_end(client, &id).await;
    if result.is_err() {
        // The first error explains more than one of the removal.
        let _ = containers::remove(client, &id).await;
    }
    result
}

/// With input, chunk by chunk.
pub(super) async fn session(client: &Client, helper: &HelperRun) -> Result<ExecSession, EngineError> {
    let id = create(client, helper, true).await?;
    match begin(client, &id, true).await {
        Ok((stream, ended)) => {
            let (read, write) = tokio::io::split(stream);
            let (endpoint, waiting) = (client.clone(), client.clone());
            let broken = move |error: io::Error| gone(endpoint.endpoint(), format!("the output was interrupted: {error}"));
            Ok(ExecSession {
                input: Box::pin(write),
                output: FramedRead::new(read, Frames).map_err(broken).boxed(),
                // It has no terminal.
                resize: Arc::new(|_| std::future::ready(Ok(())).boxed()),
                exit_code: async move { exit_code(&waiting, ended).await }.boxed(),
            })
        }
        Err(error) => {
            let _ = containers::remove(client, &id).await;
            Err(error)
        }
    }
}

async fn create(client: &Client, helper: &HelperRun, input: bool) -> Result<String, EngineError> {
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
        attach_stdin: Some(input),
        open_stdin: Some(input),
        stdin_once: Some(input),
        host_config: Some(HostConfig {
            network_mode: Some(helper.network.clone().unwrap_or_else(|| "none".to_owned())),
            mounts: Some(bodies::mounts(&helper.mounts)),
            auto_remove: Some(true),
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::default().name(&name).build();
    let created = client.docker.create_container(Some(options), body).await;
    Ok(created.map_err(client.explain("create a helper container"))?.id)
}

/// Attaches to its streams and starts it; the second value is the answer that arrives when it ends.
async fn begin(client: &Client, id: &str, input: bool) -> Result<(Upgraded, reqwest::Response), EngineError> {
    let path = |what: &str| format!("/containers/{}/{what}", segment(id));
    let mut attach =
        Call::post("attach to a helper container", path("attach")).with("stream", "true").with("stdout", "true").with("stderr", "true");
    if input {
        attach = attach.with("stdin", "true");
    }
    let stream = client.wire.upgrade(attach, String::new()).await?;
    // Before it starts, or its end could be missed.
    let wait = Call::post("wait for a helper container", path("wait")).with("condition", "removed");
    let ended = client.wire.open(wait).await?;
    containers::start(client, id).await?;
    Ok((stream, ended))
}

async fn to_its_end(client: &Client, id: &str) -> Result<ExecOutput, EngineError> {
    let (stream, ended) = begin(client, id, false).await?;
    let (stdout, stderr) = exec::collect(client, &mut FramedRead::new(stream, Frames)).await?;
    let code = exit_code(client, ended).await?;
    Ok(ExecOutput { code, stdout, stderr })
}

/// Its output has ended, so it has too: only its removal is left.
async fn exit_code(client: &Client, ended: reqwest::Response) -> Result<i64, EngineError> {
    let protocol = |message: String| EngineError::Protocol { action: "wait for a helper container".to_owned(), message };
    let ended = client.wire.body(ended, "remove a helper container").await?;
    let ended: Ended = serde_json::from_slice(&ended).map_err(|error| protocol(error.to_string()))?;
    if let Some(error) = ended.error.filter(|error| !error.message.is_empty()) {
        return Err(protocol(error.message));
    }
    Ok(ended.status_code)
}
