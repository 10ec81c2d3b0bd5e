//! Images from a Dockerfile: by BuildKit where the engine has it, else by the builder that it has, if that builds the same.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, Write},
    path::Path,
    time::Duration,
};

use bytes::Bytes;
use devenv_spec::ImageBuild;
use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::{
    buildkit,
    client::{Builder, Client},
    images,
    wire::{ARCHIVE, Call},
};
use crate::{
    EngineError,
    build::{BuildContext, BuildInputs, Dockerfile, ImageSettings, Inlined, base_images, without_heredocs},
};

/// The lines of a build; an error is the last.
type Lines = BoxStream<'static, Result<String, EngineError>>;

/// Images that hold the files of here-documents while their build runs.
const INLINE: &str = "devenv-inline";
/// A build that was cancelled leaves its image; an older one belongs to none that runs.
const LEFT_BEHIND: Duration = Duration::from_hours(1);

/// Pieces of the archive that wait to be sent.
const AHEAD: usize = 8;
const PIECE: usize = 256 << 10;

pub(super) fn build(client: Client, build: ImageBuild, inputs: BuildInputs) -> BoxStream<'static, Result<String, EngineError>> {
    stream::once(begin(client, build, inputs)).try_flatten().boxed()
}

async fn begin(client: Client, build: ImageBuild, inputs: BuildInputs) -> Result<Lines, EngineError> {
    let context = read(&build).await?;
    let file = Dockerfile::parse(&String::from_utf8_lossy(&context.dockerfile));
    match client.builder().await? {
        Builder::BuildKit { heredocs, platform } => {
            let Some(syntax) = file.syntax else {
                return with_own_frontend(client, build, inputs, context, heredocs, &platform).await;
            };
            // The frontend that the file names reads it in the engine's place.
            let dockerfile = context.dockerfile.clone();
            let lines = buildkit::build(client.clone(), build.clone(), inputs.clone(), context, dockerfile).await?;
            if !is_official(&syntax) {
                return Ok(lines);
            }
            let again = async move {
                let mut context = read(&build).await?;
                context.dockerfile = without_syntax(&String::from_utf8_lossy(&context.dockerfile)).into_bytes();
                with_own_frontend(client, build, inputs, context, heredocs, &platform).await
            };
            Ok(unless_unavailable(lines, syntax, again))
        }
        Builder::Buildah => plain(client, build, inputs, context).await,
        Builder::Classic => {
            if let Some((instruction, why)) = file.needs_buildkit() {
                let message = format!(
                    "{}:{}: `{}` with {why} needs BuildKit, which this engine does not have; build the image with another \
                        tool and name it under `image`",
                    build.dockerfile, instruction.line, instruction.keyword
                );
                return Err(failed(&build, message));
            }
            if let Some(field) = needs_session(&build) {
                return Err(failed(&build, format!("`build.{field}` needs BuildKit, which this engine does not have")));
            }
            plain(client, build, inputs, context).await
        }
    }
}

fn failed(build: &ImageBuild, message: String) -> EngineError {
    EngineError::BuildFailed { tag: build.tag.clone(), message, output: Vec::new() }
}

async fn read(build: &ImageBuild) -> Result<BuildContext, EngineError> {
    if let Some(name) = build.options.contexts.keys().next() {
        let message = format!("the additional context `{name}` cannot be given to this engine's builder: copy it into the context");
        return Err(failed(build, message));
    }
    let own = build.clone();
    let context = tokio::task::spawn_blocking(move || BuildContext::read(&own)).await;
    context.map_err(|error| failed(build, error.to_string()))?.map_err(|error| failed(build, with_cause(&error)))
}

/// By the frontend that is part of the engine, which may be older than here-documents.
async fn with_own_frontend(
    client: Client,
    build: ImageBuild,
    inputs: BuildInputs,
    context: BuildContext,
    heredocs: bool,
    platform: &str,
) -> Result<Lines, EngineError> {
    let text = String::from_utf8_lossy(&context.dockerfile).into_owned();
    let file = Dockerfile::parse(&text);
    if heredocs || file.instructions.iter().all(|instruction| instruction.heredocs.is_empty()) {
        return buildkit::build(client, build, inputs, context, text.into_bytes()).await;
    }
    images::untag_older(&client, INLINE, LEFT_BEHIND).await;
    let image = format!("{INLINE}:{}", hex::encode(rand::random::<[u8; 8]>()));
    let settings = base_settings(&client, &file, &build).await?;
    let platform = platform_variables(build.options.platform.as_deref(), platform);
    let inlined = without_heredocs(&text, &build.arguments, &settings, &platform, &image)
        .map_err(|error| failed(&build, format!("{}:{error}", build.dockerfile).replacen(":line ", ":", 1)))?;
    let dockerfile = inlined.text.clone().into_bytes();
    if inlined.files.is_empty() {
        return buildkit::build(client, build, inputs, context, dockerfile).await;
    }
    let archive = archive_of(&inlined).map_err(|error| failed(&build, error.to_string()))?;
    images::import(&client, &image, archive).await?;
    let lines = buildkit::build(client.clone(), build, inputs, context, dockerfile).await;
    then_untag(client, image, lines).await
}

/// Docker's own frontend, of which every engine has one built in.
fn is_official(syntax: &str) -> bool {
    let name = syntax.trim_start_matches("docker.io/").split([':', '@']).next();
    matches!(name, Some("docker/dockerfile" | "docker/dockerfile-upstream"))
}

/// Without the line that names a frontend. The others keep their numbers, unless a directive follows it.
fn without_syntax(text: &str) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let is_syntax = |line: &str| line.trim_start_matches(['#', ' ', '\t']).to_ascii_lowercase().starts_with("syntax");
    let Some(index) = lines.iter().position(|line| is_syntax(line)) else { return text.to_owned() };
    let directive = lines.get(index + 1).is_some_and(|next| next.starts_with('#') && next.contains('='));
    let replaced = if directive { "" } else { "\n" };
    lines.iter().enumerate().map(|(at, line)| if at == index { replaced } else { line }).collect()
}

/// Builds again with the engine's own frontend if the one that the Dockerfile names cannot be fetched. It knows the same
/// language, and fails where it is too old for an instruction.
fn unless_unavailable(lines: Lines, syntax: String, again: impl Future<Output = Result<Lines, EngineError>> + Send + 'static) -> Lines {
    let begin = Some((lines, Some((syntax, again))));
    stream::unfold(begin, |state| async move {
        let (mut lines, fallback) = state?;
        match (lines.next().await?, fallback) {
            (Err(EngineError::BuildFailed { message, .. }), Some((syntax, again)))
                if message.contains("resolve image config for") && message.contains("docker/dockerfile") =>
            {
                let word = format!("the frontend {syntax} cannot be fetched; the engine's own reads the Dockerfile");
                match again.await {
                    Ok(lines) => Some((Ok(word), Some((lines, None)))),
                    Err(error) => Some((Err(error), None)),
                }
            }
            (Err(error), _) => Some((Err(error), None)),
            (Ok(line), fallback) => Some((Ok(line), Some((lines, fallback)))),
        }
    })
    .boxed()
}

/// What a build says besides its files, as parameters of the request.
pub(super) fn settings(build: &ImageBuild, no_cache: bool) -> Vec<(&'static str, String)> {
    let options = &build.options;
    let mut found = Vec::new();
    for (name, value) in [("target", &build.target), ("platform", &options.platform), ("networkmode", &options.network)] {
        found.extend(value.clone().map(|value| (name, value)));
    }
    found.extend(options.shared_memory.map(|size| ("shmsize", size.bytes().to_string())));
    for (name, on) in [("nocache", no_cache || options.no_cache), ("pull", options.pull)] {
        found.extend(on.then(|| (name, "true".to_owned())));
    }
    if !options.labels.is_empty() {
        found.push(("labels", serde_json::json!(options.labels).to_string()));
    }
    if !options.extra_hosts.is_empty() {
        found.push(("extrahosts", options.extra_hosts.join(",")));
    }
    if !options.cache_from.is_empty() {
        found.push(("cachefrom", serde_json::json!(options.cache_from).to_string()));
    }
    found
}

fn needs_session(build: &ImageBuild) -> Option<&'static str> {
    let ssh = (!build.options.ssh.is_empty()).then_some("ssh");
    if build.options.secrets.is_empty() { ssh } else { Some("secrets") }
}

/// What the base images say, of which those that are not here are pulled: the build needs them anyway.
async fn base_settings(client: &Client, file: &Dockerfile, build: &ImageBuild) -> Result<HashMap<String, ImageSettings>, EngineError> {
    let mut found = HashMap::new();
    for name in base_images(file, &build.arguments) {
        let mut settings = images::settings(client, &name).await?;
        if settings.is_none() {
            images::pull(client, &name).try_for_each(|_| std::future::ready(Ok(()))).await?;
            settings = images::settings(client, &name).await?;
        }
        found.extend(settings.map(|settings| (name, settings)));
    }
    Ok(found)
}

/// The values of the arguments that BuildKit knows by itself.
fn platform_variables(target: Option<&str>, engine: &str) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for (prefix, platform) in [("TARGET", target.unwrap_or(engine)), ("BUILD", engine)] {
        let mut parts = platform.splitn(3, '/');
        for part in ["OS", "ARCH", "VARIANT"] {
            variables.insert(format!("{prefix}{part}"), parts.next().unwrap_or_default().to_owned());
        }
        variables.insert(format!("{prefix}PLATFORM"), platform.to_owned());
    }
    variables
}

/// The image with the files of here-documents goes when the build has ended, however it ended.
async fn then_untag(
    client: Client,
    image: String,
    lines: Result<BoxStream<'static, Result<String, EngineError>>, EngineError>,
) -> Result<BoxStream<'static, Result<String, EngineError>>, EngineError> {
    let untag = async move {
        if let Err(error) = images::untag(&client, &image).await {
            tracing::warn!(%error, image, "Cannot remove the image with the files of here-documents.");
        }
    };
    let lines = match lines {
        Ok(lines) => lines,
        Err(error) => {
            untag.await;
            return Err(error);
        }
    };
    let lines = stream::unfold(Some((lines, untag)), |state| async move {
        let (mut lines, untag) = state?;
        match lines.next().await {
            Some(Ok(line)) => Some((Ok(line), Some((lines, untag)))),
            // Before it is reported, for nobody reads on after that.
            Some(Err(error)) => {
                untag.await;
                Some((Err(error), None))
            }
            None => {
                untag.await;
                None
            }
        }
    });
    Ok(lines.boxed())
}

fn archive_of(inlined: &Inlined) -> io::Result<Bytes> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, mode, text) in &inlined.files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(*mode);
        builder.append_data(&mut header, path.trim_start_matches('/'), text.as_bytes())?;
    }
    Ok(builder.into_inner()?.into())
}

fn with_cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

#[derive(Default, Deserialize)]
struct BuildDocument {
    #[serde(default)]
    stream: Option<String>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    error: Option<String>,
}

/// Without a session: the context is sent with the request.
async fn plain(
    client: Client,
    build: ImageBuild,
    inputs: BuildInputs,
    context: BuildContext,
) -> Result<BoxStream<'static, Result<String, EngineError>>, EngineError> {
    let mut call = Call::post("build the image", "/build")
        .with("t", build.tag.clone())
        .with("dockerfile", build.dockerfile.clone())
        .with("buildargs", serde_json::json!(build.arguments).to_string())
        .with("rm", "true")
        .with("forcerm", "true")
        // The first word comes when the context is there.
        .within(ARCHIVE);
    for (name, value) in settings(&build, inputs.no_cache) {
        call = call.with(name, value);
    }
    let body = reqwest::Body::wrap_stream(pieces(context, build.dockerfile));
    let response = client.wire.open_with(call, body, "application/x-tar").await?;
    Ok(output_lines(client.wire.documents(response, "build the image").boxed(), build.tag).boxed())
}

/// Whole lines; an error comes last.
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

/// The context as a tar, written by a thread that is at most a few pieces ahead and ends when nobody reads any more.
fn pieces(context: BuildContext, dockerfile: String) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let failure = sender.clone();
    let writer = tokio::task::spawn_blocking(move || {
        let mut pieces = io::BufWriter::with_capacity(PIECE, Pieces(sender));
        let written = archive(&context, &dockerfile, &mut pieces).and_then(|()| pieces.flush());
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

/// The Dockerfile goes along even if it is ignored: these builders take it from the archive, and then leave it out.
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
    for entry in &context.entries {
        let full = context.root.join(&entry.path);
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
            // Exactly as many bytes as the header says, even if the file grows.
            let content = io::Read::take(std::fs::File::open(&full)?, metadata.len());
            builder.append_data(&mut header, &entry.path, content)?;
        }
    }
    builder.into_inner()?.flush()
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

    #[test]
    fn a_dockerfile_without_its_frontend_keeps_its_lines_and_directives() {
        assert!(is_official("docker/dockerfile:1.7") && is_official("docker.io/docker/dockerfile") && !is_official("acme/dockerfile:1"));
        assert_eq!(without_syntax("# syntax=docker/dockerfile:1\nFROM a\n"), "\nFROM a\n");
        assert_eq!(without_syntax("#syntax = docker/dockerfile:1\n# escape=`\nFROM a\n"), "# escape=`\nFROM a\n");
    }

    #[tokio::test]
    async fn a_frontend_that_cannot_be_fetched_gives_way_to_the_engine_s_own() {
        let lines = |message: &str| -> Lines {
            let error = EngineError::BuildFailed { tag: "x".into(), message: message.into(), output: Vec::new() };
            stream::iter([Ok("first".to_owned()), Err(error)]).boxed()
        };
        let told = async |message: &str| -> Vec<Result<String, String>> {
            let again = std::future::ready(Ok(stream::iter([Ok("again".to_owned())]).boxed()));
            let lines = unless_unavailable(lines(message), "docker/dockerfile:1".into(), again);
            lines.map(|line| line.map_err(|error| error.to_string())).collect().await
        };
        let offline = told("the step `resolve image config for docker.io/docker/dockerfile:1` failed: no such host").await;
        assert_eq!(offline.last().unwrap().as_deref(), Ok("again"));
        assert!(told("the step `[2/2] RUN x` failed").await.last().unwrap().is_err());
    }

    #[test]
    fn the_variables_of_a_platform_are_those_that_buildkit_sets() {
        let variables = platform_variables(Some("linux/arm/v7"), "linux/amd64");
        assert_eq!((variables["TARGETARCH"].as_str(), variables["TARGETVARIANT"].as_str()), ("arm", "v7"));
        assert_eq!((variables["BUILDARCH"].as_str(), variables["BUILDPLATFORM"].as_str()), ("amd64", "linux/amd64"));
    }
}
