//! `exec`: the frames in both directions once the connection has changed to the protocol `devenv-exec`.
//!
//! A frame is one byte of kind, four bytes of length (big-endian) and the payload. The client uses [`TerminalCodec`],
//! the daemon [`DaemonCodec`]; they are mirror images.

use std::{collections::BTreeMap, io};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::codec::{Decoder, Encoder};

use crate::{ApiError, EnvironmentTarget};

/// A command to run in a service.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ExecRequest {
    pub target: EnvironmentTarget,
    pub service: String,
    pub command: Vec<String>,
    /// Give it a terminal; its output is then one stream.
    #[serde(default)]
    pub tty: bool,
    #[serde(default)]
    pub size: Option<TerminalSize>,
    #[serde(default)]
    pub user: Option<String>,
    #[serde(default)]
    pub directory: Option<String>,
    /// Variables of the command besides the container's own. Passwords go here: the list of processes shows arguments to everybody.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// In a new container, made from the service's image and settings, not in the one that runs.
    #[serde(default)]
    pub one_off: bool,
    /// Keep that container.
    #[serde(default)]
    pub keep: bool,
}

impl ExecRequest {
    /// In the container that runs, as its own user, without a terminal.
    pub fn of(target: EnvironmentTarget, service: String, command: Vec<String>) -> Self {
        Self {
            target,
            service,
            command,
            tty: false,
            size: None,
            user: None,
            directory: None,
            environment: BTreeMap::new(),
            one_off: false,
            keep: false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TerminalSize {
    pub columns: u16,
    pub rows: u16,
}

/// The frames that the client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecInput {
    Stdin(Bytes),
    /// End of input: the command sees the end of its standard input.
    StdinEnd,
    Resize(TerminalSize),
}

/// The frames that the daemon sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecOutput {
    Stdout(Bytes),
    Stderr(Bytes),
    /// The command ended with this code (128+n for signal n). Nothing follows.
    Exited(i32),
    /// The command cannot be run, or the connection to it broke. Nothing follows.
    Failed(ApiError),
}

/// The payload of the last frame: `{"code": 0}` or `{"error": {…}}`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Exit {
    Code(i32),
    Error(ApiError),
}

/// More than either end sends in one frame; a larger length means that the ends do not speak the same protocol.
const LARGEST_PAYLOAD: usize = 8 * 1024 * 1024;
const HEAD: usize = 5;

/// The client's end.
#[derive(Debug, Default)]
pub struct TerminalCodec;

/// The daemon's end.
#[derive(Debug, Default)]
pub struct DaemonCodec;

impl Encoder<ExecInput> for TerminalCodec {
    type Error = io::Error;

    fn encode(&mut self, input: ExecInput, buffer: &mut BytesMut) -> io::Result<()> {
        match input {
            ExecInput::Stdin(bytes) => write_frame(buffer, 0, &bytes),
            ExecInput::StdinEnd => write_frame(buffer, 1, &[]),
            ExecInput::Resize(size) => write_frame(buffer, 2, &serde_json::to_vec(&size)?),
        }
        Ok(())
    }
}

impl Decoder for DaemonCodec {
    type Item = ExecInput;
    type Error = io::Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> io::Result<Option<ExecInput>> {
        let Some((kind, payload)) = read_frame(buffer)? else { return Ok(None) };
        match kind {
            0 => Ok(Some(ExecInput::Stdin(payload))),
            1 => Ok(Some(ExecInput::StdinEnd)),
            2 => Ok(Some(ExecInput::Resize(serde_json::from_slice(&payload)?))),
            other => Err(unknown_kind(other)),
        }
    }
}

impl Encoder<ExecOutput> for DaemonCodec {
    type Error = io::Error;

    fn encode(&mut self, output: ExecOutput, buffer: &mut BytesMut) -> io::Result<()> {
        match output {
            ExecOutput::Stdout(bytes) => write_frame(buffer, 1, &bytes),
            ExecOutput::Stderr(bytes) => write_frame(buffer, 2, &bytes),
            ExecOutput::Exited(code) => write_frame(buffer, 3, &serde_json::to_vec(&Exit::Code(code))?),
            ExecOutput::Failed(error) => write_frame(buffer, 3, &serde_json::to_vec(&Exit::Error(error))?),
        }
        Ok(())
    }
}

impl Decoder for TerminalCodec {
    type Item = ExecOutput;
    type Error = io::Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> io::Result<Option<ExecOutput>> {
        let Some((kind, payload)) = read_frame(buffer)? else { return Ok(None) };
        match kind {
            1 => Ok(Some(ExecOutput::Stdout(payload))),
            2 => Ok(Some(ExecOutput::Stderr(payload))),
            3 => Ok(Some(match serde_json::from_slice(&payload)? {
                Exit::Code(code) => ExecOutput::Exited(code),
                Exit::Error(error) => ExecOutput::Failed(error),
            })),
            other => Err(unknown_kind(other)),
        }
    }
}

fn write_frame(buffer: &mut BytesMut, kind: u8, payload: &[u8]) {
    buffer.reserve(HEAD + payload.len());
    buffer.put_u8(kind);
    buffer.put_u32(u32::try_from(payload.len()).expect("a payload is part of a buffer far smaller than 4 GiB"));
    buffer.put_slice(payload);
}

fn read_frame(buffer: &mut BytesMut) -> io::Result<Option<(u8, Bytes)>> {
    if buffer.len() < HEAD {
        return Ok(None);
    }
    let length = u32::from_be_bytes([buffer[1], buffer[2], buffer[3], buffer[4]]) as usize;
    if length > LARGEST_PAYLOAD {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
    }
    if buffer.len() < HEAD + length {
        buffer.reserve(HEAD + length - buffer.len());
        return Ok(None);
    }
    let kind = buffer[0];
    buffer.advance(HEAD);
    Ok(Some((kind, buffer.split_to(length).freeze())))
}

fn unknown_kind(kind: u8) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a frame of unknown kind {kind}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorCode;

    #[test]
    fn each_end_decodes_the_others_frames_even_byte_by_byte() {
        let sent = [
            ExecOutput::Stdout(Bytes::from_static(b"one")),
            ExecOutput::Stderr(Bytes::new()),
            ExecOutput::Exited(137),
            ExecOutput::Failed(ApiError::new(ErrorCode::NotFound, "no service `x`")),
        ];
        let mut wire = BytesMut::new();
        for output in sent.clone() {
            DaemonCodec.encode(output, &mut wire).unwrap();
        }
        let (mut buffer, mut received) = (BytesMut::new(), Vec::new());
        for byte in wire {
            buffer.put_u8(byte);
            received.extend(TerminalCodec.decode(&mut buffer).unwrap());
        }
        assert_eq!(received, sent);
    }

    #[test]
    fn input_frames_have_the_documented_bytes() {
        let mut wire = BytesMut::new();
        TerminalCodec.encode(ExecInput::Stdin(Bytes::from_static(b"hi")), &mut wire).unwrap();
        TerminalCodec.encode(ExecInput::StdinEnd, &mut wire).unwrap();
        assert_eq!(&wire[..], b"\x00\x00\x00\x00\x02hi\x01\x00\x00\x00\x00");
        TerminalCodec.encode(ExecInput::Resize(TerminalSize { columns: 80, rows: 24 }), &mut wire).unwrap();
        DaemonCodec.decode(&mut wire).unwrap();
        DaemonCodec.decode(&mut wire).unwrap();
        let resize = DaemonCodec.decode(&mut wire).unwrap();
        assert_eq!(resize, Some(ExecInput::Resize(TerminalSize { columns: 80, rows: 24 })));
    }

    #[test]
    fn an_absurd_length_is_refused_before_memory_is_taken() {
        let mut wire = BytesMut::from(&b"\x01\xff\xff\xff\xff"[..]);
        assert!(TerminalCodec.decode(&mut wire).is_err());
    }
}
