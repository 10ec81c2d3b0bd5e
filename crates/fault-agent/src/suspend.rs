//! A pause that the kernel itself ends: every thread is seized and stopped, and continues when its tracer is gone.

use std::{
    collections::HashSet,
    fs, thread,
    time::{Duration, Instant},
};

use crate::sys;

/// Threads that start while the others are being stopped are found by another look.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub fn hold(only_main: bool, time: Option<Duration>) -> Result<(), String> {
    let began = Instant::now();
    let mut held = HashSet::new();
    loop {
        let found = seize_all(only_main, &mut held)?;
        if found == 0 {
            break;
        }
    }
    if held.is_empty() {
        return Err("no process to stop".to_owned());
    }
    println!("ready {}", held.len());
    while time.is_none_or(|time| began.elapsed() < time) {
        thread::sleep(LOOK_AGAIN);
        // Forget threads that died in the meantime, stop new ones.
        sys::reap();
        if !only_main {
            // An error here means that the thread has just ended.
            let _ = seize_all(false, &mut held);
        }
    }
    Ok(())
}

/// The number of threads that were newly stopped.
fn seize_all(only_main: bool, held: &mut HashSet<u32>) -> Result<usize, String> {
    let own = std::process::id();
    let main = if only_main { main_process() } else { 1 };
    let mut found = 0;
    for process in numbers("/proc") {
        if process == own || (only_main && process != main) {
            continue;
        }
        for task in numbers(&format!("/proc/{process}/task")) {
            if held.contains(&task) {
                continue;
            }
            match sys::seize(task) {
                Ok(()) => {
                    held.insert(task);
                    found += 1;
                }
                // It has ended.
                Err(error) if error.raw_os_error() == Some(3) => {}
                // A zombie cannot be seized and need not be.
                Err(_) if ended(process, task) => {}
                Err(error) => return Err(format!("the kernel does not allow stopping processes ({error})")),
            }
        }
    }
    Ok(found)
}

/// The first process, or the first child of an init that only precedes the program.
fn main_process() -> u32 {
    let name = fs::read_to_string("/proc/1/comm").unwrap_or_default();
    if !is_init(name.trim()) {
        return 1;
    }
    let parent = |process: u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        parent_in(&stat)
    };
    numbers("/proc").into_iter().filter(|process| parent(*process) == Some(1)).min().unwrap_or(1)
}

/// The inits that engines and images start before a program.
fn is_init(name: &str) -> bool {
    matches!(name, "docker-init" | "tini" | "tini-static" | "dumb-init" | "catatonit" | "podman-init")
}

/// The fourth field, after a name that may hold anything.
fn parent_in(stat: &str) -> Option<u32> {
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

fn numbers(directory: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn ended(process: u32, task: u32) -> bool {
    match fs::read_to_string(format!("/proc/{process}/task/{task}/stat")) {
        Ok(stat) => stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_init_is_not_the_program_that_it_stands_before() {
        assert!(is_init("docker-init") && is_init("tini") && !is_init("postgres"));
        assert_eq!(parent_in("7 (a) b) S 1 7 7 0 -1"), Some(1));
        assert_eq!(parent_in("cut off"), None);
    }
}
