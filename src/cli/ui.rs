//! `devenv ui`: the page in the browser, served by the daemon as long as this command runs.

use std::{io::IsTerminal, net::IpAddr, time::Duration};

use devenv_api::{ApiError, Client, ErrorCode, UiAddress, UiOpened, UiRequest};
use futures_util::StreamExt;
use tokio::time::{Instant, sleep};

use super::{Outcome, client::open_in_browser, failure::Failure, session::Session};

/// Open the page of the environment in the browser.
///
/// The daemon serves the page on 127.0.0.1 until this command ends. The address contains a token that is good once: it opens the page in one
/// browser, and nobody else gets in. The page shows services, logs, events, traces, metrics, data, topics, faults and operations.
///
/// Example: devenv ui
///
/// Example: devenv ui --no-open --port 7000
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The port to listen on. Default: a free one.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Print the address and open no browser.
    #[arg(long)]
    no_open: bool,
    /// The address to listen on. Default: 127.0.0.1. Everyone who reaches another address can try to get in.
    #[arg(long, value_name = "ADDRESS")]
    host: Option<IpAddr>,
}

/// How long the page waits for the next daemon after its own has ended.
const NEXT_DAEMON: Duration = Duration::from_mins(30);
/// Between two looks for it.
const LOOK: Duration = Duration::from_millis(300);

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let mut request = UiRequest { target: session.target()?, port: arguments.port, host: arguments.host, session: None };
    let mut client = session.client().await?;
    if arguments.host.is_some_and(|host| !host.is_loopback()) {
        session.printer.say("warning: the page can be reached from other machines, and it is not encrypted");
    }
    let mut is_open = false;
    loop {
        let mut answer = client.ui(&request).await?;
        let Some(opened) = answer.next().await else { return Err(ended().into()) };
        let opened: UiOpened = opened?;
        if !is_open {
            show(&opened, arguments, session)?;
            is_open = true;
        }
        // The next daemon serves the page that is open at the same place.
        request.port = Some(opened.port);
        request.session = Some(opened.session);
        // Nothing more comes, so this is the end of the daemon.
        let _ = answer.next().await;
        session.printer.say("the daemon has stopped; the page continues when another command starts the next one");
        client = next_daemon(session).await?;
        session.printer.say("the page continues");
    }
}

fn show(opened: &UiOpened, arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    session.printer.result(&UiAddress { url: opened.url.clone() }, || opened.url.clone())?;
    session.printer.flush()?;
    if !arguments.no_open && std::io::stdout().is_terminal() {
        open_in_browser(&opened.url);
    }
    session.printer.say("the page is served until this command ends: press Ctrl-C to end it");
    Ok(())
}

/// Starts none: who stopped the daemon wants it stopped.
async fn next_daemon(session: &Session) -> Result<Client, Failure> {
    let deadline = Instant::now() + NEXT_DAEMON;
    while Instant::now() < deadline {
        if let Some(client) = session.running_daemon().await? {
            return Ok(client);
        }
        sleep(LOOK).await;
    }
    Err(ended().into())
}

fn ended() -> ApiError {
    ApiError::new(ErrorCode::Failed, "the daemon that serves the page has stopped").hint("run `devenv ui` again for a new address")
}
