//! A container's output, reassembled: the engine splits lines of more than 16 KiB into frames, each with a time
//! stamp of its own.
//!
//! `since` is inclusive: lines of that exact nanosecond are returned again, so a reader that continues from the
//! last stamp it has seen must drop as many lines of that stamp as it already has.

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use tokio_util::codec::FramedRead;

use super::{
    client::Client,
    error::gone,
    frames::Frames,
    wire::{Call, reader, segment},
};
use crate::{EngineError, ExecStream, LogChunk};

/// Longer lines are split at this length, which bounds the memory for a line that never ends.
const LONGEST: usize = 1 << 20;

pub(super) fn read(client: Client, id: &str, since: Option<&str>, follow: bool) -> BoxStream<'static, Result<LogChunk, EngineError>> {
    let path = format!("/containers/{}/logs", segment(id));
    let since = since.map(seconds).transpose();
    stream::once(async move {
        let mut call = Call::get("read the container's output", path)
            .with("stdout", "true")
            .with("stderr", "true")
            .with("timestamps", "true")
            .with("follow", follow.to_string());
        if let Some(since) = since? {
            call = call.with("since", since);
        }
        // If a container is silent, some engines do not even send the response head.
        let call = if follow { call.without_limit() } else { call };
        let response = client.wire.open(call).await?;
        let frames = FramedRead::new(reader(response), Frames);
        let frames = frames.map_err(move |error| gone(client.endpoint(), format!("the output was interrupted: {error}")));
        Ok::<_, EngineError>(lines(frames.boxed()))
    })
    .try_flatten()
    .boxed()
}

/// The time format that the engine accepts without losing nanoseconds.
fn seconds(time: &str) -> Result<String, EngineError> {
    let time: jiff::Timestamp = time.parse().map_err(|error: jiff::Error| EngineError::Protocol {
        action: "read the container's output".to_owned(),
        message: format!("`{time}` is not a time: {error}"),
    })?;
    Ok(format!("{}.{:09}", time.as_second(), time.subsec_nanosecond()))
}

type FrameStream = BoxStream<'static, Result<(ExecStream, Bytes), EngineError>>;

fn lines(frames: FrameStream) -> impl futures_util::Stream<Item = Result<LogChunk, EngineError>> {
    let end = stream::once(std::future::ready(None));
    frames
        .map(Some)
        .chain(end)
        .scan([Assembly::new(ExecStream::Stdout), Assembly::new(ExecStream::Stderr)], |assemblies, item| {
            let mut chunks = Vec::new();
            match item {
                Some(Ok((stream, content))) => assemblies[usize::from(stream == ExecStream::Stderr)].add(&content, &mut chunks),
                Some(Err(error)) => return std::future::ready(Some(vec![Err(error)])),
                None => assemblies.iter_mut().for_each(|assembly| assembly.flush(&mut chunks)),
            }
            std::future::ready(Some(chunks.into_iter().map(Ok).collect()))
        })
        .flat_map(stream::iter)
}

/// The line that is being assembled for one of the two outputs.
struct Assembly {
    stream: ExecStream,
    time: String,
    text: BytesMut,
}

impl Assembly {
    fn new(stream: ExecStream) -> Self {
        Self { stream, time: String::new(), text: BytesMut::new() }
    }

    fn add(&mut self, frame: &[u8], chunks: &mut Vec<LogChunk>) {
        let (time, mut content) = stamp(frame);
        if let Some(time) = time
            && self.text.is_empty()
        {
            time.clone_into(&mut self.time);
        }
        while let Some(end) = content.iter().position(|byte| *byte == b'\n') {
            self.text.extend_from_slice(&content[..end]);
            self.cut(chunks);
            if self.text.last() == Some(&b'\r') {
                self.text.truncate(self.text.len() - 1);
            }
            self.emit(self.text.len(), chunks);
            content = &content[end + 1..];
            if let (Some(time), rest) = stamp(content) {
                time.clone_into(&mut self.time);
                content = rest;
            }
        }
        self.text.extend_from_slice(content);
        self.cut(chunks);
    }

    /// Chunks of a very long line, never split within a character.
    fn cut(&mut self, chunks: &mut Vec<LogChunk>) {
        while self.text.len() > LONGEST {
            let continues = |byte: u8| byte & 0xC0 == 0x80;
            let back = (0..4).find(|back| !continues(self.text[LONGEST - back])).unwrap_or(0);
            self.emit(LONGEST - back, chunks);
        }
    }

    fn emit(&mut self, length: usize, chunks: &mut Vec<LogChunk>) {
        let text = self.text.split_to(length);
        chunks.push(LogChunk {
            time: self.time.clone(),
            stderr: self.stream == ExecStream::Stderr,
            text: String::from_utf8_lossy(&text).into_owned(),
        });
    }

    /// The last line, if it has no line end.
    fn flush(&mut self, chunks: &mut Vec<LogChunk>) {
        if !self.text.is_empty() {
            self.emit(self.text.len(), chunks);
        }
    }
}

/// Splits off the engine's time stamp: `2026-11-21T09:23:37.534204747Z `.
fn stamp(frame: &[u8]) -> (Option<&str>, &[u8]) {
    let end = frame.iter().take(40).position(|byte| *byte == b' ');
    let Some(end) = end.filter(|end| *end >= 20) else { return (None, frame) };
    match std::str::from_utf8(&frame[..end]) {
        Ok(time) if time.as_bytes()[10] == b'T' && time.as_bytes()[0].is_ascii_digit() => (Some(time), &frame[end + 1..]),
        _ => (None, frame),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_frames(frames: Vec<(ExecStream, Vec<u8>)>) -> Vec<LogChunk> {
        let frames = stream::iter(frames.into_iter().map(|(stream, content)| Ok((stream, Bytes::from(content)))));
        lines(frames.boxed()).try_collect().await.unwrap()
    }

    fn frame(second: u32, text: &str) -> Vec<u8> {
        format!("2026-11-21T09:23:{second:02}.534204747Z {text}").into_bytes()
    }

    #[tokio::test]
    async fn torn_lines_are_put_together_with_the_stamp_of_their_beginning() {
        let chunks = read_frames(vec![
            (ExecStream::Stdout, frame(1, "one ")),
            (ExecStream::Stderr, frame(2, "error\n")),
            (ExecStream::Stdout, frame(3, "line\r\n")),
            (ExecStream::Stdout, frame(4, "\n")),
            (ExecStream::Stdout, frame(5, "no end")),
        ])
        .await;
        let reported: Vec<_> = chunks.iter().map(|chunk| (&chunk.time[17..19], chunk.stderr, chunk.text.as_str())).collect();
        assert_eq!(reported, [("02", true, "error"), ("01", false, "one line"), ("04", false, ""), ("05", false, "no end")]);
    }

    #[tokio::test]
    async fn a_character_split_between_frames_is_reassembled() {
        let mut first = frame(1, "gr");
        first.push(0xC3);
        let mut second = frame(1, "");
        second.extend_from_slice(&[0xBC, b'n', b'\n']);
        let chunks = read_frames(vec![(ExecStream::Stdout, first), (ExecStream::Stdout, second)]).await;
        assert_eq!(chunks[0].text, "grün");
    }

    #[tokio::test]
    async fn a_very_long_line_is_returned_in_chunks() {
        let piece = "ü".repeat(8000);
        let count = 150;
        let mut frames: Vec<_> = (0..count).map(|_| (ExecStream::Stdout, frame(1, &piece))).collect();
        frames.push((ExecStream::Stdout, frame(2, "end\n")));
        let chunks = read_frames(frames).await;
        assert_eq!(chunks.len(), 3);
        assert!(chunks.iter().all(|chunk| chunk.text.len() <= LONGEST && !chunk.text.contains('\u{FFFD}')));
        assert_eq!(chunks.iter().map(|chunk| chunk.text.as_str()).collect::<String>(), piece.repeat(count) + "end");
    }

    #[test]
    fn nanoseconds_survive_the_way_to_the_engine() {
        assert_eq!(seconds("2026-11-21T09:23:37.534204747Z").unwrap(), "1795253017.534204747");
        assert!(seconds("yesterday").is_err());
    }
}
