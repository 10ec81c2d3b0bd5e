//! Reads files that a user names: regular files only, up to a size limit.
//!
//! A named pipe would block the reader for ever, and a device could answer without end. The profile loader, the script
//! runner, scenarios, bundles and lock files read through here. It does not check the content.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    ops::{Deref, DerefMut},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::fs::OFlags;

use crate::in_time::progressed;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("does not exist")]
    Missing,
    #[error("is not a regular file")]
    NotAFile,
    #[error("is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("is not UTF-8")]
    NotText,
    #[error("cannot be read: {0}")]
    Other(#[source] io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            _ => Self::Other(error),
        }
    }
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Other(error) => error,
            ReadError::Missing => Self::new(io::ErrorKind::NotFound, error.to_string()),
            _ => Self::new(io::ErrorKind::InvalidInput, error.to_string()),
        }
    }
}

/// A regular file that reports to [`crate::read_in_time`] each piece that is read.
#[derive(Debug)]
pub struct Regular(File);

impl Regular {
    pub fn into_file(self) -> File {
        self.0
    }

    /// The content, of no more than `limit` bytes.
    pub fn bounded(self, limit: u64) -> Result<Vec<u8>, ReadError> {
        let size = self.metadata()?.len();
        bounded(self, size, limit)
    }
}

impl Deref for Regular {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl DerefMut for Regular {
    fn deref_mut(&mut self) -> &mut File {
        &mut self.0
    }
}

impl Read for Regular {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        progressed();
        Ok(count)
    }
}

impl Seek for Regular {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

/// Opens a regular file for reading, following links. Returns an error at once for everything else.
pub fn open_regular(path: &Path) -> Result<Regular, ReadError> {
    // Opening a device can have effects, so the type is checked first, and again on the open file, which may be another.
    if !fs::metadata(path)?.is_file() {
        return Err(ReadError::NotAFile);
    }
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    progressed();
    if file.metadata()?.is_file() { Ok(Regular(file)) } else { Err(ReadError::NotAFile) }
}

/// The content of a regular file of no more than `limit` bytes.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    open_regular(path)?.bounded(limit)
}

/// Reads to the end, which comes within `limit` bytes. `size` is what the file reports.
pub(crate) fn bounded(file: impl Read, size: u64, limit: u64) -> Result<Vec<u8>, ReadError> {
    // A file of the kernel's says that it is empty, and a device that it is as large as it likes.
    let mut content = Vec::with_capacity(size.min(limit).min(1 << 20) as usize);
    // One byte beyond the limit shows that there is more; the size that the file reports proves nothing.
    file.take(limit.saturating_add(1)).read_to_end(&mut content)?;
    if content.len() as u64 > limit { Err(ReadError::TooLarge { limit }) } else { Ok(content) }
}

/// The same for text.
pub fn read_text_bounded(path: &Path, limit: u64) -> Result<String, ReadError> {
    String::from_utf8(read_bounded(path, limit)?).map_err(|_| ReadError::NotText)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_devices_directories_and_large_files_are_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("zero")).unwrap();
        fs::write(at("five"), "12345").unwrap();
        for name in ["pipe", "zero", "."] {
            assert!(matches!(read_bounded(&at(name), 10), Err(ReadError::NotAFile)), "{name}");
        }
        assert!(matches!(read_bounded(&at("absent"), 10), Err(ReadError::Missing)));
        assert!(matches!(read_bounded(&at("five"), 4), Err(ReadError::TooLarge { limit: 4 })));
        assert_eq!(read_bounded(&at("five"), 5).unwrap(), b"12345");
        // It reports that it is empty, and is not.
        assert!(!read_bounded(Path::new("/proc/self/status"), 1 << 20).unwrap().is_empty());
    }
}
