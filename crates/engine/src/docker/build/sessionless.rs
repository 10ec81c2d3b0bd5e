//! Builds without a session, for Podman and Docker's old builder: one request carries the context as a tar archive.

use std::{
    io::{self, Write},
    path::Path,
};

use bytes::Bytes;
use devenv_spec::ImageBuild;
use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::{
    super::{
        client::Client,
        wire::{ARCHIVE, Call},
    },
    Lines,
};
use crate::{
    EngineError,
    build::{BuildContext, BuildInputs, Entry},
};

/// The most chunks of the archive that wait to be sent.
const AHEAD: usize = 8;
const PIECE: usize = 256 << 10;

#[derive(Default, Deserialize)]
struct BuildDocument {
    #[serde(default)]
    stream: Option<String>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    error: Option<String>,
}

/// Builds without a session: the context is sent with the request.
pub(super) async fn build(client: Client, build: ImageBuild, inputs: BuildInputs, context: BuildContext) -> Result<Lines, EngineError> {
    let mut call = Call::post("build the image", "/build")
        .with("t", build.tag.clone())
        .with("dockerfile", build.dockerfile.clone())
        .with("buildargs", serde_json::json!(build.arguments).to_string())
        .with("rm", "true")
        .with("forcerm", "true")
        // The engine answers only after it has received the context.
        .within(ARCHIVE);
    for (name, value) in super::settings(&build, inputs.no_cache) {
        call = call.with(name, value);
    }
    let body = reqwest::Body::wrap_stream(pieces(context, build.dockerfile));
    let response = client.wire.open_with(call, body, "application/x-tar").await?;
    Ok(output_lines(client.wire.documents(response, "build the image").boxed(), build.tag).boxed())
}

/// Yields whole lines; an error comes last.
fn output_lines(
    documents: BoxStream<'static, Result<BuildDocument, EngineError>>,
    tag: String,
) -> impl futures_util::Stream<Item = Result<String, EngineError>> {
    let end = stream::once(std::future::ready(None));
    documents
        .map(Some)
        .chain(end)
        .scan(String::new(), move |rest, item| {
            let mut lines = Vec::new();
            match item {
                Some(Ok(document)) => {
                    rest.push_str(document.stream.as_deref().unwrap_or_default());
                    while let Some(end) = rest.find('\n') {
                        let line: String = rest.drain(..=end).collect();
                        lines.push(Ok(line.trim_end().to_owned()));
                    }
                    lines.extend(document.status.map(Ok));
                    if let Some(message) = document.error {
                        lines.push(Ok(std::mem::take(rest)));
                        let message = message.trim().to_owned();
                        lines.push(Err(EngineError::BuildFailed { tag: tag.clone(), message, output: Vec::new() }));
                    }
                }
                Some(Err(error)) => lines.push(Err(error)),
                None if rest.is_empty() => {}
                None => lines.push(Ok(std::mem::take(rest))),
            }
            std::future::ready(Some(lines))
        })
        .flat_map(stream::iter)
        .try_filter(|line| std::future::ready(!line.is_empty()))
}

/// The context as a tar archive, written by a thread that is at most a few chunks ahead and ends when the reader is gone.
fn pieces(context: BuildContext, dockerfile: String) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let failure = sender.clone();
    let writer = tokio::task::spawn_blocking(move || {
        let mut pieces = io::BufWriter::with_capacity(PIECE, Pieces(sender));
        let written = archive(&context, &dockerfile, &mut pieces).and_then(|()| pieces.flush());
        if let Err(error) = written {
            // A closed channel means that the reader is gone.
            let _ = failure.blocking_send(Err(error));
        }
    });
    stream::unfold((receiver, Some(writer)), |(mut receiver, mut writer)| async move {
        if let Some(piece) = receiver.recv().await {
            return Some((piece, (receiver, writer)));
        }
        match writer.take()?.await {
            Ok(()) => None,
            Err(error) => Some((Err(io::Error::other(error)), (receiver, None))),
        }
    })
}

struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(piece)));
        sent.map(|()| piece.len()).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The Dockerfile is sent even if it is ignored: these builders read it from the archive, and then leave it out of the context.
fn archive(context: &BuildContext, dockerfile: &str, output: impl Write) -> io::Result<()> {
    let mut builder = tar::Builder::new(output);
    builder.follow_symlinks(false);
    let dockerfile = Path::new(dockerfile.trim_start_matches("./"));
    if !context.entries.iter().any(|entry| entry.path == dockerfile) {
        let mut header = tar::Header::new_gnu();
        header.set_size(context.dockerfile.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, dockerfile, context.dockerfile.as_slice())?;
    }
    append(&mut builder, &context.root, &context.entries)?;
    builder.into_inner()?.flush()
}

/// Adds the files of a context. Names in the archive are their paths in the context.
pub(super) fn append(builder: &mut tar::Builder<impl Write>, root: &Path, entries: &[Entry]) -> io::Result<()> {
    for entry in entries {
        let full = root.join(&entry.path);
        let metadata = &entry.metadata;
        let mut header = tar::Header::new_gnu();
        header.set_metadata(metadata);
        // The same context gives the same layers for all users.
        header.set_uid(0);
        header.set_gid(0);
        if metadata.is_symlink() {
            header.set_size(0);
            builder.append_link(&mut header, &entry.path, std::fs::read_link(&full)?)?;
        } else if metadata.is_dir() {
            builder.append_data(&mut header, &entry.path, io::empty())?;
        } else if metadata.is_file() {
            // Exactly as many bytes as the header announces, even if the file grows.
            let content = io::Read::take(devenv_files::TimedReader::open(&full)?, metadata.len());
            builder.append_data(&mut header, &entry.path, content)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_holds_what_is_not_ignored_and_always_the_dockerfile() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for path in ["docker/Dockerfile", "docker/other", "src/main.rs", "target/huge", ".dockerignore"] {
            std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            std::fs::write(root.join(path), path).unwrap();
        }
        std::os::unix::fs::symlink("main.rs", root.join("src/link")).unwrap();
        std::fs::write(root.join(".dockerignore"), "docker\ntarget\n").unwrap();
        let build = ImageBuild { dockerfile: "docker/Dockerfile".into(), ..ImageBuild::new(root.to_owned(), "x") };
        let mut bytes = Vec::new();
        archive(&BuildContext::read(&build).unwrap(), &build.dockerfile, &mut bytes).unwrap();
        let names: Vec<_> = tar::Archive::new(bytes.as_slice())
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["docker/Dockerfile", ".dockerignore", "src", "src/link", "src/main.rs"]);
    }

    #[tokio::test]
    async fn lines_are_whole_and_an_error_is_the_last() {
        let documents = [
            r#"{"stream":"Step 1/2 : FR"}"#,
            r#"{"stream":"OM x\n"}"#,
            r#"{"aux":{"ID":"sha256:1"}}"#,
            r#"{"stream":"tail"}"#,
            r#"{"errorDetail":{"message":"no"},"error":"no such luck"}"#,
        ];
        let documents = stream::iter(documents.map(|json| Ok(serde_json::from_str(json).unwrap())));
        let lines: Vec<_> =
            output_lines(documents.boxed(), "x".into()).map(|line| line.unwrap_or_else(|error| error.to_string())).collect().await;
        assert_eq!(lines, ["Step 1/2 : FROM x", "tail", "cannot build the image `x`: no such luck"]);
    }
}
