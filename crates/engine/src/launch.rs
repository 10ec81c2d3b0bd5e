//! Keeps variables that hold secrets out of a container's description: a file that only the container's user can read holds them,
//! and a small program (`crates/launcher`) reads it before it becomes the container's own program.

use bytes::Bytes;

use super::{ImageDefaults, UploadFile};
use devenv_programs::launcher;
use devenv_spec::ContainerSpec;

const PROGRAM_PATH: &str = "/run/devenv/launch";
const VARIABLES_PATH: &str = "/run/devenv/variables";

/// This binary contains no launcher. Without one, everybody with access to the engine could read the secrets.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "its secret variables ({}) cannot be kept out of the container's description: this devenv was built where no static C \
     library is installed; install one (Debian and Ubuntu: `libc6-dev`, Fedora: `glibc-static`) and build devenv again",
    variables.join(", ")
)]
pub struct NoLauncher {
    variables: Vec<String>,
}

/// Whether a launcher must run before the container's program.
pub fn is_wanted(container: &ContainerSpec) -> Result<bool, NoLauncher> {
    is_wanted_of(launcher(), container)
}

fn is_wanted_of(program: &[u8], container: &ContainerSpec) -> Result<bool, NoLauncher> {
    let variables: Vec<String> = container.secret_variables().map(|(name, _)| name.clone()).collect();
    match (variables.is_empty(), program.is_empty()) {
        (true, _) => Ok(false),
        (false, false) => Ok(true),
        (false, true) => Err(NoLauncher { variables }),
    }
}

/// The entrypoint that runs before the original one, and its arguments. As in Docker, an image's default arguments
/// apply only to its own entrypoint.
pub fn behind(image: ImageDefaults, entrypoint: Option<&Vec<String>>, command: Option<&Vec<String>>) -> (Vec<String>, Vec<String>) {
    let own_entrypoint = entrypoint.filter(|entrypoint| !entrypoint.is_empty());
    let arguments = match (own_entrypoint, command) {
        (_, Some(command)) => command.clone(),
        (Some(_), None) => Vec::new(),
        (None, None) => image.command,
    };
    let program = entrypoint.cloned().unwrap_or(image.entrypoint);
    (vec![PROGRAM_PATH.to_owned(), VARIABLES_PATH.to_owned()], program.into_iter().chain(arguments).collect())
}

/// The entrypoint of a container that only waits, and the file that it needs; `None` without a launcher.
pub fn hold() -> Option<(Vec<String>, UploadFile)> {
    let program = UploadFile { path: PROGRAM_PATH.to_owned(), mode: 0o555, uid: 0, gid: 0, content: Bytes::from_static(launcher()) };
    (!launcher().is_empty()).then(|| (vec![PROGRAM_PATH.to_owned(), "--hold".to_owned()], program))
}

/// The files that the container needs before it starts.
pub fn files(user: u32, variables: &[(String, String)]) -> [UploadFile; 2] {
    let file = |path: &str, mode, uid, content| UploadFile { path: path.to_owned(), mode, uid, gid: 0, content };
    let content: String = variables.iter().map(|(name, value)| format!("{name}={value}\0")).collect();
    [file(PROGRAM_PATH, 0o555, 0, Bytes::from_static(launcher())), file(VARIABLES_PATH, 0o400, user, Bytes::from(content))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use devenv_spec::{SecretRef, Template};

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_launcher_runs_the_same_command_as_the_engine_would() {
        let image = || ImageDefaults { entrypoint: words("docker-entrypoint.sh"), command: words("serve") };
        for (entrypoint, command, expected) in [
            (None, None, "docker-entrypoint.sh serve"),
            (None, Some("other --flag"), "docker-entrypoint.sh other --flag"),
            (Some("own"), None, "own"),
            (Some("own"), Some("other"), "own other"),
            // An empty entrypoint disables the image's entrypoint, and keeps its arguments.
            (Some(""), None, "serve"),
        ] {
            let (launcher, command) = behind(image(), entrypoint.map(words).as_ref(), command.map(words).as_ref());
            assert_eq!(launcher, ["/run/devenv/launch", "/run/devenv/variables"]);
            assert_eq!(command, words(expected));
        }
    }

    #[test]
    fn without_a_launcher_secrets_are_refused_and_never_put_into_the_description() {
        let mut container = ContainerSpec::new("app:1");
        assert_eq!(is_wanted_of(b"", &container), Ok(false), "without secrets none is needed");
        container.environment.insert("PLAIN".to_owned(), "1".into());
        container.environment.insert("TOKEN".to_owned(), Template::secret(SecretRef::new("app", "token")));
        assert_eq!(is_wanted_of(b"program", &container), Ok(true));
        let refused = is_wanted_of(b"", &container).unwrap_err().to_string();
        assert!(refused.contains("(TOKEN)") && refused.contains("libc6-dev"), "{refused}");
    }

    #[test]
    fn only_the_containers_user_may_read_the_variables() {
        let [program, variables] = files(1000, &[("A".into(), "1".into()), ("B".into(), "2".into())]);
        assert_eq!((program.mode, program.uid), (0o555, 0));
        assert_eq!((variables.mode, variables.uid, variables.content.as_ref()), (0o400, 1000, b"A=1\0B=2\0".as_slice()));
    }
}
