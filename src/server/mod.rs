//! HTTP over the daemon's unix socket: one file for each noun. Handlers only translate; the environments' own tasks
//! do the work, through their handles.

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
mod stream;
mod variables;

use std::{sync::Arc, time::Instant};

use axum::{Router, middleware, routing, serve::Listener};
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
    Router::new()
        .route(route::PLAN, routing::post(environment::plan))
        .route(route::WAIT, routing::post(environment::wait))
        .route(route::LEDGER, routing::post(data::ledger))
        .route(route::LEDGER_ACCEPT, routing::post(data::accept))
        .route(route::LEDGER_RUN, routing::post(data::run_again))
        .route(route::SNAPSHOTS, routing::post(data::snapshots))
        .route(route::BACKUPS, routing::post(data::backups))
        .route(route::STATUS, routing::post(environment::status))
        .route(route::ENVIRONMENTS, routing::get(environment::list))
        .route(route::LOGS, routing::post(log::logs))
        .route(route::EVENTS, routing::post(log::events))
        .route(route::WHY, routing::post(log::why))
        .route(route::VARIABLES, routing::post(variables::variables))
        .route(route::EXEC, routing::post(exec::exec))
        .route(route::CHAOS_INJECT, routing::post(chaos::inject))
        .route(route::CHAOS_CHECK, routing::post(chaos::check))
        .route(route::CHAOS_HEAL, routing::post(chaos::heal))
        .route(route::CHAOS_STATUS, routing::post(chaos::status))
        .route(route::CHAOS_IMPAIRMENTS, routing::post(chaos::impairments))
        .route(route::LEASE, routing::post(lease::lease))
        .route(route::HOLD, routing::post(lease::hold))
        .route(route::BUNDLE, routing::post(lease::bundle))
        .route(route::IMAGES_FETCH, routing::post(images::fetch))
        .route(route::IMAGES_SAVE, routing::post(images::save))
        .route(route::IMAGES_LOAD, routing::post(images::load))
        .route(route::OPERATIONS, routing::get(operation::list))
        .route(route::OPERATIONS_FOLLOW, routing::post(operation::follow))
        .route(route::SUBMIT, routing::post(operation::submit))
        .route(route::CANCEL, routing::post(operation::cancel))
        .layer(middleware::from_fn_with_state(daemon.clone(), engine_selection::agree))
        // The status and the stop of the daemon work for every engine selection.
        .route(route::DAEMON, routing::get(daemon::status))
        .route(route::DAEMON_STOP, routing::post(daemon::stop))
        .with_state(daemon)
}
