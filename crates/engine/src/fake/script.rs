//! How a test scripts the fake engine, and inspects it afterwards.

use tokio::io::AsyncReadExt;

use super::{
    Arc, ContainerCreate, Duration, EngineError, ExecOutput, FakeEngine, NetworkCreate, ObservedNetwork, PoisonError, PullProgress,
    UploadFile, broadcast, watch,
};
use crate::ExecInput;

/// Calls that must not overlap for the same container.
pub(super) const EXCLUSIVE: &[&str] = &["upload", "start", "stop", "remove_container", "inspect"];

/// Marks a container as being worked on, until it is dropped.
pub struct Mark {
    engine: FakeEngine,
    number: u64,
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.engine.lock().marks.remove(&self.number);
    }
}

impl Default for FakeEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeEngine {
    pub fn new() -> Self {
        let (events, _) = broadcast::channel(1024);
        let (changes, _) = watch::channel(0);
        Self { state: Arc::default(), events, changes: Arc::new(changes) }
    }

    pub fn with_image(self, name: &str) -> Self {
        self.with_image_of(name, &format!("sha256:{name}"))
    }

    /// With an image of this id, which another engine may have under the same name with another id.
    #[must_use]
    pub fn with_image_of(self, name: &str, id: &str) -> Self {
        self.lock().images.insert(name.to_owned(), id.to_owned());
        self
    }

    /// A missing image that can be pulled, with this progress.
    pub fn with_pullable(self, name: &str, progress: Vec<PullProgress>) -> Self {
        self.lock().pullable.insert(name.to_owned(), progress);
        self
    }

    /// A subnet that another network uses.
    pub fn with_foreign_subnet(self, subnet: ipnet::IpNet) -> Self {
        self.lock().foreign_subnets.push(subnet);
        self
    }

    /// The next call of this operation fails with this error. Several errors are used one by one.
    pub fn fail_next(&self, operation: &str, error: EngineError) {
        self.lock().failures.entry(operation.to_owned()).or_default().push_back(error);
    }

    /// Every call of this operation takes this long.
    pub fn delay(&self, operation: &str, by: Duration) {
        self.lock().delays.insert(operation.to_owned(), by);
    }

    /// The calls so far, in order: `start container-3`, `kill container-3 SIGHUP`.
    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    /// The calls so far, which are then forgotten.
    pub fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().calls)
    }

    /// The container exits by itself. All of these take an id or a name.
    pub fn exit(&self, id: &str, code: i64) {
        self.end(id, code);
    }

    /// It ignores every signal except SIGKILL.
    pub fn ignore_signals(&self, id: &str) {
        if let Ok(container) = self.lock().container(id) {
            container.ignores_signals = true;
        }
    }

    pub fn log(&self, id: &str, stderr: bool, text: &str) {
        self.write(id, stderr, text);
    }

    /// Lines (on stderr if true) that the container of this name writes at each start.
    pub fn log_at_start(&self, name: &str, lines: &[(bool, &str)]) {
        let lines = lines.iter().map(|(stderr, text)| (*stderr, (*text).to_owned())).collect();
        self.lock().output_at_start.insert(name.to_owned(), lines);
    }

    /// Two marks on one container at a time are an overlap.
    pub fn mark(&self, id: &str, what: &str) -> Mark {
        let mut state = self.lock();
        let met: Vec<String> =
            state.marks.values().filter(|(other, _)| other == id).map(|(_, doing)| format!("{id}: {doing}, {what}")).collect();
        state.overlaps.extend(met);
        let number = state.next();
        state.marks.insert(number, (id.to_owned(), what.to_owned()));
        drop(state);
        Mark { engine: self.clone(), number }
    }

    pub fn overlaps(&self) -> Vec<String> {
        self.lock().overlaps.clone()
    }

    /// A network that the engine finished creating after its client was gone: names need not be unique.
    pub fn finish_late(&self, network: &NetworkCreate) {
        let mut state = self.lock();
        let id = format!("network-{}", state.next());
        let (name, labels, subnet) = (network.name.clone(), network.labels.clone(), Some(network.subnet));
        state.networks.push(ObservedNetwork { id, name, labels, subnet });
    }

    /// The container is removed outside of devenv.
    pub fn remove_externally(&self, id: &str) {
        self.drop_container(id);
    }

    /// The engine goes away: streams end with an error and calls fail, until it is back.
    pub fn disconnect(&self) {
        self.lock().gone = true;
        // There may be no receiver.
        let _ = self.events.send(Err("it went away".to_owned()));
    }

    pub fn reconnect(&self) {
        self.lock().gone = false;
    }

    /// What a container was created from, and the files written into it.
    pub fn created(&self, id: &str) -> Option<(ContainerCreate, Vec<UploadFile>)> {
        let mut state = self.lock();
        let container = state.container(id).ok()?;
        Some((container.asked.clone(), container.files.clone()))
    }

    pub(super) fn answer(command: &[String], input: &[u8]) -> ExecOutput {
        let (code, stdout) = match command.first().map(String::as_str) {
            Some("echo") => (0, format!("{}\n", command[1..].join(" ")).into_bytes()),
            Some("cat") => (0, input.to_vec()),
            Some("false") => (1, Vec::new()),
            _ => (0, Vec::new()),
        };
        ExecOutput { code, stdout: stdout.into(), stderr: bytes::Bytes::new() }
    }
}

pub(super) async fn read_input(input: Option<ExecInput>) -> Vec<u8> {
    let input = input.and_then(|input| input.lock().unwrap_or_else(PoisonError::into_inner).take());
    let mut content = Vec::new();
    if let Some(mut input) = input {
        // The command gets the input that could be read.
        let _ = input.read_to_end(&mut content).await;
    }
    content
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;
    use tokio::time::Instant;

    use futures_util::StreamExt;

    use super::*;
    use crate::{
        ContainerState, Engine, EngineEventKind,
        fake::{containers::bare, refused},
    };
    use devenv_spec::EnvironmentId;

    use crate::{Labels, OwnerId};

    fn labels() -> Labels {
        Labels {
            owner: OwnerId("o".into()),
            environment: EnvironmentId::recorded("e"),
            project: "/p".into(),
            instance: "default".into(),
            service: None,
            spec: None,
            role: None,
        }
    }

    async fn running(engine: &FakeEngine) -> String {
        let subnet = "10.0.0.0/28".parse().unwrap();
        engine.create_network(&NetworkCreate { name: "n".into(), labels: labels(), subnet, internal: false }).await.unwrap();
        let container =
            ContainerCreate { hostname: "c".into(), network: "n".into(), stop_signal: "SIGTERM".into(), ..bare("c", &labels(), "i") };
        let id = engine.create_container(&container).await.unwrap();
        engine.start(&id).await.unwrap();
        id
    }

    #[tokio::test(start_paused = true)]
    async fn failures_and_delays_come_as_scripted_and_calls_are_recorded() {
        let engine = FakeEngine::new().with_image("i");
        let id = running(&engine).await;
        engine.take_calls();
        engine.fail_next("kill", refused("send it", 500, "scripted"));
        assert!(engine.kill(&id, "SIGHUP").await.unwrap_err().to_string().contains("scripted"));
        engine.kill(&id, "SIGHUP").await.unwrap();
        engine.delay("inspect", Duration::from_secs(7));
        let started = Instant::now();
        engine.inspect(&id).await.unwrap();
        assert_eq!(started.elapsed(), Duration::from_secs(7));
        assert_eq!(engine.calls(), [format!("kill {id} SIGHUP"), format!("kill {id} SIGHUP"), format!("inspect {id}")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_container_that_ignores_signals_ends_after_its_grace() {
        let engine = FakeEngine::new().with_image("i");
        let id = running(&engine).await;
        engine.ignore_signals("c");
        let started = Instant::now();
        engine.stop(&id, "SIGTERM", Duration::from_secs(10)).await.unwrap();
        assert_eq!(started.elapsed(), Duration::from_secs(10));
        let state = engine.inspect(&id).await.unwrap().unwrap().state;
        assert!(matches!(state, ContainerState::Exited { code: 137, .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn followed_output_ends_with_the_container_and_events_with_the_engine() {
        let engine = FakeEngine::new()
            .with_image("i")
            .with_pullable("far", vec![PullProgress { current_bytes: 1, total_bytes: 2, message: "half".into() }]);
        let id = running(&engine).await;
        let mut events = engine.events(&labels().owner);
        let output = tokio::spawn(engine.logs(&id, None, true).try_collect::<Vec<_>>());
        engine.log(&id, true, "last words");
        engine.exit(&id, 3);
        assert_eq!(output.await.unwrap().unwrap()[0].text, "last words");
        assert_eq!(events.next().await.unwrap().unwrap().kind, EngineEventKind::Died { code: 3 });
        let pulled: Vec<_> = engine.pull("far").try_collect().await.unwrap();
        assert_eq!((pulled.len(), engine.image("far").await.unwrap().is_some()), (1, true));
        engine.disconnect();
        assert!(matches!(events.next().await, Some(Err(EngineError::Unreachable { .. }))));
        assert!(events.next().await.is_none());
        assert!(engine.info().await.is_err());
        engine.reconnect();
        assert!(engine.info().await.is_ok());
    }
}
