//! Runs a command of a `watch` rule: a build, or what `run` names. Its output goes to the service's log.

use std::{collections::VecDeque, path::Path, process::Stdio, time::Duration};

use devenv_api::LogStream;
use devenv_logs::Writer;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio_util::sync::CancellationToken;

/// Number of output lines to report for a failed command.
const TOLD_LINES: usize = 40;
/// The most lines that are written to the log at a time.
const BATCH: usize = 1024;
/// A longer line is written in chunks, so that a line without an end does not fill the memory.
const LONGEST_LINE: usize = 64 << 10;
/// How long remaining processes of a command may take to close its output.
const LEFTOVERS: Duration = Duration::from_millis(500);

pub(crate) struct Command<'a> {
    pub(crate) words: &'a [String],
    pub(crate) directory: &'a Path,
    pub(crate) variables: Vec<(String, String)>,
    /// The marker of every process that it starts.
    pub(crate) marker: String,
    pub(crate) log: Writer,
    /// The start of the service during which it runs.
    pub(crate) run: u32,
}

pub(crate) enum Ran {
    Well,
    /// A short reason, and the last lines of output.
    Badly {
        how: String,
        lines: Vec<String>,
    },
    Cancelled,
}

/// The last lines of an output, however much there was of it.
#[derive(Default)]
pub(crate) struct LastLines(VecDeque<String>);

impl LastLines {
    pub(crate) fn push(&mut self, line: &[u8]) {
        if self.0.len() == TOLD_LINES {
            self.0.pop_front();
        }
        self.0.push_back(String::from_utf8_lossy(&line[..line.len().min(LONGEST_LINE)]).into_owned());
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.0.into()
    }
}

/// Returns when it has ended, or when nothing is left of it after it was cancelled.
pub(crate) async fn run(command: Command<'_>, cancelled: &CancellationToken) -> Ran {
    let Some((program, arguments)) = command.words.split_first() else { return Ran::Well };
    let mut log = command.log;
    let spawned = tokio::process::Command::new(program)
        .args(arguments)
        .current_dir(command.directory)
        .env_clear()
        .envs(command.variables)
        .env(devenv_processes::MARKER, &command.marker)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            return Ran::Badly { how: format!("cannot be started in {}: {error}", command.directory.display()), lines: Vec::new() };
        }
    };
    let mut lines =
        stream::select(lines(child.stdout.take(), LogStream::Stdout), lines(child.stderr.take(), LogStream::Stderr)).ready_chunks(BATCH);
    let mut last = LastLines::default();
    let mut note = |chunk: Vec<(LogStream, Vec<u8>)>| {
        let now = Timestamp::now();
        for (stream, line) in chunk {
            log.push(now, command.run, stream, &line);
            last.push(&line);
        }
        // A failing log counts what it loses.
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
    // The command's remaining processes have no owner.
    let _ = tokio::task::spawn_blocking(move || devenv_processes::sweep(&marker)).await;
    match status {
        None => Ran::Cancelled,
        Some(Ok(status)) if status.success() => Ran::Well,
        Some(Ok(status)) => Ran::Badly { how: format!("failed with {status}"), lines: last.into_lines() },
        Some(Err(error)) => Ran::Badly { how: format!("ended in an unknown way: {error}"), lines: last.into_lines() },
    }
}

fn lines(pipe: Option<impl AsyncRead + Unpin + Send + 'static>, from: LogStream) -> stream::BoxStream<'static, (LogStream, Vec<u8>)> {
    let Some(pipe) = pipe else { return stream::empty().boxed() };
    stream::unfold(BufReader::new(pipe), move |mut reader| async move {
        let mut line = Vec::new();
        match (&mut reader).take(LONGEST_LINE as u64).read_until(b'\n', &mut line).await {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_without_an_end_is_read_in_pieces() {
        let endless = tokio::io::repeat(b'x').take(3 * LONGEST_LINE as u64 + 5);
        let pieces: Vec<usize> = lines(Some(endless), LogStream::Stdout).map(|(_, line)| line.len()).collect().await;
        assert_eq!(pieces, [LONGEST_LINE, LONGEST_LINE, LONGEST_LINE, 5]);
    }

    #[test]
    fn only_the_last_lines_of_a_long_output_are_kept() {
        let mut last = LastLines::default();
        for number in 0..1000 {
            last.push(format!("line {number}").as_bytes());
        }
        last.push(&vec![b'x'; 10 * LONGEST_LINE]);
        let lines = last.into_lines();
        assert_eq!((lines.len(), lines[0].as_str(), lines[TOLD_LINES - 1].len()), (TOLD_LINES, "line 961", LONGEST_LINE));
    }
}
