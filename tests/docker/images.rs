//! Images that are pulled ahead, and carried in archives.

use std::fs;

use crate::corner::{Corner, docker};

#[test]
fn offline_asks_no_registry_and_explains_how_to_load_the_image() {
    let corner = Corner::with("  cache:\n    container: { image: \"devenv-nowhere/none:1\" }\n");
    let ended = corner.devenv(&["up", "test", "--offline"]).expect(1);
    assert!(
        ended.stderr.contains("does not exist locally, and `--offline` forbids pulling it") && ended.stderr.contains("devenv images load"),
        "{}",
        ended.stderr
    );
    corner.rewrite("  cache: { redis: {} }\n");
    assert_eq!(corner.json(&["up", "test", "--offline"])["phase"], "ready");
}

#[test]
fn a_lock_file_says_which_images_they_are() {
    let corner = Corner::with("  cache: { redis: {} }\n");
    let images = corner.json(&["fetch", "test", "--lock"]);
    let name = images["images"][0]["name"].as_str().unwrap().to_owned();
    let lock = corner.project().join("devenv.lock");
    let text = fs::read_to_string(&lock).unwrap();
    assert!(text.contains(&name) && text.contains(images["images"][0]["id"].as_str().unwrap()), "{text}");
    corner.ok(&["fetch", "test"]);
    fs::write(&lock, text.replace("sha256:", "sha256:0")).unwrap();
    let ended = corner.devenv(&["fetch", "test"]).expect(1);
    assert!(ended.stderr.contains(&name) && ended.stderr.contains("fetch --lock"), "{}", ended.stderr);
}

#[test]
fn an_archive_brings_images_back() {
    let corner = Corner::with("  echo:\n    container: { image: \"devenv-test/archived:1\" }\n");
    docker(&["tag", "redis:8.0", "devenv-test/archived:1"]).expect(0);
    corner.ok(&["images", "save", "images.tar", "test"]);
    docker(&["rmi", "devenv-test/archived:1"]).expect(0);
    let loaded = corner.json(&["images", "load", "images.tar"]);
    assert_eq!(loaded["images"][0]["name"], "devenv-test/archived:1");
    docker(&["rmi", "devenv-test/archived:1"]).expect(0);
    assert!(corner.devenv(&["images", "save", "images.tar", "test"]).expect(1).stderr.contains("does not exist locally"));
    assert!(corner.devenv(&["images", "load", "none.tar"]).expect(2).stderr.contains("none.tar"));
}
