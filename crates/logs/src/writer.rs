//! Appends records to a service's newest segment.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use devenv_api::LogStream;
use devenv_files::PRIVATE;
use jiff::Timestamp;

use super::{
    record::{self, Stamper, StoredTime},
    segment,
};

/// Appends to one service's log, beside other writers in this program and in others.
#[derive(Debug)]
pub struct Writer {
    directory: PathBuf,
    service: String,
    /// Held while a batch is written, so that only one segment grows and batches do not mix.
    lock: File,
    current: Option<(u64, File)>,
    batch: Vec<u8>,
    lines: u64,
    /// Lines that could not be written, to be reported as soon as writing works again.
    lost: u64,
    last: Option<StoredTime>,
    stamper: Stamper,
    segment: u64,
}

impl Writer {
    pub fn open(directory: &Path, service: &str) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let lock = OpenOptions::new().create(true).append(true).mode(PRIVATE).open(directory.join(format!("{service}.lock")))?;
        Ok(Self {
            directory: directory.to_owned(),
            service: service.to_owned(),
            lock,
            current: None,
            batch: Vec::new(),
            lines: 0,
            lost: 0,
            last: None,
            stamper: Stamper::default(),
            segment: segment::SEGMENT,
        })
    }

    #[cfg(test)]
    pub(super) fn with_segments_of(mut self, bytes: u64) -> Self {
        self.segment = bytes;
        self
    }

    /// Adds a line to the batch. It is on disk after [`Writer::flush`].
    pub fn push(&mut self, time: Timestamp, run: u32, stream: LogStream, text: &[u8]) {
        let stamp = self.stamper.stamp(time);
        record::write(&mut self.batch, &stamp, run, stream, text);
        self.last = Some(stamp);
        self.lines += 1;
    }

    /// Writes the batch in one piece. If that fails the batch is lost, and a line in the log says so once it can.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let result = self.locked_append();
        if result.is_err() {
            self.lost += self.lines;
            self.current = None;
        } else {
            self.lost = 0;
        }
        self.batch.clear();
        self.lines = 0;
        result
    }

    fn locked_append(&mut self) -> io::Result<()> {
        self.lock.lock()?;
        let result = self.append();
        self.lock.unlock()?;
        result
    }

    fn append(&mut self) -> io::Result<()> {
        if self.lost > 0
            && let Some(time) = self.last
        {
            let text = format!("devenv: {} lines could not be written to the log", self.lost);
            let mut noted = Vec::new();
            record::write(&mut noted, &time, 0, LogStream::Stderr, text.as_bytes());
            noted.append(&mut self.batch);
            self.batch = noted;
        }
        self.open_newest()?;
        let Some((_, file)) = &mut self.current else { return Ok(()) };
        file.write_all(&self.batch)
    }

    /// The segment to append to: another writer may have started a new one.
    fn open_newest(&mut self) -> io::Result<()> {
        let mut number = self.current.as_ref().map_or(0, |current| current.0);
        if number == 0 || segment::path(&self.directory, &self.service, number + 1).exists() {
            number = segment::numbers(&self.directory, &self.service)?.last().copied().unwrap_or(1);
        }
        if self.current.as_ref().is_none_or(|current| current.0 != number) {
            self.current = Some((number, self.opened(number)?));
        }
        let full = self.current.as_ref().is_some_and(|(_, file)| file.metadata().is_ok_and(|data| data.len() >= self.segment));
        if full {
            self.current = Some((number + 1, self.opened(number + 1)?));
            segment::prune(&self.directory, &self.service)?;
        }
        Ok(())
    }

    /// A writer that was killed may have left half a line. Ends it, so that it does not merge with the next line.
    fn opened(&self, number: u64) -> io::Result<File> {
        let path = segment::path(&self.directory, &self.service, number);
        let mut file = OpenOptions::new().create(true).read(true).append(true).mode(PRIVATE).open(path)?;
        if file.metadata()?.len() > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        Ok(file)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            tracing::warn!(service = %self.service, %error, "Cannot write the last lines of a log.");
        }
    }
}
