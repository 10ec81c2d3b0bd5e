//! Carries a program's output from its pipes to the log.

use std::{
    io::{self, PipeReader, Read},
    os::fd::AsFd,
};

use devenv_api::LogStream;
use devenv_logs::{Assembler, Writer};
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, poll};

/// The capacity of a pipe: what the program writes in one go is read in one go.
const PIPE: usize = 256 * 1024;

struct Source {
    stream: LogStream,
    /// `None` once it has ended.
    pipe: Option<PipeReader>,
    lines: Assembler,
}

/// Makes a pipe whose reader never blocks and whose capacity is large, so that a program seldom waits for the log.
pub(super) fn pipe() -> io::Result<(PipeReader, io::PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    // Refused where an unprivileged user has many pipes; the default capacity works too.
    let _ = rustix::pipe::fcntl_setpipe_size(&reader, PIPE);
    rustix::io::ioctl_fionbio(&reader, true)?;
    Ok((reader, writer))
}

/// Runs until both streams have ended, or `ended` has (its writer was dropped) and nothing is left to read.
pub(super) fn pump(stdout: PipeReader, stderr: PipeReader, ended: PipeReader, mut log: Writer, run: u32) {
    let source = |stream, pipe| Source { stream, pipe: Some(pipe), lines: Assembler::default() };
    let mut sources = [source(LogStream::Stdout, stdout), source(LogStream::Stderr, stderr)];
    let mut buffer = vec![0; PIPE];
    let mut last_look = false;
    while sources.iter().any(|source| source.pipe.is_some()) && !last_look {
        last_look = wait(&sources, &ended);
        for source in &mut sources {
            while source.read(&mut buffer, &mut log, run) && last_look {}
        }
        // A failing log counts what it loses; the program must not block because of it.
        let _ = log.flush();
    }
    let now = Timestamp::now();
    for source in &mut sources {
        source.lines.finish(|line| log.push(now, run, source.stream, line));
    }
    let _ = log.flush();
}

/// Waits until there is something to read. True if all of the program's processes have ended.
fn wait(sources: &[Source], ended: &PipeReader) -> bool {
    let mut waits: Vec<PollFd<'_>> = vec![PollFd::new(ended, PollFlags::IN)];
    waits
        .extend(sources.iter().filter_map(|source| source.pipe.as_ref()).map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)));
    // An interruption only means another round.
    let _ = poll(&mut waits, None);
    !waits[0].revents().is_empty()
}

impl Source {
    /// Reads what is available, once. False if there was nothing.
    fn read(&mut self, buffer: &mut [u8], log: &mut Writer, run: u32) -> bool {
        let Some(pipe) = &mut self.pipe else { return false };
        match pipe.read(buffer) {
            Ok(0) => {
                self.pipe = None;
                false
            }
            Ok(count) => {
                let now = Timestamp::now();
                self.lines.push(&buffer[..count], |line| log.push(now, run, self.stream, line));
                true
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => false,
            Err(_) => {
                self.pipe = None;
                false
            }
        }
    }
}
