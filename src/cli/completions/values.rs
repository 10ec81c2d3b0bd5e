//! Completion of names: which argument takes which names, and where the names come from.
//!
//! Completion must be quick and silent: it asks a running daemon for a fraction of a second, otherwise reads the profile, and leaves out
//! what it cannot find.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
    time::Duration,
};

use clap_complete::{ArgValueCompleter, CompletionCandidate};
use devenv_api::{Client, EnvironmentTarget};

use crate::cli::{args::Global, help, project, session::Session};

/// How long TAB may wait for the daemon.
const PATIENCE: Duration = Duration::from_millis(400);

/// What the value of an argument names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    Services,
    Profiles,
    ProfilesAndServices,
    Instances,
    Snapshots,
    Backups,
    Faults,
    Injected,
    Scenarios,
    SeedSets,
    Commands,
}

use Names::{Backups, Commands, Faults, Injected, Instances, Profiles, ProfilesAndServices, Scenarios, SeedSets, Services, Snapshots};

/// The command, the argument's id, and what it names.
const ARGUMENTS: &[(&str, &str, Names)] = &[
    ("", "instance", Instances),
    ("up", "words", ProfilesAndServices),
    ("dev", "words", ProfilesAndServices),
    ("plan", "profile", Profiles),
    ("build", "words", ProfilesAndServices),
    ("config", "profile", Profiles),
    ("render", "profile", Profiles),
    ("fetch", "profile", Profiles),
    ("images save", "profile", Profiles),
    ("test", "profile", Profiles),
    ("start", "services", Services),
    ("stop", "services", Services),
    ("sleep", "services", Services),
    ("wake", "services", Services),
    ("restart", "services", Services),
    ("wait", "services", Services),
    ("logs", "services", Services),
    ("why", "service", Services),
    ("env", "service", Services),
    ("exec", "service", Services),
    ("psql", "service", Services),
    ("redis", "service", Services),
    ("open", "service", Services),
    ("lease", "services", Services),
    ("init", "services", Services),
    ("reset", "services", Services),
    ("seed", "set", SeedSets),
    ("import", "service", Services),
    ("export", "service", Services),
    ("snapshot restore", "name", Snapshots),
    ("snapshot remove", "name", Snapshots),
    ("backup", "services", Services),
    ("backup restore", "id", Backups),
    ("chaos faults", "fault", Faults),
    ("chaos inject", "fault", Faults),
    ("chaos inject", "service", Services),
    ("chaos heal", "ids", Injected),
    ("chaos run", "scenario", Scenarios),
    ("help", "words", Commands),
];

/// The command line with completion of names. `words` are those of the line that is being completed.
pub(super) fn with_candidates(command: clap::Command, words: &[OsString]) -> clap::Command {
    let line = Line::of(words);
    ARGUMENTS.iter().fold(command, |command, (path, id, names)| {
        let path: Vec<&str> = path.split_whitespace().collect();
        let (names, line) = (*names, line.clone());
        let completer = ArgValueCompleter::new(move |current: &OsStr| candidates(names, &line, current));
        with_completer(command, &path, id, completer)
    })
}

fn with_completer(command: clap::Command, path: &[&str], id: &str, completer: ArgValueCompleter) -> clap::Command {
    match path.split_first() {
        Some((first, rest)) => command.mut_subcommand(first, |subcommand| with_completer(subcommand, rest, id, completer)),
        // `mut_arg` would move a positional argument behind the others.
        None => command.mut_args(|argument| if argument.get_id() == id { argument.add(completer.clone()) } else { argument }),
    }
}

fn candidates(names: Names, line: &Line, current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    let mut found = line.names(names);
    found.retain(|(name, _)| name.starts_with(current) && is_plain(name));
    found.into_iter().map(|(name, about)| CompletionCandidate::new(name).help((!about.is_empty()).then(|| about.into()))).collect()
}

/// Whether a shell takes the name for itself. Shells insert candidates as they are, so a file that is named `$(id).yaml` would be run.
fn is_plain(name: &str) -> bool {
    !name.starts_with(['-', '~', '=']) && name.chars().all(|c| c.is_alphanumeric() || "._/@:+,=-".contains(c))
}

/// The global options of the line that is completed.
#[derive(Debug, Clone, Default)]
struct Line {
    project: Option<String>,
    instance: Option<String>,
    context: Option<String>,
}

type Found = Vec<(String, String)>;

impl Line {
    fn of(words: &[OsString]) -> Self {
        let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        // The last word is being typed.
        let before = &words[..words.len().saturating_sub(1)];
        let before = before.split(|word| word == "--").next().unwrap_or_default();
        let value = |option: &str| {
            let mut given = before.iter().enumerate().filter_map(|(at, word)| match word.strip_prefix(option)? {
                "" => before.get(at + 1).cloned(),
                rest => rest.strip_prefix('=').map(str::to_owned),
            });
            given.next_back()
        };
        Self { project: value("--project"), instance: value("--instance"), context: value("--context") }
    }

    fn session(&self) -> Session {
        Session::new(Global {
            project: self.project.as_ref().map(Into::into),
            instance: self.instance.clone(),
            context: self.context.clone(),
            quiet: true,
            ..Global::default()
        })
    }

    fn names(&self, names: Names) -> Found {
        let session = self.session();
        match names {
            Services => services(&session),
            Profiles => profiles(&session),
            ProfilesAndServices => profiles(&session).into_iter().chain(services(&session)).collect(),
            Instances => {
                let ours = session.project().ok().and_then(|project| project.into_os_string().into_string().ok());
                ask(&session, async |client, _| client.environments().await.ok())
                    .unwrap_or_default()
                    .into_iter()
                    .filter(|status| Some(&status.project) == ours.as_ref())
                    .map(|status| (status.instance, status.phase.to_string()))
                    .collect()
            }
            Snapshots => ask(&session, async |client, target| client.snapshots(&target).await.ok())
                .map(|list| list.snapshots.into_iter().map(|snapshot| (snapshot.name, snapshot.created_at)).collect())
                .unwrap_or_default(),
            Backups => ask(&session, async |client, target| client.backups(&target).await.ok())
                .map(|list| list.backups.into_iter().map(|backup| (backup.id, backup.created_at)).collect())
                .unwrap_or_default(),
            Faults => devenv_kinds::faults::catalogue().faults.into_iter().map(|fault| (fault.name, fault.about)).collect(),
            Injected => ask(&session, async |client, target| Some(client.status(&target).await.ok()?.faults))
                .unwrap_or_default()
                .into_iter()
                .map(|fault| (fault.id, fault.fault))
                .collect(),
            Scenarios => plain(session.project().map(|project| devenv_chaos::list(&project)).unwrap_or_default()),
            SeedSets => plain(session.project().map(|project| directories(&project.join("seed-data"))).unwrap_or_default()),
            Commands => help::words(),
        }
    }
}

fn plain(names: Vec<String>) -> Found {
    names.into_iter().map(|name| (name, String::new())).collect()
}

fn profiles(session: &Session) -> Found {
    let list = project::list(session).unwrap_or_default();
    let listed = list.into_iter().filter(|profile| !profile.example);
    listed.map(|profile| (profile.name, profile.description.unwrap_or_default())).collect()
}

/// The services of the existing environment, otherwise those of the profile that `up` would use.
fn services(session: &Session) -> Found {
    let status = ask(session, async |client, target| client.status(&target).await.ok());
    let current = status.as_ref().and_then(|status| status.profile.clone());
    let running = status.map(|status| status.services).unwrap_or_default();
    if !running.is_empty() {
        return running.into_iter().map(|service| (service.name, format!("{}, {}", service.kind, service.state))).collect();
    }
    plain(project::services_quietly(session, current))
}

fn directories(place: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten().take(1000);
    let mut names: Vec<String> =
        entries.filter(|entry| entry.path().is_dir()).filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The answer of a running daemon; `None` if it does not answer soon.
fn ask<T>(session: &Session, question: impl AsyncFnOnce(Client, EnvironmentTarget) -> Option<T>) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async {
        let asked = async {
            let client = session.running_daemon().await.ok()??;
            question(client, session.target().ok()?).await
        };
        tokio::time::timeout(PATIENCE, asked).await.ok()?
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args;

    fn line(text: &str) -> Line {
        Line::of(&text.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_line_says_which_project_and_instance_it_is_about() {
        let found = line("devenv --project /srv/shop --instance=two stop d");
        assert_eq!((found.project.as_deref(), found.instance.as_deref()), (Some("/srv/shop"), Some("two")));
        assert_eq!(line("devenv --instance on").instance, None, "a word that is being typed names nothing");
        assert_eq!(line("devenv run -- x --instance two y").instance, None, "words of another program are not ours");
    }

    #[test]
    fn a_name_that_a_shell_would_run_is_not_offered() {
        for plain in ["default", "examples/shop.yaml", "Übung-2", "a:b@1.0"] {
            assert!(is_plain(plain), "{plain}");
        }
        for other in ["$(id)", "`id`", "a;id", "a b", "-rf", "~root", "a'b", "a\nb", "{a,b}", "*", "a>b", "!x", "#x", "a\u{202e}b"] {
            assert!(!is_plain(other), "{other}");
        }
    }

    #[test]
    fn every_argument_that_takes_a_name_completes_names() {
        fn check(command: &clap::Command, path: &str, missing: &mut Vec<String>) {
            for argument in command.get_arguments() {
                let id = argument.get_id().as_str();
                let takes_names = ["service", "services", "profile", "words", "scenario", "fault", "instance"].contains(&id);
                let listed = ARGUMENTS.iter().any(|(known, argument, _)| *known == path && *argument == id);
                // A new instance or profile has a new name; the values of `--profile` come from Compose files.
                let compose = argument.get_long() == Some("profile");
                if takes_names && !listed && !argument.is_global_set() && !compose {
                    missing.push(format!("{path}: {id}"));
                }
            }
            for subcommand in command.get_subcommands() {
                check(subcommand, format!("{path} {}", subcommand.get_name()).trim(), missing);
            }
        }
        let mut missing = Vec::new();
        check(&args::command(), "", &mut missing);
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn the_definition_stays_consistent_with_its_candidates() {
        let positions = |command: &clap::Command| -> Vec<String> {
            let inject = command.find_subcommand("chaos").unwrap().find_subcommand("inject").unwrap();
            inject.get_positionals().map(|argument| argument.get_id().to_string()).collect()
        };
        let command = with_candidates(args::command(), &[]);
        assert_eq!(positions(&command), positions(&args::command()));
        command.debug_assert();
    }

    #[test]
    fn every_listed_argument_exists() {
        for (path, id, _) in ARGUMENTS {
            let whole = args::command();
            let mut command = &whole;
            for word in path.split_whitespace() {
                command = command.find_subcommand(word).unwrap_or_else(|| panic!("no command {path}"));
            }
            assert!(command.get_arguments().any(|argument| argument.get_id() == *id), "`{path}` has no argument `{id}`");
        }
    }

    #[test]
    fn faults_scenarios_profiles_and_commands_complete_without_a_daemon() {
        let project = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(project.path().join("profiles")).unwrap();
        std::fs::create_dir_all(project.path().join("seed-data/demo")).unwrap();
        std::fs::write(project.path().join("profiles/shop.yaml"), "services: {}\n").unwrap();
        let line = Line { project: project.path().to_str().map(str::to_owned), ..Line::default() };
        let values = |names, current: &str| -> Vec<String> {
            let found = candidates(names, &line, OsStr::new(current));
            found.iter().map(|candidate| candidate.get_value().to_string_lossy().into_owned()).collect()
        };
        assert_eq!(values(Profiles, "sh"), ["shop"]);
        assert!(values(Profiles, "power").is_empty(), "examples are not offered");
        assert_eq!(values(Faults, "pau"), ["pause"]);
        assert!(values(Scenarios, "power-cut-r").contains(&"power-cut-redis-no".to_owned()));
        assert_eq!(values(SeedSets, ""), ["demo"]);
        assert!(values(Commands, "ge").contains(&"getting-started".to_owned()));
    }
}
