//! Git repositories that images are built from: a checkout of each on this machine, which the build reads like a directory of the
//! project. `environment::compile` asks for it before fingerprints are taken, so another commit is another image.
//!
//! The user's own `git` is run, with the user's keys. It never asks a question, and takes no transport that runs programs.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use devenv_api::{ApiError, ErrorCode};
use devenv_spec::{EnvironmentSpec, ImageBuild, Repository, ServiceName, sensitive::masked_credentials};
use sha2::{Digest, Sha256};
use tokio::process::Command;

/// How long the server's list of branches may take, and how long a fetch may take.
const LISTED_WITHIN: Duration = Duration::from_secs(30);
const FETCHED_WITHIN: Duration = Duration::from_mins(10);
/// The transports that Git may use.
const TRANSPORTS: &str = "https:http:ssh:git";
/// The name of the file with the last known commit of a reference.
const LAST: &str = "last";

/// Where checkouts are kept, and how they are fetched.
#[derive(Debug, Clone)]
pub(crate) struct Repositories {
    directory: PathBuf,
    transports: &'static str,
}

impl Repositories {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, transports: TRANSPORTS }
    }

    /// Puts checkouts in place of the repositories that builds name.
    pub(crate) async fn check_out(&self, spec: &mut EnvironmentSpec) -> Result<(), ApiError> {
        let mut known = BTreeMap::new();
        for (name, service) in &mut spec.services {
            for build in service.builds_mut() {
                self.check_out_contexts(name, build, &mut known).await?;
                let mut first = std::mem::take(&mut build.options.first);
                for before in &mut first {
                    self.check_out_contexts(name, before, &mut known).await?;
                }
                build.options.first = first;
            }
        }
        Ok(())
    }

    async fn check_out_contexts(
        &self,
        service: &ServiceName,
        build: &mut ImageBuild,
        known: &mut BTreeMap<String, PathBuf>,
    ) -> Result<(), ApiError> {
        let context = build.context.to_string_lossy().into_owned();
        if let Some(path) = self.known_or_new(service, &context, known).await? {
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
            build.context = path;
        }
        for context in build.options.contexts.values_mut() {
            if let Some(path) = self.known_or_new(service, context, known).await? {
                *context = path.display().to_string();
            }
        }
        Ok(())
    }

    /// `None` if the text is no address of a repository.
    async fn known_or_new(
        &self,
        service: &ServiceName,
        text: &str,
        known: &mut BTreeMap<String, PathBuf>,
    ) -> Result<Option<PathBuf>, ApiError> {
        let Some(repository) = Repository::parse(text) else { return Ok(None) };
        if let Some(path) = known.get(text) {
            return Ok(Some(path.clone()));
        }
        let path = self.checkout(&repository).await.map_err(|reason| {
            let message = masked_credentials(&format!("the image of {service} cannot be built from the repository `{text}`: {reason}"));
            ApiError::new(ErrorCode::Failed, message)
                .hint("check the address, its branch and directory, and that `git ls-remote URL` works here")
        })?;
        known.insert(text.to_owned(), path.clone());
        Ok(Some(path))
    }

    /// The directory of a checkout of what the reference is now; of what it last was if the server does not answer.
    async fn checkout(&self, repository: &Repository) -> Result<PathBuf, String> {
        let wanted = repository.reference.as_deref().unwrap_or("HEAD");
        let name = hex::encode(&Sha256::digest(format!("{}#{wanted}", repository.url))[..8]);
        let place = self.directory.join(name);
        tokio::fs::create_dir_all(&place).await.map_err(|error| format!("cannot create {}: {error}", place.display()))?;
        let last = tokio::fs::read_to_string(place.join(LAST)).await.ok().filter(|commit| is_commit(commit) && place.join(commit).is_dir());
        let commit = match self.commit(&repository.url, wanted).await {
            Ok(Some(commit)) if place.join(&commit).is_dir() => commit,
            Ok(_) => self.fetch(repository, wanted, &place).await?,
            Err(reason) => match last {
                Some(last) => {
                    tracing::warn!(
                        url = masked_credentials(&repository.url),
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
        let root = place.join(&commit);
        let Some(directory) = &repository.directory else { return Ok(root) };
        let inner = root.join(directory);
        let real = tokio::fs::canonicalize(&inner).await.ok().zip(tokio::fs::canonicalize(&root).await.ok());
        match real {
            // A link of the repository must not lead out of it.
            Some((real, root)) if real.starts_with(&root) && real.is_dir() => Ok(real),
            _ => Err(format!("the repository {} has no directory `{directory}` at `{wanted}`", repository.url)),
        }
    }

    /// The commit of a reference; none if the server lists none of that name, which may be a commit itself.
    async fn commit(&self, url: &str, wanted: &str) -> Result<Option<String>, String> {
        if is_commit(wanted) {
            return Ok(Some(wanted.to_owned()));
        }
        let listed = self.git(&["ls-remote", "--", url], LISTED_WITHIN).await?;
        let named = |name: &str| {
            listed
                .lines()
                .find_map(|line| line.split_once('\t').filter(|(_, reference)| *reference == name).map(|(commit, _)| commit.to_owned()))
        };
        let names = [wanted.to_owned(), format!("refs/tags/{wanted}^{{}}"), format!("refs/tags/{wanted}"), format!("refs/heads/{wanted}")];
        Ok(names.iter().find_map(|name| named(name)))
    }

    /// A checkout beside the others, named after its commit, which is returned.
    async fn fetch(&self, repository: &Repository, wanted: &str, place: &Path) -> Result<String, String> {
        let new = place.join(format!("new-{:016x}", rand::random::<u64>()));
        let path = new.display().to_string();
        let fetched = self.fetch_into(&path, &repository.url, wanted).await;
        let kept = match fetched {
            Ok(commit) => keep(&new, place, &commit).await.map(|()| commit),
            Err(reason) => Err(format!("cannot fetch `{wanted}` of {}: {reason}", repository.url)),
        };
        if kept.is_err() {
            // It is nobody's; what cannot be removed now is in nobody's way.
            let _ = tokio::fs::remove_dir_all(&new).await;
        }
        kept
    }

    async fn fetch_into(&self, path: &str, url: &str, wanted: &str) -> Result<String, String> {
        let git = async |words: &[&str]| self.git(&[&["-C", path][..], words].concat(), FETCHED_WITHIN).await;
        self.git(&["init", "--quiet", "--", path], LISTED_WITHIN).await?;
        let shallow = git(&["fetch", "--quiet", "--depth", "1", "--no-tags", "--", url, wanted]).await;
        if let Err(reason) = shallow {
            // Some servers give commits only with their branches; a short commit is no name for them.
            if wanted.len() < 7 || wanted.chars().any(|c| !c.is_ascii_hexdigit()) {
                return Err(reason);
            }
            git(&["fetch", "--quiet", "--", url, "+refs/heads/*:refs/remotes/origin/*"]).await?;
            git(&["checkout", "--quiet", "--detach", wanted, "--"]).await?;
        } else {
            git(&["checkout", "--quiet", "--detach", "FETCH_HEAD", "--"]).await?;
        }
        if Path::new(path).join(".gitmodules").is_file() {
            git(&["submodule", "--quiet", "update", "--init", "--recursive", "--depth", "1"]).await?;
        }
        Ok(git(&["rev-parse", "HEAD"]).await?.trim().to_owned())
    }

    /// What Git prints; its last words if it fails.
    async fn git(&self, words: &[&str], within: Duration) -> Result<String, String> {
        let mut command = Command::new("git");
        command
            .args(words)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", self.transports)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if std::env::var_os("GIT_SSH_COMMAND").is_none() {
            command.env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes");
        }
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
            command.env_remove(name);
        }
        let output = tokio::time::timeout(within, command.output()).await;
        let output = output.map_err(|_| format!("git did not end within {} s", within.as_secs()))?;
        let output = output.map_err(|error| format!("cannot run git, which fetches repositories: {error}"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        Err(format!("git: {}", last[last.len().saturating_sub(3)..].join("; ")))
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
mod tests {
    use super::*;

    /// A repository on this disk; tests alone may use that transport.
    struct Fixture {
        root: tempfile::TempDir,
        repositories: Repositories,
    }

    impl Fixture {
        async fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let repositories = Repositories { directory: root.path().join("checkouts"), transports: "file" };
            let fixture = Self { root, repositories };
            fixture.git(&["init", "--quiet", "--initial-branch", "main"]).await;
            fixture.commit("one").await;
            fixture
        }

        async fn git(&self, words: &[&str]) -> String {
            let origin = self.root.path().join("origin");
            std::fs::create_dir_all(&origin).unwrap();
            let identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"];
            let words = [&["-C", origin.to_str().unwrap()], &identity[..], words].concat();
            self.repositories.git(&words, FETCHED_WITHIN).await.unwrap()
        }

        async fn commit(&self, text: &str) {
            std::fs::create_dir_all(self.root.path().join("origin/web")).unwrap();
            std::fs::write(self.root.path().join("origin/web/Dockerfile"), text).unwrap();
            self.git(&["add", "."]).await;
            self.git(&["commit", "--quiet", "--message", text]).await;
        }

        async fn checkout(&self, reference: Option<&str>, directory: Option<&str>) -> Result<PathBuf, String> {
            let url = format!("file://{}", self.root.path().join("origin").display());
            let given = |text: &str| text.to_owned();
            self.repositories.checkout(&Repository { url, reference: reference.map(given), directory: directory.map(given) }).await
        }
    }

    fn dockerfile(checkout: &Path) -> String {
        std::fs::read_to_string(checkout.join("Dockerfile")).unwrap()
    }

    #[tokio::test]
    async fn a_branch_a_tag_and_a_commit_are_checked_out_and_a_branch_moves() {
        let fixture = Fixture::new().await;
        fixture.git(&["tag", "--annotate", "v1", "--message", "v1"]).await;
        let first = fixture.git(&["rev-parse", "HEAD"]).await.trim().to_owned();
        let at = fixture.checkout(None, Some("web")).await.unwrap();
        assert_eq!(dockerfile(&at), "one");
        assert_eq!(fixture.checkout(None, Some("web")).await.unwrap(), at, "the same commit is the same checkout");
        assert!(!fixture.checkout(None, None).await.unwrap().join(".git").exists());
        fixture.commit("two").await;
        assert_eq!(dockerfile(&fixture.checkout(None, Some("web")).await.unwrap()), "two");
        assert_eq!(dockerfile(&fixture.checkout(Some("main"), Some("web")).await.unwrap()), "two");
        for reference in ["v1", first.as_str(), &first[..9]] {
            assert_eq!(dockerfile(&fixture.checkout(Some(reference), Some("web")).await.unwrap()), "one", "{reference}");
        }
    }

    #[tokio::test]
    async fn a_repository_that_does_not_answer_is_used_as_it_was_and_an_unknown_one_is_an_error() {
        let fixture = Fixture::new().await;
        let at = fixture.checkout(Some("main"), None).await.unwrap();
        std::fs::rename(fixture.root.path().join("origin"), fixture.root.path().join("away")).unwrap();
        assert_eq!(fixture.checkout(Some("main"), None).await.unwrap(), at);
        let unknown = fixture.checkout(Some("other"), None).await.unwrap_err();
        assert!(unknown.starts_with("git: "), "{unknown}");
    }

    #[tokio::test]
    async fn a_dockerfile_that_is_a_link_out_of_the_repository_is_refused() {
        let fixture = Fixture::new().await;
        std::os::unix::fs::symlink("/etc/passwd", fixture.root.path().join("origin/web/other")).unwrap();
        std::os::unix::fs::symlink("Dockerfile", fixture.root.path().join("origin/web/inside")).unwrap();
        fixture.commit("link").await;
        let at = fixture.checkout(None, Some("web")).await.unwrap();
        let own = &fixture.repositories.directory;
        assert!(leads_out(own, &at.join("other")));
        assert!(!leads_out(own, &at.join("inside")) && !leads_out(own, &at.join("absent")));
    }

    #[tokio::test]
    async fn nothing_outside_of_a_repository_is_a_context_and_programs_are_no_transport() {
        let fixture = Fixture::new().await;
        std::os::unix::fs::symlink("/etc", fixture.root.path().join("origin/out")).unwrap();
        fixture.commit("link").await;
        for directory in ["out", "absent", "web/Dockerfile"] {
            let refused = fixture.checkout(None, Some(directory)).await.unwrap_err();
            assert!(refused.contains(&format!("has no directory `{directory}`")), "{refused}");
        }
        let marker = fixture.root.path().join("ran");
        let repository = Repository { url: format!("ext::touch {}", marker.display()), reference: None, directory: None };
        let ours = Repositories::new(fixture.root.path().join("ours"));
        assert!(ours.checkout(&repository).await.unwrap_err().contains("not allowed"));
        assert!(!marker.exists());
    }
}
