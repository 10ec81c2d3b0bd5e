//! Long answers: one line of JSON at a time, as things happen.

use axum::{
    body::Body,
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use devenv_api::UpMessage;
use futures_util::{Stream, StreamExt, stream};
use serde::Serialize;
use tokio::sync::{
    broadcast::{self, error::RecvError},
    mpsc,
};

use crate::{environment::Environment, event::Event, reconcile::Progress};

pub(super) fn ndjson<T: Serialize>(items: impl Stream<Item = T> + Send + 'static) -> Response {
    let lines = items.map(|item| {
        let mut line = serde_json::to_vec(&item)?;
        line.push(b'\n');
        Ok::<_, serde_json::Error>(Bytes::from(line))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

/// Streams the environment's events while `work` runs, then its result. The work is dropped with the connection: it
/// only waits, and the command itself continues without it.
pub(super) fn stream_events<F>(environment: &Environment, work: impl FnOnce() -> F) -> Response
where
    F: Future<Output = UpMessage> + Send + 'static,
{
    // Subscribed before the work begins, so that its first event arrives.
    let (events, progress) = (environment.handle.events.subscribe(), environment.progress.subscribe());
    stream_events_since(events, progress, work())
}

pub(super) fn stream_events_since<F>(events: broadcast::Receiver<Event>, progress: broadcast::Receiver<Progress>, work: F) -> Response
where
    F: Future<Output = UpMessage> + Send + 'static,
{
    enum Next<F> {
        Working { events: broadcast::Receiver<Event>, progress: broadcast::Receiver<Progress>, work: std::pin::Pin<Box<F>> },
        Rest { events: broadcast::Receiver<Event>, last: UpMessage },
        Over,
    }
    let begin = Next::Working { events, progress, work: Box::pin(work) };
    ndjson(stream::unfold(begin, |mut state| async move {
        loop {
            state = match state {
                Next::Working { mut events, mut progress, mut work } => {
                    // Cancel-safe: receiving, and a future that is polled again where it was.
                    tokio::select! {
                        biased;
                        event = events.recv() => match event {
                            Ok(event) => return Some((UpMessage::Event(event), Next::Working { events, progress, work })),
                            // Too slow a reader misses some progress, but never the end.
                            Err(RecvError::Lagged(_)) => Next::Working { events, progress, work },
                            // The environment has ended, and so does the work; there are no more events to wait for.
                            Err(RecvError::Closed) => Next::Rest { events, last: work.await },
                        },
                        Ok(step) = progress.recv() => {
                            let item = UpMessage::Progress { service: step.service.to_string(), message: step.message };
                            return Some((item, Next::Working { events, progress, work }));
                        }
                        last = &mut work => Next::Rest { events, last },
                    }
                }
                Next::Rest { mut events, last } => match events.try_recv() {
                    Ok(event) => return Some((UpMessage::Event(event), Next::Rest { events, last })),
                    Err(_) => return Some((last, Next::Over)),
                },
                Next::Over => return None,
            };
        }
    }))
}

/// A receiver's items as a stream that ends with its senders.
pub(super) fn received<T: Send + 'static>(receiver: mpsc::Receiver<T>) -> impl Stream<Item = T> + Send + 'static {
    stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|item| (item, receiver)) })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use devenv_api::{ApiError, ErrorCode};

    use super::*;

    #[tokio::test]
    async fn a_client_that_waits_for_a_removed_environment_gets_an_answer() {
        let (events, progress) = (broadcast::channel(1), broadcast::channel(1));
        drop(events.0);
        let work = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            UpMessage::Failed(ApiError::new(ErrorCode::Failed, "it is being removed"))
        };
        let answer = stream_events_since(events.1, progress.1, work).into_body();
        let text = tokio::time::timeout(Duration::from_mins(1), axum::body::to_bytes(answer, 1 << 20)).await.unwrap().unwrap();
        assert!(String::from_utf8_lossy(&text).contains("it is being removed"));
    }
}
