//! `devenv top`: the services of an environment with what they use, live, and the output of the selected one.
//!
//! # Theory of operation
//!
//! Everything arrives as [`News`] in one loop: keys, the status every second, metrics every few seconds, lines of the selected
//! service, events, and the ends of actions. News change the [`View`], which is pure and makes the lines of a frame; a frame is drawn only if it
//! differs from the last. The [`Screen`] gives the terminal back when it is dropped: after `q`, a signal, a panic or a
//! lost daemon. No library draws: a frame is a list of lines, and the terminal's few sequences are in `screen`.

mod keys;
mod screen;
mod view;

use std::{io::IsTerminal, pin::Pin, time::Duration};

use devenv_api::{
    AskedBy, Client, ClientError, EnvironmentTarget, Event, EventsRequest, LogLine, LogsRequest, Metrics, MetricsRequest, OperationRequest,
    ServicesRequest, Status, Submission,
};
use futures_util::{Stream, StreamExt, stream, stream::FuturesUnordered};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::{
    Outcome,
    exit::ExitStatus,
    failure::{api_error, usage},
    session::Session,
};
use keys::Key;
use screen::Screen;
use view::{Action, View};

/// Watch the services of the environment: state, processor time, memory, and the output of the selected one.
///
/// Keys: arrows, `j` and `k`, a click or the wheel select a service, `r` restarts it, `s` stops it, `u` starts it, `/` filters its output, `a` shows
/// the output of all services, `e` the events of the environment, `q` ends. With `--json`, prints the status and metrics every two seconds.
///
/// Example: devenv top
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

const STATUS_EVERY: Duration = Duration::from_secs(1);
const METRICS_EVERY: Duration = Duration::from_secs(3);
const JSON_EVERY: Duration = Duration::from_secs(2);
/// How often the terminal's size is looked at.
const SIZE_EVERY: Duration = Duration::from_millis(250);
/// Lines of the past that are shown of a service.
const TAIL: usize = 200;

/// What has happened.
enum News {
    Keys(Vec<Key>),
    /// The terminal is gone.
    KeysEnded,
    Status(Result<Status, ClientError>),
    Metrics(Option<Metrics>),
    Line(Result<LogLine, ClientError>),
    Event(Result<Event, ClientError>),
    Acted(String),
    Tick,
}

type Live<'a, T> = Pin<Box<dyn Stream<Item = T> + 'a>>;

pub(super) async fn run(_: &Arguments, session: &Session) -> Outcome {
    let (client, target) = (session.client().await?, session.target()?);
    if session.printer.json() {
        return documents(&client, &target, session).await;
    }
    if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        return Err(usage("`devenv top` needs a terminal").hint("use `devenv top --json` for programs, or `devenv status`").into());
    }
    let mut view = View::new(client.status(&target).await?);
    let mut screen = Screen::enter()?;
    let (asked, of) = (&client, &target);
    let mut status = every(STATUS_EVERY, move || asked.status(of));
    let mut metrics = every(METRICS_EVERY, move || async move {
        // An environment that is down has none.
        asked.metrics(&MetricsRequest { target: of.clone() }).await.ok()
    });
    let mut events = happening(&client, &target).await;
    let mut keys = pressed();
    let mut tick = tokio::time::interval(SIZE_EVERY);
    let mut actions = FuturesUnordered::new();
    let (mut shown, mut lines) = (None, stream::pending().boxed_local());
    loop {
        let wanted = view.wanted_output();
        if shown.as_ref() != Some(&wanted) {
            lines = output(&client, &target, wanted.as_deref()).await;
            view.forget_output();
            shown = Some(wanted);
        }
        screen.draw(&view)?;
        // Cancel-safe: streams, a timer, and futures that are polled again where they were.
        let news = tokio::select! {
            read = keys.next() => read.map_or(News::KeysEnded, News::Keys),
            Some(found) = status.next() => News::Status(found),
            Some(found) = metrics.next() => News::Metrics(found),
            Some(line) = lines.next() => News::Line(line),
            Some(event) = events.next() => News::Event(event),
            Some(message) = actions.next() => News::Acted(message),
            _ = tick.tick() => News::Tick,
        };
        match news {
            News::KeysEnded => return Ok(ExitStatus::SUCCESS),
            News::Keys(pressed) => {
                for key in pressed {
                    match view.press(key) {
                        Some(Action::Quit) => return Ok(ExitStatus::SUCCESS),
                        Some(Action::Change(verb, service)) => actions.push(act(&client, &target, verb, service)),
                        None => {}
                    }
                }
            }
            News::Status(found) => view.update(found?),
            News::Metrics(Some(metrics)) => view.measure(&metrics),
            News::Line(line) => view.add(&line?),
            News::Event(event) => view.happened(&event?),
            News::Acted(message) => view.tell(message),
            News::Metrics(None) | News::Tick => {}
        }
    }
}

async fn documents(client: &Client, target: &EnvironmentTarget, session: &Session) -> Outcome {
    loop {
        let status = client.status(target).await?;
        let metrics = client.metrics(&MetricsRequest { target: target.clone() }).await;
        let samples = metrics.map(|metrics| metrics.samples).unwrap_or_default();
        session.printer.document(&json!({ "status": status, "samples": samples }))?;
        session.printer.flush()?;
        tokio::time::sleep(JSON_EVERY).await;
    }
}

/// The answers to a question that is asked again and again.
fn every<'a, T: 'a, F: Future<Output = T> + 'a>(period: Duration, ask: impl Fn() -> F + 'a) -> Live<'a, T> {
    let mut timer = tokio::time::interval(period);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    stream::unfold((timer, ask), |(mut timer, ask)| async move {
        timer.tick().await;
        Some((ask().await, (timer, ask)))
    })
    .boxed_local()
}

/// Keys as they are pressed; ends with the terminal.
fn pressed() -> Live<'static, Vec<Key>> {
    stream::unfold(tokio::io::stdin(), |mut stdin| async move {
        let mut bytes = [0; 64];
        match stdin.read(&mut bytes).await {
            Ok(0) | Err(_) => None,
            Ok(count) => Some((keys::of(&bytes[..count]), stdin)),
        }
    })
    .boxed_local()
}

/// The output of one service, or of all.
async fn output<'a>(client: &Client, target: &EnvironmentTarget, service: Option<&str>) -> Live<'a, Result<LogLine, ClientError>> {
    let services = service.map(str::to_owned).into_iter().collect();
    let request = LogsRequest { services, follow: true, tail: Some(TAIL), ..LogsRequest::of(target.clone()) };
    // An environment that does not exist yet has no output.
    match client.logs(&request).await {
        // It ends with the environment, which the status tells.
        Ok(lines) => lines.chain(stream::pending()).boxed_local(),
        Err(_) => stream::pending().boxed_local(),
    }
}

/// What has happened in the environment, and what happens.
async fn happening<'a>(client: &Client, target: &EnvironmentTarget) -> Live<'a, Result<Event, ClientError>> {
    match client.events(&EventsRequest { target: target.clone(), follow: true }).await {
        Ok(events) => events.chain(stream::pending()).boxed_local(),
        // An environment that does not exist yet has none.
        Err(_) => stream::pending().boxed_local(),
    }
}

async fn act(client: &Client, target: &EnvironmentTarget, verb: &'static str, service: String) -> String {
    let request = ServicesRequest { target: target.clone(), services: vec![service.clone()] };
    let request = match verb {
        "restart" => OperationRequest::Restart(request),
        "stop" => OperationRequest::Stop(request),
        _ => OperationRequest::Start(request),
    };
    let user = Some(rustix::process::getuid().as_raw());
    let asked_by = AskedBy { command: format!("devenv top: {verb} {service}"), pid: Some(std::process::id()), user };
    match client.carry_out::<Value>(&Submission { request, asked_by }).await {
        Ok(_) => format!("{verb} {service}: done"),
        Err(error) => format!("{verb} {service}: {}", api_error(error).message),
    }
}
