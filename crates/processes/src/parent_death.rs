//! Starts a command that must not outlive its parent: this wrapper asks the kernel to kill
//! it with its parent and then becomes it.

use std::{
    ffi::OsString,
    io::Write,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// The hidden argument that starts the binary as a wrapper; the parent's id and the command follow.
pub const DIE_WITH_PARENT: &str = "die-with-parent";
const FAILED: u8 = 125;
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Returns `None` unless the arguments are those of a wrapper.
pub fn main_if_asked(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    if arguments.next()? != DIE_WITH_PARENT {
        return None;
    }
    let parent = arguments.next()?.to_str()?.parse().ok().and_then(Pid::from_raw)?;
    let program = arguments.next()?;
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        tell(&format!("cannot bind the life of {} to its parent: {error}", program.display()));
        return Some(ExitCode::from(FAILED));
    }
    // The parent may have died before the kernel was asked.
    if getppid() != Some(parent) {
        return Some(ExitCode::from(FAILED));
    }
    let error = Command::new(&program).args(arguments).exec();
    tell(&format!("cannot run {}: {error}", program.display()));
    Some(ExitCode::from(if error.kind() == std::io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN }))
}

/// A closed stderr is not an error.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "error: {text}");
}
