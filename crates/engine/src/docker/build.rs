//! Builds images from a Dockerfile: with BuildKit if the engine has it, otherwise with the engine's other builder if it gives the same result.

mod additional;
mod sessionless;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    time::Duration,
};

use bytes::Bytes;
use devenv_spec::ImageBuild;
use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};

use super::{
    buildkit,
    client::{Builder, Client},
    images,
};
use additional::AdditionalImages;

use crate::{
    EngineError,
    build::{AdditionalContext, BuildContext, BuildInputs, Dockerfile, ImageSettings, Inlined, base_images, without_heredocs},
};

/// The lines of a build; an error is the last item.
type Lines = BoxStream<'static, Result<String, EngineError>>;

/// The repository of images that hold the files of here-documents and of additional contexts during a build.
const INLINE: &str = "devenv-inline";
/// Where an image of [`files_of`] has its files.
pub(super) const FILES: &str = "/files";
/// A cancelled build leaves its image behind; an image older than this belongs to no running build.
const LEFT_BEHIND: Duration = Duration::from_hours(1);

pub(super) fn build(client: Client, build: ImageBuild, inputs: BuildInputs) -> Lines {
    stream::once(begin(client, build, inputs)).try_flatten().boxed()
}

async fn begin(client: Client, build: ImageBuild, inputs: BuildInputs) -> Result<Lines, EngineError> {
    let mut context = read(&build).await?;
    let file = Dockerfile::parse(&String::from_utf8_lossy(&context.dockerfile));
    match client.builder().await? {
        Builder::BuildKit { heredocs, platform } => {
            let additional = AdditionalImages::make(&client, &build, &context).await?;
            context.dockerfile = additional.in_dockerfile(&context.dockerfile);
            let lines =
                with_buildkit(client.clone(), build, inputs, (context, file.syntax, additional.clone()), (heredocs, platform)).await;
            additional.then_untag(client, lines).await
        }
        _ if !build.options.contexts.is_empty() => {
            let message = "`build.additional_contexts` needs BuildKit, which this engine does not have".to_owned();
            Err(failed(&build, message))
        }
        Builder::Buildah => sessionless::build(client, build, inputs, context).await,
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
            sessionless::build(client, build, inputs, context).await
        }
    }
}

/// With the frontend that the Dockerfile names, or the engine's own.
async fn with_buildkit(
    client: Client,
    build: ImageBuild,
    inputs: BuildInputs,
    (context, syntax, additional): (BuildContext, Option<String>, AdditionalImages),
    (heredocs, platform): (bool, String),
) -> Result<Lines, EngineError> {
    let Some(syntax) = syntax else {
        return with_own_frontend(client, build, inputs, context, heredocs, &platform).await;
    };
    // The frontend that the Dockerfile names parses it instead of the engine.
    let dockerfile = context.dockerfile.clone();
    let lines = buildkit::build(client.clone(), build.clone(), inputs.clone(), context, dockerfile).await?;
    if !is_official(&syntax) {
        return Ok(lines);
    }
    let again = async move {
        let mut context = read(&build).await?;
        let dockerfile = additional.in_dockerfile(&context.dockerfile);
        context.dockerfile = without_syntax(&String::from_utf8_lossy(&dockerfile)).into_bytes();
        with_own_frontend(client, build, inputs, context, heredocs, &platform).await
    };
    Ok(unless_unavailable(lines, syntax, again))
}

/// An image that has only the files of another, or of a directory of it. Returns its name; the caller removes it.
pub(super) async fn files_of(client: &Client, image: &str, directory: Option<&str>) -> Result<String, EngineError> {
    images::untag_older(client, INLINE, LEFT_BEHIND).await;
    let name = format!("{INLINE}:{}", hex::encode(rand::random::<[u8; 8]>()));
    let from = format!("/{}", directory.unwrap_or_default().trim_matches('/'));
    let build = ImageBuild::new("/".into(), name.clone());
    // A Dockerfile would take them for variables and patterns.
    if image.contains(|c: char| c.is_whitespace() || c == '$') || from.contains(|c: char| c.is_control() || "$\\*?[".contains(c)) {
        let message =
            format!("the files of `{from}` in the image `{image}` cannot be copied: a name has a character that is not supported");
        return Err(failed(&build, message));
    }
    let text = format!("FROM scratch\nCOPY --from={image} {}\n", serde_json::json!([from, format!("{FILES}/")]));
    let context =
        BuildContext { root: "/".into(), entries: Vec::new(), dockerfile: text.clone().into_bytes(), additional: BTreeMap::new() };
    let inputs = BuildInputs::default();
    let mut lines = match client.builder().await? {
        Builder::BuildKit { .. } => buildkit::build(client.clone(), build, inputs, context, text.into_bytes()).await?,
        Builder::Buildah | Builder::Classic => sessionless::build(client.clone(), build, inputs, context).await?,
    };
    while let Some(line) = lines.next().await {
        line?;
    }
    Ok(name)
}

fn failed(build: &ImageBuild, message: String) -> EngineError {
    EngineError::BuildFailed { tag: build.tag.clone(), message, output: Vec::new() }
}

async fn read(build: &ImageBuild) -> Result<BuildContext, EngineError> {
    let own = build.clone();
    let directories = own.options.contexts.values().filter_map(|value| match AdditionalContext::parse(value) {
        Some(AdditionalContext::Directory(path)) => Some(path.to_owned()),
        _ => None,
    });
    let directories = directories.chain([own.context.clone()]).collect();
    let context = devenv_files::read_in_time(directories, move || BuildContext::read(&own)).await;
    context.map_err(|error| failed(build, error.to_string()))?.map_err(|error| failed(build, with_cause(&error)))
}

/// Builds with the engine's own frontend, which may not support here-documents.
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

/// Whether it is Docker's own frontend, of which every engine has a version built in.
fn is_official(syntax: &str) -> bool {
    let name = syntax.trim_start_matches("docker.io/").split([':', '@']).next();
    matches!(name, Some("docker/dockerfile" | "docker/dockerfile-upstream"))
}

/// The text without the line that names a frontend. Other lines keep their numbers, unless a directive follows it.
fn without_syntax(text: &str) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let is_syntax = |line: &str| line.trim_start_matches(['#', ' ', '\t']).to_ascii_lowercase().starts_with("syntax");
    let Some(index) = lines.iter().position(|line| is_syntax(line)) else { return text.to_owned() };
    let directive = lines.get(index + 1).is_some_and(|next| next.starts_with('#') && next.contains('='));
    let replaced = if directive { "" } else { "\n" };
    lines.iter().enumerate().map(|(at, line)| if at == index { replaced } else { line }).collect()
}

/// Builds again with the engine's own frontend if the one that the Dockerfile names cannot be fetched. Both parse the same
/// language; the build fails if the engine's own is too old for an instruction.
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

/// The settings of a build besides its files, as parameters of the request.
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

/// The settings of the base images. Missing images are pulled: the build needs them anyway.
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

/// The values of the arguments that BuildKit predefines.
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

/// Removes an image that holds files of the build when the build has ended, in whatever way.
async fn then_untag(client: Client, image: String, lines: Result<Lines, EngineError>) -> Result<Lines, EngineError> {
    let untag = async move {
        if let Err(error) = images::untag(&client, &image).await {
            tracing::warn!(%error, image, "Cannot remove an image that held files of a build.");
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
            // Before the error is returned, because the caller stops reading after it.
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let reported = async |message: &str| -> Vec<Result<String, String>> {
            let again = std::future::ready(Ok(stream::iter([Ok("again".to_owned())]).boxed()));
            let lines = unless_unavailable(lines(message), "docker/dockerfile:1".into(), again);
            lines.map(|line| line.map_err(|error| error.to_string())).collect().await
        };
        let offline = reported("the step `resolve image config for docker.io/docker/dockerfile:1` failed: no such host").await;
        assert_eq!(offline.last().unwrap().as_deref(), Ok("again"));
        assert!(reported("the step `[2/2] RUN x` failed").await.last().unwrap().is_err());
    }

    #[test]
    fn the_variables_of_a_platform_are_those_that_buildkit_sets() {
        let variables = platform_variables(Some("linux/arm/v7"), "linux/amd64");
        assert_eq!((variables["TARGETARCH"].as_str(), variables["TARGETVARIANT"].as_str()), ("arm", "v7"));
        assert_eq!((variables["BUILDARCH"].as_str(), variables["BUILDPLATFORM"].as_str()), ("amd64", "linux/amd64"));
    }
}
