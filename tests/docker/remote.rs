//! Engines on other machines: one in a container, reached by TLS alone, whose ports are not this machine's.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::corner::{Corner, Ended, docker};

const LIMIT: Duration = Duration::from_mins(3);

/// Another engine, with certificates for it and for its client.
struct Engine {
    name: String,
    address: String,
    certificates: tempfile::TempDir,
}

impl Engine {
    fn start() -> Self {
        let images = docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).stdout;
        let image = images
            .lines()
            .find(|image| image.contains("docker-engine"))
            .expect("`scripts/setup images --all` builds the image of an engine");
        let certificates = tempfile::tempdir().unwrap();
        let made = Command::new("bash").args(["-c", CERTIFICATES]).current_dir(certificates.path()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        // The engine has this port again after it was stopped.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let name = format!("devenv-test-engine-{}-{port}", std::process::id());
        let folder = format!("{}:/certs:ro", certificates.path().display());
        let published = format!("127.0.0.1:{port}:2376");
        let run = ["run", "-d", "--name", &name, "-p", &published, "-v", &folder];
        let rights = rights();
        // A killed engine leaves the process numbers of its helpers, which other processes have when it starts again.
        let start = "rm -rf /run/docker /var/run/docker; exec /entrypoint.sh \"$@\"";
        let engine = [
            "--entrypoint=sh",
            image,
            "-c",
            start,
            "sh",
            "--host=tcp://0.0.0.0:2376",
            "--host=unix:///var/run/docker.sock",
            "--tlsverify",
            "--tlscacert=/certs/ca.pem",
            "--tlscert=/certs/server-cert.pem",
            "--tlskey=/certs/server-key.pem",
            "--storage-driver=vfs",
        ];
        docker(&[&run[..], &rights, &engine].concat()).expect(0);
        let engine = Self { name, address: format!("tcp://127.0.0.1:{port}"), certificates };
        engine.until_it_answers();
        let load = format!("docker save redis:8.0 | docker exec -i {} docker load", engine.name);
        assert!(Command::new("bash").args(["-o", "pipefail", "-c", &load]).output().unwrap().status.success());
        engine
    }

    fn until_it_answers(&self) {
        let began = Instant::now();
        while docker(&["exec", &self.name, "docker", "version"]).code != 0 {
            assert!(began.elapsed() < LIMIT, "{}", docker(&["logs", "--tail", "20", &self.name]).stderr);
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn variables(&self) -> [(&'static str, String); 3] {
        [
            ("DOCKER_HOST", self.address.clone()),
            ("DOCKER_TLS_VERIFY", "1".to_owned()),
            ("DOCKER_CERT_PATH", self.certificates.path().display().to_string()),
        ]
    }

    fn run(&self, corner: &Corner, line: &[&str]) -> Ended {
        corner.devenv_with_variables(line, &self.variables())
    }

    #[track_caller]
    fn json(&self, corner: &Corner, line: &[&str]) -> Value {
        self.run(corner, &[line, &["--json"]].concat()).expect(0).json()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        docker(&["rm", "-f", "-v", &self.name]);
    }
}

/// A machine that is itself confined may not be able to give all rights.
fn rights() -> Vec<&'static str> {
    let status = fs::read_to_string(Path::new("/proc/self/status")).unwrap();
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap().trim();
    if u64::from_str_radix(bounding, 16).unwrap() >> 24 & 1 == 1 {
        return vec!["--privileged"];
    }
    vec!["--cap-add=ALL", "--cap-drop=SYS_RESOURCE", "--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined"]
}

const CERTIFICATES: &str = r"
set -e
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca-key.pem -out ca.pem
make() {
  openssl req -newkey rsa:2048 -nodes -subj /CN=$1 -keyout $1-key.pem -out $1.csr
  printf %s $2 > $1.ext
  openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile $1.ext -out $1-cert.pem
}
make server subjectAltName=IP:127.0.0.1
make client extendedKeyUsage=clientAuth
cp client-cert.pem cert.pem
cp client-key.pem key.pem
";

/// Whether a Redis that wants a password answers there.
fn answers(port: u16) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer)?;
        Ok::<_, std::io::Error>(answer == *b"-NOAUTH")
    };
    ask().unwrap_or(false)
}

#[test]
fn an_engine_behind_tls_is_used_like_the_one_of_this_machine() {
    let engine = Engine::start();
    let corner = Corner::with("  cache:\n    redis: { version: \"8.0\" }\n");

    // What needs this machine's disk is refused before anything begins.
    corner.rewrite("  cache:\n    container: { image: \"redis:8.0\", volumes: [{ source: ./files, target: /files }] }\n");
    let refused = engine.run(&corner, &["up", "test", "--yes"]);
    assert!(refused.code != 0 && refused.stderr.contains("another machine") && refused.stderr.contains("/files"), "{}", refused.stderr);
    assert!(docker(&["exec", &engine.name, "docker", "ps", "-aq"]).stdout.is_empty());

    corner.rewrite("  cache:\n    redis: { version: \"8.0\" }\n");
    let status = engine.json(&corner, &["up", "test"]);
    assert_eq!(status["phase"], "ready", "{status}");
    let port = u16::try_from(status["services"][0]["ports"][0]["host"].as_u64().unwrap()).unwrap();
    assert!(answers(port));
    assert!(engine.run(&corner, &["exec", "cache", "--", "redis-server", "--version"]).expect(0).stdout.contains("v=8"));
    assert_eq!(engine.run(&corner, &["exec", "cache", "--", "sh", "-c", "exit 7"]).code, 7);

    // The next daemon has the same address.
    corner.kill_daemon();
    assert_eq!(engine.json(&corner, &["status"])["phase"], "ready");
    corner.until("the address works again", 20, || answers(port).then_some(()));

    // A lost link is no failure.
    docker(&["kill", &engine.name]).expect(0);
    corner.until("the lost link is told", 30, || (corner.service("cache")["state"] == "unreachable").then_some(()));
    docker(&["start", &engine.name]).expect(0);
    engine.until_it_answers();
    assert_eq!(engine.json(&corner, &["up", "test"])["phase"], "ready");
    corner.until("the address works again", 20, || answers(port).then_some(()));

    let bad =
        corner.devenv_with_variables(&["status"], &[&engine.variables()[..2], &[("DOCKER_CERT_PATH", "/nonexistent".to_owned())]].concat());
    bad.expect(3);
    drop(corner);
    let began = Instant::now();
    // The engine removes the relay when it has seen the end of its stream.
    while !docker(&["exec", &engine.name, "docker", "ps", "-aq"]).stdout.is_empty() {
        assert!(began.elapsed() < LIMIT, "the relay is gone with the environment");
        thread::sleep(Duration::from_millis(200));
    }
}
