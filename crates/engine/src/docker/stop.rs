//! Stops a container: its own signal, a grace period, then SIGKILL.

use std::time::Duration;

use bollard::query_parameters::KillContainerOptionsBuilder;

use super::{
    client::Client,
    containers,
    error::gone,
    wire::{Call, segment},
};
use crate::{ContainerState, EngineError};

/// After SIGKILL a container is gone as soon as its disk allows; if it takes longer, the engine has a problem.
const FORCED: Duration = Duration::from_secs(30);
/// The time limit to send a signal, which is three or four short requests.
const SIGNALLED: Duration = Duration::from_secs(30);

enum RunState {
    Running,
    Paused,
    /// Never started, ended, or missing.
    Ended,
}

/// Not the engine's own `stop`: that sends the signal that the container was created with, and the caller may want another.
///
/// An empty `signal` is the container's own, which may be its image's.
pub(super) async fn stop(client: &Client, id: &str, signal: &str, grace: Duration) -> Result<(), EngineError> {
    let signal = match signal {
        "" => match containers::document(client, id).await? {
            Some(document) => document.stop_signal().to_owned(),
            None => return Ok(()),
        },
        signal => signal.to_owned(),
    };
    send(client, id, &signal).await?;
    if let Ok(ended) = tokio::time::timeout(grace, ended(client, id)).await {
        return ended;
    }
    send(client, id, "SIGKILL").await?;
    match tokio::time::timeout(FORCED, ended(client, id)).await {
        Ok(ended) => ended,
        Err(_) => Err(EngineError::TimedOut { action: format!("end container `{id}` by SIGKILL"), limit: FORCED }),
    }
}

/// SIGKILL for one that has ended already is done; any other signal has no receiver.
pub(super) async fn kill(client: &Client, id: &str, signal: &str) -> Result<(), EngineError> {
    let result = signal_only(client, id, signal).await;
    let forced = matches!(signal, "SIGKILL" | "KILL" | "9");
    match result {
        Err(EngineError::Refused { .. }) if forced && matches!(run_state(client, id).await?, RunState::Ended) => Ok(()),
        result => result,
    }
}

async fn run_state(client: &Client, id: &str) -> Result<RunState, EngineError> {
    let Some(document) = containers::document(client, id).await? else { return Ok(RunState::Ended) };
    Ok(match document.state() {
        ContainerState::Paused { .. } => RunState::Paused,
        ContainerState::Created | ContainerState::Exited { .. } => RunState::Ended,
        ContainerState::Other(state) if state == "dead" => RunState::Ended,
        // A signal does no harm to one that is restarting, stopping or being removed, and its end is awaited.
        ContainerState::Running { .. } | ContainerState::Other(_) => RunState::Running,
    })
}

/// Sends the signal. A paused container receives it only when resumed, so it is resumed.
async fn send(client: &Client, id: &str, signal: &str) -> Result<(), EngineError> {
    let timed_out = |_| EngineError::TimedOut { action: format!("send {signal} to container `{id}`"), limit: SIGNALLED };
    tokio::time::timeout(SIGNALLED, send_unhurried(client, id, signal)).await.map_err(timed_out)?
}

async fn send_unhurried(client: &Client, id: &str, signal: &str) -> Result<(), EngineError> {
    let before = run_state(client, id).await?;
    if matches!(before, RunState::Ended) {
        return Ok(());
    }
    match signal_only(client, id, signal).await {
        Ok(()) => {}
        // It ended in the meantime.
        Err(EngineError::NotFound { .. }) => return Ok(()),
        Err(error @ EngineError::Refused { .. }) => {
            return if matches!(run_state(client, id).await?, RunState::Ended) { Ok(()) } else { Err(error) };
        }
        Err(error) => return Err(error),
    }
    if matches!(before, RunState::Running) {
        return Ok(());
    }
    match client.docker.unpause_container(id).await.map_err(client.explain("unpause the container")) {
        // It was resumed by the signal, or it has ended.
        Ok(()) | Err(EngineError::Refused { .. } | EngineError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn signal_only(client: &Client, id: &str, signal: &str) -> Result<(), EngineError> {
    let options = KillContainerOptionsBuilder::default().signal(signal).build();
    client.docker.kill_container(id, Some(options)).await.map_err(client.explain(&format!("send {signal}")))
}

/// Returns at once if it does not run. The caller sets the time limit.
async fn ended(client: &Client, id: &str) -> Result<(), EngineError> {
    let call = Call::post("wait for the container's end", format!("/containers/{}/wait", segment(id))).with("condition", "not-running");
    match client.wire.open(call.without_limit()).await {
        Ok(response) => match response.bytes().await {
            Ok(_) => Ok(()),
            Err(error) => Err(gone(client.endpoint(), error.to_string())),
        },
        Err(EngineError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
