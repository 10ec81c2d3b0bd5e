//! The engine's framing of two outputs in one stream: a byte for the output, three unused, a length, the content.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio_util::codec::Decoder;

use crate::ExecStream;

const HEADER: usize = 8;
/// Engines send some dozens of KiB at a time; a larger frame is not theirs, and would be held in memory.
const LONGEST: usize = 16 << 20;

/// Splits a stream into frames. An incomplete frame at the end of the stream is dropped.
#[derive(Debug, Default)]
pub(super) struct Frames;

impl Decoder for Frames {
    type Item = (ExecStream, Bytes);
    type Error = io::Error;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Self::Item>, io::Error> {
        let Some(header) = source.get(..HEADER) else { return Ok(None) };
        let stream = match header[0] {
            0 | 1 => ExecStream::Stdout,
            2 => ExecStream::Stderr,
            // The engine reports its own error in the middle of a stream.
            3 => return Err(io::Error::other(String::from_utf8_lossy(&source[HEADER..]).into_owned())),
            other => return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of unknown kind {other}"))),
        };
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        if length > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
        }
        if source.len() < HEADER + length {
            source.reserve(HEADER + length - source.len());
            return Ok(None);
        }
        source.advance(HEADER);
        Ok(Some((stream, source.split_to(length).freeze())))
    }

    fn decode_eof(&mut self, source: &mut BytesMut) -> Result<Option<Self::Item>, io::Error> {
        let frame = self.decode(source)?;
        if frame.is_none() {
            source.clear();
        }
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_wherever_the_stream_is_torn() {
        let whole = [&[1, 0, 0, 0, 0, 0, 0, 2][..], b"ab", &[2, 0, 0, 0, 0, 0, 0, 3], b"err", &[1, 0, 0, 0, 0, 0, 0, 9], b"lost"].concat();
        for cut in 0..whole.len() {
            let mut source = BytesMut::from(&whole[..cut]);
            let mut found = Vec::new();
            while let Some(frame) = Frames.decode(&mut source).unwrap() {
                found.push(frame);
            }
            source.extend_from_slice(&whole[cut..]);
            while let Some(frame) = Frames.decode_eof(&mut source).unwrap() {
                found.push(frame);
            }
            assert_eq!(found, [(ExecStream::Stdout, Bytes::from("ab")), (ExecStream::Stderr, Bytes::from("err"))], "cut at {cut}");
            assert!(source.is_empty());
        }
        assert!(Frames.decode(&mut BytesMut::from(&b"garbage!"[..])).is_err());
    }

    #[test]
    fn no_memory_is_reserved_for_a_frame_that_claims_gigabytes() {
        let mut source = BytesMut::from(&[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff][..]);
        assert!(Frames.decode(&mut source).is_err());
    }
}
