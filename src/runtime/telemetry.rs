//! Traces of what devenv itself does in an environment, for the environment's own tracing service if it has one.
//!
//! # Theory of operation
//!
//! One task for each environment follows its events, and what `operation` says of operations that begin and end. When an operation or a
//! reload has ended, [`spans`] makes a trace of it, and the first ready service that collects traces gets it, once. It is an observer: a
//! channel that is full loses a message, a service that does not answer loses a trace, and nobody waits for it or sees an error of it.

mod spans;

use devenv_api::{Operation, OperationKind, ServiceState};
use devenv_kinds::browse;
use jiff::Timestamp;
use tokio::sync::{
    broadcast::{self, error::RecvError},
    mpsc,
};
use tokio_util::sync::CancellationToken;

use crate::{event::Event, reconcile::Handle};
use spans::{Observer, Trace};

/// Operations of one environment run one after another, so few are unread.
const UNREAD: usize = 64;

/// Where operations are reported. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Telemetry {
    operations: mpsc::Sender<Operation>,
}

impl Telemetry {
    /// The task runs until `stop`.
    pub(crate) fn begin(handle: Handle, stop: CancellationToken) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (operations, reported) = mpsc::channel(UNREAD);
        let events = handle.events.subscribe();
        (Self { operations }, follow(handle, reported, events, stop))
    }

    /// An operation in this environment began or ended. Leases are too many to be worth a trace each.
    pub(crate) fn operation(&self, operation: &Operation) {
        if operation.kind != OperationKind::Lease {
            let _ = self.operations.try_send(operation.clone());
        }
    }
}

enum Next {
    Stop,
    Operation(Operation),
    Event(Event),
    Missed,
}

async fn follow(
    handle: Handle,
    mut operations: mpsc::Receiver<Operation>,
    mut events: broadcast::Receiver<Event>,
    stop: CancellationToken,
) {
    let mut observer = Observer::default();
    loop {
        // All are cancel-safe. An operation is reported before its first event.
        let next = tokio::select! {
            biased;
            () = stop.cancelled() => Next::Stop,
            operation = operations.recv() => operation.map_or(Next::Stop, Next::Operation),
            event = events.recv() => match event {
                Ok(event) => Next::Event(event),
                Err(RecvError::Lagged(_)) => Next::Missed,
                Err(RecvError::Closed) => Next::Stop,
            },
        };
        let trace = match next {
            Next::Stop => return,
            Next::Missed => None,
            Next::Event(event) => observer.event(event),
            Next::Operation(operation) => {
                // Its last events were emitted before its end was reported.
                while let Ok(event) = events.try_recv() {
                    observer.event(event);
                }
                observer.operation(operation, Timestamp::now())
            }
        };
        if let Some(trace) = trace {
            tokio::select! {
                () = stop.cancelled() => return,
                () = send(&handle, &trace) => {}
            }
        }
    }
}

async fn send(handle: &Handle, trace: &Trace) {
    let Ok(record) = handle.record().await else { return };
    let Some(spec) = record.spec else { return };
    let status = handle.status();
    let is_ready = |name: &str| status.services.iter().any(|service| service.name == name && service.state == ServiceState::Ready);
    let ready = spec.services.values().filter(|service| is_ready(service.name.as_str()));
    if let Some(Err(error)) = browse::collect(ready, &trace.request(record.id.as_str())).await {
        tracing::debug!(%error, environment = %record.id, "The tracing service did not take a trace of devenv's own.");
    }
}
