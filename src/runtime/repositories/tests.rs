use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::{Arc, Barrier, Mutex},
    time::SystemTime,
};

use super::*;

/// A repository on this disk; tests alone may use that transport.
struct Fixture {
    root: tempfile::TempDir,
    repositories: Repositories,
}

impl Fixture {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let repositories = Repositories { directory: root.path().join("checkouts"), git: Git { transports: "file:http:git" } };
        let fixture = Self { root, repositories };
        fixture.git(&["init", "--quiet", "--initial-branch", "main"]);
        fixture.commit("one");
        fixture
    }

    fn git(&self, words: &[&str]) -> String {
        let origin = self.root.path().join("origin");
        std::fs::create_dir_all(&origin).unwrap();
        let identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"];
        let output = Command::new("git").arg("-C").arg(origin).args(identity).args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn commit(&self, text: &str) {
        std::fs::create_dir_all(self.root.path().join("origin/web")).unwrap();
        std::fs::write(self.root.path().join("origin/web/Dockerfile"), text).unwrap();
        self.git(&["add", "."]);
        self.git(&["commit", "--quiet", "--message", text]);
    }

    async fn checkout(&self, reference: Option<&str>, directory: Option<&str>) -> Result<PathBuf, String> {
        let url = format!("file://{}", self.root.path().join("origin").display());
        let given = |text: &str| text.to_owned();
        checkout(&self.repositories, Repository { url, reference: reference.map(given), directory: directory.map(given) }).await
    }
}

async fn checkout(repositories: &Repositories, repository: Repository) -> Result<PathBuf, String> {
    let wanted = [("x".to_owned(), ("web".parse().unwrap(), repository))].into();
    repositories.check_out_all(wanted).await.map(|mut found| found.remove("x").unwrap()).map_err(|error| error.message)
}

fn dockerfile(checkout: &Path) -> String {
    std::fs::read_to_string(checkout.join("Dockerfile")).unwrap()
}

#[tokio::test]
async fn a_branch_a_tag_and_a_commit_are_checked_out_and_a_branch_moves() {
    let fixture = Fixture::new();
    fixture.git(&["tag", "--annotate", "v1", "--message", "v1"]);
    let first = fixture.git(&["rev-parse", "HEAD"]).trim().to_owned();
    let at = fixture.checkout(None, Some("web")).await.unwrap();
    assert_eq!(dockerfile(&at), "one");
    assert_eq!(fixture.checkout(None, Some("web")).await.unwrap(), at, "the same commit is the same checkout");
    assert!(!fixture.checkout(None, None).await.unwrap().join(".git").exists());
    fixture.commit("two");
    assert_eq!(dockerfile(&fixture.checkout(None, Some("web")).await.unwrap()), "two");
    assert_eq!(dockerfile(&fixture.checkout(Some("main"), Some("web")).await.unwrap()), "two");
    for reference in ["v1", first.as_str(), &first[..9]] {
        assert_eq!(dockerfile(&fixture.checkout(Some(reference), Some("web")).await.unwrap()), "one", "{reference}");
    }
}

#[tokio::test]
async fn a_repository_that_does_not_answer_is_used_as_it_was_and_an_unknown_one_is_an_error() {
    let fixture = Fixture::new();
    let at = fixture.checkout(Some("main"), None).await.unwrap();
    std::fs::rename(fixture.root.path().join("origin"), fixture.root.path().join("away")).unwrap();
    assert_eq!(fixture.checkout(Some("main"), None).await.unwrap(), at);
    let unknown = fixture.checkout(Some("other"), None).await.unwrap_err();
    assert!(unknown.contains("git: "), "{unknown}");
}

#[tokio::test]
async fn a_dockerfile_that_is_a_link_out_of_the_repository_is_refused() {
    let fixture = Fixture::new();
    std::os::unix::fs::symlink("/etc/passwd", fixture.root.path().join("origin/web/other")).unwrap();
    std::os::unix::fs::symlink("Dockerfile", fixture.root.path().join("origin/web/inside")).unwrap();
    fixture.commit("link");
    let at = fixture.checkout(None, Some("web")).await.unwrap();
    let own = &fixture.repositories.directory;
    assert!(leads_out(own, &at.join("other")));
    assert!(!leads_out(own, &at.join("inside")) && !leads_out(own, &at.join("absent")));
}

#[tokio::test]
async fn nothing_outside_of_a_repository_is_a_context_and_programs_are_no_transport() {
    let fixture = Fixture::new();
    std::os::unix::fs::symlink("/etc", fixture.root.path().join("origin/out")).unwrap();
    fixture.commit("link");
    for directory in ["out", "absent", "web/Dockerfile"] {
        let refused = fixture.checkout(None, Some(directory)).await.unwrap_err();
        assert!(refused.contains(&format!("has no directory `{directory}`")), "{refused}");
    }
    let marker = fixture.root.path().join("ran");
    let repository = Repository { url: format!("ext::touch {}", marker.display()), reference: None, directory: None };
    let ours = Repositories::new(fixture.root.path().join("ours"));
    assert!(checkout(&ours, repository).await.unwrap_err().contains("not allowed"));
    assert!(!marker.exists());
}

/// `ada:s3cret token`, as HTTP encodes it.
const AUTHORIZATION: &str = "Basic YWRhOnMzY3JldCB0b2tlbg==";

/// What the server of a private repository saw.
#[derive(Default)]
struct Seen {
    /// Git's programs while they talked to it.
    clients: Vec<String>,
    refused: usize,
}

/// Serves the repositories below a directory by Git's own program, to those who log in.
fn serve(root: PathBuf) -> (u16, Arc<Mutex<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, seen) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Seen::default())));
    let noted = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (root, noted) = (root.clone(), Arc::clone(&noted));
            std::thread::spawn(move || answer(&stream.unwrap(), &root, &noted));
        }
    });
    (port, seen)
}

fn answer(mut stream: &TcpStream, root: &Path, seen: &Mutex<Seen>) {
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    let request = line();
    let headers: BTreeMap<String, String> = std::iter::from_fn(|| Some(line()).filter(|line| !line.is_empty()))
        .filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())))
        .collect();
    let header = |name: &str| headers.get(name).cloned().unwrap_or_default();
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    if header("authorization") != AUTHORIZATION {
        seen.lock().unwrap().refused += 1;
        let refusal =
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"here\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        stream.write_all(refusal.as_bytes()).unwrap();
        return;
    }
    let programs = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let programs = programs.map(|words| String::from_utf8_lossy(&words).replace('\0', " "));
    seen.lock().unwrap().clients.extend(programs.filter(|words| words.contains("git")));
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut backend = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .envs([("REQUEST_METHOD", method), ("PATH_INFO", path), ("QUERY_STRING", query)])
        .envs([("CONTENT_TYPE", header("content-type")), ("CONTENT_LENGTH", body.len().to_string())])
        .envs([("HTTP_CONTENT_ENCODING", header("content-encoding")), ("GIT_PROTOCOL", header("git-protocol"))])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    backend.stdin.take().unwrap().write_all(&body).unwrap();
    let output = backend.wait_with_output().unwrap().stdout;
    stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n").unwrap();
    stream.write_all(&output).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_an_address_reaches_the_server_and_no_arguments_of_a_program() {
    let fixture = Fixture::new();
    let (port, seen) = serve(fixture.root.path().to_owned());
    let url = |login: &str| format!("http://{login}127.0.0.1:{port}/origin");
    let repository = |login: &str| Repository { url: url(login), reference: Some("main".to_owned()), directory: Some("web".to_owned()) };
    let at = checkout(&fixture.repositories, repository("ada:s3cret%20token@")).await.unwrap();
    assert_eq!(dockerfile(&at), "one");
    let clients = std::mem::take(&mut seen.lock().unwrap().clients);
    assert!(clients.iter().any(|words| words.contains("remote-http") && words.contains(&url(""))), "{clients:?}");
    let shown: Vec<_> = clients.iter().filter(|words| words.contains("s3cret")).collect();
    assert!(shown.is_empty(), "{shown:?}");
    // Nothing of it is on the disk.
    let found = Command::new("grep").arg("-r").arg("s3cret").arg(&fixture.repositories.directory).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    seen.lock().unwrap().refused = 0;
    for login in ["", "ada:other@", "ada@"] {
        let refused = checkout(&fixture.repositories, repository(login)).await.unwrap_err();
        assert!(!refused.contains("other@"), "{refused}");
    }
    assert!(seen.lock().unwrap().refused >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_servers_are_asked_at_once_and_each_once() {
    // Each ends a connection only when both servers have one.
    let both = Arc::new(Barrier::new(2));
    let server = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let both = Arc::clone(&both);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                both.wait();
                drop(stream);
            }
        });
        format!("git://127.0.0.1:{port}/a")
    };
    let (one, other) = (server(), server());
    let directory = tempfile::tempdir().unwrap();
    let repositories = Repositories::new(directory.path().to_owned());
    let source = |url: &str, reference: &str| (url.to_owned(), reference.to_owned());
    let sources = [source(&one, "main"), source(&one, "next"), source(&other, "main")].into();
    for answer in repositories.commits(&sources).await {
        let reason = answer.unwrap_err();
        assert!(reason.starts_with("git: "), "{reason}");
    }
}

#[test]
fn checkouts_in_use_are_kept_and_what_interrupted_fetches_left_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let root = std::fs::canonicalize(directory.path()).unwrap();
    let aged = |path: &Path, days: u64| {
        let used = SystemTime::now() - Duration::from_hours(24 * days);
        std::fs::File::open(path).unwrap().set_modified(used).unwrap();
    };
    let place = |name: &str, days: u64| {
        let place = root.join(name);
        std::fs::create_dir_all(place.join("commit")).unwrap();
        std::fs::create_dir_all(place.join("new-1")).unwrap();
        std::fs::create_dir_all(place.join("new-2")).unwrap();
        std::fs::write(place.join(LAST), "commit").unwrap();
        aged(&place.join("new-1"), 1);
        aged(&place.join(LAST), days);
        place
    };
    let (old, used, young) = (place("old", 15), place("used", 15), place("young", 13));
    let context = used.join("commit/web");
    let found = |kept: Duration| unused(directory.path(), std::slice::from_ref(&context), kept).unwrap();
    assert_eq!(found(KEPT), [old.clone(), used.join("new-1"), young.join("new-1")]);
    assert_eq!(found(Duration::ZERO), [old, used.join("new-1"), young]);
    assert!(unused(&root.join("absent"), &[], KEPT).unwrap().is_empty());
}
