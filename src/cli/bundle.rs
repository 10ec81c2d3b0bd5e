//! `devenv bundle`: diagnostics of a failed run. Plain text files, written here; the daemon removes secrets from them.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Component, Path, PathBuf},
};

use devenv_api::{BundleFile, BundleRequest, Client, EnvironmentTarget, Event, ServiceState, Status};
use devenv_files::{ReadError, read_text_bounded};
use futures_util::StreamExt;

use super::{Outcome, exit::ExitStatus, failure::usage, project::Loaded, session::Session, table};

/// The log lines that a summary shows.
const SHOWN: usize = 20;
/// The largest file of a bundle that is read, in bytes; the daemon writes none that is larger.
const LARGEST: u64 = 64 << 20;

/// Inspect the diagnostics that a failed `devenv test --bundle` wrote.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Summarize a bundle: exit code, services, and the last log lines of those that were not ready.
    ///
    /// Does not need the daemon or a container engine.
    ///
    /// Example: devenv bundle show target/devenv
    Show {
        /// The bundle directory.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// What the client knows of a run.
pub(super) struct Story<'a> {
    pub(super) command: &'a [String],
    pub(super) ending: String,
    pub(super) profile: &'a str,
    pub(super) loaded: &'a Loaded,
}

/// Renders everything and writes it to the file.
pub(super) async fn write(
    client: &Client,
    target: &EnvironmentTarget,
    directory: &Path,
    story: &Story<'_>,
) -> Result<(), Box<dyn std::error::Error>> {
    let run = format!(
        "command: {}\nprofile: {}\nproject: {}\ninstance: {}\nended: {}\n",
        story.command.join(" "),
        story.profile,
        target.project,
        target.instance,
        story.ending
    );
    let file = |path: &str, text: String| BundleFile { path: path.to_owned(), text };
    let files = vec![
        file("run.txt", run),
        file("profile.yaml", story.loaded.effective_yaml(false)),
        file("profile-origins.txt", story.loaded.origins()),
    ];
    let mut pieces = client.bundle(&BundleRequest { target: target.clone(), secrets: story.loaded.given_secrets(), files }).await?;
    private_directory(directory)?;
    let mut begun: Vec<String> = Vec::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        let Some(path) = inside(directory, &piece.path) else { continue };
        if let Some(parent) = path.parent() {
            private_directory(parent)?;
        }
        let first = !begun.contains(&piece.path);
        open(&path, first)?.write_all(piece.text.as_bytes())?;
        if first {
            begun.push(piece.path);
        }
    }
    Ok(())
}

/// A directory that is created here is readable only by this user: a bundle contains more than others should know.
fn private_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The first chunk of a file replaces the file of an earlier run, but never the target of a link.
fn open(path: &Path, first: bool) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).mode(devenv_files::PRIVATE).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    if !first {
        return options.append(true).open(path);
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    options.create_new(true).open(path)
}

/// A path whose components cannot lead out of the directory.
fn inside(directory: &Path, path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    path.components().all(|part| matches!(part, Component::Normal(_))).then(|| directory.join(path))
}

/// A file of a bundle, which may come from anywhere: no link is followed, and the size is limited.
fn read(directory: &Path, name: &str) -> Result<String, ReadError> {
    let path = inside(directory, name).ok_or(ReadError::NotAFile)?;
    let below = path.ancestors().take_while(|ancestor| *ancestor != directory);
    for part in below {
        if fs::symlink_metadata(part)?.is_symlink() {
            return Err(ReadError::NotAFile);
        }
    }
    read_text_bounded(&path, LARGEST)
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let Command::Show { directory } = &arguments.command;
    let status: Status = read(directory, "status.json")
        .map_err(|error| error.to_string())
        .and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()))
        .map_err(|error| usage(format!("{} is not a bundle: status.json: {error}", directory.display())))?;
    session.printer.result(&status, || summary(directory, &status))?;
    Ok(ExitStatus::SUCCESS)
}

fn summary(directory: &Path, status: &Status) -> String {
    let read = |name: &str| match read(directory, name) {
        Ok(text) => text,
        Err(ReadError::Missing) => String::new(),
        Err(error) => format!("{name} {error}"),
    };
    let mut parts = vec![
        read("run.txt").trim_end().to_owned(),
        read("masked.txt").trim_end().to_owned(),
        read("versions.txt").trim_end().to_owned(),
        table::status(status),
    ];
    let failures: Vec<String> = read("events.ndjson")
        .lines()
        .filter_map(|line| serde_json::from_str::<Event>(line).ok())
        .filter(|event| event.kind.ends_with("failed") || event.kind.ends_with("crash-loop") || event.kind.ends_with("unhealthy"))
        .map(|event| format!("{} {}", event.time, event.message))
        .collect();
    parts.push(failures.join("\n"));
    for service in &status.services {
        if matches!(service.state, ServiceState::Ready | ServiceState::Completed) {
            continue;
        }
        let name = format!("logs/{}.log", service.name);
        let text = read(&name);
        let lines: Vec<&str> = text.lines().collect();
        parts.push(format!("last lines of {name}:\n{}", lines[lines.len().saturating_sub(SHOWN)..].join("\n")));
    }
    parts.retain(|part| !part.is_empty());
    parts.join("\n\n")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn paths_and_links_that_lead_out_of_a_bundle_are_neither_shown_nor_written() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("b");
        private_directory(&directory.join("logs")).unwrap();
        let outside = root.path().join("outside");
        fs::write(&outside, "hidden").unwrap();
        std::os::unix::fs::symlink(&outside, directory.join("logs/db.log")).unwrap();
        std::os::unix::fs::symlink(root.path(), directory.join("dir")).unwrap();
        for name in ["logs/db.log", "dir/outside", "../outside", "logs/../../outside"] {
            assert!(read(&directory, name).is_err(), "{name}");
        }
        open(&directory.join("logs/db.log"), true).unwrap().write_all(b"new").unwrap();
        assert_eq!(fs::read_to_string(&outside).unwrap(), "hidden");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&directory.join("logs")), mode(&directory.join("logs/db.log"))), (0o700, 0o700, 0o600));
    }

    #[test]
    fn no_file_of_a_bundle_is_written_outside_of_it() {
        let directory = Path::new("/b");
        assert_eq!(inside(directory, "logs/db.log"), Some("/b/logs/db.log".into()));
        for path in ["../x", "/etc/passwd", "logs/../../x"] {
            assert_eq!(inside(directory, path), None, "{path}");
        }
    }
}
