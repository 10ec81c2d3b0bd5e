//! Commands of the profile that run in a service's container: after a start, before a stop, after files are copied.
//!
//! Those after a start run once for each start, whichever daemon is there to see it: a note on disk says for which start they are
//! done. A daemon that is killed between a command and the note runs the commands again.

use std::{
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use devenv_api::LogStream;
use devenv_engine::{ContainerState, Engine, ExecRequest};
use devenv_logs::Logs;
use devenv_spec::{Hook, Hooks, ServiceName, ServiceSpec};
use jiff::Timestamp;

use crate::{
    error::describe,
    reconcile::{Evidence, Instance},
};

/// Lines of a command's output that a failure shows.
const SHOWN_LINES: usize = 30;
/// All commands before a stop may take so long together.
const BEFORE_STOP: Duration = Duration::from_mins(1);

/// Where a command's output goes.
pub(crate) struct HookLog<'a> {
    pub(crate) logs: &'a Logs,
    pub(crate) service: &'a ServiceName,
    pub(crate) run: u32,
}

/// A command that did not succeed.
pub(crate) struct Failed {
    pub(crate) how: String,
    pub(crate) lines: Vec<String>,
}

/// Runs a command to its end, and writes its output to the service's log.
pub(crate) async fn run(engine: &dyn Engine, container: &str, hook: &Hook, limit: Duration, log: &HookLog<'_>) -> Result<(), Failed> {
    let request = ExecRequest {
        command: hook.command.clone(),
        user: hook.user.clone(),
        environment: hook.environment.clone().into_iter().collect(),
        directory: hook.working_dir.clone(),
        deadline: Some(limit),
        privileged: hook.privileged,
        ..ExecRequest::default()
    };
    let output = engine.exec(container, request).await.map_err(|error| Failed { how: describe(&error), lines: Vec::new() })?;
    let mut lines = Vec::new();
    for (stream, bytes) in [(LogStream::Stdout, &output.stdout), (LogStream::Stderr, &output.stderr)] {
        lines.extend(String::from_utf8_lossy(bytes).lines().map(|line| (stream, line.to_owned())));
    }
    log.write(&lines);
    if output.code == 0 {
        return Ok(());
    }
    let last = lines.split_off(lines.len().saturating_sub(SHOWN_LINES));
    Err(Failed { how: format!("exited with code {}", output.code), lines: last.into_iter().map(|(_, line)| line).collect() })
}

impl HookLog<'_> {
    /// A log that cannot be written keeps no command from running.
    fn write(&self, lines: &[(LogStream, String)]) {
        let write = || -> io::Result<()> {
            let mut writer = self.logs.writer(self.service.as_str())?;
            for (stream, line) in lines {
                writer.push(Timestamp::now(), self.run, *stream, line.as_bytes());
            }
            writer.flush()
        };
        if let Err(error) = crate::blocking::in_place(write) {
            tracing::warn!(%error, service = %self.service, "Cannot write the output of a hook to the log.");
        }
    }
}

/// The hooks of one environment's containers.
pub(super) struct LifecycleHooks {
    /// One file for each service: the start after which its commands have run.
    notes: PathBuf,
}

impl LifecycleHooks {
    pub(super) fn new(notes: PathBuf) -> Self {
        Self { notes }
    }

    /// Runs the commands for after a start, unless they have run for this start.
    pub(super) async fn started(&self, engine: &dyn Engine, logs: &Logs, spec: &ServiceSpec, instance: &Instance) -> Result<(), Evidence> {
        let Some(hooks) = of(spec).filter(|hooks| !hooks.post_start.is_empty()) else { return Ok(()) };
        let container = engine.inspect(&instance.id).await.map_err(|error| Evidence::of(describe(&error)))?;
        let started = container.and_then(|container| container.started_at).unwrap_or_else(|| instance.run.to_string());
        let note = format!("{} {started}", instance.id);
        let path = self.notes.join(spec.name.as_str());
        if devenv_files::read_text_bounded(&path, 4096).is_ok_and(|known| known == note) {
            return Ok(());
        }
        let log = HookLog { logs, service: &spec.name, run: instance.run };
        let deadline = Instant::now() + spec.ready_timeout;
        for hook in &hooks.post_start {
            let left = deadline.saturating_duration_since(Instant::now());
            if let Err(failed) = run(engine, &instance.id, hook, left, &log).await {
                let what = format!("its `post_start` command `{}` {}", hook.shown(), failed.how);
                let said = failed.lines.last().map_or_else(|| "it printed nothing".to_owned(), |line| format!("it printed `{line}`"));
                let hint = "fix the command, or read its output with `devenv logs`, and run `devenv up` again".to_owned();
                return Err(Evidence { lines: failed.lines, diagnosis: Some((said, hint)), ..Evidence::of(what) });
            }
        }
        let write = || {
            std::fs::create_dir_all(&self.notes)?;
            devenv_files::write_with(&path, note.as_bytes(), 0o600, devenv_files::Durability::Cached)
        };
        if let Err(error) = crate::blocking::in_place(write) {
            tracing::warn!(%error, service = %spec.name, "Cannot note that the hooks of a start have run.");
        }
        Ok(())
    }

    /// Runs the commands for before a stop. A failure is written to the service's log: it keeps nothing from being stopped.
    pub(super) async fn stopping(engine: &dyn Engine, logs: &Logs, spec: &ServiceSpec, instance: &Instance) {
        let Some(hooks) = of(spec).filter(|hooks| !hooks.pre_stop.is_empty()) else { return };
        let running = |state: &ContainerState| matches!(state, ContainerState::Running { .. });
        if !engine.inspect(&instance.id).await.ok().flatten().is_some_and(|container| running(&container.state)) {
            return;
        }
        let log = HookLog { logs, service: &spec.name, run: instance.run };
        let deadline = Instant::now() + BEFORE_STOP;
        for hook in &hooks.pre_stop {
            let left = deadline.saturating_duration_since(Instant::now());
            if let Err(failed) = run(engine, &instance.id, hook, left, &log).await {
                let line = format!("devenv: the `pre_stop` command `{}` {}", hook.shown(), failed.how);
                log.write(&[(LogStream::Stderr, line)]);
                tracing::warn!(service = %spec.name, how = %failed.how, "A hook before a stop failed.");
                return;
            }
        }
    }
}

fn of(spec: &ServiceSpec) -> Option<&Hooks> {
    spec.container().map(|container| &container.options.hooks)
}
