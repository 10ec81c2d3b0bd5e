//! The command line's shape: global flags and the list of commands. Each command declares its own arguments in its own file.

use std::{fmt::Write, path::PathBuf};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use devenv_api::ApiError;

use super::{
    backup, build, bundle, chaos, client, completions, config, daemon, data, dev, doctor, down, environment, events, exec, failure::usage,
    gc, help, hook, images, lease, ledger, list, load, logs, man, mcp, new, openapi, operations, plan, profiles, relocate, render, run,
    secrets, services, snapshot, status, suggest, test, top, trust, ui, up, validate, wait, why,
};

/// Run a product's whole local environment: databases, brokers, services, seed data, hot reload and fault injection.
#[derive(Debug, Parser)]
#[command(name = "devenv", bin_name = "devenv", version, disable_help_subcommand = true, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Global {
    /// The project directory.
    ///
    /// Default: the nearest parent directory that contains `profiles/`, else the current directory.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) project: Option<PathBuf>,
    /// The name of the environment within the project. Several instances can run side by side.
    ///
    /// Default: `default`. `test` creates an instance with a random name.
    #[arg(long, global = true, value_name = "NAME", value_parser = instance)]
    pub(crate) instance: Option<String>,
    /// The Docker context to use.
    ///
    /// Default: `DOCKER_HOST`, else `DOCKER_CONTEXT`, else Docker's current context, else the well-known sockets.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Print JSON. Streaming commands print one object per line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print only results and errors, no progress.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Refuse host powers that a person has not allowed, as `devenv mcp` does for agents.
    #[arg(long, global = true, hide = true)]
    pub(crate) allowed_powers_only: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(up::Arguments),
    Dev(dev::Arguments),
    Down(down::Arguments),
    Start(services::Start),
    Stop(services::Stop),
    Sleep(services::Sleep),
    Wake(services::Wake),
    Restart(services::Restart),
    Wait(wait::Arguments),
    #[command(visible_alias = "ps")]
    Status(status::Arguments),
    List(list::Arguments),
    Logs(logs::Arguments),
    Events(events::Arguments),
    Why(why::Arguments),
    Operations(operations::Arguments),
    Top(top::Arguments),
    Ui(ui::Arguments),
    Env(environment::Arguments),
    Secrets(secrets::Arguments),
    Exec(exec::Arguments),
    Run(run::Arguments),
    Psql(client::Psql),
    Redis(client::Redis),
    Open(client::Open),
    Test(test::Arguments),
    Lease(lease::Arguments),
    Bundle(bundle::Arguments),
    New(new::Arguments),
    Plan(plan::Arguments),
    Config(config::Arguments),
    Validate(validate::Arguments),
    Trust(trust::Arguments),
    Profiles(profiles::Arguments),
    Build(build::Arguments),
    Render(render::Arguments),
    Fetch(images::Fetch),
    Images(images::Arguments),
    Init(data::Init),
    Seed(data::Seed),
    Ledger(ledger::Arguments),
    Reset(data::Reset),
    Snapshot(snapshot::Arguments),
    Fork(data::Fork),
    Undo(data::Undo),
    Move(relocate::Arguments),
    Chaos(chaos::Arguments),
    Load(load::Arguments),
    Backup(backup::Arguments),
    Import(backup::Import),
    Export(backup::Export),
    Gc(gc::Arguments),
    Doctor(doctor::Arguments),
    Daemon(daemon::Arguments),
    Completions(completions::Arguments),
    Hook(hook::Arguments),
    Mcp(mcp::Arguments),
    Openapi(openapi::Arguments),
    Man(man::Arguments),
    Help(help::Arguments),
}

/// How `devenv --help` groups the commands.
pub(super) const GROUPS: &[(&str, &[&str])] = &[
    ("Environment", &["up", "dev", "down", "start", "stop", "restart", "sleep", "wake", "wait"]),
    ("Inspection", &["status", "list", "logs", "events", "why", "operations", "top", "ui"]),
    ("Access", &["env", "secrets", "exec", "run", "psql", "redis", "open", "mcp"]),
    ("Testing", &["test", "load", "lease", "bundle"]),
    ("Fault injection", &["chaos"]),
    ("Data", &["init", "seed", "ledger", "reset", "snapshot", "fork", "undo", "move", "backup", "import", "export"]),
    ("Profiles", &["new", "plan", "config", "validate", "profiles", "render", "trust"]),
    ("Machine", &["build", "fetch", "images", "gc", "doctor", "daemon", "openapi"]),
    ("Shell", &["completions", "hook", "man", "help"]),
];

/// The command line as it is declared.
pub(crate) fn plain() -> clap::Command {
    Cli::command()
}

/// The whole command line, with the commands grouped in its help.
pub(crate) fn command() -> clap::Command {
    let command = Cli::command();
    let mut groups = String::new();
    for (heading, names) in GROUPS {
        let _ = write!(groups, "\n{}\n", bold(format_args!("{heading}:")));
        for name in *names {
            let about = command.find_subcommand(name).and_then(clap::Command::get_about).map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(groups, "  {name:<12} {about}");
        }
    }
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n{groups}\n{}\n{{options}}{{after-help}}\n",
        bold(format_args!("Options:"))
    );
    let more = "Use `devenv COMMAND --help` for more about a command, `devenv help` for topics, and `devenv --help` for exit codes and\n\
        environment variables.";
    command.help_template(template).after_help(more).after_long_help(codes_and_variables())
}

fn bold(text: std::fmt::Arguments<'_>) -> String {
    super::printer::paint(super::printer::BOLD, text)
}

fn codes_and_variables() -> String {
    let mut text = bold(format_args!("Exit codes:"));
    for (code, meaning) in super::exit::MEANINGS {
        let _ = write!(text, "\n  {code:<4} {meaning}");
    }
    let _ = write!(text, "\n\n{}", bold(format_args!("Environment variables:")));
    for variable in crate::paths::VARIABLES {
        let _ = write!(text, "\n  {:<20} {}", variable.name, variable.meaning);
    }
    text
}

/// Parses the command line. The error is a usage error, or the help or version text to print.
pub(crate) fn parse(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Cli, clap::Error> {
    let mut matches = command().try_get_matches_from(arguments).map_err(suggest::with_tip)?;
    Cli::from_arg_matches_mut(&mut matches)
}

/// Parses an instance name, which becomes part of container names and labels.
pub(super) fn instance(text: &str) -> Result<String, String> {
    if devenv_api::is_instance_name(text) {
        Ok(text.to_owned())
    } else {
        Err("an instance name starts with a letter or digit and has at most 40 characters from a-z, A-Z, 0-9, `-`, `_` and `.`".to_owned())
    }
}

/// The absolute form of a path argument, as text for the daemon. A usage error if it is not UTF-8.
pub(super) fn absolute(path: &str) -> Result<String, ApiError> {
    let absolute = std::path::absolute(path).map_err(|error| usage(format!("{path}: {error}")))?;
    absolute.into_os_string().into_string().map_err(|path| usage(format!("the path is not UTF-8: {}", path.display())))
}

/// Parses a duration such as `300ms`, `30s`, `5m`, `24h`.
pub(super) fn period(text: &str) -> Result<std::time::Duration, String> {
    text.parse::<devenv_spec::Period>().map(devenv_spec::Period::duration).map_err(|error| error.to_string())
}

impl Command {
    /// Whether the command passes another program's exit code through (`run`, `exec`, `psql`, `redis`, `test`,
    /// `lease`). Failures of devenv itself then exit with 125.
    pub(crate) fn wraps_another(&self) -> bool {
        matches!(self, Self::Run(_) | Self::Exec(_) | Self::Psql(_) | Self::Redis(_) | Self::Test(_) | Self::Lease(_))
    }

    /// Whether the command handles signals itself, because it must end a child process or a lease first.
    pub(crate) fn takes_signals(&self) -> bool {
        matches!(self, Self::Test(_) | Self::Lease(_))
    }
}

/// [`Command::wraps_another`] for arguments that could not be parsed: the first word that is not an option decides.
pub(crate) fn wrap_another(arguments: &[std::ffi::OsString]) -> bool {
    let mut words = arguments.iter().skip(1).map(|word| word.to_string_lossy());
    while let Some(word) = words.next() {
        match word.as_ref() {
            "--project" | "--instance" | "--context" => {
                words.next();
            }
            word if word.starts_with('-') => {}
            word => return matches!(word, "run" | "exec" | "psql" | "redis" | "test" | "lease"),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<std::ffi::OsString> {
        std::iter::once("devenv").chain(line.split_whitespace()).map(Into::into).collect()
    }

    fn parsed(line: &str) -> Cli {
        parse(words(line)).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    #[test]
    fn the_definition_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_command_is_in_exactly_one_help_group() {
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let mut all: Vec<String> = Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
        grouped.sort_unstable();
        all.sort_unstable();
        assert_eq!(grouped, all);
    }

    #[test]
    fn every_command_has_an_example() {
        fn check(command: &clap::Command, path: &str) {
            for subcommand in command.get_subcommands() {
                let path = format!("{path} {}", subcommand.get_name());
                if subcommand.has_subcommands() {
                    check(subcommand, &path);
                    continue;
                }
                let about = subcommand.get_long_about().map(ToString::to_string).unwrap_or_default();
                assert!(about.contains(&format!("Example: {path}")), "{path}: {about}");
            }
        }
        check(&Cli::command(), "devenv");
    }

    #[test]
    fn the_forms_that_scripts_depend_on_are_taken() {
        let lines = [
            "up",
            "up shop --timeout 90s --context colima --attach",
            "dev",
            "dev shop --timeout 1m",
            "logs --crash api",
            "up ./x.yaml --offline --fail-on-drift",
            "up -f compose.yaml -f more.yaml --profile debug web db",
            "up shop web",
            "plan -f compose.yaml --json",
            "config -f compose.yaml",
            "new",
            "new shop --from compose.yaml --force",
            "render compose -f compose.yaml",
            "render compose shop --output out",
            "psql db -- -Atc x",
            "redis",
            "open web",
            "run web -- sh -c x",
            "run --rm=false web -- sh",
            "logs db --tail 3 --until 5m",
            "down --volumes --all",
            "status --json",
            "ps",
            "list --json",
            "plan shop --json",
            "why db",
            "operations --follow",
            "ui",
            "ui --port 7000 --no-open --host 127.0.0.1 --json",
            "events -f",
            "events --json",
            "logs -f --since 5m --grep x db cache",
            "logs --since 2026-11-20T10:00:00Z",
            "env --format json --for container --service api --redact",
            "exec db -- psql -c x",
            "exec db psql -c x",
            "run -- cargo test --release",
            "run env",
            "start db",
            "stop db cache",
            "sleep",
            "wake db",
            "restart db",
            "wait db --timeout 30s",
            "wait",
            "validate a.yaml b.yaml --json",
            "config --explain services.db.image",
            "config shop --images",
            "profiles",
            "gc --dry-run --all",
            "gc --idle 7d --budget 20GiB",
            "fetch ci --lock",
            "images save images.tar ci",
            "images load images.tar",
            "doctor",
            "daemon run",
            "daemon start",
            "daemon stop",
            "daemon status --json",
            "completions bash",
            "completions nushell",
            "hook fish",
            "hook bash --changes",
            "man --output man",
            "help",
            "help chaos run",
            "profiles --all",
            "--project /tmp --instance one up shop",
            "up shop --instance one --json --quiet",
        ];
        for line in lines {
            parsed(line);
        }
    }

    #[test]
    fn wrong_usage_is_refused() {
        let lines = [
            "",
            "upp",
            "up --timeout 30",
            "up --timeout soon",
            "--instance -x up",
            "up --instance a/b",
            "exec db",
            "run",
            "why",
            "validate",
            "env --format xml",
            "completions",
            "daemon",
            "logs --bogus",
        ];
        for line in lines {
            assert!(parse(words(line)).is_err(), "{line}");
        }
    }

    #[test]
    fn flags_behind_the_command_of_exec_and_run_belong_to_it() {
        let Command::Exec(exec) = parsed("exec --json db -- psql --json -c x").command else { panic!() };
        assert_eq!(exec.command, ["psql", "--json", "-c", "x"]);
        let cli = parsed("run cargo test --quiet");
        assert!(!cli.global.quiet);
        let Command::Run(run) = cli.command else { panic!() };
        assert_eq!(run.command, ["cargo", "test", "--quiet"]);
    }

    #[test]
    fn the_dashes_after_a_service_are_seen_by_run() {
        let Command::Run(run) = parsed("run migrate -- sh -c x").command else { panic!() };
        assert_eq!(run.command, ["migrate", "--", "sh", "-c", "x"]);
        let Command::Run(run) = parsed("run -- cargo test").command else { panic!() };
        assert_eq!(run.command, ["cargo", "test"]);
    }

    #[test]
    fn usage_errors_of_wrapping_commands_are_known_without_a_parse() {
        for (line, expected) in
            [("run --bogus", true), ("--instance run up --x", false), ("--json exec", true), ("up run", false), ("", false)]
        {
            assert_eq!(wrap_another(&words(line)), expected, "{line}");
        }
    }
}
