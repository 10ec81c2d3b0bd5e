//! Runs a command that a `watch` rule names: a build, or what `run` says. Its output goes to the service's log.

use std::{collections::VecDeque, path::Path, process::Stdio, time::Duration};

use devenv_api::LogStream;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio_util::sync::CancellationToken;

use crate::{log::Writer, process};

/// Lines that are told of a command that failed.
const TOLD_LINES: usize = 40;
/// Lines that are written to the log in one piece at most.
const BATCH: usize = 1024;
/// For what a command left running to close its output.
const LEFTOVERS: Duration = Duration::from_millis(500);

pub(super) struct Command<'a> {
    pub(super) words: &'a [String],
    pub(super) directory: &'a Path,
    pub(super) variables: Vec<(String, String)>,
    /// By which all that it starts is known.
    pub(super) marker: String,
    pub(super) log: Writer,
    /// The start of the service during which it runs.
    pub(super) run: u32,
}

pub(super) enum Ran {
    Well,
    /// In a few words, and its last lines.
    Badly {
        how: String,
        lines: Vec<String>,
    },
    Cancelled,
}

/// Returns when it has ended, or nothing is left of it after it was cancelled.
pub(super) async fn run(command: Command<'_>, cancelled: &CancellationToken) -> Ran {
    let Some((program, arguments)) = command.words.split_first() else { return Ran::Well };
    let mut log = command.log;
    let spawned = tokio::process::Command::new(program)
        .args(arguments)
        .current_dir(command.directory)
        .env_clear()
        .envs(command.variables)
        .env(process::MARKER, &command.marker)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            return Ran::Badly { how: format!("could not be started in {}: {error}", command.directory.display()), lines: Vec::new() };
        }
    };
    let mut lines =
        stream::select(lines(child.stdout.take(), LogStream::Stdout), lines(child.stderr.take(), LogStream::Stderr)).ready_chunks(BATCH);
    let mut last: VecDeque<String> = VecDeque::new();
    let mut note = |chunk: Vec<(LogStream, Vec<u8>)>| {
        let now = Timestamp::now();
        for (stream, line) in chunk {
            log.push(now, command.run, stream, &line);
            if last.len() == TOLD_LINES {
                last.pop_front();
            }
            last.push_back(String::from_utf8_lossy(&line).into_owned());
        }
        // A log that cannot be written counts what it loses.
        let _ = log.flush();
    };
    let ended = async {
        loop {
            // Both branches are cancel-safe: a stream's next item, and the wait for a child.
            tokio::select! {
                Some(chunk) = lines.next() => note(chunk),
                status = child.wait() => {
                    let rest = async {
                        while let Some(chunk) = lines.next().await {
                            note(chunk);
                        }
                    };
                    let _ = tokio::time::timeout(LEFTOVERS, rest).await;
                    return status;
                }
            }
        }
    };
    let status = tokio::select! {
        status = ended => Some(status),
        () = cancelled.cancelled() => None,
    };
    let marker = command.marker;
    // What a command leaves behind is nobody's.
    let _ = tokio::task::spawn_blocking(move || process::sweep(&marker)).await;
    match status {
        None => Ran::Cancelled,
        Some(Ok(status)) if status.success() => Ran::Well,
        Some(Ok(status)) => Ran::Badly { how: format!("failed with {status}"), lines: last.into() },
        Some(Err(error)) => Ran::Badly { how: format!("was lost: {error}"), lines: last.into() },
    }
}

fn lines(pipe: Option<impl AsyncRead + Unpin + Send + 'static>, from: LogStream) -> stream::BoxStream<'static, (LogStream, Vec<u8>)> {
    let Some(pipe) = pipe else { return stream::empty().boxed() };
    stream::unfold(BufReader::new(pipe), move |mut reader| async move {
        let mut line = Vec::new();
        match reader.read_until(b'\n', &mut line).await {
            Ok(count) if count > 0 => {
                if line.ends_with(b"\n") {
                    line.pop();
                }
                Some(((from, line), reader))
            }
            _ => None,
        }
    })
    .boxed()
}
