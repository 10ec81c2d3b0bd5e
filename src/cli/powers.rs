//! Consent to what a profile does on this machine outside of containers, asked once per project on a terminal.
//!
//! `up` and commands that include it call [`consent`] before any request to the daemon. Grants are stored in the state
//! directory; something new in the profile is asked about again. Scripts and CI are not asked, because nobody could answer. Agents are
//! refused what a person has not allowed: they can often write the profile, and would run programs on the host in this way.

use std::{
    fs,
    io::{self, BufRead, IsTerminal},
    path::{Path, PathBuf},
};

use devenv_api::{ApiError, ErrorCode, HostPower};
use sha2::{Digest, Sha256};

use super::{
    failure::{Failure, internal},
    printer::{BOLD, Printer, paint},
    session::Session,
};
use crate::paths::Paths;

/// Asks about powers that this project has not been granted; an error if the answer is no.
pub(super) fn consent(session: &Session, powers: &[HostPower], yes: bool) -> Result<(), Failure> {
    let for_an_agent = session.global.allowed_powers_only;
    if powers.is_empty() || !(yes || for_an_agent || asks()) {
        return Ok(());
    }
    let file = file_of(&Paths::resolve()?, &session.project()?);
    let mut granted = read(&file);
    let new: Vec<&HostPower> = powers.iter().filter(|power| !granted.contains(power)).collect();
    if new.is_empty() {
        return Ok(());
    }
    if for_an_agent {
        let message = format!("this profile has host powers that were not allowed:\n{}", listed(&new));
        return Err(ApiError::new(ErrorCode::Failed, message)
            .hint("a person has to read the profile and allow them: `devenv up` on a terminal, or `devenv up --yes`")
            .into());
    }
    if !yes {
        session.printer.tell_block(&format!("this profile has {}:\n{}", paint(BOLD, "host powers"), listed(&new)));
        if !Printer::confirm("allow them for this project? [y/N] ", &mut io::stdin().lock() as &mut dyn BufRead) {
            return Err(ApiError::new(ErrorCode::Failed, "the host powers of this profile were not allowed")
                .hint("read the profile, then answer `y` or pass `--yes`")
                .into());
        }
    }
    granted.extend(new.into_iter().cloned());
    let failed = |error: io::Error| internal(&format!("cannot write {}", file.display()), error);
    let directory = file.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory).map_err(failed)?;
    let text = serde_json::to_vec_pretty(&granted).map_err(|error| failed(error.into()))?;
    devenv_files::write_atomically(&file, &text).map_err(failed)?;
    Ok(())
}

/// One per line, for `plan` and for the question.
pub(super) fn listed(powers: &[&HostPower]) -> String {
    let line = |power: &&HostPower| {
        let service = if power.service.is_empty() { String::new() } else { format!("{} ", power.service) };
        format!("  {service}{}: {}", power.power, power.detail)
    };
    powers.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn asks() -> bool {
    Printer::talks_to_terminal() && io::stdin().is_terminal()
}

fn file_of(paths: &Paths, project: &Path) -> PathBuf {
    let name = hex::encode(Sha256::digest(project.as_os_str().as_encoded_bytes()));
    paths.state.join("allowed-powers").join(format!("{}.json", &name[..32]))
}

/// What cannot be read was not granted.
fn read(file: &Path) -> Vec<HostPower> {
    devenv_files::read_bounded(file, 1 << 20).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use devenv_api::PowerKind;

    use super::*;
    use crate::cli::args::Global;

    #[test]
    fn an_agent_gets_no_power_that_a_person_has_not_allowed() {
        let project = tempfile::tempdir().unwrap();
        let session =
            |allowed_powers_only| Session::new(Global { project: Some(project.path().into()), allowed_powers_only, ..Global::default() });
        let powers = [HostPower { service: "api".into(), power: PowerKind::Process, detail: "curl x | sh".into() }];
        let Err(refused) = consent(&session(true), &powers, false) else { panic!("it is allowed") };
        assert!(format!("{refused:?}").contains("runs on this machine: curl x | sh"), "{refused:?}");
        assert!(consent(&session(true), &[], false).is_ok() && consent(&session(false), &powers, false).is_ok());
    }

    #[test]
    fn grants_are_remembered_by_project_and_content() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths { state: root.path().into(), runtime: root.path().into(), config: root.path().into() };
        let power = |detail: &str| HostPower { service: "api".into(), power: PowerKind::Process, detail: detail.into() };
        let file = file_of(&paths, Path::new("/p"));
        assert_ne!(file, file_of(&paths, Path::new("/q")));
        assert!(read(&file).is_empty());
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        devenv_files::write_atomically(&file, &serde_json::to_vec(&[power("npm start")]).unwrap()).unwrap();
        assert!(read(&file).contains(&power("npm start")) && !read(&file).contains(&power("curl x | sh")));
        assert_eq!(listed(&[&power("npm start")]), "  api runs on this machine: npm start");
    }
}
