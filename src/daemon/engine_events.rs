//! Follows the engine's events, passes each to its environment, and survives restarts of the engine.

use std::time::Duration;

use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::environment::{Environments, adopt::observe};

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// Runs until stopped.
pub(super) async fn follow_engine(environments: Environments, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = follow(environments) => {}
    }
}

async fn follow(environments: Environments) {
    let mut retry = FIRST_RETRY;
    loop {
        let mut events = environments.engine().events(environments.owner());
        // Subscribe first, then look: events in between are seen twice rather than never.
        if let Ok(mut observed) = observe(&environments).await {
            retry = FIRST_RETRY;
            for environment in environments.all() {
                environment.handle.observed(observed.remove(&environment.id).unwrap_or_default()).await;
            }
            while let Some(Ok(event)) = events.next().await {
                if let Some(environment) = environments.get(&event.labels.environment) {
                    environment.handle.engine_event(event).await;
                }
            }
        }
        for environment in environments.all() {
            environment.handle.engine_gone().await;
        }
        // An engine that is away announces nothing, so time is all there is to wait for.
        tokio::time::sleep(retry).await;
        retry = (retry * 2).min(LONGEST_RETRY);
    }
}
