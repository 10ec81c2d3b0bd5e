//! Any bytes as a file of variables, and any text with variables in it.
#![no_main]

use std::collections::BTreeMap;

use devenv_document::{
    diagnostic, env_file,
    interpolate::{Grammar, expand},
    source::{Findings, Sources},
};
use indexmap::IndexMap;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let environment = BTreeMap::from([("A".to_owned(), "a".to_owned()), ("HOME".to_owned(), "/home/x".to_owned())]);
    let (mut sources, mut findings) = (Sources::default(), Findings::default());
    let file = sources.add(".env", text.as_ref());
    let given = env_file::parse(&sources, file, &environment, &IndexMap::new(), &mut findings);
    assert!(given.keys().all(|name| !name.is_empty()), "a variable has a name");
    let _ = diagnostic::render(&findings, &sources);
    for grammar in [Grammar::Profile, Grammar::EnvFile, Grammar::Compose] {
        let expanded = expand(&text, &environment, grammar);
        for trouble in expanded.troubles {
            assert!(trouble.offset + trouble.length <= text.len(), "the trouble is in the text");
        }
    }
});
