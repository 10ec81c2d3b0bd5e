//! The conformance test on the engine of this machine, and what only a real engine can show.

use std::time::Instant;

use super::*;
use crate::{
    TerminalSize,
    build::BuildInputs,
    docker::{Selection, connect},
};

async fn engine() -> Arc<dyn Engine> {
    let selection = Selection::read(None, |name| std::env::var(name).ok());
    connect(&selection).await.expect("these tests need an engine that answers")
}

async fn image(engine: &dyn Engine) -> &'static str {
    match engine.image("redis:8.0").await.unwrap() {
        Some(_) => "redis:8.0",
        None => "debian:trixie-slim",
    }
}

/// Each test has its own subnet and port.
fn case<'a>(engine: &'a dyn Engine, image: &'a str, number: u8) -> Case<'a> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    Case {
        engine,
        image,
        run: format!("{}-{number}", std::process::id()),
        subnet: format!("10.213.{number}.0/28").parse().unwrap(),
        port: listener.local_addr().unwrap().port(),
    }
}

/// Runs a check and removes its objects, whether it passed or not.
async fn cleaned(case: &Case<'_>, check: impl Future<Output = ()>) {
    let outcome = std::panic::AssertUnwindSafe(check);
    let outcome = futures_util::FutureExt::catch_unwind(outcome).await;
    for container in case.engine.containers(&case.owner()).await.unwrap() {
        case.engine.remove_container(&container.id).await.unwrap();
    }
    for network in case.engine.networks(&case.owner()).await.unwrap() {
        case.engine.remove_network(&network.id).await.unwrap();
    }
    for volume in case.engine.volumes(&case.owner()).await.unwrap() {
        case.engine.remove_volume(&volume.name).await.unwrap();
    }
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

async fn prepared(case: &Case<'_>, container: ContainerCreate) -> String {
    case.engine.create_network(&case.network("net")).await.unwrap();
    case.engine.create_volume(&case.volume()).await.unwrap();
    case.engine.create_container(&container).await.unwrap()
}

async fn sh(engine: &dyn Engine, id: &str, script: &str) -> (i64, String, String) {
    let command = vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()];
    let output = engine.exec(id, ExecRequest { command, ..ExecRequest::default() }).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    (output.code, text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn docker_behaves_as_an_engine() {
    let engine = engine().await;
    let case = case(&*engine, image(&*engine).await, 1);
    cleaned(&case, holds(&case)).await;
}

#[tokio::test]
async fn docker_gives_the_container_the_requested_settings() {
    let engine = engine().await;
    let case = case(&*engine, image(&*engine).await, 2);
    cleaned(&case, async {
        let id = prepared(&case, case.container("one")).await;
        let file = UploadFile { path: "/etc/devenv/deep/file".into(), mode: 0o640, uid: 7, gid: 8, content: "x".into() };
        engine.upload(&id, &[file]).await.unwrap();
        engine.start(&id).await.unwrap();
        let run = |script: &'static str| {
            let (engine, id) = (Arc::clone(&engine), id.clone());
            async move { sh(&*engine, &id, script).await.1 }
        };
        assert_eq!(run("stat -c '%a %u %g' /etc/devenv/deep/file /etc/devenv/deep /etc").await, "640 7 8\n755 0 0\n755 0 0");
        assert_eq!(run("echo $GREETING; hostname").await, "hello\none");
        assert_eq!(run("getent hosts host.docker.internal | wc -l").await, "1");
        assert_eq!(run("getent hosts one-alias | cut -d' ' -f1").await, "10.213.2.2");
        assert_eq!(run("df -k /dev/shm | tail -1 | awk '{print $2}'").await, "16384");
        assert_eq!(run("grep -c ' /scratch tmpfs ' /proc/mounts").await, "1");
        if std::net::TcpListener::bind("[::1]:0").is_ok() {
            assert!(std::net::TcpStream::connect(("::1", case.port)).is_ok(), "localhost is ours in both families");
        }
        assert_eq!(sh(&*engine, &id, "echo a; echo b >&2; exit 3").await, (3, "a".into(), "b".into()));
        let command = vec!["/nonexistent".to_owned()];
        let missing = engine.exec(&id, ExecRequest { command, ..ExecRequest::default() }).await.unwrap();
        assert_eq!((missing.code, missing.stdout.len()), (127, 0), "{missing:?}");
        let slow = ExecRequest {
            command: vec!["sleep".into(), "100".into()],
            deadline: Some(Duration::from_millis(300)),
            ..ExecRequest::default()
        };
        assert!(matches!(engine.exec(&id, slow).await, Err(EngineError::TimedOut { .. })));
    })
    .await;
}

#[tokio::test]
async fn docker_gives_a_session_a_terminal() {
    use tokio::io::AsyncWriteExt;
    let engine = engine().await;
    let case = case(&*engine, image(&*engine).await, 3);
    cleaned(&case, async {
        let id = prepared(&case, case.container("one")).await;
        engine.start(&id).await.unwrap();
        let request = SessionRequest {
            command: vec!["/bin/sh".into()],
            terminal: Some(TerminalSize { columns: 91, rows: 23 }),
            ..SessionRequest::default()
        };
        let mut session = engine.exec_session(&id, request).await.unwrap();
        session.input.write_all(b"stty size\n").await.unwrap();
        let mut output = String::new();
        let mut read_until = async |words: &str, session: &mut crate::ExecSession| {
            while !output.contains(words) {
                let part = tokio::time::timeout(PATIENCE, session.output.next()).await.expect(words);
                output.push_str(&String::from_utf8_lossy(&part.unwrap().unwrap().1));
            }
        };
        read_until("23 91", &mut session).await;
        let at_once = SessionRequest {
            command: vec!["stty".into(), "size".into()],
            terminal: Some(TerminalSize { columns: 91, rows: 23 }),
            ..SessionRequest::default()
        };
        let mut first = engine.exec_session(&id, at_once).await.unwrap();
        let said = first.output.next().await.unwrap().unwrap().1;
        // Before API 1.42, a size can be set only once the command runs.
        let api = engine.info().await.unwrap().api;
        if api.rsplit('.').next().unwrap().parse::<u32>().unwrap() >= 42 {
            assert_eq!(said.trim_ascii(), b"23 91", "a command that looks at once sees it too");
        }
        (session.resize)(TerminalSize { columns: 100, rows: 40 }).await.unwrap();
        session.input.write_all(b"stty size; exit 5\n").await.unwrap();
        read_until("40 100", &mut session).await;
        while session.output.next().await.is_some() {}
        assert_eq!(session.exit_code.await.unwrap(), 5);
    })
    .await;
}

#[tokio::test]
async fn docker_long_lines_come_whole() {
    let engine = engine().await;
    let case = case(&*engine, image(&*engine).await, 4);
    cleaned(&case, async {
        let mut container = case.container("one");
        container.command = Some(vec!["head -c 100000 /dev/zero | tr '\\0' x; echo; echo short".into()]);
        let id = prepared(&case, container).await;
        engine.start(&id).await.unwrap();
        let lines: Vec<LogChunk> = engine.logs(&id, None, true).try_collect().await.unwrap();
        assert_eq!(lines.iter().map(|line| line.text.len()).collect::<Vec<_>>(), [100_000, 5]);
    })
    .await;
}

#[tokio::test]
async fn docker_a_foreign_container_on_the_network_is_disconnected_and_named() {
    let engine = engine().await;
    let case = case(&*engine, image(&*engine).await, 5);
    cleaned(&case, async {
        let id = prepared(&case, case.container("one")).await;
        engine.start(&id).await.unwrap();
        let mut foreign = case.container("foreign");
        foreign.labels.owner = OwnerId(format!("foreign-{}", case.run));
        foreign.ports.clear();
        let foreign_id = engine.create_container(&foreign).await.unwrap();
        engine.start(&foreign_id).await.unwrap();
        let cut = engine.remove_network(&case.name("net")).await;
        engine.remove_container(&foreign_id).await.unwrap();
        assert_eq!(cut.unwrap(), [case.name("foreign")]);
    })
    .await;
}

#[tokio::test]
async fn docker_out_of_memory_and_ordinary_exits_are_reported() {
    let engine = engine().await;
    let case = case(&*engine, image(&*engine).await, 6);
    cleaned(&case, async {
        let mut events = engine.events(&case.owner());
        let mut container = case.container("one");
        container.command = Some(vec!["exit 42".into()]);
        let id = prepared(&case, container).await;
        engine.start(&id).await.unwrap();
        expect_event(&mut events, &id, &EngineEventKind::Died { code: 42 }).await;
        let mut container = case.container("two");
        container.command = Some(vec!["exec tail /dev/zero".into()]);
        container.init = false;
        container.ports.clear();
        let id = engine.create_container(&container).await.unwrap();
        // The engine forgets the reason if the kernel's notice reaches it after the exit, as it may on a busy machine.
        let mut states = Vec::new();
        for _ in 0..10 {
            engine.start(&id).await.unwrap();
            expect_event(&mut events, &id, &EngineEventKind::Died { code: 137 }).await;
            states.push(case.state(&id).await);
            if matches!(states.last(), Some(ContainerState::Exited { code: 137, out_of_memory: true, .. })) {
                return;
            }
        }
        panic!("{states:?}");
    })
    .await;
}

#[tokio::test]
async fn docker_a_container_that_ignores_its_signal_is_killed_after_its_grace() {
    let engine = engine().await;
    let case = case(&*engine, image(&*engine).await, 7);
    cleaned(&case, async {
        let mut container = case.container("one");
        container.init = false;
        let id = prepared(&case, container).await;
        engine.start(&id).await.unwrap();
        let started = Instant::now();
        engine.stop(&id, "SIGTERM", Duration::from_millis(700)).await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(700) && started.elapsed() < PATIENCE);
        assert!(matches!(case.state(&id).await, ContainerState::Exited { code: 137, .. }));
    })
    .await;
}

#[tokio::test]
async fn docker_builds_an_image_and_reports_why_one_fails() {
    let engine = engine().await;
    let context = tempfile::tempdir().unwrap();
    let build = |dockerfile: &str| {
        std::fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
        devenv_spec::ImageBuild {
            arguments: [("WORD".to_owned(), "argument".to_owned())].into_iter().collect(),
            ..devenv_spec::ImageBuild::new(context.path().to_owned(), format!("devenv-conformance-build:{}", std::process::id()))
        }
    };
    std::fs::write(context.path().join("secret"), "s").unwrap();
    // Every build copies this, so that no step whose output is checked is cached from an earlier run.
    std::fs::write(context.path().join("kept"), format!("{} {:?}", std::process::id(), std::time::SystemTime::now())).unwrap();
    std::fs::write(context.path().join(".dockerignore"), "secret\n").unwrap();
    let base = image(&*engine).await;
    let good = build(&format!("FROM {base}\nARG WORD\nCOPY . /context\nRUN ls /context && echo said $WORD\n"));
    let lines: Vec<String> = engine.build(&good, BuildInputs::default()).try_collect().await.unwrap();
    assert!(lines.iter().any(|line| line == "said argument"), "{lines:?}");
    assert!(lines.iter().any(|line| line == "kept") && !lines.iter().any(|line| line == "secret"), "{lines:?}");
    assert!(engine.image(&good.tag).await.unwrap().is_some());
    let secret = format!("FROM {base}\nCOPY kept /kept\nRUN --mount=type=secret,id=token cat /run/secrets/token && echo\n");
    let inputs = BuildInputs { secrets: [("token".to_owned(), b"value".to_vec())].into(), ..BuildInputs::default() };
    let lines: Vec<String> = engine.build(&build(&secret), inputs).try_collect().await.unwrap();
    assert!(lines.iter().any(|line| line == "value"), "{lines:?}");
    let removed = std::process::Command::new("docker").args(["image", "rm", &good.tag]).output().unwrap();
    assert!(removed.status.success(), "{removed:?}");
    assert_eq!(engine.image(&good.tag).await.unwrap(), None);
    // The text of a here-document changes without changing its length, right after the first build.
    for word in ["one", "two"] {
        let text = format!("FROM {base}\nARG WORD\nCOPY kept /kept\nCOPY <<EOF /file\n{word} $WORD\nEOF\nRUN <<EOF\ncat /file\nEOF\n");
        let lines: Vec<String> = engine.build(&build(&text), BuildInputs::default()).try_collect().await.unwrap();
        assert!(lines.contains(&format!("{word} argument")), "{lines:?}");
    }
    let bad = build(&format!("FROM {base}\nRUN exit 9\n"));
    let error = engine.build(&bad, BuildInputs::default()).try_collect::<Vec<_>>().await.unwrap_err();
    assert!(error.to_string().contains("[2/2] RUN exit 9` failed"), "{error}");
}

#[tokio::test]
async fn docker_an_image_that_cannot_be_pulled_is_reported_with_a_hint() {
    let engine = engine().await;
    let name = "localhost:9/devenv-conformance/none:0";
    let error = engine.pull(name).try_collect::<Vec<_>>().await.unwrap_err().to_string();
    assert!(error.contains(name) && error.contains("scripts/setup images none") && error.contains("--offline"), "{error}");
}
