//! Finds out why a service failed, while there is still evidence.

use std::{collections::VecDeque, time::Duration};

use devenv_engine::{ContainerState, EngineError, ObservedContainer};
use devenv_spec::{EnvironmentId, ServiceSpec, Workload};
use futures_util::StreamExt;
use jiff::Timestamp;

use super::{Effects, Observed, OperationError, Subject};
use crate::{
    net,
    reconcile::failure::{Evidence, Exit},
};

/// The number of log lines in a failure.
const TOLD_LINES: usize = 30;
/// How late the engine's record of a start may be on a busy machine.
const START_NOTED_WITHIN: Duration = Duration::from_secs(1);

const FIRST_LOOK: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl Effects {
    /// An error of the engine, with its known cause.
    pub(crate) fn refused(&self, spec: &ServiceSpec, what: &str, error: &OperationError) -> Evidence {
        if let OperationError::Known(evidence) = error {
            return evidence.as_ref().clone();
        }
        let mut evidence = Evidence::of(format!("{what}: {error}"));
        if let OperationError::Engine(EngineError::PortTaken { port }) = error {
            let holder = net::holder_of(*port);
            evidence.diagnosis = Some((
                format!("port {port} is used by {holder}"),
                format!("stop {holder}, or set another port under `ports:` in the profile"),
            ));
        } else {
            evidence.diagnosis = self.runtime.diagnose(spec, &evidence);
        }
        evidence
    }

    /// How a service that ended by itself ended; `None` if it still runs.
    pub(crate) async fn examine(&self, subject: &Subject) -> Option<Evidence> {
        let exit = match (&subject.spec.workload, &subject.instance) {
            (Workload::Container(_), Some(instance)) => match self.engine.inspect(&instance.id).await {
                Ok(Some(ObservedContainer { state: ContainerState::Exited { code, out_of_memory, error, .. }, .. })) => {
                    Some(Exit { code, out_of_memory, error })
                }
                Ok(Some(ObservedContainer { state: ContainerState::Running { .. }, .. })) => return None,
                Ok(_) | Err(_) => None,
            },
            (Workload::Process(_), instance) => {
                let run = instance.as_ref().map_or(0, |instance| instance.run);
                Some(self.runtime.examine_process(&subject.spec, run).await)
            }
            (Workload::Container(_), None) => None,
        };
        let lines = self.last_lines(subject, None).await;
        if let (Some(exit), Some(instance)) = (&exit, &subject.instance)
            && exit.code != 0
        {
            self.runtime.keep_crash(&subject.spec.name, instance.run);
        }
        let mut evidence = Evidence { lines, exit, ..Evidence::of("it exited on its own") };
        evidence.diagnosis = self.runtime.diagnose(&subject.spec, &evidence);
        Some(evidence)
    }

    /// Asks an engine that is away until it answers. Returns what it has of the environment then. Only time can be waited for.
    pub(crate) async fn look_until_it_answers(&self, environment: &EnvironmentId) -> Observed {
        let mut pause = FIRST_LOOK;
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            let looked = tokio::try_join!(self.engine.containers(&self.owner), self.engine.networks(&self.owner));
            let Ok((mut containers, mut networks)) = looked else { continue };
            containers.retain(|container| container.labels.environment == *environment);
            networks.retain(|network| network.labels.environment == *environment);
            return Observed { containers, networks, processes: None };
        }
    }

    /// The last lines of the service's current start, or of it from `since` on, with secrets masked.
    pub(super) async fn last_lines(&self, subject: &Subject, since: Option<Timestamp>) -> Vec<String> {
        let Some(instance) = &subject.instance else { return Vec::new() };
        if subject.spec.container().is_none() {
            return self.runtime.last_lines(&subject.spec.name, instance.run, since);
        }
        let started = match self.engine.inspect(&instance.id).await {
            Ok(Some(container)) => container.started_at,
            Ok(None) | Err(_) => return Vec::new(),
        };
        // Engines record the start once it has succeeded: a program that ends at once has written its output by then. What the former
        // start wrote in this time is known.
        let started =
            started.and_then(|started| started.parse::<Timestamp>().ok()).map(|started| (started - START_NOTED_WITHIN).to_string());
        let since = since.map(|since| since.to_string()).or(started);
        let former = instance.run.checked_sub(1).and_then(|former| self.runtime.last_written(&subject.spec.name, former));
        let is_former = |time: &str| {
            former.zip(time.parse::<Timestamp>().ok()).is_some_and(|(former, time)| time.as_microsecond() <= former.as_microsecond())
        };
        let mut lines = VecDeque::new();
        let mut logs = self.engine.logs(&instance.id, since.as_deref(), false);
        let read = async {
            while let Some(Ok(chunk)) = logs.next().await {
                if is_former(&chunk.time) {
                    continue;
                }
                if lines.len() == TOLD_LINES {
                    lines.pop_front();
                }
                lines.push_back(self.vault.redact(&chunk.text));
            }
        };
        // A log that does not end in time is truncated.
        let _ = tokio::time::timeout(Duration::from_secs(2), read).await;
        lines.into()
    }
}
