//! Reads segments: one service from a position on, and several merged by time.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use devenv_api::LogLine;

use super::{
    Query,
    record::{Record, StoredTime},
    segment,
};

const CHUNK: usize = 64 * 1024;

/// A position in one service's log, from which records are read in order.
#[derive(Debug)]
pub(super) struct Cursor {
    directory: PathBuf,
    pub(super) service: String,
    number: u64,
    file: Option<File>,
    /// Read from `file` and not returned yet, from `start` on.
    buffer: Vec<u8>,
    start: usize,
    /// Where in `file` the buffer ends.
    offset: u64,
    /// Reading stops at the end of the log as it was when opened.
    end: Option<(u64, u64)>,
    /// The next record to return.
    ahead: Option<Record>,
    /// The last read found nothing more. Asking the disk again for every line of the other services would be slow.
    at_end: bool,
}

impl Cursor {
    /// Starts at the first segment that may hold lines of `since` or later, and reads up to the current end of the log.
    pub(super) fn open(directory: &Path, service: &str, since: Option<&StoredTime>) -> io::Result<Self> {
        let numbers = segment::numbers(directory, service)?;
        let mut first = numbers.first().copied().unwrap_or(1);
        if let Some(since) = since {
            for number in &numbers {
                if first_time(&segment::path(directory, service, *number))?.is_some_and(|time| time < *since) {
                    first = *number;
                }
            }
        }
        let last = numbers.last().copied().unwrap_or(1);
        let length = std::fs::metadata(segment::path(directory, service, last)).map_or(0, |data| data.len());
        Ok(Self {
            directory: directory.to_owned(),
            service: service.to_owned(),
            number: first,
            file: None,
            buffer: Vec::new(),
            start: 0,
            offset: 0,
            end: Some((last, length)),
            ahead: None,
            at_end: false,
        })
    }

    /// Reads on past the end that was found when the log was opened.
    pub(super) fn unbind(&mut self) {
        self.end = None;
    }

    fn peek(&mut self) -> io::Result<Option<&Record>> {
        if self.ahead.is_none() && !self.at_end {
            self.ahead = self.read()?;
            self.at_end = self.ahead.is_none();
        }
        Ok(self.ahead.as_ref())
    }

    fn read(&mut self) -> io::Result<Option<Record>> {
        loop {
            while let Some(length) = self.buffer[self.start..].iter().position(|byte| *byte == b'\n') {
                let line = &self.buffer[self.start..self.start + length];
                let record = Record::parse(line);
                self.start += length + 1;
                if record.is_some() {
                    return Ok(record);
                }
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// More bytes, from this segment or the next. False at the end.
    fn fill(&mut self) -> io::Result<bool> {
        loop {
            // A newer segment that exists before this one is read to its end proves that this one is complete.
            let next = self.next_number()?;
            if self.read_chunk()? {
                return Ok(true);
            }
            if self.end.is_some_and(|end| self.number >= end.0) {
                return Ok(false);
            }
            let Some(next) = next else { return Ok(false) };
            self.number = next;
            self.file = None;
            self.offset = 0;
            self.buffer.clear();
        }
    }

    fn next_number(&self) -> io::Result<Option<u64>> {
        if segment::path(&self.directory, &self.service, self.number + 1).exists() {
            return Ok(Some(self.number + 1));
        }
        // A rotation removed it while a slow reader was behind, or the numbers do not start at 1.
        if !segment::path(&self.directory, &self.service, self.number).exists() {
            return Ok(segment::numbers(&self.directory, &self.service)?.into_iter().find(|number| *number > self.number));
        }
        Ok(None)
    }

    fn read_chunk(&mut self) -> io::Result<bool> {
        if self.file.is_none() {
            match File::open(segment::path(&self.directory, &self.service, self.number)) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        let mut wanted = CHUNK;
        if let Some((last, length)) = self.end
            && self.number == last
        {
            wanted = wanted.min(length.saturating_sub(self.offset) as usize);
        }
        let Some(file) = &mut self.file else { return Ok(false) };
        let before = self.buffer.len();
        self.buffer.resize(before + wanted, 0);
        let count = file.read(&mut self.buffer[before..])?;
        self.buffer.truncate(before + count);
        self.offset += count as u64;
        Ok(count > 0)
    }
}

fn first_time(path: &Path) -> io::Result<Option<StoredTime>> {
    let mut start = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(4096).read_to_end(&mut start)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(start.split(|byte| *byte == b'\n').find_map(Record::parse).map(|record| record.time))
}

/// Several services' records as one sequence.
#[derive(Debug)]
pub(super) struct Merge {
    pub(super) cursors: Vec<Cursor>,
    pub(super) query: Query,
    since: Option<StoredTime>,
}

impl Merge {
    pub(super) fn open(directory: &Path, query: Query) -> io::Result<Self> {
        let since = query.since.map(StoredTime::of);
        let mut merge = Self { cursors: Vec::new(), query, since };
        merge.discover(directory)?;
        Ok(merge)
    }

    /// Adds the services whose log has appeared since.
    pub(super) fn discover(&mut self, directory: &Path) -> io::Result<Vec<usize>> {
        let names =
            if self.query.services.is_empty() { segment::services(directory)?.into_iter().collect() } else { self.query.services.clone() };
        let mut added = Vec::new();
        for name in names {
            if !self.cursors.iter().any(|cursor| cursor.service == name) {
                added.push(self.cursors.len());
                self.cursors.push(Cursor::open(directory, &name, self.since.as_ref())?);
            }
        }
        Ok(added)
    }

    /// Checks the end of the file again.
    pub(super) fn refresh(&mut self) {
        self.cursors.iter_mut().for_each(|cursor| cursor.at_end = false);
    }

    /// The next line that matches: the earliest across services, in the written order within each.
    pub(super) fn next(&mut self) -> io::Result<Option<LogLine>> {
        loop {
            let mut earliest: Option<(StoredTime, usize)> = None;
            for (index, cursor) in self.cursors.iter_mut().enumerate() {
                if let Some(record) = cursor.peek()?
                    && earliest.is_none_or(|(time, _)| record.time < time)
                {
                    earliest = Some((record.time, index));
                }
            }
            let Some((time, index)) = earliest else { return Ok(None) };
            let cursor = &mut self.cursors[index];
            let Some(record) = cursor.ahead.take() else { return Ok(None) };
            if self.since.is_some_and(|since| time < since) {
                continue;
            }
            let line = record.to_line(&cursor.service);
            if self.query.grep.as_ref().is_none_or(|grep| grep.is_match(&line.text)) {
                return Ok(Some(line));
            }
        }
    }
}

/// All lines that existed when it was opened. Reads on demand: at most a few buffers are in memory.
#[derive(Debug)]
pub struct History(Merge);

impl History {
    pub(super) fn open(directory: &Path, query: Query) -> io::Result<Self> {
        Ok(Self(Merge::open(directory, query)?))
    }
}

impl Iterator for History {
    type Item = io::Result<LogLine>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().transpose()
    }
}

/// The last records of a service, found from the end.
pub(super) fn tail(directory: &Path, service: &str, run: Option<u32>, count: usize) -> io::Result<Vec<Record>> {
    let mut found: Vec<Record> = Vec::new();
    for number in segment::numbers(directory, service)?.into_iter().rev() {
        let path = segment::path(directory, service, number);
        let length = std::fs::metadata(&path)?.len();
        let mut window = 256 * 1024;
        let here = loop {
            let here = last_records(&path, window, run)?;
            // A larger window helps only while the file has more before it and the run may have begun earlier.
            if found.len() + here.len() >= count || window >= length {
                break here;
            }
            window *= 8;
        };
        found.splice(..0, here);
        if found.len() >= count {
            found.drain(..found.len() - count);
            break;
        }
    }
    Ok(found)
}

/// The records in a file's last `window` bytes. A truncated first line is skipped.
pub(super) fn last_records(path: &Path, window: u64, run: Option<u32>) -> io::Result<Vec<Record>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let begin = length.saturating_sub(window);
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    file.take(length - begin).read_to_end(&mut bytes)?;
    let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let mut lines = bytes[..complete].split(|byte| *byte == b'\n');
    if begin > 0 {
        lines.next();
    }
    Ok(lines.filter_map(Record::parse).filter(|record| run.is_none_or(|run| run == record.run)).collect())
}
