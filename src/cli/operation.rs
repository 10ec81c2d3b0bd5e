//! Submits a command's operation, shows its progress, and returns the result.
//!
//! Ctrl-C and SIGTERM ask the daemon to stop the operation; the command follows it to its end, which reports the
//! resulting state. A second signal exits at once, and the operation continues. [`UnderWay`] is what the signals act on.

use std::cell::RefCell;

use devenv_api::{ApiError, AskedBy, Client, ErrorCode, Event, OperationKind, OperationMessage, OperationRequest, Submission};
use serde::de::DeserializeOwned;

use super::{
    failure::{Failure, Signal, internal},
    progress::Progress,
    session::Session,
};

/// The operations that this process follows.
#[derive(Default)]
pub(crate) struct UnderWay(RefCell<State>);

#[derive(Default)]
struct State {
    accepted: Vec<(Client, String, OperationKind)>,
    /// Submitted, and the daemon has not answered yet.
    submitted: usize,
    /// The first signal that arrived during an operation.
    signal: Option<Signal>,
}

impl UnderWay {
    pub(crate) fn is_empty(&self) -> bool {
        let state = self.0.borrow();
        state.accepted.is_empty() && state.submitted == 0
    }

    /// The signal that asked this process to end, if it is waiting for operations to stop.
    pub(crate) fn signal(&self) -> Option<Signal> {
        self.0.borrow().signal
    }

    /// Asks all of them to stop, because of this signal.
    pub(crate) async fn cancel(&self, signal: Signal) {
        let accepted = {
            let mut state = self.0.borrow_mut();
            state.signal = Some(signal);
            state.accepted.clone()
        };
        for (client, id, _) in accepted {
            cancel(&client, &id).await;
        }
    }

    /// The operations that continue if this process exits now.
    pub(crate) fn going_on(&self) -> String {
        let state = self.0.borrow();
        let names: Vec<String> = state.accepted.iter().map(|(_, id, kind)| format!("`{kind}` ({id})")).collect();
        let verb = if names.len() == 1 { "goes" } else { "go" };
        format!("{} {verb} on without this command; see `devenv operations`", names.join(", "))
    }
}

async fn cancel(client: &Client, id: &str) {
    // One that has ended meanwhile need not be stopped; a daemon that is gone has stopped everything.
    let _ = client.cancel_operation(id).await;
}

/// Submits an operation, shows its progress, and returns its result.
pub(super) async fn carry_out<R: DeserializeOwned>(session: &Session, client: &Client, request: OperationRequest) -> Result<R, Failure> {
    carry_out_and_hear(session, client, request, |_| {}).await
}

/// The same; `hear` gets the events of the environment in between.
pub(super) async fn carry_out_and_hear<R: DeserializeOwned>(
    session: &Session,
    client: &Client,
    request: OperationRequest,
    mut hear: impl FnMut(&Event),
) -> Result<R, Failure> {
    let under_way = &session.under_way;
    if let Some(signal) = under_way.signal() {
        return Err(Failure::Signal(signal));
    }
    let environment = match &request {
        OperationRequest::Up(request) => Some(request.target.clone()),
        _ => None,
    };
    under_way.0.borrow_mut().submitted += 1;
    let submitted = client.submit(&Submission { request, asked_by: asked_by() }).await;
    let mut followed = Followed { under_way, id: None };
    let mut messages = submitted?;
    let mut progress = Progress::new(&session.printer);
    let mut unseen = environment.filter(|_| progress.is_live());
    loop {
        // If this fails, `progress` is dropped, and the terminal is restored.
        match messages.message().await? {
            OperationMessage::Accepted(operation) => {
                followed.accepted(client, &operation.id, operation.kind);
                if under_way.signal().is_some() {
                    cancel(client, &operation.id).await;
                }
            }
            OperationMessage::Event(event) => {
                hear(&event);
                progress.event(&event);
                // From the first event of a service on, the environment is the one that comes up.
                if event.service.is_some()
                    && let Some(target) = unseen.take()
                    && let Ok(status) = client.status(&target).await
                {
                    progress.services(&status);
                }
            }
            OperationMessage::Progress { service: Some(service), message } => progress.note(&service, &message),
            OperationMessage::Progress { service: None, message } => progress.message(&message),
            OperationMessage::Done { result, .. } => {
                return Ok(serde_json::from_value(result).map_err(|error| internal("cannot read the daemon's answer", error))?);
            }
            OperationMessage::Failed { error, .. } => return Err(failure(error, under_way.signal())),
        }
    }
}

fn failure(error: ApiError, signal: Option<Signal>) -> Failure {
    match signal {
        Some(signal) if error.code == ErrorCode::Interrupted => Failure::Cancelled { signal, error },
        _ => Failure::Told(error),
    }
}

/// Stops following the operation when it is dropped.
struct Followed<'a> {
    under_way: &'a UnderWay,
    id: Option<String>,
}

impl Followed<'_> {
    fn accepted(&mut self, client: &Client, id: &str, kind: OperationKind) {
        let mut state = self.under_way.0.borrow_mut();
        match self.id.replace(id.to_owned()) {
            None => state.submitted -= 1,
            // Continued by this one.
            Some(former) => state.accepted.retain(|(_, followed, _)| *followed != former),
        }
        state.accepted.push((client.clone(), id.to_owned(), kind));
    }
}

impl Drop for Followed<'_> {
    fn drop(&mut self) {
        let mut state = self.under_way.0.borrow_mut();
        match &self.id {
            Some(id) => state.accepted.retain(|(_, followed, _)| followed != id),
            None => state.submitted -= 1,
        }
    }
}

/// Who started the operation: this command line, without parts that can contain secrets.
fn asked_by() -> AskedBy {
    let words = std::env::args().skip(1);
    AskedBy { command: without_secrets(words), pid: Some(std::process::id()), user: Some(rustix::process::getuid().as_raw()) }
}

/// Removes passwords from URLs, and the command that `test`, `run` and `lease` execute.
fn without_secrets(words: impl Iterator<Item = String>) -> String {
    let mut shown = vec!["devenv".to_owned()];
    for word in words {
        if word == "--" {
            shown.push("-- …".to_owned());
            break;
        }
        shown.push(match word.split_once("://") {
            Some((scheme, rest)) => {
                let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
                format!("{scheme}://{}", rest.split('?').next().unwrap_or(rest))
            }
            None => word,
        });
    }
    shown.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_ask_for_is_answered_without_secrets() {
        let shown = |line: &str| without_secrets(line.split(' ').map(str::to_owned));
        assert_eq!(shown("snapshot save one"), "devenv snapshot save one");
        assert_eq!(shown("import db postgres://ada:secret@h:1/d?password=x"), "devenv import db postgres://h:1/d");
        assert_eq!(shown("test d -- curl -u a:b"), "devenv test d -- …");
    }
}
