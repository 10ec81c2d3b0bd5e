//! The tunnel into one network of an engine on another machine, opened when it is needed and again after the link was lost.
//!
//! Called by `port_forwards`, which owns it. Never decides what is forwarded.

use std::{
    io,
    net::SocketAddrV4,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use devenv_engine::{Engine, HelperRun, Labels, Tunnel};
use tokio::{io::DuplexStream, sync::Mutex};

use crate::faults::agent_image;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Any user but root; the relay needs no rights.
const NOBODY: &str = "65534:65534";

/// Where the relay runs.
pub(super) struct Site {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) labels: Labels,
    pub(super) network: String,
    /// The file with the id of the image.
    pub(super) agent_image: PathBuf,
}

/// The tunnel, if it is open. All its connections are closed when it is dropped.
pub(super) struct Relay {
    site: Site,
    state: Mutex<State>,
}

enum State {
    Closed,
    Open(Arc<Tunnel>),
    /// Not tried again before the pause is over.
    Failed {
        since: Instant,
        pause: Duration,
        reason: String,
    },
}

impl Relay {
    pub(super) fn new(site: Site) -> Self {
        Self { site, state: Mutex::new(State::Closed) }
    }

    /// A connection to an address of the environment's network.
    pub(super) async fn connect(&self, to: SocketAddrV4) -> io::Result<DuplexStream> {
        let tunnel = self.tunnel().await?;
        let connected = tunnel.connect(to).await;
        // The network was removed and made again, and the relay is in none: the next connection needs another one.
        if connected.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NetworkUnreachable) {
            let mut state = self.state.lock().await;
            if matches!(&*state, State::Open(open) if Arc::ptr_eq(open, &tunnel)) {
                *state = State::Closed;
            }
        }
        connected
    }

    async fn tunnel(&self) -> io::Result<Arc<Tunnel>> {
        let mut state = self.state.lock().await;
        let pause = match &*state {
            State::Open(tunnel) if tunnel.is_open() => return Ok(tunnel.clone()),
            State::Failed { since, pause, reason } if since.elapsed() < *pause => return Err(io::Error::other(reason.clone())),
            State::Failed { pause, .. } => (*pause * 2).min(LONGEST_PAUSE),
            State::Closed | State::Open(_) => FIRST_PAUSE,
        };
        match self.open().await {
            Ok(tunnel) => {
                let tunnel = Arc::new(tunnel);
                *state = State::Open(tunnel.clone());
                Ok(tunnel)
            }
            Err(reason) => {
                tracing::warn!(reason, network = self.site.network, "Cannot reach services on the engine's machine.");
                *state = State::Failed { since: Instant::now(), pause, reason: reason.clone() };
                Err(io::Error::other(reason))
            }
        }
    }

    async fn open(&self) -> Result<Tunnel, String> {
        let engine = self.site.engine.as_ref();
        let helper = HelperRun {
            labels: self.site.labels.clone(),
            image: agent_image(engine, &self.site.agent_image).await?,
            command: ["/holder", "relay"].map(str::to_owned).to_vec(),
            mounts: Vec::new(),
            user: Some(NOBODY.to_owned()),
            network: Some(self.site.network.clone()),
        };
        Tunnel::open(engine, &helper).await.map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use devenv_engine::fake::FakeEngine;
    use devenv_spec::EnvironmentId;

    use super::*;

    #[tokio::test]
    async fn a_link_that_fails_is_not_tried_again_at_once_and_its_reason_is_kept() {
        let engine = Arc::new(FakeEngine::new());
        let directory = tempfile::tempdir().unwrap();
        let labels = Labels {
            owner: devenv_engine::OwnerId("owner".to_owned()),
            environment: EnvironmentId::recorded("e"),
            project: "/p".to_owned(),
            instance: "default".to_owned(),
            service: None,
            spec: None,
            role: None,
        };
        let site = Site { engine: engine.clone(), labels, network: "n".to_owned(), agent_image: directory.path().join("image") };
        let relay = Relay::new(site);
        let to = SocketAddrV4::new([10, 0, 0, 2].into(), 5432);
        // A fake engine runs no relay.
        let first = relay.connect(to).await.unwrap_err().to_string();
        let calls = engine.calls().len();
        assert_eq!(relay.connect(to).await.unwrap_err().to_string(), first);
        assert_eq!(engine.calls().len(), calls, "the engine is not asked again");
    }
}
