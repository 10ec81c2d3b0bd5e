//! The variables of a build stage at an instruction: those of its base image, `ARG` and `ENV`. Pure.

use indexmap::IndexMap;

use super::{dockerfile::words, expand::expand};

/// The settings that a base image passes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageSettings {
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// Replaces `/bin/sh -c`.
    pub shell: Option<Vec<String>>,
}

/// The variables of a stage so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Variables {
    environment: IndexMap<String, String>,
    arguments: IndexMap<String, String>,
}

impl Variables {
    pub(super) fn of(settings: &ImageSettings) -> Self {
        let environment = settings.environment.iter().filter_map(|entry| entry.split_once('='));
        Self { environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(), ..Self::default() }
    }

    /// `ENV` takes precedence over `ARG`.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.environment.get(name).or_else(|| self.arguments.get(name)).cloned()
    }

    pub(super) fn fill(&self, text: &str, quotes: bool) -> Result<String, String> {
        expand(text, &|name| self.get(name), quotes)
    }

    /// Arguments are not inherited by stages that are based on it.
    pub(super) fn inherited(&self) -> Self {
        Self { environment: self.environment.clone(), ..Self::default() }
    }

    /// `ARG NAME[=default]…`: the build's arguments override the default. `outer`: arguments from before the first stage.
    pub(super) fn argument(&mut self, rest: &str, given: &IndexMap<String, String>, outer: &Self) -> Result<(), String> {
        for word in words(rest, '\\') {
            let (name, default) = word.split_once('=').map_or((word.as_str(), None), |(name, default)| (name, Some(default)));
            let value = match (given.get(name), default) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(default)) => Some(self.fill(default, true)?),
                (None, None) => outer.get(name),
            };
            if let Some(value) = value {
                self.arguments.insert(name.to_owned(), value);
            }
        }
        Ok(())
    }

    /// `ENV NAME=value…`, and the old `ENV NAME value`.
    pub(super) fn environment(&mut self, rest: &str) -> Result<(), String> {
        let all = words(rest, '\\');
        let pairs: Vec<(String, String)> = if all.first().is_some_and(|word| word.contains('=')) {
            let pair = |word: &String| word.split_once('=').map(|(name, value)| Ok((name.to_owned(), self.fill(value, true)?)));
            all.iter().filter_map(pair).collect::<Result<_, String>>()?
        } else {
            let (name, value) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
            vec![(name.to_owned(), self.fill(value.trim(), true)?)]
        };
        self.environment.extend(pairs);
        Ok(())
    }
}
