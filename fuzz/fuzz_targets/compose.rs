//! Any texts as Compose files: loading, and the Compose file made of what was loaded, which loads again.
//!
//! The input holds several files, each after a line of `=== ` and its name; the first is `compose.yaml`.
#![no_main]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use devenv_compose::{Files, Request, load, render};

const PROJECT: &str = "/project";
const MARK: &str = "=== ";

struct Memory(BTreeMap<PathBuf, Vec<u8>>);

impl Files for Memory {
    fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
        self.0.get(path).cloned().ok_or_else(|| "does not exist".to_owned())
    }

    fn has(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let main = Path::new(PROJECT).join("compose.yaml");
    let (mut files, mut name) = (BTreeMap::new(), main.clone());
    for line in text.split_inclusive('\n') {
        match line.strip_prefix(MARK) {
            Some(next) => name = Path::new(PROJECT).join(next.trim()),
            None => files.entry(name.clone()).or_insert_with(Vec::new).extend(line.bytes()),
        }
    }
    let Some(document) = loaded(&main, files) else { return };
    if let Ok(text) = render(&document, Some("fuzz")) {
        loaded(&main, BTreeMap::from([(main.clone(), text.into_bytes())]));
    }
});

fn loaded(main: &Path, files: BTreeMap<PathBuf, Vec<u8>>) -> Option<serde_json::Value> {
    let environment = BTreeMap::from([("HOME".to_owned(), "/home/x".to_owned()), ("TAG".to_owned(), "1".to_owned())]);
    let all = [main.to_owned()];
    let request = Request { project: Path::new(PROJECT), files: &all, environment: &environment, profiles: &[], services: &[] };
    let loaded = load(request, &Memory(files));
    let _ = devenv_document::diagnostic::render(&loaded.findings, &loaded.sources);
    let converted = loaded.converted?;
    (!loaded.findings.has_errors()).then_some(converted.document)
}
