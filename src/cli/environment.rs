//! `devenv env`: the environment's variables, for shells, env files and programs.

use devenv_api::{VariablesFor, VariablesRequest};
use indexmap::IndexMap;

use super::{Outcome, exit::ExitStatus, session::Session};

/// Print the environment's variables: addresses, users, passwords.
///
/// The output contains secrets unless you pass `--redact`.
///
/// Example: eval "$(devenv env)"
///
/// Example: devenv env --format dotenv --for container > .env
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The output format. `--json` is the same as `--format json`.
    #[arg(long, value_enum, default_value = "shell")]
    format: Format,
    /// Where the addresses are used: on the host, or in a container on the environment's network.
    #[arg(long = "for", value_enum, default_value = "host", value_name = "WHERE")]
    form: Form,
    /// Print only the variables that this service gets.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Print `********` instead of secrets.
    #[arg(long)]
    redact: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// `export NAME='value'`, for `eval`.
    Shell,
    /// `NAME=value`, for `.env` files and `docker run --env-file`.
    Dotenv,
    /// One flat JSON object.
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    Host,
    Container,
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let request = VariablesRequest {
        target: session.target()?,
        form: match arguments.form {
            Form::Host => VariablesFor::Host,
            Form::Container => VariablesFor::Container,
        },
        service: arguments.service.clone(),
    };
    let variables = session.client().await?.variables(&request).await?.variables;
    let values: IndexMap<String, String> =
        variables.into_iter().map(|(name, variable)| (name, if arguments.redact { variable.redacted } else { variable.value })).collect();
    let line: fn(&str, &str) -> String = match arguments.format {
        _ if session.printer.json() => return json(&values, session),
        Format::Json => return json(&values, session),
        Format::Shell => |name, value| format!("export {name}={}", shell_quoted(value)),
        Format::Dotenv => |name, value| format!("{name}={}", dotenv_quoted(value)),
    };
    for (name, value) in &values {
        session.printer.exact(&line(name, value))?;
    }
    Ok(ExitStatus::SUCCESS)
}

fn json(values: &IndexMap<String, String>, session: &Session) -> Outcome {
    session.printer.document(values)?;
    Ok(ExitStatus::SUCCESS)
}

/// In single quotes only the quote itself is special, in every POSIX shell.
pub(super) fn shell_quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// Without quotes if every reader understands it (`docker run --env-file` takes quotes literally), otherwise quoted as Compose reads it.
fn dotenv_quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+,=?&*~".contains(c);
    if value.chars().all(plain) {
        return value.to_owned();
    }
    if !value.contains(['\'', '\n', '\r']) {
        return format!("'{value}'");
    }
    let mut quoted = String::from("\"");
    for c in value.chars() {
        match c {
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '"' | '\\' | '$' => quoted.extend(['\\', c]),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        for value in ["", "plain", "it's", "a b\nc", "$HOME `id` \\ \"x\" !", "'", "äöü;&|"] {
            let script = format!("value={}; printf %s \"$value\"", shell_quoted(value));
            let read = std::process::Command::new("sh").args(["-c", &script]).output().unwrap().stdout;
            assert_eq!(String::from_utf8(read).unwrap(), value);
        }
    }

    #[test]
    fn env_files_quote_only_where_they_must() {
        let cases = [
            ("", ""),
            (
                "postgres://app:Secret1@127.0.0.1:5432/app?sslmode=verify-full&x=1",
                "postgres://app:Secret1@127.0.0.1:5432/app?sslmode=verify-full&x=1",
            ),
            ("two words", "'two words'"),
            ("a#b", "'a#b'"),
            ("$HOME", "'$HOME'"),
            ("it's $5", r#""it's \$5""#),
            ("a\nb\"c\\", r#""a\nb\"c\\""#),
        ];
        for (value, expected) in cases {
            assert_eq!(dotenv_quoted(value), expected, "{value}");
        }
    }
}
