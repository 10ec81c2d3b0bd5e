//! Logs and events, as history and live.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use axum::{Json, extract::State, response::Response};
use devenv_api::{ASKED_BY_AGENT, AgentCall, ApiError, ErrorCode, Event, EventsRequest, LogLine, LogsRequest, Operation, Why, WhyRequest};
use devenv_logs::Query;
use futures_util::stream;
use jiff::Timestamp;
use tokio::sync::{broadcast, mpsc};

use super::{
    Daemon,
    failure::Failed,
    stream::{ndjson, received},
};
use crate::{
    blocking,
    event::{Asked, CALLED, NewEvent},
    reconcile::CommandError,
};

/// Lines for a client that reads more slowly than we do.
const WAITING: usize = 1024;
/// Characters of a name that an agent gives.
const LONGEST_NAME: usize = 60;

pub(super) async fn logs(State(daemon): State<Arc<Daemon>>, Json(request): Json<LogsRequest>) -> Result<Response, Failed> {
    let environment = daemon.environments.require(&request.target)?;
    let usage = |message: String| ApiError::new(ErrorCode::Usage, message);
    let status = environment.handle.status();
    // A service that does not exist any more may have logged something.
    let unknown = |name: &&String| !status.services.iter().any(|service| service.name == **name) && !environment.logs.has(name);
    if let Some(unknown) = request.services.iter().find(unknown) {
        return Err(CommandError::NoService(unknown.clone()).into());
    }
    let until: Option<jiff::Timestamp> = match request.until {
        Some(text) => Some(text.parse().map_err(|error| usage(format!("`{text}` is not a time: {error}")))?),
        None => None,
    };
    let mut query = Query {
        services: request.services,
        since: match request.since {
            Some(text) => Some(text.parse().map_err(|error| usage(format!("`{text}` is not a time: {error}")))?),
            None => None,
        },
        grep: match request.grep {
            Some(text) => {
                Some(regex::Regex::new(&text).map_err(|error| usage(format!("`{text}` is not a valid regular expression: {error}")))?)
            }
            None => None,
        },
    };
    if request.crash {
        let names =
            if query.services.is_empty() { status.services.iter().map(|service| service.name.clone()).collect() } else { query.services };
        let crashes = names.iter().flat_map(|name| environment.logs.crash(name).unwrap_or_default());
        let wanted: Vec<LogLine> = crashes.filter(|line| query.grep.as_ref().is_none_or(|grep| grep.is_match(&line.text))).collect();
        return Ok(ndjson(stream::iter(wanted)));
    }
    let fail = |error: std::io::Error| ApiError::new(ErrorCode::Internal, format!("cannot read the logs: {error}"));
    let (sender, receiver) = mpsc::channel::<LogLine>(WAITING);
    let early = move |line: &LogLine| until.is_none_or(|until| line.time.parse::<jiff::Timestamp>().is_ok_and(|time| time <= until));
    if let Some(tail) = request.tail {
        let history = environment.logs.history(query.clone()).map_err(fail)?;
        // Reading files blocks.
        let last = tokio::task::spawn_blocking(move || {
            let mut last = VecDeque::new();
            for line in history.flatten().filter(early) {
                if last.len() == tail {
                    last.pop_front();
                }
                if tail > 0 {
                    last.push_back(line);
                }
            }
            last
        });
        let last = last.await.map_err(|error| ApiError::new(ErrorCode::Internal, format!("cannot read the logs: {error}")))?;
        if !request.follow {
            return Ok(ndjson(stream::iter(last)));
        }
        let now = jiff::Timestamp::now();
        query.since = Some(last.front().and_then(|line| line.time.parse().ok()).unwrap_or(now));
    }
    if request.follow {
        let mut follower = environment.logs.follow(query).map_err(fail)?;
        let ended = environment.ended();
        tokio::spawn(async move {
            tokio::pin!(ended);
            // Ends when the client disconnects (the channel closes), or with the environment.
            loop {
                tokio::select! {
                    () = sender.closed() => return,
                    () = &mut ended => return,
                    lines = follower.next() => {
                        let Ok(lines) = lines else { return };
                        for line in lines {
                            if sender.send(line).await.is_err() {
                                return;
                            }
                        }
                    }
                }
            }
        });
    } else {
        let history = environment.logs.history(query).map_err(fail)?;
        // Reading files blocks; it ends when the client disconnects.
        tokio::task::spawn_blocking(move || {
            for line in history.flatten().filter(early) {
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
        });
    }
    Ok(ndjson(received(receiver)))
}

pub(super) async fn events(State(daemon): State<Arc<Daemon>>, Json(request): Json<EventsRequest>) -> Result<Response, Failed> {
    let environment = daemon.environments.require(&request.target)?;
    let (history, rest) = blocking::in_place(|| environment.handle.events.history_and_rest())
        .map_err(|error| ApiError::new(ErrorCode::Internal, format!("cannot read the events: {error}")))?;
    let history = stream::iter(history);
    if !request.follow {
        return Ok(ndjson(history));
    }
    let rest = stream::unfold(rest, |mut rest| async move {
        loop {
            match rest.recv().await {
                Ok(event) => return Some((event, rest)),
                // A reader this slow has missed some; sequence numbers show which.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None::<(Event, _)>,
            }
        }
    });
    Ok(ndjson(futures_util::StreamExt::chain(history, rest)))
}

pub(super) async fn why(State(daemon): State<Arc<Daemon>>, Json(request): Json<WhyRequest>) -> Result<Json<Why>, Failed> {
    let environment = daemon.environments.require(&request.target)?;
    let operations = daemon.operations.store().operations();
    let asked = operations.iter().filter(|operation| operation.environment.as_deref() == Some(environment.id.as_str()));
    let asked: Vec<Asked> = asked.filter_map(asked_by_agent).collect();
    let events = blocking::in_place(|| environment.handle.events.why(&request.service, &asked))
        .map_err(|error| ApiError::new(ErrorCode::Internal, format!("cannot read the events: {error}")))?;
    if events.is_empty() {
        return Err(CommandError::NoService(request.service).into());
    }
    Ok(Json(Why { events }))
}

/// The time of an operation that an agent has asked for.
fn asked_by_agent(operation: &Operation) -> Option<Asked> {
    let (tool, agent) = operation.asked_by.command.split_once(ASKED_BY_AGENT)?;
    let from: Timestamp = operation.started_at.as_deref()?.parse().ok()?;
    let took = operation.duration_ms.filter(|_| operation.state.has_ended()).map(Duration::from_millis);
    // Its duration is cut to whole milliseconds.
    let until = took.map(|took| from + took + Duration::from_millis(1));
    Some(Asked { tool: tool.to_owned(), agent: plain(agent), from, until })
}

/// Of what an agent calls itself and a tool, in an event.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect()
}

/// The names are an agent's own words, so they are cut and their control characters are left out.
pub(super) async fn note_call(State(daemon): State<Arc<Daemon>>, Json(call): Json<AgentCall>) -> Result<Json<()>, Failed> {
    let environment = daemon.environments.require(&call.target)?;
    let (agent, tool) = (plain(&call.agent), plain(&call.tool));
    let service = call.service.as_deref().map(plain);
    let about = service.as_ref().map(|service| format!(" of {service}")).unwrap_or_default();
    let event = NewEvent::new(CALLED, format!("{tool}{about}, asked by agent {agent}")).with("agent", agent).with("tool", tool);
    // As data: an event of the service would be its last change, which `why` explains.
    environment.handle.events.emit(match service {
        Some(service) => event.with("service", service),
        None => event,
    });
    Ok(Json(()))
}
