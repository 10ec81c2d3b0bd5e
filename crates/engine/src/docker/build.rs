//! Images from a Dockerfile, by the engine's own builder; BuildKit would need a session in gRPC.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use globset::{GlobBuilder, GlobMatcher};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::{
    client::Client,
    wire::{ARCHIVE, Call},
};
use devenv_spec::ImageBuild;

use crate::EngineError;

/// Pieces of the archive that wait to be sent.
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

pub(super) fn build(client: Client, build: ImageBuild) -> BoxStream<'static, Result<String, EngineError>> {
    let action = format!("build the image `{}`", build.tag);
    stream::once(async move {
        let arguments = serde_json::json!(build.arguments).to_string();
        let mut call = Call::post("build the image", "/build")
            .with("t", build.tag.clone())
            .with("dockerfile", build.dockerfile.clone())
            .with("buildargs", arguments)
            .with("rm", "true")
            .with("forcerm", "true")
            // The first word comes when the context is there.
            .within(ARCHIVE);
        if let Some(target) = &build.target {
            call = call.with("target", target.clone());
        }
        let body = reqwest::Body::wrap_stream(context(build));
        let response = client.wire.open_with(call, body, "application/x-tar").await?;
        Ok::<_, EngineError>(output_lines(client.wire.documents(response, "build the image").boxed(), action))
    })
    .try_flatten()
    .boxed()
}

/// Whole lines; an error comes last.
fn output_lines(
    documents: BoxStream<'static, Result<BuildDocument, EngineError>>,
    action: String,
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
                        lines.push(Err(EngineError::Refused { action: action.clone(), status: 500, message }));
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

/// The context as a tar, written by a thread that is at most a few pieces ahead and ends when nobody reads any more.
fn context(build: ImageBuild) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let failure = sender.clone();
    let writer = tokio::task::spawn_blocking(move || {
        let mut pieces = io::BufWriter::with_capacity(PIECE, Pieces(sender));
        let written = archive(&build, &mut pieces).and_then(|()| pieces.flush());
        if let Err(error) = written {
            // A closed channel means that nothing reads the archive.
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

fn archive(build: &ImageBuild, output: impl Write) -> io::Result<()> {
    let ignored = match std::fs::read_to_string(build.context.join(".dockerignore")) {
        Ok(text) => Ignored::parse(&text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ignored::default(),
        Err(error) => return Err(error),
    };
    let mut builder = tar::Builder::new(output);
    builder.follow_symlinks(false);
    for path in files(&build.context, &build.dockerfile, &ignored)? {
        let full = build.context.join(&path);
        let metadata = full.symlink_metadata()?;
        let mut header = tar::Header::new_gnu();
        header.set_metadata(&metadata);
        // The same context gives the same layers for all users.
        header.set_uid(0);
        header.set_gid(0);
        if metadata.is_symlink() {
            header.set_size(0);
            builder.append_link(&mut header, &path, std::fs::read_link(&full)?)?;
        } else if metadata.is_dir() {
            builder.append_data(&mut header, &path, io::empty())?;
        } else if metadata.is_file() {
            // Exactly as many bytes as the header says, even if the file grows.
            let content = io::Read::take(std::fs::File::open(&full)?, metadata.len());
            builder.append_data(&mut header, &path, content)?;
        }
    }
    builder.into_inner()?.flush()
}

/// What is sent, relative to the context, in order. The Dockerfile goes along even if it is ignored.
fn files(context: &Path, dockerfile: &str, ignored: &Ignored) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut directories = vec![PathBuf::new()];
    let dockerfile = Path::new(dockerfile.trim_start_matches("./"));
    while let Some(directory) = directories.pop() {
        let mut entries: Vec<_> = std::fs::read_dir(context.join(&directory))?.collect::<Result<_, _>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let path = directory.join(entry.file_name());
            let out = ignored.matches(&path) && path != dockerfile;
            let is_directory = entry.file_type()?.is_dir();
            if is_directory && (!out || ignored.has_exceptions || dockerfile.starts_with(&path)) {
                directories.push(path.clone());
            }
            if !out {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// `.dockerignore`: patterns from the context's root. The last match decides; `!` includes again.
#[derive(Default)]
struct Ignored {
    patterns: Vec<(GlobMatcher, bool)>,
    has_exceptions: bool,
}

impl Ignored {
    fn parse(text: &str) -> io::Result<Self> {
        let mut ignored = Self::default();
        for line in text.trim_start_matches('\u{FEFF}').lines() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (pattern, out) = line.strip_prefix('!').map_or((line, true), |pattern| (pattern.trim(), false));
            let pattern = pattern.trim_start_matches("./").trim_matches('/');
            if pattern.is_empty() || pattern == "." {
                continue;
            }
            let glob = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build();
            let glob = glob.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!(".dockerignore: {error}")))?;
            ignored.patterns.push((glob.compile_matcher(), out));
            ignored.has_exceptions |= !out;
        }
        Ok(ignored)
    }

    /// A pattern that matches a directory matches what is in it.
    fn matches(&self, path: &Path) -> bool {
        let hit = |glob: &GlobMatcher| path.ancestors().any(|part| !part.as_os_str().is_empty() && glob.is_match(part));
        self.patterns.iter().rev().find(|(glob, _)| hit(glob)).is_some_and(|(_, out)| *out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pattern_that_matches_decides() {
        let ignored = Ignored::parse("# comment\n/target\n*.log\n**/*.tmp\ndocs/\n!docs/keep.md\n!a.log\n").unwrap();
        for (path, out) in [
            ("target", true),
            ("target/debug/x", true),
            ("src/target", false),
            ("x.log", true),
            ("a.log", false),
            ("src/x.log", false),
            ("src/deep/x.tmp", true),
            ("x.tmp", true),
            ("docs/other.md", true),
            ("docs/keep.md", false),
            ("src/main.rs", false),
        ] {
            assert_eq!(ignored.matches(Path::new(path)), out, "{path}");
        }
    }

    #[test]
    fn the_context_holds_what_is_not_ignored_and_always_the_dockerfile() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for path in ["docker/Dockerfile", "docker/other", "src/main.rs", "target/huge", ".dockerignore"] {
            std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            std::fs::write(root.join(path), path).unwrap();
        }
        std::os::unix::fs::symlink("main.rs", root.join("src/link")).unwrap();
        std::fs::write(root.join(".dockerignore"), "docker\ntarget\n").unwrap();
        let build = ImageBuild {
            context: root.to_owned(),
            dockerfile: "docker/Dockerfile".into(),
            target: None,
            arguments: indexmap::IndexMap::new(),
            tag: "x".into(),
        };
        let mut bytes = Vec::new();
        archive(&build, &mut bytes).unwrap();
        let names: Vec<_> = tar::Archive::new(bytes.as_slice())
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, [".dockerignore", "docker/Dockerfile", "src", "src/link", "src/main.rs"]);
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
        let lines: Vec<_> = output_lines(documents.boxed(), "build the image `x`".into())
            .map(|line| line.unwrap_or_else(|error| error.to_string()))
            .collect()
            .await;
        assert_eq!(lines, ["Step 1/2 : FROM x", "tail", "the engine refused to build the image `x`: no such luck"]);
    }
}
