//! Real programs under real process shims. The shim is this test binary again, running one of its tests.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use devenv_api::LogStream;

use super::{tree::Process, *};
use devenv_logs::{Logs, Query};

const KEEPER: &str = "DEVENV_TEST_KEEPER";
/// For what takes milliseconds on an idle machine.
const DEADLINE: Duration = Duration::from_mins(1);

/// Another process writes it: a program that another test starts at this moment has this process's open files for an instant, and what
/// is open for writing cannot be executed.
pub(crate) fn write_program(path: &Path, text: &str) {
    let script = r#"printf %s "$1" >"$0" && chmod 755 "$0""#;
    assert!(std::process::Command::new("sh").args(["-c", script]).arg(path).arg(text).status().unwrap().success());
}

#[test]
fn a_shim_without_a_launch_says_so() {
    let directory = std::env::args().next_back().unwrap();
    let result = shim::main(Path::new(&directory));
    if std::env::var_os(KEEPER).is_none() {
        assert!(matches!(result, Err(LaunchError::Shim(_))), "{result:?}");
    }
}

struct Place {
    directory: tempfile::TempDir,
    supervisor: Supervisor,
    environment: String,
}

impl Place {
    fn new() -> Self {
        let identity: u32 = rand::rng().random();
        Self {
            directory: tempfile::tempdir().unwrap(),
            supervisor: Supervisor {
                program: std::env::current_exe().unwrap().into(),
                arguments: ["tests::a_shim_without_a_launch_says_so", "--exact", "--nocapture"].map(Into::into).into(),
                variables: vec![(KEEPER.into(), "1".into())],
            },
            environment: format!("test-{identity:08x}"),
        }
    }

    fn request(&self, command: &[&str]) -> StartRequest {
        StartRequest {
            environment: self.environment.clone(),
            service: "api".to_owned(),
            run: 1,
            command: command.iter().map(ToString::to_string).collect(),
            directory: self.directory.path().to_owned(),
            variables: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned()), ("GREETING".to_owned(), "hello".to_owned())],
            logs: self.directory.path().join("logs"),
            limits: Limits::default(),
            shim: self.directory.path().join("a-directory-with-a-name-that-is-longer-than-a-socket-address-may-be/".repeat(2)).join("api"),
        }
    }

    async fn shell(&self, script: &str) -> Running {
        self.supervisor.start(self.request(&["sh", "-c", script])).await.unwrap()
    }

    fn logs(&self) -> Logs {
        Logs::new(self.directory.path().join("logs"))
    }

    fn lines(&self) -> Vec<(LogStream, String)> {
        self.logs().history(Query::default()).unwrap().map(|line| line.unwrap()).map(|line| (line.stream, line.text)).collect()
    }

    /// Waits for a line of the output.
    async fn line(&self, wanted: &str) {
        let mut follower = self.logs().follow(Query::default()).unwrap();
        let found = async { while !follower.next().await.unwrap().iter().any(|line| line.text == wanted) {} };
        tokio::time::timeout(DEADLINE, found).await.expect("the line within the deadline");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        sweep(&format!("{}/", self.environment));
    }
}

fn alive(marker: &str) -> usize {
    let wanted = format!("{MARKER}={marker}");
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.ok()?.path().join("environ")).ok())
        .filter(|text| text.split(|byte| *byte == 0).any(|variable| variable.starts_with(wanted.as_bytes())))
        .count()
}

#[tokio::test]
async fn output_of_both_streams_and_the_exit_code_are_kept() {
    let place = Place::new();
    let running = place.shell("echo $GREETING; echo trouble >&2; printf 'no newline'; exit 3").await;
    let exit = running.exited().await;
    assert_eq!(exit.ending, Ending::Code(3));
    assert_eq!(exit.ending.to_string(), "exited with code 3");
    let lines = place.lines();
    assert!(lines.contains(&(LogStream::Stdout, "hello".to_owned())), "{lines:?}");
    assert!(lines.contains(&(LogStream::Stderr, "trouble".to_owned())), "{lines:?}");
    assert!(lines.contains(&(LogStream::Stdout, "no newline".to_owned())), "{lines:?}");
    assert!(matches!(adopt(running.directory()).await, Adopted::Ended(_, Exit { ending: Ending::Code(3), .. })));
    assert_eq!(running.exited().await, exit, "asked again later");
}

#[tokio::test]
async fn a_program_gets_its_own_environment_and_nothing_of_ours() {
    let place = Place::new();
    let running = place.supervisor.start(place.request(&["env"])).await.unwrap();
    running.exited().await;
    let mut names: Vec<String> = place.lines().into_iter().map(|(_, line)| line.split('=').next().unwrap().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["DEVENV_MARKER", "GREETING", "PATH"]);
}

#[tokio::test]
async fn a_program_that_cannot_be_run_is_explained() {
    let place = Place::new();
    let root = place.directory.path();
    let fail = async |command: &[&str]| match place.supervisor.start(place.request(command)).await {
        Err(ProcessError::Launch(error)) => error,
        other => panic!("{other:?}"),
    };
    let path = "/usr/bin:/bin".to_owned();
    assert_eq!(fail(&["no-such"]).await, LaunchError::NotInPath { program: "no-such".to_owned(), path, directory: root.to_owned() });
    assert_eq!(fail(&["./no-such"]).await, LaunchError::NoProgram(root.join("./no-such")));
    assert_eq!(fail(&[]).await, LaunchError::EmptyCommand);
    fs::write(root.join("plain"), "echo").unwrap();
    let error = fail(&["./plain"]).await.to_string();
    assert!(error.starts_with("cannot execute `") && error.ends_with("/plain`: it is not executable"), "{error}");
    fs::write(root.join("script"), "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(root.join("script"), fs::Permissions::from_mode(0o755)).unwrap();
    let error = fail(&["./script"]).await.to_string();
    assert!(error.ends_with("its interpreter does not exist"), "{error}");
    let missing = StartRequest { directory: root.join("gone"), ..place.request(&["true"]) };
    let error = place.supervisor.start(missing).await.unwrap_err();
    assert_eq!(error.to_string(), format!("the directory `{}` does not exist", root.join("gone").display()));
}

#[tokio::test]
async fn stopping_ends_the_whole_tree_with_those_that_ignore_it_or_left() {
    let place = Place::new();
    let running = place
        .shell("trap '' TERM; sleep 1000 & setsid sleep 1000 & (setsid setsid sleep 1000 &) ; echo up; while :; do sleep 1000; done")
        .await;
    place.line("up").await;
    let all = async {
        while alive(running.marker()) < 5 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, all).await.expect("the whole tree within the deadline");
    let began = Instant::now();
    let exit = running.stop(Signal::TERM, Duration::from_millis(300)).await;
    assert_eq!(exit.ending, Ending::Signal(9));
    assert_eq!(alive(running.marker()), 0);
    assert!(began.elapsed() >= Duration::from_millis(300) && began.elapsed() < DEADLINE, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_tree_that_obeys_is_ended_at_once() {
    let place = Place::new();
    let running = place.shell("setsid sleep 1000 & echo up; exec sleep 1000").await;
    place.line("up").await;
    let began = Instant::now();
    let exit = running.stop(Signal::TERM, 10 * DEADLINE).await;
    assert_eq!(exit.ending, Ending::Signal(15));
    assert_eq!(alive(running.marker()), 0);
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_program_that_stands_still_is_ended_too() {
    let place = Place::new();
    let running = place.shell("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done").await;
    place.line("up").await;
    running.signal("SIGSTOP".parse().unwrap()).await.unwrap();
    let exit = running.stop(Signal::TERM, Duration::from_secs(10)).await;
    assert!(exit.is_success(), "{exit:?}");
    assert!(place.lines().iter().any(|(_, line)| line == "bye"));
}

#[tokio::test]
async fn the_processes_of_a_crashed_program_end_with_it() {
    let place = Place::new();
    let running = place.shell("setsid sleep 1000 & sleep 1000 & exit 7").await;
    let exit = running.exited().await;
    assert_eq!(exit.ending, Ending::Code(7));
    assert_eq!(alive(running.marker()), 0);
    let left = running.left_behind();
    assert!(left.len() == 2 && left.iter().all(|one| one.contains(" (process ")), "{left:?}");
}

/// Ends when a program that is called `sleep` by now sleeps for `1000.$$` seconds.
const ENDS_WHEN_IT_SLEEPS: &str = r#"
sleeps() {
    for process in /proc/[0-9]*; do
        { read -r name <"$process/comm"; } 2>/dev/null
        [ "$name" = sleep ] && grep -qsz "^1000.$$\$" "$process/cmdline" && return 0
    done
    return 1
}
until sleeps; do sleep 0.05; done
exit 0"#;
/// Within the grace of what is left behind, so that the end is not reported yet.
#[tokio::test]
async fn a_program_that_has_ended_does_not_run_although_its_daemon_does() {
    let place = Place::new();
    let running = place.shell("(trap '' TERM; echo serving; exec sleep 1000) & sleep 0.2; exit 0").await;
    place.line("serving").await;
    let ended = async {
        while running.program_runs() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, ended).await.expect("the program has ended");
    assert_eq!(running.exited().await.ending, Ending::Code(0));
    assert!(!running.program_runs());
    let other = place.shell("echo up; sleep 1000").await;
    place.line("up").await;
    assert!(other.program_runs());
}

#[tokio::test]
async fn programs_that_make_themselves_daemons_are_named_and_ended() {
    for (how, script, expected) in [
        ("forks", "sleep 1000.$$ &", "sleep (process "),
        ("forks twice into a session of its own", "(setsid setsid sleep 1000.$$ &)", "sleep (process "),
        ("with an empty environment", "(setsid env -i sleep 1000.$$ &)", "sleep (process "),
        ("many", "for i in 1 2 3 4 5; do sleep 1000.$$ & done", "2 more"),
    ] {
        let place = Place::new();
        let running = place.shell(&format!("{script}{ENDS_WHEN_IT_SLEEPS}")).await;
        assert_eq!(running.exited().await.ending, Ending::Code(0), "{how}");
        assert_eq!(alive(running.marker()), 0, "{how}");
        let left = running.left_behind();
        assert!(left.last().is_some_and(|one| one.starts_with(expected)), "{how}: {left:?}");
        assert!(left.iter().all(|one| !one.contains("process ") || !is_alive(one)), "{how}: {left:?}");
    }
    let place = Place::new();
    let running = place.shell("exit 0").await;
    running.exited().await;
    assert_eq!(running.left_behind(), [""; 0], "nothing is left");
}

/// Whether the process of `NAME (process ID)` runs.
fn is_alive(named: &str) -> bool {
    let pid = named.trim_end_matches(')').rsplit(' ').next().unwrap();
    Process::of(pid.parse().unwrap()).is_some()
}

/// A server that drains for a second after SIGTERM, and prints how often it received it.
const SERVER: &str = r#"trap "echo signalled; told=1" TERM
echo up
while [ -z "$told" ]; do sleep 0.05; done
for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.1; done
echo drained
"#;

#[tokio::test]
async fn a_server_behind_any_wrapper_gets_one_signal_and_the_full_grace() {
    for (wrapper, script, stops) in [
        ("none", "exec sh server.sh", 1),
        ("a shell", "sh server.sh; exit $?", 1),
        ("one that ends at once", "trap 'exit 143' TERM; sh server.sh & wait", 1),
        ("one that the signal kills", "sh server.sh & wait", 1),
        ("two", "sh -c 'sh server.sh & wait' & wait", 1),
        ("one that gives it a session of its own", "trap 'exit 0' TERM; setsid sh server.sh & wait", 1),
        ("one, and two stop at the same time", "trap 'exit 143' TERM; sh server.sh & wait", 2),
    ] {
        let place = Place::new();
        fs::write(place.directory.path().join("server.sh"), SERVER).unwrap();
        let running = place.shell(script).await;
        place.line("up").await;
        let began = Instant::now();
        let mut stopping = tokio::task::JoinSet::new();
        for _ in 0..stops {
            let running = running.clone();
            stopping.spawn(async move { running.stop(Signal::TERM, DEADLINE).await });
        }
        stopping.join_all().await;
        let took = began.elapsed();
        let lines: Vec<String> = place.lines().into_iter().map(|(_, line)| line).collect();
        let said = |what: &str| lines.iter().filter(|line| *line == what).count();
        assert_eq!((said("signalled"), said("drained")), (1, 1), "wrapper: {wrapper}: {lines:?}");
        assert!(took >= Duration::from_millis(800) && took < DEADLINE, "wrapper: {wrapper}: {took:?}");
        assert_eq!(alive(running.marker()), 0, "wrapper: {wrapper}");
        assert_eq!(running.left_behind(), [""; 0], "wrapper: {wrapper}: it was stopped, so nothing was left behind");
    }
}

#[tokio::test]
async fn a_program_that_is_about_to_become_another_is_swept_like_any() {
    let place = Place::new();
    let script = place.directory.path().join("again");
    write_program(&script, "#!/bin/sh\nexec \"$0\"\n");
    for round in 0..100 {
        let marker = format!("{}/again/{round}", place.environment);
        let mut child = std::process::Command::new(&script).env(MARKER, &marker).spawn().unwrap();
        let swept = sweep(&marker);
        let ended = child.try_wait().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(swept > 0 && ended.is_some(), "round {round}: {swept} swept, {ended:?}");
    }
}

#[tokio::test]
async fn a_program_over_its_memory_limit_is_killed_and_its_control_group_removed() {
    let limits = Limits { memory: Some(32 << 20), cpus: Some(1.0) };
    // This user may not be allowed to make control groups.
    let Ok(group) = cgroup::Group::make(limits) else { return };
    group.remove();
    let place = Place::new();
    // It keeps the last line, which does not end.
    let request = StartRequest { limits, ..place.request(&["tail", "/dev/zero"]) };
    let running = place.supervisor.start(request).await.unwrap();
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", running.pid)).unwrap_or_default();
    let exit = tokio::time::timeout(DEADLINE, running.exited()).await.unwrap();
    assert_eq!(exit.ending, Ending::Signal(9));
    assert!(running.ran_out_of_memory());
    assert!(groups.is_empty() || groups.contains(&format!("devenv-{}", running.shim)), "{groups}");
    let left = groups.lines().filter_map(|line| line.rsplit_once(":memory:")).map(|(_, path)| format!("/sys/fs/cgroup/memory{path}"));
    assert!(left.into_iter().all(|path| !std::path::Path::new(&path).exists()));

    let running = place.shell("echo fine").await;
    running.exited().await;
    assert!(!running.ran_out_of_memory());
}

#[tokio::test]
async fn a_signal_reaches_the_program() {
    let place = Place::new();
    // The shell itself waits: dash loses a signal that arrives while it starts a program.
    let running = place.shell("trap 'echo reloaded' HUP; sleep 1000 & echo up; wait; sleep 1000 & wait").await;
    place.line("up").await;
    running.signal("HUP".parse().unwrap()).await.unwrap();
    place.line("reloaded").await;
    running.stop(Signal::KILL, Duration::ZERO).await;
    assert!(running.signal("HUP".parse().unwrap()).await.is_err());
}

#[tokio::test]
async fn a_later_daemon_adopts_running_programs() {
    let place = Place::new();
    let running = place.shell("echo up; sleep 1000").await;
    let Adopted::Running(adopted) = adopt(running.directory()).await else { panic!("not adopted") };
    assert_eq!((adopted.pid, adopted.run, adopted.started_at), (running.pid, 1, running.started_at));
    let waiting = tokio::spawn({
        let running = running.clone();
        async move { running.exited().await }
    });
    adopted.stop(Signal::TERM, Duration::from_secs(5)).await;
    assert_eq!(waiting.await.unwrap().ending, Ending::Signal(15));
    assert!(matches!(adopt(&place.directory.path().join("nowhere")).await, Adopted::Nothing));
}

#[tokio::test]
async fn the_tree_of_a_killed_shim_is_ended_while_watched_and_at_adoption() {
    for watched in [true, false] {
        let place = Place::new();
        let running = place.shell("trap '' TERM HUP PIPE; setsid sleep 1000 & echo up; while :; do sleep 1000; done").await;
        place.line("up").await;
        let shim = Process::of(running.shim).unwrap();
        assert!(shim.kill());
        if watched {
            assert_eq!(running.exited().await.ending, Ending::Lost);
        } else {
            assert!(matches!(adopt(running.directory()).await, Adopted::Lost(_)));
        }
        assert_eq!(alive(running.marker()), 0, "watched: {watched}");
        assert!(matches!(adopt(running.directory()).await, Adopted::Ended(..)));
    }
}

#[tokio::test]
async fn no_line_is_lost_doubled_or_out_of_order() {
    let place = Place::new();
    let running = place.shell("seq 1 100000").await;
    // It takes less than a second on a machine that does nothing else.
    tokio::time::timeout(4 * DEADLINE, running.exited()).await.expect("100,000 lines are taken");
    let lines: Vec<String> = place.lines().into_iter().map(|(_, line)| line).collect();
    let expected: Vec<String> = (1..=100_000).map(|number| number.to_string()).collect();
    assert!(lines == expected, "{} lines", lines.len());
}

#[tokio::test]
async fn what_a_process_writes_is_counted_and_what_others_write_is_not() {
    let place = Place::new();
    let running = place.shell("echo up; sleep 1000").await;
    place.line("up").await;
    let (own, other) = (place.directory.path().join("own"), place.directory.path().join("other"));
    let before = Written::by(running.marker()).unwrap();
    std::fs::write(&other, "by somebody else").unwrap();
    let after = Written::by(running.marker()).unwrap();
    assert!(!after.may_include(&other, before));
    running.stop(Signal::KILL, Duration::ZERO).await;
    assert_eq!(Written::by(running.marker()), None);

    let running = place.shell("echo ready; until [ -e other2 ]; do :; done; echo more > own; echo written; sleep 1000").await;
    place.line("ready").await;
    let before = Written::by(running.marker()).unwrap();
    std::fs::write(place.directory.path().join("other2"), "go on").unwrap();
    place.line("written").await;
    assert!(Written::by(running.marker()).unwrap().may_include(&own, before));
    running.stop(Signal::KILL, Duration::ZERO).await;
}

#[tokio::test]
async fn the_writer_of_a_file_is_named() {
    let place = Place::new();
    let running = place.shell("exec 3>out; echo up; read nothing <&3; sleep 1000").await;
    place.line("up").await;
    let (_, name) = has_open_for_writing(running.marker(), &place.directory.path().join("out")).unwrap();
    assert!(name == "sh" || name == "sleep", "{name}");
    running.stop(Signal::KILL, Duration::ZERO).await;
    assert_eq!(has_open_for_writing(running.marker(), &place.directory.path().join("out")), None);
}

#[tokio::test]
async fn restarts_in_one_directory_lose_no_line_and_no_exit() {
    let place = Place::new();
    let mut expected = Vec::new();
    for run in 1..=100 {
        let request = StartRequest { run, ..place.request(&["seq", "1", "1000"]) };
        let exit = place.supervisor.start(request).await.unwrap().exited().await;
        assert_eq!(exit.ending, Ending::Code(0), "run {run}");
        expected.extend((1..=1000).map(|number: u32| (run, number.to_string())));
    }
    let lines: Vec<(u32, String)> =
        place.logs().history(Query::default()).unwrap().map(|line| line.unwrap()).map(|line| (line.run, line.text)).collect();
    assert!(lines == expected, "{} lines", lines.len());
}
