//! Starts a new version of a process beside the old one, which takes over once it is ready.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    execute::{Effects, Subject},
    failure::Evidence,
    state::Instance,
};

/// How a swap ended.
pub(super) enum Swapped {
    /// The new version serves, with this proof. The old one must be retired.
    Moved(Instance, String),
    /// The new version has been ended again, and the old one serves as before.
    Failed(Evidence),
    /// As above, because the goal has changed.
    Cancelled,
}

impl Effects {
    pub(super) async fn swap(&self, subject: &Subject, cancelled: CancellationToken) -> Swapped {
        let spec = &subject.spec;
        let run = self.runtime.next_run(&spec.name);
        let id = match self.runtime.start_process(spec, run).await {
            Ok(id) => id,
            Err(evidence) => return Swapped::Failed(evidence),
        };
        let instance = Instance { id, hash: spec.hash(), run };
        let (news, _unheard) = mpsc::unbounded_channel();
        // Each branch is cancel-safe: what is dropped half way may be repeated, or only waits.
        let settled = tokio::select! {
            () = cancelled.cancelled() => None,
            settled = self.runtime.settle(spec, &instance, &news) => Some(settled),
            exit = self.runtime.examine_process(spec, run) => {
                Some(Err(Evidence { exit: Some(exit), ..Evidence::of("it exited before it was ready") }))
            }
        };
        match settled {
            Some(Ok(proof)) => {
                self.runtime.serve(spec, run);
                self.runtime.keep_output(spec, &instance);
                Swapped::Moved(instance, proof)
            }
            failed => {
                if let Err(error) = self.runtime.retire_process(spec, run).await {
                    tracing::warn!(%error, service = %spec.name, "Cannot stop a version that did not become ready.");
                }
                match failed {
                    None | Some(Ok(_)) => Swapped::Cancelled,
                    Some(Err(mut evidence)) => {
                        if evidence.lines.is_empty() {
                            evidence.lines = self.runtime.last_lines(&spec.name, run, None);
                        }
                        evidence.diagnosis = evidence.diagnosis.take().or_else(|| self.runtime.diagnose(spec, &evidence));
                        Swapped::Failed(evidence)
                    }
                }
            }
        }
    }
}
