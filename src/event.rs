//! The ordered stream of what happened in one environment: kept in a file, told to whoever follows.
//!
//! The environment's own task is the only writer. A reader takes history and the rest of the stream in one step, so that
//! no event is missed or told twice.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

pub(crate) use devenv_api::Event;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::broadcast;

use crate::spec::{EnvironmentId, ServiceName};

/// History beyond this many bytes is dropped, oldest first, when the file is opened.
const KEPT_BYTES: u64 = 8 << 20;
/// A follower that falls further behind than this is told from the file again.
const FOLLOWERS_LAG: usize = 1024;

#[derive(Debug, Clone)]
pub(crate) struct EventLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    environment: EnvironmentId,
    path: PathBuf,
    state: Mutex<Writer>,
    sender: broadcast::Sender<Event>,
}

#[derive(Debug)]
struct Writer {
    file: File,
    sequence: u64,
}

/// What is about to be told. It becomes an [`Event`] by getting its number and time.
#[derive(Debug, Clone)]
pub(crate) struct News {
    pub(crate) service: Option<ServiceName>,
    pub(crate) kind: &'static str,
    pub(crate) message: String,
    pub(crate) data: serde_json::Map<String, Value>,
}

impl News {
    pub(crate) fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self { service: None, kind, message: message.into(), data: serde_json::Map::new() }
    }

    pub(crate) fn of(service: &ServiceName, kind: &'static str, message: impl Into<String>) -> Self {
        Self { service: Some(service.clone()), ..Self::new(kind, message) }
    }

    #[must_use]
    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.data.insert(key.to_owned(), value.into());
        self
    }

    /// The event that led to this one.
    #[must_use]
    pub(crate) fn because(self, cause: Option<u64>) -> Self {
        match cause {
            Some(sequence) => self.with("cause", sequence),
            None => self,
        }
    }
}

impl EventLog {
    pub(crate) fn open(environment: &EnvironmentId, path: &Path) -> io::Result<Self> {
        let mut kept = read(path)?;
        let size = fs::metadata(path).map_or(0, |metadata| metadata.len());
        if size > KEPT_BYTES {
            kept.drain(..kept.len() / 2);
            let text: String = kept.iter().map(line).collect();
            devenv_files::write_with(path, text.as_bytes(), devenv_files::PRIVATE, devenv_files::Durability::Cached)?;
        }
        let sequence = kept.last().map_or(0, |event| event.sequence);
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        if !ends_with_newline(path)? {
            // The last writer died in the middle of a line: what it wrote is no event.
            file.write_all(b"\n")?;
        }
        Ok(Self {
            shared: Arc::new(Shared {
                environment: environment.clone(),
                path: path.to_owned(),
                state: Mutex::new(Writer { file, sequence }),
                sender: broadcast::channel(FOLLOWERS_LAG).0,
            }),
        })
    }

    /// Numbers it, keeps it, tells it. The number is what later events name as their cause.
    pub(crate) fn emit(&self, news: News) -> u64 {
        let mut writer = self.shared.state.lock().expect("no holder of this lock panics");
        writer.sequence += 1;
        let event = Event {
            sequence: writer.sequence,
            time: format!("{:.6}", Timestamp::now()),
            environment: self.shared.environment.as_str().to_owned(),
            service: news.service.map(String::from),
            kind: news.kind.to_owned(),
            message: news.message,
            data: Value::Object(news.data),
        };
        tracing::debug!(environment = %event.environment, service = event.service, kind = event.kind, "{}", event.message);
        if let Err(error) = writer.file.write_all(line(&event).as_bytes()) {
            tracing::warn!(%error, path = %self.shared.path.display(), "An event could not be kept.");
        }
        let sequence = event.sequence;
        // Nobody listening is fine.
        let _ = self.shared.sender.send(event);
        sequence
    }

    /// All of history, and everything after it.
    pub(crate) fn history_and_rest(&self) -> io::Result<(Vec<Event>, broadcast::Receiver<Event>)> {
        let _writer = self.shared.state.lock().expect("no holder of this lock panics");
        Ok((read(&self.shared.path)?, self.shared.sender.subscribe()))
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.shared.sender.subscribe()
    }

    /// The last change of a service and what led to it, oldest first.
    pub(crate) fn why(&self, service: &str) -> io::Result<Vec<Event>> {
        let history = read(&self.shared.path)?;
        let find = |sequence: u64| history.iter().find(|event| event.sequence == sequence);
        let mut chain = Vec::new();
        let mut next = history.iter().rev().find(|event| event.service.as_deref() == Some(service));
        while let Some(event) = next {
            chain.push(event.clone());
            // A cause always comes before its effect, so this ends.
            next = event.data.get("cause").and_then(Value::as_u64).filter(|cause| *cause < event.sequence).and_then(find);
        }
        chain.reverse();
        Ok(chain)
    }
}

fn line(event: &Event) -> String {
    let mut line = serde_json::to_string(event).expect("an event is plain data");
    line.push('\n');
    line
}

fn read(path: &Path) -> io::Result<Vec<Event>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut events = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        if let Ok(event) = serde_json::from_slice(&line?) {
            events.push(event);
        }
    }
    Ok(events)
}

fn ends_with_newline(path: &Path) -> io::Result<bool> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_numbered_across_a_restart_and_a_torn_line_is_no_event() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.ndjson");
        let id = EnvironmentId::recorded("e");
        let service: ServiceName = "db".parse().unwrap();
        let log = EventLog::open(&id, &path).unwrap();
        let asked = log.emit(News::new("environment.asked", "up was asked for"));
        log.emit(News::of(&service, "service.started", "db was started").because(Some(asked)));
        drop(log);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"sequence\": 3, \"ti").unwrap();
        let log = EventLog::open(&id, &path).unwrap();
        assert_eq!(log.emit(News::of(&service, "service.ready", "db is ready").because(Some(2))), 3);
        let (history, _) = log.history_and_rest().unwrap();
        assert_eq!(history.iter().map(|event| event.sequence).collect::<Vec<_>>(), [1, 2, 3]);
        let why: Vec<String> = log.why("db").unwrap().into_iter().map(|event| event.kind).collect();
        assert_eq!(why, ["environment.asked", "service.started", "service.ready"]);
    }
}
