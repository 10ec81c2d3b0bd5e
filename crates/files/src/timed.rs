//! Streams of files on disks that may stop answering midway: each piece has a deadline.
//!
//! For what reads a file while it sends it somewhere, such as a script to its server: the receiver may take its time, the disk may not.

use std::{
    fs::Metadata,
    io::{self, Read},
    path::{Path, PathBuf},
    pin::Pin,
    sync::mpsc::{Receiver, RecvTimeoutError, channel, sync_channel},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    time::{Instant, Sleep},
};

use crate::{
    ReadError,
    bounded::{bounded, open_regular},
    in_time::{STALLED_AFTER, read_in_time},
};

const PIECE: u64 = 256 * 1024;

fn stalled(path: &Path, limit: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("the disk of {} has answered nothing for {} s", path.display(), limit.as_secs()))
}

/// A regular file, which a thread of its own reads: it ends when the disk answers, and nobody waits for it.
#[derive(Debug)]
pub struct TimedReader {
    path: PathBuf,
    pieces: Receiver<io::Result<Vec<u8>>>,
    piece: io::Cursor<Vec<u8>>,
    limit: Duration,
}

impl TimedReader {
    /// The reader, and what the open file is.
    pub fn open_with_metadata(path: &Path) -> Result<(Self, Metadata), ReadError> {
        Self::open_within(path, STALLED_AFTER)
    }

    pub fn open(path: &Path) -> Result<Self, ReadError> {
        Self::open_within(path, STALLED_AFTER).map(|(reader, _)| reader)
    }

    fn open_within(path: &Path, limit: Duration) -> Result<(Self, Metadata), ReadError> {
        let (found, is_open) = channel();
        let (sender, pieces) = sync_channel(2);
        let place = path.to_owned();
        let read = move || {
            let opened = open_regular(&place).and_then(|file| Ok((file.metadata()?, file)));
            let (metadata, mut file) = match opened {
                Ok(opened) => opened,
                Err(error) => return drop(found.send(Err(error))),
            };
            let size = metadata.len();
            if found.send(Ok(metadata)).is_err() {
                return;
            }
            loop {
                let mut piece = Vec::with_capacity(size.clamp(1, PIECE) as usize);
                let read = file.by_ref().take(PIECE).read_to_end(&mut piece);
                let is_end = !matches!(read, Ok(1..));
                // There is no receiver if nobody needs the rest.
                if sender.send(read.map(|_| piece)).is_err() || is_end {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("read-file".to_owned()).spawn(read)?;
        let metadata = is_open.recv_timeout(limit).map_err(|_| stalled(path, limit))??;
        Ok((Self { path: path.to_owned(), pieces, piece: io::Cursor::default(), limit }, metadata))
    }

    fn next(&self) -> io::Result<Vec<u8>> {
        match self.pieces.recv_timeout(self.limit) {
            Ok(piece) => piece,
            Err(RecvTimeoutError::Timeout) => Err(stalled(&self.path, self.limit)),
            Err(RecvTimeoutError::Disconnected) => Ok(Vec::new()),
        }
    }
}

impl Read for TimedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.position() == self.piece.get_ref().len() as u64 {
            self.piece = io::Cursor::new(self.next()?);
            crate::progressed();
        }
        self.piece.read(buffer)
    }
}

/// The content of a regular file of no more than `limit` bytes, within a time. Blocks.
pub fn read_bounded_in_time(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    let (file, metadata) = TimedReader::open_with_metadata(path)?;
    bounded(file, metadata.len(), limit)
}

/// The same as [`TimedReader`] for a task.
#[derive(Debug)]
pub struct TimedFile {
    path: PathBuf,
    file: tokio::fs::File,
    /// Set anew when a read begins to wait.
    deadline: Pin<Box<Sleep>>,
    is_waiting: bool,
    limit: Duration,
}

impl TimedFile {
    /// Opens a regular file; its size too.
    pub async fn open(path: &Path) -> io::Result<(Self, u64)> {
        let own = path.to_owned();
        let open = move || open_regular(&own).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (size, file) = read_in_time(Vec::new(), open).await??;
        Ok((Self::of(path, tokio::fs::File::from_std(file.into_file()), STALLED_AFTER), size))
    }

    fn of(path: &Path, file: tokio::fs::File, limit: Duration) -> Self {
        Self { path: path.to_owned(), file, deadline: Box::pin(tokio::time::sleep(limit)), is_waiting: false, limit }
    }
}

impl AsyncRead for TimedFile {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Poll::Ready(read) = Pin::new(&mut this.file).poll_read(cx, buffer) {
            this.is_waiting = false;
            return Poll::Ready(read);
        }
        if !this.is_waiting {
            this.is_waiting = true;
            this.deadline.as_mut().reset(Instant::now() + this.limit);
        }
        this.deadline.as_mut().poll(cx).map(|()| Err(stalled(&this.path, this.limit)))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::fd::OwnedFd};

    use tokio::io::AsyncReadExt;

    use super::*;

    #[test]
    fn a_file_is_read_to_its_end_and_what_is_no_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for size in [0, 1, PIECE as usize, PIECE as usize * 5 + 7] {
            let content: Vec<u8> = (0..size).map(|at| at as u8).collect();
            fs::write(&path, &content).unwrap();
            let mut read = Vec::new();
            TimedReader::open(&path).unwrap().read_to_end(&mut read).unwrap();
            assert_eq!(read, content);
        }
        assert!(matches!(TimedReader::open(directory.path()), Err(ReadError::NotAFile)));
        assert!(matches!(TimedReader::open(&directory.path().join("absent")), Err(ReadError::Missing)));
    }

    #[test]
    fn a_disk_that_stops_midway_fails_the_read_that_needs_it() {
        let (sender, pieces) = sync_channel(2);
        let mut reader = TimedReader { path: "/mnt/file".into(), pieces, piece: io::Cursor::default(), limit: Duration::from_millis(50) };
        sender.send(Ok(b"half".to_vec())).unwrap();
        let mut read = [0; 10];
        assert_eq!(reader.read(&mut read).unwrap(), 4);
        let error = reader.read(&mut read).unwrap_err();
        assert!(error.kind() == io::ErrorKind::TimedOut && error.to_string().contains("/mnt/file"), "{error}");
    }

    #[tokio::test]
    async fn a_task_waits_for_a_disk_only_so_long() {
        // A pipe that never ends stands for the disk.
        let (reader, mut writer) = io::pipe().unwrap();
        let file = tokio::fs::File::from_std(fs::File::from(OwnedFd::from(reader)));
        let mut timed = TimedFile::of(Path::new("/mnt/file"), file, Duration::from_millis(100));
        io::Write::write_all(&mut writer, b"half").unwrap();
        let mut read = [0; 4];
        timed.read_exact(&mut read).await.unwrap();
        let error = timed.read(&mut read).await.unwrap_err();
        assert!(error.kind() == io::ErrorKind::TimedOut && error.to_string().contains("/mnt/file"), "{error}");
        drop(writer);
    }
}
