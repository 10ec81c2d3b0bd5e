//! How a program is limited: in a control group that the process shim makes, or else in a scope of the user's systemd.
//!
//! Called by the process shim before its program starts. A limit that cannot be set is an error, never silence.

use std::{
    ffi::OsString,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{
    cgroup::{Group, Limits},
    command,
    protocol::{Launch, LaunchError},
};

/// How long systemd may take to make a scope.
const SCOPE: Duration = Duration::from_secs(5);

/// What limits a program.
#[derive(Debug)]
pub(super) enum Limited {
    Not,
    ByGroup(Group),
    ByScope(Scope),
}

/// The beginning of a command that runs the rest of it in a scope of its own.
#[derive(Debug)]
pub(super) struct Scope {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
}

impl Limited {
    /// All processes have ended: removes the group. Returns whether the kernel has killed one of them because of the memory limit.
    pub(super) fn end(&self) -> bool {
        let Self::ByGroup(group) = self else { return false };
        let out_of_memory = group.ran_out_of_memory();
        group.remove();
        out_of_memory
    }
}

/// `path` is the program's `PATH`.
pub(super) fn prepare(launch: &Launch, path: Option<&str>) -> Result<Limited, LaunchError> {
    if launch.limits == Limits::default() {
        return Ok(Limited::Not);
    }
    let reason = match Group::make(launch.limits) {
        Ok(group) => return Ok(Limited::ByGroup(group)),
        Err(reason) => reason,
    };
    match scope(launch, path) {
        Ok(scope) => Ok(Limited::ByScope(scope)),
        Err(no_scope) => Err(LaunchError::NotLimited(format!(
            "{reason}, and {no_scope}; remove `resources` from the service, run it as a `container`, or start devenv where control groups \
             are delegated to this user, such as in a systemd session"
        ))),
    }
}

/// An error says why systemd makes no scope.
fn scope(launch: &Launch, path: Option<&str>) -> Result<Scope, String> {
    let program = command::find("systemd-run", &launch.directory, path).map_err(|_| "`systemd-run` is not in its PATH".to_owned())?;
    let mut arguments: Vec<OsString> = ["--user", "--scope", "--quiet", "--collect"].map(OsString::from).into();
    for property in properties(launch.limits) {
        arguments.extend([OsString::from("-p"), property.into()]);
    }
    arguments.push("--".into());
    let tried = Command::new(&program)
        .args(&arguments)
        .arg("true")
        .current_dir(&launch.directory)
        .env_clear()
        .envs(launch.variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut tried = tried.map_err(|error| format!("`systemd-run` does not start: {error}"))?;
    let late = Instant::now() + SCOPE;
    loop {
        match tried.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(Scope { program, arguments }),
            Ok(Some(status)) => return Err(format!("`systemd-run --user --scope` fails ({status})")),
            Ok(None) if Instant::now() < late => thread::sleep(Duration::from_millis(10)),
            Ok(None) | Err(_) => {
                // It may have ended just now.
                let _ = tried.kill();
                let _ = tried.wait();
                return Err(format!("`systemd-run --user --scope` does not end within {} s", SCOPE.as_secs()));
            }
        }
    }
}

fn properties(limits: Limits) -> Vec<String> {
    let mut properties = Vec::new();
    if let Some(bytes) = limits.memory {
        properties.extend([format!("MemoryMax={bytes}"), "MemorySwapMax=0".to_owned()]);
    }
    if let Some(cpus) = limits.cpus {
        properties.push(format!("CPUQuota={}%", ((cpus * 100.0) as u64).max(1)));
    }
    properties
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::tests::write_program;

    fn launch(directory: &Path) -> Launch {
        Launch {
            marker: String::new(),
            service: "api".to_owned(),
            run: 1,
            command: Vec::new(),
            directory: directory.to_owned(),
            variables: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
            logs: directory.to_owned(),
            limits: Limits { cpus: Some(1.5), memory: Some(1 << 20) },
        }
    }

    #[test]
    fn systemd_is_asked_for_a_scope_with_the_limits_and_its_refusal_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap();
        let program = directory.path().join("systemd-run");
        let launch = launch(directory.path());
        assert_eq!(scope(&launch, Some(path)).unwrap_err(), "`systemd-run` is not in its PATH");
        write_program(&program, "#!/bin/sh\nexit 1\n");
        assert!(scope(&launch, Some(path)).unwrap_err().contains("fails"));
        write_program(&program, "#!/bin/sh\necho \"$*\" >asked\n");
        let made = scope(&launch, Some(path)).unwrap();
        assert_eq!(made.program, program);
        let asked = fs::read_to_string(directory.path().join("asked")).unwrap();
        assert_eq!(asked.trim(), "--user --scope --quiet --collect -p MemoryMax=1048576 -p MemorySwapMax=0 -p CPUQuota=150% -- true");
    }
}
