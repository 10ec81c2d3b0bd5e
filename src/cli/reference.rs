//! The generated pages of `docs/reference/`. A test fails while one of them is stale.

use std::{fmt::Write, fs, path::PathBuf};

use super::{args, exit};
use crate::paths;

const GENERATED: &str = "<!-- Generated. Run `make reference` to update it. -->\n";

fn commands() -> String {
    let mut page = format!("# Commands\n\n{GENERATED}\n");
    page.push_str("Results go to stdout, progress and errors to stderr. All commands accept the global options below.\n");
    let mut root = args::command();
    root.build();
    page.push_str("\n## Global options\n\n");
    for argument in root.get_arguments().filter(|argument| argument.is_global_set()) {
        option(&mut page, argument);
    }
    for (heading, names) in args::GROUPS {
        let _ = write!(page, "\n## {heading}\n");
        for name in *names {
            section(&mut page, "devenv", root.find_subcommand(name).expect("a test checks that every name in a group is a command"));
        }
    }
    page
}

fn section(page: &mut String, parent: &str, command: &clap::Command) {
    let path = format!("{parent} {}", command.get_name());
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let _ = write!(page, "\n### `{path}`\n\n");
    for paragraph in about.split("\n\n") {
        match paragraph.strip_prefix("Example: ") {
            Some(example) => {
                let _ = write!(page, "```sh\n{example}\n```\n\n");
            }
            None => {
                let _ = write!(page, "{}.\n\n", paragraph.trim_end_matches('.'));
            }
        }
    }
    for alias in command.get_visible_aliases() {
        let _ = write!(page, "Also: `{parent} {alias}`.\n\n");
    }
    let own = |argument: &&clap::Arg| !argument.is_global_set() && argument.get_id() != "help" && argument.get_id() != "version";
    if !command.has_subcommands() {
        for argument in command.get_arguments().filter(own) {
            option(page, argument);
        }
    }
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        section(page, &path, subcommand);
    }
    let trimmed = page.trim_end().len();
    page.truncate(trimmed);
    page.push('\n');
}

fn option(page: &mut String, argument: &clap::Arg) {
    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let value = argument.get_value_names().map(|names| names.join(" ")).filter(|_| argument.get_action().takes_values());
    let mut form = match (argument.get_short(), argument.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long}"),
        (None, Some(long)) => format!("--{long}"),
        _ => String::new(),
    };
    match (form.is_empty(), value) {
        (true, value) => form = value.unwrap_or_else(|| argument.get_id().to_string().to_uppercase()),
        (false, Some(value)) => form = format!("{form} {value}"),
        (false, None) => {}
    }
    // clap removes the full stop of a first paragraph.
    let sentence =
        help.split("\n\n").map(|paragraph| format!("{}.", paragraph.replace('\n', " ").trim_end_matches('.'))).collect::<Vec<_>>();
    let _ = write!(page, "- `{form}`: {}", sentence.join(" "));
    let choices: Vec<String> = argument.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    if !choices.is_empty() && argument.get_action().takes_values() {
        let _ = write!(page, " One of {}.", choices.join(", "));
    }
    if let [default] = argument.get_default_values()
        && argument.get_action().takes_values()
    {
        let _ = write!(page, " Default: `{}`.", default.display());
    }
    page.push('\n');
}

fn exit_codes() -> String {
    let mut page = format!("# Exit codes\n\n{GENERATED}\n| exit | meaning |\n|---|---|\n");
    for (code, meaning) in exit::MEANINGS {
        let _ = writeln!(page, "| {code} | {meaning} |");
    }
    page.push_str(
        "\nWith `--json`, a command that fails prints `{\"error\": {\"code\", \"message\", \"hint\"?, \"problems\"?}}` on stdout, and \
            the message as text on stderr.\n`validate --json` always prints `{\"problems\": […]}`.\n",
    );
    page
}

fn environment_variables() -> String {
    let mut page = format!("# Environment variables that devenv reads\n\n{GENERATED}\n| name | meaning |\n|---|---|\n");
    for variable in paths::VARIABLES {
        let _ = writeln!(page, "| `{}` | {} |", variable.name, variable.meaning);
    }
    page
}

#[test]
fn the_reference_agrees_with_the_program() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/reference");
    let pages = [("commands.md", commands()), ("exit-codes.md", exit_codes()), ("environment-variables.md", environment_variables())];
    let update = std::env::var_os("UPDATE").is_some();
    for (name, page) in pages {
        let path = directory.join(name);
        if update {
            fs::create_dir_all(&directory).unwrap();
            fs::write(&path, &page).unwrap();
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert!(written == page, "{} is out of date: run `make reference`", path.display());
    }
}
