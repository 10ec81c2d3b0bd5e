//! Holds a fault in the namespaces of a container, exactly as long as this process lives.
//!
//! devenv starts it in a container of its own that joins the target's network, processes or volume. It sets the fault up,
//! prints `ready` (or `failed: …`) as its first line, and waits until its time is over. The kernel associates everything that it
//! sets up with this process: rules with a netlink socket, a device with its file, stopped threads with their tracer, a full
//! disk by an unlinked file. So the fault ends when this process does, however it ends, and nothing here cleans up.

mod ask;
mod disk;
mod expression;
mod link;
mod netlink;
mod packets;
mod proxy;
mod random;
mod relay;
mod rules;
mod suspend;
mod sys;
mod witness;

use std::{process::ExitCode, thread, time::Duration};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            println!("failed: {reason}");
            // The engine removes a container that has ended, and its output with it.
            thread::sleep(Duration::from_secs(3));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), String> {
    let (what, rest) = arguments.split_first().ok_or("no command given")?;
    let option = |name: &str| rest.iter().find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='));
    let time = match option("--ttl-ms") {
        Some(text) => Some(Duration::from_millis(text.parse().map_err(|_| format!("--ttl-ms={text} is not a number"))?)),
        None => None,
    };
    match what.as_str() {
        "network" => {
            let table = option("--table").ok_or("--table is missing")?;
            let _held = rules::hold(table, rest)?;
            wait(time);
        }
        "suspend" => {
            // The thread that seized the others traces them, so this thread waits.
            suspend::hold(option("--scope") == Some("main"), time)?;
        }
        "fill" => {
            let path = option("--path").ok_or("--path is missing")?;
            let leave = option("--leave").and_then(|text| text.parse().ok()).unwrap_or(0);
            let (_held, taken) = disk::fill(path, leave)?;
            println!("ready {taken} bytes were taken");
            rest_of(time);
        }
        "cut" => {
            disk::cut(option("--path").ok_or("--path is missing")?)?;
            println!("ready");
            thread::sleep(Duration::from_secs(3));
        }
        "mode" => {
            let path = option("--path").ok_or("--path is missing")?;
            println!("ready {}", disk::mode(path, option("--mode"))?);
            thread::sleep(Duration::from_secs(3));
        }
        "ask" => {
            let question = match (option("--to"), option("--name")) {
                (Some(to), _) => {
                    let at = to.parse().map_err(|_| format!("--to={to} is not an address"))?;
                    ask::Question::Server { at, words: bytes(option("--words").unwrap_or_default())? }
                }
                (None, Some(name)) => ask::Question::Name(name.to_owned()),
                (None, None) => return Err("--to or --name is missing".to_owned()),
            };
            let patience = option("--patience-ms").and_then(|text| text.parse().ok()).unwrap_or(1000);
            ask::until_silent(question, Duration::from_millis(patience), time.unwrap_or(Duration::MAX))?;
            // The daemon still has to read the output.
            thread::sleep(Duration::from_secs(3));
        }
        "look" => {
            println!("ready {}", netlink::tables()?.join(" "));
            thread::sleep(Duration::from_secs(3));
        }
        // For an engine on another machine: carries connections into this network.
        "relay" => relay::serve()?,
        // The free space of the disk that the engine keeps containers on.
        "disk" => {
            let (free, _) = sys::free_space("/").map_err(|error| format!("cannot query the free space: {error}"))?;
            println!("ready {free}");
        }
        // Checks that a host supports all faults.
        "probe" => println!("ready"),
        other => return Err(format!("unknown command `{other}`")),
    }
    Ok(())
}

/// Parses `0a1b`.
fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("`{text}` is not a list of bytes");
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return Err(wrong());
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| wrong())).collect()
}

/// Reports that the fault is active, and stays until its time is up.
fn wait(time: Option<Duration>) {
    println!("ready");
    rest_of(time);
}

fn rest_of(time: Option<Duration>) {
    match time {
        Some(time) => thread::sleep(time),
        None => loop {
            thread::park();
        },
    }
}
