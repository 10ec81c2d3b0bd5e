//! Requests that upgrade the connection to another protocol, for `exec` and leases.

use bytes::BytesMut;
use serde::Serialize;
use std::io;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::{Client, ClientError, ENGINE_HEADER, LONGEST_LINE, lost, peer, refusal};

/// In bytes. The head of an HTTP answer has a few hundred bytes.
const LONGEST_HEAD: usize = 16 * 1024;

impl Client {
    /// Sends an HTTP upgrade by hand, because the caller needs the connection itself. Returns it with the bytes that were
    /// already received.
    pub(crate) async fn upgrade(
        &self,
        path: &str,
        protocol: &str,
        request: &impl Serialize,
    ) -> Result<(UnixStream, BytesMut), ClientError> {
        let body = serde_json::to_vec(request).map_err(|error| ClientError::Unexpected { detail: error.to_string() })?;
        let engine = self.engine.as_ref().map(|engine| format!("{ENGINE_HEADER}: {engine}\r\n")).unwrap_or_default();
        let mut message = format!(
            "POST {path} HTTP/1.1\r\nhost: devenv\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n{engine}\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len(),
        )
        .into_bytes();
        message.extend_from_slice(&body);
        let mut connection = peer::connect(&self.socket).await?;
        connection.write_all(&message).await.map_err(lost)?;

        let mut received = BytesMut::new();
        let head = loop {
            if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
                break Head::parse(&received.split_to(end + 4))?;
            }
            if received.len() > LONGEST_HEAD {
                return Err(ClientError::Unexpected { detail: "the response head is too long".to_owned() });
            }
            read_more(&mut connection, &mut received).await?;
        };
        if head.status == 101 {
            return Ok((connection, received));
        }
        while received.len() < head.length.min(LONGEST_LINE) {
            read_more(&mut connection, &mut received).await?;
        }
        Err(refusal(head.status, &received))
    }
}

/// The parts of an answer's head that are used.
struct Head {
    status: u16,
    length: usize,
}

impl Head {
    fn parse(bytes: &[u8]) -> Result<Self, ClientError> {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| ClientError::Unexpected { detail: "not an HTTP response".to_owned() })?;
        let length = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse().ok())
            .unwrap_or(0);
        Ok(Self { status, length })
    }
}

async fn read_more(connection: &mut UnixStream, received: &mut BytesMut) -> Result<(), ClientError> {
    match connection.read_buf(received).await {
        Ok(0) => Err(lost(io::Error::from(io::ErrorKind::UnexpectedEof))),
        Ok(_) => Ok(()),
        Err(error) => Err(lost(error)),
    }
}
