//! `devenv hook`: sets the environment's variables in an interactive shell while the environment is up.
//!
//! The shell evaluates what `--changes` prints before each prompt. So that a project cannot take over a shell, only environments that are
//! already up count, only in a project that nobody else can write ([`trust`](super::trust)), names that affect shells and loaders are left
//! out, and every value is quoted. The shell carries in [`paths::HOOK`](crate::paths::HOOK) what the variables were before, and gets it
//! back when the directory is left or the environment stops. No daemon is started.

use std::{collections::BTreeMap, time::Duration};

use devenv_api::{Phase, VariablesFor, VariablesRequest, unusable};
use indexmap::IndexMap;

use super::{Outcome, environment::shell_quoted, exit::ExitStatus, session::Session};
use crate::paths;

/// Set the environment's variables in your shell, while the environment is up.
///
/// Prints a script for the shell's configuration. In a project whose environment is up, the shell then has the variables of `devenv env`;
/// they are removed, and former values restored, when you leave the project or stop the environment. Only projects that no other user can
/// change are used (`devenv trust`). Variables that steer shells, loaders and interpreters, such as PATH and LD_PRELOAD, are left out.
///
/// Put `eval "$(devenv hook bash)"` into `~/.bashrc`, `eval "$(devenv hook zsh)"` into `~/.zshrc`, or `devenv hook fish | source` into
/// `config.fish`.
///
/// Example: devenv hook fish | source
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
    /// Print the statements that bring this shell's variables up to date. The script runs this before each prompt.
    #[arg(long)]
    changes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// The longest time that a prompt waits for a daemon.
const PATIENCE: Duration = Duration::from_millis(500);

const BASH: &str = r#"_devenv_hook() {
  local status=$? changes
  changes="$(command devenv hook bash --changes)" && eval "$changes"
  return "$status"
}
if [[ ";${PROMPT_COMMAND[*]:-};" != *";_devenv_hook;"* ]]; then
  if [[ "$(declare -p PROMPT_COMMAND 2>&1)" == "declare -a"* ]]; then
    PROMPT_COMMAND=(_devenv_hook "${PROMPT_COMMAND[@]}")
  else
    PROMPT_COMMAND="_devenv_hook${PROMPT_COMMAND:+;$PROMPT_COMMAND}"
  fi
fi
"#;
const ZSH: &str = r#"_devenv_hook() {
  local changes
  changes="$(command devenv hook zsh --changes)" && eval "$changes"
}
typeset -ag precmd_functions
if (( ! ${precmd_functions[(I)_devenv_hook]} )); then
  precmd_functions=(_devenv_hook $precmd_functions)
fi
"#;
const FISH: &str = "function _devenv_hook --on-event fish_prompt --description 'variables of the devenv environment'
    command devenv hook fish --changes | source
end
";

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    if !arguments.changes {
        let script = match arguments.shell {
            Shell::Bash => BASH,
            Shell::Zsh => ZSH,
            Shell::Fish => FISH,
        };
        session.printer.exact(script.trim_end())?;
        return Ok(ExitStatus::SUCCESS);
    }
    // A daemon that does not answer in time changes nothing: the next prompt asks again.
    let Ok(wanted) = tokio::time::timeout(PATIENCE, variables(session)).await else { return Ok(ExitStatus::SUCCESS) };
    let current = |name: &str| std::env::var(name).ok();
    let former = current(paths::HOOK).and_then(|text| Former::read(&text)).unwrap_or_default();
    let (usable, refused): (IndexMap<_, _>, IndexMap<_, _>) = wanted.into_iter().partition(|(name, value)| is_usable(name, value));
    let changes = Changes::between(&former, &usable, current);
    for statement in &changes.statements {
        session.printer.exact(&statement.text(arguments.shell))?;
    }
    match (former.0.is_empty(), usable.is_empty()) {
        (true, false) => {
            session.printer.say(format_args!("devenv: set {} variables of the environment", usable.len()));
            // devenv's own are for programs that it starts.
            let names: Vec<&str> = refused.keys().map(String::as_str).filter(|name| !name.starts_with("DEVENV_")).collect();
            if !names.is_empty() {
                session.printer.say(format_args!("devenv: left out {}, which could change what your shell runs", names.join(", ")));
            }
        }
        (false, true) => session.printer.say("devenv: removed the variables of the environment"),
        _ => {}
    }
    Ok(ExitStatus::SUCCESS)
}

/// The variables of this project's environment, if it is up and the project may be used.
async fn variables(session: &Session) -> IndexMap<String, String> {
    let found = async {
        let target = session.target().ok()?;
        let client = session.running_daemon().await.ok()??;
        let phase = client.status(&target).await.ok()?.phase;
        if matches!(phase, Phase::Absent | Phase::Stopping | Phase::Stopped) {
            return None;
        }
        let request = VariablesRequest { target, form: VariablesFor::Host, service: None };
        let variables = client.variables(&request).await.ok()?.variables;
        Some(variables.into_iter().map(|(name, variable)| (name, variable.value)).collect())
    };
    found.await.unwrap_or_default()
}

/// What the variables were before the hook set them.
#[derive(Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Former(BTreeMap<String, Option<String>>);

impl Former {
    fn read(text: &str) -> Option<Self> {
        let read: Self = serde_json::from_slice(&hex::decode(text).ok()?).ok()?;
        // The shell's variables may come from anywhere.
        read.0.iter().all(|(name, value)| is_usable(name, value.as_deref().unwrap_or_default())).then_some(read)
    }

    fn text(&self) -> String {
        hex::encode(serde_json::to_vec(self).unwrap_or_default())
    }
}

#[derive(Debug, PartialEq)]
enum Statement {
    Set(String, String),
    Unset(String),
}

impl Statement {
    fn text(&self, shell: Shell) -> String {
        match (self, shell) {
            (Self::Set(name, value), Shell::Bash | Shell::Zsh) => format!("export {name}={};", shell_quoted(value)),
            (Self::Unset(name), Shell::Bash | Shell::Zsh) => format!("unset {name};"),
            (Self::Set(name, value), Shell::Fish) => format!("set -gx {name} {};", fish_quoted(value)),
            (Self::Unset(name), Shell::Fish) => format!("set -e {name};"),
        }
    }
}

/// In single quotes fish has two escapes.
fn fish_quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

struct Changes {
    statements: Vec<Statement>,
}

impl Changes {
    /// PURE: the changes from the shell's current variables to the desired ones.
    fn between(former: &Former, wanted: &IndexMap<String, String>, current: impl Fn(&str) -> Option<String>) -> Self {
        let mut statements = Vec::new();
        let mut kept = Former::default();
        for (name, before) in former.0.iter().filter(|(name, _)| !wanted.contains_key(*name)) {
            statements.push(match before {
                Some(value) => Statement::Set(name.clone(), value.clone()),
                None => Statement::Unset(name.clone()),
            });
        }
        for (name, value) in wanted {
            let now = current(name);
            let before = former.0.get(name).cloned().unwrap_or_else(|| now.clone());
            kept.0.insert(name.clone(), before);
            if now.as_ref() != Some(value) {
                statements.push(Statement::Set(name.clone(), value.clone()));
            }
        }
        let (text, now) = (kept.text(), current(paths::HOOK));
        match kept.0.is_empty() {
            true if now.is_some() => statements.push(Statement::Unset(paths::HOOK.to_owned())),
            false if now.as_ref() != Some(&text) => statements.push(Statement::Set(paths::HOOK.to_owned(), text)),
            _ => {}
        }
        Self { statements }
    }
}

/// Names that change which programs run or what an interpreter loads, and variables of the shell itself, besides those that no program
/// gets ([`unusable`]).
const STEERING: &[&str] = &[
    "PATH",
    "HOME",
    "SHELL",
    "USER",
    "LOGNAME",
    "TERM",
    "ENV",
    "PWD",
    "OLDPWD",
    "TMPDIR",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "BROWSER",
    "FPATH",
    "CDPATH",
    "MANPATH",
    "GLOBIGNORE",
    "PROMPT",
    "RPROMPT",
    "PERL5OPT",
    "PERL5LIB",
    "PERL5DB",
    "RUBYOPT",
    "RUBYLIB",
    "NODE_OPTIONS",
    "NODE_PATH",
    "JAVA_TOOL_OPTIONS",
    "_JAVA_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "CLASSPATH",
    "GEM_PATH",
    "GEM_HOME",
    "SSH_AUTH_SOCK",
    "SSH_ASKPASS",
    "SUDO_ASKPASS",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_ASKPASS",
    "GIT_EDITOR",
    "GIT_PAGER",
    "GIT_EXTERNAL_DIFF",
    "GIT_EXEC_PATH",
    "GIT_TEMPLATE_DIR",
    "GIT_PROXY_COMMAND",
    "LESSOPEN",
    "LESSCLOSE",
    "RUSTC_WRAPPER",
    "RUSTC",
    "CARGO_HOME",
    "CC",
    "CXX",
    "MAKEFLAGS",
    "TZDIR",
    "GCONV_PATH",
    "LOCPATH",
    "NLSPATH",
    "HOSTALIASES",
    "RESOLV_HOST_CONF",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
    "ZDOTDIR",
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "KUBECONFIG",
];
/// The same by prefix.
const STEERING_BEGIN: &[&str] = &[
    "LD_",
    "DYLD_",
    "BASH_",
    "ZSH_",
    "FISH_",
    "fish_",
    "__",
    "PYTHON",
    "PS0",
    "PS1",
    "PS2",
    "PS3",
    "PS4",
    "PROMPT_",
    "GIT_CONFIG",
    "DEVENV_",
];

/// Whether a shell may get this: what every program may, if it is not long and steers nothing.
fn is_usable(name: &str, value: &str) -> bool {
    unusable(name, value).is_none()
        && name.len() <= 128
        && !STEERING.contains(&name)
        && !STEERING_BEGIN.iter().any(|begin| name.starts_with(begin))
        // curl, git and package managers send credentials through these.
        && !name.to_ascii_lowercase().ends_with("_proxy")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn wanted(pairs: &[(&str, &str)]) -> IndexMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// A shell's variables after the statements.
    fn apply(shell: &mut BTreeMap<String, String>, pairs: &[(&str, &str)]) -> usize {
        let former = shell.get(paths::HOOK).and_then(|text| Former::read(text)).unwrap_or_default();
        let changes = Changes::between(&former, &wanted(pairs), |name| shell.get(name).cloned());
        let count = changes.statements.len();
        for statement in changes.statements {
            match statement {
                Statement::Set(name, value) => shell.insert(name, value),
                Statement::Unset(name) => shell.remove(&name),
            };
        }
        count
    }

    #[test]
    fn leaving_a_project_gives_back_what_the_shell_had_before() {
        let before = BTreeMap::from([("REDIS_URL".to_owned(), "mine".to_owned())]);
        let mut shell = before.clone();
        apply(&mut shell, &[("REDIS_URL", "of one"), ("DATABASE_URL", "it's")]);
        assert_eq!(shell["REDIS_URL"], "of one");
        assert_eq!(apply(&mut shell, &[("REDIS_URL", "of one"), ("DATABASE_URL", "it's")]), 0, "nothing to do at the next prompt");
        apply(&mut shell, &[("REDIS_URL", "of two")]);
        assert!(!shell.contains_key("DATABASE_URL"), "another project has other variables");
        apply(&mut shell, &[]);
        assert_eq!(shell, before);
    }

    #[test]
    fn names_that_steer_programs_and_names_that_are_none_are_left_out() {
        for name in [
            "PATH",
            "LD_PRELOAD",
            "BASH_ENV",
            "PROMPT_COMMAND",
            "PS1",
            "PYTHONSTARTUP",
            "NODE_OPTIONS",
            "https_proxy",
            "DEVENV_STATE_DIR",
            "a b",
            "x;id",
            "1X",
            "",
        ] {
            assert!(!is_usable(name, "x"), "{name}");
        }
        for name in ["DATABASE_URL", "REDIS_URL", "KAFKA_BROKERS", "PORT", "AWS_ACCESS_KEY_ID", "_X"] {
            assert!(is_usable(name, "x"), "{name}");
        }
        assert!(!is_usable("X", "a\0b"));
    }

    #[test]
    fn a_state_that_names_what_the_hook_would_not_set_is_ignored() {
        let planted = Former(BTreeMap::from([("PATH".to_owned(), Some("/evil".to_owned()))]));
        assert_eq!(Former::read(&planted.text()), None);
        assert_eq!(Former::read("zz"), None);
        let good = Former(BTreeMap::from([("X".to_owned(), None)]));
        assert_eq!(Former::read(&good.text()), Some(good));
    }

    #[test]
    fn every_shell_that_is_installed_reads_back_what_was_set_and_takes_its_script() {
        for (shell, program) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
            if Command::new(program).arg("--version").output().is_err() {
                continue;
            }
            for value in ["", "plain", "it's", "a b\nc", "$HOME `id` $(id) \\ \"x\" !", "'", "\\'", "äöü;&|", "\\"] {
                let set = Statement::Set("X_VALUE".to_owned(), value.to_owned()).text(shell);
                let read = Command::new(program).args(["-c", &format!("{set}\nprintenv X_VALUE")]).output().unwrap().stdout;
                assert_eq!(String::from_utf8(read).unwrap(), format!("{value}\n"), "{program}");
            }
            let script = [BASH, ZSH, FISH][shell as usize];
            let taken = Command::new(program).args(["-n", "-c", script]).output().unwrap();
            assert!(taken.status.success(), "{program}: {}", String::from_utf8_lossy(&taken.stderr));
        }
    }
}
