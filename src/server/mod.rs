//! HTTP over the daemon's unix socket: one file for each noun. Handlers only translate; the environments' own tasks
//! do the work, through their handles.

mod browse;
mod bundle;
mod chaos;
mod daemon;
mod data;
mod engine_selection;
mod environment;
mod exec;
mod failure;
mod images;
mod lease;
mod log;
mod operation;
mod secrets;
mod stream;
mod ui;
mod variables;

use std::{sync::Arc, time::Instant};

use axum::{Router, middleware, routing, routing::MethodRouter, serve::Listener};
use devenv_api::{ApiError, EngineInfo, EngineSelection, route};
use tokio_util::sync::CancellationToken;

use crate::{environment::Environments, operation::Operations, paths::Paths};

/// Refuses requests of clients that select another engine than the daemon's.
pub(crate) type EngineCheck = Box<dyn Fn(EngineSelection) -> Result<(), ApiError> + Send + Sync>;

/// The state of all handlers.
pub(crate) struct Daemon {
    pub(crate) environments: Environments,
    pub(crate) operations: Operations,
    pub(crate) paths: Paths,
    pub(crate) refuse_engine: EngineCheck,
    pub(crate) engine: EngineInfo,
    pub(crate) started: Instant,
    /// Cancelled to end the daemon.
    pub(crate) stop: CancellationToken,
}

/// Serves until `stop`; answers in progress get no more time than the daemon's shutdown.
pub(crate) async fn serve<L: Listener<Addr: std::fmt::Debug>>(daemon: Daemon, listener: L, stop: CancellationToken) {
    let served = axum::serve(listener, router(Arc::new(daemon))).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!(%error, "The daemon no longer accepts connections.");
    }
}

fn router(daemon: Arc<Daemon>) -> Router {
    let add = |router: Router<Arc<Daemon>>, (path, handler)| router.route(path, handler);
    let of_engine = routes_of_engine().into_iter().fold(Router::new(), add);
    let of_engine = of_engine.layer(middleware::from_fn_with_state(daemon.clone(), engine_selection::agree));
    routes_of_daemon().into_iter().fold(of_engine, add).layer(middleware::map_response(failure::documented)).with_state(daemon)
}

type Routes = Vec<(&'static str, MethodRouter<Arc<Daemon>>)>;

/// Refused if the client selects another engine.
fn routes_of_engine() -> Routes {
    vec![
        (route::PLAN, routing::post(environment::plan)),
        (route::WAIT, routing::post(environment::wait)),
        (route::LEDGER, routing::post(data::ledger)),
        (route::LEDGER_ACCEPT, routing::post(data::accept)),
        (route::LEDGER_CHANGES, routing::post(data::changes)),
        (route::LEDGER_RUN, routing::post(data::run_again)),
        (route::SECRETS, routing::post(secrets::list)),
        (route::SECRETS_SET, routing::post(secrets::set)),
        (route::SNAPSHOTS, routing::post(data::snapshots)),
        (route::BACKUPS, routing::post(data::backups)),
        (route::OUTLINE, routing::post(browse::outline)),
        (route::ROWS, routing::post(browse::rows)),
        (route::QUERY, routing::post(browse::query)),
        (route::PRODUCE, routing::post(browse::produce)),
        (route::TRACES, routing::post(browse::traces)),
        (route::METRICS, routing::post(browse::metrics)),
        (route::AGENT, routing::post(log::note_call)),
        (route::STATUS, routing::post(environment::status)),
        (route::ENVIRONMENTS, routing::get(environment::list)),
        (route::USAGE, routing::get(environment::usage)),
        (route::LOGS, routing::post(log::logs)),
        (route::EVENTS, routing::post(log::events)),
        (route::WHY, routing::post(log::why)),
        (route::VARIABLES, routing::post(variables::variables)),
        (route::EXEC, routing::post(exec::exec)),
        (route::CHAOS_INJECT, routing::post(chaos::inject)),
        (route::CHAOS_CHECK, routing::post(chaos::check)),
        (route::CHAOS_HEAL, routing::post(chaos::heal)),
        (route::CHAOS_STATUS, routing::post(chaos::status)),
        (route::CHAOS_IMPAIRMENTS, routing::post(chaos::impairments)),
        (route::LEASE, routing::post(lease::lease)),
        (route::HOLD, routing::post(lease::hold)),
        (route::BUNDLE, routing::post(lease::bundle)),
        (route::IMAGES_FETCH, routing::post(images::fetch)),
        (route::IMAGES_SAVE, routing::post(images::save)),
        (route::IMAGES_LOAD, routing::post(images::load)),
        (route::OPERATIONS, routing::get(operation::list)),
        (route::OPERATIONS_FOLLOW, routing::post(operation::follow)),
        (route::SUBMIT, routing::post(operation::submit)),
        (route::CANCEL, routing::post(operation::cancel)),
        (route::UI, routing::post(ui::open)),
    ]
}

/// The daemon itself: for every selection of an engine.
fn routes_of_daemon() -> Routes {
    vec![
        (route::DAEMON, routing::get(daemon::status)),
        (route::DAEMON_STOP, routing::post(daemon::stop)),
        (route::OPENAPI, routing::get(daemon::openapi)),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_described_and_every_described_route_is_served() {
        let served: BTreeSet<&str> = routes_of_engine().iter().chain(&routes_of_daemon()).map(|(path, _)| *path).collect();
        let described: BTreeSet<&str> = crate::openapi::described().iter().map(|(_, path)| *path).collect();
        assert_eq!(served, described);
    }
}
