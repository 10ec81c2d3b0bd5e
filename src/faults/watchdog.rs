//! The watchdog of faults that no fault agent undoes: a process that outlives the daemon, and starts another daemon when a fault is
//! overdue and its undo log does not say that it has healed.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use jiff::Timestamp;

use super::undo_log::{Entry, Undo};

/// A running daemon has undone it by then.
const GRACE: Duration = Duration::from_secs(2);

/// Sleeps, checks, and starts a daemon, which undoes overdue faults. An undo log that is gone needs nothing.
const SCRIPT: &str = r#"sleep "$1"; [ -e "$2" ] || exit 0; grep -q '"healed_at"' "$2" || exec "$3" daemon start >/dev/null 2>&1"#;

/// `None` if the fault does not need one, or it cannot be started: then the next command undoes the fault.
pub(super) fn start(undo_log: &Path, entry: &Entry) -> Option<Child> {
    if entry.undo.iter().all(|undo| matches!(undo, Undo::Agent { .. })) {
        return None;
    }
    let left = entry.heals_at().map_or(Duration::ZERO, |end| Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or_default());
    let binary = std::env::current_exe().ok()?;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", SCRIPT, "devenv-lease"]).arg(format!("{:.3}", (left + GRACE).as_secs_f64())).arg(undo_log).arg(binary);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // A terminal's Ctrl-C must not end it.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
        .spawn()
        .inspect_err(
            |error| tracing::warn!(%error, "Cannot create the watchdog process of a fault; if this daemon does not undo it, the next command does."),
        )
        .ok()
}

/// The fault is undone: neither this watchdog nor one of an earlier daemon needs to start a daemon.
pub(super) async fn end(undo_log: &Path, watchdog: Option<Child>) {
    for group in watching(undo_log) {
        // With its `sleep`. It may have ended already.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    if let Some(mut watchdog) = watchdog {
        let _ = tokio::task::spawn_blocking(move || watchdog.wait()).await;
    }
}

/// The watchdogs of this undo log: each leads a process group.
fn watching(undo_log: &Path) -> Vec<rustix::process::Pid> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let ours = |words: &[u8]| {
        let words: Vec<&[u8]> = words.split(|byte| *byte == 0).collect();
        words.contains(&b"devenv-lease".as_slice()) && words.contains(&undo_log.as_os_str().as_encoded_bytes())
    };
    processes
        .flatten()
        .filter(|process| std::fs::read(process.path().join("cmdline")).is_ok_and(|words| ours(&words)))
        .filter_map(|process| rustix::process::Pid::from_raw(process.file_name().to_str()?.parse().ok()?))
        .collect()
}
