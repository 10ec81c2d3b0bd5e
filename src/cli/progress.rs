//! Progress of `up` and similar commands on stderr: a live line for each service on a terminal, plain lines elsewhere.
//!
//! [`ProgressUpdate::of`] decides what an event means for a line; it is pure. `live` keeps the lines of a terminal, `screen` draws
//! them, `meter` shows the progress of something with a size.

mod live;
mod meter;
mod screen;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use devenv_api::{Event, ServiceState, Status, Stream, UpMessage};

use self::live::Live;
use super::{
    failure::Failure,
    printer::{NAME, Printer, paint},
    table::{duration, state_style},
};

pub(super) use screen::above;

/// Follows a long answer to its last message.
pub(super) async fn follow(printer: &Printer, mut messages: Stream<UpMessage>) -> Result<Status, Failure> {
    let mut progress = Progress::new(printer);
    loop {
        // If this fails, `progress` is dropped, and the terminal is restored.
        match messages.message().await? {
            UpMessage::Event(event) => progress.event(&event),
            UpMessage::Progress { service, message } => progress.note(&service, &message),
            UpMessage::Done(status) => return Ok(status),
            UpMessage::Failed(error) => return Err(error.into()),
        }
    }
}

/// What an event means for a line of progress.
#[derive(Debug, PartialEq)]
struct ProgressUpdate<'a> {
    service: Option<&'a str>,
    /// If it is about a change of state.
    state: Option<ServiceState>,
    /// How long it took to get there.
    after_ms: Option<u64>,
    message: &'a str,
    /// Lines that belong to a failure.
    detail: Option<&'a str>,
}

impl<'a> ProgressUpdate<'a> {
    fn of(event: &'a Event) -> Self {
        let word = event.data.get("state").and_then(serde_json::Value::as_str).or_else(|| event.kind.strip_prefix("service."));
        let state = word.and_then(|word| serde_json::from_value(word.into()).ok());
        let number = |key| event.data.get(key).and_then(serde_json::Value::as_u64);
        Self {
            service: event.service.as_deref(),
            state,
            after_ms: number("ready_after_ms"),
            message: &event.message,
            detail: event.data.get("detail").and_then(serde_json::Value::as_str),
        }
    }

    /// `db ready 812 ms`.
    fn line(&self) -> String {
        let Some(service) = self.service else { return self.message.to_owned() };
        let (service, message) = (paint(NAME, service), self.message_without_name());
        let Some(state) = self.state else { return format!("{service} {message}") };
        let word = paint(state_style(state), state);
        match (state, self.after_ms) {
            (ServiceState::Ready | ServiceState::Completed, Some(after)) => format!("{service} {word} {}", duration(after)),
            // The message says why, and the detail is the service's own output.
            (ServiceState::Unhealthy | ServiceState::Unreachable | ServiceState::CrashLoop | ServiceState::Failed, _) => {
                let said = self.detail.unwrap_or_default().lines();
                said.fold(format!("{service} {word}: {message}"), |text, line| text + "\n    " + line)
            }
            _ => format!("{service} {word}"),
        }
    }

    /// Messages are complete sentences that begin with the service's name, which the line has already.
    fn message_without_name(&self) -> &'a str {
        let rest = self.service.and_then(|service| self.message.strip_prefix(service));
        match rest.and_then(|rest| rest.strip_prefix([':', ' '])) {
            Some(rest) => rest.trim_start(),
            None => self.message,
        }
    }
}

/// Shows what happens while a command waits.
pub(super) enum Progress<'a> {
    Live(Live),
    Lines(Lines<'a>),
    Silent,
}

impl<'a> Progress<'a> {
    pub(super) fn new(printer: &'a Printer) -> Self {
        match (printer.quiet(), Printer::talks_to_terminal()) {
            (true, _) => Self::Silent,
            (false, true) => Self::Live(Live::new()),
            (false, false) => Self::Lines(Lines { printer, reported: HashMap::new(), noted: HashMap::new() }),
        }
    }

    pub(super) fn event(&mut self, event: &Event) {
        match self {
            Self::Live(live) => live.event(&ProgressUpdate::of(event)),
            Self::Lines(lines) => lines.event(&ProgressUpdate::of(event)),
            Self::Silent => {}
        }
    }

    /// Progress of the whole command, such as what it waits for.
    pub(super) fn message(&mut self, message: &str) {
        match self {
            Self::Live(live) => live.message(message),
            Self::Lines(lines) => lines.message(message),
            Self::Silent => {}
        }
    }

    /// Whether it shows a line a service, for which [`Progress::services`] is worth a question.
    pub(super) fn is_live(&self) -> bool {
        matches!(self, Self::Live(_))
    }

    /// All services of the environment, before anything happens to them.
    pub(super) fn services(&mut self, status: &Status) {
        if let Self::Live(live) = self {
            live.services(status);
        }
    }

    /// Progress that is no event, such as bytes pulled so far.
    pub(super) fn note(&mut self, service: &str, message: &str) {
        match self {
            Self::Live(live) => live.note(service, message),
            Self::Lines(lines) => lines.note(service, message),
            Self::Silent => {}
        }
    }
}

/// Plain lines, without consecutive repetitions for a service.
pub(super) struct Lines<'a> {
    printer: &'a Printer,
    reported: HashMap<String, String>,
    noted: HashMap<String, Instant>,
}

/// Notes arrive many times a second; a log needs only a few.
const NOTE_EVERY: Duration = Duration::from_secs(5);

impl Lines<'_> {
    fn event(&mut self, news: &ProgressUpdate<'_>) {
        let line = news.line();
        let service = news.service.unwrap_or_default();
        if self.reported.get(service) != Some(&line) {
            self.printer.say(&line);
            self.reported.insert(service.to_owned(), line);
        }
    }

    /// What has a size comes many times a second, like a note.
    fn message(&mut self, message: &str) {
        let is_due = meter::Meter::of(message, None).is_none_or(|_| self.noted.get("").is_none_or(|last| last.elapsed() >= NOTE_EVERY));
        if is_due {
            self.noted.insert(String::new(), Instant::now());
            self.printer.say(message);
        }
    }

    fn note(&mut self, service: &str, message: &str) {
        let last = self.noted.get(service);
        if last.is_none_or(|last| last.elapsed() >= NOTE_EVERY) {
            self.noted.insert(service.to_owned(), Instant::now());
            self.printer.say(format_args!("{} {message}", paint(NAME, service)));
        }
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(service: Option<&str>, kind: &str, message: &str, data: serde_json::Value) -> Event {
        Event {
            sequence: 1,
            time: String::new(),
            environment: "e".to_owned(),
            service: service.map(str::to_owned),
            kind: kind.to_owned(),
            message: message.to_owned(),
            data,
        }
    }

    #[test]
    fn events_are_printed_as_lines_with_their_main_facts() {
        let cases = [
            (event(Some("db"), "service.ready", "it is ready", serde_json::json!({ "ready_after_ms": 812 })), "db ready 812 ms"),
            (event(Some("db"), "service.state", "x", serde_json::json!({ "state": "pulling" })), "db pulling"),
            (
                event(Some("db"), "service.crash-loop", "db: ended with 1", serde_json::json!({ "detail": "FATAL: x\ny" })),
                "db crash-loop: ended with 1\n    FATAL: x\n    y",
            ),
            (event(Some("db"), "service.created", "db was created", serde_json::Value::Null), "db was created"),
            (event(Some("db"), "script.applied", "dbase.sql was applied", serde_json::Value::Null), "db dbase.sql was applied"),
            (event(None, "network.created", "the network was created", serde_json::Value::Null), "the network was created"),
        ];
        for (event, expected) in cases {
            assert_eq!(anstream::adapter::strip_str(&ProgressUpdate::of(&event).line()).to_string(), expected);
        }
    }
}
