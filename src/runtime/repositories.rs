//! Git repositories that images are built from: a checkout of each on this machine, which the build reads like a directory of the
//! project. `environment::compile` asks for it before fingerprints are taken, so another commit is another image. `gc` removes
//! checkouts that are not used any more.
//!
//! All servers are asked at once, and by one deadline. A server that does not answer leaves the last checkout in use.

mod git;
mod unused;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use devenv_api::{ApiError, ErrorCode};
use devenv_spec::{EnvironmentSpec, ImageBuild, Repository, ServiceName, sensitive::masked_credentials};
use futures_util::future::join_all;
use sha2::{Digest, Sha256};
use tokio::{sync::Semaphore, time::Instant};

pub(crate) use unused::{KEPT, contexts, unused};

use git::{Git, Remote, TRANSPORTS};

/// How long the servers' lists of branches may take together, and how long each fetch may take.
const LISTED_WITHIN: Duration = Duration::from_secs(30);
const FETCHED_WITHIN: Duration = Duration::from_mins(10);
/// How many servers are asked at once, and how many repositories are fetched at once.
const LISTED_AT_ONCE: usize = 16;
const FETCHED_AT_ONCE: usize = 4;
/// The name of the file with the last known commit of a reference. It is written at each use.
const LAST: &str = "last";
/// How the names of unfinished checkouts begin.
const NEW: &str = "new-";

/// Where checkouts are kept, and how they are fetched.
#[derive(Debug, Clone)]
pub(crate) struct Repositories {
    directory: PathBuf,
    git: Git,
}

/// The addresses that builds name, each with a service that does, and their repositories.
type Wanted = BTreeMap<String, (ServiceName, Repository)>;
/// What is checked out: a reference of an address.
type Source = (String, String);

impl Repositories {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, git: Git { transports: TRANSPORTS } }
    }

    /// Puts checkouts in place of the repositories that builds name.
    pub(crate) async fn check_out(&self, spec: &mut EnvironmentSpec) -> Result<(), ApiError> {
        let mut wanted = Wanted::new();
        for (name, service) in &mut spec.services {
            for build in service.builds_mut() {
                for text in build.options.first.iter().chain([&*build]).flat_map(contexts_of) {
                    if let Some(repository) = Repository::parse(&text) {
                        wanted.entry(text).or_insert_with(|| (name.clone(), repository));
                    }
                }
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let found = self.check_out_all(wanted).await?;
        for (name, service) in &mut spec.services {
            for build in service.builds_mut() {
                let mut first = std::mem::take(&mut build.options.first);
                for build in first.iter_mut().chain([&mut *build]) {
                    self.put_in_place(name, build, &found)?;
                }
                build.options.first = first;
            }
        }
        Ok(())
    }

    fn put_in_place(&self, service: &ServiceName, build: &mut ImageBuild, found: &BTreeMap<String, PathBuf>) -> Result<(), ApiError> {
        let context = build.context.to_string_lossy().into_owned();
        if let Some(path) = found.get(&context) {
            let outside = [build.dockerfile.clone(), format!("{}.dockerignore", build.dockerfile), ".dockerignore".to_owned()]
                .into_iter()
                .find(|file| leads_out(&self.directory, &path.join(file)));
            if let Some(file) = outside {
                let message = format!(
                    "the image of {service} cannot be built from the repository `{}`: its `{file}` is a link out of it",
                    masked_credentials(&context)
                );
                return Err(ApiError::new(ErrorCode::Failed, message).hint("name another `dockerfile` of the repository"));
            }
            build.context.clone_from(path);
        }
        for context in build.options.contexts.values_mut() {
            if let Some(path) = found.get(context.as_str()) {
                *context = path.display().to_string();
            }
        }
        Ok(())
    }

    /// The directory of each address.
    async fn check_out_all(&self, wanted: Wanted) -> Result<BTreeMap<String, PathBuf>, ApiError> {
        let sources: BTreeSet<Source> = wanted.values().map(|(_, repository)| source(repository)).collect();
        let commits = self.commits(&sources).await;
        let turns = Semaphore::new(FETCHED_AT_ONCE);
        let mut roots = Vec::new();
        for (source, commit) in sources.iter().zip(commits) {
            roots.push(self.root(source, commit, &turns));
        }
        let roots: BTreeMap<Source, Result<PathBuf, String>> = sources.iter().cloned().zip(join_all(roots).await).collect();
        let mut found = BTreeMap::new();
        for (text, (service, repository)) in wanted {
            let root = roots.get(&source(&repository)).cloned().unwrap_or_else(|| Err("it was not fetched".to_owned()));
            let path = match root {
                Ok(root) => inner(&root, &repository).await,
                Err(reason) => Err(reason),
            };
            let path = path.map_err(|reason| {
                let message = masked_credentials(&format!("the image of {service} cannot be built from the repository `{text}`: {reason}"));
                ApiError::new(ErrorCode::Failed, message)
                    .hint("check the address, its branch and directory, and that `git ls-remote URL` works here")
            })?;
            found.insert(text, path);
        }
        Ok(found)
    }

    /// The commit of each source; none if the server lists none of that name, which may be a commit itself. Each server is asked once.
    async fn commits(&self, sources: &BTreeSet<Source>) -> Vec<Result<Option<String>, String>> {
        let asked: BTreeSet<&String> = sources.iter().filter(|(_, reference)| !is_commit(reference)).map(|(url, _)| url).collect();
        let (turns, deadline) = (Semaphore::new(LISTED_AT_ONCE), Instant::now() + LISTED_WITHIN);
        let lists = asked.iter().map(|url| self.list(url, &turns, deadline));
        let lists: BTreeMap<&String, Result<String, String>> = asked.iter().copied().zip(join_all(lists).await).collect();
        let commit = |(url, reference): &Source| match lists.get(url) {
            _ if is_commit(reference) => Ok(Some(reference.clone())),
            Some(Ok(list)) => Ok(listed(list, reference)),
            Some(Err(reason)) => Err(reason.clone()),
            None => Ok(None),
        };
        sources.iter().map(commit).collect()
    }

    async fn list(&self, url: &str, turns: &Semaphore, deadline: Instant) -> Result<String, String> {
        let remote = Remote::of(url)?;
        let turn = tokio::time::timeout_at(deadline, turns.acquire()).await;
        let _turn = turn.map_err(|_| format!("other servers did not answer within {} s", LISTED_WITHIN.as_secs()))?;
        self.git.run(&["ls-remote", "--", &remote.url], Some(&remote), deadline).await
    }

    /// The checkout of the whole repository as it is now; as it last was if the server does not answer.
    async fn root(&self, source: &Source, commit: Result<Option<String>, String>, turns: &Semaphore) -> Result<PathBuf, String> {
        let (url, wanted) = source;
        let name = hex::encode(&Sha256::digest(format!("{url}#{wanted}"))[..8]);
        let place = self.directory.join(name);
        tokio::fs::create_dir_all(&place).await.map_err(|error| format!("cannot create {}: {error}", place.display()))?;
        let last = tokio::fs::read_to_string(place.join(LAST)).await.ok().filter(|commit| is_commit(commit) && place.join(commit).is_dir());
        let commit = match commit {
            Ok(Some(commit)) if place.join(&commit).is_dir() => commit,
            Ok(_) => {
                let _turn = turns.acquire().await;
                self.fetch(url, wanted, &place).await?
            }
            Err(reason) => match last {
                Some(last) => {
                    tracing::warn!(
                        url = masked_credentials(url),
                        reason = masked_credentials(&reason),
                        commit = last,
                        "Using the last checkout of a repository that does not answer."
                    );
                    last
                }
                None => return Err(reason),
            },
        };
        let noted = tokio::fs::write(place.join(LAST), &commit).await;
        noted.map_err(|error| format!("cannot write to {}: {error}", place.display()))?;
        Ok(place.join(&commit))
    }

    /// A checkout beside the others, named after its commit, which is returned.
    async fn fetch(&self, url: &str, wanted: &str, place: &Path) -> Result<String, String> {
        let remote = Remote::of(url)?;
        let new = place.join(format!("{NEW}{:016x}", rand::random::<u64>()));
        let path = new.display().to_string();
        let kept = match self.fetch_into(&path, &remote, wanted).await {
            Ok(commit) => keep(&new, place, &commit).await.map(|()| commit),
            Err(reason) => Err(format!("cannot fetch `{wanted}` of {}: {reason}", remote.url)),
        };
        if kept.is_err() {
            // It is nobody's; what cannot be removed now is removed by `gc`.
            let _ = tokio::fs::remove_dir_all(&new).await;
        }
        kept
    }

    async fn fetch_into(&self, path: &str, remote: &Remote, wanted: &str) -> Result<String, String> {
        let deadline = Instant::now() + FETCHED_WITHIN;
        let git = async |words: &[&str]| self.git.run(&[&["-C", path][..], words].concat(), Some(remote), deadline).await;
        self.git.run(&["init", "--quiet", "--", path], None, deadline).await?;
        let shallow = git(&["fetch", "--quiet", "--depth", "1", "--no-tags", "--", &remote.url, wanted]).await;
        if let Err(reason) = shallow {
            // Some servers give commits only with their branches; a short commit is no name for them.
            if wanted.len() < 7 || wanted.chars().any(|c| !c.is_ascii_hexdigit()) {
                return Err(reason);
            }
            git(&["fetch", "--quiet", "--", &remote.url, "+refs/heads/*:refs/remotes/origin/*"]).await?;
            git(&["checkout", "--quiet", "--detach", wanted, "--"]).await?;
        } else {
            git(&["checkout", "--quiet", "--detach", "FETCH_HEAD", "--"]).await?;
        }
        if Path::new(path).join(".gitmodules").is_file() {
            git(&["submodule", "--quiet", "update", "--init", "--recursive", "--depth", "1"]).await?;
        }
        Ok(git(&["rev-parse", "HEAD"]).await?.trim().to_owned())
    }
}

fn contexts_of(build: &ImageBuild) -> Vec<String> {
    build.options.contexts.values().cloned().chain([build.context.to_string_lossy().into_owned()]).collect()
}

fn source(repository: &Repository) -> Source {
    (repository.url.clone(), repository.reference.clone().unwrap_or_else(|| "HEAD".to_owned()))
}

/// The commit of a reference in what `git ls-remote` prints.
fn listed(list: &str, wanted: &str) -> Option<String> {
    let named = |name: &str| {
        let mut lines = list.lines().filter_map(|line| line.split_once('\t'));
        lines.find(|(_, reference)| *reference == name).map(|(commit, _)| commit.to_owned())
    };
    let names = [wanted.to_owned(), format!("refs/tags/{wanted}^{{}}"), format!("refs/tags/{wanted}"), format!("refs/heads/{wanted}")];
    names.iter().find_map(|name| named(name))
}

/// The directory of the checkout that is wanted.
async fn inner(root: &Path, repository: &Repository) -> Result<PathBuf, String> {
    let Some(directory) = &repository.directory else { return Ok(root.to_owned()) };
    let real = tokio::fs::canonicalize(root.join(directory)).await.ok().zip(tokio::fs::canonicalize(root).await.ok());
    match real {
        // A link of the repository must not lead out of it.
        Some((real, root)) if real.starts_with(&root) && real.is_dir() => Ok(real),
        _ => {
            let (url, wanted) = source(repository);
            Err(format!("the repository {url} has no directory `{directory}` at `{wanted}`"))
        }
    }
}

/// Puts a checkout in its place, without Git's own files, and removes the older ones but the last.
async fn keep(new: &Path, place: &Path, commit: &str) -> Result<(), String> {
    let (new, place, commit) = (new.to_owned(), place.to_owned(), commit.to_owned());
    let work = move || -> std::io::Result<()> {
        let target = place.join(&commit);
        std::fs::remove_dir_all(new.join(".git"))?;
        // Another environment may have fetched the same commit meanwhile.
        if let Err(error) = std::fs::rename(&new, &target)
            && !target.is_dir()
        {
            return Err(error);
        }
        let last = std::fs::read_to_string(place.join(LAST)).unwrap_or_default();
        for entry in std::fs::read_dir(&place)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // A build may still read the last one.
            if is_commit(&name) && name != commit && name != last {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    };
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?;
    done.map_err(|error| format!("cannot keep the checkout: {error}"))
}

/// Whether a file, if it exists, is elsewhere: its text would appear in messages.
fn leads_out(directory: &Path, file: &Path) -> bool {
    let (real, own) = (std::fs::canonicalize(file), std::fs::canonicalize(directory));
    real.ok().zip(own.ok()).is_some_and(|(real, own)| !real.starts_with(own))
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests;
