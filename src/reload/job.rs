//! The reaction to changed files of one service.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use devenv_engine::{Engine, ExecOutput, ExecRequest};
use devenv_logs::Logs;
use devenv_secrets::Vault;
use devenv_spec::{Hook, Reaction, ServiceName, ServiceSpec, WatchRule};
use tokio_util::sync::CancellationToken;

use super::commands::{self, Command, Ran};
use crate::{
    error::describe,
    event::NewEvent,
    reconcile::{Handle, Reload},
    runtime::{
        builds::Builds,
        hooks::{self, HookLog},
        host_processes::HostProcesses,
        versions::Versions,
        watched::upload,
    },
};

/// The most files that an event names.
const NAMED: usize = 3;
/// How long a container may take to remove files that are gone.
const REMOVING: Duration = Duration::from_secs(10);
/// For a command in a container after files are copied.
const HOOK: Duration = Duration::from_mins(10);

/// What jobs work with.
pub(crate) struct Tools {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) processes: Arc<HostProcesses>,
    pub(crate) versions: Arc<Versions>,
    pub(crate) vault: Vault,
    pub(crate) logs: Logs,
    pub(crate) builds: Arc<Builds>,
    pub(crate) project: PathBuf,
}

pub(crate) struct Job {
    pub(crate) spec: ServiceSpec,
    /// By rule.
    pub(crate) changes: BTreeMap<usize, BTreeSet<PathBuf>>,
    /// Something has changed again: a build need not continue.
    pub(crate) outdated: CancellationToken,
}

/// Why a rule was not completed.
enum Ended {
    /// It failed, which has been reported, or there is nothing to do.
    Given,
    /// Something has changed again.
    Outdated,
}

impl Tools {
    pub(crate) fn marker(&self, service: &ServiceName) -> String {
        self.processes.marker(service)
    }

    /// A path as users know it.
    pub(crate) fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.project).unwrap_or(path).display().to_string()
    }
}

/// Executes the rules, and reports the result. Returns the rules that it did not complete.
pub(crate) async fn run_job(mut job: Job, handle: &Handle, tools: &Tools) -> BTreeMap<usize, BTreeSet<PathBuf>> {
    while let Some((index, paths)) = job.changes.pop_first() {
        let Some(rule) = job.spec.watch.get(index) else { continue };
        let cause = handle.events.emit(
            NewEvent::of(&job.spec.name, "service.changed", changed_files(&paths, tools))
                .with("paths", paths.iter().map(|path| tools.shown(path)).collect::<Vec<_>>()),
        );
        let work = Work { spec: &job.spec, rule, outdated: &job.outdated, handle, tools };
        if let Err(Ended::Outdated) = work.run_job(&paths, cause).await {
            job.changes.insert(index, paths);
            return job.changes;
        }
    }
    job.changes
}

fn changed_files(paths: &BTreeSet<PathBuf>, tools: &Tools) -> String {
    let mut names: Vec<String> = paths.iter().take(NAMED).map(|path| tools.shown(path)).collect();
    if paths.len() > NAMED {
        names.push(format!("{} more", paths.len() - NAMED));
    }
    format!("{} changed", names.join(", "))
}

struct Work<'a> {
    spec: &'a ServiceSpec,
    rule: &'a WatchRule,
    outdated: &'a CancellationToken,
    handle: &'a Handle,
    tools: &'a Tools,
}

impl Work<'_> {
    async fn run_job(&self, paths: &BTreeSet<PathBuf>, mut cause: u64) -> Result<(), Ended> {
        if let Some(build) = &self.rule.build {
            cause = self.run(build, "build", cause).await?;
        }
        let how = match &self.rule.reaction {
            Reaction::Restart => Reload::Restart,
            Reaction::Swap => Reload::Swap,
            Reaction::Signal(signal) => Reload::Signal(signal.clone()),
            Reaction::Run(command) => {
                self.run(command, "run", cause).await?;
                return Ok(());
            }
            Reaction::Sync { signal, exec, .. } => {
                let container = self.sync(paths, cause).await?;
                if let Some(hook) = exec {
                    self.exec(&container, hook, cause).await?;
                }
                match (signal, exec) {
                    (Some(signal), _) => Reload::Signal(signal.clone()),
                    (None, None) => Reload::Restart,
                    (None, Some(_)) => return Ok(()),
                }
            }
            Reaction::Rebuild => {
                let (built, content) = self.rebuild(cause).await?;
                cause = built;
                Reload::Replace(Some(content))
            }
        };
        // An environment that is not up any more has nothing to reload.
        self.handle.reload(self.spec.name.clone(), how, cause).await.map(drop).map_err(|_| Ended::Given)
    }

    /// Runs a command of the rule. Returns the event of its success.
    async fn run(&self, words: &[String], what: &'static str, cause: u64) -> Result<u64, Ended> {
        let name = &self.spec.name;
        let run = self.tools.processes.last_run(name);
        let log = match self.tools.logs.writer(name.as_str()) {
            Ok(log) => log,
            Err(error) => return Err(self.failed(what, words, &format!("cannot write its log: {error}"), Vec::new(), cause)),
        };
        let variables = match self.tools.processes.variables(self.spec, run, &self.tools.vault) {
            Ok(variables) => variables,
            Err(error) => return Err(self.failed(what, words, &format!("cannot be started: {}", describe(&error)), Vec::new(), cause)),
        };
        let command = Command {
            words,
            directory: &self.rule.directory,
            variables,
            marker: format!("{}{what}-{cause}", self.tools.marker(name)),
            log,
            run,
        };
        let began = Instant::now();
        match commands::run(command, self.outdated).await {
            Ran::Well => {
                let (kind, took) = (if what == "build" { "service.built" } else { "service.ran" }, began.elapsed().as_millis() as u64);
                let news = NewEvent::of(name, kind, format!("`{}` took {took} ms", words.join(" "))).with("duration_ms", took);
                Ok(self.handle.events.emit(news.because(Some(cause))))
            }
            Ran::Badly { how, lines } => Err(self.failed(what, words, &how, lines, cause)),
            Ran::Cancelled => Err(Ended::Outdated),
        }
    }

    fn failed(&self, what: &str, words: &[String], how: &str, lines: Vec<String>, cause: u64) -> Ended {
        let name = &self.spec.name;
        let (kind, consequence) = if what == "build" {
            ("service.build-failed", format!("; the current version of {name} keeps running"))
        } else {
            ("service.run-failed", String::new())
        };
        let output: Vec<String> = lines.iter().map(|line| self.tools.vault.redact(line)).collect();
        let message = format!("`{}` {how}{consequence}", words.join(" "));
        self.handle.events.emit(NewEvent::of(name, kind, message).with("output", output).because(Some(cause)));
        Ended::Given
    }

    /// Runs a command in the container, with its output in the service's log.
    async fn exec(&self, container: &str, hook: &Hook, cause: u64) -> Result<(), Ended> {
        let name = &self.spec.name;
        let began = Instant::now();
        let log = HookLog { logs: &self.tools.logs, service: name, run: self.tools.processes.last_run(name) };
        // Dropping it lets the command in the container run on.
        let ran = tokio::select! {
            ran = hooks::run(self.tools.engine.as_ref(), container, hook, HOOK, &log) => ran,
            () = self.outdated.cancelled() => return Err(Ended::Outdated),
        };
        match ran {
            Ok(()) => {
                let message = format!("`{}` in {name} took {} ms", hook.shown(), began.elapsed().as_millis());
                self.handle.events.emit(NewEvent::of(name, "service.ran", message).because(Some(cause)));
                Ok(())
            }
            Err(failed) => Err(self.failed("run", &hook.command, &format!("{} in the container", failed.how), failed.lines, cause)),
        }
    }

    /// Copies what changed into the container, and removes there what is gone. The container's id.
    async fn sync(&self, paths: &BTreeSet<PathBuf>, cause: u64) -> Result<String, Ended> {
        let name = &self.spec.name;
        let status = self.handle.status();
        let Some(container) =
            status.services.iter().find(|service| service.name == name.as_str()).and_then(|service| service.container.clone())
        else {
            // There is no container yet; it gets all files when it starts.
            return Err(Ended::Given);
        };
        let (rule, all) = (self.rule.clone(), paths.clone());
        let read = move || {
            let files = all.iter().filter_map(|path| upload(&rule, path).transpose()).collect::<Result<Vec<_>, _>>()?;
            let gone: Vec<String> = all.iter().filter(|path| !path.exists()).filter_map(|path| rule.target(path)).collect();
            Ok::<_, String>((files, gone))
        };
        let read = devenv_files::read_in_time(paths.first().cloned().into_iter().collect(), read).await;
        let copied = async {
            let (files, gone) = read.map_err(|error| error.to_string())??;
            self.tools.engine.upload(&container, &files).await.map_err(|error| error.to_string())?;
            if !gone.is_empty() {
                let command = ["rm", "-rf", "--"].into_iter().map(ToOwned::to_owned).chain(gone.clone()).collect();
                let request = ExecRequest { command, user: Some("0".to_owned()), deadline: Some(REMOVING), ..ExecRequest::default() };
                let output = self.tools.engine.exec(&container, request).await.map_err(|error| error.to_string())?;
                removal(&output)?;
            }
            Ok::<_, String>((files.len(), gone.len()))
        };
        match copied.await {
            Ok((copied, removed)) => {
                let message = format!("copied {copied} files into {name}, removed {removed}");
                self.handle.events.emit(NewEvent::of(name, "service.synced", message).because(Some(cause)));
                Ok(container)
            }
            Err(error) => {
                self.handle.events.emit(
                    NewEvent::of(name, "service.sync-failed", format!("cannot copy files into {name}: {error}")).because(Some(cause)),
                );
                Err(Ended::Given)
            }
        }
    }

    /// Builds the service's image, with the output in its log. Returns the event of its success, and the fingerprint of the image's files.
    async fn rebuild(&self, cause: u64) -> Result<(u64, String), Ended> {
        let name = &self.spec.name;
        let Some(build) = self.spec.build() else { return Err(Ended::Given) };
        let words = ["docker".to_owned(), "build".to_owned(), build.context.display().to_string()];
        let began = Instant::now();
        let variables = self.tools.processes.inherited.current();
        let run = self.tools.processes.last_run(name);
        // Dropping the build half way ends it.
        let built = tokio::select! {
            built = self.tools.builds.build(self.spec, build, false, &variables.0, run, |_| {}) => built,
            () = self.outdated.cancelled() => return Err(Ended::Outdated),
        };
        match built {
            Ok(content) => {
                let message = format!("built the image of {name} in {} ms", began.elapsed().as_millis());
                Ok((self.handle.events.emit(NewEvent::of(name, "service.built", message).because(Some(cause))), content))
            }
            Err(evidence) => {
                let lines = evidence.lines.clone();
                Err(self.failed("build", &words, &format!("failed: {}", evidence.into_failure().reason), lines, cause))
            }
        }
    }
}

/// Whether `rm` has removed the files; otherwise the reason.
fn removal(output: &ExecOutput) -> Result<(), String> {
    if output.code == 0 {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("cannot remove deleted files there: `rm` exited with code {}: {said}", output.code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_stay_in_a_container_are_no_success() {
        let output = |code, stderr: &'static str| ExecOutput { code, stdout: "".into(), stderr: stderr.into() };
        assert_eq!(removal(&output(0, "")), Ok(()));
        let error = removal(&output(1, "rm: cannot remove '/app/a': Read-only file system\n")).unwrap_err();
        assert_eq!(error, "cannot remove deleted files there: `rm` exited with code 1: rm: cannot remove '/app/a': Read-only file system");
    }
}
