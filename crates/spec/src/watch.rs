//! What happens when files of the project change.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Hook;

/// One `watch` entry of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchRule {
    /// Files and directories, absolute.
    pub paths: Vec<PathBuf>,
    /// Globs of ignored files.
    pub ignore: Vec<String>,
    /// Globs of what alone counts; everything, if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// A build command that must succeed before the change takes effect.
    pub build: Option<Vec<String>>,
    /// The absolute directory in which this rule's commands run.
    pub directory: PathBuf,
    pub reaction: Reaction,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reaction {
    /// Stop it, and start it again.
    Restart,
    Signal(String),
    /// Start the new version beside the old one, and move connections when it is ready.
    Swap,
    /// Copy the changed files into the container, below `to`; then run the command in it, send it the signal, or, with neither, restart it.
    Sync {
        to: String,
        signal: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exec: Option<Hook>,
    },
    /// Rebuild its image, and replace the container.
    Rebuild,
    /// Run a command.
    Run(Vec<String>),
}

impl WatchRule {
    /// The path of a watched file in the container: below `to`, at its path relative to the watched directory.
    pub fn target(&self, file: &std::path::Path) -> Option<String> {
        let Reaction::Sync { to, .. } = &self.reaction else { return None };
        let root = self.paths.iter().filter(|root| file.starts_with(root)).max_by_key(|root| root.as_os_str().len())?;
        let below = file.strip_prefix(root).ok()?;
        let below = if below.as_os_str().is_empty() { std::path::Path::new(file.file_name()?) } else { below };
        Some(format!("{}/{}", to.trim_end_matches('/'), below.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_copied_below_the_target_at_its_relative_path() {
        let rule = WatchRule {
            paths: vec!["/p/src".into(), "/p/src/static".into(), "/p/app.toml".into()],
            ignore: Vec::new(),
            include: Vec::new(),
            build: None,
            directory: "/p".into(),
            reaction: Reaction::Sync { to: "/app/".into(), signal: None, exec: None },
        };
        let target = |file: &str| rule.target(std::path::Path::new(file));
        assert_eq!(target("/p/src/a/b.py").as_deref(), Some("/app/a/b.py"));
        assert_eq!(target("/p/src/static/x.css").as_deref(), Some("/app/x.css"), "the nearest of those that are watched");
        assert_eq!(target("/p/app.toml").as_deref(), Some("/app/app.toml"));
        assert_eq!(target("/elsewhere"), None);
    }
}
