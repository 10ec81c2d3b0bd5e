//! What changes while the page is open: one stream of status, events and operations, and one of log lines.
//!
//! The first consists of server-sent events. Those of an environment carry its sequence numbers, so that a page that lost the connection goes on
//! after the last one it has (`Last-Event-ID`); a status is sent whenever it differs from the last. The stream outlives the environment: it waits
//! for one that does not exist (any more). Lines of logs are NDJSON. A page that reads them more slowly than services write gets the newest
//! lines, and a count of those that were left out.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use devenv_api::{ApiError, EnvironmentTarget, ErrorCode, Event, LogLine, Operation};
use devenv_logs::{Follower, Query};
use futures_util::{StreamExt, future::BoxFuture, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{
    sync::{Notify, broadcast, broadcast::error::RecvError, watch},
    time::sleep,
};
use tokio_util::task::AbortOnDropHandle;

use super::Page;
use crate::{blocking, environment::Environment, reconcile::View, server::failure::Failed};

/// Of the history that a page gets when it is opened.
const FIRST_EVENTS: usize = 1000;
/// Between two looks for an environment that does not exist.
const LOOK: Duration = Duration::from_millis(400);
/// So that both sides notice a connection that is gone.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// What happens together is sent together.
const TOGETHER: Duration = Duration::from_millis(15);
/// Lines that wait for a slow page.
const WAITING_LINES: usize = 20_000;
/// Lines of history that a page may ask for.
const MOST_HISTORY: usize = 10_000;
/// Between two pieces of log lines.
const LINES_TOGETHER: Duration = Duration::from_millis(50);

/// The stream of one page about one environment.
struct Live {
    page: Arc<Page>,
    target: EnvironmentTarget,
    /// The last event that the page has.
    after: Option<u64>,
    operations: broadcast::Receiver<Operation>,
    source: Source,
    /// The last status, as it was sent.
    status: String,
    /// Not sent yet.
    text: String,
}

enum Source {
    Absent,
    Present { views: watch::Receiver<View>, events: broadcast::Receiver<Event>, ended: BoxFuture<'static, ()> },
}

enum Happened {
    End,
    Ended,
    Changed,
    Event(Event),
    /// So many events at once that some were missed; the history has them.
    Lagged,
    Operation(Operation),
    Nothing,
}

pub(super) async fn live(State(page): State<Arc<Page>>, headers: HeaderMap, Json(target): Json<EnvironmentTarget>) -> Response {
    let after = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let operations = page.daemon.operations.store().changes();
    let text = page.daemon.operations.store().operations().iter().map(|operation| message("operation", None, operation)).collect();
    let live = Live { page, target, after, operations, source: Source::Absent, status: String::new(), text };
    let chunks =
        stream::unfold(live, |mut live| async move { live.next().await.map(|text| (Ok::<_, std::io::Error>(Bytes::from(text)), live)) });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(chunks)).into_response()
}

impl Live {
    /// The next piece; `None` at the end of the page.
    async fn next(&mut self) -> Option<String> {
        loop {
            if matches!(self.source, Source::Absent) {
                self.attach();
            }
            if !self.text.is_empty() {
                return Some(std::mem::take(&mut self.text));
            }
            match self.happened().await {
                Happened::End => return None,
                Happened::Ended => self.source = Source::Absent,
                Happened::Lagged => {
                    // The history is read again, after the last event that was sent.
                    self.source = Source::Absent;
                    continue;
                }
                Happened::Event(event) => self.push(&event),
                Happened::Operation(operation) => self.text += &message("operation", None, &operation),
                Happened::Changed => {}
                Happened::Nothing => {
                    self.text += ": still here\n\n";
                    continue;
                }
            }
            sleep(TOGETHER).await;
            self.take_waiting();
            self.push_status();
        }
    }

    /// Cancel-safe: receiving, tokens and sleeping.
    async fn happened(&mut self) -> Happened {
        let operation = |received: Result<Operation, RecvError>| received.map_or(Happened::Nothing, Happened::Operation);
        match &mut self.source {
            Source::Absent => tokio::select! {
                () = self.page.end.cancelled() => Happened::End,
                received = self.operations.recv() => operation(received),
                () = sleep(LOOK) => Happened::Changed,
            },
            Source::Present { views, events, ended } => tokio::select! {
                () = self.page.end.cancelled() => Happened::End,
                () = ended => Happened::Ended,
                received = events.recv() => match received {
                    Ok(event) => Happened::Event(event),
                    Err(RecvError::Lagged(_)) => Happened::Lagged,
                    Err(RecvError::Closed) => Happened::Ended,
                },
                changed = views.changed() => changed.map_or(Happened::Ended, |()| Happened::Changed),
                received = self.operations.recv() => operation(received),
                () = sleep(HEARTBEAT) => Happened::Nothing,
            },
        }
    }

    /// Begins to follow the environment, if it exists.
    fn attach(&mut self) {
        let Some(environment) = self.page.daemon.environments.find(&self.target) else {
            self.push_status();
            return;
        };
        let Ok((mut history, rest)) = blocking::in_place(|| environment.handle.events.history_and_rest()) else { return };
        let last = history.last().map_or(0, |event| event.sequence);
        if self.after.is_some_and(|after| after > last) {
            // An environment that was removed and made again counts from 1.
            self.after = None;
            self.text += "event: reset\ndata: {}\n\n";
        }
        match self.after {
            Some(after) => history.retain(|event| event.sequence > after),
            None => drop(history.drain(..history.len().saturating_sub(FIRST_EVENTS))),
        }
        for event in &history {
            self.push(event);
        }
        self.source = Source::Present { views: environment.handle.views(), events: rest, ended: Box::pin(environment.ended()) };
        self.push_status();
    }

    fn push(&mut self, event: &Event) {
        self.after = Some(event.sequence);
        self.text += &message("event", Some(event.sequence), event);
    }

    fn take_waiting(&mut self) {
        let mut waiting = Vec::new();
        if let Source::Present { events, views, .. } = &mut self.source {
            while waiting.len() < FIRST_EVENTS
                && let Ok(event) = events.try_recv()
            {
                waiting.push(event);
            }
            views.mark_unchanged();
        }
        for event in &waiting {
            self.push(event);
        }
    }

    /// The status, if it is another than the last.
    fn push_status(&mut self) {
        let text = message("status", None, &self.page.daemon.status(&self.target));
        if text != self.status {
            self.text += &text;
            self.status = text;
        }
    }
}

/// A server-sent event. JSON has no line ends outside of its strings, and none inside.
fn message(kind: &str, id: Option<u64>, data: &impl Serialize) -> String {
    let data = serde_json::to_string(data).unwrap_or_default();
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!("{id}event: {kind}\ndata: {data}\n\n")
}

#[derive(Deserialize)]
pub(super) struct LogsAsked {
    target: EnvironmentTarget,
    /// Lines of history.
    #[serde(default)]
    tail: usize,
    /// Instead of `tail`: from this time on (RFC 3339).
    #[serde(default)]
    since: Option<jiff::Timestamp>,
}

/// Lines that wait for the page.
#[derive(Default)]
struct Waiting {
    lines: Mutex<(VecDeque<LogLine>, u64)>,
    arrived: Notify,
}

impl Waiting {
    fn push(&self, lines: Vec<LogLine>) {
        let mut waiting = self.lines.lock().expect("no code panics while it holds this lock");
        waiting.0.extend(lines);
        let surplus = waiting.0.len().saturating_sub(WAITING_LINES);
        waiting.0.drain(..surplus);
        waiting.1 += surplus as u64;
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Everything that waits, as NDJSON.
    fn take(&self) -> Vec<u8> {
        let (lines, skipped) = std::mem::take(&mut *self.lines.lock().expect("no code panics while it holds this lock"));
        let mut text = Vec::new();
        if skipped > 0 {
            text.extend_from_slice(format!("{}\n", json!({ "skipped": skipped })).as_bytes());
        }
        for line in lines {
            // Writing to memory cannot fail.
            if serde_json::to_writer(&mut text, &line).is_ok() {
                text.push(b'\n');
            }
        }
        text
    }
}

/// The lines of all services; the page filters.
pub(super) async fn logs(State(page): State<Arc<Page>>, Json(asked): Json<LogsAsked>) -> Result<Response, Failed> {
    let environment = page.daemon.environments.require(&asked.target)?;
    let fail = |error: std::io::Error| ApiError::new(ErrorCode::Internal, format!("cannot read the logs: {error}"));
    let since = match asked.since {
        Some(since) => since,
        None => blocking::in_place(|| begin(&environment, asked.tail.min(MOST_HISTORY))),
    };
    let follower = environment.logs.follow(Query { since: Some(since), ..Query::default() }).map_err(fail)?;
    let waiting = Arc::new(Waiting::default());
    let reading = AbortOnDropHandle::new(tokio::spawn(read(follower, waiting.clone())));
    let (end, ended) = (page.end.clone(), environment.ended());
    drop(environment);
    let over: BoxFuture<'static, ()> = Box::pin(async move {
        tokio::select! {
            () = end.cancelled() => {}
            () = ended => {}
        }
    });
    let pieces = stream::unfold((reading, waiting, over), |(reading, waiting, mut over)| async move {
        loop {
            tokio::select! {
                () = &mut over => return None,
                () = waiting.arrived.notified() => {}
                // An empty line, which shows that the connection is alive.
                () = sleep(HEARTBEAT) => return Some((Bytes::from_static(b"\n"), (reading, waiting, over))),
            }
            sleep(LINES_TOGETHER).await;
            let text = waiting.take();
            if !text.is_empty() {
                return Some((Bytes::from(text), (reading, waiting, over)));
            }
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(pieces.map(Ok::<_, std::io::Error>))).into_response())
}

/// Ends with the stream that it reads for.
async fn read(mut follower: Follower, waiting: Arc<Waiting>) {
    while let Ok(lines) = follower.next().await {
        waiting.push(lines);
    }
}

/// The time of the oldest of the last `count` lines of all services.
fn begin(environment: &Environment, count: usize) -> jiff::Timestamp {
    let services = environment.handle.status().services;
    let lines = services.iter().flat_map(|service| environment.logs.tail(&service.name, None, count).unwrap_or_default());
    let mut times: Vec<jiff::Timestamp> = lines.filter_map(|line| line.time.parse().ok()).collect();
    times.sort_unstable();
    let first = times.len().saturating_sub(count);
    times.get(first).copied().unwrap_or_else(jiff::Timestamp::now)
}

#[cfg(test)]
mod tests {
    use devenv_api::LogStream;

    use super::*;

    #[test]
    fn a_slow_page_gets_the_newest_lines_and_the_number_of_those_left_out() {
        let waiting = Waiting::default();
        let line = |n: usize| LogLine {
            time: "2026-11-28T10:00:00.000000Z".to_owned(),
            service: "web".to_owned(),
            stream: LogStream::Stdout,
            text: n.to_string(),
            run: 1,
        };
        waiting.push((0..WAITING_LINES).map(line).collect());
        waiting.push((WAITING_LINES..WAITING_LINES + 7).map(line).collect());
        let text = String::from_utf8(waiting.take()).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some(r#"{"skipped":7}"#));
        assert!(lines.next().unwrap().contains(r#""text":"7""#));
        assert_eq!(lines.count(), WAITING_LINES - 1);
        assert!(waiting.take().is_empty());
    }

    #[test]
    fn a_message_is_one_line_of_data_whatever_it_contains() {
        assert_eq!(message("event", Some(7), &"a\nb\r\ndata: x"), "id: 7\nevent: event\ndata: \"a\\nb\\r\\ndata: x\"\n\n");
    }
}
