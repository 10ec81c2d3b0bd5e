//! The server side of gRPC on an HTTP/2 stream: messages in, messages and a status out.

use std::{future::poll_fn, io};

use bytes::{BufMut, Bytes, BytesMut};
use h2::{RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Response};

/// The engine's messages are short; pieces of an SSH connection are the longest.
const LARGEST: usize = 16 << 20;

pub(super) const OK: u32 = 0;
pub(super) const NOT_FOUND: u32 = 5;
pub(super) const INTERNAL: u32 = 13;
pub(super) const UNIMPLEMENTED: u32 = 12;

/// The messages from the caller.
pub(super) struct Incoming {
    body: RecvStream,
    buffer: BytesMut,
}

impl Incoming {
    pub(super) fn new(body: RecvStream) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// `None` at the end. Cancel-safe.
    pub(super) async fn message(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if self.buffer.len() >= 5 {
                let length = u32::from_be_bytes([self.buffer[1], self.buffer[2], self.buffer[3], self.buffer[4]]) as usize;
                if self.buffer[0] != 0 || length > LARGEST {
                    return Err(io::Error::other("a compressed message, or one that is too long"));
                }
                if self.buffer.len() >= 5 + length {
                    let mut frame = self.buffer.split_to(5 + length);
                    return Ok(Some(frame.split_off(5).freeze()));
                }
            }
            let Some(piece) = self.body.data().await else { return Ok(None) };
            let piece = piece.map_err(io::Error::other)?;
            self.body.flow_control().release_capacity(piece.len()).map_err(io::Error::other)?;
            self.buffer.extend_from_slice(&piece);
        }
    }
}

/// The messages to the caller.
pub(super) struct Outgoing {
    stream: SendStream<Bytes>,
}

impl Outgoing {
    pub(super) fn begin(mut respond: SendResponse<Bytes>) -> io::Result<Self> {
        let mut response = Response::new(());
        response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        Ok(Self { stream: respond.send_response(response, false).map_err(io::Error::other)? })
    }

    /// Waits until the caller accepts more data.
    pub(super) async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let mut frame = BytesMut::with_capacity(5 + message.len());
        frame.put_u8(0);
        frame.put_u32(message.len() as u32);
        frame.extend_from_slice(message);
        let mut frame = frame.freeze();
        while !frame.is_empty() {
            self.stream.reserve_capacity(frame.len());
            let room = match poll_fn(|cx| self.stream.poll_capacity(cx)).await {
                Some(room) => room.map_err(io::Error::other)?,
                None => return Err(io::ErrorKind::BrokenPipe.into()),
            };
            let piece = frame.split_to(room.min(frame.len()));
            if !piece.is_empty() {
                self.stream.send_data(piece, false).map_err(io::Error::other)?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self, status: u32, message: &str) -> io::Result<()> {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(status));
        let plain: String = message.chars().filter(|letter| !letter.is_control()).collect();
        if let Ok(message) = HeaderValue::from_str(&plain) {
            trailers.insert("grpc-message", message);
        }
        self.stream.send_trailers(trailers).map_err(io::Error::other)
    }
}
