//! Scenarios of chaos for the page: those that there are, the runs that are kept, and a run that is started or ended.
//!
//! A run is a process of its own, `devenv chaos run`, as in a terminal: it outlives the page and, in a scenario that kills the daemon, the
//! daemon. It allows no power of the host that a person has not allowed. Only scenarios of the project's `chaos/` and built-in ones can be
//! named, never a file.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
};

use axum::{Json, extract::State};
use devenv_api::{ApiError, EnvironmentTarget, ErrorCode, ErrorDocument, Report};
use devenv_chaos::runs::{self, RunState};
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::process::Child;

use super::Page;
use crate::{paths, server::failure::Failed};

/// The exit codes with which a run has a verdict: pass, fail, unknown, and not healed.
const VERDICTS: [i32; 4] = [0, 10, 11, 12];
/// The state directory's part in which runs are kept.
const RUNS: &str = "chaos";

/// The runs that this page has asked for and that have not ended, and how the last of each environment failed to run.
#[derive(Default)]
pub(super) struct Asked {
    of: Mutex<HashMap<EnvironmentTarget, Process>>,
}

/// A process that runs a scenario, or did.
#[derive(Debug, Clone, Serialize)]
struct Process {
    scenario: String,
    #[serde(skip)]
    pid: Option<u32>,
    is_running: bool,
    /// Why there is no verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ApiError>,
}

#[derive(Deserialize)]
pub(super) struct OfEnvironment {
    target: EnvironmentTarget,
}

#[derive(Deserialize)]
pub(super) struct RunRequest {
    target: EnvironmentTarget,
    scenario: String,
    #[serde(default)]
    seed: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct ReportRequest {
    target: EnvironmentTarget,
    run: String,
    /// With the page that `devenv chaos run --report` writes.
    #[serde(default)]
    html: bool,
}

/// One scenario, or what is wrong with its file.
#[derive(Debug, Default, Serialize)]
struct Known {
    name: String,
    built_in: bool,
    profile: Option<String>,
    description: Option<String>,
    faults: Vec<Value>,
    workloads: Vec<String>,
    checks: Vec<String>,
    deadline_ms: Option<u64>,
    problem: Option<String>,
}

pub(super) async fn scenarios(State(page): State<Arc<Page>>, Json(asked): Json<OfEnvironment>) -> Result<Json<Value>, Failed> {
    let project = page.project_of(&asked.target)?;
    let list = move |project: &Path| devenv_chaos::list(project).into_iter().map(|name| described(&name, project)).collect::<Vec<_>>();
    Ok(Json(json!({ "scenarios": in_project(project, list).await? })))
}

pub(super) async fn known_runs(State(page): State<Arc<Page>>, Json(asked): Json<OfEnvironment>) -> Result<Json<Value>, Failed> {
    page.project_of(&asked.target)?;
    let process = page.asked.get(&asked.target);
    let known = page.runs(&asked.target).await?;
    Ok(Json(json!({ "runs": known, "asked": process })))
}

pub(super) async fn report(State(page): State<Arc<Page>>, Json(asked): Json<ReportRequest>) -> Result<Json<Value>, Failed> {
    let ReportRequest { target, run, html } = asked;
    let directory = page.daemon.paths.state.join(RUNS);
    let found = blocking(move || {
        let report: Report = runs::report(&directory, &run, &target.project, &target.instance)?;
        let document = html.then(|| devenv_chaos::report::html(&report));
        Some(json!({ "report": report, "html": document }))
    });
    let unknown = || ApiError::new(ErrorCode::NotFound, "this run has no report").hint("the newest 20 runs of all environments are kept");
    Ok(Json(found.await?.ok_or_else(unknown)?))
}

pub(super) async fn run(State(page): State<Arc<Page>>, Json(asked): Json<RunRequest>) -> Result<Json<()>, Failed> {
    let RunRequest { target, scenario, seed } = asked;
    let project = page.project_of(&target)?;
    if !in_project(project, devenv_chaos::list).await?.contains(&scenario) || scenario.starts_with('-') {
        return Err(ApiError::new(ErrorCode::NotFound, format!("there is no scenario `{scenario}`")).into());
    }
    if page.runs(&target).await?.iter().any(|run| run.state == RunState::Running) || page.asked.is_running(&target) {
        return Err(ApiError::new(ErrorCode::Conflict, "another scenario is running in this environment").hint("wait, or stop it").into());
    }
    let child =
        page.start(&target, &scenario, seed).map_err(|error| ApiError::new(ErrorCode::Failed, format!("cannot run it: {error}")))?;
    page.asked.set(&target, Process { scenario: scenario.clone(), pid: child.id(), is_running: true, error: None });
    let (asked, stop) = (page.asked.clone(), page.daemon.stop.clone());
    page.daemon.environments.look_after(async move {
        // The run goes on without the daemon. Both branches are only waited for.
        let error = tokio::select! {
            error = ended(child) => error,
            () = stop.cancelled() => return,
        };
        asked.set(&target, Process { scenario, pid: None, is_running: false, error });
    });
    Ok(Json(()))
}

/// Asks a run to end, as Ctrl-C does: it undoes its faults first.
pub(super) async fn end(State(page): State<Arc<Page>>, Json(asked): Json<OfEnvironment>) -> Result<Json<()>, Failed> {
    let of_page = page.asked.get(&asked.target).and_then(|process| process.pid);
    let known = page.runs(&asked.target).await?;
    let on_disk = known.iter().find(|run| run.state == RunState::Running).map(|run| run.record.pid);
    let pid = of_page.or(on_disk).and_then(|pid| Pid::from_raw(pid.cast_signed()));
    let pid = pid.ok_or_else(|| ApiError::new(ErrorCode::NotFound, "no scenario is running in this environment"))?;
    rustix::process::kill_process(pid, Signal::TERM)
        .map_err(|error| ApiError::new(ErrorCode::Failed, format!("cannot stop the scenario: {error}")))?;
    Ok(Json(()))
}

/// The error of a run without a verdict.
async fn ended(child: Child) -> Option<ApiError> {
    let failed = |text: String| Some(ApiError::new(ErrorCode::Failed, text));
    match child.wait_with_output().await {
        Ok(output) if output.status.code().is_some_and(|code| VERDICTS.contains(&code)) => None,
        Ok(output) => match serde_json::from_slice::<ErrorDocument>(&output.stdout) {
            Ok(document) => Some(document.error),
            Err(_) => failed(format!("the scenario was not carried out: {}", output.status)),
        },
        Err(error) => failed(format!("cannot wait for the scenario: {error}")),
    }
}

impl Page {
    fn start(&self, target: &EnvironmentTarget, scenario: &str, seed: Option<u64>) -> std::io::Result<Child> {
        let paths = &self.daemon.paths;
        let mut command = tokio::process::Command::new(std::env::current_exe()?);
        command.args(["--json", "--quiet", "--allowed-powers-only", "--project", &target.project]);
        command.arg(format!("--instance={}", target.instance)).args(["chaos", "run", scenario]);
        command.args(seed.map(|seed| format!("--seed={seed}")));
        command.env(paths::STATE_DIR, &paths.state).env(paths::RUNTIME_DIR, &paths.runtime).env(paths::CONFIG_DIR, &paths.config);
        // A daemon in a terminal gets its signals alone.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
    }

    async fn runs(&self, target: &EnvironmentTarget) -> Result<Vec<runs::KnownRun>, ApiError> {
        let (directory, target) = (self.daemon.paths.state.join(RUNS), target.clone());
        blocking(move || runs::known(&directory, &target.project, &target.instance)).await
    }

    /// Only of environments that there are, and of the page's own.
    fn project_of(&self, target: &EnvironmentTarget) -> Result<PathBuf, ApiError> {
        if *target != self.target && self.daemon.environments.find(target).is_none() {
            return Err(ApiError::new(ErrorCode::NotFound, "there is no such environment"));
        }
        Ok(PathBuf::from(&target.project))
    }
}

impl Asked {
    fn get(&self, target: &EnvironmentTarget) -> Option<Process> {
        self.of.lock().expect("no code panics while it holds this lock").get(target).cloned()
    }

    fn set(&self, target: &EnvironmentTarget, process: Process) {
        self.of.lock().expect("no code panics while it holds this lock").insert(target.clone(), process);
    }

    fn is_running(&self, target: &EnvironmentTarget) -> bool {
        self.get(target).is_some_and(|process| process.is_running)
    }
}

fn described(name: &str, project: &Path) -> Known {
    let mut known = Known { name: name.to_owned(), ..Known::default() };
    let located = match devenv_chaos::find(name, project) {
        Ok(located) => located,
        Err(error) => return Known { problem: Some(format!("{error}: {}", error.hint)), ..known },
    };
    known.built_in = located.shown.starts_with("built-in/");
    known.profile = devenv_chaos::profile_of(&located.shown, &located.bytes);
    match devenv_chaos::read(&located.name, &located.shown, &located.bytes, None) {
        Ok(scenario) => {
            known.description = scenario.description;
            known.faults = scenario.timeline.iter().map(|entry| json!({ "id": entry.id, "fault": entry.fault, "on": entry.on })).collect();
            known.workloads = scenario.workloads.into_iter().map(|workload| workload.name).collect();
            known.checks = scenario.checks.into_iter().map(|check| check.name).collect();
            known.deadline_ms = u64::try_from(scenario.deadline.as_millis()).ok();
        }
        Err(report) => {
            let first = report.problems().into_iter().next();
            known.problem = Some(first.map_or_else(|| "its file is invalid".to_owned(), |problem| problem.message));
        }
    }
    known
}

/// The disk of a project may not answer.
async fn in_project<T: Send + 'static>(project: PathBuf, work: impl FnOnce(&Path) -> T + Send + 'static) -> Result<T, ApiError> {
    let read = devenv_files::read_in_time(vec![project.clone()], move || work(&project)).await;
    read.map_err(|error| ApiError::new(ErrorCode::Failed, error.to_string()))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ApiError::new(ErrorCode::Internal, format!("cannot read the runs: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_says_what_it_does_or_what_is_wrong_with_it() {
        let project = tempfile::tempdir().unwrap();
        std::fs::create_dir(project.path().join("chaos")).unwrap();
        std::fs::write(project.path().join("chaos/broken.yaml"), "timeline: 7\n").unwrap();
        let broken = described("broken", project.path());
        assert!(broken.problem.is_some() && !broken.built_in, "{broken:?}");
        let shipped = described("redis-outage", project.path());
        assert!(shipped.built_in && shipped.problem.is_none() && shipped.description.is_some(), "{shipped:?}");
        assert!(!shipped.faults.is_empty() && !shipped.checks.is_empty() && shipped.profile.is_some(), "{shipped:?}");
    }
}
