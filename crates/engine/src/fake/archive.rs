//! An archive of images as the fake engine writes and reads it: the list of names in Docker's form, and no layers.

use std::io::Read;

use bytes::Bytes;
use serde_json::{Value, json};

const LIST: &str = "manifest.json";

pub(super) fn list_of(names: &[String]) -> Bytes {
    let list = names.iter().map(|name| json!({ "RepoTags": [name] })).collect::<Value>().to_string();
    let mut header = tar::Header::new_gnu();
    header.set_size(list.len() as u64);
    header.set_mode(0o644);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, LIST, list.as_bytes()).expect("an archive in memory can be written");
    Bytes::from(archive.into_inner().expect("an archive in memory can be written"))
}

pub(super) fn listed_in(archive: &[u8]) -> Vec<String> {
    let mut text = String::new();
    let mut archive = tar::Archive::new(archive);
    let mut lists =
        archive.entries().into_iter().flatten().flatten().filter(|entry| entry.path().is_ok_and(|path| path.as_os_str() == LIST));
    if let Some(mut list) = lists.next() {
        let _ = list.read_to_string(&mut text);
    }
    let list: Value = serde_json::from_str(&text).unwrap_or_default();
    let names = list.as_array().into_iter().flatten().filter_map(|image| image["RepoTags"][0].as_str());
    names.map(str::to_owned).collect()
}
