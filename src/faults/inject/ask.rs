//! Probes from inside the network, for effects that only another service, or the target itself, can observe.

use std::time::Instant;

use devenv_api::{ApiError, Witness};
use devenv_kinds::faults::Peer;
use devenv_spec::ServiceName;
use futures_util::StreamExt;

use super::super::{
    agent::{self, AgentError},
    observe::Question,
};
use super::{PATIENCE, SIGN, Work, failed, not_seen, seen};

/// Probes continuously until there is no answer.
pub(super) enum Asker {
    /// The probe was answered.
    Asks { container: String, from: String, before: String },
    /// There is no container to probe from, or there was no answer before the fault either.
    Mute(String),
}

impl Work {
    /// From that service, or from any other one in a container; `None` if it is a process on the host.
    pub(super) async fn asker_of(&self, peer: &Peer, question: &Question) -> Result<Option<Asker>, ApiError> {
        let status = self.faults.site.handle.status();
        let wanted = |name: &str| match peer {
            Peer::Service(peer) => peer.as_str() == name,
            _ => name != self.service.name.as_str(),
        };
        let from = status.services.iter().filter(|service| wanted(&service.name)).find_map(|service| {
            let container = service.container.clone()?;
            (service.state == devenv_api::ServiceState::Ready).then(|| (service.name.clone(), container))
        });
        let Some((name, container)) = from else {
            let nobody =
                || Asker::Mute("no other service runs in a container, so the effect cannot be measured from the network".to_owned());
            return Ok(matches!(peer, Peer::Services).then(nobody));
        };
        let Some(at) = question.direct() else { return Ok(Some(Asker::Mute(format!("{} has no port", self.service.name)))) };
        let words = hex::encode(question.words());
        self.asker(name, container, vec![format!("--to={at}"), format!("--words={words}")]).await.map(Some)
    }

    /// The target itself, for its own name: every container of a network can resolve that.
    pub(super) async fn asker_for_names(&self, container: &str) -> Result<Asker, ApiError> {
        let name: &ServiceName = &self.service.name;
        self.asker(name.to_string(), container.to_owned(), vec![format!("--name={name}")]).await
    }

    async fn asker(&self, from: String, network_of: String, question: Vec<String>) -> Result<Asker, ApiError> {
        let id = format!("{}-ask", self.entry.fault.id);
        let mut arguments = vec!["ask".to_owned(), format!("--patience-ms={}", PATIENCE.as_millis())];
        arguments.push(format!("--ttl-ms={}", (SIGN * 3).as_millis()));
        arguments.extend(question);
        let task = agent::Task { arguments, network_of: Some(network_of), ..agent::Task::default() };
        match agent::start(&self.faults.site, &self.record, &self.service.name, &id, task).await {
            Ok(before) => Ok(Asker::Asks { container: agent::name(&self.record, &id), from, before }),
            Err(AgentError::Refused(reason)) => Ok(Asker::Mute(format!("before the fault, from {from}: {reason}"))),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Waits until the prober gets no answer any more; it is not needed after that.
    pub(super) async fn silence(&self, asker: Asker, began: Instant) -> Result<Witness, ApiError> {
        let (container, from, before) = match asker {
            Asker::Asks { container, from, before } => (container, from, before),
            Asker::Mute(why) => return Ok(not_seen(why)),
        };
        let answer = async {
            let mut lines = self.engine().logs(&container, None, true);
            while let Some(Ok(line)) = lines.next().await {
                if let Some(how) = line.text.strip_prefix("silent ") {
                    return Some(how.to_owned());
                }
            }
            None
        };
        let heard = tokio::time::timeout(SIGN, answer).await;
        self.engine().remove_container(&container).await.map_err(|error| failed(error.to_string()))?;
        Ok(match heard {
            Ok(Some(how)) => seen(format!("from {from}: {how}; before, an answer took {before}"), began),
            Ok(None) | Err(_) => not_seen(format!("from {from}, it still answers")),
        })
    }
}
