//! Redis's own faults, injected as its default user.

mod flush;
mod memory;
mod pause;
mod save_failure;

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use devenv_faults::FaultKind;
use devenv_secrets::{Vault, tls};
use devenv_spec::{OfKind, ServiceName};
use redis::{RedisError, aio::MultiplexedConnection};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::timeout;

use super::{
    NAME, RedisKind,
    probe::{SessionError, session, words},
    spec::RedisProvision,
};
use crate::capability::{Effect, FaultSite, Faults};

const ANSWER: Duration = Duration::from_secs(5);

/// The action, as data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Action {
    Pause { writes_only: bool },
    Memory { limit: u64 },
    SaveFailure,
    Flush,
}

/// The recorded undo steps.
const UNPAUSE: &str = "redis-unpause";
const SETTINGS: &str = "redis-settings";
const SAVES: &str = "redis-saves";

/// Restores settings.
#[derive(Debug, Serialize, Deserialize)]
struct Settings {
    service: ServiceName,
    settings: Vec<(String, String)>,
}

/// Lets the directory accept new files again, and makes a snapshot.
#[derive(Debug, Serialize, Deserialize)]
struct Saves {
    service: ServiceName,
    volume: String,
    mode: String,
}

/// One server, and how to reach it.
struct Server {
    declared: RedisProvision,
    vault: Vault,
    authority: PathBuf,
}

#[async_trait]
impl Faults for RedisKind {
    fn kinds(&self) -> &'static [&'static dyn FaultKind] {
        &[&pause::RedisPause, &memory::RedisMemory, &save_failure::RedisSaveFailure, &flush::RedisFlush]
    }

    async fn inject(&self, action: &OfKind, site: &mut dyn FaultSite) -> Result<Effect, String> {
        let server = Server::of(site)?;
        let service = site.service().name.clone();
        match action.decode().map_err(|error| error.to_string())? {
            Action::Pause { writes_only } => {
                site.will_undo(OfKind::new(UNPAUSE, &json!({ "service": service })))?;
                pause::pause(&server, site.time(), writes_only).await
            }
            Action::Memory { limit } => {
                let before = server.setting("maxmemory").await?;
                let settings = vec![("maxmemory".to_owned(), before)];
                site.will_undo(OfKind::new(SETTINGS, &Settings { service, settings }))?;
                memory::squeeze(&server, limit).await
            }
            Action::SaveFailure => {
                // The snapshot directory cannot be changed while a server runs, but it creates a new file there.
                let volume = site.volume().ok_or_else(|| format!("{service} has no volume for snapshots"))?;
                let mode = site.volume_mode(&volume, None).await?;
                site.will_undo(OfKind::new(SAVES, &Saves { service, volume: volume.clone(), mode }))?;
                site.volume_mode(&volume, Some("500")).await?;
                let saved = save_failure::save(&server).await?;
                Ok(if saved { Effect::no("a snapshot succeeded despite the fault") } else { Effect::yes("a snapshot failed") })
            }
            Action::Flush => flush::flush(&server).await,
        }
    }

    fn steps(&self) -> &'static [&'static str] {
        &[UNPAUSE, SETTINGS, SAVES]
    }

    async fn undo(&self, step: &OfKind, site: &mut dyn FaultSite) -> Result<(), String> {
        let server = Server::of(site)?;
        match step.kind.as_str() {
            SETTINGS => {
                let Settings { settings, .. } = step.decode().map_err(|error| error.to_string())?;
                server.set(&settings).await
            }
            SAVES => {
                let Saves { volume, mode, .. } = step.decode().map_err(|error| error.to_string())?;
                site.volume_mode(&volume, Some(&mode)).await?;
                if save_failure::save(&server).await? { Ok(()) } else { Err("a snapshot still fails".to_owned()) }
            }
            _ => pause::unpause(&server).await,
        }
    }
}

impl Action {
    fn of_kind(&self) -> devenv_faults::Action {
        devenv_faults::Action::OfKind(OfKind::new(NAME, self))
    }
}

impl Server {
    fn of(site: &dyn FaultSite) -> Result<Self, String> {
        let declared = RedisProvision::of(site.service())
            .ok_or_else(|| format!("{} is not a server that this fault supports", site.service().name))?;
        Ok(Self { declared, vault: site.vault().clone(), authority: site.authority().to_owned() })
    }

    async fn session<T, W>(&self, work: impl FnOnce(MultiplexedConnection) -> W) -> Result<T, String>
    where
        W: Future<Output = Result<T, RedisError>>,
    {
        let RedisProvision { port, password, tls: encrypts, .. } = &self.declared;
        let password = self.vault.reveal(password).map_err(|error| error.to_string())?;
        let tls = tls::trust(*encrypts, Some(&self.authority)).map_err(|error| error.to_string())?;
        let asked =
            session(*port, "default", &password, tls, |connection| async move { work(connection).await.map_err(SessionError::from) });
        match timeout(ANSWER, asked).await {
            Ok(result) => result.map_err(|error| words(*port, error)),
            Err(_) => Err(format!("127.0.0.1:{port} did not answer within {} s", ANSWER.as_secs())),
        }
    }

    async fn setting(&self, name: &str) -> Result<String, String> {
        let pair: Vec<String> = self
            .session(|mut connection| async move { redis::cmd("CONFIG").arg("GET").arg(name).query_async(&mut connection).await })
            .await?;
        pair.into_iter().nth(1).ok_or_else(|| format!("this server has no setting `{name}`"))
    }

    async fn set(&self, settings: &[(String, String)]) -> Result<(), String> {
        self.session(|mut connection| async move {
            for (name, value) in settings {
                redis::cmd("CONFIG").arg("SET").arg(name).arg(value).query_async::<()>(&mut connection).await?;
            }
            Ok(())
        })
        .await
    }
}
