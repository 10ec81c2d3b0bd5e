//! A connection with a size limit for each answer: a server that answers without end is cut off.
//!
//! Drivers keep an answer in memory until it is complete. Probes read from images of unknown origin, so they read through this.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use reqwest::Response;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most that a server may answer to one question, in bytes.
pub(crate) const LONGEST_ANSWER: u64 = 8 << 20;

/// Counts the bytes that are read since the last write.
#[derive(Debug)]
pub(crate) struct Limited<S> {
    inner: S,
    limit: u64,
    read: u64,
}

impl<S> Limited<S> {
    pub(crate) fn new(inner: S, limit: u64) -> Self {
        Self { inner, limit, read: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Limited<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read > self.limit {
            let words = format!("its answer has more than {} bytes", self.limit);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, words)));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.read += (buffer.filled().len() - before) as u64;
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Limited<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, content: &[u8]) -> Poll<io::Result<usize>> {
        self.read = 0;
        Pin::new(&mut self.inner).poll_write(cx, content)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// A connection that could not be made: whatever is done with it fails for that reason.
#[derive(Debug)]
pub(crate) struct Broken(pub(crate) io::ErrorKind);

impl AsyncRead for Broken {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(self.0.into()))
    }
}

impl AsyncWrite for Broken {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(self.0.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(self.0.into()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The body of an answer, or its first `limit` bytes. The rest is not waited for.
pub(crate) async fn body(mut answer: Response, limit: usize) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        let room = limit - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == limit {
            break;
        }
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn an_answer_without_end_is_cut_off_and_each_question_has_its_own_answer() {
        let (near, mut far) = tokio::io::duplex(64);
        tokio::spawn(async move { while far.write_all(&[b'x'; 32]).await.is_ok() {} });
        let mut near = Limited::new(near, 1000);
        let mut buffer = [0; 100];
        let mut read = 0;
        let error = loop {
            match near.read(&mut buffer).await {
                Ok(count) => read += count,
                Err(error) => break error,
            }
        };
        assert!((1000..1200).contains(&read), "{read}");
        assert!(error.to_string().contains("more than 1000 bytes"), "{error}");
    }
}
