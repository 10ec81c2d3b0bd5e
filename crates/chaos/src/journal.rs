//! The journal of a run: one event per line, on the disk before the announced action is taken.
//!
//! After an interrupted run it shows what was done to which service. Its events are also the report's
//! timeline.

use std::{
    cell::RefCell,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use devenv_api::Event;
use jiff::Timestamp;
use serde_json::{Value, json};

pub(crate) struct Journal<'a> {
    environment: String,
    inner: RefCell<Inner>,
    /// Called with each event as it is written.
    listener: &'a dyn Fn(&Event),
}

struct Inner {
    file: File,
    events: Vec<Event>,
    /// The first line that could not be written.
    trouble: Option<io::Error>,
}

impl<'a> Journal<'a> {
    pub(crate) fn create(path: &Path, environment: &str, listener: &'a dyn Fn(&Event)) -> io::Result<Self> {
        let file = OpenOptions::new().create_new(true).append(true).mode(0o600).open(path)?;
        Ok(Self { environment: environment.to_owned(), inner: RefCell::new(Inner { file, events: Vec::new(), trouble: None }), listener })
    }

    /// On the disk when this returns.
    pub(crate) fn write(&self, service: Option<&str>, kind: &str, message: impl Into<String>, data: Value) {
        let mut inner = self.inner.borrow_mut();
        let event = Event {
            sequence: inner.events.len() as u64 + 1,
            time: format!("{:.6}", Timestamp::now()),
            environment: self.environment.clone(),
            service: service.map(str::to_owned),
            kind: kind.to_owned(),
            message: message.into(),
            data,
        };
        let mut line = serde_json::to_vec(&event).unwrap_or_else(|_| json!({ "kind": kind }).to_string().into_bytes());
        line.push(b'\n');
        let written = inner.file.write_all(&line).and_then(|()| inner.file.sync_data());
        if let (Err(error), None) = (written, &inner.trouble) {
            inner.trouble = Some(error);
        }
        (self.listener)(&event);
        inner.events.push(event);
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.inner.borrow().events.clone()
    }

    /// Why the journal is incomplete, if it is.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.inner.borrow().trouble.as_ref().map(ToString::to_string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_a_line_and_is_passed_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.ndjson");
        let kinds_seen = RefCell::new(Vec::new());
        let listener = |event: &Event| kinds_seen.borrow_mut().push(event.kind.clone());
        let journal = Journal::create(&path, "e", &listener).unwrap();
        journal.write(None, "run.began", "it began", Value::Null);
        journal.write(Some("cache"), "fault.injecting", "one is injected", json!({ "id": "one" }));
        let text = std::fs::read_to_string(&path).unwrap();
        let events: Vec<Event> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(events, journal.events());
        assert_eq!((events[1].sequence, events[1].service.as_deref()), (2, Some("cache")));
        assert_eq!(*kinds_seen.borrow(), ["run.began", "fault.injecting"]);
        assert_eq!(journal.trouble(), None);
        // A run never writes over another run's journal.
        assert!(Journal::create(&path, "e", &listener).is_err());
    }
}
