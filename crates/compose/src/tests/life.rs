//! Hooks, mounts of other services, devices that the engine chooses, and what is watched.

use serde_json::{Value, json};

use super::{document, loaded, problems, service};
use crate::render;

#[test]
fn keys_around_a_services_life_become_fields() {
    for (lines, pointer, wanted) in [
        (
            "post_start: [{ command: chown -R a /b, user: root, privileged: true, environment: [A=1, SET] }]\npre_stop: [{ command: [x, y z], working_dir: /w }]",
            "/container/hooks",
            json!({
                "post_start": [{ "command": ["chown", "-R", "a", "/b"], "user": "root", "environment": { "A": "1", "SET": "set" }, "privileged": true }],
                "pre_stop": [{ "command": ["x", "y z"], "working_dir": "/w" }],
            }),
        ),
        ("gpus: all", "/container/gpus", json!([{ "count": -1 }])),
        (
            "gpus: [{ driver: nvidia, count: 2, capabilities: [compute] }]",
            "/container/gpus",
            json!([{ "driver": "nvidia", "count": 2, "capabilities": ["compute", "gpu"] }]),
        ),
        (
            "deploy: { resources: { reservations: { devices: [{ capabilities: [tpu], device_ids: ['0'], options: { a: b } }] } } }",
            "/container/gpus",
            json!([{ "ids": ["0"], "capabilities": ["tpu"], "options": { "a": "b" } }]),
        ),
        (
            "develop: { watch: [{ action: sync+exec, path: a, target: /a, include: '*.py', exec: { command: reload now, user: app } }] }",
            "/watch",
            json!([{ "paths": ["./a"], "include": ["*.py"], "to": "/a", "exec": { "command": ["reload", "now"], "user": "app" }, "on_change": "sync" }]),
        ),
        ("command: echo $(date) 5$", "/container/command", json!(["echo", "$(date)", "5$"])),
    ] {
        assert_eq!(service(lines).pointer(pointer), Some(&wanted), "{lines}");
    }
}

#[test]
fn what_runs_before_a_service_is_a_service_of_its_own() {
    let text = "services:\n  db: { image: d }\n  web:\n    image: w\n    environment: { A: 1 }\n    volumes: ['v:/v']\n    depends_on: [db]\n    scale: 2\n    pre_start:\n      - { command: migrate, user: root, environment: { B: 2 } }\n      - { image: tool, command: [seed] }\nvolumes: { v: }\n";
    let services = document(text)["services"].clone();
    let names: Vec<&String> = services.as_object().unwrap().keys().collect();
    assert_eq!(names, ["db", "web-pre-start-1", "web-pre-start-2", "web", "web-2"]);
    let first = &services["web-pre-start-1"];
    assert_eq!(first["container"]["image"], "w");
    assert_eq!(first["container"]["command"], json!(["migrate"]));
    assert_eq!(first["container"]["volumes"], json!([{ "source": "v", "target": "/v", "of": "web" }]));
    assert_eq!(first["environment"], json!({ "A": "1", "B": "2" }));
    assert_eq!(first["depends_on"], json!({ "db": "started" }));
    assert_eq!(services["web-pre-start-2"]["container"]["image"], "tool");
    assert_eq!(services["web-pre-start-2"]["depends_on"], json!({ "db": "started", "web-pre-start-1": "completed" }));
    for copy in ["web", "web-2"] {
        assert_eq!(services[copy]["depends_on"]["web-pre-start-2"], "completed", "{copy}");
    }
}

#[test]
fn mounts_of_another_service_are_taken_with_the_mode_that_is_given() {
    let text = "services:\n  a: { image: x, volumes: ['v:/v', './d:/d', /anonymous, './own:/own'] }\n  b: { image: x, volumes_from: ['a:ro'], volumes: ['./mine:/own'] }\n  c: { image: x, volumes_from: [b] }\nvolumes: { v: }\n";
    let services = document(text)["services"].clone();
    assert_eq!(
        services["b"]["container"]["volumes"],
        json!([
            { "source": "./mine", "target": "/own", "create": true },
            { "source": "v", "target": "/v", "of": "a", "read_only": true },
            { "source": "./d", "target": "/d", "create": true, "read_only": true },
            { "source": "anonymous-anonymous", "target": "/anonymous", "of": "a", "read_only": true },
        ])
    );
    assert_eq!(services["b"]["depends_on"], json!({ "a": "started" }));
    assert_eq!(services["c"]["container"]["volumes"].as_array().unwrap().len(), 4);
    for (text, wanted) in [
        ("services: { a: { image: x, volumes_from: ['container:y'] } }", "is a container outside of the file"),
        ("services: { a: { image: x, volumes_from: [b] } }", "depends on the service `b`, which does not exist"),
        ("services: { a: { image: x, volumes_from: [b] }, b: { image: x, volumes_from: [a] } }", "take each other's volumes"),
    ] {
        let found = problems(&loaded(&[("compose.yaml", text)], &["compose.yaml"], &[], &[]));
        assert!(found.iter().any(|one| one.contains(wanted)), "{text}: {found:?}");
    }
}

#[test]
fn volumes_of_the_local_driver_are_what_their_options_say() {
    let text = "services:\n  a: { image: x, volumes: ['d:/d', 'm:/m', { type: volume, source: v, target: /v, volume: { subpath: deep } }] }\nvolumes:\n  d: { driver_opts: { type: none, o: bind, device: /srv/d } }\n  m: { driver: local, driver_opts: { type: tmpfs, device: tmpfs, o: 'size=1m' } }\n  v:\n";
    let a = document(text)["services"]["a"]["container"].clone();
    assert_eq!(a["volumes"], json!([{ "source": "/srv/d", "target": "/d" }, { "source": "v", "target": "/v", "subpath": "deep" }]));
    assert_eq!(a["tmpfs"], json!({ "/m": "size=1m" }));
    let nfs =
        "services: { a: { image: x, volumes: ['n:/n'] } }\nvolumes: { n: { driver_opts: { type: nfs, o: addr=x, device: ':/x' } } }\n";
    let found = problems(&loaded(&[("compose.yaml", nfs)], &["compose.yaml"], &[], &[]));
    assert!(found[0].contains("volumes of the type `nfs` are not made by devenv"), "{found:?}");
}

#[test]
fn what_a_profile_has_of_them_comes_back_from_its_rendered_file() {
    let text = "services:\n  a:\n    image: x\n    post_start: [{ command: [a, '$$b'] }]\n    pre_stop: [{ command: [c], user: d }]\n    gpus: [{ driver: nvidia, count: all, capabilities: [gpu] }]\n    volumes: [{ type: volume, source: v, target: /v, volume: { subpath: deep, nocopy: true } }]\n    develop: { watch: [{ action: sync+exec, path: ./a, target: /a, include: ['*.py'], exec: { command: [r] } }] }\nvolumes: { v: }\n";
    let first = document(text);
    let rendered = render(&first, None).unwrap();
    assert_eq!(document(&rendered), first, "{rendered}");
}

#[test]
fn a_volume_that_services_share_belongs_to_the_same_one_after_rendering() {
    let text = "services:
  a: { image: x, volumes_from: [z] }
  web:
    image: w
    volumes: ['v:/v']
    pre_start: [{ command: migrate }]
  z: { image: x, volumes: [/data, 'c:/c'] }
  y: { image: x, volumes: ['c:/c'] }
volumes: { v: , c: }
";
    let first = document(text);
    assert_eq!(first["services"]["web-pre-start-1"]["container"]["volumes"][0]["of"], "web");
    let rendered = render(&first, None).unwrap();
    let again = document(&rendered);
    for name in ["a", "web", "web-pre-start-1", "y", "z"] {
        let volumes = |document: &Value| document["services"][name]["container"]["volumes"].clone();
        assert_eq!(volumes(&again), volumes(&first), "{rendered}");
    }
}

#[test]
fn further_forms_are_understood() {
    assert_eq!(service("ipc: 'container:other'").pointer("/container/ipc"), Some(&json!("container:other")));
    assert_eq!(service("network_mode: 'container:other'").pointer("/container/network_mode"), Some(&json!("container:other")));
    assert_eq!(
        service("build: { context: ., ssh: { default: , key: ./k } }").pointer("/container/build/ssh"),
        Some(&json!(["default", "key=./k"]))
    );
    assert_eq!(service("build: { context: ., no_cache_filter: [a] }").pointer("/container/build/no_cache"), Some(&json!(true)));
    let named = document("services:\n  x-web: { image: x }\n  a: { image: x, depends_on: [x-web] }\n");
    assert_eq!(named["services"]["a"]["depends_on"], json!({ "x-web": "started" }));
}
