//! Inspects, starts, pauses and removes containers. `create` and `stop` have files of their own.

use std::time::Duration;

use bollard::query_parameters::RemoveContainerOptionsBuilder;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::{
    client::Client,
    observed::ContainerDocument,
    wire::{Call, filters, segment},
};
use crate::{ContainerState, EngineError, ObservedContainer, OwnerId, labels};

/// Maximum number of concurrent inspections: the engine answers one in a millisecond, and locks each container for it.
const AT_ONCE: usize = 16;

/// The time limit for a removal that another call began: the engine unmounts and deletes the container's layer.
const REMOVAL: Duration = Duration::from_mins(2);

/// How long a pause is tried again: runc gives up on a container while one of its processes is just being started or waits for a disk.
const FREEZING: Duration = Duration::from_secs(10);
const FIRST_WAIT: Duration = Duration::from_millis(20);

#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "Id")]
    id: String,
}

/// A list contains no exit code and no process id, so each container is inspected; one that was removed in the meantime is skipped.
pub(super) async fn list(client: &Client, owner: &OwnerId) -> Result<Vec<ObservedContainer>, EngineError> {
    let label = format!("{}={owner}", labels::OWNER);
    let call =
        Call::get("list containers", "/containers/json").with("all", "true").with("filters", filters(&[("label", &[label.as_str()])]));
    let listed: Vec<Listed> = client.wire.read(call).await?;
    let found: Vec<Option<ObservedContainer>> =
        stream::iter(listed).map(|listed| async move { inspect(client, &listed.id).await }).buffered(AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// `None` if it does not exist, or has no labels of devenv.
pub(super) async fn inspect(client: &Client, id: &str) -> Result<Option<ObservedContainer>, EngineError> {
    let observed = document(client, id).await?.and_then(|document| document.observed());
    Ok(if client.shares_machine() { observed } else { observed.map(without_pid) })
}

/// The number is of another machine, and names another process here, or none.
fn without_pid(mut observed: ObservedContainer) -> ObservedContainer {
    if let ContainerState::Running { pid } | ContainerState::Paused { pid } = &mut observed.state {
        *pid = 0;
    }
    observed
}

pub(super) async fn document(client: &Client, id: &str) -> Result<Option<ContainerDocument>, EngineError> {
    client.wire.find(Call::get("inspect a container", format!("/containers/{}/json", segment(id)))).await
}

/// A running container is left alone: the engine reports that with a success status.
pub(super) async fn start(client: &Client, id: &str) -> Result<(), EngineError> {
    client.docker.start_container(id, None).await.map_err(client.explain("start the container"))
}

pub(super) async fn pause(client: &Client, id: &str) -> Result<(), EngineError> {
    let (deadline, mut wait) = (Instant::now() + FREEZING, FIRST_WAIT);
    loop {
        let result = client.docker.pause_container(id).await.map_err(client.explain("pause the container"));
        match unless(client, id, result, |state| matches!(state, ContainerState::Paused { .. })).await {
            Err(EngineError::Refused { message, .. }) if message.contains("unable to freeze") && Instant::now() < deadline => {
                // The engine does not report when the processes can be frozen.
                sleep(wait).await;
                wait *= 2;
            }
            paused_or_failed => return paused_or_failed,
        }
    }
}

pub(super) async fn unpause(client: &Client, id: &str) -> Result<(), EngineError> {
    let result = client.docker.unpause_container(id).await.map_err(client.explain("unpause the container"));
    unless(client, id, result, |state| matches!(state, ContainerState::Running { .. })).await
}

/// A refusal is no error if the container already is in the requested state.
async fn unless(
    client: &Client,
    id: &str,
    result: Result<(), EngineError>,
    wanted: impl Fn(&ContainerState) -> bool,
) -> Result<(), EngineError> {
    let Err(EngineError::Refused { .. }) = &result else { return result };
    match document(client, id).await? {
        Some(document) if wanted(&document.state()) => Ok(()),
        _ => result,
    }
}

pub(super) async fn remove(client: &Client, id: &str) -> Result<(), EngineError> {
    let options = RemoveContainerOptionsBuilder::default().v(true).force(true).build();
    let result = client.docker.remove_container(id, Some(options)).await.map_err(client.explain("remove the container"));
    match result {
        Err(EngineError::NotFound { .. } | EngineError::Refused { status: 404, .. }) => Ok(()),
        // A removal is already in progress: wait for it.
        Err(EngineError::Refused { status: 409, message, .. }) if message.contains("already in progress") => removed(client, id).await,
        result => result,
    }
}

/// Waits for a removal that is in progress.
async fn removed(client: &Client, id: &str) -> Result<(), EngineError> {
    let call = Call::post("wait for the container's removal", format!("/containers/{}/wait", segment(id))).with("condition", "removed");
    let wait = async {
        match client.wire.open(call.without_limit()).await {
            Ok(response) => {
                // The answer ends when it is gone; its content does not matter.
                let _ = response.bytes().await;
                Ok(())
            }
            Err(EngineError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    };
    let timed_out = |_| EngineError::TimedOut { action: format!("see the removal of container `{id}` end"), limit: REMOVAL };
    tokio::time::timeout(REMOVAL, wait).await.map_err(timed_out)?
}
