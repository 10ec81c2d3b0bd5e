//! Leases and their connections: granted when asked for, ended when the connection ends, however its holder died.
//!
//! A lease on an environment (`devenv test`) makes an environment that is gone with it: its containers, its network, its
//! volumes, its records, and the processes that carry its mark. The record says that it is such a one, so a daemon that
//! finds it later, when nobody can hold it any more, removes it.

use std::time::Duration;

use devenv_api::{ApiError, EnvironmentTarget, ErrorCode, HoldRequest, Lease, LeaseCommand, LeaseNews, LeaseRequest, Phase};
use futures_util::{SinkExt, StreamExt};
use indexmap::IndexMap;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::SemaphorePermit,
};
use tokio_util::codec::{Framed, LinesCodec};

use super::{Environments, describe, environments::Environment, internal};
use crate::{
    engine::EngineError,
    event::News,
    lease::{Granted, LeaseError, Wanted},
    process,
    reconcile::CommandError,
    spec::EnvironmentId,
    store::Goal,
};

/// The name in a process's marker that is not a service's; no service can have it.
const COMMAND: &str = "@command";
/// How often, and after how long, it is looked again for what came late.
const LATE_LOOKS: u32 = 3;
const LATE: Duration = Duration::from_secs(1);
/// A command is a word.
const LONGEST_LINE: usize = 1024;

/// Environments of tests that come up at the same time.
pub(super) fn at_once() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).max(2)
}

/// What a holder and the daemon say to one another.
type Line<C> = Framed<C, LinesCodec>;

/// How a lease ends.
enum End {
    Released,
    Keep,
    /// The connection is gone, or this daemon is about to be.
    Lost,
}

impl Environments {
    /// Grants a lease on services, and ends it with the connection.
    pub(crate) async fn hold_lease(&self, connection: impl AsyncRead + AsyncWrite + Unpin + Send, request: LeaseRequest) {
        let mut line = Framed::new(connection, LinesCodec::new_with_max_length(LONGEST_LINE));
        let (environment, granted) = match self.grant(&request).await {
            Ok(granted) => granted,
            Err(error) => {
                let _ = say(&mut line, &LeaseNews::Failed(error)).await;
                return;
            }
        };
        let lease = Lease {
            id: granted.id.clone(),
            services: granted.services.clone(),
            database: granted.database.clone(),
            variables: granted.variables.clone(),
        };
        let _used = environment.usage.begin();
        // A client that has disconnected in the meantime is noticed immediately.
        let _ = say(&mut line, &LeaseNews::Granted(lease)).await;
        let end = self.until_end(&mut line).await;
        if !matches!(end, End::Lost) {
            let _ = say(&mut line, &LeaseNews::Over).await;
        }
        // What the command left behind has nothing to work on any more.
        sweep(mark(&environment, &granted.id)).await;
        granted.end().await;
    }

    async fn grant(&self, request: &LeaseRequest) -> Result<(Environment, Granted), ApiError> {
        let environment = self.require(&request.target)?;
        environment.is_open()?;
        let spec = environment.handle.record().await?.spec.ok_or(CommandError::NotUp)?;
        if environment.handle.view().goal != Goal::Up {
            return Err(CommandError::NotUp.into());
        }
        let mut variables = IndexMap::new();
        for (name, variable) in &spec.variables {
            let value = environment.vault.resolve(&variable.host).map_err(|error| ApiError::new(ErrorCode::Internal, describe(&error)))?;
            variables.insert(name.clone(), value);
        }
        let wanted = Wanted {
            spec: &spec,
            variables,
            services: &request.services,
            database: request.database.as_deref(),
            data: &environment.caretaker.data_key(),
        };
        let mut granted = environment.leases.grant(wanted).await.map_err(|error| refused(&error))?;
        granted.variables.insert(process::MARKER.to_owned(), mark(&environment, &granted.id));
        Ok((environment, granted))
    }

    /// Makes an environment that is the holder's alone, and removes it with the connection.
    pub(crate) async fn hold_environment(&self, connection: impl AsyncRead + AsyncWrite + Unpin + Send, request: HoldRequest) {
        let mut line = Framed::new(connection, LinesCodec::new_with_max_length(LONGEST_LINE));
        let environment = match self.ensure_ephemeral(&request.target).await {
            Ok(environment) => environment,
            Err(error) => {
                let _ = say(&mut line, &LeaseNews::Failed(error)).await;
                return;
            }
        };
        let held = LeaseNews::Held { environment: environment.id.to_string(), marker: mark(&environment, "test") };
        let _ = say(&mut line, &held).await;
        let over = match self.until_end(&mut line).await {
            // The client starts the next daemon, which finds the environment.
            End::Lost if self.shared.stop.is_cancelled() => return,
            End::Keep => environment.handle.keep().await.map_err(ApiError::from),
            End::Released | End::Lost => self.dissolve(&environment).await,
        };
        let news = match over {
            Ok(()) => LeaseNews::Over,
            Err(error) => {
                tracing::warn!(%error, environment = %environment.id, "Cannot remove a temporary environment; `devenv gc` removes it.");
                LeaseNews::Failed(error)
            }
        };
        let _ = say(&mut line, &news).await;
    }

    /// A place for one that comes up for a test, held until it is up: as many at the same time as the machine has
    /// processors, or they take each other's, and none is ready in its time. Others need none.
    pub(crate) async fn place_to_come_up(&self, environment: &Environment) -> Result<Option<SemaphorePermit<'_>>, CommandError> {
        if !environment.handle.record().await?.ephemeral {
            return Ok(None);
        }
        let places = &self.shared.coming;
        if let Ok(place) = places.try_acquire() {
            return Ok(Some(place));
        }
        let message = format!("waiting: {} other test environments are starting", at_once());
        environment.handle.events.emit(News::new("environment.waiting", message));
        // Never closed.
        Ok(places.acquire().await.ok())
    }

    /// Creates a temporary environment.
    async fn ensure_ephemeral(&self, target: &EnvironmentTarget) -> Result<Environment, ApiError> {
        if let Some(found) = self.find(target) {
            let record = found.handle.record().await?;
            let empty = found.handle.status().phase == Phase::Absent && record.volumes.is_empty() && record.trash.is_empty();
            if record.ephemeral || !empty {
                let message = format!("environment `{}` already exists", target.instance);
                return Err(ApiError::new(ErrorCode::Conflict, message)
                    .hint("omit `--instance` to use a unique name, or use `--warm` to share an environment between runs"));
            }
            self.forget(&found.id).await.map_err(internal)?;
        }
        self.make_ephemeral(target)
    }

    /// Removes an environment for good: nothing of it goes to the trash.
    pub(crate) async fn dissolve(&self, environment: &Environment) -> Result<(), ApiError> {
        let _turn = environment.turn.lock().await;
        environment.close();
        sweep(format!("{}/{COMMAND}/", environment.id)).await;
        let turn = environment.handle.down(true).await?;
        environment.handle.until_down(turn).await?;
        let record = environment.handle.record().await?;
        let mut volumes: Vec<String> = record.volumes.into_values().collect();
        volumes.extend(record.snapshots.into_values().flat_map(|snapshot| snapshot.volumes.into_values()));
        volumes.extend(environment.handle.empty_trash(Duration::ZERO).await?);
        for volume in volumes {
            // One that is in use, by a container on its way out, is looked for again below.
            let _ = self.engine().remove_volume(&volume).await;
        }
        let rest = self.remove_rest(&environment.id).await;
        self.forget(&environment.id).await.map_err(internal)?;
        if rest.is_ok_and(|found| found == 0) {
            return Ok(());
        }
        self.remove_late(environment.id.clone()).await;
        Ok(())
    }

    /// Looks again for what the engine was still making when it was asked to remove everything.
    async fn remove_late(&self, id: EnvironmentId) {
        for _ in 0..LATE_LOOKS {
            tokio::time::sleep(LATE).await;
            if let Err(error) = self.remove_rest(&id).await {
                // It is nobody's, and `gc` and the next daemon remove what is nobody's.
                tracing::warn!(%error, environment = %id, "Cannot remove the remains of an environment.");
            }
        }
    }

    /// Removes all that the engine has of an environment; how much that was.
    async fn remove_rest(&self, id: &EnvironmentId) -> Result<usize, EngineError> {
        let (engine, owner) = (self.engine(), &self.shared.owner);
        let mut found = 0;
        for container in engine.containers(owner).await?.into_iter().filter(|container| container.labels.environment == *id) {
            found += 1;
            engine.remove_container(&container.id).await?;
        }
        for network in engine.networks(owner).await?.into_iter().filter(|network| network.labels.environment == *id) {
            found += 1;
            engine.remove_network(&network.id).await?;
        }
        for volume in engine.volumes(owner).await?.into_iter().filter(|volume| volume.labels.environment == *id) {
            found += 1;
            engine.remove_volume(&volume.name).await?;
        }
        Ok(found)
    }

    /// Ends what was leased from an earlier daemon: its holders have lost their connections.
    pub(super) async fn reap_leases(&self) {
        for environment in self.all() {
            let Ok(record) = environment.handle.record().await else { continue };
            let environments = self.clone();
            self.shared.holders.spawn(async move {
                if record.ephemeral {
                    if let Err(error) = environments.dissolve(&environment).await {
                        tracing::warn!(%error, environment = %environment.id, "Cannot remove an abandoned environment.");
                    }
                    // The engine may still be at what the daemon before this one asked of it.
                    environments.remove_late(environment.id.clone()).await;
                    return;
                }
                sweep(format!("{}/{COMMAND}/", environment.id)).await;
                let Some(spec) = record.spec.filter(|_| record.goal == Goal::Up) else { return };
                let leased: Vec<String> = spec.services.keys().map(ToString::to_string).collect();
                let stop = environments.shared.stop.clone();
                // Only what runs can be asked what is left in it.
                let ready = tokio::select! {
                    () = stop.cancelled() => return,
                    ready = environment.handle.until_ready(&leased) => ready,
                };
                if ready.is_ok() {
                    environment.leases.sweep(&spec).await;
                }
            });
        }
    }

    async fn until_end<C: AsyncRead + AsyncWrite + Unpin>(&self, line: &mut Line<C>) -> End {
        // Both are cancel-safe: a line that is not taken stays in the buffer.
        let said = tokio::select! {
            () = self.shared.stop.cancelled() => return End::Lost,
            said = line.next() => said,
        };
        let Some(Ok(text)) = said else { return End::Lost };
        match serde_json::from_str(&text) {
            Ok(LeaseCommand::Release) => End::Released,
            Ok(LeaseCommand::Keep) => End::Keep,
            Err(_) => End::Lost,
        }
    }
}

/// The mark of the processes that run on a lease.
fn mark(environment: &Environment, lease: &str) -> String {
    format!("{}/{COMMAND}/{lease}", environment.id)
}

/// Kills what carries the mark. Reading all of `/proc` blocks.
async fn sweep(mark: String) {
    if let Err(error) = tokio::task::spawn_blocking(move || process::sweep(&mark)).await {
        tracing::warn!(%error, "Cannot search for the processes of a lease.");
    }
}

async fn say<C: AsyncRead + AsyncWrite + Unpin>(line: &mut Line<C>, news: &LeaseNews) -> Result<(), tokio_util::codec::LinesCodecError> {
    line.send(serde_json::to_string(news).expect("a message serializes to JSON")).await
}

fn refused(error: &LeaseError) -> ApiError {
    let code = match error {
        LeaseError::NoService(_) | LeaseError::NoDatabase { .. } => ErrorCode::NotFound,
        LeaseError::NotLeasable { .. } => ErrorCode::Usage,
        LeaseError::Nothing | LeaseError::Refused { .. } | LeaseError::NoNumber { .. } => ErrorCode::Failed,
        LeaseError::Secret(_) => ErrorCode::Internal,
    };
    let told = ApiError::new(code, describe(error));
    match error.hint() {
        Some(hint) => told.hint(hint),
        None => told,
    }
}
