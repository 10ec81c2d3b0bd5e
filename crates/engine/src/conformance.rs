//! The behaviour that every engine must have: tested on the fake engine always, and on a real one with the feature `docker-tests`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};

use super::{
    ContainerCreate, ContainerState, CreatedMount, Engine, EngineError, EngineEvent, EngineEventKind, ExecRequest, ExecStream, HelperRun,
    Labels, LogChunk, NetworkCreate, OwnerId, SessionRequest, UploadFile, VolumeCreate, fake::FakeEngine,
};
use devenv_spec::{EnvironmentId, PublishedPort, Resources, SpecHash};

const PATIENCE: Duration = Duration::from_secs(30);

/// The objects of one run, separate from those of any other run.
struct Case<'a> {
    engine: &'a dyn Engine,
    image: &'a str,
    /// Part of every name, so that runs do not conflict.
    run: String,
    subnet: ipnet::Ipv4Net,
    port: u16,
}

impl Case<'_> {
    fn name(&self, what: &str) -> String {
        format!("devenv-conformance-{}-{what}", self.run)
    }

    fn labels(&self, service: Option<&str>) -> Labels {
        Labels {
            owner: OwnerId(format!("conformance-{}", self.run)),
            environment: EnvironmentId::recorded("conformance-default-00000000"),
            project: "/conformance".into(),
            instance: "default".into(),
            service: service.map(|name| name.parse().unwrap()),
            spec: None,
            role: None,
        }
    }

    /// Writes to both outputs, then waits for a signal under an init that forwards it.
    fn container(&self, service: &str) -> ContainerCreate {
        ContainerCreate {
            name: self.name(service),
            hostname: service.into(),
            labels: self.labels(Some(service)),
            image: self.image.into(),
            entrypoint: Some(vec!["/bin/sh".into(), "-c".into()]),
            command: Some(vec!["echo out; echo err >&2; exec sleep 1000".into()]),
            user: None,
            environment: vec![("GREETING".into(), "hello".into())],
            mounts: vec![
                CreatedMount::Volume { name: self.name("data"), target: "/data".into(), read_only: false },
                CreatedMount::Memory { target: "/scratch".into() },
            ],
            ports: vec![PublishedPort {
                container: 6379,
                host: self.port,
                address: "127.0.0.1".into(),
                protocol: devenv_spec::Protocol::Tcp,
            }],
            network: self.name("net"),
            aliases: vec![service.into(), format!("{service}-alias")],
            resources: Resources { memory: Some("64MiB".parse().unwrap()), cpus: Some(0.5) },
            shared_memory: Some("16MiB".parse().unwrap()),
            init: true,
            stop_signal: "SIGTERM".into(),
            options: Box::default(),
            mount_options: std::collections::BTreeMap::new(),
            attachments: Vec::new(),
            address: None,
            pid_mode: None,
            ipc_mode: None,
        }
    }

    fn network(&self, name: &str) -> NetworkCreate {
        NetworkCreate { name: self.name(name), labels: self.labels(None), subnet: self.subnet, internal: false }
    }

    fn volume(&self) -> VolumeCreate {
        VolumeCreate { name: self.name("data"), labels: self.labels(None), options: BTreeMap::new() }
    }

    fn owner(&self) -> OwnerId {
        self.labels(None).owner
    }

    async fn state(&self, id: &str) -> ContainerState {
        self.engine.inspect(id).await.unwrap().unwrap().state
    }
}

async fn expect_event(events: &mut BoxStream<'static, Result<EngineEvent, EngineError>>, id: &str, wanted: &EngineEventKind) {
    let found = tokio::time::timeout(PATIENCE, async {
        while let Some(event) = events.next().await {
            let event = event.unwrap();
            if event.container == id && event.kind == *wanted {
                return;
            }
        }
        panic!("the events ended before {wanted:?}");
    });
    found.await.unwrap_or_else(|_| panic!("no event {wanted:?}"));
}

async fn holds(case: &Case<'_>) {
    networks_and_volumes_may_be_asked_for_twice(case).await;
    a_container_lives_and_ends(case).await;
    ports_in_use_and_missing_objects_are_reported(case).await;
    everything_can_be_removed_twice(case).await;
}

async fn networks_and_volumes_may_be_asked_for_twice(case: &Case<'_>) {
    let engine = case.engine;
    let id = engine.create_network(&case.network("net")).await.unwrap();
    assert_eq!(engine.create_network(&case.network("net")).await.unwrap(), id);
    let networks = engine.networks(&case.owner()).await.unwrap();
    assert_eq!((networks.len(), networks[0].subnet), (1, Some(case.subnet)));
    assert_eq!(networks[0].labels, case.labels(None));
    assert!(engine.subnets().await.unwrap().contains(&ipnet::IpNet::V4(case.subnet)));
    let overlap = engine.create_network(&case.network("net2")).await.unwrap_err();
    assert!(matches!(overlap, EngineError::SubnetTaken(subnet) if subnet == case.subnet), "{overlap}");

    engine.create_volume(&case.volume()).await.unwrap();
    engine.create_volume(&case.volume()).await.unwrap();
    assert_eq!(engine.volumes(&case.owner()).await.unwrap().len(), 1);
    let mut foreign = case.volume();
    foreign.labels.owner = OwnerId("somebody-else".into());
    assert!(matches!(engine.create_volume(&foreign).await, Err(EngineError::Refused { status: 409, .. })));
}

async fn a_container_lives_and_ends(case: &Case<'_>) {
    let engine = case.engine;
    let mut events = engine.events(&case.owner());
    let id = engine.create_container(&case.container("one")).await.unwrap();
    assert_eq!(engine.create_container(&case.container("one")).await.unwrap(), id);
    assert_eq!(case.state(&id).await, ContainerState::Created);
    let file = UploadFile { path: "/etc/devenv/deep/file".into(), mode: 0o640, uid: 7, gid: 8, content: "content".into() };
    engine.upload(&id, &[file]).await.unwrap();

    engine.start(&id).await.unwrap();
    engine.start(&id).await.unwrap();
    expect_event(&mut events, &id, &EngineEventKind::Started).await;
    let observed = engine.containers(&case.owner()).await.unwrap();
    assert_eq!(observed.len(), 1);
    assert_eq!((&observed[0].id, &observed[0].name), (&id, &case.name("one")));
    assert_eq!(observed[0].labels, case.labels(Some("one")));
    assert!(matches!(observed[0].state, ContainerState::Running { pid } if pid > 0), "{:?}", observed[0].state);
    assert!(observed[0].started_at.is_some());

    commands_run(case, &id).await;
    output_is_read(case, &id).await;

    engine.pause(&id).await.unwrap();
    engine.pause(&id).await.unwrap();
    assert!(matches!(case.state(&id).await, ContainerState::Paused { .. }));
    engine.unpause(&id).await.unwrap();
    engine.unpause(&id).await.unwrap();
    assert!(matches!(case.state(&id).await, ContainerState::Running { .. }));
    engine.kill(&id, "SIGKILL").await.unwrap();
    expect_event(&mut events, &id, &EngineEventKind::Died { code: 137 }).await;

    // A paused container is killed too.
    engine.start(&id).await.unwrap();
    engine.pause(&id).await.unwrap();
    engine.kill(&id, "SIGKILL").await.unwrap();
    expect_event(&mut events, &id, &EngineEventKind::Died { code: 137 }).await;

    // And handles the signal of a stop.
    engine.start(&id).await.unwrap();
    engine.pause(&id).await.unwrap();
    engine.stop(&id, "SIGTERM", PATIENCE).await.unwrap();
    let state = case.state(&id).await;
    assert!(matches!(state, ContainerState::Exited { code: 143, out_of_memory: false, .. }), "{state:?}");
    engine.stop(&id, "SIGTERM", PATIENCE).await.unwrap();
    engine.kill(&id, "SIGKILL").await.unwrap();
    assert!(matches!(engine.kill(&id, "SIGHUP").await, Err(EngineError::Refused { .. })));
    expect_event(&mut events, &id, &EngineEventKind::Died { code: 143 }).await;
}

async fn commands_run(case: &Case<'_>, id: &str) {
    let command = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let run = |words: &[&str]| case.engine.exec(id, ExecRequest { command: command(words), ..ExecRequest::default() });
    let echo = run(&["echo", "hello"]).await.unwrap();
    assert_eq!((echo.code, echo.stdout.as_ref(), echo.stderr.as_ref()), (0, &b"hello\n"[..], &b""[..]));
    assert_eq!(run(&["false"]).await.unwrap().code, 1);

    let content = "line\n".repeat(100_000);
    let input: Box<dyn tokio::io::AsyncRead + Send> = Box::new(std::io::Cursor::new(content.clone().into_bytes()));
    let input = Arc::new(std::sync::Mutex::new(Some(Box::into_pin(input))));
    let request = ExecRequest { command: command(&["cat"]), input: Some(input), ..ExecRequest::default() };
    let cat = tokio::time::timeout(PATIENCE, case.engine.exec(id, request)).await.unwrap().unwrap();
    assert!(cat.stdout == content.as_bytes(), "{} of {} bytes came back", cat.stdout.len(), content.len());

    let request = SessionRequest { command: command(&["echo", "in", "session"]), ..SessionRequest::default() };
    let mut session = case.engine.exec_session(id, request).await.unwrap();
    let mut messages = Vec::new();
    while let Some(part) = session.output.next().await {
        let (stream, content) = part.unwrap();
        assert_eq!(stream, ExecStream::Stdout);
        messages.extend_from_slice(&content);
    }
    assert_eq!(messages, b"in session\n");
    assert_eq!(session.exit_code.await.unwrap(), 0);

    let helper = HelperRun {
        labels: case.labels(None),
        image: case.image.into(),
        command: command(&["echo", "helped"]),
        mounts: vec![CreatedMount::Volume { name: case.name("data"), target: "/v".into(), read_only: true }],
        user: None,
        network: None,
    };
    let helped = case.engine.run_helper(&helper).await.unwrap();
    assert_eq!((helped.code, helped.stdout.as_ref()), (0, &b"helped\n"[..]));
    let mut session = case.engine.helper_session(&HelperRun { command: command(&["cat"]), ..helper }).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut session.input, b"piece by piece").await.unwrap();
    tokio::io::AsyncWriteExt::shutdown(&mut session.input).await.unwrap();
    let mut echoed = Vec::new();
    while let Some(part) = session.output.next().await {
        echoed.extend_from_slice(&part.unwrap().1);
    }
    assert_eq!((echoed.as_slice(), session.exit_code.await.unwrap()), (&b"piece by piece"[..], 0));
    assert_eq!(case.engine.containers(&case.owner()).await.unwrap().len(), 1, "the helper is gone");
}

async fn output_is_read(case: &Case<'_>, id: &str) {
    let two = case.engine.logs(id, None, true).take(2).try_collect::<Vec<LogChunk>>();
    let mut lines = tokio::time::timeout(PATIENCE, two).await.unwrap().unwrap();
    lines.sort_by_key(|line| line.stderr);
    let messages: Vec<_> = lines.iter().map(|line| (line.stderr, line.text.as_str())).collect();
    assert_eq!(messages, [(false, "out"), (true, "err")]);
    let last = lines.iter().map(|line| line.time.as_str()).max().unwrap();
    let again: Vec<LogChunk> = case.engine.logs(id, Some(last), false).try_collect().await.unwrap();
    assert!(again.iter().any(|line| line.time == last), "since is inclusive");
    assert!(again.iter().all(|line| line.time.as_str() >= last), "and repeats nothing older");
}

async fn ports_in_use_and_missing_objects_are_reported(case: &Case<'_>) {
    let engine = case.engine;
    let ended = engine.inspect(&case.name("one")).await.unwrap().unwrap().id;
    let id = engine.create_container(&case.container("one")).await.unwrap();
    assert_ne!(id, ended, "one that has run is not as new");
    let mut elsewhere = case.container("one");
    elsewhere.mounts = vec![CreatedMount::Memory { target: "/data".into() }];
    elsewhere.labels.spec = Some(SpecHash::recorded("of another time"));
    let moved = engine.create_container(&elsewhere).await.unwrap();
    assert_ne!(moved, id, "nor is one that was made from something else");
    let id = engine.create_container(&case.container("one")).await.unwrap();
    assert_eq!(engine.containers(&case.owner()).await.unwrap().len(), 1);
    engine.start(&id).await.unwrap();
    let other = engine.create_container(&case.container("two")).await.unwrap();
    let taken = engine.start(&other).await.unwrap_err();
    assert!(matches!(taken, EngineError::PortTaken { port } if port == case.port), "{taken}");
    let mut changed = case.container("one");
    changed.labels.owner = OwnerId("somebody-else".into());
    assert!(matches!(engine.create_container(&changed).await, Err(EngineError::Refused { status: 409, .. })));
    let mut imageless = case.container("three");
    imageless.image = "devenv-conformance/none:0".into();
    let missing = engine.create_container(&imageless).await.unwrap_err();
    assert!(matches!(missing, EngineError::NotFound { what: "image", .. }), "{missing}");
    assert_eq!(engine.image("devenv-conformance/none:0").await.unwrap(), None);
    assert!(engine.image(case.image).await.unwrap().is_some());
    assert_eq!(engine.inspect(&case.name("three")).await.unwrap(), None);
    assert!(matches!(engine.start(&case.name("three")).await, Err(EngineError::NotFound { what: "container", .. })));
    engine.stop(&case.name("three"), "SIGTERM", PATIENCE).await.unwrap();
    assert!(matches!(engine.remove_volume(&case.name("data")).await, Err(EngineError::Refused { status: 409, .. })));
}

async fn everything_can_be_removed_twice(case: &Case<'_>) {
    let engine = case.engine;
    for _ in 0..2 {
        for service in ["one", "two"] {
            engine.remove_container(&case.name(service)).await.unwrap();
        }
        assert_eq!(engine.remove_network(&case.name("net")).await.unwrap(), Vec::<String>::new());
        engine.remove_volume(&case.name("data")).await.unwrap();
    }
    assert!(engine.containers(&case.owner()).await.unwrap().is_empty());
    assert!(engine.networks(&case.owner()).await.unwrap().is_empty());
    assert!(engine.volumes(&case.owner()).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_scripted_engine_behaves_as_an_engine() {
    let engine = FakeEngine::new().with_image("image:1");
    let case = Case { engine: &engine, image: "image:1", run: "fake".into(), subnet: "10.213.7.0/28".parse().unwrap(), port: 15_000 };
    engine.log_at_start(&case.name("one"), &[(false, "out"), (true, "err")]);
    holds(&case).await;
}

#[cfg(feature = "docker-tests")]
mod real;
