//! Completion in Nushell, whose external completer gets the words of the line and expects records. `clap_complete` has no
//! adapter that does this at each TAB.

use std::{ffi::OsString, io, path::Path};

use clap_complete::env::EnvCompleter;

pub(super) struct Nushell;

const SCRIPT: &str = r#"# devenv in Nushell's completion: `source` this file in config.nu. Completers set before it are asked for other commands.
let devenv_next_completer = ($env.config.completions.external.completer? | default null)
$env.config.completions.external.enable = true
$env.config.completions.external.completer = {|spans: list<string>|
    if ($spans | first) == "BIN" {
        with-env { VAR: "nushell" } { ^COMPLETER -- ...$spans } | from json
    } else if $devenv_next_completer != null {
        do $devenv_next_completer $spans
    }
}
"#;

impl EnvCompleter for Nushell {
    fn name(&self) -> &'static str {
        "nushell"
    }

    fn is(&self, name: &str) -> bool {
        name == "nushell" || name == "nu"
    }

    fn write_registration(&self, variable: &str, _: &str, bin: &str, completer: &str, out: &mut dyn io::Write) -> io::Result<()> {
        let script = SCRIPT.replace("BIN", bin).replace("COMPLETER", completer).replace("VAR", variable);
        out.write_all(script.as_bytes())
    }

    fn write_complete(
        &self,
        command: &mut clap::Command,
        words: Vec<OsString>,
        directory: Option<&Path>,
        out: &mut dyn io::Write,
    ) -> io::Result<()> {
        let last = words.len().saturating_sub(1);
        let candidates = clap_complete::engine::complete(command, words, last, directory)?;
        let records: Vec<serde_json::Value> = candidates
            .iter()
            .map(|candidate| {
                let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
                serde_json::json!({ "value": candidate.get_value().to_string_lossy(), "description": help.lines().next().unwrap_or_default() })
            })
            .collect();
        serde_json::to_writer(out, &records).map_err(io::Error::from)
    }
}
