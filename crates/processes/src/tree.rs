//! Processes in `/proc`: a process shim's descendants, and those that carry a marker.
//!
//! A process id alone is no identity, because it is reused; with the start time it is.

use std::{
    collections::BTreeSet,
    fs,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::Path,
    str::SplitAsciiWhitespace,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal},
};
use serde::{Deserialize, Serialize};

use super::{MARKER, signal::Signal};

/// The time limit for killed processes to end; only one that hangs in the kernel takes so long.
const KILL_DEADLINE: Duration = Duration::from_secs(5);
/// How long a process may be in the middle of `execve`, where it has no environment. That takes microseconds, but a busy
/// machine may preempt it there for long. The limit is per process, and only such processes are waited for.
const EXEC_DEADLINE: Duration = Duration::from_secs(1);
/// Between two looks at processes in the middle of `execve`.
const EXEC_PAUSES: [Duration; 4] = [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(4), Duration::from_millis(15)];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// In the kernel's ticks since boot.
    pub(super) started: u64,
}

impl Process {
    pub(super) fn of(pid: u32) -> Option<Self> {
        Some(stat(pid)?.0)
    }

    /// The id of its process group; `None` if it is gone.
    pub(super) fn group(self) -> Option<u32> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        let group = after_name(&text).nth(2)?.parse().ok()?;
        (Self::of(self.pid)? == self).then_some(group)
    }

    /// Its name in the kernel: the first 15 bytes of its program's name.
    pub(super) fn name(self) -> Option<String> {
        let name = fs::read_to_string(format!("/proc/{}/comm", self.pid)).ok()?;
        (Self::of(self.pid)? == self).then(|| name.trim_end().to_owned())
    }

    /// Signals exactly this process, never a later one with the same id. False if it is gone.
    pub(super) fn signal(self, signal: Signal) -> bool {
        self.open().is_some_and(|handle| pidfd_send_signal(handle, signal.raw()).is_ok())
    }

    pub(super) fn kill(self) -> bool {
        self.signal(Signal::KILL)
    }

    fn open(self) -> Option<OwnedFd> {
        let handle = pidfd_open(Pid::from_raw(self.pid.cast_signed())?, PidfdFlags::empty()).ok()?;
        // The handle refers to the process that has the id now. It is the right one only if the start times match.
        (Self::of(self.pid)? == self).then_some(handle)
    }
}

/// A process and its parent's id, from `/proc/PID/stat`. Nothing for a zombie.
fn stat(pid: u32) -> Option<(Process, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = after_name(&text);
    if fields.next()? == "Z" {
        return None;
    }
    let parent = fields.next()?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    Some((Process { pid, started }, parent))
}

/// The fields of `/proc/PID/stat` from the state on: the name, in parentheses, may hold anything.
pub(super) fn after_name(stat: &str) -> SplitAsciiWhitespace<'_> {
    stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace()
}

pub(super) fn ids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// All processes below `ancestor`.
pub(super) fn descendants(ancestor: u32) -> Vec<Process> {
    let all: Vec<(Process, u32)> = ids().filter_map(stat).collect();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![ancestor];
    while let Some(parent) = parents.pop() {
        for (process, _) in all.iter().filter(|(process, above)| *above == parent && process.pid != parent) {
            found.push(*process);
            parents.push(process.pid);
        }
    }
    found
}

/// All processes whose marker begins with `prefix`, with the marker. Blocks while processes are in the middle of `execve`, at most
/// [`EXEC_DEADLINE`].
pub(super) fn marked(prefix: &str) -> Vec<(Process, String)> {
    let own = std::process::id();
    let mut found = Vec::new();
    let mut look = |pid: u32, before: Option<&Reading>| match variables(pid, before) {
        Variables::Are(environment) => {
            let marker = marker_of(&environment).filter(|marker| marker.starts_with(prefix));
            found.extend(marker.and_then(|marker| Some((Process::of(pid)?, marker))));
            None
        }
        Variables::None => None,
        Variables::Change(reading) => Some(reading),
    };
    let begin = |pid: u32, reading| Changing { pid, reading, deadline: Instant::now() + EXEC_DEADLINE };
    let mut changing: Vec<Changing> =
        ids().filter(|pid| *pid != own).filter_map(|pid| look(pid, None).map(|reading| begin(pid, reading))).collect();
    let mut pauses = EXEC_PAUSES.into_iter().chain(std::iter::repeat(EXEC_PAUSES[EXEC_PAUSES.len() - 1]));
    while !changing.is_empty() {
        std::thread::sleep(pauses.next().unwrap_or_default());
        changing.retain_mut(|process| match look(process.pid, Some(&process.reading)) {
            Some(reading) => {
                process.reading = reading;
                Instant::now() < process.deadline
            }
            None => false,
        });
    }
    found
}

/// A process that was in the middle of `execve` at the last look.
struct Changing {
    pid: u32,
    reading: Reading,
    deadline: Instant,
}

fn marker_of(environment: &[u8]) -> Option<String> {
    let name = format!("{MARKER}=");
    let marker = environment.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(name.as_bytes()))?;
    Some(String::from_utf8_lossy(marker).into_owned())
}

/// The environment that a process was started with.
#[derive(Debug, PartialEq, Eq)]
enum Variables {
    Are(Vec<u8>),
    /// It is gone, or belongs to another user or the kernel.
    None,
    /// It is in the middle of `execve`: there is no environment yet, or what was read belongs to the former program.
    Change(Reading),
}

/// One read of a process's environment: its place in memory, the bytes that were read, and where the program's code starts.
#[derive(Debug, PartialEq, Eq)]
struct Reading {
    /// Zero until the kernel has laid out the program. It sets the place of the environment before, first as an empty one.
    code: u64,
    from: u64,
    to: u64,
    environment: Vec<u8>,
}

/// `before` is the last read of the same process, if that was not conclusive.
fn variables(pid: u32, before: Option<&Reading>) -> Variables {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return Variables::None };
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return Variables::None };
    let mut fields = after_name(&text);
    let is_zombie = fields.next() == Some("Z");
    let mut place = |skipped| fields.nth(skipped).and_then(|field| field.parse::<u64>().ok()).unwrap_or_default();
    let (code, from, to) = (place(22), place(23), place(0));
    let reading = Reading { code, from, to, environment };
    if from == 0 && (is_zombie || fs::read_link(format!("/proc/{pid}/exe")).is_err()) {
        return Variables::None;
    }
    judge(reading, before)
}

/// Whether what was read is the process's environment. A program may have moved or shortened it, so that its length never
/// matches: if two reads agree it is accepted, unless it is empty.
fn judge(reading: Reading, before: Option<&Reading>) -> Variables {
    let matches = reading.to.saturating_sub(reading.from) == reading.environment.len() as u64;
    let settled = !reading.environment.is_empty() && before == Some(&reading);
    let is_laid_out = reading.code != 0 && reading.from != 0;
    if is_laid_out && (matches || settled) { Variables::Are(reading.environment) } else { Variables::Change(reading) }
}

/// Kills all processes whose marker begins with `prefix` and is not in `kept`, and returns how many there were. Blocks.
pub fn sweep_others(prefix: &str, kept: &[String]) -> usize {
    let others: BTreeSet<String> = marked(prefix).into_iter().map(|(_, marker)| marker).filter(|marker| !kept.contains(marker)).collect();
    others.iter().map(|marker| sweep(marker)).sum()
}

/// Kills all processes whose marker starts with `prefix` (`ENVIRONMENT/`, `ENVIRONMENT/SERVICE/` or a run's whole marker), and
/// those that they start in the meantime; returns their number when they are gone. Blocks.
pub fn sweep(prefix: &str) -> usize {
    let deadline = Instant::now() + KILL_DEADLINE;
    let mut count = 0;
    loop {
        let found = marked(prefix);
        if found.is_empty() || Instant::now() >= deadline {
            return count;
        }
        count += found.len();
        let handles: Vec<OwnedFd> = found
            .iter()
            .filter_map(|(process, _)| process.open())
            .filter(|handle| pidfd_send_signal(handle, Signal::KILL.raw()).is_ok())
            .collect();
        for handle in &handles {
            wait(handle, deadline);
        }
    }
}

/// Waits until the process is gone.
fn wait(handle: &OwnedFd, deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
    // An error means that there is nothing to wait for.
    let _ = poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&left));
}

/// The marked process that has a file open for writing now: its id and its name.
pub fn has_open_for_writing(prefix: &str, path: &Path) -> Option<(u32, String)> {
    let file = fs::metadata(path).ok()?;
    marked(prefix).into_iter().find_map(|(process, _)| {
        let pid = process.pid;
        let handles = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let writes = handles.filter_map(Result::ok).any(|handle| {
            let same = fs::metadata(handle.path()).is_ok_and(|data| (data.dev(), data.ino()) == (file.dev(), file.ino()));
            same && is_writable(pid, &handle.file_name().to_string_lossy())
        });
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        writes.then(|| (pid, name.trim_end().to_owned()))
    })
}

fn is_writable(pid: u32, handle: &str) -> bool {
    let information = fs::read_to_string(format!("/proc/{pid}/fdinfo/{handle}")).unwrap_or_default();
    let flags = information.lines().find_map(|line| line.strip_prefix("flags:"));
    flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).is_some_and(|flags| flags & 0o3 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(from: u64, to: u64, environment: &[u8]) -> Reading {
        Reading { code: 1, from, to, environment: environment.to_vec() }
    }

    #[test]
    fn a_process_without_an_environment_is_looked_at_until_it_has_one() {
        let absent = reading(0, 0, b"");
        assert_eq!(judge(reading(0, 0, b""), None), Variables::Change(reading(0, 0, b"")));
        assert_eq!(judge(reading(0, 0, b""), Some(&absent)), Variables::Change(reading(0, 0, b"")), "however often");
        assert_eq!(judge(reading(100, 104, b"A=1\0"), Some(&absent)), Variables::Are(b"A=1\0".to_vec()));
    }

    #[test]
    fn a_program_that_the_kernel_still_lays_out_is_not_taken_for_one_without_variables() {
        let unfinished = || Reading { code: 0, ..reading(100, 100, b"") };
        assert_eq!(judge(unfinished(), None), Variables::Change(unfinished()));
        assert_eq!(judge(unfinished(), Some(&unfinished())), Variables::Change(unfinished()), "however often");
        assert_eq!(judge(reading(100, 100, b""), None), Variables::Are(Vec::new()), "started with an empty environment");
    }

    #[test]
    fn an_environment_of_another_length_is_taken_when_two_looks_agree() {
        let short = || reading(100, 200, b"A=1\0");
        assert_eq!(judge(short(), None), Variables::Change(short()));
        assert_eq!(judge(short(), Some(&short())), Variables::Are(b"A=1\0".to_vec()));
        assert_eq!(judge(short(), Some(&reading(300, 400, b"A=1\0"))), Variables::Change(short()), "it became another program");
        let former = || reading(100, 200, b"");
        assert_eq!(judge(former(), Some(&former())), Variables::Change(former()), "the former program's, which is gone");
    }
}
