//! The long answers of the daemon: NDJSON lines that arrive as things happen.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use serde::de::DeserializeOwned;
use tokio_util::{
    codec::{FramedRead, LinesCodec},
    io::StreamReader,
};

use super::{ClientError, LONGEST_LINE, lost, parse};

/// The lines of a long answer, as they arrive. Ends with the answer, or with an error if the daemon dies.
pub struct Stream<T>(BoxStream<'static, Result<T, ClientError>>);

impl<T: DeserializeOwned + Send + 'static> Stream<T> {
    pub(super) fn of(response: reqwest::Response) -> Self {
        let reader = StreamReader::new(response.bytes_stream().map_err(io::Error::other));
        let lines = FramedRead::new(reader, LinesCodec::new_with_max_length(LONGEST_LINE));
        Self(
            lines
                .map_err(lost)
                .try_filter(|line| std::future::ready(!line.is_empty()))
                .and_then(|line| std::future::ready(parse(line.as_bytes())))
                .boxed(),
        )
    }
}

impl<T> futures_util::Stream for Stream<T> {
    type Item = Result<T, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

impl<T> Stream<T> {
    /// The next message. A stream that ends without its final message is [`ClientError::Lost`].
    pub async fn message(&mut self) -> Result<T, ClientError> {
        match self.next().await {
            Some(message) => message,
            None => Err(lost(io::Error::from(io::ErrorKind::UnexpectedEof))),
        }
    }
}
