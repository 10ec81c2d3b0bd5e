//! The segment files of a service: which exist, and which may be removed.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// A segment that reaches this size is followed by a new one.
pub(super) const SEGMENT: u64 = 32 * 1024 * 1024;
/// The least number of segments that are kept.
const KEPT: usize = 8;
/// The least number of lines that are kept, however long they are.
const KEPT_LINES: usize = 100_000;
/// The most segments that are kept: a log of huge lines must not fill the disk.
const KEPT_AT_MOST: usize = 64;

pub(super) fn path(directory: &Path, service: &str, number: u64) -> PathBuf {
    directory.join(format!("{service}.{number}.log"))
}

/// The numbers of a service's segments, oldest first.
pub(super) fn numbers(directory: &Path, service: &str) -> io::Result<Vec<u64>> {
    let mut found: Vec<u64> = entries(directory)?.into_iter().filter(|(name, _)| name == service).map(|entry| entry.1).collect();
    found.sort_unstable();
    Ok(found)
}

/// The services that have a log.
pub(super) fn services(directory: &Path) -> io::Result<BTreeSet<String>> {
    Ok(entries(directory)?.into_iter().map(|entry| entry.0).collect())
}

fn entries(directory: &Path) -> io::Result<Vec<(String, u64)>> {
    let listing = match std::fs::read_dir(directory) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in listing {
        let name = entry?.file_name();
        let parts = name.to_str().and_then(|name| name.strip_suffix(".log")).and_then(|name| name.rsplit_once('.'));
        if let Some((service, number)) = parts
            && let Ok(number) = number.parse()
        {
            found.push((service.to_owned(), number));
        }
    }
    Ok(found)
}

/// Removes the oldest segments beyond the guaranteed history. Called when a new segment starts, under the lock.
pub(super) fn prune(directory: &Path, service: &str) -> io::Result<()> {
    let numbers = numbers(directory, service)?;
    let (mut kept, mut lines) = (0, 0);
    for number in numbers.into_iter().rev() {
        if kept >= KEPT_AT_MOST || (kept >= KEPT && lines >= KEPT_LINES) {
            std::fs::remove_file(path(directory, service, number))?;
            continue;
        }
        kept += 1;
        if lines < KEPT_LINES {
            lines += count_lines(&path(directory, service, number))?;
        }
    }
    Ok(())
}

fn count_lines(path: &Path) -> io::Result<usize> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 64 * 1024];
    let mut lines = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(lines);
        }
        lines += buffer[..count].split(|byte| *byte == b'\n').count() - 1;
    }
}
