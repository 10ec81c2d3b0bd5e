//! Reads a script's bytes: decompresses them on the host as a stream, and counts what has been read.
//!
//! The host decompresses, in pure Rust, because not every image contains gzip, xz and zstd.

use std::{
    io::{self, BufReader, Cursor, Read},
    ops::Range,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio::{io::AsyncRead, sync::mpsc};

use super::{
    files::{Content, Script},
    sections::OnlyUp,
    zstd::Frames,
};

const CHUNK: usize = 256 * 1024;

/// The script's bytes, decompressed according to its name.
pub(crate) fn open(script: &Script) -> io::Result<Box<dyn Read + Send>> {
    open_counted(script, Arc::default())
}

/// `read` counts the bytes of the file, before decompression.
fn open_counted(script: &Script, read: Arc<AtomicU64>) -> io::Result<Box<dyn Read + Send>> {
    let raw: Box<dyn Read + Send> = match &script.content {
        Content::File(path) => Box::new(devenv_files::TimedReader::open(path)?),
        Content::Shipped(bytes) => Box::new(Cursor::new(*bytes)),
    };
    let raw = BufReader::with_capacity(CHUNK, Counted { inner: raw, read });
    let ending = script.path.rsplit('.').next().unwrap_or_default();
    let plain: Box<dyn Read + Send> = match ending.to_ascii_lowercase().as_str() {
        "gz" => Box::new(flate2::bufread::MultiGzDecoder::new(raw)),
        "xz" => Box::new(lzma_rust2::XzReader::new(raw, true)),
        "zst" => Box::new(Frames::new(raw)?),
        _ => Box::new(raw),
    };
    Ok(if script.only_up { Box::new(OnlyUp::new(BufReader::with_capacity(CHUNK, plain))) } else { plain })
}

/// With these bytes overwritten by spaces; line ends stay.
pub(crate) fn blanked(input: Box<dyn Read + Send>, spans: Vec<Range<u64>>) -> impl Read + Send {
    Blanked { input, offset: 0, spans }
}

struct Blanked {
    input: Box<dyn Read + Send>,
    offset: u64,
    spans: Vec<Range<u64>>,
}

impl Read for Blanked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        blank(&mut buffer[..count], self.offset, &self.spans);
        self.offset += count as u64;
        Ok(count)
    }
}

struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// A script on its way to a server.
pub(crate) struct Flow {
    chunks: mpsc::Receiver<Bytes>,
    pub meter: Meter,
    reader: tokio::task::JoinHandle<()>,
}

/// The progress, and an error while reading it.
#[derive(Clone, Default)]
pub(crate) struct Meter {
    read: Arc<AtomicU64>,
    lines: Arc<AtomicU64>,
    failure: Arc<Mutex<Option<String>>>,
}

impl Meter {
    /// Bytes of the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    pub(crate) fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().expect("no code panics while it holds this lock").clone()
    }
}

/// The script's bytes with `blanked` overwritten by spaces, and `trailer` after them.
///
/// If the file cannot be read to its end, the stream ends without its trailer: a reader that must know that the script is
/// complete puts what completes it (the ledger's row, the COMMIT) there and nowhere else.
pub(crate) fn flow(script: &Script, blanked: Vec<Range<u64>>, trailer: Bytes) -> Flow {
    flow_through(script, trailer, |input| Box::new(self::blanked(input, blanked)))
}

/// The same, with the bytes changed by `change`.
pub(crate) fn flow_through(
    script: &Script,
    trailer: Bytes,
    change: impl FnOnce(Box<dyn Read + Send>) -> Box<dyn Read + Send> + Send + 'static,
) -> Flow {
    let (sender, chunks) = mpsc::channel(4);
    let meter = Meter::default();
    let (script, shared) = (script.clone(), meter.clone());
    let reader = tokio::task::spawn_blocking(move || {
        let fail = |error: io::Error| *shared.failure.lock().expect("no code panics while it holds this lock") = Some(error.to_string());
        let mut input = match open_counted(&script, shared.read.clone()) {
            Ok(input) => change(input),
            Err(error) => return fail(error),
        };
        loop {
            let mut chunk = vec![0; CHUNK];
            match input.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => {
                    chunk.truncate(count);
                    #[expect(clippy::naive_bytecount, reason = "reading the file costs more; no dependency for this")]
                    let lines = chunk.iter().filter(|byte| **byte == b'\n').count() as u64;
                    shared.lines.fetch_add(lines, Ordering::Relaxed);
                    if sender.blocking_send(chunk.into()).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return fail(error),
            }
        }
        if !trailer.is_empty() {
            // There is no receiver only if nobody needs the rest.
            sender.blocking_send(trailer).ok();
        }
    });
    Flow { chunks, meter, reader }
}

fn blank(chunk: &mut [u8], offset: u64, spans: &[Range<u64>]) {
    for span in spans {
        for at in span.clone() {
            if let Some(byte) = at.checked_sub(offset).and_then(|at| chunk.get_mut(at as usize)).filter(|byte| **byte != b'\n') {
                *byte = b' ';
            }
        }
    }
}

impl Flow {
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        self.chunks.recv().await
    }

    /// As a reader.
    pub(crate) fn into_reader(self) -> Pin<Box<dyn AsyncRead + Send>> {
        let stream = futures_util::stream::unfold(self, |mut flow| async move { Some((Ok::<_, io::Error>(flow.next().await?), flow)) });
        Box::pin(tokio_util::io::StreamReader::new(Box::pin(stream)))
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        // The thread ends at its next send; this only stops one that has not started.
        self.reader.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn spans_are_blanked_across_chunks_and_line_ends_stay() {
        let mut first = b"BEG".to_vec();
        let mut second = b"IN\n;x".to_vec();
        for (chunk, offset) in [(&mut first, 0), (&mut second, 3)] {
            blank(chunk, offset, &[0..4, 5..7]);
        }
        assert_eq!((first.as_slice(), second.as_slice()), (b"   ".as_slice(), b" N\n x".as_slice()));
    }

    #[tokio::test]
    async fn a_damaged_file_never_gets_its_trailer() {
        let directory = tempfile::tempdir().unwrap();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&b"SELECT 1;\n".repeat(100_000)).unwrap();
        let packed = packed.finish().unwrap();
        let xz = b"\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4F\x02\x00!\x01\x16\x00\x00\x00t/\xe5\xa3\x01\x00\x09SELECT 1;\n\x00\x00XZ".to_vec();
        for (name, bytes, whole) in [
            ("a.sql.gz", packed.clone(), true),
            ("b.sql.gz", packed[..packed.len() / 2].to_vec(), false),
            ("c.sql.gz", [packed.clone(), packed.clone()].concat(), true),
            ("d.sql.xz", xz[..xz.len() - 1].to_vec(), false),
            ("e.sql.zst", b"\x28\xb5\x2f\xfd\x20\x03\x19\x00\x00a;".to_vec(), false),
        ] {
            std::fs::write(directory.path().join(name), bytes).unwrap();
            let script = crate::script::files::tests::file(directory.path(), name);
            let mut flow = flow(&script, Vec::new(), Bytes::from_static(b"END"));
            let mut all = Vec::new();
            while let Some(chunk) = flow.next().await {
                all.extend_from_slice(&chunk);
            }
            assert_eq!(all.ends_with(b"END"), whole, "{name}");
            assert_eq!(flow.meter.failure().is_none(), whole, "{name}");
        }
    }
}
