//! What processes and their descendants use of the machine, read from `/proc` in one pass. Called for the figures of host processes.

use std::{collections::HashMap, fs, time::Duration};

use crate::tree::{after_name, ids};

/// Linux shows processor time in these on every architecture: `USER_HZ`.
const TICKS_PER_SECOND: u64 = 100;

/// The use of a process and of all processes below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Since they started, with that of children that have ended and were waited for.
    pub cpu: Duration,
    /// Bytes in memory. Pages that several of them share are counted for each.
    pub memory: u64,
}

/// The usage of each of these processes that exists. Blocks for as long as `/proc` takes.
pub fn usage(roots: &[u32]) -> HashMap<u32, Usage> {
    let mut below: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut ticks: HashMap<u32, u64> = HashMap::new();
    for (pid, parent, used) in ids().filter_map(stat) {
        below.entry(parent).or_default().push(pid);
        ticks.insert(pid, used);
    }
    let of = |root: u32| {
        let mut usage = Usage::default();
        let mut ahead = vec![root];
        while let Some(pid) = ahead.pop() {
            usage.cpu += Duration::from_millis(ticks.get(&pid)? * 1000 / TICKS_PER_SECOND);
            usage.memory += resident(pid);
            // Each process has one parent, so this ends.
            ahead.extend(below.get(&pid).into_iter().flatten());
        }
        Some((root, usage))
    };
    roots.iter().filter_map(|root| of(*root)).collect()
}

/// The process, its parent, and the ticks that it and its ended children have used.
fn stat(pid: u32) -> Option<(u32, u32, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = after_name(&text).take(15).collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    // utime, stime, cutime, cstime.
    let used = (11..15).filter_map(number).sum();
    Some((pid, u32::try_from(number(1)?).ok()?, used))
}

fn resident(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kibibytes = text.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_measured_with_those_below_it() {
        // The shell waits for a child that works until it has used a tenth of a second.
        let script = "python3 -c 'import time\nwhile time.process_time() < 0.1: pass\nprint(flush=True)\ntime.sleep(1e6)' & wait";
        let mut shell = std::process::Command::new("sh").args(["-c", script]).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(shell.stdout.take().unwrap()), &mut line).unwrap();
        let found = usage(&[shell.id(), u32::MAX]);
        for process in crate::tree::descendants(shell.id()) {
            process.kill();
        }
        shell.wait().unwrap();
        let [(pid, used)]: [(u32, Usage); 1] = found.into_iter().collect::<Vec<_>>().try_into().unwrap();
        assert_eq!(pid, shell.id());
        assert!(used.cpu >= Duration::from_millis(90) && used.memory > 1 << 20, "{used:?}");
    }
}
