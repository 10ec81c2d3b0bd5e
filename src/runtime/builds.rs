//! Images that services build: the fingerprints of their files, the build with its output in the service's log,
//! and the list of files of the last build, with which a plan explains a rebuild.

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use devenv_api::{ApiError, ErrorCode, LogStream};
use devenv_engine::{
    Engine, EngineError,
    build::{BuildContext, BuildInputs, Manifest},
};
use devenv_files::Durability;
use devenv_logs::Logs;
use devenv_spec::{BuildSecret, EnvironmentSpec, ImageBuild, ServiceName, ServiceSpec};
use futures_util::StreamExt;
use jiff::Timestamp;

use crate::{error::describe, reconcile::Evidence};

/// A builder that is silent for this long has died.
const SILENCE: Duration = Duration::from_mins(30);
/// The most that a build secret may hold, in bytes: BuildKit takes no larger one.
const LARGEST_SECRET: u64 = 500 << 10;
/// The output lines that a failure shows.
const SHOWN: usize = 30;
/// The changed files that a plan names.
const NAMED: usize = 3;

/// Records the fingerprints of the files of every image that services need. Returns the files of each service's own image.
pub(crate) async fn fingerprint(spec: &mut EnvironmentSpec) -> Result<BTreeMap<ServiceName, Manifest>, ApiError> {
    let mut builds: Vec<(ServiceName, ImageBuild)> = Vec::new();
    for (name, service) in &mut spec.services {
        builds.extend(service.builds_mut().map(|build| (name.clone(), build.clone())));
    }
    if builds.is_empty() {
        return Ok(BTreeMap::new());
    }
    let directories = builds.iter().flat_map(|(_, build)| directories(build)).collect();
    let read = move || -> Result<Vec<Manifest>, ApiError> {
        builds.into_iter().map(|(name, build)| manifest(&build).map_err(|reason| unreadable(&name, &reason))).collect()
    };
    let manifests = devenv_files::read_in_time(directories, read)
        .await
        .map_err(|error| ApiError::new(ErrorCode::Failed, format!("cannot read the build contexts: {error}")))??;
    let mut own = BTreeMap::new();
    let mut manifests = manifests.into_iter();
    for (name, service) in &mut spec.services {
        let is_built = service.build().is_some();
        for (index, build) in service.builds_mut().enumerate() {
            let Some(manifest) = manifests.next() else { break };
            build.content = Some(manifest.fingerprint());
            if is_built && index == 0 {
                own.insert(name.clone(), manifest);
            }
        }
    }
    Ok(own)
}

/// Every directory that a build reads, and those that are built before it.
fn directories(build: &ImageBuild) -> Vec<PathBuf> {
    let of = |build: &ImageBuild| {
        let additional = build.options.contexts.values().filter(|value| value.starts_with('/')).map(PathBuf::from);
        additional.chain([build.context.clone()]).collect::<Vec<_>>()
    };
    [build].into_iter().chain(&build.options.first).flat_map(of).collect()
}

/// The files of a build, and of the builds before it: with other files those make other images.
fn manifest(build: &ImageBuild) -> Result<Manifest, String> {
    let read = |build: &ImageBuild| BuildContext::read(build).and_then(|context| context.manifest()).map_err(|error| describe(&error));
    let mut found = read(build)?;
    for before in &build.options.first {
        found.0.extend(read(before)?.0.into_iter().map(|(path, hash)| (format!("{}: {path}", before.tag), hash)));
    }
    Ok(found)
}

fn unreadable(service: &ServiceName, reason: &str) -> ApiError {
    ApiError::new(ErrorCode::Failed, format!("the image of {service} cannot be built: {reason}"))
        .hint(format!("check `context` and `dockerfile` under `build` of `{service}`"))
}

/// Why `up` would build images again, by service: `rebuild: 2 files changed (a, b)`.
pub(crate) fn reasons(directory: &Path, now: &BTreeMap<ServiceName, Manifest>) -> BTreeMap<ServiceName, String> {
    let reason = |(name, manifest): (&ServiceName, &Manifest)| {
        let last: Manifest = serde_json::from_slice(&std::fs::read(list_of(directory, name)).ok()?).ok()?;
        let changed = manifest.changes_since(&last);
        let files = if changed.len() == 1 { "file" } else { "files" };
        let mut named = changed.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        if changed.len() > NAMED {
            named.push_str(", …");
        }
        (!changed.is_empty()).then(|| (name.clone(), format!("rebuild: {} {files} changed ({named})", changed.len())))
    };
    now.iter().filter_map(reason).collect()
}

fn list_of(directory: &Path, service: &ServiceName) -> PathBuf {
    directory.join(format!("{service}.json"))
}

/// Builds the images of one environment.
pub(crate) struct Builds {
    engine: Arc<dyn Engine>,
    logs: Logs,
    /// The directory of the lists of files.
    directory: PathBuf,
}

impl Builds {
    pub(crate) fn new(engine: Arc<dyn Engine>, logs: Logs, directory: PathBuf) -> Self {
        Self { engine, logs, directory }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Builds the image, and before it those that it needs. Returns its fingerprint. `variables` are those of the shell, `run` is the
    /// start under which the output is logged, and `tell` gets each line. Dropping it ends the build.
    pub(crate) async fn build(
        &self,
        spec: &ServiceSpec,
        build: &ImageBuild,
        no_cache: bool,
        variables: &BTreeMap<String, String>,
        run: u32,
        mut tell: impl FnMut(&str) + Send,
    ) -> Result<String, Evidence> {
        // Later changes are in the image or not, and not in the list: the next `up` builds once more.
        let read = build.clone();
        let manifest = devenv_files::read_in_time(directories(&read), move || manifest(&read)).await;
        let manifest = manifest.map_err(|error| Evidence::of(format!("its build context cannot be read: {error}")))?;
        let manifest = manifest.map_err(|reason| Evidence::of(format!("its image cannot be built: {reason}")))?;
        for build in build.options.first.iter().chain([build]) {
            let inputs = inputs(build, no_cache, variables).await.map_err(Evidence::of)?;
            self.build_one(spec, build, inputs, run, &mut tell).await?;
        }
        let content = manifest.fingerprint();
        if spec.build().is_some_and(|own| own.tag == build.tag) {
            self.keep_list(&spec.name, &manifest).await;
        }
        Ok(content)
    }

    async fn build_one(
        &self,
        spec: &ServiceSpec,
        build: &ImageBuild,
        inputs: BuildInputs,
        run: u32,
        tell: &mut (impl FnMut(&str) + Send),
    ) -> Result<(), Evidence> {
        let mut log = self.logs.writer(spec.name.as_str()).ok();
        let mut last = VecDeque::new();
        let mut lines = self.engine.build(build, inputs);
        loop {
            let line = match tokio::time::timeout(SILENCE, lines.next()).await {
                Ok(None) => return Ok(()),
                Ok(Some(line)) => line,
                Err(_) => Err(EngineError::TimedOut { action: "say anything about the build".to_owned(), limit: SILENCE }),
            };
            let error = match line {
                Ok(line) => {
                    tell(&line);
                    if let Some(log) = &mut log {
                        log.push(Timestamp::now(), run, LogStream::Stdout, line.as_bytes());
                        // A failing log counts what it loses.
                        let _ = log.flush();
                    }
                    if last.len() == SHOWN {
                        last.pop_front();
                    }
                    last.push_back(line);
                    continue;
                }
                Err(error) => error,
            };
            let lines = match &error {
                EngineError::BuildFailed { output, .. } if !output.is_empty() => output.clone(),
                _ => last.into(),
            };
            if let Some(log) = &mut log {
                log.push(Timestamp::now(), run, LogStream::Stderr, error.to_string().as_bytes());
                let _ = log.flush();
            }
            return Err(Evidence { lines, ..Evidence::of(error.to_string()) });
        }
    }

    /// The files of the last build of a service's own image.
    async fn keep_list(&self, service: &ServiceName, manifest: &Manifest) {
        let (path, text) = (list_of(&self.directory, service), serde_json::to_vec(manifest).unwrap_or_default());
        let directory = self.directory.clone();
        let write = move || {
            std::fs::create_dir_all(&directory)?;
            devenv_files::write_with(&path, &text, 0o600, Durability::Cached)
        };
        // It only explains a plan.
        if let Ok(Err(error)) = tokio::task::spawn_blocking(write).await {
            tracing::warn!(%error, %service, "Cannot keep the list of files of a build.");
        }
    }
}

/// The values of secrets, and the SSH agents.
async fn inputs(build: &ImageBuild, no_cache: bool, variables: &BTreeMap<String, String>) -> Result<BuildInputs, String> {
    let mut inputs = BuildInputs { no_cache, ..BuildInputs::default() };
    for (id, secret) in &build.options.secrets {
        let value = match secret {
            BuildSecret::Variable(name) => variables.get(name).map(|value| value.clone().into_bytes()).ok_or_else(|| {
                format!("the build secret `{id}` needs the variable `{name}`, which is not set: export it, and run the command again")
            })?,
            BuildSecret::File(path) => {
                let own = path.clone();
                let read = devenv_files::read_in_time(vec![own.clone()], move || devenv_files::read_bounded(&own, LARGEST_SECRET)).await;
                read.and_then(|read| read.map_err(Into::into))
                    .map_err(|error| format!("the build secret `{id}` cannot be read: {}: {error}", path.display()))?
            }
        };
        inputs.secrets.insert(id.clone(), value);
    }
    for agent in &build.options.ssh {
        let (id, socket) = match agent.split_once('=') {
            Some((id, path)) => (id, Some(PathBuf::from(path))),
            None => (agent.as_str(), variables.get("SSH_AUTH_SOCK").map(PathBuf::from)),
        };
        let socket = socket.ok_or_else(|| {
            "`build.ssh` needs an SSH agent, and SSH_AUTH_SOCK is not set: start one with `ssh-agent`, and run the command again".to_owned()
        })?;
        inputs.ssh.insert(id.to_owned(), socket);
    }
    Ok(inputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_counts_and_names_the_files_that_changed_since_the_last_build() {
        let directory = tempfile::tempdir().unwrap();
        let name: ServiceName = "web".parse().unwrap();
        let manifest =
            |files: &[(&str, &str)]| Manifest(files.iter().map(|(path, hash)| ((*path).to_owned(), (*hash).to_owned())).collect());
        let before = manifest(&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]);
        std::fs::write(list_of(directory.path(), &name), serde_json::to_vec(&before).unwrap()).unwrap();
        let told = |now: Manifest| reasons(directory.path(), &[(name.clone(), now)].into()).remove(&name);
        assert_eq!(told(before.clone()), None);
        assert_eq!(told(manifest(&[("a", "1"), ("b", "2"), ("c", "1"), ("d", "1")])).unwrap(), "rebuild: 1 file changed (b)");
        assert_eq!(told(manifest(&[("b", "2"), ("c", "2"), ("e", "1")])).unwrap(), "rebuild: 5 files changed (a, b, c, …)");
    }

    #[tokio::test]
    async fn a_secret_that_is_not_there_is_an_error_that_names_it() {
        let mut build = ImageBuild::new("/".into(), "x");
        build.options.secrets.insert("token".into(), BuildSecret::Variable("NPM_TOKEN".into()));
        let error = inputs(&build, false, &BTreeMap::new()).await.unwrap_err();
        assert!(error.contains("`token`") && error.contains("`NPM_TOKEN`"), "{error}");
        let given = BTreeMap::from([("NPM_TOKEN".to_owned(), "t".to_owned())]);
        assert_eq!(inputs(&build, false, &given).await.unwrap().secrets["token"], b"t");
    }
}
