//! Consent to what a profile does on this machine outside of containers, asked once per project on a terminal.
//!
//! `up` and commands that include it call [`consent`] before any request to the daemon. Grants are stored in the state
//! directory; something new in the profile is asked about again. Scripts and CI are not asked, because nobody could answer.

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
    if powers.is_empty() || !(yes || asks()) {
        return Ok(());
    }
    let file = file_of(&Paths::resolve()?, &session.project()?);
    let mut granted = read(&file);
    let new: Vec<&HostPower> = powers.iter().filter(|power| !granted.contains(power)).collect();
    if new.is_empty() {
        return Ok(());
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
