//! The ordered event stream of one environment: stored in a file, and sent to followers.
//!
//! The environment's own task is the only writer. A reader takes history and the following events in one step, so that
//! no event is missed or repeated.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

pub(crate) use devenv_api::Event;
use devenv_api::PhaseTiming;
use devenv_spec::{EnvironmentId, ServiceName};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::broadcast;

/// A file of this size becomes the old one, and a new one is started: history is never more than two files.
const FILE_BYTES: u64 = 4 << 20;
/// The part of a file's end in which the last event is searched.
const TAIL_BYTES: u64 = 64 << 10;
/// A follower that falls further behind than this continues from the file.
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
    /// `None` once the environment is forgotten.
    file: Option<File>,
    /// Bytes in the file.
    size: u64,
    sequence: u64,
}

/// An event to be published. It becomes an [`Event`] with a number and a time.
#[derive(Debug, Clone)]
pub(crate) struct NewEvent {
    pub(crate) service: Option<ServiceName>,
    pub(crate) kind: &'static str,
    pub(crate) message: String,
    pub(crate) data: serde_json::Map<String, Value>,
}

/// The kind of the event of a call of a tool by an agent, with `agent`, `tool` and perhaps `service` as data.
pub(crate) const CALLED: &str = "agent.called";

/// An operation that an agent has asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) tool: String,
    pub(crate) agent: String,
    pub(crate) from: Timestamp,
    /// `None` while it runs.
    pub(crate) until: Option<Timestamp>,
}

impl NewEvent {
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

    /// What led to it and how long each part took.
    #[must_use]
    pub(crate) fn timed(self, phases: &[PhaseTiming]) -> Self {
        if phases.is_empty() { self } else { self.with("phases", serde_json::json!(phases)) }
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
        // A file that an older devenv let grow.
        keep_end(path, 2 * FILE_BYTES)?;
        let last = match last_event(path)? {
            Some(last) => Some(last),
            None => last_event(&former(path))?,
        };
        let mut file = open_to_append(path)?;
        if !ends_with_newline(path)? {
            // The last writer died in the middle of a line, which is not an event.
            file.write_all(b"\n")?;
        }
        let size = file.metadata()?.len();
        let sequence = last.map_or(0, |event| event.sequence);
        Ok(Self {
            shared: Arc::new(Shared {
                environment: environment.clone(),
                path: path.to_owned(),
                state: Mutex::new(Writer { file: Some(file), size, sequence }),
                sender: broadcast::channel(FOLLOWERS_LAG).0,
            }),
        })
    }

    /// Numbers, stores and publishes an event. Returns its number, by which later events refer to it as their cause.
    pub(crate) fn emit(&self, news: NewEvent) -> u64 {
        let mut writer = self.shared.state.lock().expect("no code panics while it holds this lock");
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
        if let Err(error) = writer.append(&line(&event), &self.shared.path) {
            tracing::warn!(%error, path = %self.shared.path.display(), "Cannot write an event to the event file.");
        }
        let sequence = event.sequence;
        // There may be no receiver.
        let _ = self.shared.sender.send(event);
        sequence
    }

    /// All of history, and everything after it. Blocks while it reads, without delaying writers.
    pub(crate) fn history_and_rest(&self) -> io::Result<(Vec<Event>, broadcast::Receiver<Event>)> {
        let (files, rest) = {
            let writer = self.shared.state.lock().expect("no code panics while it holds this lock");
            // Later events come through the channel, and are not read.
            let files = [opened(&former(&self.shared.path))?, opened(&self.shared.path)?.map(|(file, _)| (file, writer.size))];
            (files, self.shared.sender.subscribe())
        };
        Ok((read(files)?, rest))
    }

    /// Closes the file. Later events reach followers and are not stored.
    pub(crate) fn close(&self) {
        self.shared.state.lock().expect("no code panics while it holds this lock").file = None;
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.shared.sender.subscribe()
    }

    /// The last change of a service and what led to it, oldest first. Blocks while it reads.
    ///
    /// `asked` is what agents have asked for: an agent's call comes before the request that it led to.
    pub(crate) fn why(&self, service: &str, asked: &[Asked]) -> io::Result<Vec<Event>> {
        let (history, _) = self.history_and_rest()?;
        let find = |sequence: u64| history.iter().find(|event| event.sequence == sequence);
        let mut chain = Vec::new();
        let mut next = history.iter().rev().find(|event| event.service.as_deref() == Some(service));
        while let Some(event) = next {
            chain.push(event.clone());
            // A cause always comes before its effect, so this ends.
            next = event.data.get("cause").and_then(Value::as_u64).filter(|cause| *cause < event.sequence).and_then(find);
        }
        if let Some(call) = chain.last().and_then(|root| call_for(root, &history, asked)) {
            chain.push(call.clone());
        }
        chain.reverse();
        Ok(chain)
    }
}

/// A text in an event's data.
fn text<'a>(event: &'a Event, key: &str) -> Option<&'a str> {
    event.data.get(key).and_then(Value::as_str)
}

/// The agent's call that a request comes from.
fn call_for<'a>(request: &Event, history: &'a [Event], asked: &[Asked]) -> Option<&'a Event> {
    let mut calls = history.iter().filter(|event| event.kind == CALLED);
    if request.kind == "fault.injected" {
        // It is no operation: the call is the last one about this service, if no other fault came in between.
        let mut before = history.iter().rev().skip_while(|event| event.sequence >= request.sequence);
        let about = |event: &&Event| {
            event.service == request.service && event.kind == "fault.injected"
                || event.kind == CALLED
                    && text(event, "tool") == Some("inject_fault")
                    && text(event, "service") == request.service.as_deref()
        };
        return before.find(about).filter(|event| event.kind == CALLED);
    }
    if !request.kind.ends_with("-asked") && request.kind != "volumes.moved" {
        return None;
    }
    let at: Timestamp = request.time.parse().ok()?;
    let asked = asked.iter().find(|asked| asked.from <= at && asked.until.is_none_or(|until| at <= until))?;
    let is_its = |event: &&Event| text(event, "tool") == Some(&asked.tool) && text(event, "agent") == Some(&asked.agent);
    // The call that made the environment was recorded after it.
    let last = calls.clone().rev().filter(is_its).find(|call| call.sequence < request.sequence);
    last.or_else(|| calls.find(is_its))
}

impl Writer {
    fn append(&mut self, line: &str, path: &Path) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        if self.size >= FILE_BYTES {
            fs::rename(path, former(path))?;
            *file = open_to_append(path)?;
            self.size = 0;
        }
        file.write_all(line.as_bytes())?;
        self.size += line.len() as u64;
        Ok(())
    }
}

fn line(event: &Event) -> String {
    let mut line = serde_json::to_string(event).expect("an event serializes to JSON");
    line.push('\n');
    line
}

/// The new name of a full file.
fn former(path: &Path) -> PathBuf {
    path.with_extension("former.ndjson")
}

fn open_to_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// The file if it exists, and its size.
fn opened(path: &Path) -> io::Result<Option<(File, u64)>> {
    match File::open(path) {
        Ok(file) => {
            let size = file.metadata()?.len();
            Ok(Some((file, size)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The events in the first bytes of these files.
fn read(files: impl IntoIterator<Item = Option<(File, u64)>>) -> io::Result<Vec<Event>> {
    let mut events = Vec::new();
    for (file, size) in files.into_iter().flatten() {
        for line in BufReader::new(file.take(size)).split(b'\n') {
            if let Ok(event) = serde_json::from_slice(&line?) {
                events.push(event);
            }
        }
    }
    Ok(events)
}

/// The last event in the file. Reads the whole file only if its end is part of a single line.
fn last_event(path: &Path) -> io::Result<Option<Event>> {
    let Some((mut file, size)) = opened(path)? else { return Ok(None) };
    let tail = size.min(TAIL_BYTES);
    file.seek(SeekFrom::End(-tail.cast_signed()))?;
    if let Some(last) = read([Some((file, tail))])?.pop() {
        return Ok(Some(last));
    }
    Ok(read([opened(path)?])?.pop())
}

/// Drops the beginning of a file that is larger than `limit`, up to the end of a line.
fn keep_end(path: &Path, limit: u64) -> io::Result<()> {
    let Some((mut file, size)) = opened(path)?.filter(|(_, size)| *size > limit) else { return Ok(()) };
    file.seek(SeekFrom::Start(size - limit / 2))?;
    let mut end = Vec::new();
    file.take(limit / 2).read_to_end(&mut end)?;
    let first = end.iter().position(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    devenv_files::write_with(path, &end[first..], devenv_files::PRIVATE, devenv_files::Durability::Cached)
}

fn ends_with_newline(path: &Path) -> io::Result<bool> {
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
        let asked = log.emit(NewEvent::new("environment.asked", "up was asked for"));
        log.emit(NewEvent::of(&service, "service.started", "db was started").because(Some(asked)));
        drop(log);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"sequence\": 3, \"ti").unwrap();
        let log = EventLog::open(&id, &path).unwrap();
        assert_eq!(log.emit(NewEvent::of(&service, "service.ready", "db is ready").because(Some(2))), 3);
        let (history, _) = log.history_and_rest().unwrap();
        assert_eq!(history.iter().map(|event| event.sequence).collect::<Vec<_>>(), [1, 2, 3]);
        let why: Vec<String> = log.why("db", &[]).unwrap().into_iter().map(|event| event.kind).collect();
        assert_eq!(why, ["environment.asked", "service.started", "service.ready"]);
    }

    #[test]
    fn the_agent_that_asked_comes_before_its_request_and_before_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let log = EventLog::open(&EnvironmentId::recorded("e"), &directory.path().join("events.ndjson")).unwrap();
        let service: ServiceName = "db".parse().unwrap();
        let call = |agent: &str, tool: &str| {
            NewEvent::new(CALLED, format!("{tool}, asked by agent {agent}")).with("agent", agent).with("tool", tool)
        };
        let why = |asked: &[Asked]| -> Vec<String> { log.why("db", asked).unwrap().into_iter().map(|event| event.message).collect() };
        // Events have microseconds.
        let now = Timestamp::now() - std::time::Duration::from_secs(1);
        let hour = std::time::Duration::from_hours(1);
        let asked = |from, until| Asked { tool: "restart".to_owned(), agent: "robot".to_owned(), from, until };

        log.emit(call("robot", "restart"));
        log.emit(call("robot", "status"));
        let cause = log.emit(NewEvent::of(&service, "service.restart-asked", "restart was requested"));
        log.emit(NewEvent::of(&service, "service.ready", "db is ready").because(Some(cause)));
        assert_eq!(why(&[asked(now, None)]), ["restart, asked by agent robot", "restart was requested", "db is ready"]);
        // A person asked: the agent's operation was over, or had not begun.
        for other in [asked(now - hour, Some(now - hour)), asked(now + hour, None)] {
            assert_eq!(why(&[other]), ["restart was requested", "db is ready"]);
        }
        // Nobody asks for an exit.
        log.emit(NewEvent::of(&service, "service.ended", "db exited with code 1"));
        assert_eq!(why(&[asked(now, None)]), ["db exited with code 1"]);

        log.emit(call("robot", "inject_fault").with("service", "db"));
        log.emit(NewEvent::of(&service, "fault.injected", "paused"));
        assert_eq!(why(&[]), ["inject_fault, asked by agent robot", "paused"]);
        log.emit(NewEvent::of(&service, "fault.injected", "paused by a person"));
        assert_eq!(why(&[]), ["paused by a person"]);
    }

    #[test]
    fn a_history_that_only_grows_stays_small_on_the_disk_and_goes_on_with_its_numbers() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.ndjson");
        let log = EventLog::open(&EnvironmentId::recorded("e"), &path).unwrap();
        let long = "x".repeat(32 << 10);
        for _ in 0..500 {
            log.emit(NewEvent::new("noise", long.clone()));
        }
        let on_disk =
            |directory: &Path| -> u64 { fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum() };
        assert!(on_disk(directory.path()) <= 2 * FILE_BYTES + (64 << 10), "{}", on_disk(directory.path()));
        let (history, _) = log.history_and_rest().unwrap();
        let numbers: Vec<u64> = history.iter().map(|event| event.sequence).collect();
        assert!(
            numbers.len() > 100 && numbers.windows(2).all(|pair| pair[1] == pair[0] + 1) && numbers.last() == Some(&500),
            "{numbers:?}"
        );
        drop(log);
        let log = EventLog::open(&EnvironmentId::recorded("e"), &path).unwrap();
        assert_eq!(log.emit(NewEvent::new("noise", "")), 501);
    }

    #[test]
    fn a_file_that_an_earlier_version_let_grow_is_cut_when_it_is_opened() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.ndjson");
        let event = |sequence| Event {
            sequence,
            time: String::new(),
            environment: "e".into(),
            service: None,
            kind: "noise".into(),
            message: "x".repeat(32 << 10),
            data: Value::Null,
        };
        fs::write(&path, (1..=400).map(|sequence| line(&event(sequence))).collect::<String>()).unwrap();
        let log = EventLog::open(&EnvironmentId::recorded("e"), &path).unwrap();
        assert!(fs::metadata(&path).unwrap().len() <= FILE_BYTES);
        assert_eq!(log.emit(NewEvent::new("noise", "")), 401);
        assert!(log.history_and_rest().unwrap().0.len() > 100);
    }
}
