//! Becomes a program, with variables from a file added to its own.
//!
//!     launcher FILE PROGRAM [ARGUMENT]...
//!     launcher --hold
//!
//! The second form does nothing until it is ended: it keeps a container running for a single command.
//!
//! devenv makes it the entrypoint of containers whose variables contain secrets, because everyone who can ask the engine
//! can read a container's own variables. The file contains `NAME=value` entries, each terminated by a zero
//! byte, and only the container's user may read it. Nothing of this process is left once the program runs: same process id,
//! signals, working directory and descriptors, and the program's own exit code.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::{ffi::OsStrExt, process::CommandExt},
    process::{Command, ExitCode},
};

/// The convention of shells and engines.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    if arguments.as_slice() == [OsStr::new("--hold")] {
        loop {
            std::thread::park();
        }
    }
    let [file, program, rest @ ..] = arguments.as_slice() else {
        eprintln!("devenv: no program to start");
        return ExitCode::from(NOT_RUN);
    };
    let content = match fs::read(file) {
        Ok(content) => content,
        Err(error) => {
            eprintln!("devenv: cannot read the service's variables from {}: {error}", file.display());
            return ExitCode::from(NOT_RUN);
        }
    };
    // Looked up in the PATH that it will have.
    let error = Command::new(program).args(rest).envs(variables(&content)).exec();
    if error.kind() == io::ErrorKind::NotFound {
        // The engine's own message, so that it is recognised.
        eprintln!("devenv: exec: \"{}\": executable file not found in $PATH", program.display());
        return ExitCode::from(NOT_FOUND);
    }
    eprintln!("devenv: cannot run `{}`: {error}", program.display());
    ExitCode::from(NOT_RUN)
}

fn variables(content: &[u8]) -> impl Iterator<Item = (&OsStr, &OsStr)> {
    content.split(|byte| *byte == 0).filter_map(|entry| {
        let equals = entry.iter().position(|byte| *byte == b'=')?;
        Some((OsStr::from_bytes(&entry[..equals]), OsStr::from_bytes(&entry[equals + 1..])))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_hold_anything_but_a_zero_byte() {
        let parsed: Vec<_> = variables(b"A=1\0URL=postgres://a:b@c/d?x=y\0LINES=one\ntwo\0EMPTY=\0").collect();
        let expected = [("A", "1"), ("URL", "postgres://a:b@c/d?x=y"), ("LINES", "one\ntwo"), ("EMPTY", "")];
        assert_eq!(parsed, expected.map(|(name, value)| (OsStr::new(name), OsStr::new(value))));
    }
}
