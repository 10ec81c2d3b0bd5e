//! `devenv bundle`: what a failed run left to be read. Plain text files, written here, made without secrets by the daemon.

use std::{
    fs, io,
    io::Write,
    path::{Component, Path, PathBuf},
};

use devenv_api::{BundleFile, BundleRequest, Client, EnvironmentTarget, Event, ServiceState, Status};
use futures_util::StreamExt;

use super::{Outcome, exit::ExitStatus, failure::usage, project::Loaded, session::Session, table};

/// Lines of a log that a summary shows.
const SHOWN: usize = 20;

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

/// Renders all of it and writes it to the file.
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
        file("profile.yaml", story.loaded.effective_yaml()),
        file("profile-origins.txt", story.loaded.origins()),
    ];
    let mut pieces = client.bundle(&BundleRequest { target: target.clone(), secrets: story.loaded.given_secrets(), files }).await?;
    fs::create_dir_all(directory)?;
    let mut begun: Vec<String> = Vec::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        let Some(path) = inside(directory, &piece.path) else { continue };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        // The first piece of a file replaces what an earlier run left.
        let mut options = fs::OpenOptions::new();
        options.create(true).write(true);
        if begun.contains(&piece.path) {
            options.append(true);
        } else {
            options.truncate(true);
            begun.push(piece.path);
        }
        options.open(path)?.write_all(piece.text.as_bytes())?;
    }
    Ok(())
}

/// A path that cannot lead out of the directory.
fn inside(directory: &Path, path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    path.components().all(|part| matches!(part, Component::Normal(_))).then(|| directory.join(path))
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let Command::Show { directory } = &arguments.command;
    let status: Status = fs::read_to_string(directory.join("status.json"))
        .and_then(|text| serde_json::from_str(&text).map_err(io::Error::from))
        .map_err(|error| usage(format!("{} is not a bundle: status.json: {error}", directory.display())))?;
    session.printer.result(&status, || summary(directory, &status))?;
    Ok(ExitStatus::SUCCESS)
}

fn summary(directory: &Path, status: &Status) -> String {
    let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
    let mut parts = vec![read("run.txt").trim_end().to_owned(), read("versions.txt").trim_end().to_owned(), table::status(status)];
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
    use super::*;

    #[test]
    fn no_file_of_a_bundle_is_written_outside_of_it() {
        let directory = Path::new("/b");
        assert_eq!(inside(directory, "logs/db.log"), Some("/b/logs/db.log".into()));
        for path in ["../x", "/etc/passwd", "logs/../../x"] {
            assert_eq!(inside(directory, path), None, "{path}");
        }
    }
}
