//! What images are made of: nothing that is not pinned, and nothing whose digest or signature is not what it should be.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

use crate::world::write_program;

/// A copy of `images/`, and programs that stand for those of the machine.
struct Bench {
    root: TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { root: tempfile::tempdir().unwrap() };
        let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("images");
        assert!(Command::new("cp").arg("-R").arg(images).arg(bench.at("images")).status().unwrap().success());
        fs::create_dir(bench.at("bin")).unwrap();
        bench
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// Puts a shell script in the place of a program.
    fn program(&self, name: &str, script: &str) {
        write_program(&self.at("bin").join(name), &format!("#!/bin/bash\n{script}\n"));
    }

    fn run(&self, directory: &str, program: &str, arguments: &[&str]) -> Output {
        let path = format!("{}:{}:{}", self.at("bin").display(), self.at("images/tools").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(self.at(directory).join(program));
        command.args(arguments).current_dir(self.at(directory)).env("PATH", path);
        command.env("XDG_CACHE_HOME", self.at("cache")).env("CACHE", self.at("cache")).env("VERSION", "trixie-slim");
        command.output().unwrap()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What is not pinned in a recipe's file, as text.
fn unpinned(name: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let code = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    for line in code {
        let words: Vec<&str> = line.split_whitespace().collect();
        let has = |word: &str| words.contains(&word);
        // Maven executes plugins as soon as it has fetched them, so that nothing can check them before.
        let is_loose = has("mvn")
            || has("mvnw")
            || [
                "--allow-unauthenticated",
                "trusted=yes",
                "--force-yes",
                "--no-check-gpg",
                "AllowInsecureRepositories",
                "GOFLAGS=-insecure",
                "GONOSUMDB",
                "GOINSECURE",
            ]
            .iter()
            .any(|option| line.contains(option))
            || (words.first() == Some(&"debootstrap") && !has("--force-check-gpg"))
            || (has("go") && has("install"))
            || (line.contains("pip") && has("install") && !has("--require-hashes"))
            || ((has("curl") || has("wget")) && !text.contains("sha256sum --check"))
            || (words.first() == Some(&"ivy") && !text.contains("sha256sum --check"))
            || (words.first() == Some(&"<dependency") && !line.contains("transitive=\"false\""))
            || ["rev=\"latest", "+\"", "rev=\"[", "rev=\"("]
                .iter()
                .any(|range| words.first() == Some(&"<dependency") && line.contains(range));
        if is_loose {
            found.push(format!("{name}: {line}"));
        }
    }
    found
}

/// The bases that are neither built here nor pinned by a digest.
fn loose_bases<'a>(dockerfile: &'a str, recipes: &[String]) -> Vec<&'a str> {
    let bases = dockerfile.lines().filter_map(|line| line.strip_prefix("FROM ")?.split_whitespace().next());
    bases.filter(|base| *base != "scratch" && !base.contains("@sha256:") && !recipes.iter().any(|recipe| recipe == base)).collect()
}

#[test]
fn recipes_of_images_use_nothing_that_is_not_pinned_and_verified() {
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("images");
    let catalogue = fs::read_to_string(images.join("catalogue")).unwrap();
    let lines = catalogue.lines().filter(|line| !line.starts_with('#'));
    let recipes: Vec<String> = lines.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect();
    let mut checked = 0;
    for (path, bytes) in crate::world::files(&images) {
        // What is not in a folder is no recipe.
        if path.components().count() < 2 || bytes.is_empty() {
            continue;
        }
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(unpinned(&path.display().to_string(), &text), Vec::<String>::new());
        if path.ends_with("Dockerfile") {
            assert_eq!(loose_bases(&text, &recipes), Vec::<&str>::new(), "{}", path.display());
            checked += 1;
        }
    }
    assert!(checked > 10);

    // And each of these is found.
    for planted in [
        "mvn --batch-mode dependency:copy-dependencies",
        "mvn org.apache.maven.plugins:maven-dependency-plugin:LATEST:copy",
        "debootstrap --variant=minbase trixie rootfs http://deb.debian.org/debian",
        "RUN echo 'deb [trusted=yes] http://example.com/debian trixie main' > /etc/apt/sources.list",
        "RUN apt-get install --yes --allow-unauthenticated redis-server",
        "curl -fsSL https://example.com/tool -o tool",
        "ivy -dependency a b 1 -retrieve x.jar",
        "    <dependency org=\"a\" name=\"b\" rev=\"latest.release\" transitive=\"false\"/>",
        "    <dependency org=\"a\" name=\"b\" rev=\"1.0\"/>",
        "go install example.com/tool@latest",
        "pip install tool",
    ] {
        assert_eq!(unpinned("planted", planted).len(), 1, "{planted}");
    }
    assert_eq!(loose_bases("FROM alpine:3\nFROM debian:trixie-slim\nFROM a@sha256:0 AS b\nFROM scratch\n", &recipes), ["alpine:3"]);
}

/// Fetches what SHA256SUMS names, with this content.
const FETCHES: &str = r#"mkdir -p libs; while read -r _ name; do printf %s "$CONTENT" > "libs/$name"; done < SHA256SUMS"#;

#[test]
fn a_jar_with_another_digest_or_one_more_jar_builds_no_image() {
    let bench = Bench::new();
    let recipe = |fetches: &str| {
        bench.program("ivy", fetches);
        // In front of the script that would call the real one.
        assert!(Command::new("cp").arg(bench.at("bin/ivy")).arg(bench.at("images/tools/ivy")).status().unwrap().success());
        let _ = fs::remove_dir_all(bench.at("images/kafka/libs"));
        bench.run("images/kafka", "prepare", &[])
    };
    let changed = recipe(&FETCHES.replace("$CONTENT", "changed"));
    assert!(!changed.status.success() && said(&changed).contains("kafka-clients-4.3.1.jar: FAILED"), "{}", said(&changed));

    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let names = fs::read_to_string(bench.at("images/kafka/SHA256SUMS")).unwrap();
    let right: String = names.lines().map(|line| format!("{digest}  {}\n", line.split_whitespace().last().unwrap())).collect();
    fs::write(bench.at("images/kafka/SHA256SUMS"), right).unwrap();
    let right = FETCHES.replace("$CONTENT", "abc");
    let added = recipe(&format!("{right}; touch libs/planted.jar"));
    assert!(!added.status.success() && said(&added).contains("SHA256SUMS names"), "{}", said(&added));
    let done = recipe(&right);
    assert!(done.status.success(), "{}", said(&done));
}

/// A registry and an engine. The images that are here are files in `$HERE`, which hold their digest.
const ENGINE: &str = r#"
case "$1 $2" in
  "image inspect")
    name=${@: -1}; file=$HERE/${name//[\/:]/_}
    [[ -e $file ]] || exit 1
    case $4 in *RepoTags*) echo "$name|" ;; *RepoDigests*) cat "$file" ;; *) echo sha256:id ;; esac ;;
  "pull "*)
    [[ $3 == *@* || -n ${SERVES:-} ]] || exit 1
    if [[ $3 == *@* && $3 != *$SERVES ]]; then echo "manifest unknown" >&2; exit 1; fi
    echo "postgres@sha256:$SERVES" > "$HERE/postgres_17" ;;
  "tag "*) ;;
  *) exit 1 ;;
esac"#;

#[test]
fn a_pulled_image_is_recorded_with_its_digest_and_no_other_is_accepted_afterwards() {
    let bench = Bench::new();
    let here = bench.at("here");
    fs::create_dir(&here).unwrap();
    bench.program("curl", "echo 200");
    // Where nothing can be pulled, the recipe is next.
    bench.program("debootstrap", "exit 1");
    let setup = |serves: &str| {
        let variables = format!("HERE={}; SERVES={serves}", here.display());
        bench.program("docker", &format!("{variables}{ENGINE}"));
        let done = bench.run("images", "build", &["postgres:17"]);
        (done.status.success(), said(&done))
    };
    let (done, first) = setup("aaa");
    assert!(done && first.contains("recorded postgres@sha256:aaa"), "{first}");
    let lock: serde_json::Value = serde_json::from_slice(&fs::read(bench.at("images/devenv.lock")).unwrap()).unwrap();
    assert_eq!(lock["images"]["postgres:17"]["digest"], "postgres@sha256:aaa");

    // Another image under the name, here already.
    fs::write(here.join("postgres_17"), "postgres@sha256:bbb\n").unwrap();
    let (done, changed) = setup("bbb");
    assert!(!done && changed.contains("is postgres@sha256:bbb here, but postgres@sha256:aaa"), "{changed}");
    // And in the registry: the recorded one is asked for, and another is not taken in its place.
    fs::remove_file(here.join("postgres_17")).unwrap();
    let (_, moved) = setup("bbb");
    assert!(moved.contains("postgres:17 could not be pulled") && !here.join("postgres_17").exists(), "{moved}");
    let (done, again) = setup("aaa");
    assert!(done, "{again}");
}

/// Needs what builds Debian's image on this machine, and root; elsewhere the options alone are checked above.
#[test]
fn a_repository_without_the_archives_signature_builds_no_image() {
    let has = |path: &str| Path::new(path).exists();
    let is_root = fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    if !(is_root && has("/usr/sbin/debootstrap") && has("/usr/bin/gpgv") && has("/usr/share/keyrings/debian-archive-keyring.gpg")) {
        return;
    }
    let bench = Bench::new();
    let lists = bench.at("mirror/dists/trixie");
    fs::create_dir_all(lists.join("main/binary-amd64")).unwrap();
    fs::write(lists.join("main/binary-amd64/Packages"), "").unwrap();
    fs::write(
        lists.join("Release"),
        "Origin: Debian\nSuite: stable\nCodename: trixie\nArchitectures: amd64 arm64\nComponents: main\nDate: Sat, 01 Aug 2026 00:00:00 UTC\n\
         SHA256:\n e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 main/binary-amd64/Packages\n",
    )
    .unwrap();
    // The last argument is the mirror.
    let mirror = bench.at("mirror");
    bench.program("debootstrap", &format!("exec /usr/sbin/debootstrap \"${{@:1:$#-1}}\" file://{}", mirror.display()));
    let done = bench.run("images/debian", "prepare", &[]);
    let why = said(&done);
    assert!(!done.status.success() && !bench.at("images/debian/rootfs.tar").exists(), "{why}");
    assert!(why.contains("Release signature") || why.contains("Release.gpg") || why.contains("signed"), "{why}");
}
