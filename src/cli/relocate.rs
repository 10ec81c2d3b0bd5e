//! `devenv move`: takes over the environments of a project that was moved or renamed, or the data of a Compose project.

use std::path::{Component, Path, PathBuf};

use devenv_api::{ApiError, MoveRequest, OperationRequest, Status};

use super::{
    Outcome,
    exit::ExitStatus,
    failure::{internal, usage},
    operation::carry_out,
    project,
    session::Session,
    table, take_over,
};

/// Take over the environments of a moved project directory, or the data of Docker Compose.
///
/// Run `devenv move FROM` in the project's new directory, and name the former one. All instances come with their data, snapshots,
/// backups, secrets and ports; with `--instance`, only that one. Running services keep running, and the next `devenv up` restarts those
/// that use files of the project. `devenv list` names environments whose directory does not exist any more.
///
/// Run `devenv move --from-compose` in the directory of a Compose file, after `docker compose stop`. Each volume of the file is copied
/// into a volume of devenv, and the next `devenv up` starts on the copies; an environment that is up restarts on them. Nothing of Docker
/// Compose is changed or removed. Data that the environment had goes to the trash: `devenv undo` brings it back for 24 hours.
///
/// Example: devenv move ../old-name
///
/// Example: devenv move --from-compose
///
/// Example: devenv move --from-compose=shop -f deploy/compose.yaml
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The project's former directory.
    #[arg(
        value_name = "FROM",
        value_hint = clap::ValueHint::DirPath,
        required_unless_present = "from_compose",
        conflicts_with_all = ["from_compose", "files", "profiles"]
    )]
    from: Option<PathBuf>,
    #[command(flatten)]
    compose: take_over::FromCompose,
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    match &arguments.from {
        Some(from) => move_project(from, session).await,
        None => take_over::run(&arguments.compose, session).await,
    }
}

async fn move_project(from: &Path, session: &Session) -> Outcome {
    let to = session.target()?.project;
    let from = former(from)?;
    if Path::new(&to) == from {
        return Err(
            usage(format!("{} is this project: run `devenv move` in the new directory, and name the former one", from.display())).into()
        );
    }
    if project::is_project(&from) {
        let message = format!("{} still exists and holds a project, so nothing was moved", from.display());
        return Err(usage(message).hint("to copy an environment within a project, use `devenv fork`").into());
    }
    let from = from.into_os_string().into_string().map_err(|path| usage(format!("the path is not UTF-8: {}", path.display())))?;
    let request = MoveRequest { from, to, instance: session.global.instance.clone() };
    let moved: Vec<Status> = carry_out(session, &session.client().await?, OperationRequest::Move(request)).await?;
    session.printer.result(&moved, || table::environments(&moved))?;
    session.printer.say("run `devenv up` to restart the services that use files of the project");
    Ok(ExitStatus::SUCCESS)
}

/// The path as it was on record: links are resolved as far as the path still exists.
pub(super) fn former(path: &Path) -> Result<PathBuf, ApiError> {
    let here = std::env::current_dir().map_err(|error| internal("cannot find the current directory", error))?;
    let mut rest = Vec::new();
    let mut known = here.join(path);
    loop {
        if let Ok(found) = known.canonicalize() {
            return Ok(rest.into_iter().rev().fold(found, |path, part| if part == ".." { parent(&path) } else { path.join(part) }));
        }
        match known.components().next_back() {
            Some(Component::Normal(part)) => rest.push(part.to_owned()),
            Some(Component::ParentDir) => rest.push("..".into()),
            _ => return Err(usage(format!("{} is not a path", path.display()))),
        }
        known.pop();
    }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_gone_is_found_under_the_path_that_it_had() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path().canonicalize().unwrap();
        std::fs::create_dir(place.join("real")).unwrap();
        std::os::unix::fs::symlink(place.join("real"), place.join("link")).unwrap();
        assert_eq!(former(&place.join("link/shop")).unwrap(), place.join("real/shop"));
        assert_eq!(former(&place.join("real/gone/../shop/")).unwrap(), place.join("real/shop"));
        assert_eq!(former(&place.join("link")).unwrap(), place.join("real"));
    }
}
