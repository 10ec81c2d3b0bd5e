//! Files are saved, and the services react in each way that a rule can name.

use std::{collections::BTreeSet, fs};

use crate::corner::{Corner, docker, named};

/// A server that reports its version, and answers as long as that is not `broken`.
const SERVER: &str = r#"
import http.server, os, signal, sys
VERSION = open(os.path.join(os.path.dirname(__file__), "version")).read().strip()
print("version", VERSION, flush=True)
if VERSION.startswith("broken"):
    sys.exit("it is broken")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(VERSION.encode())
    def log_message(self, *a): pass
signal.signal(signal.SIGHUP, lambda *_: print("told", open(os.path.join(os.path.dirname(__file__), "version")).read().strip(), flush=True))
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

impl Corner {
    fn of_process(rule: &str) -> Self {
        let corner = Self::with(&format!(
            "  api:\n    process: {{ command: [python3, app/server.py], port: 0 }}\n    probe: {{ http: {{ path: / }} }}\n    watch: [{{ paths: [app], {rule} }}]\n"
        ));
        corner.write("app/server.py", SERVER);
        corner.write("app/version", "one");
        corner
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.project().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The line of its output that begins with this word.
    fn said(&self, word: &str) -> Vec<String> {
        let lines = self.lines(&["logs", "api"]).into_iter().map(|line| line["text"].as_str().unwrap().to_owned());
        lines.filter(|line| line.split(' ').next() == Some(word)).collect()
    }

    fn answer(&self) -> Option<String> {
        let url = self.variable("API_URL");
        let output = std::process::Command::new("curl").args(["-sf", "-m", "10", &url]).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    fn serves(&self, version: &str) {
        self.until(&format!("version {version} serves"), 30, || self.answer().filter(|answer| answer == version));
        self.ok(&["wait", "--timeout", "2m"]);
    }

    fn messages(&self, kind: &str) -> Vec<String> {
        let events = self.lines(&["events"]).into_iter().filter(|event| event["kind"] == kind);
        events.map(|event| event["message"].as_str().unwrap().to_owned()).collect()
    }

    fn until_told(&self, kind: &str, count: usize) {
        self.until(kind, 30, || (self.messages(kind).len() >= count).then_some(()));
    }
}

#[test]
fn a_restarted_version_that_does_not_become_ready_gives_way_to_the_one_before() {
    let corner = Corner::of_process("on_change: restart");
    corner.up("test");
    corner.serves("one");
    corner.write("app/version", "two");
    corner.serves("two");
    corner.write("app/version", "broken");
    corner.until_told("service.reload-failed", 1);
    corner.serves("two");
    let reported = corner.messages("service.reload-failed").remove(0);
    assert!(reported.ends_with("run 2 is started again"), "{reported}");
    let api = corner.service("api");
    assert!(api["reason"].as_str().is_some_and(|reason| reason.contains("running the previous version")), "{api}");
    assert_eq!(corner.said("version"), ["version one", "version two", "version broken", "version two"]);

    // The next daemon starts the same one, in whatever way it gets there.
    corner.kill_daemon();
    let pid = named(&corner.json(&["status"]), "api")["pid"].as_u64().unwrap();
    assert!(std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
    corner.until("another process", 20, || {
        Some(corner.service("api")).filter(|api| api["state"] == "ready" && api["pid"].as_u64() != Some(pid))
    });
    corner.serves("two");

    corner.write("app/version", "three");
    corner.serves("three");
    assert_eq!(corner.service("api")["reason"], serde_json::Value::Null);
    corner.write("app/version", "broken again");
    corner.until_told("service.reload-failed", 2);
    corner.serves("three");
    let asked = corner.devenv(&["restart", "api"]);
    assert_ne!(asked.code, 0, "who asks for a restart gets the present files: {asked:?}");
    corner.write("app/version", "four");
    corner.serves("four");
}

#[test]
fn a_build_that_makes_a_bad_program_gives_way_to_the_program_before() {
    let corner = Corner::with(
        "  api:\n    process: { command: [out/api], port: 0 }\n    probe: { http: { path: / } }\n    watch: [{ paths: [app], on_change: restart, build: [sh, build.sh] }]\n",
    );
    corner.write(
        "build.sh",
        "mkdir -p out && { echo '#!/usr/bin/env python3'; cat app/server.py; } >out/new && chmod +x out/new && mv out/new out/api\n",
    );
    let program = |version: &str| SERVER.replace("open(os.path.join(os.path.dirname(__file__), \"version\")).read().strip()", version);
    corner.write("app/server.py", &program("\"one\""));
    assert!(std::process::Command::new("sh").arg("build.sh").current_dir(corner.project()).status().unwrap().success());
    corner.up("test");
    corner.serves("one");
    corner.write("app/server.py", &program("\"broken\""));
    corner.until_told("service.reload-failed", 1);
    corner.serves("one");
    corner.write("app/server.py", &program("\"two\""));
    corner.serves("two");
}

#[test]
fn a_signal_reaches_the_process_which_goes_on() {
    let corner = Corner::of_process("on_change: signal, signal: SIGHUP");
    let before = corner.up("test");
    corner.write("app/version", "two");
    corner.until("the signal", 20, || (corner.said("told") == ["told two"]).then_some(()));
    assert_eq!(corner.service("api")["pid"], named(&before, "api")["pid"]);
    assert_eq!((corner.count("api", "service.signalled"), corner.count("api", "service.started")), (1, 1));
}

#[test]
fn a_command_runs_for_each_change_and_the_process_goes_on() {
    let corner = Corner::of_process("on_change: run, run: [sh, -c, 'echo ran $(cat app/version); test $(cat app/version) != bad']");
    let before = corner.up("test");
    corner.write("app/version", "two");
    corner.until("the command", 20, || (corner.said("ran") == ["ran two"]).then_some(()));
    corner.until_told("service.ran", 1);
    corner.write("app/version", "bad");
    corner.until_told("service.run-failed", 1);
    assert_eq!(corner.said("ran"), ["ran two", "ran bad"]);
    assert_eq!(corner.service("api")["pid"], named(&before, "api")["pid"]);
}

const BUILT: &str = r"
  api:
    container: { build: { context: image } }
    probe: { log: version }
    stop: { grace: 1s }
    watch: [{ paths: [image], on_change: rebuild }]
";

#[test]
fn an_image_is_built_again_and_the_container_replaced() {
    let corner = Corner::with(BUILT);
    corner.write("image/Dockerfile", "FROM debian:trixie-slim\nCOPY run.sh /run.sh\nCMD [\"sh\", \"/run.sh\"]\n");
    corner.write("image/run.sh", "echo version one; exec sleep 1000\n");
    let before = named(&corner.up("test"), "api")["container"].clone();
    corner.write("image/run.sh", "echo version two; exec sleep 1000\n");
    let after = corner
        .until("another container", 60, || Some(corner.service("api")).filter(|api| api["state"] == "ready" && api["container"] != before))
        ["container"]
        .clone();
    assert_eq!(corner.said("version"), ["version one", "version two"]);
    assert_eq!(corner.count("api", "service.built"), 1);

    corner.write("image/Dockerfile", "FROM debian:trixie-slim\nRUN exit 3\n");
    corner.until_told("service.build-failed", 1);
    let reported = corner.messages("service.build-failed").remove(0);
    assert!(reported.contains("the current version of api keeps running"), "{reported}");
    let api = corner.service("api");
    assert_eq!((&api["state"], &api["container"]), (&"ready".into(), &after));

    corner.write("image/Dockerfile", "FROM debian:trixie-slim\nCOPY run.sh /run.sh\nCMD [\"sh\", \"/run.sh\", \"mended\"]\n");
    corner.until("the mended one", 60, || Some(corner.service("api")).filter(|api| api["state"] == "ready" && api["container"] != after));
    let tag = corner.service("api")["image"].as_str().unwrap().to_owned();
    drop(corner);
    docker(&["image", "rm", "-f", &tag]);
}

#[test]
fn a_container_gets_the_files_before_again_if_it_does_not_become_ready_with_the_new_ones() {
    let corner = Corner::with(
        "  api:\n    container: { image: 'debian:trixie-slim', command: [sh, /app/run.sh] }\n    probe: { log: serving }\n    stop: { grace: 1s }\n    watch: [{ paths: [app], on_change: sync, to: /app }]\n",
    );
    corner.write("app/run.sh", "echo serving one; exec sleep 1000\n");
    let before = named(&corner.up("test"), "api")["container"].clone();
    // A ready version has been stored by the time that it is watched.
    corner.write("app/run.sh", "echo serving two; exec sleep 1000\n");
    corner.until("two", 30, || (corner.said("serving").last()? == "serving two").then_some(()));
    corner.ok(&["wait", "--timeout", "2m"]);
    corner.write("app/run.sh", "echo broken; exit 3\n");
    corner.until_told("service.reload-failed", 1);
    corner.until("two again", 30, || (corner.said("serving") == ["serving one", "serving two", "serving two"]).then_some(()));
    let reported = corner.messages("service.reload-failed").remove(0);
    assert!(reported.ends_with("is started again"), "{reported}");
    assert_eq!(corner.service("api")["container"], before);
}

/// Wherever in a reload the daemon dies, one process is left in the end, which has the port, and runs the newest files.
#[test]
fn a_daemon_killed_in_the_middle_of_a_reload_leaves_no_twins() {
    for rule in ["on_change: restart", "on_change: swap"] {
        let corner = Corner::of_process(rule);
        corner.up("test");
        for round in 0..4 {
            let version = format!("v{round}");
            corner.write("app/version", &version);
            // At another moment of the reload each time.
            std::thread::sleep(std::time::Duration::from_millis(20 + 60 * round));
            corner.kill_daemon();
            corner.json(&["status"]);
            corner.serves(&version);
            let pids = corner.until("one process", 10, || Some(servers(&corner)).filter(|pids| pids.len() == 1));
            let pid = corner.service("api")["pid"].as_u64().unwrap();
            assert!(pids.contains(&pid), "{rule}, round {round}: {pids:?}, and {pid} is shown");
        }
    }
}

/// The servers that run for this project.
fn servers(corner: &Corner) -> BTreeSet<u64> {
    let project = corner.project();
    let is_ours = |pid: &u64| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let directory = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        directory == project && command.windows(9).any(|word| word == b"server.py")
    };
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(is_ours).collect()
}
