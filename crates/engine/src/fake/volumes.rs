//! The files of volumes. Without a directory for them, volumes have no files. With one, each volume is a directory of real
//! files, helper containers run their command on these files, and the whole engine can be copied with them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use futures_util::{FutureExt, StreamExt, stream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{broadcast, watch},
};

use super::{
    ContainerCreate, ContainerState, EngineError, ExecOutput, ExecSession, ExecStream, FakeEngine, HelperRun, ObservedContainer,
    containers::bare,
    state::{Container, State, missing},
};
use crate::{ComposeProject, CreatedMount, Labels};

impl FakeEngine {
    /// Keeps each volume's files in a directory below `root`, which exists.
    #[must_use]
    pub fn with_volumes_in(self, root: &Path) -> Self {
        self.lock().root = Some(root.to_owned());
        self
    }

    /// Like [`Self::with_volumes_in`], for an engine on another machine: the mount points that it reports do not exist here.
    #[must_use]
    pub fn with_volumes_elsewhere(self, root: &Path) -> Self {
        self.lock().elsewhere = true;
        self.with_volumes_in(root)
    }

    /// Gives it what Docker Compose has made of a project. Its volumes are not listed with those of devenv.
    pub fn set_compose_project(&self, name: &str, project: ComposeProject) {
        let mut state = self.lock();
        for volume in &project.volumes {
            // Without a directory for volumes there are no files.
            let _ = state.make_directory(&volume.name);
        }
        state.compose.insert(name.to_owned(), project);
    }

    /// The directory of a volume's files. The volume need not exist.
    pub fn files_of(&self, volume: &str) -> PathBuf {
        self.lock().directory(volume)
    }

    /// Where commands that work on volumes find the program of that name first, if a test puts one there.
    ///
    /// # Panics
    ///
    /// If the engine keeps no files.
    pub fn program(&self, name: &str) -> PathBuf {
        let root = self.lock().root.clone();
        stub_directory(&root.expect("the engine keeps files")).join(name)
    }

    /// A copy of the engine with all its objects, for another daemon; volumes are copied to `root`. Scripted answers,
    /// recorded calls and subscribers are not copied.
    pub fn snapshot_into(&self, root: &Path) -> io::Result<Self> {
        let state = self.lock();
        let mut copy = State {
            images: state.images.clone(),
            pullable: state.pullable.clone(),
            networks: state.networks.clone(),
            foreign_subnets: state.foreign_subnets.clone(),
            volumes: state.volumes.clone(),
            compose: state.compose.clone(),
            containers: state.containers.clone(),
            output_at_start: state.output_at_start.clone(),
            count: state.count,
            root: Some(root.to_owned()),
            elsewhere: state.elsewhere,
            ..State::default()
        };
        let mut volumes = std::mem::take(&mut copy.volumes);
        for volume in &mut volumes {
            volume.mountpoint = copy.mountpoint(&volume.name);
            copy_files(&state.directory(&volume.name), &copy.directory(&volume.name))?;
        }
        copy.volumes = volumes;
        for volume in copy.compose.values().flat_map(|project| &project.volumes) {
            copy_files(&state.directory(&volume.name), &copy.directory(&volume.name))?;
        }
        drop(state);
        let (events, _) = broadcast::channel(1024);
        let (changes, _) = watch::channel(0);
        Ok(Self { state: Arc::new(std::sync::Mutex::new(copy)), events, changes: Arc::new(changes) })
    }

    /// All objects, one per line, with the files of volumes. Two engines with equal descriptions look the same to a daemon.
    pub fn describe(&self) -> String {
        let state = self.lock();
        let mut lines: Vec<String> = state.networks.iter().map(|network| format!("network {}", network.name)).collect();
        for container in &state.containers {
            let observed = &container.observed;
            let phase = match observed.state {
                ContainerState::Created => "created",
                ContainerState::Running { .. } => "running",
                ContainerState::Paused { .. } => "paused",
                ContainerState::Exited { .. } => "exited",
                ContainerState::Other(_) => "other",
            };
            lines.push(format!("container {} {phase} with {}", observed.name, container.volumes().join(" ")));
        }
        for volume in &state.volumes {
            let mut files = Vec::new();
            list_files(&state.directory(&volume.name), Path::new(""), &mut files);
            files.sort();
            lines.push(format!("volume {} holds {}", volume.name, files.join(" ")));
        }
        lines.sort();
        lines.join("\n")
    }

    /// The helper is a container while it runs. As with a real engine, it runs to its end and is then removed, even if the
    /// caller stops waiting.
    pub(super) async fn run_helper_container(&self, helper: &HelperRun) -> Result<ExecOutput, EngineError> {
        let id = self.add_helper(helper)?;
        let (engine, helper) = (self.clone(), helper.clone());
        let work = tokio::spawn(async move {
            let output = engine.run_in_helper(&helper, Vec::new()).await;
            engine.drop_container(&id);
            output
        });
        Ok(work.await.unwrap_or_else(|error| failed(&error.to_string())))
    }

    /// It runs once its input is closed, and its output comes all at once.
    pub(super) async fn open_helper_container(&self, helper: &HelperRun) -> Result<ExecSession, EngineError> {
        let id = self.add_helper(helper)?;
        let (engine, helper) = (self.clone(), helper.clone());
        let (input, mut given) = tokio::io::duplex(64 << 10);
        let work = tokio::spawn(async move {
            let mut content = Vec::new();
            let read = given.read_to_end(&mut content).await;
            let output = match read {
                Ok(_) => engine.run_in_helper(&helper, content).await,
                Err(error) => failed(&error.to_string()),
            };
            engine.drop_container(&id);
            output
        });
        let ended = work.map(|output| output.unwrap_or_else(|error| failed(&error.to_string()))).boxed().shared();
        let code = ended.clone();
        let parts = ended.map(|output| {
            let parts = [(ExecStream::Stdout, output.stdout), (ExecStream::Stderr, output.stderr)];
            stream::iter(parts.into_iter().filter(|(_, content)| !content.is_empty()).map(Ok))
        });
        Ok(ExecSession {
            input: Box::pin(input),
            output: parts.flatten_stream().boxed(),
            resize: Arc::new(|_| std::future::ready(Ok(())).boxed()),
            exit_code: code.map(|output| Ok(output.code)).boxed(),
        })
    }

    async fn run_in_helper(&self, helper: &HelperRun, input: Vec<u8>) -> ExecOutput {
        match self.begin("helper", &helper.command.join(" ")).await {
            Ok(_call) => self.run_on_files(&helper.command, &[], &helper.mounts, input).await,
            Err(error) => failed(&error.to_string()),
        }
    }

    fn add_helper(&self, helper: &HelperRun) -> Result<String, EngineError> {
        let mut state = self.lock();
        if !state.images.contains_key(&helper.image) {
            return Err(missing("image", &helper.image));
        }
        let (id, pid) = (format!("helper-{}", state.next()), state.next() as u32);
        let labels = Labels { role: Some("helper".to_owned()), ..helper.labels.clone() };
        let started_at = Some(state.now());
        state.containers.push(Container {
            observed: ObservedContainer {
                id: id.clone(),
                name: format!("devenv-{id}"),
                labels: labels.clone(),
                image: helper.image.clone(),
                state: ContainerState::Running { pid },
                started_at,
            },
            asked: ContainerCreate { mounts: helper.mounts.clone(), ..bare(&id, &labels, &helper.image) },
            files: Vec::new(),
            output: Vec::new(),
            ignores_signals: false,
        });
        Ok(id)
    }

    /// The mounts of a container, if it runs a shell and volumes have files.
    pub(super) fn mounts_for_shell(&self, id: &str, command: &[String]) -> Option<Vec<CreatedMount>> {
        let mut state = self.lock();
        let is_shell = command.first().is_some_and(|program| program == "sh") && state.root.is_some();
        state.container(id).ok().filter(|_| is_shell).map(|container| container.asked.mounts.clone())
    }

    /// Runs a command on this host, with its mount points replaced by the volumes' directories.
    pub(super) async fn run_on_files(
        &self,
        command: &[String],
        environment: &[(String, String)],
        mounts: &[CreatedMount],
        input: Vec<u8>,
    ) -> ExecOutput {
        let Some(root) = self.lock().root.clone() else { return Self::answer(command, &input) };
        let mut places = Vec::new();
        for mount in mounts {
            match mount {
                CreatedMount::Volume { name, target, .. } => places.push((target.clone(), self.files_of(name))),
                CreatedMount::Host { path, target, .. } => places.push((target.clone(), path.clone())),
                CreatedMount::Memory { .. } => {}
            }
        }
        let words: Vec<String> = command.iter().map(|word| replace_targets(word, &places)).collect();
        let Some((program, arguments)) = words.split_first() else { return failed("no command") };
        // `sync` in a helper must not flush all disks of the machine that runs the tests.
        let path = format!("{}:{}", stub_directory(&root).display(), std::env::var("PATH").unwrap_or_default());
        let mut process = tokio::process::Command::new(program);
        process.args(arguments).env("PATH", path).envs(environment.iter().map(|(name, value)| (name, value)));
        process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let run = async {
            let mut child = process.spawn()?;
            let mut stdin = child.stdin.take();
            let feed = async {
                if let Some(stdin) = &mut stdin {
                    // A command that stops reading is no error.
                    let _ = stdin.write_all(&input).await;
                }
                drop(stdin);
            };
            let ((), output) = tokio::join!(feed, child.wait_with_output());
            output
        };
        match run.await {
            Ok(output) => ExecOutput {
                code: i64::from(output.status.code().unwrap_or(137)),
                stdout: output.stdout.into(),
                stderr: output.stderr.into(),
            },
            Err(error) => failed(&format!("{program}: {error}")),
        }
    }
}

impl State {
    pub(super) fn directory(&self, volume: &str) -> PathBuf {
        match &self.root {
            Some(root) => root.join(volume),
            None => Path::new("/fake").join(volume),
        }
    }

    /// The mount point that the engine reports.
    pub(super) fn mountpoint(&self, volume: &str) -> PathBuf {
        if self.elsewhere { Path::new("/on-another-machine").join(volume) } else { self.directory(volume) }
    }

    pub(super) fn make_directory(&self, volume: &str) -> io::Result<()> {
        if self.root.is_some() { fs::create_dir_all(self.directory(volume)) } else { Ok(()) }
    }

    /// Does what a database does in an empty data directory: creates a file. It holds the name of the volume.
    pub(super) fn initialise(&self, volume: &str) {
        let directory = self.directory(volume);
        let is_empty = fs::read_dir(&directory).is_ok_and(|mut entries| entries.next().is_none());
        if self.root.is_some() && is_empty {
            // If this fails, tests that expect the file fail.
            let _ = fs::write(directory.join("created-in"), volume);
        }
    }

    pub(super) fn remove_directory(&self, volume: &str) {
        if self.root.is_some() {
            // A removed volume is not listed, so files that stay behind have no effect.
            let _ = fs::remove_dir_all(self.directory(volume));
        }
    }
}

fn failed(message: &str) -> ExecOutput {
    ExecOutput { code: 127, stdout: bytes::Bytes::new(), stderr: message.to_owned().into() }
}

/// An argument with every mount point replaced where it is a path or the first part of one.
fn replace_targets(word: &str, places: &[(String, PathBuf)]) -> String {
    let mut text = word.to_owned();
    for (target, directory) in places {
        let mut rest = text.as_str();
        let mut replaced = String::new();
        while let Some(at) = rest.find(target.as_str()) {
            let (before, found) = rest.split_at(at);
            let after = &found[target.len()..];
            let begins = !before.ends_with(|c: char| c.is_ascii_alphanumeric() || "/._-".contains(c));
            let ends = !after.starts_with(|c: char| c.is_ascii_alphanumeric() || "._-".contains(c));
            replaced.push_str(before);
            if begins && ends {
                replaced.push_str(&directory.display().to_string());
            } else {
                replaced.push_str(target);
            }
            rest = after;
        }
        replaced.push_str(rest);
        text = replaced;
    }
    text
}

/// Programs that replace those of the machine.
fn stub_directory(root: &Path) -> PathBuf {
    use std::os::unix::fs::symlink;
    let directory = root.join(".programs");
    if !directory.exists() && fs::create_dir_all(&directory).is_ok() {
        // Without it the helper calls the real `sync`.
        let _ = symlink("/bin/true", directory.join("sync"));
    }
    directory
}

/// A command that runs on the volume at this moment may remove files while they are copied. They are left out.
fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let Some(entries) = unless_removed(fs::read_dir(from))? else { return Ok(()) };
    for entry in entries {
        let Some(entry) = unless_removed(entry)? else { continue };
        let Some(kind) = unless_removed(entry.file_type())? else { continue };
        let target = to.join(entry.file_name());
        if kind.is_dir() {
            copy_files(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            if let Some(link) = unless_removed(fs::read_link(entry.path()))? {
                std::os::unix::fs::symlink(link, target)?;
            }
        } else {
            unless_removed(fs::copy(entry.path(), target))?;
        }
    }
    Ok(())
}

fn unless_removed<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

fn list_files(directory: &Path, below: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = below.join(entry.file_name());
        if entry.path().is_dir() {
            list_files(&entry.path(), &path, found);
        } else {
            let content = fs::read(entry.path()).unwrap_or_default();
            found.push(format!("{}={}", path.display(), String::from_utf8_lossy(&content[..content.len().min(64)])));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_can_be_copied_while_a_command_replaces_them() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        fs::create_dir_all(from.join("kept")).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    fs::create_dir_all(from.join("gone/below")).unwrap();
                    fs::write(from.join("gone/below/part"), "yes").unwrap();
                    fs::rename(from.join("gone/below/part"), from.join("whole")).unwrap();
                    fs::remove_dir_all(from.join("gone")).unwrap();
                }
            });
            for round in 0..1000 {
                copy_files(&from, &to.join(round.to_string())).unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert!(to.join("999/kept").is_dir());
    }

    #[test]
    fn mount_points_are_replaced_where_they_are_paths() {
        let places = [("/to".to_owned(), PathBuf::from("/v/b")), ("/from".to_owned(), PathBuf::from("/v/a"))];
        assert_eq!(
            replace_targets("cp -a /from/. /to/ && ls /tools /x/to \"/to\"", &places),
            "cp -a /v/a/. /v/b/ && ls /tools /x/to \"/v/b\""
        );
    }
}
