//! `devenv trust`, and the check of every command before it uses a project: who can change it.
//!
//! Everybody who can write a project's profiles can run programs as its user, so a project is used only if it belongs to the user
//! or to root and nobody else can write it. The list of exceptions is `trusted-projects` in the configuration directory.

use std::{
    fs,
    path::{Path, PathBuf},
};

use devenv_api::{ApiError, ErrorCode};
use devenv_files::{Durability, PRIVATE, Untrusted, read_text_bounded, untrusted};

use super::{
    Outcome,
    exit::ExitStatus,
    failure::{internal, misplaced, usage},
    session::Session,
};
use crate::paths::Paths;

/// Use a project although other users can change it.
///
/// devenv refuses a project whose directory, `profiles/` or profile files belong to another user or are writable by others, because
/// anyone who can write them can run programs as you. This also applies to root in a user's project. Trust a project only if you trust
/// everybody who can write it. The list is the file `trusted-projects` in the configuration directory; a line `*` in it trusts all.
///
/// Example: devenv trust /srv/shared/shop
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The project directory. Default: the project of the current directory.
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Remove the project from the list.
    #[arg(long)]
    remove: bool,
    /// Print the list.
    #[arg(long, conflicts_with_all = ["directory", "remove"])]
    list: bool,
}

/// Larger lists are not written by people.
const LARGEST: u64 = 1 << 20;
/// Trusts every project.
const ALL: &str = "*";

pub(super) fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let file = list_file(&Paths::resolve()?);
    let mut projects = read(&file)?;
    if arguments.list {
        session.printer.result(&serde_json::json!({ "trusted": projects }), || projects.join("\n"))?;
        return Ok(ExitStatus::SUCCESS);
    }
    let project = match &arguments.directory {
        Some(directory) => directory.canonicalize().map_err(|error| usage(format!("{}: {error}", directory.display())))?,
        None => session.project_unchecked()?,
    };
    let name = project.to_str().ok_or_else(|| usage("the project path is not UTF-8"))?.to_owned();
    if name.contains('\n') {
        return Err(usage("the project path contains a line break").into());
    }
    projects.retain(|known| *known != name);
    if !arguments.remove {
        projects.push(name.clone());
    }
    let failed = |error| internal(&format!("cannot write {}", file.display()), error);
    fs::create_dir_all(file.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
    let text: String = projects.iter().map(|project| format!("{project}\n")).collect();
    devenv_files::write_with(&file, text.as_bytes(), PRIVATE, Durability::Synced).map_err(failed)?;
    let state = if arguments.remove { "no longer trusted" } else { "trusted" };
    session.printer.result(&serde_json::json!({ "trusted": projects }), || format!("{name} is {state}"))?;
    Ok(ExitStatus::SUCCESS)
}

/// Refuses a project that other users can change, unless it is trusted.
pub(super) fn check(project: &Path) -> Result<(), ApiError> {
    let found = |path: &Path| untrusted(path).ok().flatten();
    let profiles = project.join("profiles");
    let Some(reason) = found(project).or_else(|| found(&profiles)) else { return Ok(()) };
    if is_trusted(project)? { Ok(()) } else { Err(refusal(project, &reason)) }
}

/// Whether the user has trusted it.
pub(super) fn is_trusted(project: &Path) -> Result<bool, ApiError> {
    let file = list_file(&Paths::resolve().map_err(misplaced)?);
    let projects = read(&file)?;
    Ok(projects.iter().any(|known| known == ALL || Path::new(known) == project))
}

fn refusal(project: &Path, reason: &Untrusted) -> ApiError {
    let path = project.display();
    let hint = match reason {
        Untrusted::Owner { .. } if rustix::process::geteuid().is_root() => {
            format!("run devenv as the user who owns the project; if root is to run its programs, run `devenv trust {path}`")
        }
        Untrusted::Owner { .. } => format!("work in a project of your own; if you trust its owner, run `devenv trust {path}`"),
        Untrusted::Writable { .. } => format!(
            "run `chmod go-w` on it or work in a directory of your own; if you trust everybody who can write it, run `devenv trust {path}`"
        ),
    };
    let message = format!("the project {path} is not used: {reason}, who could run programs as you");
    ApiError::new(ErrorCode::Failed, message).hint(hint)
}

fn list_file(paths: &Paths) -> PathBuf {
    paths.config.join("trusted-projects")
}

/// A list that others can write is ignored.
fn read(file: &Path) -> Result<Vec<String>, ApiError> {
    if !file.exists() {
        return Ok(Vec::new());
    }
    if let Ok(Some(reason)) = untrusted(file) {
        return Err(ApiError::new(ErrorCode::Failed, format!("the list of trusted projects is not used: {reason}"))
            .hint(format!("run `chmod go-w {0}`, or remove {0}", file.display())));
    }
    let text = read_text_bounded(file, LARGEST)
        .map_err(|error| ApiError::new(ErrorCode::Failed, format!("the list of trusted projects, {}, {error}", file.display())))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_list_that_others_can_write_trusts_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("trusted-projects");
        assert_eq!(read(&file).unwrap(), Vec::<String>::new());
        fs::write(&file, "# shared\n/srv/shop\n\n*\n").unwrap();
        assert_eq!(read(&file).unwrap(), ["/srv/shop", "*"]);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(read(&file).unwrap_err().message.contains("writable by other users"));
    }

    #[test]
    fn a_project_that_others_can_write_is_refused_with_the_way_to_trust_it() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("profiles")).unwrap();
        check(directory.path()).unwrap();
        fs::set_permissions(directory.path().join("profiles"), fs::Permissions::from_mode(0o777)).unwrap();
        let error = check(directory.path()).unwrap_err();
        assert!(error.hint.unwrap().contains("devenv trust"), "{}", error.message);
    }
}
