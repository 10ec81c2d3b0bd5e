//! Containers that sleep, and clients that wake them: nobody is refused and nobody is lost.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::world::{TestDaemon, World, until};

/// Two services with ports, and servers behind these: the containers of the engine in memory have none.
struct Nap {
    world: World,
    db: u16,
    api: u16,
}

impl Nap {
    fn new(sleep: &str) -> Self {
        let (db, api) = (server(), server());
        let world = World::new();
        let profile = format!(
            "sleep: {sleep}\nservices:\n  db:\n    ports: {{ 8080: {db} }}\n    container: {{ image: 'data:1', volumes: [{{ source: rows, target: /rows }}] }}\n  \
             api:\n    ports: {{ 8080: {api} }}\n    depends_on: {{ db: ready }}\n    container: {{ image: 'api:1' }}\n"
        );
        world.write("profiles/nap.yaml", &profile);
        Self { world, db, api }
    }
}

/// Echoes lines where a container is published whose port the daemon holds. Returns the port, which is free at 127.0.0.1.
fn server() -> u16 {
    let (free, listener) = loop {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        if let Ok(listener) = TcpListener::bind((devenv_engine::BEHIND, port)) {
            break (free, listener);
        }
    };
    let port = free.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            std::thread::spawn(move || echo(&stream));
        }
    });
    port
}

fn echo(stream: &TcpStream) {
    let mut lines = BufReader::new(stream).lines();
    while let Some(Ok(line)) = lines.next() {
        if writeln!(&*stream, "{line}").is_err() {
            return;
        }
    }
}

/// A client in another process: one in this process is the daemon's own, which wakes nothing. It asks once, and stays until it is
/// dropped.
struct Client(Child);

impl Client {
    fn of(port: u16) -> Self {
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; echo hello >&3; read -r -t 60 answer <&3; echo \"$answer\"; read -r _");
        Self(Command::new("bash").args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn states(daemon: &TestDaemon) -> Vec<String> {
    daemon.status("default").services.iter().map(|service| format!("{} {}", service.name, service.state)).collect()
}

fn wakes_of_db(daemon: &TestDaemon) -> usize {
    daemon.expect(0, "events").stdout.matches("db wakes: ").count()
}

fn is_paused(daemon: &TestDaemon) -> bool {
    daemon.engine.describe().contains(" paused with ")
}

#[test]
fn a_client_wakes_what_it_needs_and_is_served() {
    for mode in ["stop", "freeze"] {
        let nap = Nap::new(&format!("{{ mode: {mode} }}"));
        let daemon = nap.world.start();
        daemon.expect(0, "up nap");
        assert_eq!(Client::of(nap.api).answer(), "hello", "{mode}");
        daemon.expect(0, "sleep");
        assert_eq!((daemon.phase(), states(&daemon)), ("asleep".to_owned(), vec!["db asleep".to_owned(), "api asleep".to_owned()]));
        assert_eq!(is_paused(&daemon), mode == "freeze");
        assert_eq!(daemon.json("list")[0]["phase"], "asleep");
        let why = daemon.expect(0, "why db").stdout;
        assert!(why.contains("db falls asleep"), "{why}");
        // A connection of the daemon itself wakes nothing, and is not served.
        drop(TcpStream::connect(("127.0.0.1", nap.db)).unwrap());

        assert_eq!(Client::of(nap.db).answer(), "hello", "{mode}");
        assert_eq!(states(&daemon), ["db ready", "api asleep"], "{mode}");
        assert_eq!(Client::of(nap.api).answer(), "hello", "{mode}");
        assert_eq!((daemon.phase(), is_paused(&daemon)), ("ready".to_owned(), false));
        until("the operation is over", || daemon.last_operation("wake").as_deref() == Some("succeeded"));
        daemon.expect(0, "sleep db");
        assert_eq!(states(&daemon), ["db asleep", "api asleep"], "what needs it falls asleep too");
        daemon.expect(0, "start api");
        assert_eq!(states(&daemon), ["db ready", "api ready"], "what it needs wakes too");
        daemon.expect(0, "sleep");
        daemon.expect(0, "down --volumes");
        assert_eq!(daemon.phase(), "absent");
    }
}

#[test]
fn the_next_daemon_holds_the_ports_of_what_sleeps() {
    for mode in ["stop", "freeze"] {
        let nap = Nap::new(&format!("{{ mode: {mode} }}"));
        let daemon = nap.world.start();
        daemon.expect(0, "up nap");
        daemon.expect(0, "sleep");
        daemon.stop();
        let daemon = nap.world.start();
        assert_eq!((daemon.phase(), is_paused(&daemon)), ("asleep".to_owned(), mode == "freeze"));
        drop(daemon);
        let daemon = nap.world.start();
        assert_eq!(daemon.phase(), "asleep");
        assert_eq!(Client::of(nap.api).answer(), "hello", "{mode}");
        assert_eq!(daemon.phase(), "ready");
        daemon.expect(0, "sleep");
        daemon.expect(0, "up nap");
        assert_eq!((daemon.phase(), is_paused(&daemon)), ("ready".to_owned(), false));
    }
}

#[test]
fn services_that_no_client_uses_fall_asleep_and_an_open_connection_keeps_those_awake_that_would_be_stopped() {
    let nap = Nap::new("{ after: 1s }");
    let daemon = nap.world.start();
    daemon.expect(0, "up nap");
    until("it falls asleep", || daemon.phase() == "asleep");
    let mut client = Client::of(nap.api);
    assert_eq!(client.answer(), "hello");
    let long = Instant::now() + Duration::from_secs(3);
    while Instant::now() < long {
        assert_eq!(daemon.phase(), "ready");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(client);
    until("it falls asleep again", || daemon.phase() == "asleep");
}

#[test]
fn a_frozen_service_keeps_its_connections_and_continues_at_their_next_byte() {
    let nap = Nap::new("{ after: 1s, mode: freeze }");
    let daemon = nap.world.start();
    daemon.expect(0, "up nap");
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{}; while read -r line; do echo $line >&3; read -r -t 60 answer <&3; echo $answer; done",
        nap.db
    );
    let mut child = Command::new("bash").args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut asks, mut answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    for word in ["one", "two"] {
        writeln!(asks, "{word}").unwrap();
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), word);
        until("it freezes", || daemon.phase() == "asleep" && is_paused(&daemon));
    }
    drop(asks);
    child.wait().unwrap();
    assert!(wakes_of_db(&daemon) >= 1, "its second line woke it");
}

#[test]
fn a_fault_wakes_the_service_that_it_is_injected_into() {
    for mode in ["stop", "freeze"] {
        let nap = Nap::new(&format!("{{ after: 1s, mode: {mode} }}"));
        let daemon = nap.world.start();
        daemon.expect(0, "up nap");
        until("it falls asleep", || daemon.phase() == "asleep");
        let refused = daemon.expect(1, "chaos inject cpu nothing --set cpus=0.25").stderr;
        assert!(refused.contains("unknown service `nothing`"), "{refused}");
        assert_eq!(daemon.phase(), "asleep", "{mode}");
        daemon.expect(0, "chaos inject cpu db --set cpus=0.25 --for 1h");
        assert!(states(&daemon).contains(&"db ready".to_owned()), "{mode}: {:?}", states(&daemon));
        assert!(daemon.expect(0, "events").stdout.contains("db wakes: a fault is injected into it"), "{mode}");
        let long = Instant::now() + Duration::from_secs(3);
        while Instant::now() < long {
            assert!(states(&daemon).contains(&"db ready".to_owned()), "{mode}: a fault keeps it awake: {:?}", states(&daemon));
            std::thread::sleep(Duration::from_millis(50));
        }
        daemon.expect(0, "chaos heal");
        until("it falls asleep again", || daemon.phase() == "asleep");
    }
}

/// A fault that holds a container still would keep it from being stopped or frozen.
#[test]
fn a_service_that_a_fault_pauses_can_be_put_to_sleep_and_wakes() {
    for mode in ["stop", "freeze"] {
        let nap = Nap::new(&format!("{{ mode: {mode} }}"));
        let daemon = nap.world.start();
        daemon.expect(0, "up nap");
        // Its effect is not observed: what answers here is no process of the container.
        let injected = daemon.run("chaos inject pause db --for 1h");
        assert!(is_paused(&daemon), "{mode}: {}{}", injected.stdout, injected.stderr);
        daemon.expect(0, "sleep");
        assert_eq!((daemon.phase(), is_paused(&daemon)), ("asleep".to_owned(), mode == "freeze"), "{mode}");
        daemon.expect(0, "chaos heal");
        assert_eq!(Client::of(nap.api).answer(), "hello", "{mode}");
        assert_eq!((daemon.phase(), is_paused(&daemon)), ("ready".to_owned(), false), "{mode}");
    }
}

#[test]
fn commands_that_use_a_sleeping_service_wake_it() {
    let nap = Nap::new("{}");
    let daemon = nap.world.start();
    daemon.expect(0, "up nap");
    for (number, command) in
        ["exec db -- echo hello", "snapshot save", "wait", "reset", "restart db", "wake", "up nap"].into_iter().enumerate()
    {
        daemon.expect(0, "sleep");
        let command = if command == "snapshot save" { format!("{command} s{number}") } else { command.to_owned() };
        daemon.expect(0, &command);
        assert!(states(&daemon).contains(&"db ready".to_owned()), "{command}: {:?}", states(&daemon));
    }
}

#[test]
fn commands_that_only_ask_let_it_sleep() {
    let nap = Nap::new("{ mode: freeze }");
    let daemon = nap.world.start();
    daemon.expect(0, "up nap");
    daemon.expect(0, "sleep");
    for command in ["status", "list", "env", "events", "logs", "operations", "why db", "gc --all", "sleep"] {
        daemon.expect(0, command);
        assert_eq!((daemon.phase(), is_paused(&daemon)), ("asleep".to_owned(), true), "{command}");
    }
    // What is frozen can be stopped, and starts again.
    daemon.expect(0, "stop db");
    assert!(states(&daemon).contains(&"db stopped".to_owned()), "{:?}", states(&daemon));
    daemon.expect(0, "wake");
    assert!(states(&daemon).contains(&"db stopped".to_owned()), "{:?}", states(&daemon));
    daemon.expect(0, "up nap");
    assert_eq!((daemon.phase(), is_paused(&daemon)), ("ready".to_owned(), false));
}

#[test]
fn what_a_container_needs_that_cannot_sleep_stays_awake_without_a_single_attempt() {
    let nap = Nap::new("{ after: 1s }");
    let profile = std::fs::read_to_string(nap.world.project().join("profiles/nap.yaml")).unwrap();
    // Without a `sleep` for all: only `db` says it.
    let profile = profile.replace("sleep: { after: 1s }\n", "").replace("  db:\n", "  db:\n    sleep: { after: 1s }\n");
    nap.world.write("profiles/nap.yaml", &profile);
    let daemon = nap.world.start();
    daemon.expect(0, "up nap");
    assert!(daemon.expect(1, "sleep db").stderr.contains("stays awake"));
    let long = Instant::now() + Duration::from_secs(4);
    while Instant::now() < long {
        assert_eq!(daemon.phase(), "ready");
        std::thread::sleep(Duration::from_millis(50));
    }
    let tried = daemon.expect(0, "operations").stdout.matches("because nobody uses it").count();
    assert_eq!(tried, 0);
    daemon.expect(0, "stop api");
    until("db falls asleep", || states(&daemon).contains(&"db asleep".to_owned()));
    daemon.expect(0, "start api");
    assert_eq!(states(&daemon), ["db ready", "api ready"]);
}

#[test]
fn clients_that_come_while_services_fall_asleep_are_served() {
    for mode in ["stop", "freeze"] {
        let nap = Nap::new(&format!("{{ mode: {mode} }}"));
        let daemon = nap.world.start();
        daemon.expect(0, "up nap");
        for round in 0..10 {
            let command = daemon.spawn("sleep");
            let mut clients: Vec<Client> = (0..4).map(|number| Client::of(if number % 2 == 0 { nap.db } else { nap.api })).collect();
            for client in &mut clients {
                let answer = client.answer();
                // Who was connected when it was asked for may be cut off by a stop, and by nothing else.
                assert!(answer == "hello" || mode == "stop" && answer.is_empty(), "{mode}, round {round}: {answer:?}");
            }
            drop(clients);
            assert_eq!(command.ended().code, Some(0));
            assert_eq!(Client::of(nap.api).answer(), "hello", "{mode}, round {round}");
        }
    }
}

#[test]
fn a_profile_that_does_not_say_it_does_not_sleep() {
    let world = World::new();
    let daemon = world.up();
    let refused = daemon.expect(1, "sleep").stderr;
    assert!(refused.contains("does not say `sleep`") && refused.contains("sleep: {}"), "{refused}");
    daemon.expect(1, "sleep nothing");
    daemon.expect(0, "wake");
    assert_eq!(daemon.phase(), "ready");
}
