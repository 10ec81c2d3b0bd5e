//! The page in the browser, on a listener of its own that lives as long as the connection of `devenv ui`.
//!
//! Every request passes [`session::guard`] before anything else. The files of the page come from [`assets`], what is live from [`live`],
//! scenarios from [`scenarios`], the past of metrics from [`metrics`], and everything else from the routes of the socket that [`forward`] allows. The page never gets what a client of the socket cannot get.

mod assets;
mod forward;
mod live;
mod metrics;
mod scenarios;
mod session;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{Json, Router, extract::State, middleware, response::Response, routing};
use devenv_api::{ApiError, EnvironmentTarget, ErrorCode, FaultCatalogue, UiOpened, UiRequest};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Daemon, failure::Failed, router, stream::ndjson};
use session::Session;

/// What answers in progress get when the page ends.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// One page that is served.
struct Page {
    daemon: Arc<Daemon>,
    /// The daemon's own routes.
    router: Router,
    session: Session,
    target: EnvironmentTarget,
    /// Scenarios.
    asked: Arc<scenarios::Asked>,
    /// Cancelled with the connection of `devenv ui`, and with the daemon.
    end: CancellationToken,
}

/// Listens, answers with the address, and serves until the client or the daemon ends.
pub(super) async fn open(State(daemon): State<Arc<Daemon>>, Json(request): Json<UiRequest>) -> Result<Response, Failed> {
    let address = SocketAddr::new(request.host.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), request.port.unwrap_or(0));
    let failed = |error: std::io::Error| {
        ApiError::new(ErrorCode::Failed, format!("cannot listen on {address}: {error}")).hint("choose another port with `--port PORT`")
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let session = Session::new(address, request.session);
    let opened = UiOpened { url: session.url(), port: address.port(), session: session.cookie().to_owned() };
    let end = daemon.stop.child_token();
    let page = Arc::new(Page {
        router: router(daemon.clone()),
        daemon: daemon.clone(),
        session,
        target: request.target,
        asked: Arc::default(),
        end: end.clone(),
    });
    let server = axum::serve(listener, routes(page)).with_graceful_shutdown(end.clone().cancelled_owned());
    let (served, ended) = (end.clone(), end.clone());
    daemon.environments.look_after(async move {
        let late = async {
            served.cancelled().await;
            tokio::time::sleep(LAST_ANSWERS).await;
        };
        // Both branches are only waited for: what is dropped ends.
        tokio::select! {
            result = server => if let Err(error) = result { tracing::warn!(%error, "The page is no longer served.") },
            () = late => {}
        }
    });
    // Dropped with the answer, which ends with the client's connection.
    let held = end.drop_guard();
    let rest = stream::once(async move {
        let _held = held;
        ended.cancelled().await;
        None
    });
    Ok(ndjson(stream::iter([Some(opened)]).chain(rest).filter_map(std::future::ready)))
}

fn routes(page: Arc<Page>) -> Router {
    Router::new()
        .route("/api/page", routing::post(about))
        .route("/api/live", routing::post(live::live))
        .route("/api/logs", routing::post(live::logs))
        .route("/api/faults", routing::post(faults))
        .route("/api/chaos/scenarios", routing::post(scenarios::scenarios))
        .route("/api/chaos/runs", routing::post(scenarios::known_runs))
        .route("/api/chaos/report", routing::post(scenarios::report))
        .route("/api/chaos/run", routing::post(scenarios::run))
        .route("/api/chaos/end", routing::post(scenarios::end))
        .route("/api/metrics/history", routing::post(metrics::history))
        .route("/api/metrics/alerts", routing::post(metrics::alerts))
        .route("/api/variables", routing::post(forward::variables))
        .route("/api/v1/{*path}", routing::post(forward::forward))
        .route_layer(middleware::map_response(forward::refusals))
        .fallback(assets::serve)
        .layer(middleware::from_fn_with_state(page.clone(), session::guard))
        .with_state(page)
}

/// What the page shows first.
async fn about(State(page): State<Arc<Page>>) -> Json<Value> {
    Json(json!({ "target": page.target, "version": env!("CARGO_PKG_VERSION"), "engine": page.daemon.engine }))
}

/// The faults that can be injected.
async fn faults() -> Json<FaultCatalogue> {
    Json(crate::faults::catalogue())
}
