//! Fault agents: the small program of `crates/fault-agent` in a container of its own, within the namespaces of its target.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use devenv_api::{ApiError, ErrorCode};
use devenv_engine::{CreatedMount, Engine, EngineError, Labels, Sidecar};
use devenv_programs::fault_agent;
use devenv_spec::ServiceName;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};

use super::{Faults, Site};
use crate::store::Record;

/// The value of the role label.
pub(crate) const ROLE: &str = "holder";
/// A fault agent is ready in milliseconds; a busy engine may take seconds to start it.
const READY: Duration = Duration::from_secs(15);

#[derive(Debug, thiserror::Error)]
pub(super) enum AgentError {
    #[error("this devenv was built without its fault agent (no static C library was available)")]
    NotBuilt,
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("{0}")]
    Refused(String),
    #[error("the fault agent did not confirm the fault within {} s", READY.as_secs())]
    Late,
}

/// What a fault agent does, and where.
#[derive(Debug, Clone, Default)]
pub(super) struct Task {
    pub(super) arguments: Vec<String>,
    pub(super) network_of: Option<String>,
    pub(super) processes_of: Option<String>,
    pub(super) capabilities: &'static [&'static str],
    /// Paths of the engine's host.
    pub(super) devices: &'static [&'static str],
    pub(super) volume: Option<String>,
}

/// Where a fault agent sees its volume.
pub(super) const VOLUME: &str = "/volume";

pub(super) fn name(record: &Record, fault: &str) -> String {
    format!("devenv-{}-fault-{fault}", record.id)
}

/// Starts it and waits for its first line. Returns the text after `ready`.
pub(super) async fn start(site: &Site, record: &Record, service: &ServiceName, fault: &str, task: Task) -> Result<String, AgentError> {
    let engine = site.engine.as_ref();
    let image = ensure_image(engine, &site.agent_image).await?;
    let labels = Labels {
        owner: site.owner.clone(),
        environment: record.id.clone(),
        project: record.project.display().to_string(),
        instance: record.instance.clone(),
        service: Some(service.clone()),
        spec: None,
        role: Some(ROLE.to_owned()),
    };
    let mut command = vec!["/holder".to_owned()];
    command.extend(task.arguments);
    let mounts = task.volume.map(|name| CreatedMount::Volume { name, target: VOLUME.to_owned(), read_only: false });
    let sidecar = Sidecar {
        name: name(record, fault),
        labels,
        image,
        command,
        network_of: task.network_of,
        processes_of: task.processes_of,
        capabilities: task.capabilities.iter().map(|name| (*name).to_owned()).collect(),
        devices: task.devices.iter().map(|path| (*path).to_owned()).collect(),
        mounts: mounts.into_iter().collect(),
    };
    let id = engine.create_sidecar(&sidecar).await?;
    let begun = async {
        engine.start(&id).await?;
        tokio::time::timeout(READY, first_word(engine, &id)).await.unwrap_or(Err(AgentError::Late))
    };
    let result = begun.await;
    if result.is_err() {
        // The first error explains more than one of the removal; the undo log knows of the agent too.
        let _ = engine.remove_container(&id).await;
    }
    result
}

async fn first_word(engine: &dyn Engine, id: &str) -> Result<String, AgentError> {
    let mut lines = engine.logs(id, None, true);
    while let Some(line) = lines.next().await {
        let text = line?.text;
        if let Some(rest) = text.strip_prefix("ready") {
            return Ok(rest.trim().to_owned());
        }
        if let Some(reason) = text.strip_prefix("failed: ") {
            return Err(AgentError::Refused(reason.to_owned()));
        }
    }
    Err(AgentError::Refused("the fault agent ended without an answer".to_owned()))
}

/// Whether the fault agent's proxy has reported that a connection was affected.
pub(super) async fn has_hit(engine: &dyn Engine, id: &str) -> bool {
    let mut lines = engine.logs(id, None, false);
    while let Some(Ok(line)) = lines.next().await {
        if line.text.starts_with("hit") {
            return true;
        }
    }
    false
}

/// The image of the agent's program, which does other work in containers' networks too. Errors are text for people.
pub(crate) async fn image(engine: &dyn Engine, known: &Path) -> Result<String, String> {
    ensure_image(engine, known).await.map_err(|error| error.to_string())
}

/// The name of the image, which changes with the program.
pub(crate) fn image_name() -> String {
    let digest = Sha256::digest(fault_agent());
    let tag: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("devenv-holder:{tag}")
}

/// The id of the image, which is made from the program's bytes if it does not exist; its name changes with them.
///
/// Everybody who may load images can give another one this name, and a fault agent has capabilities in the network of a service: so
/// only the id that was `known` after we made it ourselves is used.
async fn ensure_image(engine: &dyn Engine, known: &Path) -> Result<String, AgentError> {
    if fault_agent().is_empty() {
        return Err(AgentError::NotBuilt);
    }
    let name = image_name();
    let made = devenv_files::read_text_bounded(known, 4096).unwrap_or_default();
    let here = engine.image(&name).await?;
    if let Some(id) = here.filter(|id| made.lines().any(|line| line == format!("{name} {id}"))) {
        return Ok(id);
    }
    engine.import_image(&name, tree()).await?;
    let id = engine.image(&name).await?.ok_or_else(|| EngineError::NotFound { what: "image", name: name.clone() })?;
    // If it cannot be stored, the image is made again the next time.
    let _ = devenv_files::write_atomically(known, format!("{name} {id}\n").as_bytes());
    Ok(id)
}

/// A tar that holds only the program.
fn tree() -> Bytes {
    let mut header = tar::Header::new_gnu();
    header.set_size(fault_agent().len() as u64);
    header.set_mode(0o755);
    header.set_entry_type(tar::EntryType::Regular);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, "holder", fault_agent()).expect("formatting to a string does not fail");
    Bytes::from(archive.into_inner().expect("formatting to a string does not fail"))
}

impl Faults {
    /// Runs a fault agent that ends once it has reported. Returns its report, and whether it could be removed; it also is
    /// removed when it ends.
    pub(super) async fn run_agent(
        &self,
        record: &Record,
        service: &ServiceName,
        id: &str,
        task: Task,
    ) -> (Result<String, AgentError>, Result<(), EngineError>) {
        let said = start(&self.site, record, service, id, task).await;
        (said, self.engine().remove_container(&name(record, id)).await)
    }

    /// The mode of a volume's top directory, changed to this first if one is given.
    pub(super) async fn directory_mode(
        &self,
        record: &Record,
        service: &ServiceName,
        fault: &str,
        volume: &str,
        mode: Option<&str>,
    ) -> Result<String, ApiError> {
        let id = format!("{fault}-mode");
        let mut arguments = vec!["mode".to_owned(), format!("--path={VOLUME}")];
        arguments.extend(mode.map(|mode| format!("--mode={mode}")));
        let task = Task { arguments, volume: Some(volume.to_owned()), capabilities: &["FOWNER", "DAC_OVERRIDE"], ..Task::default() };
        let (said, removed) = self.run_agent(record, service, &id, task).await;
        let said = said.map_err(|error| ApiError::new(ErrorCode::Failed, error.to_string()))?;
        removed.map_err(|error| ApiError::new(ErrorCode::Failed, error.to_string()))?;
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use devenv_engine::fake::FakeEngine;

    use super::*;

    #[tokio::test]
    async fn a_foreign_image_with_the_agents_name_is_replaced() {
        if fault_agent().is_empty() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let known = directory.path().join("agent-image");
        let engine = FakeEngine::new();
        let imports = || engine.calls().into_iter().filter(|call| call.starts_with("import_image")).count();
        let id = ensure_image(&engine, &known).await.unwrap();
        assert_eq!(ensure_image(&engine, &known).await.unwrap(), id);
        assert_eq!(imports(), 1);
        // The image with this name is not the one that was made.
        std::fs::write(&known, "devenv-holder:0 sha256:other\n").unwrap();
        ensure_image(&engine, &known).await.unwrap();
        assert_eq!(imports(), 2);
    }
}
