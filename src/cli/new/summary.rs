//! PURE: what `devenv new` found, in at most five lines.

use super::detect::{EnvFile, Found};

/// A larger project is listed in groups.
const MOST_LINES: usize = 5;
const MOST_NAMES: usize = 8;

impl Found {
    /// Where what it writes is from.
    pub(super) fn took(&self) -> Vec<String> {
        let servers = self.servers.iter().map(|(kind, server)| format!("{} ({kind}): {}", server.service, server.from));
        let programs = self.programs.iter().map(|(name, program)| format!("{name}: `{}` from {}", program.command.join(" "), program.from));
        let scripts = self.migrations.iter().map(|folder| format!("init scripts: {folder}/"));
        let mut lines: Vec<String> =
            servers.chain(programs).chain(scripts).chain(self.seeds.iter().map(|folder| format!("seeds: {folder}/"))).collect();
        let others: Vec<String> = [self.variables_taken(), self.left_out()].into_iter().flatten().collect();
        lines.extend(others.iter().cloned());
        if lines.len() > MOST_LINES {
            lines = self.groups();
            lines.extend(others);
        }
        if lines.is_empty() {
            lines.push("nothing was recognised: the profile holds a PostgreSQL to start from".to_owned());
        }
        lines
    }

    fn groups(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let group = |name: &str, entries: Vec<String>, from: Vec<&str>| {
            (!entries.is_empty()).then(|| format!("{name}: {}; from {}", some(&entries, MOST_NAMES), some(&distinct(from), 2)))
        };
        let servers = self.servers.iter().map(|(kind, server)| format!("{} ({kind})", server.service)).collect();
        lines.extend(group("servers", servers, self.servers.values().map(|server| server.from.as_str()).collect()));
        let programs = self.programs.keys().cloned().collect();
        lines.extend(group("programs", programs, self.programs.values().map(|program| program.from.as_str()).collect()));
        let folders: Vec<String> = self.migrations.iter().chain(&self.seeds).map(|folder| format!("{folder}/")).collect();
        if !folders.is_empty() {
            lines.push(format!("scripts and seeds: {}", folders.join(", ")));
        }
        lines
    }

    fn variables_taken(&self) -> Option<String> {
        let names: Vec<String> = self.variables.iter().map(|(name, _)| name.clone()).collect();
        let own = (!names.is_empty()).then(|| format!("{} of the dev container", some(&names, MOST_NAMES)));
        match &self.env_file {
            EnvFile::None => own.map(|own| format!("variables: {own}")),
            EnvFile::Read => {
                Some(format!("variables: {}", [Some(".env".to_owned()), own].into_iter().flatten().collect::<Vec<_>>().join(", ")))
            }
            EnvFile::Replaces(replaced) => {
                let not_read = format!("not read: .env, which sets {}; the environment sets it itself", some(replaced, MOST_NAMES));
                Some(own.map_or(not_read.clone(), |own| format!("variables: {own}; {not_read}")))
            }
        }
    }

    fn left_out(&self) -> Option<String> {
        (!self.left_out.is_empty()).then(|| format!("not taken: {}", some_with(&self.left_out, 3, "; ")))
    }
}

fn some(entries: &[String], most: usize) -> String {
    some_with(entries, most, ", ")
}

/// The first ones, and how many more there are.
fn some_with(entries: &[String], most: usize, between: &str) -> String {
    let more = entries.len().saturating_sub(most);
    let text = entries.iter().take(most).cloned().collect::<Vec<_>>().join(between);
    if more == 0 { text } else { format!("{text}{between}and {more} more") }
}

fn distinct(entries: Vec<&str>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for entry in entries {
        if !found.iter().any(|other| other == entry) {
            found.push(entry.to_owned());
        }
    }
    found
}
