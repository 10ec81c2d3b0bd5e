//! `devenv secrets`: the secrets of an environment, and the values of those that the profile declares.

use std::{
    io::{self, IsTerminal, Read},
    os::fd::AsFd,
};

use devenv_api::{ApiError, ErrorCode, Secret, SetSecretRequest};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::{
    Outcome,
    exit::ExitStatus,
    failure::{Failure, internal, usage},
    project,
    session::Session,
    table,
};

/// List secrets, and set the values of those that the profile declares.
///
/// No command prints a value; `devenv env` prints the variables of the environment, which contain passwords.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the secrets of the environment: where they come from, and how old they are.
    ///
    /// Example: devenv secrets list
    List {},
    /// Set the value of a secret of the profile for this environment, instead of the source that the profile names.
    ///
    /// The value is read from standard input up to its end, without the last line break, or asked for on the terminal. It stays until
    /// `--unset`, or until the environment's data is removed. Services get it when they start the next time.
    ///
    /// Example: devenv secrets set STRIPE_KEY
    Set {
        /// The name of the secret in the profile.
        name: String,
        /// Return to the source that the profile names.
        #[arg(long)]
        unset: bool,
        /// The profile that declares it. Default: the one that the environment runs, else `default`.
        #[arg(long)]
        profile: Option<String>,
    },
}

/// The longest value, in bytes.
const LONGEST: u64 = 64 << 10;

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let secrets = match &arguments.action {
        Action::List {} => session.client().await?.secrets(&session.target()?).await?,
        Action::Set { name, unset, profile } => {
            let profile = project::profile_name(session, profile.as_deref()).await?;
            project::load(session, &profile)?.declares_secret(name)?;
            let value = if *unset { None } else { Some(value(name).await?) };
            let request = SetSecretRequest { target: session.target()?, name: name.clone(), value };
            let secrets = session.client().await?.set_secret(&request).await?;
            let next = if *unset { "`devenv up` takes it from the profile's source" } else { "services get it when they start" };
            session.printer.say(format_args!("{name}: {next}; run `devenv restart SERVICE` for one that runs"));
            secrets
        }
    };
    session.printer.result(&secrets, || listed(&secrets.secrets))?;
    Ok(ExitStatus::SUCCESS)
}

fn listed(secrets: &[Secret]) -> String {
    if secrets.is_empty() {
        return "no secrets".to_owned();
    }
    let row = |secret: &Secret| {
        let service = secret.service.clone().unwrap_or_else(|| "-".to_owned());
        let age = secret.age_ms.map_or_else(|| "-".to_owned(), table::duration);
        [secret.name.clone(), service, secret.source.to_string(), age]
    };
    table::columns(["NAME", "SERVICE", "SOURCE", "AGE"], secrets.iter().map(row))
}

/// From standard input, which may be a terminal.
async fn value(name: &str) -> Result<String, Failure> {
    let on_terminal = io::stdin().is_terminal();
    // Ends with this function, also if a signal ends the command while it waits.
    let _silent = on_terminal.then(|| Silent::begin(name)).transpose()?;
    let reading = tokio::task::spawn_blocking(move || {
        let (mut text, input) = (String::new(), io::stdin());
        let read = if on_terminal { input.read_line(&mut text) } else { input.take(LONGEST + 1).read_to_string(&mut text) };
        read.map(|_| text)
    });
    let mut text = reading.await.map_err(|error| internal("cannot read the value", error))?.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => usage("the value is not UTF-8"),
        _ => internal("cannot read the value", error),
    })?;
    for end in ['\n', '\r'] {
        if text.ends_with(end) {
            text.pop();
        }
    }
    match text {
        text if text.is_empty() => {
            let hint = format!("pipe it in: `printf %s \"$VALUE\" | devenv secrets set {name}`");
            Err(ApiError::new(ErrorCode::Usage, format!("the value of `{name}` is empty")).hint(hint).into())
        }
        text if text.len() as u64 > LONGEST => Err(usage(format!("the value of `{name}` has more than {LONGEST} bytes")).into()),
        text => Ok(text),
    }
}

/// The terminal shows nothing of what is typed.
struct Silent(Termios);

impl Silent {
    fn begin(name: &str) -> Result<Self, ApiError> {
        let failed = |error: rustix::io::Errno| internal("cannot change the terminal", io::Error::from(error));
        let before = tcgetattr(io::stdin().as_fd()).map_err(failed)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin().as_fd(), OptionalActions::Flush, &silent).map_err(failed)?;
        super::printer::Printer::ask(&format!("value of {name}: "));
        Ok(Self(before))
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // The next program would show nothing either.
        let _ = tcsetattr(io::stdin().as_fd(), OptionalActions::Flush, &self.0);
        super::printer::Printer::ask("\n");
    }
}
