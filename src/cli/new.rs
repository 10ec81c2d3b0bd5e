//! `devenv new`: writes the first profile of a project, from the project's files.

mod detect;
mod dev_container;
mod libraries;
mod members;
mod node;
mod ports;
mod programs;
mod summary;
#[cfg(test)]
mod tests;
mod text;

use std::path::{Path, PathBuf};

use devenv_api::{ApiError, ErrorCode};

use super::{
    Outcome,
    exit::ExitStatus,
    failure::{Failure, internal},
    project,
    session::Session,
};
use detect::Found;

/// Write the first profile of a project, from what the project holds.
///
/// Looks at Compose files, devcontainer.json, Procfile, package.json, pyproject.toml, requirements.txt, Cargo.toml, go.mod, Gemfile, pom.xml,
/// build.gradle, composer.json, lock files, `.env.example` and folders of migrations and seeds, also of the members of a workspace and in the usual directories
/// of a monorepo (`apps/*`, `services/*`, `packages/*`, `api`, `web`, and the like), writes `profiles/NAME.yaml`, and says what it took from where. With `--from`,
/// converts a Compose file: `devenv up` then starts the same environment as `devenv up -f FILE`.
///
/// Example: devenv new
///
/// Example: devenv new --from compose.yaml
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The name of the profile.
    #[arg(default_value = "default")]
    name: String,
    /// The Compose file to convert.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Overwrite a profile that exists.
    #[arg(long)]
    force: bool,
    /// Print the profile instead of writing it.
    #[arg(long)]
    stdout: bool,
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if arguments.name.is_empty() || !arguments.name.chars().all(good) {
        return Err(super::failure::usage(format!("`{}` is not a profile name: use letters, digits, `-` and `_`", arguments.name)).into());
    }
    let directory = session.project()?;
    let path = directory.join("profiles").join(format!("{}.yaml", arguments.name));
    if path.exists() && !arguments.force && !arguments.stdout {
        return Err(ApiError::new(ErrorCode::Conflict, format!("{} already exists", path.display()))
            .hint("pass --force to overwrite it, another NAME, or --stdout to print the profile")
            .into());
    }
    let compose = match &arguments.from {
        Some(file) => vec![std::path::absolute(file).map_err(|error| internal("cannot find the current directory", error))?],
        None => detect::compose_files(&directory),
    };
    let (text, took) = if compose.is_empty() { detected(&directory) } else { converted(session, &directory, &compose)? };
    if arguments.stdout {
        session.printer.data(text.trim_end())?;
        return Ok(ExitStatus::SUCCESS);
    }
    std::fs::create_dir_all(directory.join("profiles"))
        .map_err(|error| error.to_string())
        .and_then(|()| {
            devenv_files::write_with(&path, text.as_bytes(), 0o644, devenv_files::Durability::Cached).map_err(|error| error.to_string())
        })
        .map_err(|error| ApiError::new(ErrorCode::Failed, format!("cannot write {}: {error}", path.display())))?;
    session.printer.say(format_args!("wrote {}", path.strip_prefix(&directory).unwrap_or(&path).display()));
    for line in took {
        session.printer.say(format_args!("  {line}"));
    }
    let up = if arguments.name == "default" { "devenv up".to_owned() } else { format!("devenv up {}", arguments.name) };
    session.printer.say(format_args!("run `{up}` to start it"));
    Ok(ExitStatus::SUCCESS)
}

/// Converts a Compose file to a profile.
fn converted(session: &Session, directory: &Path, files: &[PathBuf]) -> Result<(String, Vec<String>), Failure> {
    let shown: Vec<String> = files.iter().map(|file| file.strip_prefix(directory).unwrap_or(file).display().to_string()).collect();
    let name = shown.join(":");
    let loaded = project::load_files(session, &name, files, &[], &[])?;
    let shown = shown.join(" and ");
    let text = format!(
        "# Written by `devenv new` from {shown}: `devenv up` starts what `devenv up -f` of it starts.\n\
         # Databases in containers can become services of their kind, with scripts, seeds and snapshots: `db: {{ postgres: {{}} }}`.\n\
         # All fields: docs/reference/profile.md\n{}",
        loaded.profile_text()
    );
    Ok((text, vec![format!("{shown}: {}", loaded.service_names().join(", "))]))
}

fn detected(directory: &Path) -> (String, Vec<String>) {
    let found = Found::of(directory);
    (found.profile(), found.took())
}
