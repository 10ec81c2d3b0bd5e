//! Finds the program that a command names, or explains why there is none.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::protocol::LaunchError;

/// The program's file: a name without `/` is looked up in `path`, any other is relative to the directory.
pub(super) fn find(program: &str, directory: &Path, path: Option<&str>) -> Result<PathBuf, LaunchError> {
    if !directory.is_dir() {
        return Err(LaunchError::NoDirectory(directory.to_owned()));
    }
    if program.contains('/') {
        let file = directory.join(program);
        if !file.exists() {
            return Err(LaunchError::NoProgram(file));
        }
        return executable(&file).map(|()| file);
    }
    let path = path.unwrap_or("/usr/local/bin:/usr/bin:/bin");
    let mut refused = None;
    for place in std::env::split_paths(path) {
        // As for a shell, an empty or relative entry means the directory.
        let file = directory.join(place).join(program);
        match executable(&file) {
            Ok(()) => return Ok(file),
            Err(error) if file.is_file() => refused = Some(error),
            Err(_) => {}
        }
    }
    Err(refused.unwrap_or_else(|| LaunchError::NotInPath {
        program: program.to_owned(),
        path: path.to_owned(),
        directory: directory.to_owned(),
    }))
}

fn executable(file: &Path) -> Result<(), LaunchError> {
    let refused = |reason: &str| LaunchError::NotExecutable { program: file.to_owned(), reason: reason.to_owned() };
    match fs::metadata(file) {
        Ok(data) if data.is_dir() => Err(refused("it is a directory")),
        Ok(data) if data.permissions().mode() & 0o111 == 0 => Err(refused("it is not executable")),
        Ok(_) => Ok(()),
        Err(error) => Err(refused(&error.to_string())),
    }
}

/// Why the kernel refused to execute an existing file.
pub(super) fn refusal(program: &Path, error: &io::Error) -> LaunchError {
    let reason = match error.kind() {
        io::ErrorKind::NotFound => "its interpreter does not exist".to_owned(),
        _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
            "it is neither an executable for this machine nor a script that starts with `#!`".to_owned()
        }
        _ => error.to_string(),
    };
    LaunchError::NotExecutable { program: program.to_owned(), reason }
}
