//! Whole files: what they become, and what is said of them.

mod life;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{Files, Loaded, Request, load, render};

struct Memory(BTreeMap<PathBuf, String>);

impl Files for Memory {
    fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
        self.0.get(path).map(|text| text.clone().into_bytes()).ok_or_else(|| "does not exist".to_owned())
    }

    fn has(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }
}

fn loaded(files: &[(&str, &str)], given: &[&str], profiles: &[&str], services: &[&str]) -> Loaded {
    let memory = Memory(files.iter().map(|(name, text)| (Path::new("/p").join(name), (*text).to_owned())).collect());
    let environment = BTreeMap::from([
        ("HOME".to_owned(), "/home/ada".to_owned()),
        ("SET".to_owned(), "set".to_owned()),
        ("EMPTY".to_owned(), String::new()),
    ]);
    let given: Vec<PathBuf> = given.iter().map(|name| Path::new("/p").join(name)).collect();
    let texts = |list: &[&str]| -> Vec<String> { list.iter().map(ToString::to_string).collect() };
    let (profiles, services) = (texts(profiles), texts(services));
    let request = Request { project: Path::new("/p"), files: &given, environment: &environment, profiles: &profiles, services: &services };
    load(request, &memory)
}

fn problems(loaded: &Loaded) -> Vec<String> {
    let problems = loaded.findings.problems(&loaded.sources);
    problems
        .iter()
        .map(|p| format!("{}:{}:{} {} {} {}", p.file, p.line, p.column, format!("{:?}", p.severity).to_lowercase(), p.code, p.message))
        .collect()
}

/// One file without problems.
fn document(text: &str) -> Value {
    let loaded = loaded(&[("compose.yaml", text)], &["compose.yaml"], &[], &[]);
    assert_eq!(problems(&loaded), Vec::<String>::new(), "{text}");
    loaded.converted.unwrap().document
}

/// A service `a` with an image and these lines.
fn service(lines: &str) -> Value {
    let indented: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    document(&format!("services:\n  a:\n    image: x\n{indented}"))["services"]["a"].clone()
}

#[test]
fn several_documents_of_a_file_are_laid_on_one_another() {
    let text = "services:\n  web: { image: one, environment: { A: '1' } }\n---\n---\nservices:\n  web: { image: two, environment: { B: '2' } }\n  db: { image: three }\n";
    let found = loaded(&[("compose.yaml", text)], &["compose.yaml"], &[], &[]);
    assert_eq!(problems(&found), [""; 0]);
    let services = found.converted.unwrap().document["services"].clone();
    assert_eq!(services["web"]["container"]["image"], "two");
    assert_eq!(services["web"]["environment"], json!({ "A": "1", "B": "2" }));
    assert_eq!(services["db"]["container"]["image"], "three");
    let wrong = loaded(
        &[("compose.yaml", "services:\n  web: { image: one }\n---\nservices:\n  web: { imag: two }\n")],
        &["compose.yaml"],
        &[],
        &[],
    );
    assert!(problems(&wrong)[0].contains(":5:"), "{:?}", problems(&wrong));
}

#[test]
fn contexts_are_directories_repositories_images_and_services_and_come_back() {
    let text = "services:\n  web:\n    build:\n      context: https://example.org/web.git#v1:docker\n      additional_contexts: { a: ./a, b: 'docker-image://alpine:3', c: 'service:base', d: 'https://example.org/x.git' }\n  \
                base: { build: ./base }\n  near: { build: { context: near, dockerfile: other } }\n";
    let found = document(text);
    let build = &found["services"]["web"]["container"]["build"];
    assert_eq!(build["context"], "https://example.org/web.git#v1:docker");
    let contexts = json!({ "a": "./a", "b": "docker-image://alpine:3", "c": "service:base", "d": "https://example.org/x.git" });
    assert_eq!(build["additional_contexts"], contexts);
    assert_eq!(found["services"]["near"]["container"]["build"]["context"], "./near");
    comes_back(text);
}

#[test]
fn an_image_that_is_mounted_is_that_of_the_service_that_builds_it_and_comes_back() {
    let text = "services:\n  site: { image: 'site:1', build: . }\n  web:\n    image: nginx\n    volumes:\n      \
                - { type: image, source: 'site:1', target: /site, read_only: true, image: { subpath: html } }\n      \
                - { type: image, source: 'busybox:1', target: /tools }\n";
    let volumes = &document(text)["services"]["web"]["container"]["volumes"];
    assert_eq!(volumes[0], json!({ "source": "service:site", "target": "/site", "read_only": true, "subpath": "html" }));
    assert_eq!(volumes[1], json!({ "source": "docker-image://busybox:1", "target": "/tools" }));
    comes_back(text);
}

#[test]
fn a_context_or_a_mount_of_nothing_known_is_one_error_at_its_place() {
    let text = "services:\n  web:\n    build:\n      context: https://example.org/x.tar.gz\n      additional_contexts:\n        a: service:bse\n        \
                b: oci-layout://x\n        c: service:tools\n  base: { image: x, volumes: [{ type: image, target: /x }] }\n  \
                tools: { image: x, profiles: [tools] }\n";
    let found = problems(&loaded(&[("compose.yaml", text)], &["compose.yaml"], &[], &[]));
    let expected = [
        (4, "neither a directory nor the address of a Git repository"),
        (6, "`bse`, which does not exist"),
        (7, "no directory, image, service or Git repository"),
        (8, "left out by its `profiles`"),
        (9, "needs `source`"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (line, what) in expected {
        assert!(
            found.iter().any(|problem| problem.contains(&format!("compose.yaml:{line}:")) && problem.contains(what)),
            "{what}: {found:#?}"
        );
    }
}

#[test]
fn volumes_without_names_and_ports_of_the_loopback_come_back() {
    comes_back(
        "services:\n  a: { image: x, volumes: [/srv/node_modules], ports: ['53:53/udp', '127.0.0.1:54:54/udp', '0.0.0.0:55:55'] }\n  \
         b: { image: x, volumes: [/srv/node_modules, /lent] }\n  c: { image: x, volumes_from: [b] }\n",
    );
}

/// A file that is rendered is read as the same document.
fn comes_back(text: &str) {
    let first = loaded(&[("compose.yaml", text)], &["compose.yaml"], &[], &[]).converted.unwrap();
    let rendered = render(&first.shown, first.name.as_deref()).unwrap();
    let again = loaded(&[("again.yaml", &rendered)], &["again.yaml"], &[], &[]);
    assert_eq!(problems(&again), Vec::<String>::new(), "{rendered}");
    assert_eq!(again.converted.unwrap().shown, first.shown, "{rendered}");
}

#[test]
fn the_project_has_the_name_that_docker_compose_gives_it() {
    let name = |files: &[(&str, &str)]| loaded(files, &["compose.yaml"], &[], &[]).converted.unwrap().project;
    let text = "services: { web: { image: one } }\n";
    assert_eq!(name(&[("compose.yaml", text)]), "p");
    let named = format!("name: shop\n{text}");
    assert_eq!(name(&[("compose.yaml", &named)]), "shop");
    assert_eq!(name(&[("compose.yaml", &named), (".env", "COMPOSE_PROJECT_NAME=other\n")]), "other");
}

#[test]
fn every_key_of_a_service_becomes_a_field_of_the_container() {
    for (lines, pointer, wanted) in [
        ("command: serve --all \"a b\"", "/container/command", json!(["serve", "--all", "a b"])),
        ("command: [serve, 1]", "/container/command", json!(["serve", "1"])),
        ("entrypoint: []", "/container/entrypoint", json!([])),
        ("working_dir: /srv", "/container/working_dir", json!("/srv")),
        ("user: \"1:2\"", "/container/user", json!("1:2")),
        ("hostname: box.local", "/container/hostname", json!("box.local")),
        ("domainname: local", "/container/domainname", json!("local")),
        ("init: true", "/container/init", json!(true)),
        ("tty: true", "/container/tty", json!(true)),
        ("stdin_open: true", "/container/stdin_open", json!(true)),
        ("read_only: true", "/container/read_only", json!(true)),
        ("privileged: true", "/container/privileged", json!(true)),
        ("extra_hosts: { a.test: 10.0.0.1 }", "/container/extra_hosts", json!({ "a.test": "10.0.0.1" })),
        ("extra_hosts: ['a.test:10.0.0.1']", "/container/extra_hosts", json!({ "a.test": "10.0.0.1" })),
        ("dns: 1.1.1.1", "/container/dns", json!(["1.1.1.1"])),
        ("dns_search: [a, b]", "/container/dns_search", json!(["a", "b"])),
        ("dns_opt: [use-vc]", "/container/dns_options", json!(["use-vc"])),
        ("cap_add: [ALL]\ncap_drop: [NET_ADMIN]", "/container/capabilities", json!({ "add": ["ALL"], "drop": ["NET_ADMIN"] })),
        ("security_opt: ['no-new-privileges:true']", "/container/security_options", json!(["no-new-privileges:true"])),
        ("group_add: [44, wheel]", "/container/group_add", json!(["44", "wheel"])),
        ("devices: ['/dev/fuse']", "/container/devices", json!(["/dev/fuse"])),
        ("devices: [{ source: /dev/a, target: /dev/b, permissions: r }]", "/container/devices", json!(["/dev/a:/dev/b:r"])),
        ("pid: host", "/container/pid", json!("host")),
        ("ipc: private", "/container/ipc", json!("private")),
        ("shm_size: 128m", "/container/shm_size", json!("128MiB")),
        ("sysctls: [net.core.somaxconn=1]", "/container/sysctls", json!({ "net.core.somaxconn": "1" })),
        (
            "ulimits: { nproc: 5, nofile: { soft: 1, hard: 2 } }",
            "/container/ulimits",
            json!({ "nproc": { "soft": 5, "hard": 5 }, "nofile": { "soft": 1, "hard": 2 } }),
        ),
        ("labels: { a.b: c }", "/container/labels", json!({ "a.b": "c" })),
        ("labels: [a=b=c, d]", "/container/labels", json!({ "a": "b=c", "d": "" })),
        ("platform: linux/arm64", "/container/platform", json!("linux/arm64")),
        ("pull_policy: always", "/container/pull", json!("always")),
        ("tmpfs: /run:size=16m,mode=1777,noexec", "/container/tmpfs", json!({ "/run": "size=16m,mode=1777,noexec" })),
        (
            "pids_limit: 9\nmem_reservation: 1m\nmemswap_limit: -1",
            "/container/limits",
            json!({ "pids": 9, "memory_reservation": "1MiB", "swap": "unlimited" }),
        ),
        ("cpu_quota: 50000\ncpu_period: 100ms", "/container/limits", json!({ "cpu_period": 100_000, "cpu_quota": 50_000 })),
        ("stop_signal: INT\nstop_grace_period: 1m30s", "/stop", json!({ "signal": "SIGINT", "grace": "90s" })),
        ("restart: unless-stopped", "/restart", json!({ "policy": "always" })),
        ("restart: on-failure:3", "/restart", json!({ "policy": "on-failure", "attempts": 3 })),
        ("restart: no", "/restart", json!({ "policy": "never" })),
        ("deploy: { restart_policy: { condition: any, max_attempts: 2 } }", "/restart", json!({ "policy": "always", "attempts": 2 })),
        ("mem_limit: 64m\ncpus: 0.5", "/resources", json!({ "memory": "64MiB", "cpus": 0.5 })),
        ("deploy: { resources: { limits: { cpus: '1.5', memory: 1g, pids: 7 } } }", "/resources", json!({ "memory": "1GiB", "cpus": 1.5 })),
        ("ports: [5432, '8080:80']", "/container/expose", json!([5432])),
        ("ports: [5432, '8080:80']", "/ports", json!({ "80": 8080 })),
        (
            "ports: ['0.0.0.0:53:53/udp']",
            "/container/publish",
            json!([{ "port": 53, "host": 53, "address": "0.0.0.0", "protocol": "udp" }]),
        ),
        ("ports: ['8080:80', '8081:80']", "/container/publish", json!([{ "port": 80, "host": 8081 }])),
        ("environment: [A=1, SET, NOT_SET]", "/environment", json!({ "A": "1", "SET": "set" })),
        ("environment: { A: 1.0, B: null, C: true, SET: }", "/environment", json!({ "A": "1.0", "C": "true", "SET": "set" })),
        ("healthcheck: { test: pg_isready }", "/probe", json!({ "exec": ["/bin/sh", "-c", "pg_isready"] })),
        ("healthcheck: { test: [CMD, a, b] }", "/probe", json!({ "exec": ["a", "b"] })),
        (
            "healthcheck: { test: [CMD-SHELL, a b], retries: 2, interval: 1m, timeout: 30s, start_period: 10s }",
            "/ready_timeout",
            json!("190s"),
        ),
        ("network_mode: host", "/container/network_mode", json!("host")),
        (
            "volumes: ['./a:/a:ro,z', '~/b:/b', /c]",
            "/container/volumes",
            json!([
                { "source": "./a", "target": "/a", "create": true, "read_only": true, "selinux": "z" },
                { "source": "/home/ada/b", "target": "/b", "create": true },
                { "source": "anonymous-c", "target": "/c" },
            ]),
        ),
        (
            "volumes: [{ type: bind, source: a, target: /a, bind: { create_host_path: false, propagation: rshared } }]",
            "/container/volumes",
            json!([
                { "source": "./a", "target": "/a", "propagation": "rshared" },
            ]),
        ),
        (
            "volumes: [{ type: tmpfs, target: /t, tmpfs: { size: 1m, mode: 0700 } }]",
            "/container/tmpfs",
            json!({ "/t": "size=1048576,mode=0700" }),
        ),
        ("container_name: other", "/container/aliases", json!(["other"])),
        (
            "build: { context: app, target: dev, args: [A=1, SET], dockerfile_inline: FROM x }",
            "/container/build",
            json!({
                "context": "./app", "inline": "FROM x", "target": "dev", "args": { "A": "1", "SET": "set" }, "image": "x",
            }),
        ),
        (
            "develop: { watch: [{ action: sync, path: src, target: /src, ignore: [x/] }, { action: rebuild, path: ./p }] }",
            "/watch",
            json!([
                { "paths": ["./src"], "ignore": ["x/"], "to": "/src", "signal": "SIGCONT", "on_change": "sync" },
                { "paths": ["./p"], "on_change": "rebuild" },
            ]),
        ),
    ] {
        assert_eq!(service(lines).pointer(pointer), Some(&wanted), "{lines}");
    }
    assert_eq!(service("healthcheck: { disable: true }").get("probe"), None);
    assert_eq!(service("healthcheck: { test: NONE }").get("probe"), None);
    assert_eq!(service("environment: {}")["variables_from"], json!([]));
}

#[test]
fn every_form_of_interpolation_is_filled_in() {
    for (text, wanted) in [
        ("$SET", "set"),
        ("${SET}x", "setx"),
        ("${NONE:-a}${NONE-b}", "ab"),
        ("${EMPTY:-a}${EMPTY-b}", "a"),
        ("${SET:+yes}${NONE:+no}${EMPTY:+no}${EMPTY+yes}", "yesyes"),
        ("${NONE:-${SET}/${NONE:-x}}", "set/x"),
        ("$$SET $${SET}", "$SET ${SET}"),
        ("${SET:?needed}", "set"),
        ("${FROM_DOT_ENV}", "dotted set"),
        ("${COMPOSE_PROJECT_NAME}", "p"),
    ] {
        let file = format!("services:\n  a:\n    image: x\n    command: ['{text}']\n");
        let loaded = loaded(&[("compose.yaml", &file), (".env", "FROM_DOT_ENV=\"dotted ${SET}\"\n")], &["compose.yaml"], &[], &[]);
        assert_eq!(problems(&loaded), Vec::<String>::new(), "{text}");
        assert_eq!(loaded.converted.unwrap().document["services"]["a"]["container"]["command"], json!([wanted]), "{text}");
    }
    for (text, wanted) in [
        ("$NONE", "3:12 warning unset-variable the variable `NONE` is not set: an empty text is used"),
        ("${NONE:?give it}", "3:12 error unset-variable the variable `NONE` is not set: give it"),
        ("${}", "3:12 error bad-variable `${}` is not a variable"),
        ("${SET", "3:12 error bad-variable `${SET` is not a variable"),
    ] {
        let file = format!("services:\n  a:\n    image: '{text}'\n");
        let found = problems(&loaded(&[("compose.yaml", &file)], &["compose.yaml"], &[], &[]));
        assert!(found.contains(&format!("compose.yaml:{wanted}")), "{text}: {found:?}");
    }
}

#[test]
fn layers_merge_as_compose_merges_them() {
    let base = "services:\n  a:\n    image: x:1\n    command: [one]\n    environment: [A=1, B=1]\n    ports: ['80', '8443:443']\n    volumes: ['./one:/data', './two:/two']\n    labels: { l: 1 }\n    depends_on: [b]\n    cap_add: [ONE]\n    dns: 1.1.1.1\n  b: { image: y }\n";
    let over = "services:\n  a:\n    image: x:2\n    command: two\n    environment: { B: 2, C: 3 }\n    ports: ['81']\n    volumes: ['./other:/data:ro']\n    labels: [m=2]\n    depends_on: { b: { condition: service_healthy } }\n    cap_add: [TWO, ONE]\n    dns: [8.8.8.8]\n";
    let found = loaded(&[("a.yaml", base), ("b.yaml", over)], &["a.yaml", "b.yaml"], &[], &[]);
    assert_eq!(problems(&found), Vec::<String>::new());
    let a = found.converted.unwrap().document["services"]["a"].clone();
    assert_eq!(a["container"]["image"], "x:2");
    assert_eq!(a["container"]["command"], json!(["two"]));
    assert_eq!(a["environment"], json!({ "A": "1", "B": "2", "C": "3" }));
    assert_eq!((&a["container"]["expose"], &a["ports"]), (&json!([80, 81]), &json!({ "443": 8443 })));
    assert_eq!(a["container"]["volumes"][0], json!({ "source": "./other", "target": "/data", "create": true, "read_only": true }));
    assert_eq!(a["container"]["volumes"].as_array().unwrap().len(), 2);
    assert_eq!(a["container"]["labels"], json!({ "l": "1", "m": "2" }));
    assert_eq!(a["depends_on"], json!({ "b": "ready" }));
    assert_eq!(a["container"]["capabilities"]["add"], json!(["ONE", "TWO"]));
    assert_eq!(a["container"]["dns"], json!(["1.1.1.1", "8.8.8.8"]));
}

#[test]
fn the_reset_tag_removes_and_the_override_tag_replaces() {
    let base = "services:\n  a:\n    image: x\n    ports: ['80']\n    environment: { A: 1, B: 2 }\n    command: [c]\n    cap_add: [ONE]\n";
    let over = "services:\n  a:\n    ports: !reset []\n    environment: { A: !reset null }\n    command: !reset null\n    cap_add: !override [TWO]\n";
    let found = loaded(&[("a.yaml", base), ("b.yaml", over)], &["a.yaml", "b.yaml"], &[], &[]);
    assert_eq!(problems(&found), Vec::<String>::new());
    let a = found.converted.unwrap().document["services"]["a"].clone();
    assert_eq!((a["container"].get("expose"), a["container"].get("command")), (None, None));
    assert_eq!(a["environment"], json!({ "B": "2" }));
    assert_eq!(a["container"]["capabilities"]["add"], json!(["TWO"]));
}

#[test]
fn services_extend_others_of_this_file_and_of_another_directory() {
    let main = "services:\n  a: { extends: { file: sub/common.yaml, service: base }, environment: { OWN: 1 } }\n  b: { extends: a, command: [b] }\n";
    let common = "services:\n  root: { image: deep, environment: { DEEP: 1 } }\n  base: { extends: root, env_file: more.env, volumes: ['./data:/data'], build: . }\n";
    let found = loaded(&[("compose.yaml", main), ("sub/common.yaml", common), ("sub/more.env", "MORE=1\n")], &["compose.yaml"], &[], &[]);
    assert_eq!(problems(&found), Vec::<String>::new());
    let services = found.converted.unwrap().document["services"].clone();
    assert_eq!(services["b"]["environment"], json!({ "MORE": "1", "DEEP": "1", "OWN": "1" }));
    assert_eq!(services["b"]["container"]["build"], json!({ "context": "./sub", "image": "deep" }));
    assert_eq!(services["a"]["container"]["volumes"][0]["source"], "./sub/data");
    let circle = "services:\n  a: { extends: b, image: x }\n  b: { extends: a, image: x }\n";
    let found = problems(&loaded(&[("compose.yaml", circle)], &["compose.yaml"], &[], &[]));
    assert!(found[0].contains("extend each other"), "{found:?}");
    let missing = "services:\n  a: { extends: { file: no.yaml, service: x } }\n  b: { extends: wb }\n  web: { image: x }\n";
    let found = problems(&loaded(&[("compose.yaml", missing)], &["compose.yaml"], &[], &[]));
    assert!(found.iter().any(|one| one.contains("2:25 error missing-file `/p/no.yaml` does not exist")), "{found:?}");
    assert!(found.iter().any(|one| one.contains("the service `wb` does not exist")), "{found:?}");
}

#[test]
fn included_files_have_their_own_directory_and_variables() {
    let main = "include:\n  - infra/compose.yaml\n  - { path: [two.yaml, three.yaml], env_file: two.env }\nservices:\n  web: { image: web, depends_on: [db, two] }\n";
    let infra = "services:\n  db: { image: 'db:${VERSION}', volumes: ['./data:/data', 'v:/v'] }\nvolumes: { v: }\n";
    let files = [
        ("compose.yaml", main),
        ("infra/compose.yaml", infra),
        ("infra/.env", "VERSION=17\n"),
        ("two.yaml", "services: { two: { image: '${TWO}' } }\n"),
        ("three.yaml", "services: { two: { command: [three] } }\n"),
        ("two.env", "TWO=second\n"),
    ];
    let found = loaded(&files, &["compose.yaml"], &[], &[]);
    assert_eq!(problems(&found), Vec::<String>::new());
    let services = found.converted.unwrap().document["services"].clone();
    assert_eq!(services["db"]["container"]["image"], "db:17");
    assert_eq!(
        services["db"]["container"]["volumes"],
        json!([{ "source": "./infra/data", "target": "/data", "create": true }, { "source": "v", "target": "/v" }])
    );
    assert_eq!(services["two"]["container"], json!({ "image": "second", "command": ["three"], "init": false, "host_alias": false }));
    let found =
        problems(&loaded(&[("compose.yaml", "include: [compose.yaml]\nservices: { a: { image: x } }\n")], &["compose.yaml"], &[], &[]));
    assert!(found[0].contains("include-cycle"), "{found:?}");
    let twice = [("compose.yaml", "include: [b.yaml]\nservices: { a: { image: x } }\n"), ("b.yaml", "services: { a: { image: y } }\n")];
    let found = problems(&loaded(&twice, &["compose.yaml"], &[], &[]));
    assert!(found[0].contains("2:13 error given-twice"), "{found:?}");
}

#[test]
fn profiles_and_named_services_select_the_included_services() {
    let file = "services:\n  a: { image: x }\n  tools: { image: x, profiles: [debug], depends_on: [helper] }\n  helper: { image: x, profiles: [other] }\n";
    let names = |profiles: &[&str], services: &[&str]| -> Vec<String> {
        let found = loaded(&[("compose.yaml", file)], &["compose.yaml"], profiles, services);
        found.converted.unwrap().document["services"].as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(names(&[], &[]), ["a"]);
    assert_eq!(names(&["*"], &[]), ["a", "tools", "helper"]);
    assert_eq!(names(&[], &["tools"]), ["a", "tools", "helper"]);
    let found = problems(&loaded(&[("compose.yaml", file)], &["compose.yaml"], &["debug"], &[]));
    assert!(found[0].contains("3:54 error not-enabled"), "{found:?}");
    let found = problems(&loaded(&[("compose.yaml", file)], &["compose.yaml"], &["debgu"], &[]));
    assert!(found[0].contains("warning unknown-profile"), "{found:?}");
}

#[test]
fn copies_names_links_and_networks() {
    let file = "services:\n  My_Web:\n    image: x\n    scale: 2\n    ports: ['8000-8001:80']\n    links: [db:database]\n    networks: { front: { aliases: [www] }, back: }\n  db: { image: y, networks: [back] }\nnetworks:\n  front: { ipam: { config: [{ subnet: 10.9.0.0/24 }] } }\n  back: { internal: true }\n  unused:\n";
    let found = loaded(&[("compose.yaml", file)], &["compose.yaml"], &[], &[]);
    assert_eq!(
        problems(&found),
        ["compose.yaml:2:3 warning renamed the service `My_Web` is called `my-web` here; on the network it has both names"]
    );
    let document = found.converted.unwrap().document;
    assert_eq!(document["networks"], json!({ "front": { "subnet": "10.9.0.0/24" }, "back": { "internal": true } }));
    let (one, two) = (&document["services"]["my-web"], &document["services"]["my-web-2"]);
    assert_eq!((&one["ports"], &two["ports"]), (&json!({ "80": 8000 }), &json!({ "80": 8001 })));
    assert_eq!(one["container"]["networks"]["front"], json!({ "aliases": ["www", "My_Web"] }));
    assert_eq!(two["container"]["networks"]["back"], json!({ "aliases": ["my-web", "My_Web"] }));
    assert_eq!(one["depends_on"], json!({ "db": "started" }));
    assert_eq!(document["services"]["db"]["container"]["networks"], json!({ "back": { "aliases": ["database"] } }));
}

#[test]
fn configs_and_secrets_are_files_and_values_of_variables_are_not_shown() {
    let file = "services:\n  a:\n    image: x\n    configs: [{ source: c, target: /etc/c, mode: 0440 }, f]\n    secrets: [s, { source: e, uid: '7' }]\nconfigs: { c: { content: 'mode=${SET}' }, f: { file: ./f.conf } }\nsecrets: { s: { file: s.txt }, e: { environment: SET } }\n";
    let found = loaded(&[("compose.yaml", file)], &["compose.yaml"], &[], &[]);
    assert_eq!(problems(&found), Vec::<String>::new());
    let converted = found.converted.unwrap();
    let container = &converted.document["services"]["a"]["container"];
    assert_eq!(container["config_files"], json!({ "/etc/c": { "mode": "0440", "content": "mode=set" } }));
    assert_eq!(container["secret_files"], json!({ "/run/secrets/e": { "uid": 7, "content": "set" } }));
    assert_eq!(
        container["volumes"],
        json!([
            { "source": "./f.conf", "target": "/f", "read_only": true },
            { "source": "./s.txt", "target": "/run/secrets/s", "read_only": true },
        ])
    );
    assert_eq!(converted.shown["services"]["a"]["container"]["secret_files"]["/run/secrets/e"]["content"], "${SET}");
}

#[test]
fn a_named_volume_belongs_to_the_first_service_that_mounts_it() {
    let file = "services:\n  a: { image: x, profiles: [p], volumes: ['v:/v'] }\n  b: { image: x, volumes: ['v:/v', 'e:/e'] }\nvolumes: { v: , e: { external: true, name: real } }\n";
    let services = document(file)["services"].clone();
    assert_eq!(
        services["b"]["container"]["volumes"],
        json!([{ "source": "v", "of": "a", "target": "/v" }, { "source": "real", "external": true, "target": "/e" }])
    );
}

#[test]
fn every_problem_is_reported_at_once_with_its_position() {
    let file = "services:\n  a:\n    image: x\n    comand: y\n    provider: { type: z }\n    logging: { driver: syslog }\n    ports: [x]\n    cpus: many\n    restart: sometimes\n    depends_on: [bb]\n    networks: [none]\n    volumes: ['v:/v', 'r']\n  b: { }\n  c:\ntop: 1\n";
    let found = problems(&loaded(&[("compose.yaml", file)], &["compose.yaml"], &[], &[]));
    let places: Vec<&str> = found.iter().map(|one| one.split_once(' ').unwrap().0).collect();
    for wanted in ["4:5", "5:5", "6:5", "7:13", "8:11", "9:14", "10:18", "11:16", "12:15", "12:23", "13:3", "14:3", "15:1"] {
        assert!(places.contains(&format!("compose.yaml:{wanted}").as_str()), "{wanted}: {found:#?}");
    }
    assert!(found.iter().any(|one| one.contains("6:5 warning not-used")), "{found:#?}");
}

#[test]
fn hostile_files_end_in_a_problem() {
    let deep = format!("services: {}{}", "{ a: ".repeat(200), "}".repeat(200));
    let bomb: String = (0..40).map(|i| format!("  x{i}: &a{i} [{}]\n", vec![format!("*a{}", i.max(1) - 1); 20].join(","))).collect();
    let bomb = format!("x-bomb:\n{}", bomb.replacen("[*a0,", "[a,", 1));
    let many: String = (0..60).map(|i| format!("  s{i}: {{ extends: s{}, image: x }}\n", i + 1)).collect();
    for text in [
        deep,
        bomb,
        format!("services:\n{many}"),
        "- a".to_owned(),
        "services: 1".to_owned(),
        String::new(),
        "services:\n  a:\n    image: x\n    ports: ['1-65535:1-65535']\n".to_owned(),
    ] {
        let found = loaded(&[("compose.yaml", &text)], &["compose.yaml"], &[], &[]);
        assert!(found.findings.has_errors(), "{}", &text[..text.len().min(60)]);
    }
}

#[test]
fn a_rendered_file_comes_back_as_the_same_document() {
    let file = "name: shop\nservices:\n  db:\n    image: postgres:17\n    environment: { POSTGRES_PASSWORD: 'pa$$w:rd' }\n    volumes: [dbdata:/var/lib/postgresql/data, './initdb:/docker-entrypoint-initdb.d:ro']\n    ports: ['5432', '127.0.0.1:6000:6000', '0.0.0.0:53:53/udp']\n    healthcheck: { test: [CMD-SHELL, 'pg_isready $$X'], interval: 30s }\n    restart: on-failure:3\n    stop_grace_period: 3s\n    mem_limit: 64m\n    tmpfs: ['/t:size=1m']\n    networks: { front: { aliases: [www] }, back: }\n    container_name: the-db\n    shm_size: 128m\n    ulimits: { nofile: { soft: 1, hard: 2 } }\n  web:\n    build: { context: app, args: { A: '1' } }\n    init: true\n    depends_on: { db: { condition: service_healthy, restart: true } }\n    volumes: ['dbdata:/seen:ro']\n    configs: [{ source: c, target: /c, mode: 0400 }]\n    secrets: [{ source: s, target: /s, mode: 0400 }]\n    container_name: site\n    develop: { watch: [{ action: sync, path: ./src, target: /src }] }\nvolumes: { dbdata: }\nnetworks: { front: , back: { internal: true } }\nconfigs: { c: { content: 'a$$b' } }\nsecrets: { s: { environment: SET } }\n";
    let first = loaded(&[("compose.yaml", file)], &["compose.yaml"], &[], &[]);
    assert_eq!(problems(&first), Vec::<String>::new());
    let first = first.converted.unwrap();
    let text = render(&first.shown, first.name.as_deref()).unwrap();
    let again = loaded(&[("again.yaml", &text)], &["again.yaml"], &[], &[]);
    assert_eq!(problems(&again), Vec::<String>::new(), "{text}");
    // In the same order, too.
    assert_eq!(again.converted.unwrap().shown.to_string(), first.shown.to_string(), "{text}");
}

#[test]
fn the_examples_of_the_guide_are_without_problems() {
    let guide = include_str!("../../../docs/guide/compose.md");
    let examples: Vec<&str> = guide.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(examples.len(), 5);
    for example in examples {
        document(example);
    }
}
