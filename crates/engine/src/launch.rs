//! Variables that hold secrets, kept out of a container's description: they go into it in a file that its user alone reads,
//! and a small program (`crates/launcher`) that reads it stands before the container's own.

use bytes::Bytes;

use super::{ImageDefaults, UploadFile};
use devenv_programs::LAUNCHER as PROGRAM;
use devenv_spec::ContainerSpec;

const PROGRAM_PATH: &str = "/run/devenv/launch";
const VARIABLES_PATH: &str = "/run/devenv/variables";

/// Whether a launcher is to stand before what the container runs. Where none could be made, secrets have to be variables
/// like any other.
pub fn is_wanted(container: &ContainerSpec) -> bool {
    !PROGRAM.is_empty() && container.secret_variables().next().is_some()
}

/// The entrypoint that stands before what would run otherwise, and its arguments. By the engine's rules an image's own
/// arguments go with its own entrypoint alone.
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

/// What has to be in the container before it starts.
pub fn files(user: u32, variables: &[(String, String)]) -> [UploadFile; 2] {
    let file = |path: &str, mode, uid, content| UploadFile { path: path.to_owned(), mode, uid, gid: 0, content };
    let content: String = variables.iter().map(|(name, value)| format!("{name}={value}\0")).collect();
    [file(PROGRAM_PATH, 0o555, 0, Bytes::from_static(PROGRAM)), file(VARIABLES_PATH, 0o400, user, Bytes::from(content))]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn what_is_run_is_what_the_engine_would_run() {
        let image = || ImageDefaults { entrypoint: words("docker-entrypoint.sh"), command: words("serve") };
        for (entrypoint, command, expected) in [
            (None, None, "docker-entrypoint.sh serve"),
            (None, Some("other --flag"), "docker-entrypoint.sh other --flag"),
            (Some("own"), None, "own"),
            (Some("own"), Some("other"), "own other"),
            // An entrypoint that is nothing takes away the image's own, and leaves its arguments.
            (Some(""), None, "serve"),
        ] {
            let (launcher, command) = behind(image(), entrypoint.map(words).as_ref(), command.map(words).as_ref());
            assert_eq!(launcher, ["/run/devenv/launch", "/run/devenv/variables"]);
            assert_eq!(command, words(expected));
        }
    }

    #[test]
    fn only_the_containers_user_may_read_the_variables() {
        let [program, variables] = files(1000, &[("A".into(), "1".into()), ("B".into(), "2".into())]);
        assert_eq!((program.mode, program.uid), (0o555, 0));
        assert_eq!((variables.mode, variables.uid, variables.content.as_ref()), (0o400, 1000, b"A=1\0B=2\0".as_slice()));
    }
}
