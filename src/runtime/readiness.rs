//! From a service's start to the proof that a client can do real work: the first answer, provisioning, scripts, the golden
//! volume.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant, SystemTime},
};

use devenv_kinds::{
    probe::{self, NotReady, ProbeContext, ProbeFailure, ProbeSuccess, Schedule},
    provision::{self, Change, ProvisionContext, ProvisionError},
    script::{Choice, ScriptError},
};
use devenv_spec::{OfKind, Probe, ServiceSpec};
use tokio::sync::mpsc;

use super::EnvironmentRuntime;
use crate::reconcile::{Evidence, Instance, ReadinessUpdate as NewEvent};

/// The least time for the proof, whatever provisioning and scripts have left of the service's limit.
const PROOF: Duration = Duration::from_secs(10);

/// How long a client that is refused after a restart is tried again before everything is checked.
const DOUBT: Duration = Duration::from_millis(100);

/// A service without a probe is ready once it has run for this long. The guide names it.
pub(crate) const STEADY: Duration = Duration::from_secs(1);

/// With a log probe, this part of [`STEADY`] is how long it has to run after the matching line. The guide names it.
const HOLDS: u32 = 4;

/// How late the end of a program may be reported: a process is given time to end what it left behind.
const END_REPORTED_WITHIN: Duration = Duration::from_secs(30);

/// One start of one service.
pub(crate) struct ReadinessCheck<'a> {
    runtime: &'a EnvironmentRuntime,
    spec: &'a ServiceSpec,
    instance: &'a Instance,
    news: &'a mpsc::UnboundedSender<NewEvent>,
    probe: Probe,
    cx: ProbeContext,
    began: Instant,
    /// The same by the clock of the file system.
    began_at: SystemTime,
}

impl<'a> ReadinessCheck<'a> {
    pub(crate) fn new(
        runtime: &'a EnvironmentRuntime,
        spec: &'a ServiceSpec,
        instance: &'a Instance,
        news: &'a mpsc::UnboundedSender<NewEvent>,
    ) -> Self {
        let probe = spec.probe.behind(&runtime.processes.ports(&spec.name, instance.run));
        let cx = runtime.context(spec, instance);
        Self { runtime, spec, instance, news, probe, cx, began: Instant::now(), began_at: SystemTime::now() }
    }

    /// Proves it.
    pub(crate) async fn settle(&self) -> Result<String, Evidence> {
        let golden = &self.runtime.golden;
        if self.probe == Probe::None && self.spec.proof.is_none() {
            // Its end in between ends this wait.
            tokio::time::sleep(self.runtime.steady).await;
        }
        if self.is_only_restarted().await
            && let Some(proof) = self.answer_as_before().await?
        {
            golden.answered(&self.spec.name)?;
            self.still_runs().await?;
            golden.replenish(self.spec).await;
            return Ok(proof.evidence);
        }
        loop {
            let answer = self.answer().await?;
            golden.answered(&self.spec.name)?;
            self.tell(NewEvent::Answered);
            match self.bring_about().await? {
                // A server that was restarted in between may have lost what was provisioned.
                Some(proof) if proof.life != answer.life => {}
                proof => {
                    self.still_runs().await?;
                    golden.replenish(self.spec).await;
                    return Ok(proof.unwrap_or(answer).evidence);
                }
            }
        }
    }

    /// A port may be answered by what the program has left behind, and a line or a while may have come before its end, which is
    /// reported a little later: the last words of many programs quote the line of their source that logs the expected text. Only the
    /// protocol of a server proves that it is the server that answers.
    async fn still_runs(&self) -> Result<(), Evidence> {
        let has_logged = matches!(self.probe, Probe::Log { .. });
        if has_logged {
            // A change of its files in the meantime must find this version stored. The program's end ends this wait.
            let keep = self.runtime.propose_version(self.spec, self.instance, self.began_at);
            futures_util::join!(keep, tokio::time::sleep(self.runtime.steady / HOLDS));
        }
        if matches!(self.probe, Probe::OfKind(_)) || self.runtime.runs(self.spec, self.instance).await {
            if has_logged {
                self.runtime.confirm_proposed(self.spec, self.instance).await;
            }
            return Ok(());
        }
        // The report ends this wait.
        tokio::time::sleep(END_REPORTED_WITHIN).await;
        Err(Evidence::of("it ended before it was ready"))
    }

    /// Whether its container was only restarted since everything was provisioned, and keeps that: then a client's success is all that is
    /// missing, and the rest is checked when it is ready.
    async fn is_only_restarted(&self) -> bool {
        let known = self.runtime.known(self.spec);
        let is_restart = known.is_some_and(|known| known.container == self.instance.id && known.run != self.instance.run);
        let is_stateless = self.spec.provision.is_empty() && self.spec.scripts.is_none();
        let is_kept = !self.spec.provision.is_empty() && self.spec.provision.iter().all(provision::survives_restart);
        let survives = self.spec.container().is_some() && (is_stateless || is_kept);
        is_restart && survives && !self.runtime.has_pending_scripts(self.spec).await
    }

    /// Waits until a client can work with it. `None` if the server answers and refuses the client: something is missing.
    async fn answer_as_before(&self) -> Result<Option<ProbeSuccess>, Evidence> {
        let Some(proof) = &self.spec.proof else { return Ok(Some(self.answer().await?)) };
        let refused = tokio::sync::Notify::new();
        let hear = |failure: &ProbeFailure| {
            if failure.answered {
                refused.notify_one();
            }
        };
        // Most likely it only is not ready yet, and more questions would delay it.
        let doubted = async {
            refused.notified().await;
            tokio::time::sleep(DOUBT).await;
            self.answer().await
        };
        // Dropping either half is safe: both only ask, and a password is set by one statement.
        tokio::select! {
            proof = self.ask(proof, self.spec.ready_timeout, hear) => proof.map(Some),
            answer = doubted => {
                answer?;
                Ok(probe::ask(proof, &self.cx).await.ok())
            }
        }
    }

    /// Checks what [`Self::settle`] has left for later. Returns the reason if the service is not as declared, and cannot be.
    pub(crate) async fn make_up_for_provisioning(&self) -> Result<(), String> {
        if self.runtime.known(self.spec).is_none_or(|known| known.run == self.instance.run) {
            return Ok(());
        }
        self.provision(true).await.map(drop).map_err(|evidence| {
            // The next check leaves nothing out.
            self.runtime.forget_provisioned(&self.spec.name);
            evidence.into_failure().reason
        })
    }

    /// Waits for the first answer. If the data has another superuser password than this environment, sets it
    /// over the server's own socket, which only devenv reaches.
    async fn answer(&self) -> Result<ProbeSuccess, Evidence> {
        let refused = tokio::sync::Notify::new();
        let hear = |failure: &ProbeFailure| {
            if probe::is_wrong_password(&self.probe, failure) {
                refused.notify_one();
            }
        };
        let mend = async {
            refused.notified().await;
            for declared in &self.spec.provision {
                let engine = self.runtime.engine.as_ref();
                match provision::mend_password(declared, engine, &self.instance.id, &self.runtime.vault).await {
                    Ok(changed) => changed.into_iter().for_each(|what| self.tell(NewEvent::Changed(what))),
                    Err(error) => tracing::warn!(%error, service = %self.spec.name, "Cannot set the server's password."),
                }
            }
            std::future::pending::<()>().await;
        };
        // Dropping either half is safe: the password is set by one statement.
        tokio::select! {
            answer = self.ask(&self.probe, self.spec.ready_timeout, hear) => answer,
            () = mend => unreachable!("it loops until it is ready"),
        }
    }

    /// Provisions a server that answers, and returns the readiness proof, if the service has one.
    async fn bring_about(&self) -> Result<Option<ProbeSuccess>, Evidence> {
        let known = self.was_brought_about();
        // Most likely there is nothing to do, so the readiness check runs at the same time.
        let early = async {
            match &self.spec.proof {
                Some(proof) if known => probe::ask(proof, &self.cx).await.ok(),
                _ => None,
            }
        };
        let (changed, early) = futures_util::join!(self.provision(known), early);
        let changed = changed?;
        self.tell(NewEvent::Provisioned);
        let applied = AtomicBool::new(false);
        let fresh = match &self.spec.scripts {
            Some(set) => {
                let tell = |what| {
                    applied.store(true, Ordering::Relaxed);
                    self.tell(NewEvent::Changed(what));
                };
                self.runtime.apply(set, Choice::All, self.instance, tell).await.map_err(|error| failed_script(&error))?.fresh
            }
            None => true,
        };
        if self.spec.scripts.is_some() {
            self.tell(NewEvent::Scripted);
        }
        if fresh {
            let EnvironmentRuntime { golden, project, checksums, .. } = self.runtime;
            golden.keep(self.spec, self.instance, self.provisioning(false), project, checksums).await;
        }
        Ok(match (&self.spec.proof, early) {
            (None, _) => None,
            (Some(_), Some(early)) if !changed && !applied.into_inner() => Some(early),
            (Some(proof), _) => Some(self.ask(proof, self.spec.ready_timeout.max(self.began.elapsed() + PROOF), |_| {}).await?),
        })
    }

    fn was_brought_about(&self) -> bool {
        self.runtime.known(self.spec).is_some()
    }

    /// Returns whether anything had to be changed. `again`: everything has been provisioned before.
    async fn provision(&self, again: bool) -> Result<bool, Evidence> {
        let mut changed = false;
        for provision in &self.spec.provision {
            for change in self.provide(provision, again).await? {
                changed = true;
                self.tell(NewEvent::Changed(change.what));
            }
        }
        self.runtime.note_provisioned(self.spec, self.instance);
        Ok(changed)
    }

    /// Provisions, and starts over if the server restarts within the time limit: every
    /// step may be repeated.
    async fn provide(&self, provision: &OfKind, again: bool) -> Result<Vec<Change>, Evidence> {
        loop {
            match provision::apply(provision, &self.provisioning(again)).await {
                Ok(changes) => return Ok(changes),
                Err(error @ ProvisionError::Unreachable { .. }) if self.began.elapsed() < self.spec.ready_timeout => {
                    tracing::info!(%error, service = %self.spec.name, "Provisioning starts again once the server answers.");
                    self.ask(&self.probe, self.spec.ready_timeout, |_| {}).await?;
                }
                Err(error) => {
                    let diagnosis = error.hint().map(|hint| (error.to_string(), hint));
                    return Err(Evidence { diagnosis, ..Evidence::of(format!("cannot be provisioned: {error}")) });
                }
            }
        }
    }

    fn provisioning(&self, again: bool) -> ProvisionContext {
        ProvisionContext { vault: self.runtime.vault.clone(), authority: Some(self.runtime.authority.clone()), again }
    }

    /// Probes until there is a proof, or until the limit since the start.
    async fn ask(&self, probe: &Probe, limit: Duration, hear: impl FnMut(&ProbeFailure) + Send) -> Result<ProbeSuccess, Evidence> {
        let left = limit.saturating_sub(self.began.elapsed());
        match probe::until_ready(probe, &self.cx, Schedule::until(left), hear).await {
            Ok(success) => Ok(success),
            Err(NotReady { last, .. }) => Err(Evidence {
                probes: last.into_iter().map(|(after, failure)| format!("after {after} ms: {failure}")).collect(),
                ..Evidence::of(format!("not ready within {} s", limit.as_secs_f32()))
            }),
        }
    }

    /// Runs to the end even if the receiver is gone.
    fn tell(&self, news: NewEvent) {
        let _ = self.news.send(news);
    }
}

fn failed_script(error: &ScriptError) -> Evidence {
    let hint = error.hint.clone().unwrap_or_else(|| "fix the script and run `devenv up` again: it continues with this script".to_owned());
    Evidence { diagnosis: Some((error.to_string(), hint)), ..Evidence::of("a script failed") }
}
