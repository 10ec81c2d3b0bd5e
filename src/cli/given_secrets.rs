//! Reads the values of a profile's `secrets` when an environment is started.
//!
//! They come from the shell's variables, from files and from commands such as those of password managers, go to the daemon over
//! its socket, and are stored with the generated secrets. The daemon generates the others.

use std::{collections::BTreeMap, path::Path, process::Stdio, time::Duration};

use devenv_api::{ApiError, ErrorCode, ShellVariables};
use devenv_files::{ReadError, read_bounded_in_time};
use devenv_profile::SecretSource;
use indexmap::IndexMap;
use tokio::{io::AsyncReadExt, process::Command};

/// The largest secret, in bytes.
const LONGEST: u64 = 64 << 10;
/// A password manager may first ask its user.
const PATIENCE: Duration = Duration::from_mins(2);

/// Whether the value comes from this side, and not from the daemon.
pub(super) fn is_read(source: &SecretSource) -> bool {
    !matches!(source, SecretSource::Generate(_))
}

/// All secrets but the generated ones. The first one without a value is an error.
pub(super) async fn read(sources: &IndexMap<String, SecretSource>, project: &Path) -> Result<ShellVariables, ApiError> {
    let mut values = BTreeMap::new();
    for (name, source) in sources {
        let value = match source {
            SecretSource::Generate(_) => continue,
            SecretSource::FromEnv(variable) => std::env::var(variable).map_err(|_| format!("the variable `{variable}` is not set")),
            SecretSource::File(path) => {
                let path = project.join(path);
                read_bounded_in_time(&path, LONGEST)
                    .and_then(|bytes| String::from_utf8(bytes).map_err(|_| ReadError::NotText))
                    .map(without_line_end)
                    .map_err(|error| format!("{} {error}", path.display()))
            }
            SecretSource::Command(words) => command(words, project).await,
        };
        let value = value.and_then(|value| match value {
            value if value.is_empty() => Err("its value is empty".to_owned()),
            value if value.contains('\0') => Err("its value contains a zero byte".to_owned()),
            value => Ok(value),
        });
        let value = value.map_err(|why| {
            ApiError::new(ErrorCode::Usage, format!("the secret `{name}` has no value: {why}"))
                .hint(format!("the profile says under `secrets` where it comes from; or run `devenv secrets set {name}`"))
        })?;
        values.insert(name.clone(), value);
    }
    Ok(ShellVariables(values))
}

fn without_line_end(mut text: String) -> String {
    for end in ['\n', '\r'] {
        if text.ends_with(end) {
            text.pop();
        }
    }
    text
}

/// The output of the command. It may ask on the terminal.
async fn command(words: &[String], project: &Path) -> Result<String, String> {
    let (program, arguments) = words.split_first().ok_or("the command has no words")?;
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(project)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot run {program}: {error}"))?;
    let mut stdout = child.stdout.take().ok_or("the command has no output")?.take(LONGEST + 1);
    let work = async {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).await.map_err(|error| format!("cannot read from {program}: {error}"))?;
        if bytes.len() as u64 > LONGEST {
            return Err(format!("{program} printed more than {LONGEST} bytes"));
        }
        let status = child.wait().await.map_err(|error| format!("cannot wait for {program}: {error}"))?;
        if !status.success() {
            return Err(format!("{program} failed ({status})"));
        }
        String::from_utf8(bytes).map(without_line_end).map_err(|_| format!("{program} printed what is not UTF-8"))
    };
    tokio::time::timeout(PATIENCE, work).await.map_err(|_| format!("{program} did not end within {} s", PATIENCE.as_secs()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn value(source: SecretSource, project: &Path) -> Result<String, String> {
        let sources = IndexMap::from([("X".to_owned(), source)]);
        read(&sources, project).await.map(|values| values.0["X"].clone()).map_err(|error| error.message)
    }

    fn words(text: &str) -> SecretSource {
        SecretSource::Command(["sh", "-c", text].map(str::to_owned).to_vec())
    }

    #[tokio::test]
    async fn a_secret_comes_from_a_file_or_a_command_without_its_line_end() {
        let project = tempfile::tempdir().unwrap();
        std::fs::write(project.path().join("token"), "from a file\r\n").unwrap();
        assert_eq!(value(SecretSource::File("token".into()), project.path()).await.unwrap(), "from a file");
        assert_eq!(value(words("cat token"), project.path()).await.unwrap(), "from a file");
        assert_eq!(value(words("pwd"), project.path()).await.unwrap(), project.path().canonicalize().unwrap().to_str().unwrap());
    }

    #[tokio::test]
    async fn a_secret_without_a_value_or_without_end_is_an_error_that_shows_no_value() {
        let project = tempfile::tempdir().unwrap();
        for (source, words) in [
            (SecretSource::File("absent".into()), "does not exist"),
            (SecretSource::File("/dev/zero".into()), "is not a regular file"),
            (SecretSource::FromEnv("DEVENV_NO_SUCH_VARIABLE".into()), "`DEVENV_NO_SUCH_VARIABLE` is not set"),
            (words("printf secret; exit 3"), "failed"),
            (words("true"), "is empty"),
            (words("cat /dev/zero"), "more than"),
        ] {
            let message = value(source, project.path()).await.unwrap_err();
            assert!(message.contains(words) && !message.contains("secret;"), "{message}");
        }
    }
}
