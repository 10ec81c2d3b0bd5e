//! PURE: what was found, as the text of a profile that its readers can go on with.

use std::fmt::Write;

use super::{
    detect::{EnvFile, Found, FoundServer},
    libraries::SERVERS,
    ports::Port,
    programs::Runs,
};

const BEGIN: &str = "# Written by `devenv new` from what the project holds. `devenv up` starts it, `devenv env` prints its variables.\n\
                     # All fields: docs/reference/profile.md, or `devenv help profiles`.\n";

impl Found {
    /// The text of a profile. Writing to a string cannot fail.
    pub(super) fn profile(&self) -> String {
        let mut text = String::from(BEGIN);
        let _ = writeln!(text, "description: {}", quoted(&format!("The services of {}", self.project)));
        match &self.env_file {
            EnvFile::None => {}
            EnvFile::Read => {
                text.push_str("# Variables for all services; the `?` says that the file may be missing.\nenv_file: [\".env?\"]\n");
            }
            EnvFile::Replaces(names) => {
                let _ = writeln!(
                    text,
                    "# `.env` is not read, because it sets {}: the services below provide that. Other variables of it go here.{}",
                    names.join(", "),
                    if self.variables.is_empty() { "\n# variables: { NAME: value }" } else { "" }
                );
            }
        }
        if !self.variables.is_empty() {
            text.push_str("# Of the dev container.\nvariables:\n");
            for (name, value) in &self.variables {
                let _ = writeln!(text, "  {name}: {value}");
            }
        }
        for left_out in &self.left_out {
            let _ = writeln!(text, "# Not taken: {}", left_out.replace(char::is_control, " "));
        }
        text.push_str("services:\n");
        let mut servers = self.servers.clone();
        if servers.is_empty() && self.programs.is_empty() {
            let server = &SERVERS[0];
            let from = "a database to start from".to_owned();
            servers.insert(server.kind, FoundServer { service: server.service, sql: true, from });
        }
        // Scripts go to the first one that takes them.
        let database = servers.values().find(|server| server.sql).map(|server| server.service);
        for (kind, server) in &servers {
            let is_database = database == Some(server.service);
            let folder = |folder: &Option<String>| folder.clone().filter(|_| is_database);
            write_server(&mut text, kind, server, folder(&self.migrations), folder(&self.seeds));
        }
        self.programs(&mut text, servers.values().map(|server| server.service).collect());
        text
    }

    fn programs(&self, text: &mut String, servers: Vec<&str>) {
        let of = |runs: Runs| self.programs.iter().filter(move |(_, program)| program.runs == runs).map(|(name, _)| name.as_str());
        for (name, program) in &self.programs {
            let words: Vec<String> = program.command.iter().map(|word| quoted(word)).collect();
            let _ = writeln!(text, "  # {}\n  {name}:\n    process:\n      command: [{}]", program.from, words.join(", "));
            if let Some(directory) = &program.directory {
                let _ = writeln!(text, "      directory: {}", quoted(directory));
            }
            match program.port {
                Port::None => {}
                Port::Free | Port::Offered => text.push_str("      # A free port, which the program finds in `PORT`.\n      port: 0\n"),
                Port::Fixed(port) => {
                    let _ = writeln!(text, "      # The port that the program names itself.\n      port: {port}");
                }
            }
            if matches!(program.port, Port::Free | Port::Fixed(_)) {
                text.push_str("    probe: { tcp: {} }\n");
                if program.slow {
                    text.push_str("    # The first start compiles.\n    ready_timeout: 10m\n");
                }
            }
            if program.runs != Runs::On {
                text.push_str("    # Ends by itself; the others start after it.\n    restart: { policy: never }\n");
            }
            let servers = servers.iter().filter(|_| program.runs != Runs::First).map(|server| format!("{server}: ready"));
            let first = of(Runs::First).filter(|_| program.runs != Runs::First);
            let once = of(Runs::Once).filter(|_| program.runs == Runs::On);
            let needs: Vec<String> = servers.chain(first.chain(once).map(|job| format!("{job}: completed"))).collect();
            if !needs.is_empty() {
                let _ = writeln!(text, "    depends_on: {{ {} }}", needs.join(", "));
            }
            if !program.watch.is_empty() {
                let paths: Vec<String> = program.watch.iter().map(|path| quoted(path)).collect();
                let _ = writeln!(text, "    watch:\n      - {{ paths: [{}], on_change: restart }}", paths.join(", "));
            }
        }
    }
}

fn write_server(text: &mut String, kind: &str, server: &FoundServer, init: Option<String>, seed: Option<String>) {
    let (name, from) = (server.service, &server.from);
    let _ = writeln!(text, "  # {from}");
    if init.is_none() && seed.is_none() {
        let _ = writeln!(text, "  {name}:\n    {kind}: {{}}");
        return;
    }
    let _ = writeln!(text, "  {name}:\n    {kind}:");
    if let Some(folder) = init {
        let _ = writeln!(
            text,
            "      # Applied once each, in the order of their names; `devenv ledger` shows which.\n      init: [{}]",
            quoted(&folder)
        );
    }
    if let Some(folder) = seed {
        let _ = writeln!(text, "      # Data sets, applied after the scripts.\n      seed: [{}]", quoted(&folder));
    }
}

/// Text as YAML takes it in every place, and as it is.
fn quoted(text: &str) -> String {
    yaml(&escaped(text))
}

/// Text in which a profile expands nothing.
pub(super) fn escaped(text: &str) -> String {
    text.replace("$$", "$$$$").replace("${", "$${")
}

/// Text as YAML takes it in every place, with variables that the profile expands.
pub(super) fn yaml(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/');
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(plain)
        && !matches!(text.to_ascii_lowercase().as_str(), "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n");
    if is_word {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '\\' | '"' => quoted.extend(['\\', c]),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(quoted, "\\x{:02x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}
