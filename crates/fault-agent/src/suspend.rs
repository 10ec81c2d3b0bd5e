//! A pause that the kernel itself ends: every thread is seized and stopped, and runs on when its tracer is gone.

use std::{
    collections::HashSet,
    fs, thread,
    time::{Duration, Instant},
};

use crate::sys;

/// Threads born while the others were being stopped are found by looking again.
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

/// How many threads were stopped that were not before.
fn seize_all(only_main: bool, held: &mut HashSet<u32>) -> Result<usize, String> {
    let own = std::process::id();
    let mut found = 0;
    for process in numbers("/proc") {
        if process == own || (only_main && process != 1) {
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
