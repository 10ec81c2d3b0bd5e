//! A command of the user's, in the service's container or in its process's directory.

use std::{path::Path, process::Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

use super::{ExecTarget, ProbeFailure, ProbeSuccess};
use devenv_engine::ExecRequest;

/// Ends the command and its children when the probe is abandoned.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended already.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

pub(super) async fn ask(command: &[String], target: &ExecTarget) -> Result<ProbeSuccess, ProbeFailure> {
    let (code, output) = match target {
        ExecTarget::Container { engine, id, environment } => {
            let request = ExecRequest { command: command.to_vec(), environment: environment.clone(), ..ExecRequest::default() };
            let output = engine.exec(id, request).await.map_err(|error| ProbeFailure::silent(error.to_string()))?;
            (output.code, [output.stdout, output.stderr].concat())
        }
        ExecTarget::Process { directory, environment } => on_host(command, directory, environment).await?,
    };
    let shown = command.join(" ");
    if code == 0 {
        return Ok(ProbeSuccess::of(format!("`{shown}` exited with 0")));
    }
    let output = String::from_utf8_lossy(&output);
    let last = output.lines().map(str::trim).rfind(|line| !line.is_empty());
    let last = last.map(|line| format!(": {line}")).unwrap_or_default();
    Err(ProbeFailure::said(format!("`{shown}` exited with {code}{last}")))
}

async fn on_host(command: &[String], directory: &Path, environment: &[(String, String)]) -> Result<(i64, Vec<u8>), ProbeFailure> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(ProbeFailure::silent("the probe's command is empty"));
    };
    let child = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| ProbeFailure::silent(format!("cannot start `{program}`: {error}")))?;
    let group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let output = child.wait_with_output().await.map_err(|error| ProbeFailure::silent(format!("cannot wait for `{program}`: {error}")))?;
    drop(group);
    let code = output.status.code().map_or(-1, i64::from);
    Ok((code, [output.stdout, output.stderr].concat()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn here() -> ExecTarget {
        ExecTarget::Process { directory: "/".into(), environment: vec![("WORD".into(), "later".into())] }
    }

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[tokio::test]
    async fn the_end_of_a_command_is_the_answer_and_its_last_line_the_reason() {
        assert_eq!(ask(&shell("true"), &here()).await.unwrap().evidence, "`sh -c true` exited with 0");
        let failure = ask(&shell("echo $WORD; exit 3"), &here()).await.unwrap_err();
        assert_eq!(failure.what, "`sh -c echo $WORD; exit 3` exited with 3: later");
        assert!(!ask(&["/no/such".to_owned()], &here()).await.unwrap_err().answered);
    }

    #[tokio::test]
    async fn giving_up_ends_the_processes_of_the_command() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let command = shell(&format!("sleep 60 & echo $! > {}.new; mv {0}.new {0}; wait", file.display()));
        let target = here();
        let asked = ask(&command, &target);
        let written = async {
            while !file.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            _ = asked => panic!("it sleeps for a minute"),
            () = written => {}
        }
        let pid = std::fs::read_to_string(&file).unwrap();
        let alive = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z "));
        let gone = async {
            while alive() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // Less than it sleeps.
        tokio::time::timeout(Duration::from_secs(40), gone).await.expect("the child ends with the question");
    }
}
