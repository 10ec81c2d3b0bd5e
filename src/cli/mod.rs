//! The command line: from arguments to an exit status, one file for each command.
//!
//! A command is one function from its arguments and a [`Session`] (global flags, printer, the connection to the daemon) to an
//! [`ExitStatus`]. It talks to the daemon only through `devenv_api::Client`; only `daemon` runs it.

mod args;
mod attach;
mod exit;
mod failure;
mod given_secrets;
#[cfg(test)]
mod guide_tests;
mod launch;
mod log_line;
mod operation;
mod powers;
mod printer;
mod progress;
mod project;
#[cfg(test)]
mod reference;
mod session;
mod suggest;
mod table;
mod terminal;
mod timings;

// The commands.
mod backup;
mod build;
mod bundle;
mod chaos;
mod client;
mod completions;
mod config;
mod daemon;
mod data;
mod dev;
mod doctor;
mod down;
mod environment;
mod events;
mod exec;
mod gc;
mod help;
mod hook;
mod images;
mod lease;
mod leased_command;
mod ledger;
mod list;
mod load;
mod logs;
mod man;
mod mcp;
mod new;
mod openapi;
mod operations;
mod plan;
mod profiles;
mod relocate;
mod render;
mod run;
mod secrets;
mod services;
mod snapshot;
mod status;
mod take_over;
mod test;
mod top;
mod trust;
mod ui;
mod up;
mod validate;
mod wait;
mod why;

use std::{ffi::OsString, pin::pin, process::ExitCode};

use devenv_api::{ApiError, ErrorCode};

use args::{Cli, Command};
use exit::ExitStatus;
use failure::{Failure, Signal, Signals};
use printer::Printer;
use session::Session;

type Outcome = Result<ExitStatus, Failure>;

/// The whole program.
pub(crate) fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(answered) = completions::answer_if_asked(&arguments) {
        return answered;
    }
    match args::parse(arguments.iter().cloned()) {
        Ok(cli) => run_command(cli).into(),
        Err(error) => not_parsed(&error, &arguments).into(),
    }
}

/// Help and version were requested and are results; the rest is wrong usage.
fn not_parsed(error: &clap::Error, arguments: &[OsString]) -> ExitStatus {
    if !error.use_stderr() {
        let printed = error.print().and_then(|()| Printer::raw_output(&[]));
        return match printed.map_err(Failure::from) {
            Ok(()) => ExitStatus::SUCCESS,
            Err(failure) => {
                if let Failure::Told(error) = &failure {
                    Printer::new(false, false).failure(error, None);
                }
                ExitStatus::from(&failure)
            }
        };
    }
    let _ = error.print();
    if arguments.iter().any(|argument| argument == "--json") {
        let text = error.render().to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let hint = match suggest::of(error) {
            Some(command) => format!("did you mean `{command}`? `devenv --help` lists the commands"),
            None => "run `devenv --help` to list the commands".to_owned(),
        };
        let error = ApiError::new(ErrorCode::Usage, message).hint(hint);
        let printer = Printer::new(true, true);
        let _ = printer.document(&devenv_api::ErrorDocument { error });
        let _ = printer.flush();
    }
    if args::wrap_another(arguments) { ExitStatus::DEVENV_FAILED } else { ExitStatus::USAGE }
}

fn run_command(Cli { global, command }: Cli) -> ExitStatus {
    let session = Session::new(global);
    let wraps = command.wraps_another();
    let outcome = match daemon::run_in_foreground(&command, &session) {
        Some(outcome) => outcome,
        None => with_runtime(command, &session),
    };
    let outcome = outcome.and_then(|status| Ok(session.printer.flush().map(|()| status)?));
    match outcome {
        Ok(status) => status,
        Err(failure) => {
            tell(&session, &failure);
            // Print nothing if the reader has closed stdout.
            let _ = session.printer.flush();
            // A signal and a closed pipe end a wrapping command as they end any other.
            if wraps && matches!(failure, Failure::Told(_) | Failure::Invalid { .. }) {
                ExitStatus::DEVENV_FAILED
            } else {
                ExitStatus::from(&failure)
            }
        }
    }
}

fn tell(session: &Session, failure: &Failure) {
    let error = match failure {
        Failure::Told(error) => error.clone(),
        Failure::Invalid { error, shown } => {
            session.printer.failure(error, Some(shown));
            return;
        }
        Failure::Cancelled { error, .. } => error.clone(),
        Failure::Signal(Signal::Interrupt) => ApiError::new(ErrorCode::Interrupted, "interrupted"),
        Failure::Signal(Signal::Terminate) => ApiError::new(ErrorCode::Interrupted, "terminated"),
        Failure::OutputClosed => return,
    };
    session.printer.failure(&error, None);
}

/// One thread is enough for a client, and starts fastest.
fn with_runtime(command: Command, session: &Session) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failure::internal("cannot start the runtime", error))?;
    let outcome = runtime.block_on(async {
        let mut signals = Signals::listen().map_err(|error| failure::internal("cannot listen for signals", error))?;
        if command.takes_signals() {
            return execute(command, session).await;
        }
        let words = interrupted_words(&command);
        let heals = matches!(&command, Command::Chaos(arguments) if arguments.heals_when_interrupted());
        let mut execute = pin!(execute(command, session));
        loop {
            // Cancel-safe: the command goes on where it was, and a signal that is not read stays pending.
            let signal = tokio::select! {
                outcome = &mut execute => return outcome,
                signal = signals.next() => signal,
            };
            match (session.under_way.is_empty(), session.under_way.signal()) {
                (true, _) => {
                    if let Some(words) = words {
                        session.printer.say(words);
                    }
                    if heals {
                        chaos::interrupted(session).await;
                    }
                    return Err(Failure::Signal(signal));
                }
                (false, None) => {
                    session.printer.say("cancelling the operation; press Ctrl-C again to return now and let it continue");
                    session.under_way.cancel(signal).await;
                }
                (false, Some(_)) => {
                    session.printer.say(session.under_way.going_on());
                    return Err(Failure::Signal(signal));
                }
            }
        }
    });
    // A read of the terminal that nobody waits for any more would block the runtime for ever.
    runtime.shutdown_background();
    outcome
}

/// What an interrupted command leaves behind, if that is worth a message.
fn interrupted_words(command: &Command) -> Option<&'static str> {
    match command {
        Command::Up(_) | Command::Dev(_) => Some("the environment keeps running; see `devenv status`, or stop it with `devenv down`"),
        _ => None,
    }
}

async fn execute(command: Command, session: &Session) -> Outcome {
    match command {
        Command::Up(arguments) => up::run(&arguments, session).await,
        Command::Dev(arguments) => dev::run(&arguments, session).await,
        Command::Down(arguments) => down::run(&arguments, session).await,
        Command::Start(arguments) => services::start(&arguments, session).await,
        Command::Sleep(arguments) => services::sleep(&arguments, session).await,
        Command::Wake(arguments) => services::wake(&arguments, session).await,
        Command::Stop(arguments) => services::stop(&arguments, session).await,
        Command::Restart(arguments) => services::restart(&arguments, session).await,
        Command::Wait(arguments) => wait::run(&arguments, session).await,
        Command::Status(arguments) => status::run(&arguments, session).await,
        Command::List(arguments) => list::run(&arguments, session).await,
        Command::Logs(arguments) => logs::run(&arguments, session).await,
        Command::Events(arguments) => events::run(&arguments, session).await,
        Command::Why(arguments) => why::run(&arguments, session).await,
        Command::Top(arguments) => top::run(&arguments, session).await,
        Command::Operations(arguments) => operations::run(&arguments, session).await,
        Command::Ui(arguments) => ui::run(&arguments, session).await,
        Command::Env(arguments) => environment::run(&arguments, session).await,
        Command::Secrets(arguments) => secrets::run(&arguments, session).await,
        Command::Exec(arguments) => exec::run(&arguments, session).await,
        Command::Run(arguments) => run::run(&arguments, session).await,
        Command::Psql(arguments) => client::psql(&arguments, session).await,
        Command::Redis(arguments) => client::redis(&arguments, session).await,
        Command::Open(arguments) => client::open(&arguments, session).await,
        Command::Test(arguments) => test::run(&arguments, session).await,
        Command::Lease(arguments) => lease::run(&arguments, session).await,
        Command::Bundle(arguments) => bundle::run(&arguments, session),
        Command::Build(arguments) => build::run(&arguments, session).await,
        Command::New(arguments) => new::run(&arguments, session),
        Command::Plan(arguments) => plan::run(&arguments, session).await,
        Command::Config(arguments) => config::run(&arguments, session).await,
        Command::Trust(arguments) => trust::run(&arguments, session),
        Command::Validate(arguments) => validate::run(&arguments, session),
        Command::Profiles(arguments) => profiles::run(&arguments, session),
        Command::Render(arguments) => render::run(&arguments, session).await,
        Command::Fetch(arguments) => images::fetch(&arguments, session).await,
        Command::Images(arguments) => images::run(&arguments, session).await,
        Command::Init(arguments) => data::init(&arguments, session).await,
        Command::Seed(arguments) => data::seed(&arguments, session).await,
        Command::Ledger(arguments) => ledger::run(&arguments, session).await,
        Command::Reset(arguments) => data::reset(&arguments, session).await,
        Command::Snapshot(arguments) => snapshot::run(&arguments, session).await,
        Command::Fork(arguments) => data::fork(&arguments, session).await,
        Command::Undo(arguments) => data::undo(&arguments, session).await,
        Command::Move(arguments) => relocate::run(&arguments, session).await,
        Command::Load(arguments) => load::run(&arguments, session).await,
        Command::Chaos(arguments) => chaos::run(&arguments, session).await,
        Command::Backup(arguments) => backup::run(&arguments, session).await,
        Command::Import(arguments) => backup::import(&arguments, session).await,
        Command::Export(arguments) => backup::export(&arguments, session).await,
        Command::Gc(arguments) => gc::run(&arguments, session).await,
        Command::Doctor(arguments) => doctor::run(&arguments, session).await,
        Command::Daemon(arguments) => daemon::run(&arguments, session).await,
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Hook(arguments) => hook::run(&arguments, session).await,
        Command::Mcp(arguments) => mcp::run(&arguments, session).await,
        Command::Openapi(arguments) => openapi::run(&arguments, session),
        Command::Man(arguments) => man::run(&arguments, session),
        Command::Help(arguments) => help::run(&arguments, session),
    }
}
