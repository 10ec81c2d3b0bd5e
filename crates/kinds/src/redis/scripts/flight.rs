//! Requests to the server that are sent without waiting for the answers to those before. The server does them in this order.

use std::{collections::VecDeque, pin::Pin, task::Poll};

/// The server does all of them before it turns to other clients, so they are few.
const MOST: usize = 2;

/// Requests that are not answered, each with what the sender wants to remember of it.
pub(super) struct Flights<M, A>(VecDeque<Flight<M, A>>);

struct Flight<M, A> {
    memory: M,
    answer: Pin<Box<dyn Future<Output = A> + Send>>,
    /// If it came at once.
    early: Option<A>,
}

impl<M, A> Default for Flights<M, A> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<M, A> Flights<M, A> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= MOST
    }

    /// The first poll of a request hands it to the connection, and happens before this returns.
    pub(super) async fn send(&mut self, memory: M, request: impl Future<Output = A> + Send + 'static) {
        let mut answer: Pin<Box<dyn Future<Output = A> + Send>> = Box::pin(request);
        let early = std::future::poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => Poll::Ready(None),
        })
        .await;
        self.0.push_back(Flight { memory, answer, early });
    }

    /// The answer to the first of them.
    pub(super) async fn land(&mut self) -> Option<(M, A)> {
        let Flight { memory, answer, early } = self.0.pop_front()?;
        let answer = match early {
            Some(answer) => answer,
            None => answer.await,
        };
        Some((memory, answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_are_sent_in_order_and_before_the_first_is_answered() {
        let (sender, mut sent) = tokio::sync::mpsc::channel(1);
        let (answer, answered) = tokio::sync::oneshot::channel::<()>();
        let mut flights = Flights::default();
        let first = sender.clone();
        flights
            .send(1, async move {
                first.send("first").await.unwrap();
                answered.await.unwrap();
            })
            .await;
        assert!(!flights.is_full());
        flights.send(2, async move { sender.send("second").await.unwrap() }).await;
        assert!(flights.is_full());
        assert_eq!(sent.recv().await, Some("first"));
        answer.send(()).unwrap();
        assert_eq!(flights.land().await, Some((1, ())));
        let (second, landed) = tokio::join!(sent.recv(), flights.land());
        assert_eq!((second, landed), (Some("second"), Some((2, ()))));
        assert!(flights.is_empty() && flights.land().await.is_none());
    }
}
